"""How a session is opened: its settings (`session`) brought into force. Pure.

The order of an opening: docs/protocols/realtime.md 7.5.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import deque
from math import inf
from typing import TYPE_CHECKING

from sts_trio.errors import ProviderRefused
from sts_trio.providers.base import AgentReady, SessionEnd, SessionEndKind, never_ready
from sts_trio.providers.openai import wire
from sts_trio.providers.openai.dialect import describe, fault, is_limit, setting_of
from sts_trio.providers.openai.session import other_format, session, without_transcription
from sts_trio.providers.reading import shown

if TYPE_CHECKING:
    from sts_trio.providers.base import SessionConfig
    from sts_trio.providers.openai.audio import Codec
    from sts_trio.providers.openai.history import History
    from sts_trio.providers.openai.session import Options


_LOOKED_AT = 1000  # characters of what an error says
_SETTINGS = "settings"  # the event id of our `session.update`
_BETA = "the service speaks the beta of this protocol, which has no session.type; the general release is needed"
_SHORTEST_SESSION = 300  # seconds, that any service gives; the known ones give 1800 and more
_LONGEST_SESSION = 30 * 24 * 3600  # no call lasts longer
# What stands in place of a number that is not shown.
_WITHHELD = {"anonymous", "unknown", "unavailable", "restricted", "private", "withheld", "none", "null", "undefined"}
_REFUSED_SECONDS = 3600.0  # until a model that writes words down is asked for again


def safety_identifier(secret: str | None, number: str) -> dict[str, str]:
    """The header that lets OpenAI act on one caller in place of the whole account (docs/protocols/realtime.md 1).

    A number that is written in other ways is the same caller; one that is withheld names nobody. Without `secret`
    whoever knows the hash could find the number by trying all.
    """
    digits = "".join(each for each in number if each in "0123456789")
    caller = digits.removeprefix("00") or number.strip().casefold()
    if secret is None or not caller or caller in _WITHHELD:
        return {}
    return {"OpenAI-Safety-Identifier": hmac.new(secret.encode(), caller.encode(), hashlib.sha256).hexdigest()}


def lasts(expires_at: object, now: float) -> float:
    """How many seconds a session lasts that ends at `expires_at`; both are Unix time. Infinity if it does not say.

    A time that is less than `_SHORTEST_SESSION` away comes from a wrong clock, here or there, and says nothing; nor
    does one that is more than `_LONGEST_SESSION` away, which may be in milliseconds.
    """
    if not isinstance(expires_at, int | float) or not _SHORTEST_SESSION <= expires_at - int(now) <= _LONGEST_SESSION:
        return inf
    return expires_at - now


class Transcriber:
    """The model that writes words down, as far as it was refused: for an hour it is not asked for again.

    Else each session would begin with a refusal, and a line in the log. Times in seconds.
    """

    def __init__(self) -> None:
        self._again_at = -inf

    def refused(self, now: float) -> None:
        """The service does not have it."""
        self._again_at = now + _REFUSED_SECONDS

    def wanted(self, now: float) -> bool:
        """Whether a session is to ask for it."""
        return now >= self._again_at


class SessionSetup:
    """The opening of one session: take its messages until one makes it ready; send what is in `out` after each.

    `refused` says why the service does not write the caller's words down, though it was asked to: the session begins
    all the same. `unknown` is how many turns of the caller it could not be told, since they have no words.
    """

    def __init__(
        self,
        options: Options,
        codec: Codec,
        history: History,
        session_config: SessionConfig,
        *,
        resumed: bool,
        transcribes: bool = True,
    ) -> None:
        self.out: deque[wire.ToService] = deque()
        self.refused = ""
        self.unknown = 0
        self._dialect = options.dialect
        self._codec = codec
        self._history = history
        self._resumed = resumed
        self._asked = history.conversation  # the conversation that the URL asks for
        self._settings = session(options, codec, session_config)
        self._transcriber = options.transcription.model if options.transcription and transcribes else None
        if self._transcriber is None:
            self._settings = without_transcription(self._settings)
        self._created: wire.Created | None = None
        self._reported = ""
        self._limited = False  # what was reported is that there were too many

    def take(self, message: wire.FromService | SessionEnd, now: float) -> AgentReady | None:
        """Take a message; return `AgentReady` once the settings are in force. `now` is Unix time.

        Raises:
            ProviderError: the service reported an error, closed, or will speak in another format than `codec`'s.
        """
        match message:
            case wire.SessionCreated():
                self.begin()
                self._created = message.created
            case wire.SessionUpdated(session=updated) if self._created is not None:
                self._check(updated)
                self._history.retold = self._asked is None or self._history.conversation != self._asked
                if self._resumed and self._history.retold:
                    self.unknown = self._history.unknown
                    self.out += [wire.ItemCreate("seed", item) for item in self._history.items()]
                return AgentReady(
                    shown(self._created.id), self._history, lasts(self._created.expires_at, now), keeps_context=True
                )
            case wire.ConversationCreated(conversation=conversation):
                self.begin()
                if self._dialect.resumes and conversation.id:
                    self._history.conversation = conversation.id
            case wire.ServiceError():
                self._take_error(message.cause)
            case SessionEnd(cause=cause, kind=kind):
                if self._limited and kind is not SessionEndKind.DEAD:
                    kind = SessionEndKind.FULL
                elif self.refused:
                    kind = SessionEndKind.LOST  # the next one does not ask for what was refused
                raise never_ready(SessionEnd(self.complaint(f"{cause} before the session began"), kind))
            case _:
                pass
        return None

    def begin(self) -> None:
        """Say what the session is to be like, once: it is there, though no `session.created` need tell of it."""
        if self._created is None:
            self._created = wire.Created()
            self.out.append(wire.SessionUpdate(_SETTINGS, self._settings))

    def complaint(self, end: str) -> str:
        """Add to `end`, which says how the opening failed, the last error that the service had reported."""
        return f"{end}; it had reported: {self._reported}" if self._reported else end

    def _check(self, updated: object) -> None:
        if (other := other_format(updated, self._codec)) is not None:
            wanted = " ".join(str(part) for part in self._codec.format.values())
            text = f"{self._dialect.name} was asked for {wanted} and set up {other}"
            raise ProviderRefused(f"{text}; check the {self._dialect.prefix}_ settings")

    def _take_error(self, cause: wire.Cause) -> None:
        """Raise if the error ends the session, or refuses our settings; any other is only remembered."""
        if self._transcriber is not None and self._is_about_transcription(cause):
            self.refused, self._transcriber = describe(cause), None
            self._settings = without_transcription(self._settings)
            self.out.append(wire.SessionUpdate(_SETTINGS, self._settings))
            return
        told = fault(cause, self._dialect)
        if told is not None and told.ends is not None:
            raise never_ready(SessionEnd(told.message, told.ends))
        if told is not None and cause.event_id == _SETTINGS:
            hint = _BETA if shown(cause.param) == "session.type" else f"check {setting_of(cause, self._dialect)}"
            raise ProviderRefused(
                f"{self._dialect.name} did not take the session's settings: {describe(cause)}; {hint}"
            )
        self._reported, self._limited = describe(cause), is_limit(cause)

    def _is_about_transcription(self, cause: wire.Cause) -> bool:
        """Whether it was the model that writes words down for which the settings were refused."""
        if cause.event_id not in (_SETTINGS, None, "") or self._created is None:
            return False
        said = f"{shown(cause.param)} {shown(cause.message, _LOOKED_AT)}".casefold()
        return "transcri" in said or (self._transcriber or "").casefold() in said
