"""The emulator's Realtime protocol: its events against the vendor's own types, and the rules that a client meets."""

from __future__ import annotations

import base64
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.call.fakes import tone
from tests.lab.emulator.realtime_client import SESSION, VAD, Client

if TYPE_CHECKING:
    from collections.abc import Iterable


@pytest.mark.parametrize("provider", ["openai", "xai"])
async def test_the_command_serves_that_protocol_and_says_which_setting_leads_to_it(provider: str) -> None:
    command = [sys.executable, "-m", "sts_trio", "emulate", "--port", "0", "--provider", provider]
    async with trio.open_nursery() as nursery:
        process = await nursery.start(partial(trio.run_process, command, stdout=subprocess.PIPE, capture_stdout=False))
        said = (await process.stdout.receive_some()).decode()
        process.terminate()
    assert said.startswith(f"{provider.upper()}_BASE_URL=ws://127.0.0.1:")
    assert "/v1/realtime " in said


def in_order(kinds: Iterable[str], *wanted: str) -> bool:
    rest = iter(kinds)
    return all(kind in rest for kind in wanted)


def test_an_answer_has_the_events_of_a_real_one_in_their_order() -> None:
    client = Client()
    client.set_up()
    kinds = client.speak(tone(1.0) + bytes(16_000)) + client.collect(5.0)
    assert in_order(
        kinds,
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_audio_transcript.delta",
        "response.output_audio.delta",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
        "rate_limits.updated",
    )
    assert kinds.count("conversation.item.input_audio_transcription.completed") == 1  # anywhere among these
    assert client.responses[-1]["status"] == "completed"
    voice = b"".join(base64.b64decode(e["delta"]) for e in client.heard if e["type"] == "response.output_audio.delta")
    assert len(voice) / 8000 == pytest.approx(1.2, abs=0.1)  # the second, and what is kept on either side
    assert client.errors() == []


def test_speech_over_an_answer_cancels_what_has_not_been_sent() -> None:
    client = Client()
    client.set_up()
    client.say("response.create", response={"instructions": "Say exactly:\n\nHello."})
    client.speak(tone(0.2))
    done = [event["response"] for event in client.heard if event["type"] == "response.done"]
    assert [response["status"] for response in done] == ["cancelled"]
    assert done[0]["status_details"]["reason"] == "turn_detected"
    assert "response.output_audio.delta" not in client.collect(5.0)


def test_a_knock_begins_a_turn_and_ends_it_without_an_answer() -> None:
    client = Client()
    client.set_up()
    kinds = client.speak(tone(0.05) + bytes(24_000))
    assert kinds.count("input_audio_buffer.speech_started") == kinds.count("input_audio_buffer.speech_stopped")
    assert "response.created" not in kinds + client.collect(2.0)


def test_one_response_at_a_time() -> None:
    client = Client()
    client.set_up()
    client.say("response.create", event_id="first")
    client.say("response.create", event_id="second")
    assert client.errors() == [("conversation_already_has_active_response", "second")]
    client.collect(5.0)
    client.say("response.create", event_id="third")
    assert len(client.errors()) == 1


def test_the_output_of_a_function_is_not_spoken_until_a_response_is_asked_for() -> None:
    client = Client()
    client.set_up()
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "call weather {}"}]}
    client.say("conversation.item.create", item=item)
    client.say("response.create")
    client.collect(1.0)
    call = next(e["item"] for e in client.heard if e["type"] == "response.output_item.done")
    assert (call["type"], call["name"], len(call["call_id"]) <= 32) == ("function_call", "weather", True)
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "rain"}
    assert "response.created" not in client.say("conversation.item.create", item=output) + client.collect(30.0)
    client.say("response.create")
    client.collect(5.0)
    assert [e["transcript"] for e in client.heard if e["type"] == "response.output_audio_transcript.done"] == ["rain"]
    assert list(client.chat.tool_answers) == [call["call_id"]]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"session": SESSION | {"max_response_output_tokens": 1}}, "unknown_parameter"),
        ({"session": {"instructions": "no type"}}, "missing_required_parameter"),
        (
            {"session": SESSION | {"audio": {"output": {"format": {"type": "audio/pcm", "rate": 8000}}}}},
            "invalid_value",
        ),
        ({"session": SESSION, "more": 1}, "unknown_parameter"),
    ],
)
def test_an_update_is_taken_whole_or_not_at_all(fields: dict[str, Any], code: str) -> None:
    client = Client()
    client.collect()
    assert client.say("session.update", event_id="cfg", **fields) == ["error"]
    assert client.errors() == [(code, "cfg")]
    assert client.chat.session is None


def test_only_what_was_said_can_be_truncated_and_no_more_of_it_than_there_is() -> None:
    client = Client()
    client.set_up()
    client.say("response.create")
    client.collect(5.0)
    item = next(e["item_id"] for e in client.heard if e["type"] == "response.output_audio.delta")
    cut = {"content_index": 0, "item_id": item}
    assert client.say("conversation.item.truncate", **cut, audio_end_ms=99_000, event_id="long") == ["error"]
    assert client.say("conversation.item.truncate", **cut | {"item_id": "x"}, audio_end_ms=1, event_id="who") == [
        "error"
    ]
    assert client.say("conversation.item.truncate", **cut, audio_end_ms=500) == ["conversation.item.truncated"]
    assert client.chat.items.cuts == {item: 500}
    assert [code for code, _ in client.errors()] == ["invalid_value", "item_truncate_invalid_item_id"]


@pytest.mark.parametrize(
    "data", [b"\x00\x01", "no JSON", '{"type":"input_audio_buffer.append","audio":"*"}', '{"type":"x"}']
)
def test_what_cannot_be_read_is_an_error_and_the_session_goes_on(data: str | bytes) -> None:
    client = Client()
    client.set_up()
    client.outbox.put(client.chat.receive(data, 1.0))
    assert client.collect() == ["error"]
    assert client.say("response.create") != []


@pytest.mark.parametrize(("model", "code"), [("gpt-9", 4004), ("", 4004)])
def test_a_wrong_model_is_told_after_the_upgrade(model: str, code: int) -> None:
    client = Client(model=model)
    assert client.collect() == ["error"]
    assert client.closed is not None
    assert client.closed.code == code


def test_a_session_has_an_end() -> None:
    client = Client()
    client.set_up()
    client.collect(1801.0)
    assert client.errors() == [("session_expired", None)]
    assert client.closed is not None
    assert client.closed.code == 1001


def test_audio_before_the_session_is_set_up_is_counted_and_not_understood() -> None:
    client = Client()
    client.collect()
    client.say("input_audio_buffer.append", audio=base64.b64encode(bytes(160)).decode())
    assert (client.chat.early_audio, client.chat.caller_bytes) == (160, 0)


def test_xai_speaks_a_text_as_it_stands() -> None:
    client = Client("xai", "grok-voice-latest")
    assert client.collect() == ["session.created", "conversation.created"]
    linear = {"format": {"type": "audio/pcm", "rate": 8000}}
    client.say(
        "session.update", session={"voice": "eve", "turn_detection": VAD, "audio": {"input": linear, "output": linear}}
    )
    item = {"type": "force_message", "role": "assistant", "content": [{"type": "output_text", "text": "Good evening."}]}
    client.say("conversation.item.create", item=item)
    client.collect(5.0)
    assert "Good evening." in str(client.heard)
    assert client.heard[-1]["type"] == "response.done"
