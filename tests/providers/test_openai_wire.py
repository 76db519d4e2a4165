"""The Realtime protocol without a connection: what we say against the vendor's own types, what is said to us."""

from __future__ import annotations

import json
from math import inf
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.audio.resample import TelephoneResampler
from sts_trio.providers.base import AgentFault, SessionConfig, SessionEndKind, ToolOffer
from sts_trio.providers.openai import wire
from sts_trio.providers.openai.audio import Cut, PlaybackEstimate, open_codec
from sts_trio.providers.openai.dialect import OPENAI, XAI, closed, fault
from sts_trio.providers.openai.history import History
from sts_trio.providers.openai.opening import lasts
from sts_trio.providers.openai.session import Options, Transcription, TurnDetection, other_format, session
from sts_trio.providers.reading import Reader
from tests.call.fakes import tone
from tests.fakes.realtime_oracle import checked

if TYPE_CHECKING:
    from sts_trio.providers.openai.audio import Format
    from sts_trio.providers.openai.dialect import Dialect

TOOL = ToolOffer("weather", "What the weather is like.", '{"type":"object","properties":{"city":{"type":"string"}}}')
BRIEF = SessionConfig(
    voice="cedar", instructions="You answer for {{from}}, {{ to }}.", variables={"from": "2000"}, tools=(TOOL,)
)


@pytest.mark.parametrize("format_", ["pcmu", "pcma", "pcm"])
@pytest.mark.parametrize(
    "options",
    [
        Options(),
        Options(transcription=None, noise="far_field", effort="low", most_tokens=4096),
        Options(turns=TurnDetection("semantic_vad", eagerness="high"), transcription=Transcription(languages=("de",))),
    ],
    ids=str,
)
def test_the_session_is_what_the_vendor_takes(format_: Format, options: Options) -> None:
    shape = session(options, open_codec(format_, 24_000), BRIEF)
    sent = checked(wire.SessionUpdate("settings", shape))["session"]
    assert sent["audio"]["input"]["format"] == sent["audio"]["output"]["format"]
    assert sent["instructions"] == "You answer for 2000, {{ to }}."
    assert sent["audio"]["output"]["voice"] == "cedar"
    assert sent["tools"][0]["parameters"]["properties"] == {"city": {"type": "string"}}


def test_every_other_message_is_what_the_vendor_takes() -> None:
    history = History()
    history.user_turn("a")
    history.agent_words("b", "Good evening.")
    history.user_words("a", "Hello?")
    history.tool(("call_1", "weather", "{}"), "rain")
    history.note("The caller pressed 1.")
    messages: list[wire.ToService] = [
        wire.Append(b"\xff" * 160),
        wire.ItemDelete("cut_1", "item_1"),
        wire.Truncate("cut_2", "item_1", 1240),
        wire.ResponseCancel("cancel_1", "resp_1"),
        wire.ResponseCreate("respond_1"),
        wire.ResponseCreate("respond_2", {"instructions": "Say: x", "tool_choice": "none", "input": []}),
        *(wire.ItemCreate("seed", item) for item in history.items()),
    ]
    sent = [checked(message) for message in messages]
    assert {type(message) for message in messages} | {wire.SessionUpdate} == set(get_args(wire.ToService))
    seeds = [message["item"] for message in sent[6:]]
    assert [item.get("role", item["type"]) for item in seeds] == [
        *("user", "assistant", "function_call", "function_call_output", "system", "system"),
    ]
    assert all(len(item["id"]) <= 32 for item in seeds)


def test_xai_has_voice_and_turns_at_the_top_and_linear_audio() -> None:
    options = Options(
        dialect=XAI, voice="eve", format="pcm", rate=8000, transcription=Transcription("grok-transcribe", ("en-GB",))
    )
    shape = session(options, open_codec("pcm", 8000), SessionConfig())
    assert set(shape) == {"instructions", "tools", "voice", "turn_detection", "audio", "resumption"}
    assert shape["audio"]["input"] == {
        "format": {"type": "audio/pcm", "rate": 8000},
        "transcription": {"model": "grok-transcribe", "language_hint": "en-GB"},
    }


# Errors and closes.


