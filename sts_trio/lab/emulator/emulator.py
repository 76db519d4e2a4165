"""What an emulator knows: its options, its chats, live and ended. A test looks at it; `server` keeps it."""

from __future__ import annotations

import hmac
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import trio

from sts_trio.lab.emulator.evi.chat import EviChat
from sts_trio.lab.emulator.faults import faults_for
from sts_trio.lab.emulator.options import EmulatorOptions
from sts_trio.lab.emulator.realtime.chat import RealtimeChat
from sts_trio.lab.providers import WireProtocol

if TYPE_CHECKING:
    from sts_trio.lab.emulator.chat import ChatProtocol
    from sts_trio.lab.emulator.evi.handshake import ChatQuery
    from sts_trio.lab.emulator.evi.settings import SessionSettings
    from sts_trio.lab.emulator.evi.wire import ToolError, ToolResponse
    from sts_trio.lab.emulator.faults import AnyFault, Script

CHATS: dict[WireProtocol, type[EviChat | RealtimeChat]] = {
    WireProtocol.EVI: EviChat,
    WireProtocol.REALTIME: RealtimeChat,
}
KEPT_SESSIONS = 64  # ended ones, with their audio: at most 2 MB each at 8 kHz, 128 MB in all
KEPT_GROUPS = 500  # conversations that can be resumed; what is left of one takes some kB


@dataclass(slots=True, eq=False)
class Session:
    """One chat over one connection, as a test sees it.

    `close_code` is the WebSocket close code once it is over: what the client sent, or what we sent when
    `closed_by_server`; 1006 when the connection broke. `ended` is set then. `faults` has those that came.
    """

    connection: int
    chat: ChatProtocol
    close_code: int | None = None
    closed_by_server: bool = False
    ended: trio.Event = field(default_factory=trio.Event)
    faults: list[AnyFault] = field(default_factory=list)

    @property
    def live(self) -> bool:
        """Whether the chat still goes on."""
        return not self.ended.is_set()

    @property
    def evi(self) -> EviChat:
        """The chat as EVI has it."""
        if not isinstance(self.chat, EviChat):
            raise TypeError("this emulator does not speak EVI")
        return self.chat

    @property
    def realtime(self) -> RealtimeChat:
        """The chat as the Realtime protocol has it."""
        if not isinstance(self.chat, RealtimeChat):
            raise TypeError("this emulator does not speak the Realtime protocol")
        return self.chat

    @property
    def query(self) -> ChatQuery:
        """What the upgrade asked for."""
        return self.evi.query

    @property
    def settings(self) -> SessionSettings:
        """The session settings in force."""
        return self.evi.settings

    @property
    def caller_audio(self) -> bytes:
        """The caller's audio as it came, the newest 120 s."""
        return bytes(self.chat.caller_audio)

    @property
    def prompt(self) -> str:
        """The prompt that the client gave, with the variables in their places; empty when it gave none."""
        return self.chat.prompt

    @property
    def user_inputs(self) -> tuple[str, ...]:
        """What the client typed for the caller, the newest 100 texts."""
        return tuple(self.chat.user_inputs)

    @property
    def tool_answers(self) -> dict[str, list[ToolResponse | ToolError]]:
        """What the client answered, in order, by the id of the tool call; useless answers too."""
        return self.chat.tool_answers

    @property
    def messages_received(self) -> int:
        """How many frames came, binary ones included."""
        return self.chat.messages_received


class Emulator:
    """An EVI of our own, or a Realtime service. Give it to `serve_emulator` or, for one stream, to `serve_stream`.

    `connections` counts all, `refused` those that got no WebSocket, `faults` those that came, by name.
    """

    def __init__(self, options: EmulatorOptions | None = None) -> None:
        self.options = options or EmulatorOptions()
        self.connections = 0
        self.refused = 0
        self.faults: Counter[str] = Counter()
        self._rng = np.random.default_rng(self.options.seed)
        self._chance = int(np.random.default_rng(self.options.seed).integers(2**32))
        self._places: set[int] = set()
        self._live: dict[int, Session] = {}
        self._ended: deque[Session] = deque(maxlen=KEPT_SESSIONS)
        self._groups: dict[str, object] = {}  # with what is left of each

    @property
    def protocol(self) -> type[EviChat | RealtimeChat]:
        """The class of its chats, by the protocol of its provider."""
        return CHATS[self.options.provider.protocol]

    @property
    def live(self) -> tuple[Session, ...]:
        """The chats that go on, oldest first."""
        return tuple(self._live.values())

    @property
    def ended(self) -> tuple[Session, ...]:
        """The chats that are over, in the order of their ends; the newest `KEPT_SESSIONS`."""
        return tuple(self._ended)

    @property
    def sessions(self) -> tuple[Session, ...]:
        """Live and ended chats, in the order of their connections."""
        return tuple(sorted((*self._ended, *self._live.values()), key=lambda session: session.connection))

    def connect(self) -> int:
        """Count a connection; return its number, from 0."""
        self.connections += 1
        return self.connections - 1

    def faults_for(self, connection: int) -> Script:
        """Return what is to go wrong on a connection."""
        return faults_for(self.options.script(connection), self.options.faults, connection, self._chance)

    def dice(self, connection: int) -> np.random.Generator:
        """Return the randomness of one connection's faults."""
        return np.random.default_rng((self._chance, connection))

    def admit(self, connection: int) -> bool:
        """Give a connection one of the `max_chats` places, if there is one."""
        if self.options.max_chats is not None and len(self._places) >= self.options.max_chats:
            return False
        self._places.add(connection)
        return True

    def leave(self, connection: int) -> None:
        """Give the place of a connection back."""
        self._places.discard(connection)

    def note(self, fault: AnyFault, session: Session | None = None) -> None:
        """Count a fault that came."""
        self.faults[fault.name] += 1
        if session is not None:
            session.faults.append(fault)

    def knows_key(self, key: str | None) -> bool:
        """Whether this credential opens a chat."""
        if not key:
            return False
        keys = self.options.api_keys
        return keys is None or any(hmac.compare_digest(key.encode(), known.encode()) for known in keys)

    def begin(self, connection: int, query: ChatQuery, now: float) -> Session:
        """Begin a chat, resumed when the query names a known group."""
        asked = query.resumed_chat_group_id
        chat = self.protocol(self.options, query, self._rng.spawn(1)[0], asked if asked in self._groups else None, now)
        chat.take_up(self._groups.setdefault(chat.group_id, None))
        if len(self._groups) > KEPT_GROUPS:
            del self._groups[next(iter(self._groups))]
        session = self._live[connection] = Session(connection, chat)
        return session

    def end(self, session: Session, code: int, *, by_server: bool) -> None:
        """Note how a chat ended; only the first time counts."""
        if session.live:
            session.close_code = int(code)  # trio-websocket gives an enum
            session.closed_by_server = by_server
            session.ended.set()
            del self._live[session.connection]
            if session.chat.group_id in self._groups:
                self._groups[session.chat.group_id] = session.chat.memory
            self._ended.append(session)
