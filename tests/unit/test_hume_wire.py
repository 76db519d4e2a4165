"""EVI's protocol, with the vendor's SDK as the oracle for what we send and for the samples of what we read."""

from __future__ import annotations

import base64
import json
from typing import Any, get_args

import pydantic
import pytest
from hume.empathic_voice import types as vendor
from hume.empathic_voice.chat.types import PublishEvent

from sts_trio.audio.pcm import Wav
from sts_trio.providers.base import (
    AgentAudio,
    AgentEvent,
    AgentFault,
    AgentReady,
    AgentText,
    AgentTurnEnd,
    OddKind,
    OddMessage,
    SessionEnd,
    SessionEndKind,
    ToolCall,
    UserInterruption,
    UserTurn,
)
from sts_trio.providers.hume import wire
from sts_trio.providers.hume.settings import EMOTIONS
from sts_trio.providers.hume.wire import closed, describe, to_event
from sts_trio.providers.reading import Reader
from tests.unit.signals import chunk, fmt, riff

SOUND = bytes(range(40))
WAV = base64.b64encode(riff(fmt(48_000), chunk(b"data", SOUND))).decode()
PRIVATE = "call me on 555 0142"

PUBLISHED: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(PublishEvent)
SUBSCRIBED: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(vendor.SubscribeEvent)


def heard(message: str) -> wire.HumeMessage:
    """Read a message as a link does."""
    read = Reader(wire.LANGUAGE, "Hume", 5.0).read(message, 0.0)
    assert read is not None
    assert not isinstance(read, OddMessage | SessionEnd)
    return read


def known_to_vendor(text: str, union: pydantic.TypeAdapter[Any]) -> str:
    """Validate with the SDK, allowing no field that it does not know; return the name of its type."""
    model = union.validate_json(text, strict=True)
    assert model.type == json.loads(text)["type"], "the SDK took it for another message"
    nothing_extra(model)
    return type(model).__name__


def nothing_extra(value: object) -> None:
    if isinstance(value, pydantic.BaseModel):
        assert not value.model_extra, f"the SDK does not know {value.model_extra}"
        for name in type(value).model_fields:
            nothing_extra(getattr(value, name))
    elif isinstance(value, list):
        for item in value:
            nothing_extra(item)


def test_the_emotions_are_the_vendors() -> None:
    assert {field.alias or name for name, field in vendor.EmotionScores.model_fields.items()} == EMOTIONS
    assert len(EMOTIONS) == 48


# What we say.


WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "What the weather is like.",
    "parameters": '{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}',
}
EVERYTHING = wire.SessionSettings(
    system_prompt="You answer for {{shop}}.",
    voice_id="v-1",
    variables={"shop": "Kestrel Bikes", "from": ""},
    context=wire.Context("The caller pressed 1.", "temporary"),
    tools=[wire.ToolDeclaration(WEATHER["name"], WEATHER["description"], WEATHER["parameters"])],
)


SENT: list[tuple[wire.ToHume, str, dict[str, object]]] = [
    (wire.Pause(), "PauseAssistantMessage", {}),
    (wire.Resume(), "ResumeAssistantMessage", {}),
    (wire.SessionSettings(), "SessionSettings", {}),
    (wire.SessionSettings(system_prompt="Be brief."), "SessionSettings", {"system_prompt": "Be brief."}),
    (
        EVERYTHING,
        "SessionSettings",
        {
            "system_prompt": "You answer for {{shop}}.",
            "voice_id": "v-1",
            "variables": {"shop": "Kestrel Bikes", "from": ""},
            "context": {"text": "The caller pressed 1.", "type": "temporary"},
            "tools": [WEATHER],
        },
    ),
    (wire.UserInput("(1 2 3)"), "UserInput", {"text": "(1 2 3)"}),
    (wire.AssistantInput("Hello, 'Grüße' 😀"), "AssistantInput", {"text": "Hello, 'Grüße' 😀"}),
    (
        wire.ToolAnswer(tool_call_id="call_A1", content='{"state":"shipped"}'),
        "ToolResponseMessage",
        {"tool_call_id": "call_A1", "content": '{"state":"shipped"}'},
    ),
    (
        wire.ToolErrorAnswer(tool_call_id="call_A1", error="no such tool", content="Say sorry."),
        "ToolErrorMessage",
        {"tool_call_id": "call_A1", "error": "no such tool", "content": "Say sorry."},
    ),
]