@pytest.mark.parametrize("dialect", [OPENAI, XAI], ids=lambda dialect: dialect.name)
@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        *((code, "", SessionEndKind.LOST) for code in (1001, 1005, 1006, 1011, 1012, 1013, 1014, 1015)),
        *((code, "", SessionEndKind.LOST) for code in (1000, 1003, 1008, 3000, 3999, 4000, 4004, 4999)),
        *((code, "", SessionEndKind.PROTOCOL_ERROR) for code in (1002, 1007, 1009)),
        (1013, "insufficient_quota.credit_balance_exhausted", SessionEndKind.REFUSED),
        (1001, "Your session hit the maximum duration of 60 minutes.", SessionEndKind.LOST),
        (3000, "invalid_request_error.invalid_api_key", SessionEndKind.REFUSED),
        (1000, "Your session hit the maximum duration of 30 minutes.", SessionEndKind.LOST),
        (1000, "insufficient_quota.insufficient_quota", SessionEndKind.REFUSED),
        (1008, "closed: invalid_api_key", SessionEndKind.REFUSED),
        (1008, "rate_limit_exceeded.rate_limit_exceeded", SessionEndKind.FULL),
        (1008, "invalid_request_error.session_expired", SessionEndKind.LOST),
    ],
)
def test_a_close_is_judged_by_its_reason_first(dialect: Dialect, code: int, reason: str, kind: SessionEndKind) -> None:
    end = closed(code, reason, dialect, began=True)
    assert end.kind is kind
    assert dialect.name in end.cause
    assert str(code) in end.cause


@pytest.mark.parametrize("code", [1000, 1003, 1008, 3000, 4000, 4004])
def test_a_close_in_place_of_a_session_is_a_refusal(code: int) -> None:
    assert closed(code, "", OPENAI, began=False).kind is SessionEndKind.REFUSED


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        ({"code": "response_cancel_not_active"}, None),
        ({"message": "Cancellation failed: no active response found"}, None),
        ({"code": "item_delete_invalid_item_id"}, None),
        ({"message": "Audio content of 900ms is already shorter than 1000ms"}, None),
        ({"type": "insufficient_quota"}, (SessionEndKind.REFUSED, "no credit left")),
        ({"code": "invalid_api_key", "message": "wrong"}, (SessionEndKind.REFUSED, "check OPENAI_API_KEY")),
        ({"code": "model_not_found"}, (SessionEndKind.REFUSED, "check OPENAI_MODEL; gpt-realtime-2.1 is current")),
        ({"code": "session_expired"}, (SessionEndKind.LOST, "session_expired")),
        ({"type": "server_error", "message": "oops"}, (SessionEndKind.LOST, "oops (server_error)")),
        ({"code": "unknown_parameter", "param": "session.x"}, (None, "unknown_parameter session.x")),
        ({"code": 7, "message": ["odd"]}, (None, "odd")),
        ({}, (None, "no details given")),
    ],
)
def test_an_error_ends_a_session_or_does_not(
    cause: dict[str, object], expected: tuple[SessionEndKind | None, str] | None
) -> None:
    told = fault(wire.Cause(**cause), OPENAI)
    if expected is None:
        assert told is None
        return
    assert isinstance(told, AgentFault)
    assert told.ends is expected[0]
    assert expected[1] in told.message
    assert "\n" not in told.message


# Reading.


def read(text: str) -> Any:
    """Read a message as a link does."""
    return Reader(wire.LANGUAGE, "OpenAI", 5.0).read(text, 0.0)


ODD_COUNTS: tuple[Any, ...] = (None, "many", -3, True, [], {}, 1e30, "1e999")
ODD_LISTS: tuple[Any, ...] = (None, 7, "text", {}, [[]])
ODD_PARTS = (
    "null",
    "7",
    '"text"',
    "[]",
    "[7,null]",
    "{}",
    '{"id":7}',
    '{"error":[]}',
    '{"input_tokens":"many"}',
    "true",
)


@pytest.mark.parametrize("odd", ODD_PARTS)
@pytest.mark.parametrize("name", ["usage", "status_details", "output", "status", "id"])
def test_the_end_of_a_response_is_not_lost_for_something_odd_in_it(name: str, odd: str) -> None:
    done = read(f'{{"type":"response.done","response":{{"{name}":{odd}}}}}')
    assert isinstance(done, wire.ResponseDone)
    assert done.response.used == {}
    assert all(item.call_id is None for item in done.response.items)
    assert isinstance(done.response.cause, wire.Cause)


