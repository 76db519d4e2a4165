"""EVI's protocol, with the vendor's SDK as the oracle for what we send and for the samples of what we read."""

from __future__ import annotations

import base64
import json
from typing import Any, get_args

import pydantic
import pytest
from hume.empathic_voice import types as vendor
from hume.empathic_voice.chat.types import PublishEvent
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.errors import ProviderProtocolError
from sts_trio.providers.base import (
    AgentAudio,
    AgentEvent,
    AgentFault,
    AgentReady,
    AgentText,
    AgentTurnEnd,
    SessionEnd,
    SessionEndKind,
    ToolCall,
    UserInterruption,
    UserTurn,
)
from sts_trio.providers.hume import wire
from sts_trio.providers.hume.settings import EMOTIONS
from sts_trio.providers.hume.wire import closed, describe, parse_from_hume, to_event
from tests.unit.signals import chunk, fmt, riff

SOUND = bytes(range(40))
WAV = base64.b64encode(riff(fmt(48_000), chunk(b"data", SOUND))).decode()
PRIVATE = "call me on 555 0142"

PUBLISHED: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(PublishEvent)
SUBSCRIBED: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(vendor.SubscribeEvent)


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
        None,
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
        None,
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
    for form in (text, text.encode(), json.dumps({**message, "new_field": {"x": [1]}})):
        heard = parse_from_hume(form)
        assert heard is not None
        assert to_event(heard) == event


def test_audio_is_understood() -> None:
    known_to_vendor(json.dumps(AUDIO), SUBSCRIBED)
    heard = parse_from_hume(json.dumps(AUDIO))
    assert heard is not None
    audio = to_event(heard)
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
        ({"type": "user_message", "message": {}}, None),
        ({"type": "user_message", "message": {"content": ""}}, None),
        ({"type": "assistant_message", "message": {"content": "hi"}}, AgentText("", "hi")),
        ({"type": "assistant_message", "id": None, "message": {"content": "hi"}}, AgentText("", "hi")),
        ({"type": "assistant_prosody"}, None),
        ({"type": "user_interruption"}, UserInterruption()),
        ({"type": "tool_call", "tool_call_id": "x"}, ToolCall("x", "", "{}", response_required=False)),
        ({"type": "tool_response"}, None),
        ({"type": "tool_error"}, None),
        ({"type": "error"}, AgentFault("Hume reports an error: no details given", SessionEndKind.REFUSED)),
        (
            {"type": "error", "code": "I0100", "slug": None, "message": None},
            AgentFault("Hume reports an error: I0100", SessionEndKind.LOST),
        ),
        ({"type": "error", "code": 7}, AgentFault("Hume reports an error: 7", SessionEndKind.REFUSED)),
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
    heard = parse_from_hume(json.dumps(message))
    assert heard is not None
    assert to_event(heard) == event


def test_audio_without_an_id_belongs_to_no_reply() -> None:
    for message in ({"type": "audio_output", "data": WAV}, {**AUDIO, "id": None}):
        heard = parse_from_hume(json.dumps(message))
        assert heard is not None
        audio = to_event(heard)
        assert isinstance(audio, AgentAudio)
        assert audio.reply == ""


@pytest.mark.parametrize("message", ['{"type":"new_in_2027"}', '{"type":"","x":{}}', '{"x":1,"type":"Error"}'])
def test_an_unknown_type_is_none(message: str) -> None:
    assert parse_from_hume(message) is None


