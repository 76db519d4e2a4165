"""What the emulator makes odd: junk in whole frames, floods, one id for all, arguments in a fence, late metadata."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import trio
import wsproto

from sts_trio.lab.emulator import (
    Flood,
    GarbageOnly,
    LateMetadata,
    NoEnds,
    OddArguments,
    SameIds,
    SendJunk,
    SendRaw,
)
from sts_trio.lab.emulator.evi.malformed import MALFORMED as EVI
from sts_trio.lab.emulator.evi.wire import AssistantEnd, AudioOutput, ToolCall
from sts_trio.lab.emulator.malformed import HUGE, HUGE_ID, flood_of, malformed_frame
from sts_trio.lab.emulator.oddness import Oddness
from sts_trio.lab.emulator.realtime.malformed import MALFORMED as REALTIME
from tests.lab.emulator.evi_client import faulty, open_chat

if TYPE_CHECKING:
    from trio.testing import MockClock

CALL = ToolCall(name="lookup", parameters='{"a": 1}', tool_call_id="c", tool_type="function", response_required=True)


def client() -> wsproto.connection.Connection:
    return wsproto.connection.Connection(wsproto.connection.ConnectionType.CLIENT)


@pytest.mark.parametrize(("table", "kind"), [(table, kind) for table in (EVI, REALTIME) for kind in table])
def test_junk_of_any_length_comes_in_a_whole_frame(table: Any, kind: str) -> None:
    reader = client()
    reader.receive_data(malformed_frame(kind, table))
    (event,) = reader.events()
    odd = table[kind]
    if isinstance(odd, bytes):
        assert isinstance(event, wsproto.events.BytesMessage)
        assert event.data == odd
        return
    assert isinstance(event, wsproto.events.TextMessage)
    assert event.data == (odd if isinstance(odd, str) else odd())
    assert event.message_finished
    if kind.startswith("huge"):
        assert HUGE_ID < len(event.data) < 16 * 2**20  # more than that a service may refuse as it is
        assert len(event.data) < HUGE + 1000 or kind == "huge_scores"


@pytest.mark.parametrize("kind", ["fragments", "empty_fragments"])
def test_a_flood_of_fragments_is_whole_messages_of_an_unknown_type(kind: Any) -> None:
    reader, messages, frames = client(), [], 0
    for data in flood_of(kind, 10_000, 500):
        text = ""
        reader.receive_data(data)
        for event in reader.events():
            assert isinstance(event, wsproto.events.TextMessage)
            frames += event.frame_finished
            text += event.data
            if event.message_finished:
                messages.append(json.loads(text))
                text = ""
        assert text == "", "only whole messages are written"
    assert messages == [{"type": "news"}] * 20
    assert 10_000 <= frames <= 10_100


@pytest.mark.parametrize(("kind", "event"), [("pongs", wsproto.events.Pong), ("pings", wsproto.events.Ping)])
def test_a_flood_of_control_frames(kind: Any, event: type) -> None:
    reader = client()
    for data in flood_of(kind, 2500, Flood(kind=kind).each):
        reader.receive_data(data)
    events = list(reader.events())
    assert len(events) == 2500
    assert {type(each) for each in events} == {event}


def test_arguments_are_nested_or_fenced() -> None:
    odd = Oddness()
    assert odd.of(CALL) is CALL
    odd.add(OddArguments())
    nested = odd.of(CALL)
    assert isinstance(nested, ToolCall)
    assert json.loads(json.loads(nested.parameters)) == {"a": 1}
    odd = Oddness()
    odd.add(OddArguments(form="fence"))
    fenced = odd.of(CALL)
    assert isinstance(fenced, ToolCall)
    assert fenced.parameters == '```json\n{"a": 1}\n```'


def test_oddities_add_up_and_leave_faults_and_ends_of_the_chat_alone() -> None:
    odd = Oddness()
    odd.add(SameIds())
    odd.add(NoEnds())
    assert odd.of(AudioOutput(id="x", index=3, data=b"")) == AudioOutput(id="reply", index=3, data=b"")
    assert odd.of(AssistantEnd()) is None
    odd.add(GarbageOnly())
    assert odd.of(SendRaw(data="x")) == SendRaw(data="x")
    assert odd.of(CALL) == SendJunk(kind="json")


async def test_all_replies_have_one_id(autojump_clock: MockClock) -> None:
    async with open_chat(faulty(SameIds())) as chat:
        for text in ("one", "two"):
            await chat.send(type="user_input", text=text)
            await chat.wait("assistant_end", 1 if text == "one" else 2)
        assert {message["id"] for message in chat.all("audio_output")} == {"reply"}


async def test_metadata_comes_late_and_what_is_accepted_before_it(autojump_clock: MockClock) -> None:
    async with open_chat(faulty(LateMetadata(seconds=0.5), SendRaw(after=0.2, data='{"type":"early"}'))) as chat:
        await chat.wait("session_settings")
        assert trio.current_time() == pytest.approx(0.5)
        assert chat.kinds == ["early", "chat_metadata", "session_settings"]
        await chat.send(type="user_input", text="hi")
        await chat.wait("assistant_end")


async def test_garbage_and_nothing_else(autojump_clock: MockClock) -> None:
    async with open_chat(faulty(GarbageOnly(1, "type_null"))) as chat:
        await trio.sleep(0.5)
        await chat.send(type="user_input", text="hi")
        await trio.sleep(4)
        await chat.send(type="user_input", text="hi")
        await trio.sleep(2)
        kinds = [kind for at, kind in zip((at for at, _ in chat.log), chat.kinds, strict=True) if at >= 1]
        assert set(kinds) == {None}
        assert len(kinds) > 15


async def test_no_reply_ends(autojump_clock: MockClock) -> None:
    async with open_chat(faulty(NoEnds())) as chat:
        await chat.send(type="user_input", text="hi")
        await trio.sleep(5)
        assert "assistant_prosody" in chat.kinds
        assert "assistant_end" not in chat.kinds
