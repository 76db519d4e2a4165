"""The real process: signals, exit codes, and what its log holds."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

import trio

from tests.call.stage import ONE
from tests.e2e.evi import at_once, open_core, open_evi, until
from tests.e2e.process import KEY, NUMBER, lines, running
from tests.fakes.raw_client import hear_head, upgrade

if TYPE_CHECKING:
    from pathlib import Path


@ONE
async def test_a_running_call_may_finish_after_sigterm_and_no_new_one_is_taken(provider: str, tmp_path: Path) -> None:
    async with open_evi(provider) as evi, running(tmp_path, evi.url, provider) as (process, url, log):
        async with open_core(url) as core:
            await core.send_message('{"type":"init","uuid":"u-1"}')
            await until(lambda: evi.chats)
            process.send_signal(signal.SIGTERM)
            await until(lambda: "draining" in log.read_text())
            host, _, port = url.removeprefix("ws://").partition("/")[0].rpartition(":")
            async with await trio.open_tcp_stream(host, int(port)) as stream:
                await stream.send_all(upgrade())
                refused = await hear_head(stream)
            assert " 503 " in refused
            assert "retry-after" in refused.lower()
            await evi.speak(0, 0.2, "r")  # the call still works
            while json.loads(await core.get_message())["type"] != "audio":
                pass
            assert process.poll() is None
        with trio.fail_after(5):
            assert await process.wait() == 0
    (ended,) = [line for line in lines(log) if line["event"] == "call ended"]
    assert ended["call"] == "u-1"
    assert ended["cause"] == "caller_hung_up"


@ONE
async def test_a_second_signal_ends_the_running_calls_at_once(provider: str, tmp_path: Path) -> None:
    async with (
        open_evi(provider) as evi,
        running(tmp_path, evi.url, provider) as (process, url, log),
        open_core(url) as core,
    ):
        await core.send_message('{"type":"init","uuid":"u-1"}')
        await until(lambda: evi.chats)
        process.send_signal(signal.SIGTERM)
        await until(lambda: "draining" in log.read_text())
        process.send_signal(signal.SIGTERM)
        with trio.fail_after(5):
            assert await process.wait() == 0
        assert json.loads(await core.get_message())["message"] == "the service is stopping"


async def test_calls_that_outlast_the_drain_are_told_and_closed_with_1001(tmp_path: Path) -> None:
    await at_once(partial(outlast_the_drain, tmp_path), [(signal.SIGTERM, "humeai"), (signal.SIGINT, "openai")])


async def outlast_the_drain(tmp_path: Path, number: signal.Signals, provider: str) -> None:
    directory = tmp_path / number.name
    directory.mkdir()
    async with (
        open_evi(provider) as evi,
        running(directory, evi.url, provider, DRAIN_SECONDS="0.5") as (process, url, _),
        open_core(url) as core,
    ):
        await core.send_message('{"type":"init","uuid":"u-1"}')
        await until(lambda: evi.chats)
        process.send_signal(number)
        while (message := json.loads(await core.get_message()))["type"] != "error":
            pass
        assert message["message"] == "the service is stopping"
        with trio.fail_after(5):
            assert await process.wait() == 0
        assert core.closed is not None
        assert core.closed.code == 1001


@ONE
async def test_the_log_holds_no_key_and_no_telephone_number(provider: str, tmp_path: Path) -> None:
    async with (
        open_evi(provider) as evi,
        running(tmp_path, evi.url, provider, LOG_LEVEL="debug") as (process, url, log),
    ):
        async with open_core(url) as core:
            await core.send_message('{"type":"init","uuid":"u-1"}')
            await core.send_message('{"type":"nonsense","from":"' + NUMBER + '"}')
            await core.send_message(NUMBER)
            await until(lambda: evi.chats)
            await evi.user_says(0, "my secret")
            await evi.complain(0, f"no {KEY}")
            while json.loads(await core.get_message())["type"] != "error":
                pass
        process.terminate()
        with trio.fail_after(5):
            assert await process.wait() == 0
    text = log.read_text()
    assert "call ended" in text
    for secret in (KEY, NUMBER, NUMBER[1:], "my secret"):
        assert secret not in text


async def test_what_an_operator_should_know_is_told_once_however_many_workers_there_are(tmp_path: Path) -> None:
    chosen = {"OPENAI_MODEL": "gpt-realtime", "OPENAI_TEMPERATURE": "0.8", "WORKERS": "2"}
    async with running(tmp_path, "http://127.0.0.1:1/v1", "openai", **chosen) as (_, _, log):
        notes = [str(line["note"]) for line in lines(log) if line["event"] == "a setting wants attention"]
    assert [note.split()[0] for note in notes] == ["OPENAI_TEMPERATURE", "OPENAI_MODEL"]


async def test_ctrl_c_ends_a_command_without_a_traceback(tmp_path: Path) -> None:
    commands = (["demo"], ["check"], ["call", "URL"], ["emulate", "--port", "0"])
    await at_once(partial(ctrl_c, tmp_path), [(command,) for command in commands])


async def ctrl_c(tmp_path: Path, command: list[str]) -> None:
    connected = trio.Event()

    async def say_nothing(stream: trio.SocketStream) -> None:
        connected.set()
        await trio.sleep_forever()

    output = tmp_path / command[0]
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, say_nothing, 0, host="127.0.0.1"))
        mute = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/"
        env = {"PATH": os.environ["PATH"], "HUMEAI_API_KEY": KEY, "HUMEAI_WS_URL": mute}
        words = [mute if word == "URL" else word for word in command]
        with output.open("wb") as out:
            start = partial(trio.run_process, stdout=out, stderr=out, check=False, env=env, cwd=tmp_path)
            process = await nursery.start(start, [sys.executable, "-m", "sts_trio", *words])
        # It is in the middle: it waits for an answer, or it has said that it serves, or that it calls.
        await until(lambda: connected.is_set() or (command[0] in ("demo", "emulate") and output.stat().st_size))
        await trio.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        with trio.fail_after(5):
            code = await process.wait()
        nursery.cancel_scope.cancel()
    assert "Traceback" not in output.read_text()
    assert code == (0 if command[0] == "emulate" else 130)


async def test_a_port_that_is_taken_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = await trio.run_process(
            [sys.executable, "-m", "sts_trio", "serve"],
            env={"HUMEAI_API_KEY": KEY, "HOST": "127.0.0.1", "PORT": str(port)},
            cwd=tmp_path,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.decode().startswith(f"sts-trio: cannot listen on HOST 127.0.0.1, PORT {port}: ")
    assert done.stderr.count(b"\n") == 1


async def test_wrong_settings_are_a_line_each_and_exit_2(tmp_path: Path) -> None:
    result = await trio.run_process(
        [sys.executable, "-m", "sts_trio", "serve"],
        env={"PORT": "high", "HUME_API_KEY": "undefined"},
        cwd=tmp_path,
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stdout == b""
    first, second = result.stderr.decode().splitlines()
    assert first.startswith("sts-trio: no key of a provider is set")
    assert second == "sts-trio: PORT is 'high'; it must be a whole number from 0 to 65535"


async def test_certificates_that_cannot_be_used_are_one_line(tmp_path: Path) -> None:
    rows = (("serve", 2, None), ("check", 1, "no certificate"))
    await at_once(partial(certificates_that_cannot_be_used, tmp_path), rows)


async def certificates_that_cannot_be_used(tmp_path: Path, command: str, code: int, content: str | None) -> None:
    directory = tmp_path / command
    directory.mkdir()
    if content is not None:
        (directory / "ca.pem").write_text(content)
    result = await trio.run_process(
        [sys.executable, "-m", "sts_trio", command],
        env={"HUMEAI_API_KEY": KEY, "HUMEAI_CA_FILE": "ca.pem", "HOST": "127.0.0.1", "PORT": "0"},
        cwd=directory,
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    told = (result.stderr if command == "serve" else result.stdout).decode()
    assert result.returncode == code
    assert "HUMEAI_CA_FILE is ca.pem, which cannot be used: " in told.splitlines()[-1]
    assert "Traceback" not in result.stderr.decode()


async def test_a_signal_while_a_tool_hangs_at_its_loading_ends_the_program(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    tool = "import time\ntry:\n    open('begun', 'w').close()\n    time.sleep(60)\nexcept BaseException:\n    pass\n"
    (tmp_path / "tools" / "slow.py").write_text(tool)
    env = {"PATH": os.environ["PATH"], "HUMEAI_API_KEY": KEY, "PORT": "0", "HOST": "127.0.0.1"}
    async with trio.open_nursery() as nursery:
        command = [sys.executable, "-m", "sts_trio", "serve"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        start = partial(trio.run_process, command, env=env, cwd=tmp_path, check=False, **quiet)
        process = await nursery.start(start)
        await until((tmp_path / "begun").exists)
        process.terminate()
        with trio.fail_after(5):
            assert await process.wait() == 0
