"""Scores of user turns: what is strongest, how the rolling view moves, and when an operator's rules fire."""

from __future__ import annotations

from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.call.emotions import LONGEST_NAME, MOST_EMOTIONS, EmotionWatch, Mood, strongest
from sts_trio.settings.calls import EmotionRule

ANGER = EmotionRule("Anger", 0.6, turns=2, tool="dsai_transfer", arguments='{"transfer_extension":"2000"}')
DISTRESS = EmotionRule("Distress", 0.5, turns=3, webhook="http://crm/alert")

Scores = dict[str, float]
names = st.sampled_from(["Anger", "ANGER", "Joy", "Distress", "", "x" * 65]) | st.text(max_size=70)
anything = st.dictionaries(names, st.floats() | st.floats(0, 1), max_size=100)


# The strongest.


@pytest.mark.parametrize(
    ("scores", "most", "expected"),
    [
        ({"Joy": 0.2, "Anger": 0.91234, "Fear": 0.5}, 2, {"Anger": 0.912, "Fear": 0.5}),
        ({"Joy": 0.2}, 3, {"Joy": 0.2}),
        ({"Joy": 0.2}, 0, {}),
        ({}, 3, {}),
        ({"B": 0.5, "A": 0.5, "C": 0.5}, 2, {"B": 0.5, "A": 0.5}),
        ({"Joy": -0.001, "Fear": -0.0}, 3, {"Joy": 0.0, "Fear": 0.0}),
        ({"Joy": nan, "Fear": inf, "Pain": -inf, "Awe": 0.1}, 3, {"Awe": 0.1}),
        ({"Joy": 1.5}, 3, {"Joy": 1.0}),
        ({"": 0.5, "x" * 64: 0.4, "y" * 65: 0.9}, 3, {"x" * 64: 0.4}),
    ],
)
def test_the_strongest_come_first_cleaned_and_rounded(scores: Scores, most: int, expected: Scores) -> None:
    got = strongest(scores, most)
    assert list(got.items()) == list(expected.items())
    assert "-" not in str(list(got.values()))


@given(anything, st.integers(0, 10))
def test_the_strongest_are_few_falling_and_within_bounds(scores: Scores, most: int) -> None:
    got = strongest(scores, most)
    values = list(got.values())
    assert len(got) <= most
    assert values == sorted(values, reverse=True)
    assert all(0 <= value <= 1 and value == round(value, 3) for value in values)
    left_out = [min(max(score, 0), 1) for name, score in scores.items() if name in strongest(scores, 200).keys() - got]
    assert all(score <= min(values, default=1) + 0.0005 for score in left_out)


# The rolling view.


def test_the_rolling_view_is_a_mean_that_favours_the_newest_turn() -> None:
    mood = Mood()
    assert mood.strongest(3) == {}
    mood.feed({"Anger": 0.5, "Joy": 0.1})
    assert mood.strongest(3) == {"Anger": 0.5, "Joy": 0.1}
    mood.feed({"Anger": 1.0, "Fear": 0.5})
    assert mood.strongest(3) == {"Anger": 0.7, "Fear": 0.2, "Joy": 0.06}
    assert mood.strongest(1) == {"Anger": 0.7}


@pytest.mark.parametrize("silent", [{}, {"Anger": nan}, {"": 0.5}])
def test_a_turn_without_usable_scores_leaves_the_rolling_view_alone(silent: Scores) -> None:
    mood = Mood()
    mood.feed(silent)
    mood.feed({"Anger": 0.5})
    mood.feed(silent)
    assert mood.strongest(3) == {"Anger": 0.5}


def test_of_too_many_emotions_the_strongest_are_kept() -> None:
    mood = Mood()
    mood.feed({f"e{number}": number / 1000 for number in range(1000)})
    kept = mood.strongest(1000)
    assert list(kept) == [f"e{number}" for number in range(999, 999 - MOST_EMOTIONS, -1)]