@pytest.mark.parametrize(("message", "kind", "fields"), SENT)
def test_what_we_send_is_what_the_vendors_sdk_would_send(
    message: wire.ToHume, kind: str, fields: dict[str, object]
) -> None:
    text = wire.encode_to_hume(message)
    assert known_to_vendor(text.decode(), PUBLISHED) == kind
    sent = json.loads(text)
    del sent["type"]
    assert sent == fields


def test_the_oracle_has_seen_each_of_our_messages() -> None:
    assert {type(message) for message, _, _ in SENT} == set(get_args(wire.ToHume))


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "assistant_input", "txt": "Hello"},
        {"type": "tool_error", "tool_call_id": "x", "content": "y"},
        {"type": "tool_response", "tool_call_id": "x", "content": {"state": "shipped"}},
        {"type": "session_settings", "systemPrompt": "x"},
        {"type": "session_settings", "system_prompt": 5},
        {"type": "session_settings", "context": {"text": "x", "kind": "temporary"}},
        {"type": "session_settings", "tools": [{**WEATHER, "schema": "{}"}]},
        {"type": "session_settings", "tools": [{**WEATHER, "parameters": {"type": "object"}}]},
    ],
)
def test_the_oracle_sees_a_missing_or_misspelt_field(wrong: dict[str, Any]) -> None:
    with pytest.raises((pydantic.ValidationError, AssertionError)):
        known_to_vendor(json.dumps(wrong), PUBLISHED)


# What EVI says (docs/protocols/evi.md 3).

SAID: list[tuple[dict[str, Any], AgentEvent | None]] = [
    (
        {"type": "chat_metadata", "chat_group_id": "9b6d", "chat_id": "470a", "request_id": "73c7"},
        AgentReady(session="470a", resume="9b6d"),
    ),
    (
        {
            "type": "session_settings",
            "audio": {"encoding": "linear16", "sample_rate": 8000, "channels": 1},
            "variables": {"shop": "Kestrel Bikes", "open": "true"},
            "context": {"text": "An order is open.", "type": "persistent"},
        },
        None,
    ),
    (
        {
            "type": "user_message",
            "message": {"role": "user", "content": "Where is my order?"},
            "models": {"prosody": {"scores": dict.fromkeys(EMOTIONS, 0.02)}},
            "time": {"begin": 4120, "end": 5480},
            "interim": False,
            "from_text": False,
            "language": "en",
        },
        UserTurn("Where is my order?", dict.fromkeys(EMOTIONS, 0.02)),
    ),
    (
        {
            "type": "user_message",
            "message": {"role": "user", "content": "Where is"},
            "models": {},
            "time": {"begin": 1, "end": 2},
            "interim": True,
            "from_text": False,
        },
        None,
    ),
    (
        {
            "type": "user_message",
            "message": {"role": "user", "content": None},
            "models": {"prosody": None},
            "time": {"begin": 1, "end": 2},
            "interim": False,
            "from_text": True,
        },
        OddMessage(OddKind.FIELD, "a user_message without words"),
    ),
    (
        {
            "type": "assistant_message",
            "id": "3f0c",
            "message": {"role": "assistant", "content": "Let me check that."},
            "models": {},
            "from_text": False,
            "is_quick_response": True,
        },
        AgentText("3f0c", "Let me check that."),
    ),
    (
        {
            "type": "assistant_message",
            "message": {"role": "assistant"},
            "models": {},
            "from_text": False,
            "is_quick_response": False,
        },
        OddMessage(OddKind.FIELD, "an assistant_message without words"),
    ),
    ({"type": "assistant_prosody", "id": "3f0c", "models": {"prosody": None}}, None),
    ({"type": "assistant_end"}, AgentTurnEnd()),
    ({"type": "user_interruption", "time": 1762800000}, UserInterruption()),
    (
        {
            "type": "tool_call",
            "name": "order_status",
            "parameters": '{"number":"A-17"}',
            "tool_call_id": "call_A1",
            "tool_type": "function",
            "response_required": True,
        },
        ToolCall("call_A1", "order_status", '{"number":"A-17"}', response_required=True),
    ),
    (
        {
            "type": "tool_call",
            "name": "web_search",
            "parameters": "{}",
            "tool_call_id": "call_B2",
            "tool_type": "builtin",
            "response_required": False,
        },
        ToolCall("call_B2", "web_search", "{}", response_required=False),
    ),
    ({"type": "tool_response", "tool_call_id": "call_A1", "content": '{"summary":"x"}'}, None),
    ({"type": "tool_error", "tool_call_id": "call_A1", "error": "too late"}, None),
    (
        {"type": "error", "code": "E0714", "slug": "inactivity_timeout", "message": "Nobody spoke."},
        AgentFault("Hume reports an error: Nobody spoke. (E0714 inactivity_timeout)", SessionEndKind.REFUSED),
    ),
]
IDS = [f"{number}-{message['type']}" for number, (message, _) in enumerate(SAID)]
AUDIO = {"type": "audio_output", "id": "3f0c", "index": 0, "data": WAV}


