"""What any chat is to the server: frames in, actions out, actions to frames. Pure: `outbox` and `conversation` act."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sts_trio.lab.emulator.evi.wire import AudioOutput, ChatMetadata, Ended, Event, ServerMessage, Written
from sts_trio.lab.emulator.faults import End, Said

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sts_trio.lab.emulator.evi.handshake import ChatQuery, Handshake
    from sts_trio.lab.emulator.evi.settings import SessionSettings
    from sts_trio.lab.emulator.evi.wire import ToolError, ToolResponse
    from sts_trio.lab.emulator.malformed import Odd
    from sts_trio.lab.emulator.options import EmulatorOptions
    from sts_trio.lab.emulator.realtime.steps import RealtimeStep

KEPT_SECONDS = 120  # caller audio kept for tests to look at: 1.9 MB at 8 kHz mono
KEPT_TEXTS = 100  # each of what the client typed and of what its tools answered


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection in an orderly way, when everything before it has been sent."""

    code: int = 1000
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Late:
    """A chunk, or another message, that comes `by` seconds after what was sent when it was due."""

    chunk: AudioOutput | Event | ChatMetadata | SessionSettings
    by: float


Item = ServerMessage | Event | Ended | Written | Close | Said | End | Late
Turn = Iterator[tuple[float, Item]]  # (seconds of speech since its beginning, what to send)


@dataclass(frozen=True, slots=True)
class Say:
    """Send these one after another, each not before its time; the first `after` seconds from now."""

    turn: Turn
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class Flush:
    """Drop all speech that has not been sent."""


Action = Item | Say | Flush
ToClient = ServerMessage | Event | Ended | Written


class ChatProtocol(ABC):
    """One chat without its connection: `evi.chat.EviChat`, `realtime.chat.RealtimeChat`. Methods never wait.

    `malformed`: by kind (`steps.SendJunk`), messages that no service of this protocol would send.
    `KEY_BEFORE_UPGRADE`: a wrong key is answered with 401, and not after the upgrade.
    """

    malformed: ClassVar[Mapping[str, Odd]]
    KEY_BEFORE_UPGRADE: ClassVar[bool] = False

    @staticmethod
    @abstractmethod
    def parse_upgrade(target: str, headers: Iterable[tuple[bytes, bytes]]) -> Handshake:
        """Read the request target and headers of an upgrade. Raises ValueError: the query is beyond reading."""

    def __init__(self, options: EmulatorOptions, query: ChatQuery, chat_id: str, group_id: str, now: float) -> None:
        self.query = query
        self.chat_id = chat_id
        self.group_id = group_id
        self.messages_received = 0
        self._options = options
        self._began = now
        self._over = False

    # What a test looks at.

    @property
    @abstractmethod
    def caller_audio(self) -> bytearray:
        """What came as audio, byte for byte (of G.711: in linear PCM), the newest `KEPT_SECONDS`."""

    @property
    @abstractmethod
    def caller_bytes(self) -> int:
        """How much of it came in all."""

    @property
    @abstractmethod
    def onsets(self) -> int:
        """How often the caller began to speak."""

    @property
    @abstractmethod
    def resumed(self) -> bool:
        """Whether it continues an earlier conversation."""

    @property
    @abstractmethod
    def prompt(self) -> str:
        """The prompt in force; empty if there is none."""

    @property
    @abstractmethod
    def user_inputs(self) -> Sequence[str]:
        """What the client typed for the caller, the newest `KEPT_TEXTS`."""

    @property
    @abstractmethod
    def _answers(self) -> Iterable[ToolResponse | ToolError]:
        """What the client answered to tool calls, the newest `KEPT_TEXTS`."""

    @property
    def tool_answers(self) -> dict[str, list[ToolResponse | ToolError]]:
        """What the client answered, by the id of the tool call, in order; useless answers too."""
        answers: dict[str, list[ToolResponse | ToolError]] = {}
        for answer in self._answers:
            answers.setdefault(answer.tool_call_id, []).append(answer)
        return answers

    # What the server does with it.

    @property
    def memory(self) -> object:
        """What is left of its conversation, for one that resumes it (`take_up`)."""
        return None

    def take_up(self, memory: object) -> None:  # noqa: B027  # EVI keeps a conversation to itself
        """Go on with an earlier conversation."""

    @property
    @abstractmethod
    def deadline(self) -> float:
        """When `tick` has something to do."""

    @abstractmethod
    def open(self, now: float, *, metadata: bool = True) -> list[Action]:
        """Begin; without `metadata` the protocol's first message is left out."""

    @abstractmethod
    def refuse(self, code: str, slug: str, message: str) -> list[Action]:
        """End a chat that cannot begin, after the upgrade."""

    @abstractmethod
    def receive(self, data: str | bytes, now: float) -> list[Action]:
        """Take one frame from the client: text, or binary."""

    @abstractmethod
    def tick(self, now: float) -> list[Action]:
        """Keep the limits of time."""

    @abstractmethod
    def encode(self, message: ToClient, now: float) -> list[str]:
        """Return the text frames of a message that is sent now."""

    def befall(self, step: RealtimeStep) -> None:
        """Have a bad day from now on. Options refuse a file with one that the protocol cannot have."""
        raise TypeError(f"this protocol has no {step.name}")
