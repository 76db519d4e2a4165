"""Whole conversations in memory: door, call, link to a provider and the emulator's parrot."""

from __future__ import annotations

import base64
import io
from urllib.parse import parse_qs

import pytest
import trio
import trio.testing
from rich.console import Console

from sts_trio.lab.demo import run_demo
from sts_trio.lab.emulator import EmulatorOptions
from sts_trio.lab.emulator.evi.settings import AudioFormat
from sts_trio.lab.harness.caller import place_call
from sts_trio.lab.harness.measures import answer_to, fidelity
from sts_trio.lab.harness.script import Speak, SpeakOver, Wait, WaitForAgent, WaitForSilence
from sts_trio.lab.harness.speech import SAMPLE, speech_from_wav, utterances
from sts_trio.lab.harness.wire import Interruption
from tests.call.bench import Bench
from tests.call.fakes import tone
from tests.call.stage import ALL, BOTH, KEY, ONE, matrix, open_stage
from tests.e2e.evi import evi_in_memory

FIRST, SECOND = utterances(speech_from_wav(SAMPLE))


# What G.711 leaves of a voice is 38 dB at best.
SNR_DB = {"humeai": 50, "openai": 33, "xai": 50}


@ALL
async def test_the_caller_gets_his_own_words_back(provider: str, autojump_clock: trio.testing.MockClock) -> None:
    script = (WaitForAgent(), WaitForSilence(0.5), Speak(FIRST), WaitForAgent(), WaitForSilence(0.5), Wait(0.3))
    async with open_stage(provider=provider) as stage:
        report = await place_call("ws://sts.test/", script, dial=stage.wire.connect)
        match = fidelity(FIRST, answer_to(report.recording, 0))
        assert match is not None
        assert match.snr_db > SNR_DB[provider]
        assert match.coverage > 0.99
        assert [transcript.role for transcript in report.transcripts] == ["agent", "user", "agent"], report.transcripts
        assert report.transcripts[0].text == "Hello, how can I help you today?"
        assert len(report.transcripts[1].emotions or {}) == (3 if provider == "humeai" else 0)
        assert not report.errors
        assert not report.unknown


@pytest.mark.parametrize(
    ("provider", "rate", "speed"),
    [
        *(("humeai", 48_000, speed) for speed in (2.0, 4.0, float("inf"))),
        *(("humeai", 24_000, 2.0), ("openai", 0, 4.0), ("xai", 0, float("inf"))),
        *(matrix("humeai", 24_000, speed) for speed in (4.0, float("inf"))),
        *(matrix("openai", 0, speed) for speed in (2.0, float("inf"))),
        *(matrix("xai", 0, speed) for speed in (2.0, 4.0)),
    ],
)
async def test_a_barge_in_ends_a_reply_whatever_is_queued(
    provider: str, rate: int, speed: float, autojump_clock: trio.testing.MockClock
) -> None:
    options = EmulatorOptions(api_keys=frozenset({KEY}), rate=rate or 48_000, speed=speed, seed=2)
    script = (
        *(WaitForAgent(), WaitForSilence(0.5), Speak(SECOND * 2), WaitForAgent()),
        *(SpeakOver(FIRST, after=0.6), Wait(0.5)),
    )
    async with open_stage(provider=provider, emulator=options) as stage:
        report = await place_call("ws://sts.test/", script, dial=stage.wire.connect)
        assert sum(isinstance(event.what, Interruption) for event in report.events) == 1
        barged_in = next(turn for turn in report.measures.turns if turn.over)
        assert barged_in.stale_bytes == 0
        assert barged_in.stop is not None
        assert barged_in.stop < 0.9  # 0.8 s of it are what EVI waits before it believes in an interruption
        assert report.recording.underruns == 0


