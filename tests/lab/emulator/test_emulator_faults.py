"""Each fault against a real client, in memory and in mock time; then when, and on which connections, they come."""

from __future__ import annotations

import base64
import math
import wave
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import trio
import trio.testing
from trio_websocket import ConnectionClosed

from sts_trio.lab.emulator import (
    CloseWith,
    Cut,
    Delay,
    DoubledChunks,
    Drop,
    Fault,
    HalfOpen,
    LateChunks,
    Mute,
    NoMetadata,
    Refuse,
    Reset,
    ResetInFrame,
    Script,
    SendBinary,
    SendError,
    SendGarbage,
    SendJunk,
    SendRaw,
    SlowHandshake,
    SlowReader,
    SwappedChunks,
    serve_stream,
)
from tests.lab.emulator.evi_client import (
    PHONE,
    EviClient,
    faulty,
    open_chat,
    read_to_end,
    read_wav,
    refused,
    silence,
    tone,
)

if TYPE_CHECKING:
    from trio.testing import MockClock

UPGRADE = (
    b"GET /chat?api_key=k HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
WEATHER = [{"type": "function", "name": "weather", "parameters": "{}"}]


def indices(client: EviClient) -> list[int]:
    return [message["index"] for message in client.all("audio_output")]


async def on_the_wire(*faults: Fault) -> bytes:
    """All bytes of a chat without metadata, after the upgrade."""
    ours, theirs = trio.testing.memory_stream_pair()
    await ours.send_all(UPGRADE)
    await serve_stream(faulty(NoMetadata(), *faults), theirs)
    got = b""
    while data := await ours.receive_some():
        got += bytes(data)
    return got.partition(b"\r\n\r\n")[2]


# --- instead of a chat ---


@pytest.mark.parametrize("reset", [True, False])
async def test_a_connection_is_dropped_at_once(reset: bool, autojump_clock: MockClock) -> None:
    served = faulty(Drop(reset=reset, connections=0))
    ours, theirs = trio.testing.memory_stream_pair()
    await ours.send_all(UPGRADE)
    await serve_stream(served, theirs)
    assert await ours.receive_some() == b""
    assert (served.refused, served.faults) == (1, {"drop": 1})
    async with open_chat(served) as client:
        await client.wait("chat_metadata")


@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 404, 410, 429, 500, 502, 503, 599])
async def test_any_status_can_be_the_answer(status: int, autojump_clock: MockClock) -> None:
    served = faulty(Refuse(status, '{"m":1}', {"Retry-After": "7"}))
    refusal = await refused(served)
    assert (refusal.status_code, refusal.body) == (status, b'{"m":1}')
    assert (b"retry-after", b"7") in (refusal.headers or ())
    assert (served.refused, served.faults, served.sessions) == (1, {"status": 1}, ())


async def test_a_mute_handshake_says_nothing_until_the_client_leaves(autojump_clock: MockClock) -> None:
    served = faulty(Mute())
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_stream, served, theirs)
        await ours.send_all(UPGRADE)
        with trio.move_on_after(3600) as scope:
            await ours.receive_some()
        assert scope.cancelled_caught
        await ours.send_stream.aclose()
        assert await ours.receive_some() == b""


async def test_one_chat_too_many_is_answered_with_429_until_there_is_a_place(autojump_clock: MockClock) -> None:
    served = faulty(max_chats=2)
    async with open_chat(served):
        async with open_chat(served) as second:
            refusal = await refused(served)
            assert refusal.status_code == 429
            await second.connection.aclose()
            await served.sessions[1].ended.wait()
        async with open_chat(served) as third:
            await third.wait("chat_metadata")
    assert (await refused(faulty(max_chats=0))).status_code == 429


# --- on the way to a chat ---


@pytest.mark.parametrize("seconds", [0.3, 15.0])
async def test_a_slow_handshake(seconds: float, autojump_clock: MockClock) -> None:
    begin = trio.current_time()
    async with open_chat(faulty(SlowHandshake(seconds=seconds))) as client:
        assert trio.current_time() - begin == pytest.approx(seconds)
        await client.wait("session_settings")
    begin = trio.current_time()
    assert (await refused(faulty(Refuse(401), SlowHandshake(seconds=seconds)))).status_code == 401
    assert trio.current_time() - begin == pytest.approx(seconds)


