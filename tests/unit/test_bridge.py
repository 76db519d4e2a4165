"""The bridge as a state machine: whatever the order of events, some things always hold."""

from __future__ import annotations

import random
from math import inf

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sts_trio.audio.pcm import Wav
from sts_trio.call.actions import (
    AnswerTool,
    Attach,
    CancelTool,
    CloseSession,
    End,
    OpenSession,
    RunTool,
    Say,
    SendAudio,
    SendUserText,
)
from sts_trio.call.bridge import Bridge
from sts_trio.call.config import CallRules, SessionPolicy
from sts_trio.call.meter import CallCounts, Cause
from sts_trio.call.playout import Pace, Playout
from sts_trio.core.link import SocketClosed
from sts_trio.core.wire import CallerAudio, Digit, Error, Init, Interruption, NotUnderstood, PlayoutAudio
from sts_trio.providers.base import (
    AgentAudio,
    AgentEvent,
    AgentFault,
    AgentReady,
    AgentText,
    AgentTurnEnd,
    CallInfo,
    SessionEnd,
    SessionEndKind,
    ToolCall,
    UserInterruption,
    UserTurn,
)
from sts_trio.settings.calls import EmotionRule
from sts_trio.tools.tool import CallContext, Tool, ToolResult
from tests.unit.conversation import due

TOOLS = st.sampled_from(["hours", "dsai_transfer", "unknown"])
REPLIES = st.sampled_from(["", "a", "b", "c", "d"])


async def _never_run(_: str, __: CallContext) -> ToolResult:
    raise AssertionError("decisions do not run anything")


HOURS = Tool("hours", "When we are open.", "{}", _never_run)
TRANSFER = Tool("dsai_transfer", "Put through.", "{}", _never_run, ends_call=True)
RULES = CallRules(
    session_policy=SessionPolicy(greeting="Hello!"),
    tools=(HOURS, TRANSFER),
    emotion_rules=(EmotionRule("Anger", 0.5, 2, tool="hours"),),
    init_seconds=10,
    most_seconds=600,
)
UUID = "0b6f1f6e-54f0-4f6b-9a49-3d2a1f0c7e11"


def marked(reply: str, size: int) -> AgentAudio:
    """Audio at 8 kHz whose every sample names its reply, so that it can be told apart in what Core hears."""
    sample = (ord(reply) if reply else 1).to_bytes(2, "little")
    return AgentAudio(reply, Wav(8000, 1, memoryview(sample * size)))


