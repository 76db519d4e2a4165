"""A call in Core's messages over raw audio: what `StreamLink` makes of each, on a stream that a test holds."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.core.link import SocketClosed, StreamLink
from sts_trio.core.wire import CallerAudio, Error, FromCore, Init, Interruption, PlayoutAudio, Transcript


@dataclass(eq=False)
class FakeStream:
    """A `CallerStream`: `chunks` is what the caller sends."""

    chunks: list[bytes] = field(default_factory=list)
    end: SocketClosed = field(default_factory=lambda: SocketClosed(1000))
    heard: list[bytes] = field(default_factory=list)
    closed: list[tuple[int, str]] = field(default_factory=list)

    async def receive(self) -> bytes | SocketClosed:
        await trio.lowlevel.checkpoint()
        return self.chunks.pop(0) if self.chunks else self.end

    async def send(self, pcm: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.heard.append(pcm)

    async def close(self, status: int = 200, message: str = "") -> None:
        await trio.lowlevel.checkpoint()
        self.closed.append((status, message))


async def receive_all(link: StreamLink) -> list[FromCore | SocketClosed]:
    got = [await link.receive()]
    while not isinstance(got[-1], SocketClosed):
        got.append(await link.receive())
    return got


@pytest.mark.parametrize("uuid", ["0b6f1f6e-54f0-4f6b-9a49-3d2a1f0c7e11", "unknown", None])
async def test_init_comes_first_and_says_what_the_request_said(uuid: str | None) -> None:
    link = StreamLink(FakeStream([b"x" * 320]), uuid)
    assert await receive_all(link) == [Init(uuid), CallerAudio(b"x" * 320), SocketClosed(1000)]


@pytest.mark.parametrize("code", [1000, 1006])
async def test_the_end_comes_after_all_audio_and_again_and_again(code: int) -> None:
    link = StreamLink(FakeStream([b"abc"], SocketClosed(code)), None)
    assert (await receive_all(link))[1:] == [CallerAudio(b"abc"), SocketClosed(code)]
    assert await link.receive() == SocketClosed(code)


@pytest.mark.parametrize("size", [160, 320, 321, 16_000])
async def test_an_ordinary_chunk_is_not_held_up(size: int) -> None:
    link = StreamLink(FakeStream([b"x" * size] * 3), None)
    assert (await receive_all(link))[1:-1] == [CallerAudio(b"x" * size)] * 3


async def test_crumbs_are_gathered() -> None:
    got = (await receive_all(StreamLink(FakeStream([b"x"] * 1000), None)))[1:-1]
    assert [len(message.audio) for message in got if isinstance(message, CallerAudio)] == [160] * 6 + [40]


@given(st.lists(st.binary(max_size=400), max_size=30))
def test_no_byte_is_lost_or_turned(chunks: list[bytes]) -> None:
    async def run() -> None:
        got = await receive_all(StreamLink(FakeStream(list(chunks)), None))
        assert b"".join(message.audio for message in got if isinstance(message, CallerAudio)) == b"".join(chunks)

    trio.run(run)


async def test_only_audio_has_a_way_to_go() -> None:
    stream = FakeStream()
    link = StreamLink(stream, None)
    for message in (PlayoutAudio(b"one"), Interruption(), Transcript("user", "x"), Error("x"), PlayoutAudio(b"two")):
        await link.send(message)
    assert stream.heard == [b"one", b"two"]
    assert stream.closed == []


@pytest.mark.parametrize(
    ("errors", "code", "closed"),
    [
        ([], 1000, (200, "")),
        (["the provider hiccupped"], 1000, (200, "")),
        ([], 1011, (500, "provider_failed")),
        (["first", "the key is wrong"], 1011, (500, "the key is wrong")),
        (["the service is stopping"], 1001, (503, "the service is stopping")),
        ([], 1001, (503, "provider_failed")),
        ([], 1008, (500, "provider_failed")),
    ],
)
async def test_the_close_says_what_ended_the_call(errors: list[str], code: int, closed: tuple[int, str]) -> None:
    """An error that ended nothing is no reason to fail at the end."""
    stream = FakeStream()
    link = StreamLink(stream, None)
    for error in errors:
        await link.send(Error(error))
    await link.close(code, "provider_failed")
    assert stream.closed == [closed]