@pytest.mark.parametrize(("message", "event"), SAID, ids=IDS)
def test_every_message_of_evi_is_understood(message: dict[str, Any], event: AgentEvent | None) -> None:
    text = json.dumps({**message, "custom_session_id": "call-7f3a"})
    known_to_vendor(text, SUBSCRIBED)  # the sample itself is a true one
    for form in (text, json.dumps({**message, "new_field": {"x": [1]}})):
        assert to_event(heard(form)) == event


def test_audio_is_understood() -> None:
    known_to_vendor(json.dumps(AUDIO), SUBSCRIBED)
    message_ = heard(json.dumps(AUDIO))
    audio = to_event(message_)
    assert isinstance(audio, AgentAudio)
    assert (audio.reply, audio.wav.rate, bytes(audio.wav.pcm)) == ("3f0c", 48_000, SOUND)


def test_the_samples_hold_all_twelve_types_of_the_sdk() -> None:
    types = {kind.model_fields["type"].default for kind in get_args(vendor.SubscribeEvent)}
    assert len(types) == 12
    assert {message["type"] for message, _ in SAID} | {"audio_output"} == types


@pytest.mark.parametrize(
    ("message", "event"),
    [
        ({"type": "chat_metadata", "chat_id": "c"}, AgentReady("c")),
        ({"type": "chat_metadata", "chat_id": "c", "chat_group_id": None}, AgentReady("c")),
        ({"type": "user_message", "message": {"content": "hi"}}, UserTurn("hi")),
        ({"type": "user_message", "message": {"content": "hi"}, "models": None}, UserTurn("hi")),
        ({"type": "user_message", "message": {"content": "hi"}, "models": {"prosody": {}}}, UserTurn("hi")),
        (
            {"type": "user_message", "message": {"content": "hi"}, "models": {"prosody": {"scores": None}}},
            UserTurn("hi"),
        ),
        ({"type": "user_message", "message": {"content": ""}}, None),
        ({"type": "assistant_message", "message": {"content": "hi"}}, AgentText("", "hi")),
        ({"type": "assistant_message", "id": None, "message": {"content": "hi"}}, AgentText("", "hi")),
        ({"type": "assistant_prosody"}, None),
        ({"type": "user_interruption"}, UserInterruption()),
        ({"type": "tool_call", "tool_call_id": "x"}, ToolCall("x", "", "{}", response_required=False)),
        ({"type": "tool_response"}, None),
        ({"type": "tool_error"}, None),
        ({"type": "error"}, AgentFault("Hume reports an error: no details given")),
        (
            {"type": "error", "code": "I0100", "slug": None, "message": None},
            AgentFault("Hume reports an error: I0100", SessionEndKind.LOST),
        ),
        ({"type": "error", "code": 7}, AgentFault("Hume reports an error: 7")),
        ({"type": "audio_output", "id": "a", "data": ""}, None),
        ({"type": "tool_error", "error": {"a": 1}}, None),
        ({"type": "tool_error", "tool_call_id": {"a": 1}}, None),
        ({"type": "user_message", "message": {"content": "hi"}, "interim": None}, UserTurn("hi")),
        (
            {
                "type": "user_message",
                "message": {"content": "hi"},
                "models": {"prosody": {"scores": {"Joy": None, "Awe": 0.5}}},
            },
            UserTurn("hi", {"Awe": 0.5}),
        ),
        ({"type": "tool_call", "tool_call_id": "x", "name": None, "parameters": None}, ToolCall("x", "", "{}", False)),
    ],
)
def test_what_we_do_not_need_may_be_absent_or_null(message: dict[str, Any], event: AgentEvent | None) -> None:
    message_ = heard(json.dumps(message))
    assert to_event(message_) == event


