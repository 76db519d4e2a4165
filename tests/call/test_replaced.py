"""A session that takes another's place knows what is still to be said: each question is answered, and once."""

from __future__ import annotations

import base64
import random
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from sts_trio.lab.emulator import Reset, Script
from tests.call.fakes import tone
from tests.call.stage import matrix, open_stage

if TYPE_CHECKING:
    from tests.call.stage import Caller

QUESTION = bytes(8000) + tone(1.0) + bytes(8 * 16_000)  # half a second, a second of voice, and silence
ASKED = 1.5  # when the question is over
SILENCE = 0.8  # that ends a turn, at the most
FIRST_SOUND = 1.0


class Heard:
    """What a caller is told, with the times of its audio."""

    def __init__(self) -> None:
        self.agent: list[str] = []
        self.user: list[str] = []
        self.audio: list[float] = []
        self.errors: list[dict[str, object]] = []
        self.pcm = b""

    async def listen(self, caller: Caller) -> None:
        while True:
            message = await caller.hear()
            match message["type"]:
                case "audio":
                    self.audio.append(trio.current_time())
                    self.pcm += base64.b64decode(str(message["audio"]))
                case "transcript":
                    (self.agent if message["role"] == "agent" else self.user).append(str(message["text"]))
                case "error":
                    self.errors.append(message)
                case _:
                    pass


async def ask(provider: str, broken_at: float) -> tuple[Heard, float, float]:
    """Ask a question while the session breaks; return what is heard, when the call began, when it was resumed."""
    script = Script(steps=(Reset(broken_at),))
    async with open_stage(
        provider=provider, script=lambda number: script if number == 0 else Script(), welcome_message=""
    ) as stage:
        caller = await stage.call()
        heard, began = Heard(), trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(heard.listen, caller)
            await caller.speak(QUESTION)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert stage.emulator.connections == 2
        assert stage.registry.live == 1
        return heard, began, began + broken_at


MOMENTS = [round(random.Random(seed).uniform(0.1, 3.0), 2) for seed in range(100)]
TELLING = (0.3, 1.2, 1.49, 1.9, 2.05, 2.2, 2.4)  # before the question, within, before its end is known, in the answer


@pytest.mark.parametrize(
    ("provider", "broken_at"),
    [
        *(("openai", moment) for moment in TELLING),
        *(matrix("xai", moment) for moment in TELLING),
        *(
            pytest.param(provider, moment, marks=pytest.mark.long)
            for provider in ("openai", "xai")
            for moment in MOMENTS
        ),
    ],
)
async def test_a_question_is_answered_once_whenever_the_session_breaks(
    provider: str, broken_at: float, autojump_clock: trio.testing.MockClock
) -> None:
    heard, began, resumed = await ask(provider, broken_at)
    answered, *more = heard.agent
    assert answered.startswith("You said: (")
    cut_off = began + ASKED + 0.4 < resumed < heard.audio[0] + 1
    assert len(more) <= cut_off, "a second answer to one question"
    # What began less than a tenth of a second before the break was not known as speech yet.
    seconds = 0.9 if 0.5 < broken_at < 0.6 else 1.0
    assert heard.user in ([], [f"({seconds} s of speech)"], ["(1.0 s of speech)"])
    assert not heard.errors
    assert heard.audio[0] <= max(resumed, began + ASKED + SILENCE) + FIRST_SOUND
    assert len(heard.pcm) >= (seconds + 0.1) * 16_000


async def test_an_answer_that_was_cut_off_is_gone_on_with(autojump_clock: trio.testing.MockClock) -> None:
    """The seed has what was heard of it, so that the agent knows where it stopped."""
    script = Script(steps=(Reset(0.3),))
    long = "Hello. " * 20
    async with open_stage(
        provider="openai", script=lambda number: script if number == 0 else Script(), welcome_message=long
    ) as stage:
        caller = await stage.call()
        heard = Heard()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(heard.listen, caller)
            await trio.sleep(20)
            nursery.cancel_scope.cancel()
        seeded, note = stage.emulator.sessions[1].realtime.items.seeded
        assert seeded["role"] == "assistant"
        text = seeded["content"][0]["text"]
        assert 0 < len(text) <= len(long)
        assert note["role"] == "system"
        assert stage.emulator.sessions[1].realtime.items.context is not None
        assert heard.agent[-1] == "As I was saying.", "what the emulator says where it is asked to go on"
        assert len(heard.agent) == 2


async def test_the_voice_of_a_session_that_is_gone_can_be_interrupted(autojump_clock: trio.testing.MockClock) -> None:
    script = Script(steps=(Reset(1.0),))
    async with open_stage(
        provider="openai", script=lambda number: script if number == 0 else Script(), welcome_message="Hello. " * 40
    ) as stage:
        caller = await stage.call()
        await caller.hear_until("audio")
        await caller.speak(bytes(16_000 * 2))  # two seconds, in which the session is replaced
        assert stage.emulator.connections == 2
        await caller.speak(tone(0.5))
        with trio.fail_after(0.5):
            await caller.hear_until("interruption")
