"""Core's messages as JSON: the exact shapes of the protocol, and what is not understood."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.core.link import encode_to_core, parse_from_core
from sts_trio.core.wire import (
    CallerAudio,
    Digit,
    Error,
    FromCore,
    Init,
    Interruption,
    NotUnderstood,
    PlayoutAudio,
    ToCore,
    Transcript,
)

UUID = "0b6f1f6e-54f0-4f6b-9a49-3d2a1f0c7e11"
FRAME = bytes(range(256)) + bytes(64)
PRIVATE = "call me on 555 0142"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'{{"type":"init","uuid":"{UUID}"}}', Init(UUID)),
        ('{"type":"init"}', Init()),
        ('{"type":"init","uuid":null}', Init()),
        ('{"type":"init","uuid":"unknown"}', Init("unknown")),
        ('{"type":"init","uuid":17}', Init(17)),
        ('{"type":"init","uuid":"a&config_id=x#y"}', Init("a&config_id=x#y")),
        ('{"type":"init","uuid":"","provider_config":{"api_key":"x"}}', Init("")),
        ('{"type":"audio","audio":"AAD//wEA/v8="}', CallerAudio(b"\x00\x00\xff\xff\x01\x00\xfe\xff")),
        ('{"type":"audio","audio":""}', CallerAudio(b"")),
        ('{"type":"audio","audio":"AAAA","extra":[1]}', CallerAudio(b"\x00\x00\x00")),
        ('{"type":"dtmf_digit","digit":"5"}', Digit("5")),
        ('{"digit":"#","type":"dtmf_digit"}', Digit("#")),
    ],
)
def test_what_core_says_is_read_as_text_or_binary(text: str, message: FromCore) -> None:
    assert parse_from_core(text) == message
    assert parse_from_core(text.encode()) == message


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        (PlayoutAudio(FRAME), {"type": "audio", "audio": base64.b64encode(FRAME).decode()}),
        (Interruption(), {"type": "interruption"}),
        (Transcript("user", "Grüße 😀"), {"type": "transcript", "role": "user", "text": "Grüße 😀"}),
        (
            Transcript("agent", "", {"Joy": 0.25}),
            {"type": "transcript", "role": "agent", "text": "", "emotions": {"Joy": 0.25}},
        ),
        (Error("it broke"), {"type": "error", "message": "it broke"}),
    ],
)
def test_what_core_hears_has_exactly_the_keys_of_the_contract(message: ToCore, wanted: dict[str, Any]) -> None:
    assert json.loads(encode_to_core(message)) == wanted


@given(st.binary(max_size=1000))
def test_audio_arrives_and_leaves_bit_exact(audio: bytes) -> None:
    heard = parse_from_core(json.dumps({"type": "audio", "audio": base64.b64encode(audio).decode()}))
    assert heard == CallerAudio(audio)
    assert base64.b64decode(json.loads(encode_to_core(PlayoutAudio(audio)))["audio"], validate=True) == audio


@pytest.mark.parametrize(
    ("message", "about"),
    [
        (PRIVATE, "no JSON object"),
        ("{" + f'"type":"audio","audio":"{PRIVATE}', "no JSON object"),
        (f'{{"type":"init","uuid":"{PRIVATE}"}} {PRIVATE}', "no JSON object"),
        ("", "0 characters"),
        (b"", "0 characters"),
        (b"\xff\xfe\x00" + PRIVATE.encode(), "no JSON object"),
        ("null", "got `null`"),
        ("555", "got `int`"),
        ("true", "got `bool`"),
        (f'"{PRIVATE}"', "got `str`"),
        (f'["{PRIVATE}"]', "got `array`"),
        ("NaN", "no JSON object"),
        ("{}", "without a type"),
        ('{"type":null}', "without a type"),
        (f'{{"type":["{PRIVATE}"]}}', "without a type"),
        ('{"type":"reset"}', "unknown message type 'reset'"),
        ('{"type":"Audio","audio":"AAAA"}', "unknown message type 'Audio'"),
        ('{"type":"audio"}', "broken audio"),
        ('{"type":"audio","audio":null}', "broken audio"),
        ('{"type":"audio","audio":5550142}', "broken audio"),
        (f'{{"type":"audio","audio":["{PRIVATE}"]}}', "broken audio"),
        (f'{{"type":"audio","audio":"{PRIVATE}"}}', "broken audio"),
        ('{"type":"audio","audio":"AAA"}', "broken audio"),
        ('{"type":"audio","audio":"AA==AAAA"}', "broken audio"),
        (f'{{"type":"dtmf_digit","digit":{{"{PRIVATE}":1}}}}', "broken dtmf_digit"),
        ('{"type":"dtmf_digit"}', "broken dtmf_digit"),
        ('{"type":"init","uuid":"\ud800"}', "no JSON object"),  # half of a surrogate pair: no text at all
        ('{"type":"init","uuid":"\\ud800"}', "no JSON object"),
        ("[" * 100_000, "no JSON object"),
        ('{"type":"init","uuid":' + "[" * 100_000, "no JSON object"),
    ],
)
def test_what_is_not_understood_is_described_without_repeating_it(message: str | bytes, about: str) -> None:
    heard = parse_from_core(message)
    assert isinstance(heard, NotUnderstood)
    assert about in heard.about
    assert "555" not in heard.about
    assert len(heard.about) < 200
    assert heard.about.isprintable()


def test_a_message_of_12_mb_is_read_or_described_in_short() -> None:
    size = 12_000_000
    heard = parse_from_core('{"type":"audio","audio":"' + "A" * size + '"}')
    assert isinstance(heard, CallerAudio)
    assert len(heard.audio) == size // 4 * 3
    for bad in (
        "A" * size,
        '{"type":"audio","audio":"%' + "A" * size + '"}',
        '{"type":"' + "A" * size + '"}',
    ):
        heard = parse_from_core(bad)
        assert isinstance(heard, NotUnderstood)
        assert len(heard.about) < 200


def test_a_uuid_of_a_megabyte_is_left_to_the_call() -> None:
    assert parse_from_core(json.dumps({"type": "init", "uuid": "u" * 1_000_000})) == Init("u" * 1_000_000)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
NEARLY = st.fixed_dictionaries(
    {"type": st.sampled_from(["init", "audio", "dtmf_digit", "error"]) | ANY_JSON},
    optional={"uuid": ANY_JSON, "audio": ANY_JSON, "digit": ANY_JSON},
)


@given(st.text() | st.binary() | ANY_JSON.map(json.dumps) | NEARLY.map(json.dumps))
def test_no_message_of_core_raises(message: str | bytes) -> None:
    assert isinstance(parse_from_core(message), Init | CallerAudio | Digit | NotUnderstood)
