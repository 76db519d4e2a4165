"""A provider's frames, however they are cut: fragments joined, what is too large passed over, nothing kept of it."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.websocket.frames import BINARY, PING, PONG, TEXT, TokenBucket, frame
from sts_trio.websocket.lenient import LARGE_BYTES, MOST_FRAGMENTS, LenientParser, PassedOver

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST = 3 * LARGE_BYTES
ON, END = 0x00, 0x80  # a continuation, and the last one
BEGUN, BEGUN_BINARY = TEXT & 0x7F, BINARY & 0x7F
AUDIO = b'{"type":"audio",'


def parser(rate: float = inf, burst: float = inf) -> LenientParser:
    return LenientParser(most=MOST, fits=lambda head: b'"audio"' in head, pace=TokenBucket(rate, burst, 0.0))


def fed(data: bytes, size: int = 2**14) -> tuple[list[str | bytes], bytes, LenientParser]:
    """All that comes of `data`, which comes in pieces of `size` bytes."""
    read, messages, others = parser(1e9, 1e9), [], b""
    for start in range(0, len(data), size):
        found, more = read.feed(data[start : start + size])
        messages += found
        others += more
    return messages, others, read


def shown(messages: Iterable[str | bytes]) -> list[object]:
    return [("passed over", each.size) if isinstance(each, PassedOver) else each for each in messages]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_fragments_are_joined_and_pings_may_stand_between(size: int) -> None:
    data = (
        frame(BEGUN, b"be") + frame(PING, b"a") + frame(ON, b"") + frame(END, "gün".encode()) + frame(TEXT, b"x")
        + frame(BEGUN_BINARY, b"\x01") + frame(PONG, b"b") + frame(END, b"\x02") + frame(BINARY, b"")
    )  # fmt: skip
    messages, others, read = fed(data, size)
    assert messages == ["begün", "x", b"\x01\x02", b""]
    assert others == frame(PING, b"a") + frame(PONG, b"b")
    assert not read.closed


@given(st.lists(st.tuples(st.binary(max_size=300), st.integers(1, 9)), max_size=6), st.integers(1, 50))
def test_however_it_is_cut_the_same_comes_out(said: list[tuple[bytes, int]], size: int) -> None:
    data = b""
    for payload, parts in said:
        step = max(len(payload) // parts, 1)
        pieces = [payload[start : start + step] for start in range(0, len(payload), step)] or [b""]
        for number, piece in enumerate(pieces):
            last = number == len(pieces) - 1
            data += frame((0 if number else BEGUN_BINARY) | (0x80 if last else 0), piece)
    assert fed(data, size)[0] == [payload for payload, _ in said]


def test_text_that_is_no_utf8_is_mended() -> None:
    assert fed(frame(TEXT, b"a\xffb") + frame(BEGUN, b"\xc3") + frame(END, b"\xa4\xed\xa0\xbd"))[0][0] == "a\ufffdb"
    assert fed(frame(BEGUN, b"\xc3") + frame(END, b"\xa4"))[0] == ["ä"]


@pytest.mark.parametrize("size", [100, 2**14])
@pytest.mark.parametrize(
    ("payload", "kept"),
    [
        (b"x" * LARGE_BYTES, True),
        (b"x" * (LARGE_BYTES + 1), False),
        (AUDIO + b"x" * LARGE_BYTES, True),
        (b"x" * 2000 + AUDIO + b"x" * LARGE_BYTES, False),
        (AUDIO + b"x" * MOST, False),
    ],
)
def test_of_large_messages_only_audio_is_kept(payload: bytes, kept: bool, size: int) -> None:
    expected = [payload.decode() if kept else ("passed over", len(payload)), "after"]
    messages, _, read = fed(frame(TEXT, payload) + frame(TEXT, b"after"), size)
    assert shown(messages) == expected
    assert not read.closed


@pytest.mark.parametrize(("head", "kept"), [(AUDIO, True), (b"{", False)])
def test_the_same_in_fragments(head: bytes, kept: bool) -> None:
    pieces = [head] + [b"x" * 10_000] * 40
    data = frame(BEGUN, pieces[0]) + b"".join(frame(ON, piece) for piece in pieces[1:]) + frame(END, b"")
    messages, _, _ = fed(data + frame(TEXT, b"after"))
    assert messages[-1] == "after"
    assert (messages[0] == b"".join(pieces).decode()) is kept
    assert isinstance(messages[0], PassedOver) is not kept
    assert len(messages) == 2


def test_fragments_without_end_are_passed_over_and_keep_nothing() -> None:
    read = parser(1e9, 1e9)
    read.feed(frame(BEGUN, b""))
    messages = [each for _ in range(50) for each in read.feed(frame(ON, b"x") * 1000)[0]]
    assert shown(messages) == [("passed over", MOST_FRAGMENTS)]
    assert len(read._parts) == 0
    assert read.feed(frame(END, b"") + frame(TEXT, b"after"))[0] == ["after"]


@pytest.mark.parametrize(
    "wrong",
    [
        frame(END, b"of nothing"),
        frame(ON, b"of nothing"),
        frame(0x83, b"an unknown kind"),
        frame(TEXT | 0x40, b"a reserved bit"),
        frame(0x88, b"\x03\xe8"),
        frame(PING, b"x" * 126),
        frame(BEGUN, b"a") + frame(TEXT, b"another"),
        b"\x81\x85maskhello",
    ],
)
def test_what_breaks_the_protocol_is_the_librarys_with_all_that_follows(wrong: bytes) -> None:
    messages, others, read = fed(frame(TEXT, b"before") + wrong + frame(TEXT, b"after"))
    assert messages == ["before"]
    assert read.closed
    assert others.endswith(frame(TEXT, b"after"))


def test_who_sends_too_much_is_read_later() -> None:
    read = parser(rate=100, burst=1000)
    read.feed(frame(TEXT, b"") * 900, 0.0)
    assert read.rest_until == -inf
    read.feed(frame(PONG, b"") * 600, 1.0)
    assert read.rest_until == pytest.approx(5.0, abs=0.1)
    read.feed(frame(TEXT, b""), 10.0)
    assert read.rest_until == -inf
