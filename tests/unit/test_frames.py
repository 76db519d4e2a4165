"""Plain messages out of a byte stream: nothing lost, doubled or reordered, and all else left to the library."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.utilities import ProtocolError

from sts_trio.websocket.frames import (
    BINARY,
    PING,
    PONG,
    TEXT,
    ClientFramer,
    Flood,
    FrameParser,
    TokenBucket,
    frame,
    mask,
)

MOST = 70_000
CONTINUATION, CLOSE = 0x80, 0x88

sizes = st.sampled_from([0, 1, 124, 125, 126, 127, 320, 65_535, 65_536])
texts = sizes.map(lambda size: ("ä" * (size // 2) + "x" * (size % 2)).encode())
plain = st.one_of(
    st.tuples(st.just(TEXT), texts),
    st.tuples(st.just(BINARY), sizes.map(lambda size: bytes(range(256)) * (size // 256 + 1))),
)
controls = st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125))
fragments = st.sampled_from(
    [((TEXT & 0x7F, b"be"), (CONTINUATION, b"gun")), ((BINARY & 0x7F, b"\1"), (CONTINUATION, b""))]
)
wrong = st.sampled_from(
    [
        (TEXT, b"\xff\xfe"),  # no UTF-8
        (CONTINUATION, b"of nothing"),
        (0x83, b"an unknown kind"),
        (TEXT | 0x40, b"a reserved bit"),
        (PING, b"x" * 126),
        (PING & 0x7F, b"a ping in parts"),
        (CLOSE, (1000).to_bytes(2) + b"bye"),
        (CLOSE, b""),
    ]
)
conversations = st.lists(
    st.one_of(
        plain.map(lambda one: (one,)), controls.map(lambda one: (one,)), fragments, wrong.map(lambda one: (one,))
    ),
    max_size=8,
).map(lambda groups: [one for group in groups for one in group])


def built(frames: list[tuple[int, bytes]], *, masked: bool) -> bytes:
    make = ClientFramer().frame if masked else frame
    return b"".join(make(kind, payload) for kind, payload in frames)


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:stop] for start, stop in pairwise(at)]


class Library:
    """wsproto, as the peer of a conversation: what it makes of the bytes it is given."""

    def __init__(self, *, masked: bool) -> None:
        self.heard: list[object] = []
        self._connection = Connection(ConnectionType.SERVER if masked else ConnectionType.CLIENT)
        self._message: str | bytes | None = None

    def feed(self, data: bytes) -> None:
        if self._connection.state is not ConnectionState.OPEN:
            return
        try:
            self._connection.receive_data(data)
            for event in self._connection.events():
                self._take(event)
        except ProtocolError:
            self.heard.append("an error")

    def _take(self, event: object) -> None:
        if isinstance(event, TextMessage | BytesMessage):
            data = event.data if isinstance(event, TextMessage) else bytes(event.data)
            self._message = data if self._message is None else self._message + data  # type: ignore[operator]  # of one kind
            if event.message_finished:
                self.heard.append(self._message)
                self._message = None
        elif isinstance(event, Ping | Pong):
            self.heard.append((type(event).__name__, bytes(event.payload)))
        elif isinstance(event, CloseConnection):
            self.heard.append(("close", int(event.code), event.reason))


@given(conversations, st.lists(st.integers(0, 2**20), max_size=12), st.booleans())
def test_beside_the_fast_path_the_library_hears_what_it_would_alone(
    frames: list[tuple[int, bytes]], cuts: list[int], masked: bool
) -> None:
    """The oracle is wsproto, given everything. Pings may be answered before messages that came with them: no matter."""
    alone, beside, parser = Library(masked=masked), Library(masked=masked), FrameParser(masked=masked, most=MOST)
    passed: list[object] = []
    for piece in cut(built(frames, masked=masked), cuts):
        alone.feed(piece)
        messages, others = parser.feed(piece)
        passed += messages
        beside.feed(others)
    together = passed + [one for one in beside.heard if not is_control(one)]
    assert together == [one for one in alone.heard if not is_control(one)]
    assert [one for one in beside.heard if is_control(one)] == [one for one in alone.heard if is_control(one)]


def is_control(heard: object) -> bool:
    return isinstance(heard, tuple) and heard[0] in ("Ping", "Pong")


@given(st.lists(plain, max_size=6), st.lists(st.integers(0, 2**20), max_size=12), st.booleans())
def test_plain_messages_never_reach_the_library(frames: list[tuple[int, bytes]], cuts: list[int], masked: bool) -> None:
    parser = FrameParser(masked=masked, most=MOST)
    heard: list[str | bytes] = []
    for piece in cut(built(frames, masked=masked), cuts):
        messages, others = parser.feed(piece)
        assert others == b""
        heard += messages
    assert heard == [payload.decode() if kind == TEXT else payload for kind, payload in frames]
    assert not parser.closed


@pytest.mark.parametrize(
    "data",
    [
        frame(TEXT, b"x" * (MOST + 1)),
        b"\x81\x7e\x00\x05hello",  # a length with more bytes than it needs (RFC 6455, 5.2)
        b"\x81\x7f" + (5).to_bytes(8) + b"hello",
        b"\x81\x7f" + (1 << 63).to_bytes(8),
        ClientFramer().frame(TEXT, b"masked, by a server"),
    ],
    ids=["too long", "padded 16", "padded 64", "endless", "masked"],
)
def test_what_is_not_plain_is_left_to_the_library_from_its_first_byte(data: bytes) -> None:
    parser = FrameParser(masked=False, most=MOST)
    before = frame(TEXT, b"before")
    heard: list[str | bytes] = []
    seen = b""
    for byte in before + data + before:
        messages, others = parser.feed(bytes([byte]))
        heard += messages
        seen += others
    assert (heard, seen, parser.closed) == (["before"], data + before, True)


def test_a_client_that_does_not_mask_is_left_to_the_library() -> None:
    parser = FrameParser(masked=True, most=MOST)
    assert parser.feed(frame(TEXT, b"plain")) == ([], frame(TEXT, b"plain"))


@given(st.binary(max_size=700), st.binary(min_size=4, max_size=4))
def test_masking_is_what_the_rfc_says_and_its_own_inverse(payload: bytes, key: bytes) -> None:
    masked = mask(payload, key)
    assert masked == bytes(byte ^ key[number % 4] for number, byte in enumerate(payload))
    assert mask(masked, key) == payload


def test_no_key_of_a_client_is_used_twice_in_a_row() -> None:
    masks = ClientFramer()
    keys = [masks.frame(BINARY, b"")[2:] for _ in range(500)]
    assert len(set(keys)) == len(keys)


@given(st.lists(plain, min_size=1, max_size=4))
def test_what_a_server_sends_the_library_of_a_client_understands(frames: list[tuple[int, bytes]]) -> None:
    library = Library(masked=False)
    library.feed(built(frames, masked=False))
    assert library.heard == [payload.decode() if kind == TEXT else payload for kind, payload in frames]


def test_the_limit_counts_each_message_and_each_kib_also_of_frames_that_are_not_complete() -> None:
    parser = FrameParser(masked=False, most=MOST)
    parser.limit = TokenBucket(2.0, 2.5, 0.0)
    message = frame(BINARY, bytes(2048 - 4))
    assert parser.feed(message[:1024], 0.0) == ([], b"")  # one KiB
    with pytest.raises(Flood):
        parser.feed(message[1024:], 0.0)  # a KiB and a message; 1.5 units are left, and lost
    assert parser.feed(frame(BINARY, b""), 1.0) == ([b""], b"")
