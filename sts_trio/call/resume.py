"""A call's sessions with the provider: which one is in use, and how the next takes its place. Pure.

A session that breaks is reopened with the conversation it held (docs/protocols/evi.md 5.5): at once, then backed off,
for as long as the rules say. A first one that does not open is tried again likewise, unless no retry can help. One that
nears the provider's limit is renewed in a quiet moment: the next is ready before it goes. Every end of a session comes
as a `SessionEnd`, and one that cannot be helped goes out as one again.
"""

from __future__ import annotations

import random
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

from sts_trio.call.actions import Attach, CloseSession, LogWarning, OpenSession
from sts_trio.providers.base import SessionEnd, SessionEndKind

if TYPE_CHECKING:
    from sts_trio.call.actions import Actions
    from sts_trio.call.config import ResumeRules
    from sts_trio.call.meter import CallCounts
    from sts_trio.providers.base import AgentFault, CallInfo

_FIRST_PAUSE_SECONDS = 0.25  # before the second try; doubled with each, up to
_LONGEST_PAUSE_SECONDS = 3.0
# A reconnect counts as success after 5 s with any event, or 60 s in silence; the loss of any other spends the same
# `resume_seconds` again. But a caller on hold makes every session silent, and a provider may restart one node after the
# other: up to 5 silent sessions of 5 s in a row count as success, too (1 if it
# had stopped to answer pings, or to make sense).
_STEADY_SECONDS = 5.0
_STEADY_SILENT_SECONDS = 60.0
_SILENT_IN_A_ROW = 5
_DEAD_IN_A_ROW = 1
# A session that says when it ends is renewed so long before: time to find a quiet moment, to open the next, and more.
_BEFORE_END_SECONDS = 60.0
# How long a renewal may look for a quiet moment, and how long it waits after one that failed.
_RENEWAL_WINDOW_SECONDS = 45.0
_RENEWAL_PAUSE_SECONDS = 5.0
_QUIET_CHECK_SECONDS = 0.5
QUIET_SECONDS = 1.0  # without speech, to count as a quiet moment: EVI takes 0.8 s for the end of a turn
# A provider that reported a fatal error closes by itself. If it does not, we do: sooner if a new session may do better.
_CLOSE_SECONDS = 5.0
_CLOSE_LOST_SECONDS = 1.0
_FAULTS_TOLD = 20  # errors of the provider that a call passes on to Core; the rest are counted
_NOT_RESUMED = "it could not be resumed"
_RESUMABLE = (SessionEndKind.LOST, SessionEndKind.DEAD, SessionEndKind.PROTOCOL_ERROR, SessionEndKind.FULL)


class LastFault:
    """The last error that the provider reported in the session in use: the cause of the end that follows.

    After an error that ends it the session should have closed at `close_by`.
    """

    def __init__(self) -> None:
        self.close_by = inf
        self.pending = False
        """Nothing shows yet that the session survives it. An attribute: each chunk of audio asks for it."""
        self._fault: AgentFault | None = None
        self._told = 0

    def report(self, fault: AgentFault, now: float) -> bool:
        """Take an error of the provider's. True: Core should hear of it now."""
        if fault.ends is not None or self.close_by == inf:  # the session still ends of the one before
            self._fault = fault
        self.pending = True
        resumable = fault.ends in _RESUMABLE
        if fault.ends is not None:
            self.close_by = now + (_CLOSE_LOST_SECONDS if resumable else _CLOSE_SECONDS)
        self._told += 1
        return not resumable and self._told <= _FAULTS_TOLD

    def explain(self, end: SessionEnd) -> SessionEnd:
        """Return why the session is over: `end`, or the error before it.

        An error after which the session went on does not explain a line that breaks later, and nothing that was
        reported explains a message that the protocol does not allow.
        """
        fault = self._fault
        if fault is None or end.kind is SessionEndKind.PROTOCOL_ERROR:
            return end
        if fault.ends is None and end.kind in _RESUMABLE:
            return end
        return SessionEnd(fault.message, fault.ends or SessionEndKind.REFUSED)

    def overdue(self, now: float) -> SessionEnd | None:
        """Return how the session was to end, if the provider has held on to it for too long; once."""
        if now < self.close_by:
            return None
        self.close_by, fault = inf, self._fault
        return None if fault is None or fault.ends is None else SessionEnd(fault.message, fault.ends)

    def survived(self) -> None:
        """The session still works: cancel the forced close.

        A fault that should have ended it is kept, to explain a close that follows; any other is over.
        """
        self.close_by = inf
        self.pending = False
        if self._fault is not None and self._fault.ends is None:
            self._fault = None

    def over(self) -> None:
        """The conversation goes on, or the session is gone: the error explains nothing that comes now."""
        self._fault = None
        self.pending = False
        self.close_by = inf


