"""Core's messages, as the caller writes and reads them."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.lab.harness import wire


def test_what_core_says_is_the_contract_to_the_letter() -> None:
    pcm = bytes(range(256)) + bytes(64)
    assert json.loads(wire.init("0b6f-7e11")) == {"type": "init", "uuid": "0b6f-7e11"}
    assert json.loads(wire.audio(pcm)) == {"type": "audio", "audio": base64.b64encode(pcm).decode()}
    assert len(wire.audio(bytes(320))) == 455  # docs/protocols/core.md 1.3
    assert json.loads(wire.dtmf_digit("#")) == {"type": "dtmf_digit", "digit": "#"}


def test_what_a_connector_says_is_understood() -> None:
    assert wire.decode('{"type":"audio","audio":"//8BAA=="}') == wire.Audio(b"\xff\xff\x01\x00")
    assert wire.decode('{"type":"interruption"}') == wire.Interruption()
    assert wire.decode('{"type":"transcript","role":"user","text":"Hi"}') == wire.Transcript("user", "Hi")
    assert wire.decode('{"type":"error","message":"no"}') == wire.Error("no")


def test_emotions_are_an_optional_extra() -> None:
    message = wire.decode('{"type":"transcript","role":"agent","text":"Hi","emotions":{"Joy":0.5},"more":1}')
    assert message == wire.Transcript("agent", "Hi", {"Joy": 0.5})
    assert wire.decode('{"type":"transcript","role":"user","text":"Hi","emotions":null}') == wire.Transcript(
        "user", "Hi"
    )


@pytest.mark.parametrize(
    "message",
    [
        "",
        "null",
        "7",
        "[]",
        "{}",
        '{"type":"ready"}',
        '{"type":"audio"}',
        '{"type":"audio","audio":7}',
        '{"type":"audio","audio":"no base64!"}',
        '{"type":"audio","audio":"AAA="}x',
        '{"type":"audio","audio":"AA=="}',  # half a sample
        '{"type":"transcript","role":"assistant","text":"Hi"}',  # the role is agent, never assistant
        '{"type":"error"}',
        b'{"type":"interruption"}',  # text frames only
        "[" * 100_000,
    ],
)
def test_what_core_could_not_use_is_unknown(message: str | bytes) -> None:
    assert isinstance(wire.decode(message), wire.Unknown)


@given(st.one_of(st.text(), st.binary(), st.recursive(st.none() | st.text() | st.floats(), st.lists).map(json.dumps)))
def test_nothing_makes_the_decoder_raise(message: str | bytes) -> None:
    assert isinstance(wire.decode(message), wire.Unknown)