@pytest.mark.parametrize(
    ("usage", "used"),
    [
        (
            {
                "total_tokens": 253,
                "input_tokens": 132,
                "output_tokens": 121,
                "input_token_details": {
                    "text_tokens": 119,
                    "audio_tokens": 13,
                    "image_tokens": 0,
                    "cached_tokens": 64,
                    "cached_tokens_details": {"text_tokens": 60, "audio_tokens": 4, "image_tokens": 0},
                },
                "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
            },
            {
                ("in", "text"): 59,
                ("in", "audio"): 9,
                ("in", "cached"): 64,
                ("out", "text"): 30,
                ("out", "audio"): 91,
            },
        ),
        (  # cached of which kind is not said
            {"input_tokens": 100, "input_token_details": {"text_tokens": 60, "audio_tokens": 40, "cached_tokens": 70}},
            {("in", "audio"): 30, ("in", "cached"): 70},
        ),
        ({"input_tokens": 20, "output_tokens": 10}, {("in", "other"): 20, ("out", "other"): 10}),
        ({"input_tokens": 20.0, "output_tokens": "10"}, {("in", "other"): 20, ("out", "other"): 10}),
        *(
            ({"input_tokens": odd, "input_token_details": {"text_tokens": odd, "cached_tokens_details": odd}}, {})
            for odd in ODD_COUNTS
        ),
    ],
    ids=str,
)
def test_each_token_that_a_response_has_cost_is_counted_once(
    usage: dict[str, Any], used: dict[tuple[str, str], int]
) -> None:
    done = read(json.dumps({"type": "response.done", "response": {"usage": usage}}))
    assert done.response.used == used


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (
            [
                {"name": "requests", "limit": 500, "remaining": 499, "reset_seconds": 0.12},
                {"name": "tokens", "limit": 40000.0, "remaining": "39000"},
            ],
            [("requests", 500, 499, 0.12), ("tokens", 40_000, 39_000, 0.0)],
        ),
        ([{"name": "planes", "limit": 1, "remaining": 1}, {"name": "tokens", "limit": None}, 7, None], []),
        *((odd, []) for odd in ODD_LISTS),
    ],
)
def test_rate_limits_are_read_as_far_as_they_make_sense(limits: object, told: list[Any]) -> None:
    assert list(read(json.dumps({"type": "rate_limits.updated", "rate_limits": limits})).told) == told


@pytest.mark.parametrize("odd", ODD_PARTS)
def test_what_opens_a_session_or_a_response_is_read_whatever_is_in_it(odd: str) -> None:
    assert isinstance(read(f'{{"type":"session.created","session":{odd}}}').created, wire.Created)
    assert isinstance(read(f'{{"type":"session.updated","session":{odd}}}'), wire.SessionUpdated)
    assert isinstance(read(f'{{"type":"response.created","response":{odd}}}').id, str)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "input_text", "text": "a"}, {"text": None}, 7, None, {"text": "b"}], "ab"),
        *((odd, "") for odd in (None, 7, "text", {"text": "a"}, [["a"]])),
    ],
)
def test_the_text_of_an_item_is_what_is_text_in_it(content: object, text: str) -> None:
    item = {"id": "i", "type": "message", "content": content}
    assert read(json.dumps({"type": "conversation.item.added", "item": item})).item.text == text


@pytest.mark.parametrize(
    ("expires_at", "seconds"),
    [(1_800_001_800, 1800.0), (1_800_000_299, inf), (1_700_000_000, inf), (None, inf), ("soon", inf)],
)
def test_a_session_lasts_as_long_as_the_service_says_unless_a_clock_is_wrong(
    expires_at: object, seconds: float
) -> None:
    text = json.dumps({"type": "session.created", "session": {"id": "s", "expires_at": expires_at}})
    created = read(text)
    assert isinstance(created, wire.SessionCreated)
    assert lasts(created.created.expires_at, 1_800_000_000.0) == seconds


def side(**format_: object) -> dict[str, object]:
    return {"format": format_, "voice": "marin"}


@pytest.mark.parametrize(
    ("session", "pcmu", "pcm"),
    [
        ({"audio": {"input": side(type="audio/pcmu"), "output": side(type="audio/pcmu")}}, None, "audio/pcmu"),
        ({"audio": {"input": side(type="audio/pcm", rate=24_000)}}, "audio/pcm 24000", None),
        ({"audio": {"output": side(type="audio/pcm", rate=16_000)}}, "audio/pcm 16000", "audio/pcm 16000"),
        *(
            (session, None, None)
            for session in ({}, None, 7, {"audio": None}, {"audio": {"output": {"format": "pcm"}}})
        ),
    ],
)
def test_a_service_that_will_speak_in_another_format_is_found_out(
    session: object, pcmu: str | None, pcm: str | None
) -> None:
    assert other_format(session, open_codec("pcmu", 24_000)) == pcmu
    assert other_format(session, open_codec("pcm", 24_000)) == pcm


@pytest.mark.parametrize("text", ['{"type":"response.text.done"}', '{"type":"news","obfuscation":"x"}'])
def test_what_we_do_not_know_is_ignored(text: str) -> None:
    assert read(text) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
        max_leaves=6,
    )
)
def test_an_error_of_any_shape_says_something(error: object) -> None:
    said = read(json.dumps({"type": "error", "error": error}))
    assert isinstance(said, wire.ServiceError)
    told = fault(said.cause, OPENAI)
    assert told is None or told.message.startswith("OpenAI reports an error: ")


