"""The messages between switch and workers: each comes back as it went, and texts in pages do."""

from __future__ import annotations

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.workers.wire import (
    MOST_TEXT_BYTES,
    PACKET_BYTES,
    PAGE_BYTES,
    Ask,
    Handed,
    Message,
    Others,
    Page,
    Reading,
    Report,
    Tell,
    decode,
    encode,
    pages,
)


@pytest.mark.parametrize(
    "message",
    [
        Handed(),
        Others(3, room=True),
        Tell(2**40),
        Report(live=1, places=2, silent=3, taken=2**40, ready=False, leaving=True),
        Ask(),
        Page(1, b"\x00" * PAGE_BYTES, last=False),
    ],
)
def test_a_message_is_one_packet_and_comes_back(message: Message) -> None:
    packet = encode(message)
    assert 0 < len(packet) < PACKET_BYTES
    assert decode(packet) == message


@given(st.binary(max_size=64))
def test_what_is_none_of_ours_is_an_error_of_msgspec(packet: bytes) -> None:
    with suppress(msgspec.DecodeError):
        assert isinstance(decode(packet), Message)


@pytest.mark.parametrize("size", [0, 1, PAGE_BYTES - 1, PAGE_BYTES, PAGE_BYTES + 1, 5 * PAGE_BYTES])
def test_a_text_comes_back_from_its_pages(size: int) -> None:
    text = bytes(number % 251 for number in range(size))
    reading = Reading()
    read = [reading.feed(page) for page in pages(1, text)]
    assert read[-1] == text
    assert set(read[:-1]) <= {None}


def test_a_text_that_never_ended_is_not_put_before_the_next() -> None:
    reading = Reading()
    first, *_ = pages(1, b"a" * (PAGE_BYTES + 1))
    assert reading.feed(first) is None
    assert reading.feed(Page(2, b"b", last=True)) == b"b"


def test_a_text_without_an_end_does_not_grow_for_ever() -> None:
    reading = Reading()
    for _ in range(3 * MOST_TEXT_BYTES // PAGE_BYTES):
        assert reading.feed(Page(1, bytes(PAGE_BYTES), last=False)) is None
        assert len(reading._data) <= MOST_TEXT_BYTES + PAGE_BYTES