class ResumePolicy:
    """Decides over sessions by their numbers, which grow. `deadline` says when `expire` is to be called.

    `current` is the session in use, None between two of them; `last_fault` is what the provider reported in it.
    """

    def __init__(self, rules: ResumeRules, counts: CallCounts, jitter: random.Random | None = None) -> None:
        self.current: int | None = None
        self.last_fault = LastFault()
        self._rules = rules
        self._counts = counts
        self._jitter = jitter or random.Random()  # noqa: S311 - it spreads retries; nothing secret hangs on it
        self._call: CallInfo
        self._opened = 0
        self._opening: int | None = None
        self._tries = 0
        self._try_at = inf
        self._give_up_at = inf
        self._began_at = inf
        self._ready_at: float | None = None  # when a session was ready last; None: none has been, so far
        self._lost_by = ""  # how the session before was lost, or could not be opened at first
        self._had_event = False
        self._silent = 0  # sessions in a row that had no event, and counted as success
        self._renew_at = inf
        self._renew_by = inf

    @property
    def deadline(self) -> float:
        """When `expire` has something to do; infinity for never."""
        give_up_at = self._give_up_at if self.current is None else inf
        return min(self._try_at, give_up_at, self._renew_at, self.last_fault.close_by)

    @property
    def listen_from(self) -> float:
        """From when on a quiet moment for a renewal is looked for; early enough to know of one at the first look."""
        return -inf if self._renew_by < inf else self._renew_at - QUIET_SECONDS

    def begin(self, call: CallInfo, now: float) -> Actions:
        """Open the first session of the call."""
        self._call = call
        self._began_at = now
        return self._open()

    def ready(
        self,
        number: int,
        resume: object | None,
        now: float,
        *,
        quiet: bool = True,
        lasts: float = inf,
        again: bool = False,
    ) -> Actions:
        """A session is open, and `lasts` so long. It takes the place of the one in use, if it is still `quiet`.

        `again`: it is told the caller's last turn once more.
        """
        if number != self._opening:
            return (CloseSession(number),)  # too late: it was given up
        if self.current is not None and not quiet and now < self._renew_by:
            self._opening = None  # somebody speaks again, and this one knows nothing of it
            self._renew_at = now + _QUIET_CHECK_SECONDS
            return (CloseSession(number),)
        before, self.current, self._opening = self.current, number, None
        self._counts.renewals += before is not None
        self._counts.resumes += before is None and self._ready_at is not None
        self._call = replace(self._call, resume=resume, again=False)
        self._try_at = inf
        if self._ready_at is None:
            self._give_up_at, self._lost_by = inf, ""
        self._ready_at, self._had_event = now, False
        self._renew_at, self._renew_by = now + min(self._rules.renew_seconds, lasts - _BEFORE_END_SECONDS), inf
        if before is None:
            return (Attach(number, again),)
        self.last_fault.over()
        return (Attach(number, again), CloseSession(before))

    def on_event(self) -> None:
        """The session in use has said something."""
        self._had_event = True

    def ended(self, end: SessionEnd, number: int, now: float) -> Actions | SessionEnd:
        """A session is over, or could not be opened. `SessionEnd`: there will be no other, for this cause."""
        if number != self.current:
            actions = self._not_opened(end, number, now)
            cause = f"{self._lost_by}; then: {end.cause}" if self._lost_by not in ("", end.cause) else end.cause
            return self._over(SessionEnd(cause, SessionEndKind.LOST)) if actions is None else actions
        end = self.last_fault.explain(end)
        actions = self._lost_in_use(end.kind, now)
        if actions is None:
            return self._over(end)
        self.last_fault.over()
        self._lost_by = end.cause
        return (LogWarning("the session is lost; resuming", {"cause": end.cause}), *actions)

    def expire(self, now: float, *, quiet: bool) -> Actions | SessionEnd:
        """Act on what is overdue; harmless when nothing is. `quiet`: a session may be replaced now.

        `SessionEnd`: the time to look for a session is over.
        """
        if self._give_up_at <= now and self.current is None:
            tried = f"no session within {self._rules.ready_seconds:g} s" if self._ready_at is None else _NOT_RESUMED
            return self._over(SessionEnd(f"{self._lost_by}; {tried}", SessionEndKind.LOST))
        if self._try_at <= now:
            self._try_at = inf
            return self._open()
        return self._renew(now, quiet=quiet) if self._renew_at <= now else ()

    def _over(self, end: SessionEnd) -> SessionEnd:
        """No session is wanted any more; one that is being opened will be closed."""
        self.last_fault.survived()
        self.current = self._opening = None
        self._try_at = self._give_up_at = self._renew_at = self._renew_by = inf
        return end

    def _not_opened(self, end: SessionEnd, number: int, now: float) -> Actions | None:
        if number != self._opening:
            return ()  # one that was replaced or given up
        self._opening = None
        if self.current is not None:  # a renewal that failed: the session in use goes on as long as it can
            self._renew_at = now + _RENEWAL_PAUSE_SECONDS
            return ()
        if end.kind is SessionEndKind.FORGOTTEN and self._call.resume is not None:
            self._call = replace(self._call, resume=None)  # a new conversation is better than none
            return self._open()
        if end.kind not in _RESUMABLE:
            return None
        self._call = replace(self._call, again=True)
        return self._pause(now) if self._ready_at is not None else self._not_opened_at_first(end, now)

    def _not_opened_at_first(self, end: SessionEnd, now: float) -> Actions | None:
        """Try again for as long as a caller would wait for one session to open."""
        first, self._lost_by = not self._lost_by, end.cause
        self._give_up_at = self._began_at + self._rules.ready_seconds
        pausing = self._pause(now)
        if pausing is None or not first:
            return pausing
        return (LogWarning("no session could be opened; trying again", {"cause": end.cause}), *pausing)

    def _lost_in_use(self, kind: SessionEndKind, now: float) -> Actions | None:
        self.current = None
        self._renew_at = self._renew_by = inf
        self._call = replace(self._call, again=False)
        if kind not in _RESUMABLE or self._call.resume is None:
            return None
        lived = now - self._ready_at if self._ready_at is not None else 0.0
        unable = kind in (SessionEndKind.DEAD, SessionEndKind.PROTOCOL_ERROR)
        if self._was_steady(lived, dead=unable) or self._give_up_at == inf:
            self._give_up_at = now + self._rules.resume_seconds
            self._tries = 0
        if self._give_up_at <= now:
            return None
        if self._opening is not None:
            return ()  # a renewal is under way: it becomes the recovery
        return self._open() if self._tries == 0 else self._pause(now)

    def _was_steady(self, lived: float, *, dead: bool) -> bool:
        if lived >= (_STEADY_SECONDS if self._had_event else _STEADY_SILENT_SECONDS):
            self._silent = 0
            return True
        if lived < _STEADY_SECONDS or self._silent >= (_DEAD_IN_A_ROW if dead else _SILENT_IN_A_ROW):
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
        kind = "first" if self._ready_at is None else "resume" if self.current is None else "renewal"
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
