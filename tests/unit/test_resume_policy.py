"""Sessions with the provider: lost and found, renewed in a quiet moment, given up in the end."""

from __future__ import annotations

import random
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.call.actions import Attach, CloseSession, LogWarning, OpenSession
from sts_trio.call.config import ResumeRules
from sts_trio.call.meter import CallCounts
from sts_trio.call.resume import ResumePolicy
from sts_trio.providers.base import AgentFault, CallInfo, SessionEnd, SessionEndKind

CALL = CallInfo("call")
LOST, DEAD = SessionEnd("it broke", SessionEndKind.LOST), SessionEnd("no answer to a ping", SessionEndKind.DEAD)
REFUSED, FORGOTTEN = SessionEnd("no credit", SessionEndKind.REFUSED), SessionEnd("unknown", SessionEndKind.FORGOTTEN)
FULL = SessionEnd("429", SessionEndKind.FULL)
GOODBYE = SessionEnd("good-bye", SessionEndKind.GOODBYE)


def lifeline(**rules: float) -> ResumePolicy:
    return ResumePolicy(ResumeRules(**rules), CallCounts(), random.Random(1))


def open_first(line: ResumePolicy, resume: str | None = "group", now: float = 0.0) -> None:
    assert line.begin(CALL, now) == (OpenSession(CALL, 1),)
    assert line.ready(1, resume, now) == (Attach(1),)


def opened(actions: object) -> OpenSession:
    """The one session that is to be opened; what is to be logged is left out."""
    assert isinstance(actions, tuple)
    (action,) = without_log(actions)
    assert isinstance(action, OpenSession)
    return action


def without_log(actions: object) -> tuple[object, ...]:
    assert isinstance(actions, tuple)
    return tuple(action for action in actions if not isinstance(action, LogWarning))


def test_a_lost_session_is_reopened_at_once_with_its_conversation() -> None:
    line = lifeline()
    open_first(line)
    action = opened(line.ended(LOST, 1, 100))
    assert (action.number, action.call.resume, line.current) == (2, "group", None)
    assert line.ready(2, "group", 100.2) == (Attach(2),)
    assert line.current == 2


@pytest.mark.parametrize(("resume", "end"), [(None, LOST), ("group", REFUSED), ("group", GOODBYE)])
def test_what_cannot_be_resumed_is_the_end(resume: str | None, end: SessionEnd) -> None:
    line = lifeline()
    open_first(line, resume)
    assert line.ended(end, 1, 100) == end


@pytest.mark.parametrize("end", [LOST, DEAD, FULL, SessionEnd("odd", SessionEndKind.PROTOCOL_ERROR)])
def test_a_first_session_that_does_not_open_is_tried_again_for_a_while(end: SessionEnd) -> None:
    line = lifeline(ready_seconds=10)
    line.begin(CALL, 5)
    now, number, warned = 5.1, 1, 0
    while not isinstance(found := line.ended(end, number, now), SessionEnd):
        warned += len(found)
        assert now < line.deadline <= now + 4.5
        now = line.deadline
        action = opened(line.expire(now, quiet=False))
        assert (action.kind, action.call.again) == ("first", True)
        number = action.number
    assert found == SessionEnd(end.cause, SessionEndKind.LOST)  # not said several times
    assert (warned, number > 4, now < 15) == (1, True, True)


def test_a_first_session_that_opens_at_the_third_try_is_a_call_like_any_other() -> None:
    line = lifeline(ready_seconds=10)
    line.begin(CALL, 0)
    for number in (1, 2):
        line.ended(FULL, number, number - 0.9)
        opened(line.expire(line.deadline, quiet=False))
    assert line.ready(3, "group", 2.0) == (Attach(3),)
    assert line.deadline > 100
    again = opened(line.ended(LOST, 3, 3.0))  # a window of its own, though it lived for a second only
    assert (again.kind, again.call.again, again.call.resume) == ("resume", False, "group")
    assert line.deadline == 3 + 15