# Audio.


def test_g711_is_what_the_recommendation_says() -> None:
    mu, a = open_codec("pcmu", 24_000), open_codec("pcma", 24_000)
    # The ends and the middle of the tables (ITU-T G.711, tables 1 and 2), in 16 bits.
    assert np.frombuffer(mu.decode(b"\x00\x80\x7f\xff").pcm, "<i2").tolist() == [-32124, 32124, 0, 0]
    assert np.frombuffer(a.decode(b"\x2a\xaa\x55\xd5").pcm, "<i2").tolist() == [-32256, 32256, -8, 8]
    assert (mu.encode(bytes(2), 2), a.encode(bytes(2), 2)) == (b"\xff", b"\xd5")
    for codec in (mu, a):
        every = bytes(range(256))
        pcm = bytes(codec.decode(every).pcm)
        again = bytes(codec.decode(codec.encode(pcm, 2)).pcm)
        assert again == pcm, "a line that is G.711 itself comes through bit exact"


def test_24_khz_up_and_down_again_is_what_was_said() -> None:
    codec, down = open_codec("pcm", 24_000), TelephoneResampler()
    said = tone(2.0, level=0.4)
    up = b"".join(codec.encode(said[start : start + 320], 2) for start in range(0, len(said), 320))
    assert abs(len(up) - 3 * len(said)) <= 3 * 160
    got = b"".join(down.feed(codec.decode(up[start : start + 777])) for start in range(0, len(up), 777))
    heard, sent = (np.frombuffer(pcm, "<i2")[800:14_000].astype(int) for pcm in (got, said))
    assert np.abs(heard - sent).max() <= 8
    assert len(heard) == 13_200


# What was heard.


@pytest.mark.parametrize(
    ("unheard", "cuts"),
    [
        (0.0, []),
        (0.02, []),
        (0.5, [Cut("b", 500, 1000)]),
        (1.0, [Cut("b", 0, 1000)]),
        (1.25, [Cut("a", 1750, 2000), Cut("b", 0, 1000)]),
        (9.0, [Cut("a", 0, 2000), Cut("b", 0, 1000)]),
    ],
)
def test_a_barge_in_cuts_the_item_that_was_heard_and_all_after_it(unheard: float, cuts: list[Cut]) -> None:
    heard = PlaybackEstimate()
    for item in "aabb":
        heard.give(item, 1.0 if item == "a" else 0.5, 10.0)
    assert heard.playing(13.1)
    assert not heard.playing(13.3)
    assert heard.cut(unheard) == cuts
    assert not heard.playing(10.0)
    assert heard.cut(unheard) == []


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.02, 2.0)), max_size=9), st.floats(0, 30))
def test_no_more_is_cut_than_was_given(chunks: list[tuple[str, float]], unheard: float) -> None:
    heard = PlaybackEstimate()
    for item, seconds in chunks:
        heard.give(item, seconds, 0.0)
    cuts = heard.cut(unheard)
    assert all(0 <= cut.heard_ms <= cut.of_ms for cut in cuts)
    assert sum(cut.of_ms - cut.heard_ms for cut in cuts) <= unheard * 1000 + 2 * len(cuts)


def test_a_voice_of_countless_items_is_forgotten_bit_by_bit() -> None:
    heard = PlaybackEstimate()
    for number in range(5000):
        heard.give(f"item {number}", 0.1, 0.0)
    assert len(heard.cut(500.0)) < 1000


def test_a_memory_keeps_what_was_heard_in_order_and_is_bounded() -> None:
    history = History()
    history.user_turn("u1")
    history.agent_words("a1", "One two three four five six.")
    history.user_words("u1", "Count.")  # later than the answer
    history.agent_heard("a1", 0.5)
    texts = [item["content"][0]["text"] for item in history.items()]
    assert texts[:2] == ["Count.", "One two three …"]
    history.agent_heard("a1", 0.0)
    assert len(list(history.items())) == 2
    for number in range(1000):
        history.agent_words(f"x{number}", "y" * 10_000)
    history.tool(("call", "weather", "z" * 10_000), "rain")
    assert [item["arguments"] for item in history.items() if item["type"] == "function_call"] == ["{}"]
    history.agent_words("x", "y" * 10_000)
    items = list(history.items())
    assert len(items) == 102
    assert len(str(items)) < 250_000
    assert "yyy" not in repr(history)
