"""The emulator's codec and query: what it takes, what it refuses."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from sts_trio.lab.emulator.evi.handshake import parse_handshake
from sts_trio.lab.emulator.evi.settings import SessionSettings
from sts_trio.lab.emulator.evi.wire import (
    AudioInput,
    BadAnswer,
    UserInput,
    WireError,
    encode_server,
    parse_client,
)


def query(text: str) -> SessionSettings:
    asked = parse_handshake(f"/v0/evi/chat?{text}", []).query
    assert asked.problem is None, asked.problem
    return asked.settings


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "E0100"),
        ("{", "E0100"),
        ("hello", "E0100"),
        ("null", "E0101"),
        ("7", "E0101"),
        ("[]", "E0101"),
        ("{}", "E0101"),
        ('{"type":"nonsense"}', "E0101"),
        ('{"type":"user_input"}', "E0101"),
        ('{"type":"tool_response","tool_call_id":"x","content":{}}', "E0101"),
        ('{"type":"session_settings","audio":{"encoding":"mulaw","sample_rate":8000,"channels":1}}', "E0101"),
        ('{"type":"session_settings","audio":{"encoding":"linear16","channels":1}}', "E0101"),
        ("[" * 5000, "E0101"),
    ],
)
def test_bad_messages_have_evis_codes(text: str, code: str) -> None:
    with pytest.raises(WireError) as info:
        parse_client(text)
    assert info.value.code in {code, "E0100"} if text.startswith("[[") else info.value.code == code


def test_base64_must_be_base64() -> None:
    message = parse_client('{"type":"audio_input","data":"%%%"}')
    assert isinstance(message, AudioInput)
    with pytest.raises(WireError, match="base64") as info:
        message.pcm()
    assert info.value.code == "E0201"


@given(st.text() | st.recursive(st.none() | st.booleans() | st.text(), st.lists).map(json.dumps))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(WireError):
        parse_client(text)


@pytest.mark.parametrize(
    "answer",
    [
        '{"type":"tool_response","tool_call_id":"call_A1"}',
        '{"type":"tool_response","tool_call_id":"call_A1","content":{"sky":"grey"}}',
        '{"type":"tool_error","tool_call_id":"call_A1","content":"no error"}',
        '{"type":"tool_error","tool_call_id":"call_A1","error":"e","level":"fatal"}',
    ],
)
def test_a_malformed_answer_is_known_by_its_call(answer: str) -> None:
    with pytest.raises(BadAnswer) as info:
        parse_client(answer)
    assert (info.value.tool_call_id, info.value.code) == ("call_A1", "E0101")


@pytest.mark.parametrize(
    "answer",
    [
        '{"type":"tool_response","content":"x"}',
        '{"type":"tool_error","tool_call_id":7}',
        '{"tool_call_id":"call_A1"}',
        '{"type":"tool_response","tool_call_id":"call_A1","content":7,',
        '{"type":"tool_response","tool_call_id":"call_A1","content":' + "[" * 5000,
    ],
)
def test_a_malformed_answer_to_no_call_is_a_malformed_message(answer: str) -> None:
    with pytest.raises(WireError) as info:
        parse_client(answer)
    assert (type(info.value), info.value.code) == (WireError, "E0101")


def test_unknown_fields_are_ignored() -> None:
    assert parse_client('{"type":"user_input","text":"hi","new":1}') == UserInput(text="hi")


def test_partial_settings_add_up_and_null_clears_only_the_context() -> None:
    first = parse_client(
        '{"type":"session_settings","system_prompt":"p","context":{"text":"c"},'
        '"variables":{"age":30,"open":true,"f":30.0,"s":"x"}}'
    )
    second = parse_client('{"type":"session_settings","voice_id":"v","system_prompt":null,"context":null}')
    assert isinstance(first, SessionSettings)
    assert isinstance(second, SessionSettings)
    in_force = SessionSettings().updated(first).updated(second)
    assert json.loads(encode_server(in_force)) == {
        "type": "session_settings",
        "system_prompt": "p",
        "voice_id": "v",
        "variables": {"age": "30", "open": "true", "f": "30.0", "s": "x"},
    }


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("Hello {{name}}.", "Hello Ada."),
        ("{{ name }}/{{age}}/{{name}}", "Ada/30/Ada"),
        ("Hello {{nobody}}.", "Hello {{nobody}}."),
        ("{name} {{na me}} {{}}", "{name} {{na me}} {{}}"),
        ("{{loop}}", "{{name}}"),  # what a caller brings is not filled in again
        ("", ""),
    ],
)
def test_variables_fill_their_places(text: str, filled: str) -> None:
    settings = query("session_settings[variables][name]=Ada&session_settings[variables][age]=30")
    assert settings.variables
    settings.variables["loop"] = "{{name}}"
    assert settings.filled(text) == filled
    assert SessionSettings().filled(text) == text


@pytest.mark.parametrize(("kind", "stays"), [("temporary", False), ("persistent", True)])
def test_a_temporary_context_is_gone_after_a_reply(kind: str, stays: bool) -> None:
    settings = query(f"session_settings[context][text]=t&session_settings[context][type]={kind}")
    assert (settings.after_reply().context == settings.context) == stays
    assert settings.after_reply().after_reply() == settings.after_reply()


@pytest.mark.parametrize(("left", "right"), [("[", "]"), ("%5B", "%5D")])
def test_settings_in_the_query_raw_or_encoded(left: str, right: str) -> None:
    pairs = {
        "[audio][encoding]": "linear16",
        "[audio][sample_rate]": "8000",
        "[audio][channels]": "1",
        "[context][text]": "a+b%26c",
        "[variables][n]": "1e3",
        "[variables][t]": "True",
    }
    text = "&".join(f"session_settings{key}={value}" for key, value in pairs.items())
    settings = query(text.replace("[", left).replace("]", right))
    assert json.loads(encode_server(settings)) == {
        "type": "session_settings",
        "audio": {"encoding": "linear16", "sample_rate": 8000, "channels": 1},
        "context": {"text": "a b&c", "type": "temporary"},
        "variables": {"n": "1e3", "t": "True"},
    }


def test_variables_as_one_json_text() -> None:
    assert query('session_settings[variables]={"a":1}').variables == {"a": "1"}


@pytest.mark.parametrize(
    "text",
    [
        "session_settings[audio][sample_rate]=8000",
        "session_settings[audio]=linear16",
        "session_settings[audio]=x&session_settings[audio][channels]=1",
        "session_settings[variables]=[]",
        "session_settings[event_limit]=many",
    ],
)
def test_wrong_settings_in_the_query_are_told_and_not_in_force(text: str) -> None:
    asked = parse_handshake(f"/chat?{text}", []).query
    assert asked.problem
    assert asked.settings == SessionSettings()


def test_a_key_in_header_or_query_never_in_the_record() -> None:
    by_header = parse_handshake("/chat?x=1", [(b"x-hume-api-key", b"secret")])
    assert by_header.key == "secret"
    for name in ("api_key", "access_token"):
        by_query = parse_handshake(f"/chat?{name}=secret&verbose_transcription=true", [])
        assert by_query.key == "secret"
        assert by_query.query.verbose_transcription
        assert "secret" not in repr(by_query)
    assert parse_handshake("/chat?api_key=", []).key is None


@given(st.text(alphabet=st.characters(codec="latin-1", exclude_characters="#"), max_size=200))
def test_any_target_is_read_or_refused(text: str) -> None:
    try:
        asked = parse_handshake(f"/chat?session_settings[{text}", [])
    except ValueError:
        return
    assert asked.query.settings.audio is UNSET
