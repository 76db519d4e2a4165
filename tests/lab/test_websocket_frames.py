"""The load's own WebSocket framing, held against wsproto's; and its timers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, Ping, TextMessage

from sts_trio.lab.load.socket_loop import TimerHeap
from sts_trio.lab.websocket import BINARY, PING, TEXT, ClientFramer, FrameReader, FramingError, Message, encode_frame

sizes = st.one_of(st.integers(0, 200), st.sampled_from([125, 126, 65_535, 65_536, 70_000]))


@given(sizes, st.binary(min_size=4, max_size=4))
def test_wsproto_reads_what_a_client_and_a_server_of_ours_write(size: int, key: bytes) -> None:
    data = (bytes(range(256)) * (size // 256 + 1))[:size]
    for kind, frame in (
        (ConnectionType.SERVER, ClientFramer(key).encode(BINARY, data)),
        (ConnectionType.CLIENT, encode_frame(BINARY, data)),
    ):
        peer = Connection(kind)
        peer.receive_data(frame)
        assert b"".join(bytes(event.data) for event in peer.events() if isinstance(event, BytesMessage)) == data


@given(st.lists(sizes, max_size=4), st.lists(st.integers(1, 5000), max_size=20), st.booleans())
def test_what_wsproto_writes_is_read_in_pieces_of_any_size(
    messages: list[int], pieces: list[int], masked: bool
) -> None:
    peer = Connection(ConnectionType.CLIENT if masked else ConnectionType.SERVER)
    data = b"".join(peer.send(TextMessage("x" * size)) for size in messages)
    reader, heard, at = FrameReader(), [], 0
    for piece in [*pieces, len(data)]:
        heard += list(reader.feed(data[at : at + piece]))
        at += piece
    assert heard == [Message(TEXT, b"x" * size) for size in messages]


def test_a_message_in_fragments_is_one_with_a_ping_between_them() -> None:
    peer = Connection(ConnectionType.SERVER)
    data = peer.send(TextMessage("one, ", message_finished=False)) + peer.send(Ping(b"!"))
    data += peer.send(TextMessage("two"))
    assert list(FrameReader().feed(data)) == [Message(PING, b"!"), Message(TEXT, b"one, two")]


@pytest.mark.parametrize("data", [b"\xc1\x00", b"\x82\x7f" + b"\x00\x00\x00\x01" + bytes(4), b"HTTP/1.1 400 Bad"])
def test_what_is_no_websocket_frame_ends_it(data: bytes) -> None:
    with pytest.raises(FramingError):
        list(FrameReader().feed(data))


def test_a_wheel_acts_in_order_of_time_and_says_how_long_until_the_next() -> None:
    now, told = [100], []
    timers = TimerHeap(clock=lambda: now[0])

    def every_fifty(at: int) -> int | None:
        told.append(("again", at))
        return at + 50 if len(told) < 4 else None

    timers.add(130, lambda at: told.append(("once", at)))
    timers.add(120, every_fifty)
    assert timers.turn() == 20
    now[0] = 130
    assert timers.turn() == 50
    now[0] = 200
    assert timers.turn() == 50
    assert told == [("again", 130), ("once", 130), ("again", 200)]
    assert timers.late.largest == pytest.approx(20e-9)