def test_audio_without_an_id_belongs_to_no_reply() -> None:
    for message in ({"type": "audio_output", "data": WAV}, {**AUDIO, "id": None}):
        audio = to_event(heard(json.dumps(message)))
        assert isinstance(audio, AgentAudio)
        assert audio.reply == ""


@pytest.mark.parametrize(
    "message",
    [
        {"type": "user_message"},
        {"type": "user_message", "message": None},
        {"type": "user_message", "message": PRIVATE},
        {"type": "user_message", "message": {}},
        {"type": "user_message", "message": {"content": None}},
        {"type": "user_message", "message": {"content": [{"type": "text", "text": PRIVATE}]}},
        {"type": "user_message", "message": {"content": 7}},
        {"type": "assistant_message", "message": [PRIVATE]},
        {"type": "assistant_message", "message": {"role": "assistant"}},
        {"type": "tool_call", "tool_call_id": None, "name": "x"},
        {"type": "tool_call", "tool_call_id": 5, "name": "x"},
        {"type": "tool_call", "tool_call_id": "", "name": "x"},
        {"type": "tool_call", "tool_call_id": "a" * 257, "name": "x"},
        {"type": "tool_call", "name": "x"},
    ],
)
def test_what_a_call_needs_and_does_not_get_is_odd(message: dict[str, object]) -> None:
    event = to_event(heard(json.dumps(message)))
    assert isinstance(event, OddMessage)
    assert event.kind is OddKind.FIELD
    assert "555" not in event.about


@pytest.mark.parametrize(
    ("scores", "kept"),
    [
        ('{"Joy":NaN,"Awe":0.5}', {"Awe": 0.5}),
        ('{"Joy":"much","Awe":0.5}', {"Awe": 0.5}),
        ('{"Joy":Infinity,"Awe":-0.001}', {"Awe": -0.001}),
        ('{"Joy":1e400,"Awe":1}', {"Awe": 1}),
        ('{"Joy":null,"Awe":true,"Pain":[1],"Fear":{}}', {}),
        ('["Joy"]', {}),
        ('"Joy"', {}),
        ("null", {}),
        ('{"\\u001b[31mJoy\\u202e":0.5}', {"Joy": 0.5}),
    ],
)
def test_of_the_scores_those_that_are_some_are_kept(scores: str, kept: dict[str, float]) -> None:
    text = '{"type":"user_message","message":{"content":"hi"},"models":{"prosody":{"scores":%s}}}'
    assert to_event(heard(text % scores)) == UserTurn("hi", kept)
    assert to_event(heard(text.replace('{"prosody":{"scores":%s}}', "%s") % scores)) == UserTurn("hi")


def test_scores_without_end_are_cut() -> None:
    scores = {f"{number} {'x' * 100}": 0.5 for number in range(1000)}
    message = {"type": "user_message", "message": {"content": "hi"}, "models": {"prosody": {"scores": scores}}}
    event = to_event(heard(json.dumps(message)))
    assert isinstance(event, UserTurn)
    assert len(event.emotions) <= 64
    assert all(len(name) <= 64 for name in event.emotions)


@pytest.mark.parametrize(
    ("audio", "why"),
    [
        (b"RIFF", "4 bytes"),
        (SOUND, "RIFF/WAVE"),
        (riff(fmt()), "no data chunk"),
        (riff(fmt(bits=8), chunk(b"data", SOUND)), "8 bits"),
        (riff(fmt(bits=24), chunk(b"data", SOUND)), "24 bits"),
        (riff(fmt(0), chunk(b"data", SOUND)), "0 Hz"),
    ],
)
def test_audio_that_is_no_wav_is_odd_and_why(audio: bytes, why: str) -> None:
    event = to_event(heard(json.dumps({**AUDIO, "data": base64.b64encode(audio).decode()})))
    assert isinstance(event, OddMessage)
    assert event.kind is OddKind.AUDIO
    assert why in event.about


@pytest.mark.parametrize(
    ("data", "played"),
    [
        (SOUND, SOUND),
        (SOUND + b"x", SOUND),
        (b"ID3" + SOUND, None),
        (b"OggS" + SOUND, None),
        (riff(fmt(bits=24), chunk(b"data", SOUND)), None),
    ],
)
def test_samples_without_a_header_are_played_if_the_rate_is_known(data: bytes, played: bytes | None) -> None:
    known = Wav(48_000, 1, memoryview(b""))
    event = to_event(wire.AudioOutput(data, "a"), known)
    assert isinstance(event, AgentAudio if played else OddMessage)
    if isinstance(event, AgentAudio):
        assert (event.wav.rate, event.wav.channels, bytes(event.wav.pcm)) == (48_000, 1, played)


