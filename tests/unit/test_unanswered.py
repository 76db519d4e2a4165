"""What the next session is told to say, by what the one before had heard and said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.call.actions import GoOn, KeepAudio, Say
from sts_trio.call.unanswered import Unanswered

if TYPE_CHECKING:
    from collections.abc import Callable

    from sts_trio.call.actions import Actions

STEPS: dict[str, Callable[[Unanswered], Actions | None]] = {
    "speaks": Unanswered.caller_speaks,
    "turn": lambda left: left.caller_turn(""),
    "turn with words": lambda left: left.caller_turn("Why?"),
    "words": lambda left: left.caller_words("Why?"),
    "agent": Unanswered.agent_speaks,
    "agent ends": Unanswered.agent_turn_end,
    "tool": lambda left: left.tool_answered((), now=True),
}
ANSWER, CONTINUE = (GoOn("Why?"),), (GoOn("Why?", cut_off=True),)


def after(*steps: str, greeting: str = "") -> Unanswered:
    left = Unanswered()
    left.greeting = greeting
    for step in steps:
        STEPS[step](left)
    return left


@pytest.mark.parametrize(
    ("steps", "again", "resume"),
    [
        ((), False, ()),
        (("speaks",), True, ()),
        (("speaks", "turn"), True, ()),
        (("speaks", "turn", "words"), False, ANSWER),
        (("speaks", "turn", "words", "agent"), False, CONTINUE),
        (("speaks", "turn", "words", "agent", "agent ends"), False, ()),
        (("speaks", "turn", "agent", "words"), False, (GoOn("", cut_off=True),)),
        (("speaks", "agent"), True, ()),
        (("turn with words",), False, ANSWER),
        (("turn with words", "agent", "speaks"), True, ()),
        (("turn with words", "tool"), False, (GoOn(""),)),
        (("turn with words", "agent", "tool"), False, (GoOn(""),)),
        (("turn with words", "tool", "agent", "agent ends"), False, ()),
        (("turn",), False, ()),
        (("words",), False, ()),
    ],
)
def test_what_is_left_to_be_said(steps: tuple[str, ...], again: bool, resume: Actions) -> None:
    left = after(*steps)
    assert (left.again, left.resume()) == (again, resume)


@pytest.mark.parametrize("step", [None, *STEPS])
def test_a_greeting_is_left_as_long_as_nobody_has_said_a_word(step: str | None) -> None:
    left = after(*([step] if step else []), greeting="Hello!")
    assert (Say("Hello!") in left.resume()) is (step in (None, "words", "agent ends", "tool"))


@given(st.lists(st.sampled_from(sorted(STEPS)), max_size=20))
def test_audio_is_kept_from_the_first_word_to_the_answer(steps: list[str]) -> None:
    left, keeps = Unanswered(), False
    for step in steps:
        for action in STEPS[step](left) or ():
            assert isinstance(action, KeepAudio)
            assert action.turn is not keeps, "told twice"
            keeps = action.turn
        assert keeps is left.again
    assert len(left.resume()) <= 1
