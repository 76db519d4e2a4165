"""What a provider says that is not as it should be: read as far as it makes sense, else skipped, and never raised."""

from __future__ import annotations

import base64
import json
import string
import time
from math import inf
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.providers.base import OddKind, OddMessage, SessionEnd, SessionEndKind
from sts_trio.providers.hume import wire as hume
from sts_trio.providers.openai import wire as openai
from sts_trio.providers.reading import LONGEST_ID, Reader, decode_base64
from sts_trio.websocket.lenient import LARGE_BYTES, PassedOver
from tests.unit.signals import chunk, fmt, riff

if TYPE_CHECKING:
    from collections.abc import Callable

    from sts_trio.providers.reading import Language

PRIVATE = "call me on 555 0142"
SOUND = bytes(range(256)) * 4 + b"\xfb\xff\xfe"
WAV = riff(fmt(48_000), chunk(b"data", SOUND))


def evi(**message: object) -> str:
    return json.dumps({"type": "audio_output", "id": "a"} | message)


def realtime(**message: object) -> str:
    return json.dumps({"type": "response.output_audio.delta", "response_id": "a"} | message)


# A protocol's messages, its audio as it should be, and the field that holds it.
Case = tuple["Language[Any]", "Callable[..., str]", str]
BOTH: list[Case] = [(hume.LANGUAGE, evi, "data"), (openai.LANGUAGE, realtime, "delta")]
ALL = pytest.mark.parametrize("case", BOTH, ids=["evi", "realtime"])


def reader(case: Case, garbage: float = 5.0) -> Reader[Any]:
    return Reader(case[0], "The peer", garbage)


def read(case: Case, message: str | bytes, now: float = 0.0) -> Any:
    return reader(case).read(message, now)


@ALL
@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("", OddKind.EMPTY),
        (" \n", OddKind.EMPTY),
        ("null", OddKind.EMPTY),
        ("[]", OddKind.EMPTY),
        ('"ping"', OddKind.EMPTY),
        ("7", OddKind.EMPTY),
        (b"", OddKind.EMPTY),
        (b"\x00\x01", OddKind.BINARY),
        (b'{"type":"error"}', OddKind.BINARY),
        (PassedOver.of(9_000_000), OddKind.SIZE),
        (PRIVATE, OddKind.JSON),
        (f'{{"type":"error","x":"{PRIVATE}', OddKind.JSON),
        (json.dumps([PRIVATE] * 9), OddKind.JSON),
        ("[" * 100_000, OddKind.JSON),
        ('{"type":"error","x":' * 60_000, OddKind.JSON),
        ('{"x":' + "9" * 5000 + "}", OddKind.JSON),
        ("{}", OddKind.TYPE),
        ('{"type":null}', OddKind.TYPE),
        ('{"type":7}', OddKind.TYPE),
        (f'{{"type":["{PRIVATE}"]}}', OddKind.TYPE),
        (json.dumps({"type": "error", "x": "y" * LARGE_BYTES}), OddKind.SIZE),
    ],
)
def test_what_is_of_no_use_is_odd_in_one_of_a_few_ways(case: Case, message: str | bytes, kind: OddKind) -> None:
    found = read(case, message)
    assert isinstance(found, OddMessage)
    assert found.kind is kind
    assert "555" not in found.about
    assert len(found.about) < 300


@ALL
@pytest.mark.parametrize("message", ['{"type":"of 2027"}', '{"type":"","x":{}}', '{"type":"n","x":NaN}'])
def test_what_we_do_not_know_is_not_odd(case: Case, message: str) -> None:
    assert read(case, message) is None


@ALL
@pytest.mark.parametrize(
    "how",
    [
        lambda data: base64.b64encode(data).decode(),
        lambda data: base64.b64encode(data).decode().rstrip("="),
        lambda data: base64.urlsafe_b64encode(data).decode(),
        lambda data: base64.urlsafe_b64encode(data).decode().rstrip("="),
        lambda data: base64.encodebytes(data).decode(),
    ],
    ids=["padded", "unpadded", "URL-safe", "URL-safe and unpadded", "in lines"],
)
@pytest.mark.parametrize("size", [1, 400])
def test_base64_of_any_kind_is_read(case: Case, how: Callable[[bytes], str], size: int) -> None:
    _, audio, name = case
    found = read(case, audio(**{name: how(SOUND * size)}))
    assert getattr(found, name) == SOUND * size
    assert (found.id if name == "data" else found.response_id) == "a"