@pytest.mark.parametrize("provider", ["openai", "xai"])
@pytest.mark.parametrize("speed", [1.0, 4.0, float("inf")])
async def test_the_service_learns_how_much_of_its_voice_was_heard(
    provider: str, speed: float, autojump_clock: trio.testing.MockClock
) -> None:
    options = EmulatorOptions(api_keys=frozenset({KEY}), speed=speed, seed=2)
    async with open_stage(provider=provider, emulator=options) as stage:
        caller = await stage.call()
        await caller.hear_until("audio")
        await caller.speak(bytes(9600))  # 0.6 s
        await caller.speak(tone(0.4))
        interruption = await caller.hear_until("interruption")
        told = await caller.hear_until("transcript")
        assert interruption == {"type": "interruption"}
        assert isinstance(told["heard_ms"], int)
        await trio.sleep(0.1)
        ((item, cut),) = stage.emulator.live[0].realtime.items.cuts.items()
        assert cut == pytest.approx(told["heard_ms"], abs=10)
        assert cut == pytest.approx(720, abs=60)  # where he began, and what it takes to notice
        assert stage.emulator.live[0].realtime.early_audio == 0
        assert stage.registry.live == 1
        await caller.speak(bytes(16_000))
        assert (await caller.hear_until("audio"))["audio"], "no answer after a barge-in"
        assert item in stage.emulator.live[0].realtime.items.cuts


@pytest.mark.parametrize("provider", ["openai", "xai"])
async def test_the_demos_call_passes(provider: str, autojump_clock: trio.testing.MockClock) -> None:
    screen = Console(file=io.StringIO(), width=160, color_system=None)
    async with open_stage(provider=provider) as stage:
        result = await run_demo("ws://sts.test/", screen, dial=stage.wire.connect, provider=provider)
    assert result.passed, [check for check in result.checks if not check.passed]


@pytest.mark.parametrize("format_", ["pcma", "pcm"])
async def test_the_other_formats_carry_both_voices(format_: str, autojump_clock: trio.testing.MockClock) -> None:
    script = (WaitForAgent(), WaitForSilence(0.5), Speak(FIRST), WaitForAgent(), WaitForSilence(0.5), Wait(0.3))
    async with open_stage(provider="openai", audio_format=format_) as stage:
        report = await place_call("ws://sts.test/", script, dial=stage.wire.connect)
    match = fidelity(FIRST, answer_to(report.recording, 0))
    assert match is not None
    assert match.snr_db > (50 if format_ == "pcm" else 33)


