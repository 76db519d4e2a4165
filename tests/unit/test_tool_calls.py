"""Tool calls as decisions: one answer each, the old one stopped for the new, the good-bye heard first."""

from __future__ import annotations

from math import inf

import pytest

from sts_trio.audio.pcm import Wav
from sts_trio.call.actions import AnswerTool, CancelTool, Deadline, Deadlines, LogWarning, RunTool
from sts_trio.call.meter import CallCounts
from sts_trio.call.playout import Pace, Playout
from sts_trio.call.speech import AgentSpeech
from sts_trio.call.tools import ToolCalls
from sts_trio.providers.base import ToolCall
from sts_trio.tools.tool import CallContext, Tool, ToolResult

SECOND = bytes(16_000)
GRACE = 3.0


async def _never_run(_: str, __: CallContext) -> ToolResult:
    raise AssertionError("decisions do not run anything")


HOURS = Tool("hours", "When we are open.", "{}", _never_run)
TRANSFER = Tool("dsai_transfer", "Put through.", "{}", _never_run, ends_call=True)
HANGUP = Tool("dsai_hangup", "Hang up.", "{}", _never_run, ends_call=True, hangs_up=True)


def voice(length: float) -> Wav:
    return Wav(8000, 1, memoryview(bytes(round(length * 8000) * 2)))