@given(st.lists(anything, max_size=6))
def test_the_rolling_view_stays_within_what_was_heard(turns: list[Scores]) -> None:
    mood = Mood()
    for scores in turns:
        mood.feed(scores)
    heard: Scores = {}
    for scores in turns:
        for name, score in strongest(scores, 200).items():
            heard[name] = max(score, heard.get(name, 0.0))
    kept = mood.strongest(1000)
    assert len(kept) <= MOST_EMOTIONS
    assert all(0 < len(name) <= LONGEST_NAME and mean <= heard[name] + 0.001 for name, mean in kept.items())


@given(st.floats(0, 1), st.integers(1, 20))
def test_what_never_changes_is_its_own_mean(score: float, turns: int) -> None:
    mood = Mood()
    for _ in range(turns):
        mood.feed({"Calmness": score})
    assert mood.strongest(1)["Calmness"] == pytest.approx(score, abs=0.0006)


# The rules.


def fired(rules: list[EmotionRule], turns: list[Scores]) -> list[tuple[EmotionRule, ...]]:
    watch = EmotionWatch(rules)
    return [watch.feed(scores) for scores in turns]


HOT, COLD, OTHER, TYPED = {"Anger": 0.61}, {"Anger": 0.6}, {"Joy": 0.9}, dict[str, float]()


@pytest.mark.parametrize(
    ("turns", "at"),
    [
        ([HOT, HOT], 1),
        ([HOT, HOT, HOT, HOT, HOT], 1),
        ([HOT], None),
        ([COLD, COLD, COLD], None),
        ([HOT, COLD, HOT, HOT], 3),
        ([HOT, OTHER, HOT], None),
        ([HOT, {"Anger": nan, "Joy": 0.1}, HOT], None),
        ([HOT, TYPED, TYPED, HOT], 3),
        ([HOT, {"Anger": nan}, HOT], 2),
        ([TYPED, TYPED], None),
        ([{"anger": 0.7}, {"ANGER": 0.7}], 1),
        ([{"anger": 0.7, "Anger": 0.1}, {"Anger": 0.1, "anger": 0.7}], 1),
        ([{"Anger": inf, "Joy": 0.1}, HOT], None),
    ],
)
def test_a_rule_fires_once_after_its_turns_in_a_row(turns: list[Scores], at: int | None) -> None:
    assert fired([ANGER], turns) == [(ANGER,) if number == at else () for number in range(len(turns))]


def test_rules_are_watched_each_for_itself_and_fire_in_the_operators_order() -> None:
    sad = {"Anger": 0.7, "Distress": 0.6}
    again = EmotionRule("anger", 0.1, turns=3, webhook="http://crm/other")
    assert fired([again, DISTRESS, ANGER], [sad, sad, sad, sad]) == [(), (ANGER,), (again, DISTRESS), ()]


def test_a_rule_of_one_turn_fires_with_it_and_two_equal_rules_both_fire() -> None:
    at_once = EmotionRule("Anger", 0.0, turns=1, tool="note")
    assert fired([at_once, at_once], [{"Anger": 0.0}, {"Anger": 0.01}, HOT]) == [(), (at_once, at_once), ()]


def test_without_rules_nothing_fires() -> None:
    assert fired([], [HOT, HOT, HOT]) == [(), (), ()]


@given(st.lists(st.sampled_from([HOT, COLD, OTHER, TYPED]) | anything, max_size=12), st.integers(1, 4))
def test_a_rule_fires_where_a_plain_count_says_so(turns: list[Scores], needed: int) -> None:
    rule = EmotionRule("Anger", 0.6, turns=needed, tool="t")
    row, expected, done = 0, [], False
    for scores in turns:
        if strongest(scores, 1):
            usable = [score for name, score in scores.items() if name.casefold() == "anger" and abs(score) < inf]
            row = row + 1 if max(usable, default=0) > 0.6 else 0
        expected.append(row >= needed and not done and bool(strongest(scores, 1)))
        done = done or expected[-1]
    assert [bool(rules) for rules in fired([rule], turns)] == expected