async def test_a_client_that_leaves_a_slow_handshake_is_not_waited_for(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    begin = trio.current_time()
    await ours.send_all(UPGRADE)
    await ours.aclose()
    await serve_stream(faulty(SlowHandshake(seconds=100)), theirs)
    assert trio.current_time() == begin


async def test_without_metadata_all_else_is_as_ever(autojump_clock: MockClock) -> None:
    served = faulty(NoMetadata(), Reset(at="ready"))
    async with open_chat(served) as client:
        await trio.sleep(60)
        assert client.kinds == []
        await client.send(type="user_input", text="hi")
        await client.wait("assistant_end")
        assert served.live[0].faults == [NoMetadata()]


# --- said in a chat ---


@pytest.mark.parametrize(
    ("fault", "kind", "field"),
    [
        (SendJunk(1, "json"), "junk", '{"type":"audio_output","id":"junk","ind'),
        (SendJunk(1, "no_object"), "junk", '["audio_output"]'),
        (SendJunk(1, "no_type"), "junk", '{"id":"junk"}'),
        (SendJunk(1, "unknown_type"), "news", None),
        (SendJunk(1, "field"), "user_message", None),
        (SendRaw(1, "no JSON"), "junk", "no JSON"),
        (SendBinary(1, b"\x00\x01"), "junk", b"\x00\x01"),
    ],
)
async def test_a_message_that_makes_no_sense_and_the_chat_goes_on(
    fault: Fault, kind: str, field: object, autojump_clock: MockClock
) -> None:
    async with open_chat(faulty(fault)) as client:
        message = await client.wait(kind)
        assert message.get("data") == field
        await client.send(type="user_input", text="hi")
        await client.wait("assistant_end")


async def test_audio_that_is_none(autojump_clock: MockClock) -> None:
    async with open_chat(faulty(SendJunk(1, "base64"), SendJunk(2, "wav"))) as client:
        await client.wait("audio_output", 2)
        broken, wrong = (message["data"] for message in client.all("audio_output"))
        with pytest.raises(ValueError, match=r"base64|padding"):
            base64.b64decode(broken, validate=True)
        with pytest.raises(wave.Error):
            read_wav(base64.b64decode(wrong, validate=True))


@pytest.mark.parametrize("fault", [SendGarbage(1), SendGarbage(1, b"HTTP/1.1 500 Oops\r\n\r\n"), SendJunk(1, "utf8")])
async def test_bytes_that_are_no_websocket_end_the_connection(fault: Fault, autojump_clock: MockClock) -> None:
    served = faulty(fault)
    async with open_chat(served) as client:
        await client.wait_closed()
        assert trio.current_time() == pytest.approx(1.0)
        assert client.kinds == ["chat_metadata", "session_settings"]
        session = served.sessions[0]
    with trio.fail_after(1):
        await session.ended.wait()


@pytest.mark.parametrize("code", ["E0300", "E0708", "E0714", "E9999", "I0100", "I0116", "I0118", "W0101"])
async def test_an_error_and_the_chat_goes_on(code: str, autojump_clock: MockClock) -> None:
    async with open_chat(faulty(SendError(1, code, "a_slug", "What happened."))) as client:
        error = await client.wait("error")
        assert (error["code"], error["slug"], error["message"]) == (code, "a_slug", "What happened.")
        await client.send(type="user_input", text="hi")
        await client.wait("assistant_end")


@pytest.mark.parametrize(("code", "close"), [("E0300", 1000), ("I0116", 1000), ("I0100", 1011)])
async def test_an_error_that_ends_the_chat(code: str, close: int, autojump_clock: MockClock) -> None:
    async with open_chat(faulty(SendError(1, code, close=close))) as client:
        assert (await client.wait_closed()).code == close
        assert client.all("error")[0]["code"] == code


# --- ends ---


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 4000, 4999])
@pytest.mark.parametrize("reason", ["", "try another day"])
async def test_each_close_code(code: int, reason: str, autojump_clock: MockClock) -> None:
    served = faulty(CloseWith(1, code, reason))
    async with open_chat(served) as client:
        closed = await client.wait_closed()
        assert (closed.code, closed.reason or "") == (code, reason)
    assert (served.ended[0].close_code, served.ended[0].closed_by_server) == (code, True)


async def test_a_close_frame_without_a_code(autojump_clock: MockClock) -> None:
    served = faulty(CloseWith(1, 1005))
    async with open_chat(served) as client:
        assert (await client.wait_closed()).code == 1005
        assert trio.current_time() == pytest.approx(1.0)
    assert served.live == ()