class BridgeMachine(RuleBasedStateMachine):
    """Feeds a bridge and its playout, and plays Core."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.playout = Playout(Pace(0.5), CallCounts())
        self.bridge = Bridge(RULES, self.playout, CallInfo("fallback"), self.now)
        self.bridge._lifeline._jitter = random.Random(1)  # the same steps must take the same way again
        self.sent = b""
        self.received = b""
        self.opened = 0
        self.session = 0  # the one in use; events of others change nothing
        self.sessions: set[int] = set()  # opened and neither failed nor closed
        self.conversing = False  # somebody has said something
        self.asked: list[str] = []
        self.answered: list[str] = []
        self.running: set[str] = set()
        self.entered = 0
        self.end: End | None = None
        self.interrupted: set[str] = set()
        self.told_since_audio = False
        self.played_at = -inf
        self.errors: list[str] = []

    def carry_out(self, actions: tuple[object, ...]) -> None:
        for action in actions:
            match action:
                case SendAudio(pcm=pcm):
                    assert self.opened
                    assert 0 < len(pcm) <= 320
                    assert len(pcm) % 2 == 0
                    self.received += pcm
                case OpenSession(number=number):
                    assert number == self.opened + 1
                    self.opened += 1
                    self.sessions.add(number)
                    assert len(self.sessions) <= 2
                case Say():
                    assert not self.conversing, "a greeting in the middle of a conversation"
                case AnswerTool(id=tool):
                    assert tool not in self.answered, "a second answer"
                    self.answered.append(tool)
                case RunTool(id=tool):
                    assert tool not in self.running
                    self.running.add(tool)
                case CancelTool(id=tool):
                    self.running.remove(tool)
                case SendUserText():
                    self.entered += 1
                case Attach(number=number):
                    assert number in self.sessions
                    self.session = number
                case CloseSession(number=number):
                    self.sessions.discard(number)
                case End():
                    self.end = self.end or action

    alive = precondition(lambda self: self.end is None)
    talking = precondition(lambda self: self.end is None and self.opened)
    in_session = precondition(lambda self: self.end is None and self.session)

    @alive
    @rule(uuid=st.one_of(st.just(UUID), st.none(), st.text(max_size=10), st.integers()))
    def init(self, uuid: object) -> None:
        opened = self.opened
        self.carry_out(self.bridge.on_core(Init(uuid), self.now))
        assert self.opened == max(opened, 1)

    @alive
    @rule(size=st.integers(0, 2000), byte=st.integers(0, 255))
    def caller_speaks(self, size: int, byte: int) -> None:
        pcm = bytes([byte]) * size
        if self.opened:
            self.sent += pcm
        self.carry_out(self.bridge.on_core(CallerAudio(pcm), self.now))

    @alive
    @rule(message=st.sampled_from([Digit("1"), Digit("#"), Digit("?"), NotUnderstood("a test")]))
    def something_else(self, message: Digit | NotUnderstood) -> None:
        self.carry_out(self.bridge.on_core(message, self.now))

    @in_session
    @rule(reply=REPLIES, size=st.integers(0, 8000))
    def agent_speaks(self, reply: str, size: int) -> None:
        self.conversing = True
        self.carry_out(self.bridge.on_agent(marked(reply, size), self.session, self.now))

    @talking
    @rule(
        event=st.one_of(
            st.builds(AgentText, REPLIES, st.text(min_size=1, max_size=5)),
            st.just(AgentTurnEnd()),
            st.builds(UserTurn, st.text(min_size=1, max_size=5), st.just({"Anger": 0.9})),
            st.builds(ToolCall, st.uuids().map(str), TOOLS, st.just("{}"), st.booleans()),
            st.builds(AgentFault, st.sampled_from(["fault 1", "fault 2"])),
        )
    )
    def agent_does(self, event: AgentEvent) -> None:
        if isinstance(event, ToolCall) and event.response_required:
            self.asked.append(event.id)
        self.conversing = self.conversing or (isinstance(event, UserTurn) and self.session > 0)
        self.carry_out(self.bridge.on_agent(event, self.session, self.now))

    @talking
    @rule(resume=st.sampled_from(["group", "group", None]))
    def a_session_is_ready(self, resume: str | None) -> None:
        number = self.opened  # only the newest can be opening
        if number in self.sessions and number != self.session:
            self.carry_out(self.bridge.on_agent(AgentReady("s", resume), number, self.now))

    @talking
    @rule(how=st.sampled_from([SessionEndKind.LOST, SessionEndKind.DEAD, "I0100"]))
    def a_session_breaks(self, how: SessionEndKind | str) -> None:
        if not self.sessions:
            return
        number = max(self.sessions)
        was_resumable = number == self.session and self.bridge._lifeline._call.resume is not None
        if not isinstance(how, SessionEndKind):
            self.carry_out(self.bridge.on_agent(AgentFault(how, SessionEndKind.LOST), number, self.now))
            return
        self.sessions.remove(number)
        self.session = 0 if number == self.session else self.session
        self.carry_out(self.bridge.on_agent(SessionEnd("broke", how), number, self.now))
        if was_resumable:
            assert self.errors == [] or self.end is not None or self.bridge.counts.provider_faults

    @alive
    @rule(result=st.sampled_from([ToolResult("done"), ToolResult("no", failed=True)]))
    def a_tool_ends(self, result: ToolResult) -> None:
        if self.running:
            self.carry_out(self.bridge.on_tool_done(self.running.pop(), result, self.now))

    @in_session
    @rule(reply=st.sampled_from("abcd"))
    def barge_in(self, reply: str) -> None:
        """All replies heard of so far are over; one of them tries to go on all the same."""
        heard_of = {name for name in "abcd" if name in self.bridge._speech._turn._replies}
        self.carry_out(self.bridge.on_agent(UserInterruption(), self.session, self.now))
        self.interrupted |= heard_of
        assert self.playout.played_at(self.now) == self.now, "something of the old reply is left"

    @talking
    @rule(
        end=st.sampled_from([*[None] * 12, 1000, 1005, 1006, SessionEndKind.LOST, SessionEndKind.REFUSED]),
        bye=st.integers(0, 9),
    )
    def it_may_end(self, end: int | SessionEndKind | None, bye: int) -> None:
        """Most often it does not: what matters happens before."""
        match end:
            case int():
                self.carry_out(self.bridge.on_caller_gone(SocketClosed(end), self.now))
                assert self.end is not None
                assert self.end.outcome.by_caller
            case SessionEndKind.LOST:
                self.a_session_breaks(end)
            case SessionEndKind.REFUSED if self.session and self.bridge._last_fault._fault is None:
                session, self.session = self.session, 0
                self.sessions.discard(session)
                self.carry_out(self.bridge.on_agent(SessionEnd("failed", end), session, self.now))
                assert self.end is not None or self.bridge._tools.takes_call  # a transfer that was promised is made
            case None if bye == 9 and self.session:
                session, self.session = self.session, 0  # a session says nothing after its close
                self.sessions.discard(session)
                goodbye = SessionEnd("good-bye", SessionEndKind.GOODBYE)
                self.carry_out(self.bridge.on_agent(goodbye, session, self.now))

    @in_session
    @rule(reply=st.sampled_from("abcd"), size=st.integers(800, 4000))
    def a_reply_is_cut_off_and_goes_on(self, reply: str, size: int) -> None:
        self.agent_speaks(reply, size)
        self.barge_in(reply)
        self.agent_speaks(reply, size)

    @rule(passed=st.sampled_from([0.001, 0.02, 0.1, 0.3, 1.0, 6.0]))
    def time_passes(self, passed: float) -> None:
        target = self.now + passed
        while self.end is None and min(self.bridge.deadline, due(self.playout)) <= target:
            self.now = max(self.now, min(self.bridge.deadline, due(self.playout)))
            if self.bridge.deadline <= self.now:
                self.carry_out(self.bridge.on_deadline(self.now))
                assert self.bridge.deadline > self.now or self.end is not None
            self.play()
        self.now = target
        if self.end is None:
            self.play()

    def play(self) -> None:
        while (message := self.playout.take(self.now)) is not None:
            self.playout.sent(message, self.now)
            match message:
                case PlayoutAudio(audio=audio):
                    assert len(audio) % 320 == 0
                    assert len(audio) <= 1600
                    assert not {chr(byte) for byte in audio} & self.interrupted, "stale audio after a barge-in"
                    self.played_at = max(self.played_at, self.now) + len(audio) / 16_000
                    assert self.played_at <= self.now + 0.5 + 1e-5, "too far ahead of the caller"
                    self.told_since_audio = False
                case Interruption():
                    self.played_at = min(self.played_at, self.now)
                case Error(message=text):
                    assert self.errors[-1:] != [text], "told twice"
                    self.errors.append(text)

    @invariant()
    def caller_audio_is_bit_exact_and_in_order(self) -> None:
        assert self.received == self.sent[: len(self.sent) & ~1]

    @invariant()
    def every_tool_call_is_at_work_or_waits_or_has_its_one_answer(self) -> None:
        assert set(self.answered) <= set(self.asked)
        open_calls = [id_ for id_, work in self.bridge._tools.work.items() if work.for_agent]
        assert not set(open_calls) & set(self.answered)
        assert len(open_calls) <= 1
        if open_calls and self.end is None and open_calls[0] not in self.running:
            assert self.bridge.deadline < self.now + 10, "nobody will ever run it"

    @invariant()
    def a_call_has_an_end_in_sight(self) -> None:
        assert self.end is not None or self.bridge.deadline < inf

    @invariant()
    def core_learns_why_it_ended(self) -> None:
        if self.end is not None and not self.end.outcome.by_caller:
            assert self.end.outcome.cause in Cause
            left = [message.message for message in self.playout.left_over() if isinstance(message, Error)]
            said_good_bye = self.end.outcome.cause is Cause.AGENT_ENDED  # which is no error
            assert said_good_bye or self.end.outcome.message in [*left, *self.errors]


BridgeMachine.TestCase.settings = settings(stateful_step_count=40)
TestBridge = BridgeMachine.TestCase
