"""Tools and call control on real sockets: a scripted provider, a real HTTP server for AMI, an operator's own file."""

from __future__ import annotations

import base64
import json
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio_websocket import ConnectionClosed

from sts_trio.lab.emulator import Emulator, EmulatorOptions, serve_emulator
from sts_trio.main import run_service
from sts_trio.tools.control import AmiClient
from tests.call.stage import ONE, PROVIDERS, make_settings
from tests.e2e.evi import at_once, open_core, open_evi, until
from tests.tools import http_server as ami

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from trio_websocket import WebSocketConnection

    from tests.e2e.evi import Evi
    from tests.tools.http_server import Answer

UUID = "0b6f1f6e-54f0-4f6b-9a49-3d2a1f0c7e11"
SLOW_TOOL = '''
import time

def look_up(number: str) -> dict:
    """Look up an order."""
    time.sleep(%s)
    return {"order": number, "state": "shipped"}
'''


@asynccontextmanager
async def service(agent_url: str, provider: str, tmp_path: Path, **settings: object) -> AsyncIterator[str]:
    values = {"welcome_message": "", "url": agent_url, "host": "127.0.0.1", "port": 0}
    values |= {"tools_dir": str(tmp_path), "call_control_grace_ms": 3000} | settings
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(partial(run_service, make_settings(provider, "k", **values)))
        yield url.replace("http", "ws")
        nursery.cancel_scope.cancel()


async def begin(core: WebSocketConnection, evi: Evi, calls: int = 1) -> None:
    await core.send_message(json.dumps({"type": "init", "uuid": UUID}))
    await until(lambda: len(evi.chats) == calls)


