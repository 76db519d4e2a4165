"""How a session is opened: URL, headers, its settings (`session`), and the history that it is told. Pure.

The order of an opening: docs/protocols/realtime.md 7.5.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import deque
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote

from sts_trio.errors import ProviderRefused
from sts_trio.providers.base import AgentReady, SessionEnd, SessionEndKind, never_ready
from sts_trio.providers.openai import wire
from sts_trio.providers.openai.dialect import describe, fault, is_limit
from sts_trio.providers.openai.session import other_format, session, without_transcription
from sts_trio.providers.openai.wire import message_item
from sts_trio.providers.reading import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sts_trio.providers.base import SessionConfig
    from sts_trio.providers.dial import Endpoint
    from sts_trio.providers.openai.audio import Codec
    from sts_trio.providers.openai.session import Options


_MOST_TURNS = 100  # of both sides; some ten minutes of talk, and 30 kB
_LONGEST_TEXT = 2000  # characters of one turn
_WENT_ON = (
    "The telephone call goes on. The connection was replaced without the caller noticing. "
    "Do not greet again and do not mention it; just answer what the caller says next."
)


@dataclass(slots=True)
class _Turn:
    """What was said, or a function's call and its `output`. `item` is the item's id in the session that had it."""

    role: str
    text: str
    item: str = ""
    call: tuple[str, str, str] | None = None  # id, name, arguments


class History:
    """The conversation of one call. `conversation` is the service's own id of it, where it has one to resume by."""

    def __init__(self) -> None:
        self.conversation: str | None = None
        self._sessions = 0
        self._turns: deque[_Turn] = deque(maxlen=_MOST_TURNS)

    @property
    def began(self) -> bool:
        """Whether the caller has said something."""
        return any(turn.role == "user" for turn in self._turns)

    @property
    def unknown(self) -> int:
        """How many turns of the caller have no words: they came without, or nobody writes them down."""
        return sum(turn.role == "user" and not turn.text for turn in self._turns)

    def begin_session(self) -> int:
        """Another session of the call uses this history: return its number, 1 for the first."""
        self._sessions += 1
        return self._sessions

    def user_turn(self, item: str) -> None:
        """The caller has spoken; the words may come later, or never, and other turns before them."""
        self._turns.append(_Turn("user", "", item))

    def user_words(self, item: str, text: str) -> None:
        """The words of a turn that was spoken, or of text that stands for one."""
        turn = self._find(item)
        if turn is None:
            turn = _Turn("user", "", item)
            self._turns.append(turn)
        turn.text = text[:_LONGEST_TEXT]

    def agent_words(self, item: str, text: str) -> None:
        """The agent says this, all of it as far as is known yet."""
        turn = self._find(item)
        if turn is None:
            self._turns.append(_Turn("assistant", text[:_LONGEST_TEXT], item))
        else:
            turn.text = text[:_LONGEST_TEXT]

    def agent_heard(self, item: str, share: float) -> None:
        """Of what the agent said in this item only so much (0 to 1) was heard."""
        if (turn := self._find(item)) is not None:
            end = round(len(turn.text) * share)
            in_word = turn.text[end : end + 1].strip()
            kept = (turn.text[:end].rpartition(" ")[0] if in_word else turn.text[:end]).rstrip()
            turn.text = f"{kept} …" if kept else ""

    def tool(self, call: tuple[str, str, str], output: str) -> None:
        """A function was called, by its id, name and arguments, and answered."""
        id_, name, arguments = call
        kept = arguments if len(arguments) <= _LONGEST_TEXT else "{}"  # half of them would be no JSON
        self._turns.append(_Turn("tool", output[:_LONGEST_TEXT], call=(id_, name, kept)))

    def note(self, text: str) -> None:
        """The agent was given this as context."""
        self._turns.append(_Turn("system", text[:_LONGEST_TEXT]))

    def items(self) -> Iterator[dict[str, Any]]:
        """What a new session is to be told, in order: items of a conversation, with ids that begin with ``seed_``."""
        for number, turn in enumerate(self._turns):
            id_ = f"seed_{number}"
            if turn.call is not None:
                call_id, name, arguments = turn.call
                yield {"type": "function_call", "id": id_, "call_id": call_id, "name": name, "arguments": arguments}
                yield {"type": "function_call_output", "id": f"{id_}_out", "call_id": call_id, "output": turn.text}
            elif turn.text:
                yield message_item(turn.role, turn.text, id_)
        yield message_item("system", _WENT_ON, "seed_end")

    def _find(self, item: str) -> _Turn | None:
        return next((turn for turn in reversed(self._turns) if item and turn.item == item), None)


_LOOKED_AT = 1000  # characters of what an error says
_SETTINGS = "settings"  # the event id of our `session.update`
_SHORTEST_SESSION = 300.0  # that any service gives; the known ones give 1800 seconds and more
# What stands in place of a number that is not shown.
_WITHHELD = {"anonymous", "unknown", "unavailable", "restricted", "private", "withheld", "none", "null", "undefined"}
_REFUSED_SECONDS = 3600.0  # until a model that writes words down is asked for again
_AZURE = (".azure.com", ".azure.us", ".azure.cn")


def target(endpoint: Endpoint, options: Options, conversation: str | None) -> str:
    """The path and query of the upgrade: what the base URL has, and what it lacks."""
    path, _, query = endpoint.path.partition("?")
    path = path.rstrip("/")
    if not path.endswith(options.dialect.path):
        path += options.dialect.path
    pairs = [query] if query else []
    if "model" not in dict(parse_qsl(query)):
        pairs.append(f"model={quote(options.model, safe='')}")
    if conversation is not None:
        pairs.append(f"conversation_id={quote(conversation, safe='')}")
    return f"{path}?{'&'.join(pairs)}"


def credentials(endpoint: Endpoint, key: str) -> dict[str, str]:
    """The header that carries the key: Azure's keys have one of their own (docs/protocols/realtime.md 9)."""
    return {"api-key": key} if endpoint.host.endswith(_AZURE) else {"Authorization": f"Bearer {key}"}


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

    A time that is less than `_SHORTEST_SESSION` away comes from a wrong clock, here or there, and says nothing.
    """
    if not isinstance(expires_at, int | float) or expires_at < now + _SHORTEST_SESSION:
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
            case wire.SessionCreated() if self._created is None:
                self._created = message.created
                self.out.append(wire.SessionUpdate(_SETTINGS, self._settings))
            case wire.SessionUpdated(session=updated) if self._created is not None:
                self._check(updated)
                if self._resumed and (self._asked is None or self._history.conversation != self._asked):
                    self.unknown = self._history.unknown
                    self.out += [wire.ItemCreate("seed", item) for item in self._history.items()]
                return AgentReady(
                    shown(self._created.id), self._history, lasts(self._created.expires_at, now), keeps_context=True
                )
            case wire.ConversationCreated(conversation=conversation):
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
            raise ProviderRefused(
                f"{self._dialect.name} did not take the session's settings: {describe(cause)}; "
                f"check the {self._dialect.prefix}_ settings"
            )
        self._reported, self._limited = describe(cause), is_limit(cause)

    def _is_about_transcription(self, cause: wire.Cause) -> bool:
        """Whether it was the model that writes words down for which the settings were refused."""
        if cause.event_id not in (_SETTINGS, None, "") or self._created is None:
            return False
        said = f"{shown(cause.param)} {shown(cause.message, _LOOKED_AT)}".casefold()
        return "transcri" in said or (self._transcriber or "").casefold() in said