# Errors and closes (docs/protocols/evi.md 6.3, 6.4).


@pytest.mark.parametrize(
    ("code", "ends"),
    [
        ("E0100", None),
        ("E0101", None),
        ("E0201", None),
        ("E0202", None),
        ("E0712", None),
        ("E0200", None),
        ("E0300", SessionEndKind.REFUSED),
        ("E0708", SessionEndKind.FORGOTTEN),
        ("E0710", SessionEndKind.FORGOTTEN),
        ("E0714", SessionEndKind.REFUSED),
        ("E0715", SessionEndKind.REFUSED),
        ("E0723", SessionEndKind.REFUSED),
        ("E9999", None),
        ("I0100", SessionEndKind.LOST),
        ("I0116", SessionEndKind.LOST),
        ("I0118", SessionEndKind.LOST),
        ("I0999", SessionEndKind.LOST),
        ("", None),
        ("strange", None),
        ("Insane", None),
    ],
)
def test_an_error_code_says_whether_the_chat_ends_and_may_be_resumed(code: str, ends: SessionEndKind | None) -> None:
    fault = to_event(wire.HumeError(code, "a_slug", "It broke."))
    assert isinstance(fault, AgentFault)
    assert fault.ends is ends
    assert code in fault.message
    assert "It broke." in fault.message


def test_a_warning_is_no_fault() -> None:
    assert to_event(wire.HumeError("W0105", "no_faces", "No faces.")) is None


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (wire.HumeError("E0300", "credits", "No\n\tcredits."), "No credits. (E0300 credits)"),
        (wire.HumeError("E0300", "", "No credits."), "No credits. (E0300)"),
        (wire.HumeError("E0300", "credits"), "E0300 credits"),
        (wire.HumeError(message="No credits."), "No credits."),
        (wire.HumeError(), "no details given"),
    ],
)
def test_an_error_is_described_on_one_line(error: wire.HumeError, line: str) -> None:
    assert describe(error) == line


def test_a_long_error_is_cut() -> None:
    assert len(describe(wire.HumeError("c" * 5000, "s" * 5000, "m" * 5000))) < 500


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (1000, SessionEndKind.GOODBYE),
        (1001, SessionEndKind.LOST),
        (1005, SessionEndKind.REFUSED),
        (1006, SessionEndKind.DEAD),
        *((code, SessionEndKind.PROTOCOL_ERROR) for code in (1002, 1007, 1009)),
        (1008, SessionEndKind.REFUSED),
        (1011, SessionEndKind.LOST),
        (1012, SessionEndKind.LOST),
        (1013, SessionEndKind.LOST),
        (1014, SessionEndKind.LOST),
        (4000, SessionEndKind.REFUSED),
    ],
)
def test_a_close_code_says_whether_it_was_a_good_bye(code: int, kind: SessionEndKind) -> None:
    end = closed(code, "over\nload")
    assert end.kind is kind
    assert str(code) in end.cause
    if code not in (1000, 1006):
        assert "over load" in end.cause
        assert closed(code, "") == SessionEnd(f"the chat with Hume was closed with code {code}", kind)


@pytest.mark.parametrize(
    ("message", "event"),
    [
        (
            {"tool_call_id": "a", "name": "x", "parameters": {"n": 1}, "response_required": "yes"},
            ("a", "x", '{"n":1}', True),
        ),
        ({"tool_call_id": "a", "name": 7, "parameters": None, "response_required": 1}, ("a", "7", "{}", True)),
        ({"tool_call_id": "a", "name": None, "parameters": [], "response_required": None}, ("a", "", "{}", False)),
    ],
)
def test_an_odd_tool_call_is_read_as_far_as_it_makes_sense(
    message: dict[str, object], event: tuple[object, ...]
) -> None:
    message_ = heard(json.dumps({"type": "tool_call"} | message))
    assert to_event(message_) == ToolCall(*event)  # type: ignore[arg-type]  # a table


def test_a_connection_that_broke_answered_its_pings_unless_it_is_said() -> None:
    assert closed(1006, "").kind is SessionEndKind.LOST
