"""Sessions with the provider: lost and found, renewed in a quiet moment, given up in the end."""

from __future__ import annotations

import random
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.call.actions import Attach, CloseSession, OpenSession
from sts_trio.call.config import ResumeRules
from sts_trio.call.meter import CallCounts
from sts_trio.call.resume import ResumePolicy
from sts_trio.providers.base import CallInfo

CALL = CallInfo("call")


def lifeline(**rules: float) -> ResumePolicy:
    return ResumePolicy(ResumeRules(**rules), CallCounts(), random.Random(1))


def open_first(line: ResumePolicy, resume: str | None = "group", now: float = 0.0) -> None:
    assert line.begin(CALL) == (OpenSession(CALL, 1),)
    assert line.ready(1, resume, now) == (Attach(1),)


def opened(actions: object) -> OpenSession:
    assert isinstance(actions, tuple)
    (action,) = actions
    assert isinstance(action, OpenSession)
    return action


def test_a_lost_session_is_reopened_at_once_with_its_conversation() -> None:
    line = lifeline()
    open_first(line)
    action = opened(line.lost(1, 100, retryable=True))
    assert (action.number, action.call.resume, line.current) == (2, "group", None)
    assert line.ready(2, "group", 100.2) == (Attach(2),)
    assert line.current == 2


@pytest.mark.parametrize(("resume", "retryable"), [(None, True), ("group", False)])
def test_what_cannot_be_resumed_is_the_end(resume: str | None, retryable: bool) -> None:
    line = lifeline()
    open_first(line, resume)
    assert line.lost(1, 100, retryable=retryable) is None


def test_a_first_session_that_does_not_open_is_the_end() -> None:
    line = lifeline()
    line.begin(CALL)
    assert line.lost(1, 1, retryable=True) is None


def test_the_pauses_grow_and_end_with_the_window() -> None:
    line = lifeline(resume_seconds=15)
    open_first(line)
    number, now, pauses = opened(line.lost(1, 100, retryable=True)).number, 100.0, []
    while line.lost(number, now, retryable=True) is not None:
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
    line.lost(1, 100, retryable=True)
    assert line.deadline == 115
    assert line.expire(115, quiet=False) is None


def test_a_refusal_while_resuming_is_the_end() -> None:
    line = lifeline()
    open_first(line)
    line.lost(1, 100, retryable=True)
    assert line.lost(2, 100.1, retryable=False) is None


def test_a_conversation_that_is_gone_is_begun_anew() -> None:
    line = lifeline()
    open_first(line)
    line.lost(1, 100, retryable=True)
    action = opened(line.lost(2, 100.1, retryable=False, forgotten=True))
    assert action.call.resume is None
    assert line.ready(3, "another", 100.3) == (Attach(3),)
    assert opened(line.lost(3, 200, retryable=True)).call.resume == "another"


def test_a_session_that_breaks_again_at_once_is_part_of_the_same_trouble() -> None:
    line = lifeline(resume_seconds=15)
    open_first(line)
    line.heard()
    now, number = 100.0, opened(line.lost(1, 100, retryable=True)).number
    for _ in range(50):
        line.ready(number, "group", now)
        line.heard()
        now += 1.0
        found = line.lost(number, now, retryable=True)
        if found == ():
            now = line.deadline
            found = line.expire(now, quiet=False)
        if found is None:
            break
        number = opened(found).number
    assert found is None
    assert 110 <= now <= 116


def test_a_session_that_breaks_as_soon_as_it_is_ready_is_not_reopened_without_a_pause() -> None:
    line = lifeline()
    open_first(line)
    opened(line.lost(1, 100, retryable=True))
    line.ready(2, "group", 100.1)
    assert line.lost(2, 100.2, retryable=True) == ()
    assert 0.1 < line.deadline - 100.2 < 0.4


def test_calls_that_lost_their_sessions_together_do_not_come_back_together() -> None:
    at = set()
    for seed in range(10):
        line = ResumePolicy(ResumeRules(), CallCounts(), random.Random(seed))
        open_first(line)
        line.lost(1, 100, retryable=True)
        line.lost(2, 100, retryable=True)
        at.add(line.deadline)
    assert len(at) == 10


@pytest.mark.parametrize(
    ("lived", "heard", "mute", "window"),
    [
        (6, True, True, True),
        (4, True, False, False),
        (6, False, False, True),
        (4, False, False, False),
        (20, False, True, True),
        (61, False, True, True),
    ],
)
def test_a_session_that_lived_opens_a_window_of_its_own(lived: float, heard: bool, mute: bool, window: bool) -> None:
    line = lifeline(resume_seconds=15)
    open_first(line)
    line.heard()
    line.lost(1, 100, retryable=True)
    line.ready(2, "group", 112)
    if heard:
        line.heard()
    assert (line.lost(2, 112 + lived, retryable=True, mute=mute) is not None) is window


@pytest.mark.parametrize(("mute", "most"), [(False, 7), (True, 3)])
def test_sessions_that_never_say_a_word_are_not_reopened_for_ever(mute: bool, most: int) -> None:
    line, now = lifeline(resume_seconds=15), 100.0
    open_first(line)
    line.heard()
    found, sessions = line.lost(1, now, retryable=True), 1
    while found is not None:
        assert sessions < 20
        sessions += 1
        line.ready(opened(found).number, "group", now)
        now += 20
        found = line.lost(sessions, now, retryable=True, mute=mute)
    assert sessions == most


def test_the_end_of_a_session_that_is_not_in_use_changes_nothing() -> None:
    line = lifeline(renew_seconds=10)
    open_first(line)
    opened(line.expire(10, quiet=True))
    line.ready(2, "group", 11)
    assert line.lost(1, 12, retryable=False) == ()
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
    line.begin(CALL)
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
    assert line.lost(2, 1741, retryable=False) == ()
    assert line.current == 1
    assert line.deadline == 1746
    assert opened(line.expire(1746, quiet=True)).number == 3


def test_a_session_that_breaks_while_it_is_renewed_is_followed_by_the_renewal() -> None:
    line = lifeline(renew_seconds=1740)
    open_first(line)
    opened(line.expire(1740, quiet=True))
    assert line.lost(1, 1740.1, retryable=True) == ()
    assert line.ready(2, "group", 1740.3) == (Attach(2),)


@given(
    st.lists(
        st.sampled_from(["ready", "fail", "refuse", "gone", "lose", "hear", "time", "quiet"]), min_size=1, max_size=60
    )
)
def test_at_most_two_sessions_and_always_a_way_on(steps: list[str]) -> None:
    line, now = lifeline(renew_seconds=50), 0.0
    alive: set[int] = set()

    def apply(actions: object) -> bool:
        if actions is None:
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

    apply(line.begin(CALL))
    for step in steps:
        newest = max(alive, default=0)
        match step:
            case "ready" if newest and newest != line.current:
                going_on = apply(line.ready(newest, "group", now))
            case "fail" | "refuse" | "gone" if newest and newest != line.current:
                alive.discard(newest)
                going_on = apply(line.lost(newest, now, retryable=step == "fail", forgotten=step == "gone"))
            case "lose" if line.current is not None:
                alive.discard(line.current)
                going_on = apply(line.lost(line.current, now, retryable=True))
            case "time" | "quiet":
                now = min(line.deadline, now + 20)
                going_on = apply(line.expire(now, quiet=step == "quiet"))
            case _:
                line.heard()
                going_on = True
        if not going_on:
            return
