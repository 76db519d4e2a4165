"""What the emulator's Realtime services refuse and take, as real ones do (docs/protocols/realtime.md 5.1)."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.call.fakes import tone
from tests.lab.emulator.realtime_client import SESSION, Client

LONG = "x" * 33
TURN = tone(1.0) + bytes(16_000)


def opened(**changes: Any) -> Client:
    client = Client()
    client.set_up(**changes)
    return client


def message(text: str = "hi", role: str = "user", **fields: Any) -> dict[str, Any]:
    kind = "output_text" if role == "assistant" else "input_text"
    return {"type": "message", "role": role, "content": [{"type": kind, "text": text}], **fields}


def greeted() -> tuple[Client, str]:
    """A client that has heard a greeting, and the greeting's item."""
    client = opened()
    client.say("response.create", response={"instructions": "Say exactly:\n\nHello."})
    client.collect(3.0)
    return client, client.responses[0]["output"][0]["id"]


@pytest.mark.parametrize(
    ("item", "code", "param"),
    [
        (message(id=LONG), "string_above_max_length", "item.id"),
        (message("x" * 256_001), "string_above_max_length", "item.content[0].text"),
        (message(id=7), "invalid_type", "item.id"),
        (message(mood="glad"), "unknown_parameter", "item.mood"),
        (message(role="robot"), "invalid_value", "item.role"),
        (message(role="assistant", content=[{"type": "output_audio", "audio": ""}]), "invalid_value", None),
        (message(role="assistant", content=[{"type": "input_text", "text": "x"}]), "invalid_value", None),
        ({"type": "message", "content": []}, "missing_required_parameter", "item.role"),
        ({"type": "hologram"}, "invalid_value", "item.type"),
        ({"type": "force_message", "role": "assistant", "content": []}, "invalid_value", "item.type"),
        ({"type": "function_call_output", "call_id": "call_x", "output": "1"}, "invalid_tool_call_id", None),
        ({"type": "function_call_output", "call_id": "x/y", "output": "1"}, "invalid_value", "item.call_id"),
        (
            {"type": "function_call_output", "call_id": "x" * 33, "output": "1"},
            "string_above_max_length",
            "item.call_id",
        ),
        ({"type": "function_call_output", "call_id": "x"}, "missing_required_parameter", "item.output"),
        ({"type": "function_call_output", "call_id": "x", "output": {"a": 1}}, "invalid_type", "item.output"),
    ],
)
def test_an_item_is_refused(item: dict[str, Any], code: str, param: str | None) -> None:
    client = opened()
    assert client.say("conversation.item.create", item=item, event_id="mine") == ["error"]
    assert client.errors() == [(code, "mine")]
    if param is not None:
        assert client.heard[-1]["error"]["param"] == param
    client.type("hello")
    assert "response.done" in client.collect(5.0)


def test_items_have_one_place_each() -> None:
    client = opened()
    client.say("conversation.item.create", item=message(id="one"))
    client.say("conversation.item.create", item=message(id="two"))
    assert [event["previous_item_id"] for event in client.all("conversation.item.added")] == [None, "one"]
    client.say("conversation.item.create", item=message(id="two"), event_id="again")
    client.say("conversation.item.create", item=message(), previous_item_id="ten", event_id="nowhere")
    assert client.errors() == [
        ("item_create_duplicate_item_id", "again"),
        ("item_create_invalid_previous_item_id", "nowhere"),
    ]
    client.say("conversation.item.create", item=message(id="zero"), previous_item_id="root")
    client.say("conversation.item.delete", item_id="two")
    client.say("conversation.item.create", item=message(id="two"))
    assert len(client.errors()) == 2


@pytest.mark.parametrize("what", ["delete", "retrieve", "truncate"])
def test_an_item_that_is_not_there(what: str) -> None:
    client = opened()
    more = {"content_index": 0, "audio_end_ms": 0} if what == "truncate" else {}
    client.say(f"conversation.item.{what}", item_id="none", event_id="mine", **more)
    assert client.errors() == [(f"item_{what}_invalid_item_id", "mine")]


def test_truncation() -> None:
    client, item = greeted()

    def cut(ms: int, item: str = item, index: int = 0) -> str:
        client.say("conversation.item.truncate", item_id=item, content_index=index, audio_end_ms=ms)
        last = client.heard[-1]
        return str(last["error"]["code"]) if last["type"] == "error" else str(last["type"])

    assert cut(600_000) == "invalid_value"
    assert "is already shorter than 600000ms" in client.heard[-1]["error"]["message"]
    assert cut(100, index=1) == "invalid_value"
    assert cut(-1) == "integer_below_min_value"
    assert cut(500) == "conversation.item.truncated"
    assert cut(600) == "invalid_value"  # it has only 500 now
    client.say("conversation.item.create", item=message("Hello.", "assistant", id="text"))
    assert cut(0, "text") == "unsupported_content_type"
    assert client.chat.items.cuts == {item: 500}