class Desk:
    """A desk with its playout, at a time that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.playout = Playout(Pace(0.5), CallCounts())
        self.counts = self.playout.counts
        self.deadlines: Deadlines = dict.fromkeys(Deadline, inf)
        self.speech = AgentSpeech(self.playout, self.deadlines)
        self.desk = ToolCalls(self.playout, self.speech, self.deadlines, GRACE)
        self.desk.offer((HOURS, TRANSFER, HANGUP))

    def ask(self, name: str, id_: str = "a", *, required: bool = True, stays_open: bool = False) -> tuple[object, ...]:
        return self.desk.ask(ToolCall(id_, name, '{"x":1}', required, stays_open), self.now)

    def user_turn(self) -> None:
        self.speech.user_turn()
        self.desk.user_turn()

    def barge_in(self) -> None:
        self.speech.barge_in(self.now)
        self.desk.barge_in(self.now)

    def wait(self, seconds: float) -> None:
        """Let time pass; nothing is run."""
        with pytest.raises(AssertionError, match="nothing was run"):
            self.pass_until_run(seconds)

    def pass_until_run(self, limit: float = 20.0) -> float:
        """Let time pass, with a Core that listens, until something is run; return how long that took."""
        began = self.now
        while self.now < began + limit:
            self.now += 0.01
            while (message := self.playout.take(self.now)) is not None:
                self.playout.sent(message, self.now)
            if self.deadlines[Deadline.TOOLS] <= self.now:
                actions = self.desk.expire(self.now)
                if any(isinstance(action, RunTool) for action in actions):
                    return self.now - began
                assert self.deadlines[Deadline.TOOLS] > self.now, "an alarm that rings for ever"
        raise AssertionError("nothing was run")


def test_a_tool_is_run_at_once_and_its_result_is_the_answer() -> None:
    d = Desk()
    assert d.ask("hours") == (RunTool("a", HOURS, '{"x":1}'),)
    assert d.deadlines[Deadline.TOOLS] == inf
    assert d.desk.done("a", ToolResult("from nine to five")) == (AnswerTool("a", ToolResult("from nine to five")),)
    assert (d.counts.tool_calls, d.counts.tools_failed) == (1, 0)


def test_only_call_control_waits_until_the_agent_has_been_heard() -> None:
    d = Desk()
    d.playout.push(SECOND)
    assert d.ask("hours") == (RunTool("a", HOURS, '{"x":1}'),)


def test_a_failure_is_an_answer_too_and_is_counted() -> None:
    d = Desk()
    d.ask("hours")
    failed = ToolResult("it took longer than 8 s", failed=True)
    assert d.desk.done("a", failed) == (AnswerTool("a", failed),)
    assert d.counts.tools_failed == 1


def test_an_unknown_tool_is_answered_at_once() -> None:
    (answer,) = Desk().ask("no such " + "x" * 500)
    assert isinstance(answer, AnswerTool)
    assert answer.result.failed
    assert len(answer.result.content) < 150


def test_what_needs_no_answer_is_left_alone() -> None:
    d = Desk()
    assert d.ask("hours", required=False) == ()
    assert d.counts.tool_calls == 0


@pytest.mark.parametrize("finished", [False, True])
def test_the_same_call_said_twice_is_one_call(finished: bool) -> None:
    d = Desk()
    d.ask("hours")
    if finished:
        d.desk.done("a", ToolResult("open"))
    assert d.ask("hours") == ()
    assert d.desk.done("a", ToolResult("open")) == (() if finished else (AnswerTool("a", ToolResult("open")),))
    assert d.desk.done("a", ToolResult("open")) == ()


def test_a_new_request_stops_the_old_one_and_both_get_one_answer() -> None:
    d = Desk()
    d.ask("hours")
    cancel, old, run = d.ask("hours", "b")
    assert cancel == CancelTool("a")
    assert isinstance(old, AnswerTool)
    assert (old.id, old.result.failed) == ("a", True)
    assert run == RunTool("b", HOURS, '{"x":1}')
    assert d.desk.done("a", ToolResult("too late")) == ()
    assert d.desk.done("b", ToolResult("open")) == (AnswerTool("b", ToolResult("open")),)


def test_requests_that_stay_open_run_beside_each_other_and_each_gets_its_answer() -> None:
    d = Desk()
    assert d.ask("hours", "a", stays_open=True) == (RunTool("a", HOURS, '{"x":1}'),)
    assert d.ask("hours", "b", stays_open=True) == (RunTool("b", HOURS, '{"x":1}'),)
    assert d.desk.done("b", ToolResult("second")) == (AnswerTool("b", ToolResult("second")),)
    assert d.desk.work
    assert d.desk.done("a", ToolResult("first")) == (AnswerTool("a", ToolResult("first")),)
    assert not d.desk.work


def test_a_request_stops_only_work_that_does_not_stay_open() -> None:
    d = Desk()
    d.ask("hours", "open", stays_open=True)
    d.ask("hours", "old")
    cancel, old, run = d.ask("hours", "new")
    assert cancel == CancelTool("old")
    assert isinstance(old, AnswerTool)
    assert run == RunTool("new", HOURS, '{"x":1}')
    assert d.desk.done("open", ToolResult("done")) == (AnswerTool("open", ToolResult("done")),)


def test_a_lookup_beside_a_transfer_leaves_it_alone() -> None:
    d = Desk()
    d.ask("dsai_transfer", "t", stays_open=True)
    assert d.ask("hours", "h", stays_open=True) == (RunTool("h", HOURS, '{"x":1}'),)
    assert d.pass_until_run() == pytest.approx(GRACE, abs=0.02)


def test_of_two_transfers_in_one_response_the_first_is_made() -> None:
    d = Desk()
    d.ask("dsai_transfer", "a", stays_open=True)
    (answer,) = d.ask("dsai_transfer", "b", stays_open=True)
    assert isinstance(answer, AnswerTool)
    assert (answer.id, answer.result.failed) == ("b", True)
    d.pass_until_run()


def test_a_transfer_after_words_of_the_caller_replaces_the_one_before() -> None:
    d = Desk()
    d.ask("dsai_transfer", "a", stays_open=True)
    d.user_turn()
    (answer,) = d.ask("dsai_transfer", "b", stays_open=True)
    assert isinstance(answer, AnswerTool)
    assert (answer.id, answer.result.failed) == ("a", True)
    d.pass_until_run()
    assert d.desk.tool_of("b") is TRANSFER


def test_when_the_agent_goes_on_after_the_caller_only_the_transfer_is_dropped() -> None:
    d = Desk()
    d.ask("hours", "h", stays_open=True)
    d.ask("dsai_transfer", "t", stays_open=True)
    d.user_turn()
    (answer,) = d.desk.agent_turn_end()
    assert isinstance(answer, AnswerTool)
    assert answer.id == "t"
    assert d.desk.done("h", ToolResult("open")) == (AnswerTool("h", ToolResult("open")),)


def test_so_many_tools_at_once_are_no_work_but_a_fault() -> None:
    d = Desk()
    started = [d.ask("hours", str(number), stays_open=True) for number in range(20)]
    assert sum(isinstance(actions[0], RunTool) for actions in started) == 16
    assert isinstance(started[-1][0], AnswerTool)
    assert started[-1][0].result.failed
    d.desk.done("0", ToolResult("open"))
    assert d.ask("hours", "one more", stays_open=True) == (RunTool("one more", HOURS, '{"x":1}'),)


def test_a_reply_after_words_of_the_caller_drops_the_request() -> None:
    d = Desk()
    d.ask("hours")
    assert d.desk.agent_turn_end() == ()  # the filler: "let me look that up"
    d.user_turn()
    cancel, answer = d.desk.agent_turn_end()
    assert cancel == CancelTool("a")
    assert isinstance(answer, AnswerTool)
    assert d.desk.done("a", ToolResult("too late")) == ()


def test_where_requests_stay_open_a_lookup_goes_on_whatever_is_said() -> None:
    d = Desk()
    d.ask("hours", stays_open=True)
    d.user_turn()
    assert d.desk.agent_turn_end() == ()
    assert d.desk.done("a", ToolResult("nine")) == (AnswerTool("a", ToolResult("nine")),)


def test_where_requests_stay_open_nobody_is_transferred_who_has_said_something_since() -> None:
    d = Desk()
    d.playout.push(SECOND)
    d.ask("dsai_transfer", stays_open=True)
    d.user_turn()
    [answer] = d.desk.agent_turn_end()
    assert isinstance(answer, AnswerTool)
    assert answer.result.failed
    assert not d.desk.work


def test_the_agent_is_not_told_that_what_was_at_work_is_undone() -> None:
    d = Desk()
    d.ask("hours", "at work")
    d.playout.push(SECOND)
    _, stopped = d.ask("dsai_transfer", "waits")
    (not_begun,) = d.ask("dsai_transfer", "new")
    assert isinstance(stopped, AnswerTool)
    assert isinstance(not_begun, AnswerTool)
    assert (stopped.id, not_begun.id) == ("at work", "waits")
    assert "may have been done" in stopped.result.content
    assert not_begun.result.content.startswith("Not done")


def test_a_request_that_still_waits_is_dropped_without_ever_running() -> None:
    d = Desk()
    d.playout.push(SECOND)
    d.ask("dsai_transfer")
    d.user_turn()
    (answer,) = d.desk.agent_turn_end()
    assert isinstance(answer, AnswerTool)
    assert d.deadlines[Deadline.TOOLS] == inf
    assert d.desk.expire(d.now + 60) == ()


def test_call_control_waits_until_the_good_bye_has_been_heard() -> None:
    d = Desk()
    d.playout.push(SECOND * 2)
    assert d.ask("dsai_transfer") == ()
    assert d.desk.takes_call
    assert d.pass_until_run() == pytest.approx(2.2, abs=0.05)  # two seconds, and what the line lags behind


def test_more_of_the_good_bye_may_come_after_the_request() -> None:
    d = Desk()
    assert d.ask("dsai_hangup") == ()
    d.playout.push(SECOND)
    d.desk.look()
    assert d.pass_until_run() == pytest.approx(1.2, abs=0.05)


def test_after_a_good_bye_that_was_heard_a_moment_is_left_for_more_of_it() -> None:
    d = Desk()
    d.playout.push(SECOND)
    d.wait(2)
    assert d.ask("dsai_transfer") == ()
    assert d.pass_until_run() == pytest.approx(0.3, abs=0.02)


def test_a_good_bye_that_never_comes_is_waited_for_as_long_as_the_grace_says() -> None:
    d = Desk()
    assert d.ask("dsai_transfer") == ()
    assert d.pass_until_run() == pytest.approx(GRACE, abs=0.02)


def test_what_was_said_before_the_callers_turn_is_no_good_bye() -> None:
    d = Desk()
    d.playout.push(SECOND)
    d.wait(2)
    d.user_turn()
    d.ask("dsai_transfer")
    assert d.pass_until_run() == pytest.approx(GRACE, abs=0.02)


def test_words_are_waited_for_until_their_voice_has_come_and_gone() -> None:
    d = Desk()
    d.speech.text("a", "One moment.", d.now)
    d.speech.audio("a", voice(1.0), d.now)
    d.wait(2)
    d.ask("dsai_transfer")
    d.speech.text("b", "Good-bye!", d.now)
    d.wait(1.5)  # its voice has not come
    d.speech.audio("b", voice(5.0), d.now)
    d.desk.look()
    assert d.pass_until_run() == pytest.approx(5.2, abs=0.05)


def test_a_good_bye_of_any_length_is_heard_to_its_end() -> None:
    d = Desk()
    d.playout.push(SECOND * 15)
    d.ask("dsai_transfer")
    assert d.pass_until_run() == pytest.approx(15.2, abs=0.05)


def test_a_good_bye_that_is_cut_off_leaves_the_agent_time_to_drop_the_request() -> None:
    d = Desk()
    d.playout.push(SECOND)
    d.ask("dsai_transfer")
    d.barge_in()
    assert d.pass_until_run() == pytest.approx(GRACE, abs=0.02)


def test_a_barge_in_does_not_disturb_a_tool_that_is_at_work() -> None:
    d = Desk()
    d.ask("hours")
    d.barge_in()
    assert d.desk.done("a", ToolResult("open")) == (AnswerTool("a", ToolResult("open")),)


def test_a_rule_may_order_a_tool_and_nobody_is_answered() -> None:
    d = Desk()
    d.counts.rules_fired = 1
    (run,) = d.desk.order("hours", "{}", d.now)
    assert isinstance(run, RunTool)
    d.ask("hours", "a")
    assert d.ask("hours", "b")[0] == CancelTool("a")  # and not the rule's
    assert d.desk.done(run.id, ToolResult("open")) == ()
    assert isinstance(d.desk.order("gone", "{}", d.now)[0], LogWarning)


def test_an_agent_cannot_take_the_name_of_a_rules_work() -> None:
    d = Desk()
    d.counts.rules_fired = 1
    d.ask("hours", "rule 1")
    (run,) = d.desk.order("hours", "{}", d.now)
    assert isinstance(run, RunTool)
    assert run.id != "rule 1"
    assert d.desk.done(run.id, ToolResult("open")) == ()
    assert d.desk.done("rule 1", ToolResult("open")) == (AnswerTool("rule 1", ToolResult("open")),)


def test_what_the_caller_said_while_a_rule_was_at_work_drops_no_later_request() -> None:
    d = Desk()
    d.desk.order("hours", "{}", d.now)
    d.user_turn()
    d.ask("hours")
    assert d.desk.agent_turn_end() == ()


def test_the_good_bye_is_heard_before_a_rule_takes_the_call_too() -> None:
    d = Desk()
    d.playout.push(SECOND)
    assert d.desk.order("dsai_transfer", "{}", d.now) == ()
    assert d.pass_until_run() == pytest.approx(1.2, abs=0.05)


def test_the_tool_of_work_is_known_until_it_is_done_or_stopped() -> None:
    d = Desk()
    d.ask("dsai_hangup")
    assert d.desk.tool_of("a") is HANGUP
    d.ask("hours", "b")
    assert (d.desk.tool_of("a"), d.desk.tool_of("b")) == (None, HOURS)
    d.desk.done("b", ToolResult("open"))
    assert d.desk.tool_of("b") is None


def test_a_call_is_taken_away_once() -> None:
    d = Desk()
    d.playout.push(SECOND)
    d.counts.rules_fired = 1
    d.desk.order("dsai_transfer", "{}", d.now)
    d.counts.rules_fired = 2
    assert isinstance(d.desk.order("dsai_hangup", "{}", d.now)[0], LogWarning)
    (answer,) = d.ask("dsai_hangup")
    assert isinstance(answer, AnswerTool)
    assert answer.result.failed
    assert d.pass_until_run() == pytest.approx(1.2, abs=0.05)