async def test_1014_is_on_the_wire_though_our_client_reads_it_as_a_protocol_error(autojump_clock: MockClock) -> None:
    assert (await on_the_wire(CloseWith(1, 1014, "bad gateway"))) == b"\x88\x0d\x03\xf6bad gateway"
    async with open_chat(faulty(CloseWith(1, 1014))) as client:
        assert (await client.wait_closed()).code == 1002  # wsproto knows no 1014


@pytest.mark.parametrize("code", [1004, 1006, 1015])
def test_codes_that_no_close_frame_has(code: int) -> None:
    for make in (lambda: CloseWith(0, code), lambda: SendError(close=code)):
        with pytest.raises(ValueError, match=f"no close frame has the code {code}"):
            make()


@pytest.mark.parametrize("fault", [Cut(1), Reset(1), ResetInFrame(1)])
async def test_an_end_without_a_close_frame(fault: Fault, autojump_clock: MockClock) -> None:
    served = faulty(fault)
    async with open_chat(served) as client:
        assert (await client.wait_closed()).code == 1006
        assert client.kinds == ["chat_metadata", "session_settings"]
        assert trio.current_time() == pytest.approx(1.0)
    assert (served.ended[0].close_code, served.ended[0].closed_by_server) == (1006, True)


async def test_a_reset_in_mid_frame_leaves_half_a_frame(autojump_clock: MockClock) -> None:
    frame = await on_the_wire(ResetInFrame(1))
    assert frame[:4] == b"\x81\x7e" + (2000).to_bytes(2, "big")
    assert len(frame) - 4 == 1000


async def test_the_maximum_length_is_exact_to_the_millisecond(autojump_clock: MockClock) -> None:
    served = faulty(inactivity=math.inf)
    async with open_chat(served) as client:
        begin = trio.current_time()
        while trio.current_time() < begin + 1799:
            await client.speak(silence(1.0))
            await trio.sleep(99.0)
        assert (await client.wait_closed()).code == 1000
        assert abs(trio.current_time() - begin - 1800) < 0.001
        assert client.log[-1][1]["code"] == "E0715"


# --- from some time on ---


async def test_a_half_open_connection_stays_and_answers_nothing(autojump_clock: MockClock) -> None:
    served = faulty(HalfOpen(1))
    async with open_chat(served) as client:
        await trio.sleep(1.5)
        heard = len(client.log)
        await client.speak(silence(10))
        with trio.move_on_after(1000) as pinging:
            await client.connection.ping()
        assert pinging.cancelled_caught
        assert len(client.log) == heard
        assert client.closed is None
        assert served.live
        assert served.live[0].messages_received < 10
        session = served.live[0]
        await trio.aclose_forcefully(client.stream)
        with trio.fail_after(1):
            await session.ended.wait()
    assert session.close_code == 1006


async def test_a_connection_comes_back_to_life(autojump_clock: MockClock) -> None:
    served = faulty(HalfOpen(1, 5))
    async with open_chat(served) as client:
        await trio.sleep(1.5)
        await client.send(type="user_input", text="hi")
        await client.connection.ping()
        assert trio.current_time() == pytest.approx(6.0)
        await client.wait("assistant_end")
        assert min(client.times("user_message")) == pytest.approx(6.0)


async def test_it_freezes_while_it_speaks(autojump_clock: MockClock) -> None:
    served = faulty(HalfOpen(0.1, at="agent_speaking"), speed=1.0)
    async with open_chat(served) as client:
        await client.send(type="user_input", text="hi")
        await trio.sleep(120)
        assert indices(client) == [0]
        assert served.live


async def test_a_slow_reader_hears_at_its_own_rate(autojump_clock: MockClock) -> None:
    served = faulty(SlowReader(0, 1600))
    async with open_chat(served) as client:
        await trio.sleep(0.5)
        begin = trio.current_time()
        await client.speak(silence(4.0))  # 64 kB
        await trio.sleep_until(begin + 20)
        assert served.live[0].chat.caller_bytes == pytest.approx(20 * 1600, rel=0.1)
        await client.wait("chat_metadata")
        session = served.live[0]
        await trio.aclose_forcefully(client.stream)
        with trio.fail_after(1):
            await session.ended.wait()


async def test_each_message_is_late(autojump_clock: MockClock) -> None:
    async with open_chat(faulty(Delay(1, 0.7))) as client:
        assert client.times("session_settings") == []
        await trio.sleep(2)
        assert client.times("session_settings") == [0.0]
        await client.send(type="user_input", text="hi")
        sent = trio.current_time()
        await client.wait("assistant_end")
        assert client.times("user_message") == [pytest.approx(sent + 0.7)]
        assert client.times("audio_output")[0] == pytest.approx(sent + 0.7)
        assert indices(client) == sorted(indices(client))


