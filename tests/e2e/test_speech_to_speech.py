"""Calls with a server of one's own: the protocol code of speech-to-speech, with a parrot in place of its models.

It needs an interpreter with the package (`tests/fakes/speech_to_speech_parrot.py` says how), which
`SPEECH_TO_SPEECH_PYTHON` names; `.ci/run` makes one.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from sts_trio.check import check_all
from sts_trio.errors import ProviderBusy
from sts_trio.providers.base import (
    AgentAudio,
    AgentFault,
    AgentReady,
    AgentText,
    AgentTurnEnd,
    CallInfo,
    OddMessage,
    SessionConfig,
    SessionEnd,
    ToolCall,
    ToolOffer,
    UserInterruption,
    UserWords,
)
from sts_trio.wiring import open_provider
from tests.call.fakes import FRAME, tone
from tests.call.stage import make_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sts_trio.providers.base import AgentLink
    from sts_trio.settings import Settings

PYTHON = os.environ.get("SPEECH_TO_SPEECH_PYTHON", "")
PARROT = Path(__file__).parents[1] / "fakes" / "speech_to_speech_parrot.py"
WEATHER = ToolOffer("weather", "What the weather is like.", '{"type":"object","properties":{}}')

pytestmark = [
    pytest.mark.skipif(not PYTHON, reason="SPEECH_TO_SPEECH_PYTHON names no interpreter that has speech-to-speech"),
    pytest.mark.timeout(120),
]


@asynccontextmanager
async def serving() -> AsyncIterator[Settings]:
    """Run the server; yields the settings that docs/protocols/realtime.md 9.3 gives for it."""
    async with trio.open_nursery() as nursery:
        start = partial(trio.run_process, [PYTHON, str(PARROT)], stdout=subprocess.PIPE, check=False)
        process = await nursery.start(start)
        port, said = b"", process.stdout
        with trio.fail_after(60):
            while not port.endswith(b"\n"):
                port += await said.receive_some()
        yield make_settings("openai", url=f"http://127.0.0.1:{int(port)}/v1", audio_format="pcm", model="own")
        nursery.cancel_scope.cancel()


class Listener:
    """Takes a link's events as they come; `voice` is how much of it came, in seconds."""

    def __init__(self, link: AgentLink) -> None:
        self.link = link
        self.events: list[object] = []
        self.voice = 0.0

    async def listen(self) -> None:
        while True:
            event = await self.link.receive()
            if isinstance(event, AgentAudio):
                self.voice += len(event.wav.pcm) / 2 / event.wav.rate
                continue
            assert not isinstance(event, AgentFault | OddMessage | SessionEnd), event
            self.events.append(event)

    async def until(self, kind: type[Any]) -> Any:
        """Wait for the next event of a kind; those before it are dropped."""
        with trio.fail_after(10):
            while True:
                while self.events:
                    event = self.events.pop(0)
                    if isinstance(event, kind):
                        return event
                await trio.sleep(0.01)


async def speak(link: AgentLink, seconds: float) -> None:
    """Say something, and listen for a second."""
    for _ in range(round(seconds * 50)):
        await link.send_audio(tone(0.02))
        await trio.sleep(0.02)
    for _ in range(50):
        await link.send_audio(FRAME)
        await trio.sleep(0.02)


async def test_a_conversation_goes_as_with_openai() -> None:
    call = CallInfo("call-1", session_config=SessionConfig(tools=(WEATHER,)))
    async with serving() as settings:
        provider = open_provider(settings)
        async with provider(call) as link, trio.open_nursery() as nursery:
            heard = Listener(link)
            nursery.start_soon(heard.listen)
            ready = await heard.until(AgentReady)

            await link.say("Good evening.")
            assert "Good evening." in (await heard.until(AgentText)).text
            await heard.until(AgentTurnEnd)
            assert 1.5 < heard.voice < 2.5

            await speak(link, 0.5)
            assert (await heard.until(UserWords)).text == "What I said."
            assert (await heard.until(AgentText)).text == "What I said."
            await heard.until(AgentTurnEnd)

            await link.user_text("call weather")
            asked = await heard.until(ToolCall)
            assert asked.name == "weather"
            await link.tool_response(asked.id, "Grey.")
            assert (await heard.until(AgentText)).text == "Grey."
            await heard.until(AgentTurnEnd)

            before = heard.voice
            await link.user_text("Tell me a long tale.")
            await trio.sleep(0.3)
            nursery.start_soon(speak, link, 0.5)
            await heard.until(UserInterruption)
            assert 0 < heard.voice - before < 1.9, "the answer that was cut off was sent to its end"
            await link.truncate(0.1)
            assert (await heard.until(UserWords)).text == "What I said."
            assert (await heard.until(AgentText)).text == "What I said."
            await heard.until(AgentTurnEnd)

            with pytest.raises(ProviderBusy, match="session slots are in use"):
                async with provider(call):
                    pass
            nursery.cancel_scope.cancel()
        await trio.sleep(1)

        async with provider(CallInfo("call-1", resume=ready.resume)) as link, trio.open_nursery() as nursery:
            heard = Listener(link)
            nursery.start_soon(heard.listen)
            await heard.until(AgentReady)
            await link.user_text("Are you there?")
            assert (await heard.until(AgentText)).text == "Are you there?"
            nursery.cancel_scope.cancel()


async def test_the_check_hears_its_greeting() -> None:
    lines: list[str] = []
    async with serving() as settings:
        assert await check_all(settings, lines.append, call=True)
    assert [line.partition(" ")[0] for line in lines] == ["ok:"] * 3
    assert "the greeting is heard" in lines[-1]
