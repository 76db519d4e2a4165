"""Keys become entries: the end by `#`, by a pause, by fullness; nothing lost, nothing shown."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.call.dtmf import MOST_KEYS, Keypad, UnusableKeyError, describe

GAP = 1.5
ALL_KEYS = "0123456789*ABCD"


def typed(keypad: Keypad, keys: str, now: float = 0.0) -> list[str]:
    """Press keys at one moment; return the entries that came of it."""
    return [entry for key in keys if (entry := keypad.press(key, now)) is not None]


@pytest.mark.parametrize(
    ("keys", "entries"),
    [
        ("1234#", ["1234"]),
        ("#", ["#"]),
        ("##", ["#", "#"]),
        ("12#34#", ["12", "34"]),
        ("*#", ["*"]),
        ("0*9#", ["0*9"]),
        ("ABCD#", ["ABCD"]),
        ("abcd#", ["ABCD"]),
        ("1" * MOST_KEYS, ["1" * MOST_KEYS]),
        ("1" * MOST_KEYS + "#", ["1" * MOST_KEYS, "#"]),
        ("1" * MOST_KEYS + "2#", ["1" * MOST_KEYS, "2"]),
        ("123", []),
    ],
)
def test_a_hash_or_the_last_place_ends_an_entry(keys: str, entries: list[str]) -> None:
    assert typed(Keypad(GAP), keys) == entries


def test_a_pause_ends_an_entry_and_each_key_begins_it_anew() -> None:
    keypad = Keypad(GAP)
    assert keypad.deadline == inf
    assert keypad.expire(1e9) is None
    assert keypad.press("1", 10.0) is None
    assert keypad.deadline == 10.0 + GAP
    assert keypad.press("2", 11.0) is None
    assert keypad.deadline == 11.0 + GAP
    assert keypad.expire(11.0 + GAP - 0.001) is None
    assert keypad.expire(keypad.deadline) == "12"
    assert keypad.deadline == inf
    assert keypad.expire(1e9) is None


@pytest.mark.parametrize("last", ["#", "5"])
def test_an_entry_that_a_key_has_ended_has_no_deadline(last: str) -> None:
    keypad = Keypad(GAP)
    assert len(typed(keypad, "5" * (MOST_KEYS - 1) + last)) == 1
    assert keypad.deadline == inf


def test_a_key_that_comes_before_a_late_expiry_is_part_of_the_entry() -> None:
    keypad = Keypad(GAP)
    keypad.press("1", 0.0)
    assert keypad.press("2", 100.0) is None
    assert keypad.expire(100.0) is None
    assert keypad.expire(100.0 + GAP) == "12"


@pytest.mark.parametrize(
    "digit", ["", "12", "E", "e", "x", " ", "1 ", "\n", "²", "٣", "ⅸ", "#1", "\ud800", "1" * 10_000]
)
def test_a_key_that_no_telephone_has_changes_nothing_and_is_not_repeated(digit: str) -> None:
    keypad = Keypad(GAP)
    keypad.press("7", 0.0)
    with pytest.raises(UnusableKeyError) as info:
        keypad.press(digit, 1.0)
    assert str(info.value) == "a key that is none of 0-9, *, #, A-D"
    assert keypad.deadline == GAP
    assert keypad.expire(GAP) == "7"


def test_what_waits_is_counted_but_not_shown() -> None:
    keypad = Keypad(GAP)
    typed(keypad, "8675309")
    assert repr(keypad) == "Keypad(7 keys wait)"


@pytest.mark.parametrize(
    ("digits", "line"),
    [
        ("123", "(The caller pressed 1 2 3 on the telephone keypad.)"),
        ("#", "(The caller pressed # on the telephone keypad.)"),
        ("*9A", "(The caller pressed * 9 A on the telephone keypad.)"),
    ],
)
def test_an_entry_is_told_key_by_key(digits: str, line: str) -> None:
    assert describe(digits) == line


pauses = st.sampled_from([0.0, 0.1, GAP - 0.01, GAP, GAP + 0.01, 60.0])


@given(st.lists(st.tuples(pauses, st.sampled_from(ALL_KEYS + "abcd#") | st.characters())))
def test_every_usable_key_comes_out_once_and_in_order(presses: list[tuple[float, str]]) -> None:
    keypad = Keypad(GAP)
    now, last = 0.0, inf
    pressed, entries = "", []
    for pause, key in presses:
        now += pause
        if (entry := keypad.expire(now)) is not None:
            assert now >= last + GAP
            entries.append(entry)
        try:
            entry = keypad.press(key, now)
        except UnusableKeyError:
            assert key.upper() not in ALL_KEYS
            continue
        last = now
        pressed += key.upper()
        if entry is not None:
            entries.append(entry)
            assert keypad.deadline == inf
        else:
            assert keypad.deadline == now + GAP
    if (entry := keypad.expire(inf)) is not None:
        entries.append(entry)
    assert "".join(entries).replace("#", "") == pressed.replace("#", "")
    assert all(entry == "#" or (0 < len(entry) <= MOST_KEYS and "#" not in entry) for entry in entries)
    assert keypad.deadline == inf


def test_a_key_that_is_told_at_once_is_told_again_only_with_more() -> None:
    keypad = Keypad(1.5)
    assert keypad.press("1", 0.0, at_once=True) == "1"
    assert not keypad.expire(1.5)
    assert keypad.deadline == inf
    assert keypad.press("1", 2.0, at_once=True) == "1"
    assert keypad.press("2", 2.5) is None
    assert keypad.expire(4.0) == "12"
    assert keypad.press("1", 5.0, at_once=True) == "1"
    assert not keypad.press("#", 5.5), "the end of what has been told"
    assert keypad.press("1", 6.0, at_once=True) == "1"
    assert keypad.press("#", 6.5, at_once=True) == "#", "something is told, since the agent was stopped"
    assert keypad.press("#", 7.0) == "#"
