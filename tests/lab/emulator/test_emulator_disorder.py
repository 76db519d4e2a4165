"""Late, swapped and doubled chunks, delay and jitter, with no connection and no clock."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.lab.emulator.chat import Flush, Item, Late, Say
from sts_trio.lab.emulator.evi.wire import AssistantEnd, AssistantProsody, AudioOutput, Models, UserInterruption
from sts_trio.lab.emulator.outbox import MAX_WAITING, DelayLine, Outbox, disturbed
from sts_trio.lab.emulator.steps import DoubledChunks, LateChunks, SendRaw, SwappedChunks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sts_trio.lab.emulator.faults import Disorder


def chunk(index: int) -> AudioOutput:
    return AudioOutput(id="a", index=index, data=b"")


def turn(chunks: int) -> Iterator[tuple[float, Item]]:
    for index in range(chunks):
        yield index * 0.1, chunk(index)
    yield chunks * 0.1, AssistantProsody(id="a", models=Models())
    yield chunks * 0.1, AssistantEnd()


def shown(item: Item) -> str:
    match item:
        case AudioOutput(index=index):
            return str(index)
        case Late(AudioOutput(index=index)):
            return f"late {index}"
        case _:
            return type(item).__name__[9:].lower()


@pytest.mark.parametrize(
    ("disorder", "chunks", "order"),
    [
        (LateChunks(count=2), 4, "0, 1, prosody, end, late 2, late 3"),
        (LateChunks(count=9), 2, "prosody, end, late 0, late 1"),
        (SwappedChunks(), 4, "1, 0, 3, 2, prosody, end"),
        (SwappedChunks(), 3, "1, 0, 2, prosody, end"),
        (DoubledChunks(), 2, "0, 0, 1, 1, prosody, end"),
        (LateChunks(), 0, "prosody, end"),
        (SwappedChunks(), 0, "prosody, end"),
    ],
)
def test_a_reply_comes_in_disorder(disorder: Disorder, chunks: int, order: str) -> None:
    assert ", ".join(shown(item) for _, item in disturbed(turn(chunks), disorder)) == order


@given(
    st.lists(st.sampled_from([LateChunks(), LateChunks(count=5), SwappedChunks(), DoubledChunks()]), max_size=4),
    st.integers(0, 12),
)
def test_no_disorder_loses_a_chunk_or_goes_back_in_time(disorders: list[Disorder], chunks: int) -> None:
    disturbed_turn = turn(chunks)
    for disorder in disorders:
        disturbed_turn = disturbed(disturbed_turn, disorder)
    times, items = [], []
    for at, item in disturbed_turn:
        times.append(at)
        items.append(getattr(item.chunk if isinstance(item, Late) else item, "index", None))
    assert times == sorted(times)
    copies = 2 ** disorders.count(DoubledChunks())
    assert sorted(index for index in items if index is not None) == sorted(list(range(chunks)) * copies)


def test_an_interruption_lets_the_next_chunks_come_after_it() -> None:
    box = Outbox(speed=1.0)
    box.disturb(LateChunks(count=2, by=0.5))
    box.put([Say(turn(6))])
    assert shown(box.pop(0.0) or AssistantEnd()) == "0"
    box.due(0.0)
    interruption = UserInterruption(time=0)
    box.put([Flush(), interruption])
    assert [box.pop(0.0) for _ in range(4)] == [interruption, Late(chunk(1), 0.5), Late(chunk(2), 0.5), None]


def test_a_reply_that_is_being_sent_is_disturbed_from_there_on() -> None:
    box = Outbox(speed=math.inf)
    box.put([Say(turn(3))])
    assert box.pop(0.0) == chunk(0)
    box.disturb(DoubledChunks())
    assert [box.pop(0.0) for _ in range(4)] == [chunk(1), chunk(1), chunk(2), chunk(2)]


def words(text: str) -> SendRaw:
    return SendRaw(0, text)


def test_a_line_delays_and_only_late_ones_are_overtaken() -> None:
    line = DelayLine(np.random.default_rng(1))
    line.put(words("a"), 0.0)
    assert (line.due, line.pop(0.0), line.due) == (0.0, words("a"), math.inf)
    line.delay(1.0, 0.0)
    line.put(Late(chunk(0), 0.5), 1.0)
    line.put(words("b"), 1.2)
    assert [line.pop(2.1), line.pop(2.2), line.pop(2.4), line.pop(2.5)] == [None, words("b"), None, chunk(0)]
    line.put(words("c"), 3.0)
    line.delay(0.0, 0.0)
    line.put(words("d"), 3.1)
    assert [line.pop(3.9), line.pop(4.0), line.pop(4.0)] == [None, words("c"), words("d")]


def test_jitter_is_bounded_random_and_the_same_for_the_same_seed() -> None:
    def arrivals(seed: int) -> list[float]:
        line = DelayLine(np.random.default_rng(seed))
        line.delay(0.1, 0.05)
        times = []
        for number in range(200):
            line.put(words(str(number)), float(number))
            times.append(line.due - number)
            assert line.pop(line.due) == words(str(number))
        return times

    assert arrivals(1) == arrivals(1) != arrivals(2)
    assert min(arrivals(1)) >= 0.1
    assert max(arrivals(1)) <= 0.15
    assert np.std(arrivals(1)) > 0.01


@given(st.lists(st.floats(0, 0.02), max_size=50))
def test_jitter_never_changes_the_order(gaps: list[float]) -> None:
    line = DelayLine(np.random.default_rng(3))
    line.delay(0.0, 0.5)
    now = 0.0
    for number, gap in enumerate(gaps):
        now += gap
        line.put(words(str(number)), now)
    assert [line.pop(math.inf) for _ in gaps] == [words(str(number)) for number in range(len(gaps))]


def test_what_is_on_its_way_is_bounded() -> None:
    line = DelayLine(np.random.default_rng(1))
    for _ in range(MAX_WAITING):
        assert not line.full
        line.put(words("a"), 0.0)
    assert line.full
