"""No secret gets out: not in a log, an answer, a close reason or a traceback, however a call or the service fails."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog
import trio
from trio_websocket import ConnectionClosed

from sts_trio.logs import set_up_logging
from sts_trio.main import run_service
from sts_trio.settings.calls import EmotionRule
from sts_trio.settings.parsers import Secret
from tests.call.stage import make_settings
from tests.e2e.evi import at_once, open_core, open_evi, until
from tests.fakes.raw_client import hear, upgrade

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

MARK = "m4rk3r"
KEY, TOKEN, OTHER = f"{MARK}-of-the-account", f"{MARK}-of-the-callers", f"{MARK}-of-a-service"
NUMBER, SPOKEN, DIGITS = "+491711234567", "my-spoken-words", "73915"
SECRETS = (MARK, NUMBER, NUMBER[1:], SPOKEN, DIGITS)
QUERY = f"?token={TOKEN}&from={NUMBER}&to={NUMBER}"
RULE = {"emotion": "Anger", "above": 0.1, "turns": 1, "webhook": f"http://u:{OTHER}@127.0.0.1:9/x?key={OTHER}"}
ENVIRONMENT = {
    "STS_TOKEN": TOKEN,
    "AMI_URL": f"http://user:{OTHER}@127.0.0.1:9",
    "EMOTION_RULES": json.dumps([RULE]),
    "CALL_VARIABLES": "from,to",
    "DTMF_GAP_MS": "100",
    "LOG_LEVEL": "debug",
    "HOST": "127.0.0.1",
    "PORT": "0",
}


def environment_of(provider: str, url: str) -> dict[str, str]:
    """What leads to a provider, with a secret wherever one may be."""
    prefix, address = ("HUMEAI", "WS_URL") if provider == "humeai" else (provider.upper(), "BASE_URL")
    prompt = f"http://user:{OTHER}@127.0.0.1:9/prompt?key={OTHER}"
    headers = json.dumps({"X-Tenant": OTHER, "X-Gateway": f"Key {OTHER}"})
    own = {"API_KEY": KEY, address: url, "URL_INSTRUCTIONS": prompt, "HEADERS": headers}
    return {"STS_PROVIDER": provider} | {f"{prefix}_{name}": value for name, value in own.items()}


def holds_no_secret(text: str) -> None:
    assert [secret for secret in SECRETS if secret in text] == []


@asynccontextmanager
async def serving(directory: Path, **environment: str) -> AsyncIterator[tuple[str, list[str]]]:
    """Run the service; yields its address, and a list for all that it says to anybody. On leaving, it is read."""
    said: list[str] = []
    await trio.Path(directory).mkdir()
    log = directory / "log"
    with log.open("wb") as out:
        start = partial(
            trio.run_process,
            [sys.executable, "-m", "sts_trio", "serve"],
            env=ENVIRONMENT | {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd())} | environment,
            cwd=directory,
            stdout=out,
            stderr=subprocess.STDOUT,
            check=False,
        )
        async with trio.open_nursery() as nursery:
            process = await nursery.start(start)
            await until(lambda: "ready for calls" in log.read_text(), 30)  # four processes start at once
            yield re.findall(r"http://(127\.0\.0\.1:\d+)", log.read_text())[-1], said
            process.terminate()
            with trio.fail_after(20):
                assert await process.wait() == 0
    said.append(log.read_text())
    assert "call ended" in said[-1]
    holds_no_secret("\n".join(said))


async def ask(address: str, request: bytes) -> str:
    host, _, port = address.rpartition(":")
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        await stream.send_all(request)
        heard = await hear(stream)
        return heard.head + heard.body.decode()


async def hold_call(address: str, said: list[str]) -> None:
    """Say something of everything, until the call is over."""
    async with open_core(f"ws://{address}/{QUERY}") as core:
        await core.send_message('{"type":"init","uuid":"0b6f1f6e-54f0-4f6b-9a49-3d2a1f0c7e11"}')
        for digit in DIGITS:
            await core.send_message(json.dumps({"type": "dtmf_digit", "digit": digit}))
        await core.send_message(json.dumps({"type": "audio", "audio": SPOKEN}))
        await core.send_message(SPOKEN)
        await core.send_message(json.dumps({"type": "note", "from": NUMBER}))
        try:
            while True:
                message = json.loads(await core.get_message())
                if message["type"] != "transcript":  # that is meant for Core
                    said.append(json.dumps(message))
        except ConnectionClosed as closed:
            said.append(f"{closed.reason}")


async def test_calls_that_go_well_and_calls_that_the_provider_ends(tmp_path: Path) -> None:
    rows = [("text", "humeai"), ("json", "openai"), ("text", "xai")]
    await at_once(partial(calls_that_the_provider_ends, tmp_path), rows)


# What a provider says last: each is odd in another way, and holds a secret.
LAST: dict[str, tuple[dict[str, Any], ...]] = {
    "humeai": (
        {"type": "error", "code": "E0101", "slug": "s", "message": f"wrong: {KEY}"},
        {"type": "tool_call", "tool_call_id": "t", "name": SPOKEN, "parameters": SPOKEN},
        {"type": "audio_output", "id": "r", "data": SPOKEN},
        {"type": SPOKEN},
    ),
    "openai": (
        {"type": "error", "error": {"code": KEY, "message": f"wrong: {KEY}", "param": KEY}},
        {"type": "response.output_item.done", "item": {"type": "function_call", "call_id": "t", "arguments": SPOKEN}},
        {"type": "response.output_audio.delta", "response_id": SPOKEN, "delta": SPOKEN + "*"},
        {"type": SPOKEN},
    ),
}


async def calls_that_the_provider_ends(tmp_path: Path, style: str, provider: str) -> None:
    directory = tmp_path / f"{style} {provider}"
    async with (
        open_evi(provider) as evi,
        serving(directory, LOG_FORMAT=style, **environment_of(provider, evi.url)) as (address, said),
    ):
        for target in ("health", "ready", "metrics", "nowhere"):
            said.append(await ask(address, f"GET /{target}{QUERY} HTTP/1.0\r\n\r\n".encode()))
        for headers in ([], [f"X-STS-Token: {TOKEN}x"], [f"Authorization: Bearer {OTHER}", "Origin: http://evil"]):
            said.append(await ask(address, upgrade(f"/?from={NUMBER}", headers)))
        for last in LAST["humeai" if provider == "humeai" else "openai"]:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(hold_call, address, said)
                await until(lambda: any(" ".join(DIGITS) in str(each) for each in evi.messages))
                await evi.user_says(-1, SPOKEN, anger=0.9)
                await evi.agent_says(-1, SPOKEN)
                await evi.say(-1, **last)
                if provider != "humeai":  # whose closes are no good-byes: what an error says ends the call
                    await evi.say(-1, type="error", error={"code": "insufficient_quota", "message": f"none: {KEY}"})
                await evi.chats[-1].aclose(1008 if last["type"] == SPOKEN else 1000, SPOKEN[:3])
            evi.messages.clear()
    assert '"type": "error"' in "".join(said)


async def test_calls_that_never_reach_the_agent(tmp_path: Path) -> None:
    await at_once(partial(calls_that_never_reach_the_agent, tmp_path), [("text", "humeai"), ("json", "openai")])


async def calls_that_never_reach_the_agent(tmp_path: Path, style: str, provider: str) -> None:
    answers = {"401": f"HTTP/1.1 401 {KEY}\r\nContent-Length: 0\r\n\r\n", "garbage": f"{KEY}\r\n\r\n"}
    how = ""

    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        if how == "mute":
            await trio.sleep_forever()
        await stream.send_all(answers[how].encode())

    with trio.socket.socket() as listener:
        await listener.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/chat?region={OTHER}"
        environment = environment_of(provider, url)
        environment |= {"READY_SECONDS": "1", "LOG_FORMAT": style, "BREAKER_FAILURES": "0"}
        async with trio.open_nursery() as nursery:
            async with serving(tmp_path / style, **environment) as (address, said):
                for how in ("refused", "401", "garbage", "mute"):
                    if how == "401":  # up to here nobody has listened
                        listener.listen()
                        nursery.start_soon(trio.serve_listeners, answer, [trio.SocketListener(listener)])
                    before = len(said)
                    await hold_call(address, said)
                    assert '"type": "error"' in "".join(said[before:]), how
                    said.append(await ask(address, f"POST /{QUERY} HTTP/1.0\r\nContent-Length: 0\r\n\r\n".encode()))
            nursery.cancel_scope.cancel()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()  # set_up_logging closes those that it finds; pytest's own must live on
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize("style", ["text", "json"])
async def test_a_bug_of_ours_whose_text_quotes_all_of_it(
    style: str, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is wrong inside a call: the log has the traceback, and none of what the settings keep secret."""
    said: list[str] = []
    async with open_evi() as evi:
        rule = EmotionRule("Anger", 0.1, 1, webhook=str(RULE["webhook"]))
        settings = make_settings(
            key=KEY, sts_token=Secret(TOKEN), url=evi.url, host="127.0.0.1", port=0,
            ami_url=ENVIRONMENT["AMI_URL"], emotion_rules=(rule,),
        )  # fmt: skip
        set_up_logging("debug", style, log, settings.secrets())

        def broken(*_: object) -> None:
            raise KeyError(KEY, TOKEN, settings, settings.calls.ami_url, rule.webhook, f"tel:{NUMBER}")

        monkeypatch.setattr("sts_trio.call.bridge.Bridge.on_agent", broken)
        async with trio.open_nursery() as nursery:
            (url,) = await nursery.start(partial(run_service, settings))
            with trio.fail_after(5):
                await hold_call(url.removeprefix("http://"), said)
            nursery.cancel_scope.cancel()
    assert "KeyError" in log.getvalue()
    assert "internal error of the connector" in "".join(said)
    holds_no_secret(log.getvalue() + "".join(said))


@pytest.mark.parametrize("command", ["serve", "check"])
def test_wrong_settings_are_told_without_them(command: str, tmp_path: Path) -> None:
    wrong = {
        "HUMEAI_API_KEY": f"{KEY} x",
        "STS_TOKEN": f"{TOKEN} x",
        "AMI_URL": f"http://u:{OTHER}@host:port",
        "HUMEAI_URL_INSTRUCTIONS": f"ftp://u:{OTHER}@host?key={OTHER}",
        "HUMEAI_WS_URL": f"ws://host?api_key={KEY}",
        "EMOTION_RULES": json.dumps([RULE | {"above": OTHER}]),
        "ALLOWED_ORIGINS": f"https://u:{OTHER}@host",
    }
    done = subprocess.run(
        [sys.executable, "-m", "sts_trio", command],
        env=wrong | {"PYTHONPATH": str(Path.cwd())},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode != 0
    assert [name for name in wrong if name not in done.stdout + done.stderr] == []
    holds_no_secret(done.stdout + done.stderr)