async def listen(core: WebSocketConnection, heard: list[float]) -> None:
    """Note when each frame of audio came."""
    with suppress(ConnectionClosed):
        while True:
            message = json.loads(await core.get_message())
            if message["type"] == "audio":
                heard.extend([trio.current_time()] * (len(base64.b64decode(message["audio"])) // 320))


async def test_audio_goes_on_beside_a_tool_that_blocks(tmp_path: Path) -> None:
    rows = ((1.5, 8.0, False, "humeai"), (30.0, 1.0, True, "humeai"), (1.5, 8.0, False, "openai"))
    await at_once(beside_a_tool_that_blocks, [(tmp_path / f"{number}", *row) for number, row in enumerate(rows)])


async def beside_a_tool_that_blocks(tmp_path: Path, seconds: float, limit: float, failed: bool, provider: str) -> None:
    await trio.Path(tmp_path).mkdir()
    (tmp_path / "look_up.py").write_text(SLOW_TOOL % seconds)
    async with (
        open_evi(provider) as evi,
        service(evi.url, provider, tmp_path, tool_seconds=limit) as url,
        open_core(url) as core,
        open_core(url) as beside,
        trio.open_nursery() as nursery,
    ):
        await begin(core, evi)
        assert await evi.offers() == ["look_up"]
        await beside.send_message(json.dumps({"type": "init", "uuid": "another"}))
        await until(lambda: len(evi.chats) == 2)
        heard: tuple[list[float], list[float]] = ([], [])
        nursery.start_soon(listen, core, heard[0])
        nursery.start_soon(listen, beside, heard[1])
        await evi.ask(0, "t1", "look_up", '{"number":"A-17"}')
        for chat in (0, 1):
            await evi.speak(chat, 2.0, f"r{chat}")
            await evi.end_turn(chat)
        with trio.fail_after(5):
            while not evi.answers:
                await trio.sleep(0.01)
        await until(lambda: all(len(frames) >= 100 for frames in heard))
        nursery.cancel_scope.cancel()
    ((id_, text, has_failed),) = evi.answers
    assert (id_, has_failed) == ("t1", failed)
    if failed:
        assert "1 s" in text
    else:
        assert json.loads(text) == {"order": "A-17", "state": "shipped"}
    for times in heard:
        assert len(times) == 100
        assert max(later - sooner for sooner, later in pairwise(times)) < 0.2


async def test_a_transfer_is_called_after_the_good_bye(tmp_path: Path) -> None:
    done = ami.reply(200, {"message": f"Call with UUID {UUID} redirect with action: 1"})
    gone = ami.reply(404, {"message": f"Call with UUID {UUID} not found"})
    rows = (
        (done, False, "redirect", "humeai"),
        (gone, True, "not found", "humeai"),
        (ami.reply(500, {"message": "Error communicating with Asterisk"}), True, "Asterisk", "humeai"),
        (ami.reply(200, {"message": "queued"}, after=0.5), False, "queued", "humeai"),
        (ami.raw(b"", close=True), True, "Error during transfer", "humeai"),
        (done, False, "redirect", "openai"),
        (gone, True, "not found", "openai"),
    )
    await at_once(partial(transfer_after_the_good_bye, tmp_path), rows)


async def transfer_after_the_good_bye(tmp_path: Path, answer: Answer, failed: bool, words: str, provider: str) -> None:
    async with (
        ami.serving(answer) as server,
        open_evi(provider) as evi,
        service(evi.url, provider, tmp_path, ami_url=server.url) as url,
        open_core(url) as core,
        trio.open_nursery() as nursery,
    ):
        await begin(core, evi)
        heard: list[float] = []
        nursery.start_soon(listen, core, heard)
        spoken_at = await evi.speak(0, 0.5, "r")
        await evi.end_turn(0)
        await evi.ask(0, "t1", "dsai_transfer", '{"transfer_extension":"2000"}')
        await until(lambda: server.asked)
        asked_at = trio.current_time()
        await until(lambda: evi.answers)
        nursery.cancel_scope.cancel()
    (request,) = server.asked
    assert (request.method, request.target) == ("POST", "/transfer")
    assert json.loads(request.body) == {"uuid": UUID, "exten": "2000", "context": "demo", "priority": 1}
    assert len(heard) == 25
    assert asked_at > heard[-1], "before the last frame"
    assert 0.5 <= asked_at - spoken_at < 1.1
    ((_, told, has_failed),) = evi.answers
    assert has_failed is failed
    assert words in told
    print(f"AMI was called {(asked_at - spoken_at - 0.5) * 1000:.0f} ms after the caller had heard the last word")


@ONE
@pytest.mark.parametrize("listening", [True, False])
async def test_an_ami_that_never_answers_is_a_tool_error(
    provider: str, tmp_path: Path, listening: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sts_trio.wiring.AmiClient", partial(AmiClient, seconds=0.5))
    nobody = f"http://127.0.0.1:{await ami.free_port()}"
    async with (
        ami.serving(ami.silence) as server,
        open_evi(provider) as evi,
        service(evi.url, provider, tmp_path, ami_url=server.url if listening else nobody) as url,
        open_core(url) as core,
    ):
        await begin(core, evi)
        await evi.ask(0, "t1", "dsai_hangup", "{}")
        await until(lambda: evi.answers, 6)  # no good-bye was said: the grace comes before
        ((_, told, failed),) = evi.answers
        assert failed
        assert told.startswith("Error during hangup")
        assert len(evi.chats) == 1, "the call goes on"


async def test_a_key_transfers_the_caller_of_the_emulator(tmp_path: Path) -> None:
    """The whole way: a key of the telephone, the agent's words, its request, AMI, the answer."""
    await at_once(partial(a_key_transfers_the_caller, tmp_path), [(provider,) for provider in PROVIDERS])


async def a_key_transfers_the_caller(tmp_path: Path, provider: Any) -> None:
    async with (
        ami.serving(ami.reply(200, {"message": "queued"})) as server,
        trio.open_nursery() as nursery,
    ):
        emulator = Emulator(EmulatorOptions(service=provider, api_keys=frozenset({"k"})))
        agent_url = await nursery.start(serve_emulator, emulator)
        async with service(agent_url, provider, tmp_path, ami_url=server.url) as url, open_core(url) as core:
            await core.send_message(json.dumps({"type": "init", "uuid": UUID}))
            await until(lambda: emulator.live)
            for digit in "0#":
                await core.send_message(json.dumps({"type": "dtmf_digit", "digit": digit}))
            heard: list[float] = []
            nursery.start_soon(listen, core, heard)
            await until(lambda: server.asked)
            await until(lambda: emulator.live[0].tool_answers)
            assert len(heard) > 25, "it spoke first"
            ((answer,),) = emulator.live[0].tool_answers.values()
            assert answer.content == "queued"
        nursery.cancel_scope.cancel()
