"""A provider that says what cannot be used: it is skipped and counted, and neither its call nor another notices."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from sts_trio.lab.emulator import Script, SendBinary, SendRaw
from tests.call.fakes import tone
from tests.call.stage import ALL, ONE, matrix, open_stage
from tests.unit.signals import chunk, fmt, riff

if TYPE_CHECKING:
    from sts_trio.lab.emulator.faults import AnyStep

SOUND = bytes(800)
RAW = base64.b64encode(SOUND).decode()


def evi_audio(data: object) -> str:
    return json.dumps({"type": "audio_output", "id": "odd", "index": 0, "data": data})


def realtime_audio(data: object) -> str:
    return json.dumps({"type": "response.output_audio.delta", "response_id": "odd", "item_id": "odd", "delta": data})


def wav(**how: int) -> str:
    return base64.b64encode(riff(fmt(**how), chunk(b"data", SOUND))).decode()


# What any provider may say, and the kind it is counted as; None for what is understood after all.
ANY: dict[str, tuple[str | bytes, str | None]] = {
    "truncated JSON": ('{"type":"error","code', "json"),
    "an empty text": ("", "empty"),
    "ping": ('"ping"', "empty"),
    "null": ("null", "empty"),
    "an array": ("[]", "empty"),
    "a number": ("5", "empty"),
    "a binary frame": (b"\x00\x01", "binary"),
    "JSON in a binary frame": (b'{"type":"assistant_end"}', "binary"),
    "no type": ("{}", "type"),
    "a type that is null": ('{"type":null}', "type"),
    "a type that is a number": ('{"type":7}', "type"),
    "a type of 2027": ('{"type":"news"}', None),
    "deep nesting": ("[" * 50_000, "json"),
    "a megabyte of an error": (json.dumps({"type": "error", "error": "x" * 2**20}), "size"),
    "nine megabytes": ('{"type":"news","x":"' + "x" * 9_000_000 + '"}', "size"),
}
SAID = '{"type":"user_message","message":%s,"models":%s}'
OWN: dict[str, dict[str, tuple[str | bytes, str | None]]] = {
    "humeai": {
        "half a pair": (SAID % ('{"content":"Hello \\ud83d"}', "{}"), None),
        "NaN among scores": (SAID % ('{"content":"Hello"}', '{"prosody":{"scores":{"Joy":NaN}}}'), None),
        "text among scores": (SAID % ('{"content":"Hello"}', '{"prosody":{"scores":{"Joy":"much"}}}'), None),
        "a message that is null": (SAID % ("null", "{}"), "field"),
        "a message that is missing": ('{"type":"user_message"}', "field"),
        "content that is null": (SAID % ('{"content":null}', "{}"), "field"),
        "content in parts": (SAID % ('{"content":[{"type":"text","text":"x"}]}', "{}"), "field"),
        "an id that is a number": ('{"type":"assistant_message","id":7,"message":{"content":"Hello"}}', None),
        "another chat": ('{"type":"chat_metadata","chat_id":7,"chat_group_id":null}', None),
        "audio that is null": (evi_audio(None), "field"),
        "audio that is no base64": (evi_audio("*odd*"), "audio"),
        "unpadded audio": (evi_audio(wav().rstrip("=")), None),
        "samples without a header": (evi_audio(RAW), "audio"),
        "24 bit": (evi_audio(wav(bits=24)), "audio"),
        "rate 0": (evi_audio(wav(rate=0)), "audio"),
    },
    "openai": {
        "a response that is null": ('{"type":"response.done","response":null}', "field"),
        "usage in words": ('{"type":"response.done","response":{"id":"x","usage":{"input_tokens":"many"}}}', None),
        "details in words": ('{"type":"response.done","response":{"status":"failed","status_details":"x"}}', None),
        "an item that is null": ('{"type":"response.output_item.done","item":null}', "field"),
        "an id that is a number": ('{"type":"response.created","response":{"id":7}}', None),
        "words that are a list": ('{"type":"response.output_audio_transcript.done","transcript":["x"]}', "field"),
        "audio that is null": (realtime_audio(None), "field"),
        "audio that is a number": (realtime_audio(7), "audio"),
        "audio that is no base64": (realtime_audio("*odd*"), "audio"),
        "unpadded audio": (realtime_audio(RAW.rstrip("=")), None),
    },
}
OWN["xai"] = OWN["openai"]
BEFORE_THE_RATE_IS_KNOWN = ("samples without a header",)  # the greeting tells it
# What is odd in any protocol is shown with EVI, the rest with each protocol; xAI and what repeats it: `-m matrix`.
CASES = [
    matrix(provider, name) if provider == "xai" or (provider == "openai" and name in ANY) else (provider, name)
    for provider, own in OWN.items()
    for name in ANY | own
]


def step(after: float, message: str | bytes) -> AnyStep:
    return SendBinary(after, message) if isinstance(message, bytes) else SendRaw(after, message)


def counted(scraped: bytes) -> dict[str, int]:
    """How many messages of the provider were not understood, by kind; without zeros."""
    name = 'sts_provider_not_understood_total{kind="'
    lines = [line.removeprefix(name) for line in scraped.decode().splitlines() if line.startswith(name)]
    return {kind: int(float(value)) for kind, value in (line.split('"} ') for line in lines) if float(value)}


# Before and while the greeting is said, while the caller speaks, while they are answered, and in silence.
MOMENTS = (0.0, 1.0, 2.5, 3.9, 7.0)


@pytest.mark.parametrize(("provider", "name"), CASES)
async def test_one_odd_message_never_ends_a_call(
    provider: str, name: str, autojump_clock: trio.testing.MockClock
) -> None:
    message, kind = (ANY | OWN[provider])[name]
    odd = Script(steps=tuple(step(moment, message) for moment in MOMENTS))
    async with open_stage(provider=provider, script=lambda number: Script() if number == 0 else odd) as stage:
        good = await stage.call(uuid="good")
        await good.hear_until("audio")
        bad = await stage.call(uuid="bad")
        await bad.hear_until("audio")
        for caller in (good, bad):
            await caller.speak(tone(1.0) + bytes(16000), 0.1)
        await trio.sleep(4)
        assert stage.registry.live == 2
        times = 1 if kind == "audio" and name in BEFORE_THE_RATE_IS_KNOWN else len(MOMENTS)
        assert counted(stage.metrics.scrape()[0]) == ({kind: times} if kind else {})
        assert len(stage.emulator.live) == 2
        for caller in (good, bad):  # both hear an answer
            while (said := await caller.hear_until("transcript"))["role"] != "agent":
                pass
            assert said["text"]


@ALL
async def test_a_provider_that_says_nothing_else_is_replaced(
    provider: str, autojump_clock: trio.testing.MockClock
) -> None:
    garbage = Script(metadata=True, steps=tuple(SendRaw(2 + 0.5 * count, '{"type":') for count in range(60)))
    async with open_stage(
        provider=provider, script=lambda number: garbage if number == 0 else Script(), welcome_message=""
    ) as stage:
        caller = await stage.call()
        opened = []
        for seconds in (6.5, 2.0):
            await trio.sleep(seconds)
            opened.append(len(stage.emulator.sessions))
        assert opened == [1, 2]
        await caller.speak(tone(2.0) + bytes(16000 * 2))
        await caller.hear_until("audio")
        assert stage.registry.live == 1
        assert list(counted(stage.metrics.scrape()[0])) == ["json"]


@ONE
async def test_a_provider_that_will_not_come_to_its_senses_ends_the_call(
    provider: str, autojump_clock: trio.testing.MockClock
) -> None:
    garbage = Script(steps=tuple(SendRaw(1 + 0.5 * count, "{") for count in range(60)))
    async with open_stage(provider=provider, script=lambda _: garbage, welcome_message="") as stage:
        with trio.fail_after(60):
            heard, code = await (await stage.call()).hear_out()
        assert code == 1011
        assert "nothing that can be understood for 5 s" in str(heard)