@ALL
def test_a_slash_that_is_escaped_is_read_however_large_the_audio(case: Case) -> None:
    _, audio, name = case
    for size in (10, LARGE_BYTES):
        text = audio(**{name: "/" * (size // 4 * 4 + 2)}).replace("/", "\\/")
        assert getattr(read(case, text), name) == b"\xff" * (size // 4 * 3 + 1)


@ALL
@pytest.mark.parametrize("data", ["*not base64*", "AAAAA", "AA=A", 7, [], {"a": 1}, True])
def test_audio_that_is_none_is_skipped(case: Case, data: object) -> None:
    _, audio, name = case
    for more in ({}, {"x": "y" * LARGE_BYTES}):
        found = read(case, audio(**{name: data}, **more))
        assert isinstance(found, OddMessage)
        assert found.kind is OddKind.AUDIO


@ALL
def test_audio_that_is_null_is_skipped(case: Case) -> None:
    found = read(case, case[1](**{case[2]: None}))
    assert isinstance(found, OddMessage)
    assert found.kind is OddKind.FIELD


@ALL
@pytest.mark.parametrize(
    ("given", "kept"),
    [(7, "7"), (None, None), ([], None), ({"a": 1}, None), (True, None), ("x" * 5000, "x" * LONGEST_ID)],
)
def test_an_odd_id_fails_nothing_and_is_cut(case: Case, given: object, kept: str | None) -> None:
    _, audio, name = case
    field = "id" if name == "data" else "response_id"
    assert getattr(read(case, audio(**{name: "AAAA", field: given})), field) == kept


def test_half_a_pair_is_replaced_and_the_text_is_kept() -> None:
    for half in ("\\ud83d", "\\ude00"):
        said = '{"type":"user_message","message":{"content":"Hello HALF there"}}'
        assert read(BOTH[0], said.replace("HALF", half)).message == {"content": "Hello \ufffd there"}
        said = '{"type":"response.output_audio_transcript.done","transcript":"Hello HALF there"}'
        assert read(BOTH[1], said.replace("HALF", half)).transcript == "Hello \ufffd there"


def test_an_id_that_is_said_again_is_whole_or_missing() -> None:
    asked = {"type": "response.output_item.done", "item": {"type": "function_call", "call_id": "x" * 500}}
    assert read(BOTH[1], json.dumps(asked)).item.call_id is None


# Who says nothing else.


@ALL
def test_only_who_says_nothing_else_for_so_long_is_broken(case: Case) -> None:
    peer = reader(case)
    for now in range(5):
        assert isinstance(peer.read("{", now), OddMessage)
    end = peer.read("{", 5.0)
    assert isinstance(end, SessionEnd)
    assert end.kind is SessionEndKind.PROTOCOL_ERROR
    assert "The peer has sent nothing that can be understood for 5 s" in end.cause


@ALL
@pytest.mark.parametrize("sense", ['{"type":"error"}', '{"type":"of 2027"}'])
def test_one_word_of_sense_and_it_is_not(case: Case, sense: str) -> None:
    peer = reader(case)
    for now in range(100):
        assert not isinstance(peer.read("{" if now % 4 else sense, float(now)), SessionEnd)


@ALL
def test_odd_messages_with_long_pauses_between_are_not_taken_for_it(case: Case) -> None:
    peer = reader(case)
    assert all(isinstance(peer.read("{", now * 5.1), OddMessage) for now in range(20))


@ALL
@pytest.mark.parametrize("sign", ["null", '"ping"', "", "[]", b""])
def test_signs_of_life_while_nobody_speaks_are_not_taken_for_it(case: Case, sign: str | bytes) -> None:
    peer = reader(case)
    assert all(isinstance(peer.read(sign, float(now)), OddMessage) for now in range(100))


# Whatever comes.

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
FIELDS = (
    *("chat_id", "message", "models", "interim", "id", "data", "tool_call_id", "parameters", "code", "slug", "delta"),
    *("response", "item", "session", "conversation", "transcript", "item_id", "response_id", "error", "status"),
)
NEARLY = st.fixed_dictionaries(
    {"type": st.sampled_from(sorted(hume.LANGUAGE.types | openai.LANGUAGE.types))},
    optional=dict.fromkeys(FIELDS, ANY_JSON),
)


@given(st.text() | st.binary() | ANY_JSON.map(json.dumps) | NEARLY.map(json.dumps))
def test_nothing_raises(message: str | bytes) -> None:
    for case in BOTH:
        found = read(case, message)
        if isinstance(found, OddMessage):
            assert found.about.isprintable()


@given(st.binary(max_size=200), st.booleans(), st.booleans())
def test_whatever_was_encoded_comes_back(data: bytes, padded: bool, safe: bool) -> None:
    text = base64.urlsafe_b64encode(data) if safe else base64.b64encode(data)
    assert decode_base64(text if padded else text.rstrip(b"=")) == data


@given(st.binary(max_size=50))
def test_what_is_no_base64_is_not_read(data: bytes) -> None:
    alphabet = string.ascii_letters + string.digits + "+/-_= \t\r\n"
    assert decode_base64(data) is None or not set(data) - set(alphabet.encode())


@pytest.mark.parametrize(
    "inner",
    ['"x":[' + "0.5," * 1_000_000 + "0]", '"x":{' + '"a":1,' * 1_000_000 + '"a":1}', '"x":"' + "y" * 4_000_000 + '"'],
    ids=["numbers", "an object", "text"],
)
@ALL
def test_the_largest_messages_take_a_moment(case: Case, inner: str) -> None:
    language, _, name = case
    shortest = inf
    for text in (f'{{"type":"error",{inner}}}', f'{{"type":"{language.audio}","{name}":"****",{inner}}}'):
        for _ in range(3):
            began = time.thread_time()
            assert isinstance(read(case, text), OddMessage)
            shortest = min(shortest, time.thread_time() - began)
        assert shortest < 0.1