@pytest.mark.parametrize(
    ("message", "names"),
    [
        ("", "no JSON object with a type"),
        (PRIVATE, "no JSON object with a type"),
        (f'{{"type":"assistant_end","x":"{PRIVATE}', "no JSON object with a type"),
        (b"\xff\xfe\x00\x01", "no JSON object with a type"),
        ("null", "no JSON object with a type"),
        ("7", "no JSON object with a type"),
        (f'["{PRIVATE}"]', "no JSON object with a type"),
        ("{}", "no JSON object with a type"),
        ('{"type":null}', "no JSON object with a type"),
        (f'{{"type":["{PRIVATE}"]}}', "no JSON object with a type"),
        ("[" * 100_000, "no JSON object with a type"),
        ('{"type":"chat_metadata"}', "broken chat_metadata"),
        ('{"type":"chat_metadata","chat_id":5}', "broken chat_metadata"),
        ('{"type":"user_message"}', "broken user_message"),
        ('{"type":"user_message","message":null}', "broken user_message"),
        (f'{{"type":"user_message","message":"{PRIVATE}"}}', "broken user_message"),
        (f'{{"type":"user_message","message":{{"content":["{PRIVATE}"]}}}}', "broken user_message"),
        (f'{{"type":"assistant_message","message":["{PRIVATE}"]}}', "broken assistant_message"),
        ('{"type":"audio_output"}', "broken audio_output"),
        ('{"type":"audio_output","data":null}', "broken audio_output"),
        (f'{{"type":"audio_output","data":"{PRIVATE}"}}', "broken audio_output"),
        ('{"type":"audio_output","data":"AAA"}', "broken audio_output"),
    ],
)
def test_a_broken_message_is_a_protocol_error_that_names_its_type(message: str | bytes, names: str) -> None:
    with pytest.raises(ProviderProtocolError, match=names) as info:
        parse_from_hume(message)
    assert "555" not in str(info.value)
    assert len(str(info.value)) < 300


@pytest.mark.parametrize(
    ("audio", "why"),
    [
        (b"RIFF", "4 bytes"),
        (SOUND, "RIFF/WAVE"),
        (riff(fmt()), "no data chunk"),
        (riff(fmt(bits=8), chunk(b"data", SOUND)), "8 bits"),
    ],
)
def test_audio_that_is_no_wav_is_a_protocol_error_with_the_reason(audio: bytes, why: str) -> None:
    heard = parse_from_hume(json.dumps({**AUDIO, "data": base64.b64encode(audio).decode()}))
    assert heard is not None
    with pytest.raises(ProviderProtocolError, match=why):
        to_event(heard)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
FIELDS = [
    "chat_id",
    "message",
    "models",
    "interim",
    "id",
    "data",
    "tool_call_id",
    "parameters",
    "code",
    "slug",
]
NEARLY = st.fixed_dictionaries(
    {"type": st.sampled_from([*(message["type"] for message, _ in SAID), "audio_output"])},
    optional=dict.fromkeys(FIELDS, ANY_JSON),
)


@given(st.text() | st.binary() | ANY_JSON.map(json.dumps) | NEARLY.map(json.dumps))
def test_any_message_is_an_event_or_nothing_or_a_protocol_error(message: str | bytes) -> None:
    try:
        heard = parse_from_hume(message)
        if heard is not None:
            to_event(heard)
    except ProviderProtocolError:
        pass


# Errors and closes (docs/protocols/evi.md 6.3, 6.4).


@pytest.mark.parametrize(
    ("code", "ends"),
    [
        ("E0100", None),
        ("E0101", None),
        ("E0201", None),
        ("E0202", None),
        ("E0712", None),
        ("E0200", SessionEndKind.REFUSED),
        ("E0300", SessionEndKind.REFUSED),
        ("E0708", SessionEndKind.FORGOTTEN),
        ("E0710", SessionEndKind.FORGOTTEN),
        ("E0714", SessionEndKind.REFUSED),
        ("E0715", SessionEndKind.REFUSED),
        ("E0723", SessionEndKind.REFUSED),
        ("E9999", SessionEndKind.REFUSED),
        ("I0100", SessionEndKind.LOST),
        ("I0116", SessionEndKind.LOST),
        ("I0118", SessionEndKind.LOST),
        ("", SessionEndKind.REFUSED),
        ("strange", SessionEndKind.REFUSED),
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
        ({"tool_call_id": None, "name": "x", "response_required": True}, None),
        ({"tool_call_id": 5, "name": "x", "response_required": True}, None),
        ({"tool_call_id": "", "name": "x", "response_required": True}, None),
        ({"tool_call_id": "a" * 257, "name": "x", "response_required": True}, None),
        ({"name": "x", "response_required": True}, None),
    ],
)
def test_an_odd_tool_call_is_read_as_far_as_it_makes_sense(
    message: dict[str, object], event: tuple[object, ...] | None
) -> None:
    heard = wire.parse_from_hume(json.dumps({"type": "tool_call"} | message))
    assert heard is not None
    assert to_event(heard) == (ToolCall(*event) if event else None)  # type: ignore[arg-type]  # a table


def test_a_connection_that_broke_answered_its_pings_unless_it_is_said() -> None:
    assert closed(1006, "").kind is SessionEndKind.LOST