def test_a_refusal_that_will_not_pass_is_the_end_at_once() -> None:
    end = REFUSED
    line = lifeline()
    line.begin(CALL, 0)
    assert line.ended(end, 1, 1) == SessionEnd(end.cause, SessionEndKind.LOST)
    line = lifeline()
    line.begin(CALL, 0)
    line.ended(LOST, 1, 1)
    opened(line.expire(line.deadline, quiet=False))
    assert line.ended(end, 2, 2) == SessionEnd(f"it broke; then: {end.cause}", SessionEndKind.LOST)


def test_another_try_that_hangs_is_given_up_in_time_and_one_that_took_all_of_it_is_the_only_one() -> None:
    line = lifeline(ready_seconds=10)
    line.begin(CALL, 0)
    line.ended(LOST, 1, 1)
    opened(line.expire(line.deadline, quiet=False))
    assert line.deadline == 10
    assert line.expire(10, quiet=False) == SessionEnd("it broke; no session within 10 s", SessionEndKind.LOST)
    line = lifeline(ready_seconds=10)
    line.begin(CALL, 0)
    assert line.deadline == inf
    assert line.ended(LOST, 1, 10.1) == LOST


def test_the_pauses_grow_and_end_with_the_window() -> None:
    line = lifeline(resume_seconds=15)
    open_first(line)
    number, now, pauses = opened(line.ended(LOST, 1, 100)).number, 100.0, []
    while not isinstance(line.ended(LOST, number, now), SessionEnd):
        pauses.append(line.deadline - now)
        now = line.deadline
        number = opened(line.expire(now, quiet=False)).number
    assert 0.1 < pauses[0] < 0.5
    assert max(pauses) <= 4.5
    assert pauses[3] > pauses[0]
    assert now < 115
    assert len(pauses) >= 5


def test_an_open_that_hangs_is_given_up_with_the_window() -> None:
    line = lifeline(resume_seconds=15)
    open_first(line)
    line.ended(LOST, 1, 100)
    assert line.deadline == 115
    assert line.expire(115, quiet=False) == SessionEnd("it broke; it could not be resumed", SessionEndKind.LOST)


def test_a_refusal_while_resuming_is_the_end() -> None:
    line = lifeline()
    open_first(line)
    line.ended(LOST, 1, 100)
    assert isinstance(line.ended(REFUSED, 2, 100.1), SessionEnd)


def test_a_conversation_that_is_gone_is_begun_anew() -> None:
    line = lifeline()
    open_first(line)
    line.ended(LOST, 1, 100)
    action = opened(line.ended(FORGOTTEN, 2, 100.1))
    assert action.call.resume is None
    assert line.ready(3, "another", 100.3) == (Attach(3),)
    assert opened(line.ended(LOST, 3, 200)).call.resume == "another"


def test_a_session_that_breaks_again_at_once_is_part_of_the_same_trouble() -> None:
    line = lifeline(resume_seconds=15)
    open_first(line)
    line.on_event()
    now, number = 100.0, opened(line.ended(LOST, 1, 100)).number
    for _ in range(50):
        line.ready(number, "group", now)
        line.on_event()
        now += 1.0
        found = line.ended(LOST, number, now)
        if isinstance(found, tuple) and without_log(found) == ():
            now = line.deadline
            found = line.expire(now, quiet=False)
        if isinstance(found, SessionEnd):
            break
        number = opened(found).number
    assert isinstance(found, SessionEnd)
    assert 110 <= now <= 116


def test_a_session_that_breaks_as_soon_as_it_is_ready_is_not_reopened_without_a_pause() -> None:
    line = lifeline()
    open_first(line)
    opened(line.ended(LOST, 1, 100))
    line.ready(2, "group", 100.1)
    assert without_log(line.ended(LOST, 2, 100.2)) == ()
    assert 0.1 < line.deadline - 100.2 < 0.4


def test_calls_that_lost_their_sessions_together_do_not_come_back_together() -> None:
    at = set()
    for seed in range(10):
        line = ResumePolicy(ResumeRules(), CallCounts(), random.Random(seed))
        open_first(line)
        line.ended(LOST, 1, 100)
        line.ended(LOST, 2, 100)
        at.add(line.deadline)
    assert len(at) == 10


