"""A call's sessions with the provider: which one is in use, and how the next takes its place. Pure.

A session that breaks is reopened with the conversation it held (docs/protocols/evi.md 5.5): at once, then backed off,
for as long as the rules say. One that nears the provider's limit is renewed in a quiet moment: the next is ready before
it goes.
"""

from __future__ import annotations

import random
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

from sts_trio.call.actions import Attach, CloseSession, OpenSession

if TYPE_CHECKING:
    from sts_trio.call.actions import Actions
    from sts_trio.call.config import ResumeRules
    from sts_trio.call.meter import CallCounts
    from sts_trio.providers.base import CallInfo

_FIRST_PAUSE_SECONDS = 0.25  # before the second try; doubled with each, up to
_LONGEST_PAUSE_SECONDS = 3.0
# A session was a recovery if it lived for so long, and said something; or for so much longer in silence. The loss of
# any other is part of the same trouble. But a caller on hold makes every session silent, and a provider may restart one
# node after the other: a few in a row that lived are taken for one; of those that answered no pings in the end, one.
_STEADY_SECONDS = 5.0
_STEADY_SILENT_SECONDS = 60.0
_SILENT_IN_A_ROW = 5
_MUTE_IN_A_ROW = 1
# A session that says when it ends is renewed so long before: what a renewal looks for a moment and takes, and more.
_BEFORE_END_SECONDS = 60.0
# How long a renewal may look for a quiet moment, and how long it waits after one that failed.
_RENEWAL_WINDOW_SECONDS = 45.0
_RENEWAL_PAUSE_SECONDS = 5.0
_QUIET_CHECK_SECONDS = 0.5
QUIET_SECONDS = 1.0  # without speech, to count as a quiet moment: EVI takes 0.8 s for the end of a turn


class ResumePolicy:
    """Decides over sessions by their numbers, which grow. `deadline` says when `expire` wants to be called.

    `current` is the session in use, None between two of them.
    """

    def __init__(self, rules: ResumeRules, counts: CallCounts, jitter: random.Random | None = None) -> None:
        self.current: int | None = None
        self._rules = rules
        self._counts = counts
        self._jitter = jitter or random.Random()  # noqa: S311 - it spreads retries; nothing secret hangs on it
        self._call: CallInfo
        self._opened = 0
        self._opening: int | None = None
        self._tries = 0
        self._try_at = inf
        self._give_up_at = inf
        self._ready_at = inf
        self._heard = False
        self._silent = 0  # sessions in a row that said nothing, and were taken for a recovery
        self._renew_at = inf
        self._renew_by = inf

    @property
    def deadline(self) -> float:
        """When `expire` has something to do; infinity for never."""
        give_up_at = self._give_up_at if self.current is None else inf
        return min(self._try_at, give_up_at, self._renew_at)

    @property
    def listen_from(self) -> float:
        """From when on a quiet moment for a renewal is looked for; early enough to know of one at the first look."""
        return -inf if self._renew_by < inf else self._renew_at - QUIET_SECONDS

    def begin(self, call: CallInfo) -> Actions:
        """Open the first session of the call."""
        self._call = call
        return self._open()

    def ready(
        self, number: int, resume: object | None, now: float, *, quiet: bool = True, lasts: float = inf
    ) -> Actions:
        """A session is open, and `lasts` so long. It takes the place of the one in use, if it is still `quiet`."""
        if number != self._opening:
            return (CloseSession(number),)  # too late: it was given up
        if self.current is not None and not quiet and now < self._renew_by:
            self._opening = None  # somebody speaks again, and this one knows nothing of it
            self._renew_at = now + _QUIET_CHECK_SECONDS
            return (CloseSession(number),)
        before, self.current, self._opening = self.current, number, None
        self._counts.renewals += before is not None
        self._counts.resumes += before is None and self._opened > 1
        self._call = replace(self._call, resume=resume)
        self._try_at = inf
        self._ready_at, self._heard = now, False
        self._renew_at, self._renew_by = now + min(self._rules.renew_seconds, lasts - _BEFORE_END_SECONDS), inf
        return (Attach(number),) if before is None else (Attach(number), CloseSession(before))

    def heard(self) -> None:
        """The session in use has said something."""
        self._heard = True

    def lost(
        self, number: int, now: float, *, retryable: bool, forgotten: bool = False, mute: bool = False
    ) -> Actions | None:
        """A session could not be opened, or is over. None: there is no hope for another.

        `forgotten`: the provider does not know the conversation that was to be resumed. `mute`: it answered no pings.
        """
        if number == self.current:
            return self._lost_in_use(now, retryable=retryable, mute=mute)
        if number != self._opening:
            return ()  # one that was replaced or given up
        self._opening = None
        if self.current is not None:  # a renewal that failed: the session in use goes on as long as it can
            self._renew_at = now + _RENEWAL_PAUSE_SECONDS
            return ()
        if forgotten and self._call.resume is not None:
            self._call = replace(self._call, resume=None)  # a new conversation is better than none
            return self._open()
        return self._pause(now) if retryable and self._give_up_at < inf else None

    def stop(self) -> None:
        """No session is wanted any more; one that is being opened will be closed."""
        self.current = self._opening = None
        self._try_at = self._give_up_at = self._renew_at = self._renew_by = inf

    def expire(self, now: float, *, quiet: bool) -> Actions | None:
        """Act on what is overdue; harmless when nothing is. None: the time to look for a session is over."""
        if self._give_up_at <= now and self.current is None:
            return None
        if self._try_at <= now:
            self._try_at = inf
            return self._open()
        return self._renew(now, quiet=quiet) if self._renew_at <= now else ()

    def _lost_in_use(self, now: float, *, retryable: bool, mute: bool) -> Actions | None:
        self.current = None
        self._renew_at = self._renew_by = inf
        if not retryable or self._call.resume is None:
            return None
        if self._was_steady(now - self._ready_at, mute=mute) or self._give_up_at == inf:
            self._give_up_at = now + self._rules.resume_seconds
            self._tries = 0
        if self._give_up_at <= now:
            return None
        if self._opening is not None:
            return ()  # a renewal is under way: it becomes the recovery
        return self._open() if self._tries == 0 else self._pause(now)

    def _was_steady(self, lived: float, *, mute: bool) -> bool:
        if lived >= (_STEADY_SECONDS if self._heard else _STEADY_SILENT_SECONDS):
            self._silent = 0
            return True
        if lived < _STEADY_SECONDS or self._silent >= (_MUTE_IN_A_ROW if mute else _SILENT_IN_A_ROW):
            return False
        self._silent += 1
        return True

    def _pause(self, now: float) -> Actions | None:
        pause = min(_FIRST_PAUSE_SECONDS * 2 ** max(self._tries - 1, 0), _LONGEST_PAUSE_SECONDS)
        self._try_at = now + pause * self._jitter.uniform(0.5, 1.5)
        return () if self._try_at < self._give_up_at else None

    def _open(self) -> Actions:
        self._opened += 1
        self._tries += 1
        self._opening = self._opened
        kind = "first" if self._opened == 1 else "resume" if self.current is None else "renewal"
        return (OpenSession(self._call, self._opened, kind),)

    def _renew(self, now: float, *, quiet: bool) -> Actions:
        if self._opening is not None or self.current is None or self._call.resume is None:
            self._renew_at = inf
            return ()
        if self._renew_by == inf:
            self._renew_by = now + _RENEWAL_WINDOW_SECONDS
        if not quiet and now < self._renew_by:
            self._renew_at = now + _QUIET_CHECK_SECONDS
            return ()
        self._renew_at = inf
        return self._open()
