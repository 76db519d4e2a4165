"""EVI in its light mode, held against the emulator's codec: what it sends is EVI's, and what it hears are stamps."""

from __future__ import annotations

import base64
import json

import pytest

from sts_trio.lab.emulator.evi.wire import AudioOutput, encode_audio, encode_server
from sts_trio.lab.load.light_provider import LightEvi
from sts_trio.lab.load.plan import Step
from sts_trio.lab.load.stamps.down import WavMaker
from sts_trio.lab.load.stamps.pcm import pcm_frame
from sts_trio.lab.websocket import BINARY, PING, TEXT, Message

MARK = 77
FRAME = pcm_frame(MARK, 3, 5, 1000, counted=True)


def agent() -> LightEvi:
    return LightEvi(WavMaker(24_000), MARK)


def test_ready_base64_makes_the_same_message_as_the_codec() -> None:
    wav = bytes(range(256))
    message = AudioOutput(id="s1", index=4, data=wav)
    assert encode_audio("s1", 4, base64.b64encode(wav)).decode() == encode_server(message)


def test_a_turn_has_evis_messages_in_their_order() -> None:
    light = agent()
    steps = [Step.WORDS, Step.CHUNK, Step.CHUNK, Step.END, Step.USER, Step.CUT, Step.CUT_OVER]
    told = [*light.begin(), *(text for at, step in enumerate(steps) for text in light.tell(step, 3, 10 * at - 10, 0))]
    messages = [json.loads(text) for text in told]
    assert [message["type"] for message in messages] == [
        "chat_metadata",
        "assistant_message",
        "audio_output",
        "audio_output",
        "assistant_end",
        "user_message",
        "user_interruption",
    ]
    assert len(messages[5]["models"]["prosody"]["scores"]) == 48
    assert {message["id"] for message in messages[1:4]} == {messages[1]["id"]}
    assert [message["index"] for message in messages[2:4]] == [1, 2]
    assert base64.b64decode(messages[2]["data"]).startswith(b"RIFF")


@pytest.mark.parametrize(
    "message",
    [
        Message(BINARY, base64.b64decode(FRAME)),
        Message(TEXT, b'{"type":"audio_input","data":"' + FRAME + b'"}'),
    ],
)
def test_caller_audio_is_heard_in_either_form(message: Message) -> None:
    stamps, answers = agent().hear(message, 2000)
    assert [stamp and (stamp.call, stamp.number) for stamp in stamps] == [(3, 5)]
    assert not answers


@pytest.mark.parametrize(
    "message",
    [
        Message(TEXT, b"no JSON"),
        Message(TEXT, b'{"type":"news"}'),
        Message(TEXT, b'{"type":"audio_input","data":"*"}'),
        Message(TEXT, b'{"type":"pause_assistant_message"}'),
        Message(TEXT, b"\xff"),
        Message(PING, b""),
    ],
)
def test_all_else_is_ignored(message: Message) -> None:
    assert agent().hear(message, 0) == ((), ())