@pytest.mark.parametrize(
    ("lived", "heard", "dead", "window"),
    [
        (6, True, True, True),
        (4, True, False, False),
        (6, False, False, True),
        (4, False, False, False),
        (20, False, True, True),
        (61, False, True, True),
    ],
)
def test_a_session_that_lived_opens_a_window_of_its_own(lived: float, heard: bool, dead: bool, window: bool) -> None:
    line = lifeline(resume_seconds=15)
    open_first(line)
    line.on_event()
    line.ended(LOST, 1, 100)
    line.ready(2, "group", 112)
    if heard:
        line.on_event()
    assert isinstance(line.ended(DEAD if dead else LOST, 2, 112 + lived), tuple) is window


@pytest.mark.parametrize(("dead", "most"), [(False, 7), (True, 3)])
def test_sessions_that_never_say_a_word_are_not_reopened_for_ever(dead: bool, most: int) -> None:
    line, now = lifeline(resume_seconds=15), 100.0
    open_first(line)
    line.on_event()
    found, sessions = line.ended(LOST, 1, now), 1
    while not isinstance(found, SessionEnd):
        assert sessions < 20
        sessions += 1
        line.ready(opened(found).number, "group", now)
        now += 20
        found = line.ended(DEAD if dead else LOST, sessions, now)
    assert sessions == most


def test_the_end_of_a_session_that_is_not_in_use_changes_nothing() -> None:
    line = lifeline(renew_seconds=10)
    open_first(line)
    opened(line.expire(10, quiet=True))
    line.ready(2, "group", 11)
    assert line.ended(REFUSED, 1, 12) == ()
    assert line.ready(7, "group", 12) == (CloseSession(7),)
    assert line.current == 2


def test_a_renewal_is_ready_before_the_old_session_goes() -> None:
    line = lifeline(renew_seconds=1740)
    open_first(line)
    assert line.deadline == 1740
    action = opened(line.expire(1740, quiet=True))
    assert (action.call.resume, line.current) == ("group", 1)
    assert line.ready(2, "group", 1740.3) == (Attach(2), CloseSession(1))
    assert line.deadline == pytest.approx(1740.3 + 1740)


@pytest.mark.parametrize(("lasts", "renewed_at"), [(1800.0, 1740.0), (3600.0, 3480.0), (inf, 3480.0)])
def test_a_session_that_says_when_it_ends_is_renewed_before(lasts: float, renewed_at: float) -> None:
    """Two services of one protocol differ here, and the operator need not know."""
    line = lifeline(renew_seconds=3480)
    line.begin(CALL, 0)
    line.ready(1, "group", 100.0, lasts=lasts)
    assert line.deadline == 100.0 + renewed_at


def test_a_renewal_waits_for_a_quiet_moment_but_not_for_ever() -> None:
    line = lifeline(renew_seconds=1740)
    open_first(line)
    now = 1740.0
    while (found := line.expire(now, quiet=False)) == ():
        assert now < line.deadline <= now + 0.5
        now = line.deadline
    assert opened(found).number == 2
    assert now == pytest.approx(1785, abs=0.6)


def test_a_renewal_that_fails_is_tried_again_and_the_session_goes_on() -> None:
    line = lifeline(renew_seconds=1740)
    open_first(line)
    opened(line.expire(1740, quiet=True))
    assert line.ended(REFUSED, 2, 1741) == ()
    assert line.current == 1
    assert line.deadline == 1746
    assert opened(line.expire(1746, quiet=True)).number == 3


def test_a_session_that_breaks_while_it_is_renewed_is_followed_by_the_renewal() -> None:
    line = lifeline(renew_seconds=1740)
    open_first(line)
    opened(line.expire(1740, quiet=True))
    assert without_log(line.ended(LOST, 1, 1740.1)) == ()
    assert line.ready(2, "group", 1740.3) == (Attach(2),)


# What the provider reported before.