async def test_jitter_spreads_the_chunks_and_keeps_their_order(autojump_clock: MockClock) -> None:
    gaps = []
    for _ in range(2):
        async with open_chat(faulty(Delay(0, 0.1, 0.2), chunk_ms=(100, 100))) as client:
            await client.send(type="user_input", text="hi")
            await client.wait("assistant_end")
            gaps.append(np.diff(client.times("audio_output")))
            assert indices(client) == list(range(24))
    assert np.std(gaps[0]) > 0.01
    assert gaps[0] == pytest.approx(gaps[1])  # the same seed


async def test_the_last_chunks_come_after_the_end(autojump_clock: MockClock) -> None:
    async with open_chat(faulty(LateChunks(count=3, by=0.5), chunk_ms=(100, 100))) as client:
        await client.send(type="user_input", text="hi")
        await client.wait("audio_output", 24)
        assert indices(client) == list(range(24))
        (end,) = client.times("assistant_end")
        assert [at - end for at in client.times("audio_output") if at > end] == pytest.approx([0.5] * 3)


async def test_chunks_of_an_interrupted_reply_come_after_its_interruption(autojump_clock: MockClock) -> None:
    async with open_chat(faulty(LateChunks(count=3, by=2.0), speed=1.0)) as client:
        await client.speak(tone(6.0), silence(0.82))
        await client.wait("audio_output")
        await client.speak(tone(1.0), silence(2.0))
        (at,) = client.times("user_interruption")
        first, second = (message["id"] for message in client.all("assistant_message"))
        late = [(t - at, m) for t, m in client.log if m["type"] == "audio_output" and m["id"] == first and t >= at]
        assert [t for t, _ in late] == pytest.approx([2.0] * 3)
        before = [m["index"] for t, m in client.log if m["type"] == "audio_output" and m["id"] == first and t < at]
        assert [m["index"] for _, m in late] == [before[-1] + 1 + n for n in range(3)]
        assert second in [m["id"] for t, m in client.log if m["type"] == "audio_output" and t < at + 2.0]


@pytest.mark.parametrize(
    ("fault", "begins"), [(SwappedChunks(), [1, 0, 3, 2, 5, 4]), (DoubledChunks(), [0, 0, 1, 1, 2, 2])]
)
async def test_chunks_swapped_and_doubled(fault: Fault, begins: list[int], autojump_clock: MockClock) -> None:
    async with open_chat(faulty(fault)) as client:
        await client.send(type="user_input", text="hi")
        await client.wait("assistant_end")
        assert indices(client)[:6] == begins
        assert set(indices(client)) == set(range(max(indices(client)) + 1))


# --- when ---


async def live(client: EviClient) -> dict[str, float]:
    """A conversation with everything in it; return when each moment was, as the client saw it."""
    began = 0.0
    await client.wait("chat_metadata")
    await client.send(type="session_settings", tools=WEATHER)
    await trio.sleep(1)
    speaking = trio.current_time()
    await client.speak(tone(2.0), silence(1.0))
    await client.wait("assistant_end")
    await client.send(type="user_input", text="call weather")
    call = await client.wait("tool_call")
    await client.send(type="tool_response", tool_call_id=call["tool_call_id"], content="Rain.")
    await client.wait("assistant_end", 2)
    return {
        "accepted": began,
        "ready": client.times("chat_metadata")[0],
        "user_speaking": speaking + 0.02,  # the onset is in the second frame
        "agent_speaking": client.times("audio_output")[0],
        "tool_call": client.times("tool_call")[0],
    }


@pytest.mark.parametrize("at", ["accepted", "ready", "user_speaking", "agent_speaking", "tool_call"])
@pytest.mark.parametrize("after", [0.0, 0.25])
async def test_a_fault_comes_at_its_moment(at: Any, after: float, autojump_clock: MockClock) -> None:
    async with open_chat(faulty(SendRaw(after, '{"type":"now"}', at=at))) as client:
        moments = await live(client)
        assert client.times("now") == [pytest.approx(moments[at] + after, abs=0.005)]


