"""Cutting telephone audio."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sts_trio.audio.pcm import BYTES_PER_SECOND, FRAME_BYTES, FRAME_SECONDS, SampleAligner, pieces, seconds
from sts_trio.call.playout import PcmQueue


def test_a_frame_is_20_ms() -> None:
    assert seconds(FRAME_BYTES) == FRAME_SECONDS
    assert seconds(BYTES_PER_SECOND) == 1


@given(st.lists(st.binary(max_size=9), max_size=30))
def test_any_cutting_of_a_stream_gives_whole_samples_and_the_same_bytes(cut: list[bytes]) -> None:
    aligner = SampleAligner()
    out = [aligner.feed(piece) for piece in cut]
    stream = b"".join(cut)
    assert all(len(piece) % 2 == 0 for piece in out)
    assert b"".join(out) == stream[: len(stream) // 2 * 2]


def test_whole_samples_are_never_held_back() -> None:
    aligner = SampleAligner()
    assert aligner.feed(b"abc") == b"ab"
    assert aligner.feed(b"") == b""
    assert aligner.feed(b"d") == b"cd"
    assert aligner.feed(b"ef") == b"ef"


@given(st.binary(max_size=100), st.integers(1, 40))
def test_pieces_join_to_the_whole_and_only_the_last_may_be_short(data: bytes, size: int) -> None:
    parts = list(pieces(data, size))
    assert b"".join(parts) == data
    assert all(len(part) == size for part, _ in pairwise(parts))
    assert all(0 < len(part) <= size for part in parts)


def test_one_piece_is_not_copied() -> None:
    frame = bytes(range(256)) + bytes(64)
    assert next(pieces(frame)) is frame
    assert [len(part) for part in pieces(frame + b"ab")] == [FRAME_BYTES, 2]


@given(st.lists(st.tuples(st.integers(0, 40_000), st.integers(0, 40_000)), max_size=30))
def test_what_a_queue_gives_is_what_it_got_in_order(steps: list[tuple[int, int]]) -> None:
    queue, got, given_back, stamp = PcmQueue(), bytearray(), bytearray(), 0
    for size, taken in steps:
        stamp = (stamp + 1) % 256
        pcm = bytes([stamp]) * size
        got += pcm
        queue.append(pcm)
        left = queue.size
        piece = queue.take(taken)
        assert len(piece) == min(taken, left)
        given_back += piece
        assert queue.size == len(got) - len(given_back)
    assert given_back + queue.take(queue.size) == got


def test_a_queue_takes_the_memory_of_what_waits_and_no_more() -> None:
    queue = PcmQueue()
    tracemalloc.start()
    try:
        for _ in range(200 * 50):  # 200 s, 3.2 MB, in frames; a tenth leaves meanwhile
            queue.append(bytes(FRAME_BYTES))
            queue.take(FRAME_BYTES // 10)
        _, most = tracemalloc.get_traced_memory()
        assert most < 1.03 * queue.size
        queue.take(queue.size - FRAME_BYTES)
        left, _ = tracemalloc.get_traced_memory()
        assert left < 30_000
    finally:
        tracemalloc.stop()