@pytest.mark.parametrize(
    ("ends", "end", "cause"),
    [
        (None, LOST, LOST),
        (None, GOODBYE, SessionEnd("an error", SessionEndKind.REFUSED)),
        (SessionEndKind.REFUSED, GOODBYE, SessionEnd("an error", SessionEndKind.REFUSED)),
        (SessionEndKind.LOST, REFUSED, SessionEnd("an error", SessionEndKind.LOST)),
        (SessionEndKind.REFUSED, SessionEnd("x", SessionEndKind.PROTOCOL_ERROR), None),
        (None, SessionEnd("x", SessionEndKind.PROTOCOL_ERROR), None),
    ],
)
def test_an_error_explains_the_end_that_follows(
    ends: SessionEndKind | None, end: SessionEnd, cause: SessionEnd | None
) -> None:
    line = lifeline()
    open_first(line, None)
    line.last_fault.report(AgentFault("an error", ends), 50)
    assert line.ended(end, 1, 51) == (cause or end)


def test_an_error_that_the_agent_speaks_after_explains_no_good_bye() -> None:
    line = lifeline()
    open_first(line)
    line.last_fault.report(AgentFault("an error"), 50)
    line.last_fault.survived()
    assert line.ended(GOODBYE, 1, 51) == GOODBYE


def test_a_session_that_makes_no_sense_is_replaced() -> None:
    line = lifeline()
    open_first(line)
    nonsense = SessionEnd("nonsense", SessionEndKind.PROTOCOL_ERROR)
    assert opened(line.ended(nonsense, 1, 50)).number == 2


def test_a_session_that_is_held_on_to_after_a_fatal_error_is_overdue_once() -> None:
    line = lifeline()
    open_first(line)
    assert line.last_fault.report(AgentFault("no credit", SessionEndKind.REFUSED), 50)
    assert line.deadline == 55
    assert line.last_fault.overdue(54.9) is None
    assert line.last_fault.overdue(55) == REFUSED
    assert line.last_fault.overdue(56) is None
    assert not line.last_fault.report(AgentFault("later", SessionEndKind.LOST), 60)
    assert line.deadline == 61
    line.last_fault.survived()
    assert line.deadline > 1000
    line.last_fault.report(AgentFault("no credit", SessionEndKind.REFUSED), 60)
    line.ended(GOODBYE, 1, 60.5)
    assert line.deadline == inf


@given(
    st.lists(
        st.sampled_from(["ready", "fail", "refuse", "gone", "lose", "hear", "time", "quiet"]), min_size=1, max_size=60
    )
)
def test_at_most_two_sessions_and_always_a_way_on(steps: list[str]) -> None:
    line, now = lifeline(renew_seconds=50), 0.0
    alive: set[int] = set()
    ends = {"fail": LOST, "refuse": REFUSED, "gone": FORGOTTEN}

    def apply(actions: object) -> bool:
        if isinstance(actions, SessionEnd):
            return False
        assert isinstance(actions, tuple)
        for action in actions:
            match action:
                case OpenSession(number=number):
                    alive.add(number)
                case CloseSession(number=number):
                    alive.discard(number)
                case Attach(number=number):
                    assert number in alive
        assert len(alive) <= 2
        assert line.current is None or line.current in alive
        assert line.current is not None or alive or line.deadline < inf, "nobody looks for a session"
        return True

    apply(line.begin(CALL, 0))
    for step in steps:
        newest = max(alive, default=0)
        match step:
            case "ready" if newest and newest != line.current:
                going_on = apply(line.ready(newest, "group", now))
            case "fail" | "refuse" | "gone" if newest and newest != line.current:
                alive.discard(newest)
                going_on = apply(line.ended(ends[step], newest, now))
            case "lose" if line.current is not None:
                alive.discard(line.current)
                going_on = apply(line.ended(LOST, line.current, now))
            case "time" | "quiet":
                now = min(line.deadline, now + 20)
                going_on = apply(line.expire(now, quiet=step == "quiet"))
            case _:
                line.on_event()
                going_on = True
        if not going_on:
            return