async def test_a_fault_comes_at_the_second_of_its_moments(autojump_clock: MockClock) -> None:
    fault = SendRaw(0, '{"type":"now"}', at="agent_speaking", nth=2)
    async with open_chat(faulty(fault)) as client:
        await live(client)
        second = client.all("assistant_message")[1]["id"]
        first_chunk = next(t for t, m in client.log if m["type"] == "audio_output" and m["id"] == second)
        assert client.times("now") == [first_chunk]
    async with open_chat(faulty(Reset(at="user_speaking", nth=2))) as client:
        await client.speak(tone(0.05), silence(1.0))  # a knock is an onset as well
        assert client.closed is None
        with pytest.raises(ConnectionClosed):
            await client.speak(tone(1.0))


async def test_faults_at_one_moment_come_in_their_order(autojump_clock: MockClock) -> None:
    steps = (SendError(0.5, "E0001", at="ready"), CloseWith(0.5, 4001, at="ready"), SendError(0, "E0000", at="ready"))
    async with open_chat(faulty(*steps)) as client:
        assert (await client.wait_closed()).code == 4001
        assert [error["code"] for error in client.all("error")] == ["E0000", "E0001"]


# --- on which connections ---


@pytest.mark.parametrize(
    ("which", "those"),
    [("every", {0, 1, 2, 3, 4, 5}), ("first 2", {0, 1}), (3, {3}), (0, {0}), ([0, 4, 9], {0, 4}), ([], set())],
)
def test_faults_choose_their_connections(which: Any, those: set[int]) -> None:
    served = faulty(Reset(1, connections=which), Refuse(429, connections=which))
    stories = [served.faults_for(number) for number in range(6)]
    assert {number for number, script in enumerate(stories) if script.steps} == those
    assert {number for number, script in enumerate(stories) if isinstance(script.handshake, Refuse)} == those


@pytest.mark.parametrize("which", ["", "second", "first", "first 0", "first -1", "last 2"])
def test_a_choice_that_makes_no_sense_is_refused(which: str) -> None:
    with pytest.raises(ValueError, match="first 3"):
        Mute(connections=which)


def test_chance_is_a_share_of_the_connections_and_the_same_for_the_same_seed() -> None:
    def hit(seed: int | None) -> list[bool]:
        served = faulty(Reset(1, chance=0.1), SlowHandshake(seconds=2, chance=0.5), seed=seed)
        return [bool(served.faults_for(number).steps) for number in range(2000)]

    assert 150 < sum(hit(1)) < 250
    assert hit(1) == hit(1) != hit(2)
    assert hit(None) != hit(None)
    both = faulty(Reset(1, chance=0.5), Cut(1, chance=0.5))
    assert {len(both.faults_for(number).steps) for number in range(100)} == {0, 1, 2}  # each for itself
    assert not any(faulty(Reset(1, chance=0.0)).faults_for(number).steps for number in range(100))


def test_a_script_and_the_faults_add_up() -> None:
    script = Script(Refuse(401, connections=1), steps=(Reset(1, connections=0), Cut(2)), delay=1.0)
    served = faulty(
        Mute(connections=1), Drop(), SlowHandshake(seconds=3), SlowHandshake(seconds=2), script=lambda _: script
    )
    assert served.faults_for(0) == Script(Drop(), steps=(Reset(1, connections=0), Cut(2)), delay=3.0)
    assert served.faults_for(1) == Script(Refuse(401, connections=1), steps=(Cut(2),), delay=3.0)


async def test_the_chat_beside_is_unharmed_and_what_came_is_counted(autojump_clock: MockClock) -> None:
    storm = (Delay(0, 0.1, 0.1), SwappedChunks(), SendGarbage(2), SlowReader(1), HalfOpen(3))
    served = faulty(*(fault.__class__(**{**_fields(fault), "connections": 0}) for fault in storm))
    async with open_chat(served), open_chat(served, PHONE) as beside:
        await beside.speak(tone(2.0), silence(1.0))
        await beside.wait("assistant_end")
        samples, rate = beside.audio(beside.all("assistant_message")[0]["id"])
        assert len(samples) / rate == pytest.approx(2.1, abs=0.02)
        (faulted,) = (session for session in served.sessions if session.connection == 0)
        names = ["delay", "swapped_chunks", "slow_reader", "bytes", "half_open"]
        assert [fault.name for fault in faulted.faults] == names
        assert served.faults == dict.fromkeys(names, 1)
        assert served.sessions[1].faults == []


def _fields(fault: Fault) -> dict[str, Any]:
    return {name: getattr(fault, name) for name in fault.__struct_fields__}


async def test_a_client_that_reads_to_the_end_sees_the_end(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_stream, faulty(Cut(5)), theirs)
        await ours.send_all(UPGRADE)
        await read_to_end(ours)
        assert trio.current_time() == pytest.approx(5.0)