def test_an_item_without_audio_yet_cannot_be_truncated() -> None:
    client = opened()
    client.outbox._speed = 0.01  # the first chunk is sent, and no other for long
    client.say("response.create", response={"instructions": "Say exactly:\n\nHello."})
    item = client.all("response.output_item.added")[0]["item"]["id"]
    client.chat.items.lengths.clear()
    client.say("conversation.item.truncate", item_id=item, content_index=0, audio_end_ms=0)
    assert client.errors() == [("unsupported_content_type", None)]


@pytest.mark.parametrize(
    ("kind", "fields", "code"),
    [
        ("response.cancel", {}, "response_cancel_not_active"),
        ("response.create", {"response": {"voice": "marin"}}, "unknown_parameter"),
        ("response.create", {"response": {"max_output_tokens": 0}}, "invalid_value"),
        ("response.create", {"more": 1}, "unknown_parameter"),
        ("session.close", {}, "invalid_value"),
        ("conversation.item.truncate", {"item_id": "x"}, "missing_required_parameter"),
        ("conversation.item.truncate", {"item_id": 7, "content_index": 0, "audio_end_ms": 1}, "invalid_type"),
        ("input_audio_buffer.append", {"audio": "*"}, "invalid_value"),
    ],
)
def test_a_message_is_refused(kind: str, fields: dict[str, Any], code: str) -> None:
    client = opened()
    assert client.say(kind, event_id="mine", **fields) == ["error"]
    assert client.errors() == [(code, "mine")]


def audio(**changes: Any) -> dict[str, Any]:
    """A session's `audio`, with some fields of its input and its output changed."""
    sides = SESSION["audio"]
    wanted = {side: {**sides[side], **changes.get(side, {})} for side in ("input", "output")}
    return {"audio": wanted}


RATIO = {"type": "retention_ratio"}
WORDS = "audio.input.transcription"


def heard(**fields: Any) -> dict[str, Any]:
    return audio(input={"transcription": fields})


@pytest.mark.parametrize(
    "changes",
    [
        {"truncation": {"type": "retention_ratio", "retention_ratio": 0.8}},
        {"truncation": {"type": "retention_ratio", "retention_ratio": 1, "token_limits": {"post_instructions": 8000}}},
        {"parallel_tool_calls": True},
        {"reasoning": {"effort": "low"}},
        {"max_output_tokens": 4096},
        audio(output={"voice": {"id": "voice_1"}}),
        audio(output={"speed": 1.5}),
        audio(input={"noise_reduction": {"type": "far_field"}}),
        heard(model="gpt-4o-mini-transcribe", language="pt", prompt="Names of doctors."),
        heard(model="gpt-transcribe", languages=["pt", "en"], keywords=["Silva"]),
    ],
)
def test_a_session_may_want(changes: dict[str, Any]) -> None:
    opened(**changes)


@pytest.mark.parametrize(
    ("changes", "code", "param"),
    [
        (
            {"truncation": {"type": "retention_ratio", "retention_ratio": 1.2}},
            "invalid_value",
            "truncation.retention_ratio",
        ),
        ({"truncation": RATIO}, "missing_required_parameter", "truncation.retention_ratio"),
        ({"truncation": "never"}, "invalid_value", "truncation"),
        ({"temperature": 0.8}, "unknown_parameter", "temperature"),
        ({"max_output_tokens": 5000}, "invalid_value", "max_output_tokens"),
        ({"output_modalities": ["audio", "text"]}, "invalid_value", "output_modalities"),
        ({"tools": [{"type": "function", "name": "x", "parameters": "{}"}]}, "invalid_type", "tools[0].parameters"),
        ({"tools": [{"type": "function", "function": {}}]}, "unknown_parameter", "tools[0].function"),
        (audio(output={"voice": "eve"}), "invalid_value", "audio.output.voice"),
        (audio(output={"voice": {"name": "x"}}), "unknown_parameter", "audio.output.voice.name"),
        (audio(output={"speed": 2}), "invalid_value", "audio.output.speed"),
        (heard(model="whisper-9"), "invalid_value", f"{WORDS}.model"),
        (heard(model="gpt-realtime-whisper"), "invalid_value", f"{WORDS}.model"),
        (
            heard(model="gpt-transcribe", language="pt", languages=["pt"]),
            "invalid_value",
            "audio.input.transcription.languages",
        ),
        (heard(model="whisper-1", languages=["pt"]), "invalid_value", "audio.input.transcription.languages"),
        (heard(model="gpt-transcribe", keywords=["<b>"]), "invalid_value", "audio.input.transcription.keywords"),
        (audio(input={"turn_detection": {"type": "server_vad", "threshold": 2}}), "invalid_value", None),
    ],
)
def test_a_session_may_not_want(changes: dict[str, Any], code: str, param: str | None) -> None:
    client = Client()
    client.collect()
    assert client.say("session.update", session=SESSION | changes, event_id="mine") == ["error"]
    error = client.heard[-1]["error"]
    assert (error["code"], error["event_id"]) == (code, "mine")
    if param is not None:
        assert error["param"] == f"session.{param}"