async def test_what_evi_is_told_when_a_call_begins(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(voice_id="v&x=1", instructions="Be brief & kind.") as stage:
        caller = await stage.call(uuid="a&config_id=x#y")
        await caller.hear_until("audio")
        (session,) = stage.emulator.live
        assert session.query.config_id is None
        settings = session.settings
        assert settings.custom_session_id == "a&config_id=x#y"
        assert settings.system_prompt == "Be brief & kind."
        assert settings.voice_id == "v&x=1"
        assert isinstance(settings.audio, AudioFormat)
        assert (settings.audio.encoding, settings.audio.sample_rate, settings.audio.channels) == ("linear16", 8000, 1)


@ALL
async def test_a_long_prompt_is_in_force_before_the_first_audio(
    provider: str, autojump_clock: trio.testing.MockClock
) -> None:
    prompt = "Answer the telephone. " * 500
    async with open_stage(provider=provider, instructions=prompt) as stage:
        await (await stage.call()).hear_until("audio")
        assert stage.emulator.live[0].prompt == prompt


async def test_with_a_config_neither_prompt_nor_voice_nor_greeting_is_sent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_stage(config_id="cfg-1", voice_id="v", instructions="p") as stage:
        caller = await stage.call()
        await caller.speak(bytes(320 * 50))
        (session,) = stage.emulator.live
        assert session.query.config_id == "cfg-1"
        assert not isinstance(session.settings.system_prompt, str)
        assert not isinstance(session.settings.voice_id, str)
        assert session.messages_received == 50


async def test_a_config_that_greets_does_it_once(autojump_clock: trio.testing.MockClock) -> None:
    options = EmulatorOptions(api_keys=frozenset({KEY}), greetings={"cfg-1": "Welcome!"})
    async with open_stage(config_id="cfg-1", emulator=options) as stage:
        assert (await (await stage.call()).hear_until("transcript"))["text"] == "Welcome!"


@ONE
async def test_two_callers_hear_only_themselves(provider: str, autojump_clock: trio.testing.MockClock) -> None:
    """The old connector mixed callers' voices; here one shouts beside one who is silent."""
    async with open_stage(provider=provider, welcome_message="", allow_call_overrides=True) as stage:
        loud, silent = [await stage.call(f"/?instructions={name}", uuid=name) for name in ("loud", "silent")]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(loud.speak, tone(2.0, level=1.0) + bytes(16_000))
            nursery.start_soon(silent.speak, bytes(40_000))
        assert any(base64.b64decode(str((await loud.hear_until("audio"))["audio"])))
        with trio.move_on_after(5) as waiting:
            await silent.hear()
        assert waiting.cancelled_caught, "the silent caller heard something"
        sessions = {session.prompt: session for session in stage.emulator.live}
        assert sessions["silent"].caller_audio == bytes(40_000)
        assert sessions["loud"].caller_audio[:32_000] == stage.as_heard(tone(2.0, level=1.0))


KEY_HEADERS = {"humeai": f"X-Hume-Api-Key: {KEY}", "openai": f"Authorization: Bearer {KEY}"}


@BOTH
async def test_the_key_travels_in_a_header_and_not_in_the_url(
    provider: str, autojump_clock: trio.testing.MockClock
) -> None:
    seen: list[bytes] = []

    async def dial(endpoint: object) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(listen, theirs)
        return ours

    async def listen(stream: trio.abc.Stream) -> None:
        seen.append(bytes(await stream.receive_some()))
        await stream.aclose()

    url = "wss://evi.test/chat?region=eu"
    async with trio.open_nursery() as nursery, open_stage(provider=provider, dial=dial, url=url) as stage:
        heard, _ = await (await stage.call()).hear_out()
    request, *headers = seen[0].decode().split("\r\n")
    assert KEY_HEADERS[provider].lower() in [header.lower() for header in headers]
    assert KEY not in request
    assert parse_qs(request.split()[1].partition("?")[2])["region"] == ["eu"]
    assert "closed the connection, or answered with something other than a WebSocket" in str(heard)


@ALL
async def test_a_hang_up_closes_the_chat(provider: str, autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(provider=provider) as stage:
        caller = await stage.call()
        await caller.hear_until("audio")
        (session,) = stage.emulator.live
        await caller.socket.aclose()
        with trio.fail_after(2):
            await session.ended.wait()
        assert session.close_code == 1000
        assert not session.closed_by_server
        await trio.testing.wait_all_tasks_blocked()
        assert stage.registry.live == 0


@ONE
async def test_a_caller_who_vanishes_is_noticed(provider: str, autojump_clock: trio.testing.MockClock) -> None:
    """No byte and no pong for 30 s: the far end is dead, though TCP does not know."""
    async with open_stage(provider=provider, welcome_message="") as stage:
        stream = await stage.wire.connect(trio.testing.lockstep_stream_pair)
        async with trio.open_nursery() as reading:
            socket = await stage.wire.call_on(stream)
            await socket.send_message('{"type":"init","uuid":"u"}')
            await trio.sleep(5)
            assert stage.registry.live == 1
            reading.cancel_scope.cancel()
        stage.wire.clients.cancel_scope.cancel()  # its reader is gone: from here on it answers nothing, not even pings
        with trio.fail_after(45):
            while stage.registry.live:
                await trio.sleep(1)


@ALL
@pytest.mark.parametrize("name", ["lookup", "dsai_transfer"])
async def test_what_becomes_of_a_request_when_caller_and_agent_talk_on(
    provider: str, name: str, autojump_clock: trio.testing.MockClock
) -> None:
    """EVI has dropped it then. A Realtime model waits for its answer; but nobody is transferred who may not want it."""
    bench = Bench(name, seconds=4.0)
    uuid = "0b6f1f6e-54f0-4f6b-9a49-3d2a1f0c7e11"
    async with (
        evi_in_memory(provider) as (evi, dial),
        open_stage(provider=provider, dial=dial, tools=(bench.tool,), welcome_message="") as stage,
    ):
        caller = await stage.call(uuid=uuid)
        while not evi.chats:
            await trio.sleep(0.01)
        await evi.ask(0, "t1", name, "{}")
        await trio.sleep(1)
        await evi.user_says(0, "Are you still there?")
        await evi.speak(0, 0.5, "r")
        await evi.end_turn(0)
        await trio.sleep(10)
        stays = provider != "humeai" and name == "lookup"
        ((id_, text, failed),) = evi.answers
        assert (id_, failed, text == "shipped") == ("t1", not stays, stays)
        assert bool(bench.finished) is stays
        if provider != "humeai":
            assert evi.messages[-1]["type"] == "response.create", "it is asked to speak of it, whatever came of it"
        await caller.socket.aclose()
