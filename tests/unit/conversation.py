"""A bridge in a call that a test moves through time, and the little that its tests share."""

from __future__ import annotations

from math import inf

from sts_trio.audio.pcm import Wav
from sts_trio.call.bridge import Bridge
from sts_trio.call.config import CallRules
from sts_trio.call.meter import CallCounts, Meter
from sts_trio.call.playout import Pace, Playout
from sts_trio.core.wire import Init, PlayoutAudio
from sts_trio.providers.base import AgentAudio, AgentReady, CallInfo, SessionEnd, SessionEndKind, ToolCall
from sts_trio.tools.tool import CallContext, Tool, ToolResult

UUID = "0b6f1f6e-54f0-4f6b-9a49-3d2a1f0c7e11"
LOUD = b"\x00\x40" * 160
LOST = SessionEnd("the connection broke", SessionEndKind.LOST)


async def _never_run(_: str, __: CallContext) -> ToolResult:
    raise AssertionError("decisions do not run anything")


HOURS = Tool("hours", "When we are open.", "{}", _never_run)
TRANSFER = Tool("dsai_transfer", "Put through.", "{}", _never_run, ends_call=True)


def voice(length: float, reply: str = "r", rate: int = 8000) -> AgentAudio:
    return AgentAudio(reply, Wav(rate, 1, memoryview(bytes(2 * round(length * rate)))))


def ask(name: str, id_: str = "t") -> ToolCall:
    return ToolCall(id_, name, "{}", response_required=True)


class Conversation:
    """A bridge in a call at a time that the test moves; `told` is what Core got beside audio."""

    def __init__(self, rules: CallRules | None = None, *, talking: bool = True) -> None:
        self.now = 100.0
        self.playout = Playout(Pace(0.5), CallCounts())
        self.bridge = Bridge(rules or CallRules(tools=(HOURS, TRANSFER)), self.playout, CallInfo("x"), self.now)
        self.told: list[object] = []
        if talking:
            self.bridge.on_core(Init(UUID), self.now)
            self.says(AgentReady("s", resume="c"))

    def says(self, event: object, session: int = 1) -> tuple[object, ...]:
        return self.bridge.on_agent(event, session, self.now)  # type: ignore[arg-type]  # an event, whichever

    def wait(self, seconds: float) -> tuple[object, ...]:
        """Let time pass with a Core that listens; return what was decided meanwhile."""
        until, actions = self.now + seconds, list[object]()
        while True:
            self.listen()
            at = min(self.bridge.deadline, due(self.playout))
            if at > until:
                break
            self.now = max(self.now, at)
            actions += self.bridge.on_deadline(self.now)
        self.now = until
        self.listen()
        return tuple(actions)

    def listen(self) -> None:
        while (message := self.playout.take(self.now)) is not None:
            self.playout.sent(message, self.now)
            if not isinstance(message, PlayoutAudio):
                self.told.append(message)


def kinds(actions: tuple[object, ...]) -> list[type]:
    return [type(action) for action in actions]


def due(playout: Playout) -> float:
    """When the playout is to be asked for a message, as its sender knows it."""
    return -inf if playout.changed else playout.due


class Measured(Meter):
    """A meter that keeps what it is told, in milliseconds."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.stops: list[int] = []

    def answered(self, seconds: float) -> None:
        self.answers.append(round(seconds * 1000))

    def stopped(self, seconds: float) -> None:
        self.stops.append(round(seconds * 1000))