def test_only_models_that_reason_have_an_effort() -> None:
    client = Client(model="gpt-realtime-1.5")
    client.collect()
    assert client.say("session.update", session=SESSION | {"reasoning": {"effort": "low"}}) == ["error"]
    assert client.heard[-1]["error"]["param"] == "session.reasoning"


def test_an_update_changes_what_it_names_and_a_voice_that_was_heard_stays() -> None:
    client, _ = greeted()
    assert client.say("session.update", session={"type": "realtime", "instructions": "Be long."}) == ["session.updated"]
    told = client.heard[-1]["session"]
    assert (told["instructions"], told["audio"]) == ("Be long.", SESSION["audio"])
    other = {"type": "realtime", "audio": {"output": {"voice": "cedar"}}}
    assert client.say("session.update", session=other) == ["error"]
    assert client.errors() == [("cannot_update_voice", None)]


def detecting(**fields: Any) -> dict[str, Any]:
    return audio(input={"turn_detection": {"type": "server_vad", "silence_duration_ms": 500, **fields}})


def test_without_create_response_a_turn_is_answered_when_it_is_asked_for() -> None:
    client = opened(**detecting(create_response=False))
    client.speak(TURN)
    assert "response.created" not in client.collect(5.0)
    assert len(client.all("input_audio_buffer.committed")) == 1
    client.say("response.create")
    client.collect(5.0)
    assert client.said == ["You said: (1.0 s of speech)"]


def test_without_interrupt_response_the_agent_speaks_on() -> None:
    client = opened(**detecting(interrupt_response=False))
    client.say("response.create", response={"instructions": "Say exactly:\n\nHello."})
    client.speak(tone(0.3))
    assert client.all("input_audio_buffer.speech_started")
    client.collect(3.0)
    assert [response["status"] for response in client.responses] == ["completed"]


def test_the_tokens_of_a_response_are_told_and_what_is_left() -> None:
    client = opened()
    for _ in range(2):
        client.speak(TURN)
        client.collect(5.0)
    first, second = (response["usage"] for response in client.responses)
    assert first["input_token_details"]["audio_tokens"] == 11  # of a second, and what is kept on either side
    assert first["output_token_details"]["audio_tokens"] >= 20
    for usage in (first, second):
        for side in ("input", "output"):
            details = usage[f"{side}_token_details"]
            assert usage[f"{side}_tokens"] == details["text_tokens"] + details["audio_tokens"]
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert first["input_token_details"]["cached_tokens"] == 0
    assert second["input_token_details"]["cached_tokens"] == first["input_tokens"]
    limits = [event["rate_limits"][0] for event in client.all("rate_limits.updated")]
    assert [limit["limit"] - limit["remaining"] for limit in limits] == [
        first["total_tokens"],
        first["total_tokens"] + second["total_tokens"],
    ]


def test_what_a_response_was_asked_for_with_comes_back() -> None:
    client = opened()
    client.say("response.create", response={"metadata": {"kind": "greeting"}})
    client.collect(3.0)
    told = [client.all(kind)[0]["response"]["metadata"] for kind in ("response.created", "response.done")]
    assert told == [{"kind": "greeting"}] * 2


def test_xai_leaves_out_what_it_does_not_have() -> None:
    client = Client("xai", "grok-voice-latest")
    client.collect()
    linear = {"format": {"type": "audio/pcm", "rate": 8000}}
    flat = {
        "voice": "some-voice-of-thirty",
        "turn_detection": {"type": "server_vad", "silence_duration_ms": 500},
        "audio": {"input": {**linear, "transcription": {"keyterms": ["Silva"]}}, "output": {**linear, "speed": 0.7}},
        "tools": [{"type": "web_search"}, {"type": "x_search"}],
        "reasoning": {"effort": "none"},
        "resumption": {"enabled": True},
    }
    assert client.say("session.update", session=flat) == ["session.updated"]
    client.say("input_audio_buffer.append", audio=base64.b64encode(bytes(320)).decode())
    client.type("hello")
    client.collect(5.0)
    kinds = {event["type"] for event in client.heard}
    assert "response.done" in kinds
    assert not kinds & {"conversation.item.done", "rate_limits.updated"}
