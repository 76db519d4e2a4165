"""`sts-trio check` as a process, in wrong set-ups: one line names the cause, the setting, and what to do."""

from __future__ import annotations

import json
import os
import socket
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import trio

from sts_trio import __version__
from sts_trio.lab.emulator import Emulator, EmulatorOptions, serve_emulator
from tests.e2e.evi import at_once, until
from tests.e2e.process import running
from tests.fakes.gateways import Answer, Gateway
from tests.tools import http_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from subprocess import CompletedProcess

KEY = "key-that-nobody-may-see"
PROMPT = "You are the night desk of a clinic."


@dataclass(frozen=True)
class SetUp:
    """What is wrong beside a set-up that works, and the one line that must say so.

    `dotenv` is the text of `.env`, `files` are what lies beside it; what stands in braces is of `world`.
    """

    says: str
    setting: str
    environment: dict[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    dotenv: str = ""
    files: dict[str, str] = field(default_factory=dict)
    level: str = "wrong"


@asynccontextmanager
async def world() -> AsyncIterator[dict[str, str]]:
    """All that set-ups need of the network; yields addresses, which may stand in braces in their variables."""
    region = {"message": "Incorrect regional hostname. Please make your request to eu.api.openai.com"}
    refused = Answer(401, {"error": region | {"code": "incorrect_hostname"}}, {"Content-Type": "application/json"})
    gateway = Gateway(lambda _: refused)
    evi = Emulator(EmulatorOptions(api_keys=frozenset({KEY}), seed=1))
    async with trio.open_nursery() as nursery, http_server.serving(http_server.reply(500, {})) as crm:
        url = await nursery.start(partial(serve_emulator, evi, host="127.0.0.1", port=0))
        (listener,) = await nursery.start(partial(trio.serve_tcp, gateway.serve, 0, host="127.0.0.1"))
        with socket.create_server(("127.0.0.1", 0)) as taken:
            yield {
                "evi": url,
                "region": f"http://127.0.0.1:{listener.socket.getsockname()[1]}/v1",
                "crm": crm.url,
                "taken": str(taken.getsockname()[1]),
                "pid": str(os.getpid()),
            }
        nursery.cancel_scope.cancel()


WORKS = {
    "PATH": os.environ["PATH"],
    "HOST": "127.0.0.1",
    "PORT": "0",
    "HUMEAI_API_KEY": KEY,
    "HUMEAI_WS_URL": "{evi}",
    "HUMEAI_INSTRUCTIONS": PROMPT,
}
SET_UPS = {
    "misspelt": SetUp(
        "HUMEAI_VOICE in .env is not the name of a setting; did you mean HUMEAI_VOICE_ID?",
        "HUMEAI_VOICE_ID",
        dotenv="HUMEAI_VOICE=night\nHTTP_PORT=6001\nCOMPOSE_PROJECT_NAME=dsai\nAGENT_ID=7\n",
    ),
    "misspelt, without its prefix": SetUp(
        "WELCOME_MESSAGE in .env is not the name of a setting; did you mean HUMEAI_WELCOME_MESSAGE?",
        "HUMEAI_WELCOME_MESSAGE",
        dotenv="WELCOME_MESSAGE=Hi\n",
    ),
    "misspelt, in the environment": SetUp(
        "HUMEAI_INSTRUCTION_URL in the environment is not the name of a setting; did you mean HUMEAI_URL_INSTRUCTIONS?",
        "HUMEAI_URL_INSTRUCTIONS",
        {"HUMEAI_INSTRUCTION_URL": "http://crm/prompt", "OPENAI_ORG_ID": "org-1", "STS_PORT": "tcp://10.0.0.1:6039"},
    ),
    "port taken": SetUp("PORT {taken} is taken by ", "PORT", {"PORT": "{taken}"}),
    "wrong key": SetUp("answered HTTP 401", "HUMEAI_API_KEY", {"HUMEAI_API_KEY": "another-key-of-somebody"}),
    "wrong region": SetUp(
        "(set OPENAI_BASE_URL to https://eu.api.openai.com/v1)",
        "OPENAI_BASE_URL",
        {
            "STS_PROVIDER": "openai",
            "OPENAI_API_KEY": KEY,
            "OPENAI_BASE_URL": "{region}",
            "OPENAI_INSTRUCTIONS": PROMPT,
        },
    ),
    "nobody there": SetUp(
        "cannot connect to 127.0.0.1:9: Connection refused", "HUMEAI_WS_URL", {"HUMEAI_WS_URL": "wss://127.0.0.1:9/x"}
    ),
    "prompt URL 500": SetUp(
        "HUMEAI_URL_INSTRUCTIONS: {crm}: it answered HTTP 500; look at that service's log; "
        "a call has the default in its place",
        "HUMEAI_URL_INSTRUCTIONS",
        {"HUMEAI_URL_INSTRUCTIONS": "{crm}"},
        without=("HUMEAI_INSTRUCTIONS",),
    ),
    "tool broken": SetUp(
        "broken.py:2: this is not Python: ",
        "TOOLS_DIR",
        files={"tools/broken.py": "\ndef (\n", "tools/noisy.py": 'print("loaded")\n\ndef noisy():\n    """Do it."""\n'},
    ),
    "token missing": SetUp(
        "STS_URL, which Core reads, brings no token, and STS_TOKEN asks for one: add ?token=SECRET to STS_URL",
        "STS_TOKEN",
        dotenv="STS_TOKEN=a-secret-of-some-length\nSTS_URL=ws://dsai-sts-humeai:6039\n",
    ),
    "no token, for everybody": SetUp(
        "everybody who reaches PORT 0 may call: set STS_TOKEN", "STS_TOKEN", {"HOST": "0.0.0.0"}, level="note"
    ),
    "token file missing": SetUp(
        "OPENAI_TOKEN_FILE is gone, ",
        "OPENAI_TOKEN_FILE",
        {
            "STS_PROVIDER": "openai",
            "OPENAI_TOKEN_FILE": "gone",
            "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
            "OPENAI_INSTRUCTIONS": PROMPT,
        },
    ),
    "two keys": SetUp(
        "more than one key is set; set STS_PROVIDER to openai or xai",
        "STS_PROVIDER",
        {"OPENAI_API_KEY": KEY, "XAI_API_KEY": KEY},
        without=("HUMEAI_API_KEY",),
    ),
}

AS_JSON_TOO = ("misspelt", "wrong key", "tool broken", "two keys", "no token, for everybody")  # each is a process more


async def checked(directory: Path, environment: dict[str, str], *options: str) -> CompletedProcess[bytes]:
    with trio.fail_after(60):
        return await trio.run_process(
            [sys.executable, "-m", "sts_trio", "check", *options],
            env=environment,
            cwd=directory,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )


async def test_each_wrong_set_up_is_one_line_that_names_cause_and_setting(tmp_path: Path) -> None:
    async with world() as addresses:
        await at_once(partial(one_line_each, tmp_path, addresses), [(name,) for name in SET_UPS])


async def one_line_each(tmp_path: Path, addresses: dict[str, str], name: str) -> None:
    chosen, directory = SET_UPS[name], tmp_path / name
    directory.mkdir()
    for path, text in {".env": chosen.dotenv, **chosen.files}.items():
        (directory / path).parent.mkdir(exist_ok=True)
        (directory / path).write_text(text)
    given = {key: text for key, text in (WORKS | chosen.environment).items() if key not in chosen.without}
    environment = {key: text.format(**addresses) for key, text in given.items()}
    done = await checked(directory, environment)
    lines = done.stdout.decode().splitlines()
    told = [line for line in lines if not line.startswith("ok: ")]
    assert len(told) == 1, lines
    assert told[0].startswith(f"{chosen.level}: ")
    assert chosen.says.format(**addresses) in told[0]
    assert chosen.setting in told[0]
    assert done.returncode == (1 if chosen.level == "wrong" else 0)
    assert "Traceback" not in done.stderr.decode()
    assert PROMPT not in done.stdout.decode()
    assert KEY not in done.stdout.decode()

    if name not in AS_JSON_TOO:
        return
    as_json = await checked(directory, environment, "--json")
    told_all = json.loads(as_json.stdout)
    assert as_json.returncode == done.returncode
    assert told_all.keys() == {"version", "provider", "ok", "findings"}
    assert told_all["ok"] == (done.returncode == 0)
    (finding,) = [each for each in told_all["findings"] if each["level"] != "ok"]
    assert finding.keys() == {"level", "name", "message", "setting"}
    assert (finding["level"], finding["setting"]) == (chosen.level, chosen.setting)
    assert chosen.says.format(**addresses) in finding["message"]


async def test_a_set_up_that_works_is_told_in_full(tmp_path: Path) -> None:
    async with world() as addresses:
        environment = {key: text.format(**addresses) for key, text in WORKS.items()}
        done = await checked(tmp_path, environment | {"STS_TOKEN": "a-secret-of-some-length"}, "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 0
    assert (told["version"], told["provider"], told["ok"]) == (__version__, "humeai", True)
    lines = {each["name"]: each["message"] for each in told["findings"]}
    assert list(lines) == [
        "version", "settings", "provider", "callers", "workers", "port", "tools", "ami", "prompt", "session",
    ]  # fmt: skip
    assert "humeai (Hume EVI), as HUMEAI_API_KEY is set" in lines["provider"]
    assert lines["callers"] == "callers must bring the secret that STS_TOKEN holds"
    assert lines["prompt"] == f"instructions of {len(PROMPT)} characters, from HUMEAI_INSTRUCTIONS"
    assert "a-secret" not in done.stdout.decode()


async def test_the_process_that_holds_the_port_is_named(tmp_path: Path) -> None:
    async with world() as addresses:
        environment = {key: text.format(**addresses) for key, text in (WORKS | {"PORT": "{taken}"}).items()}
        done = await checked(tmp_path, environment)
    assert f", pid {os.getpid()}: stop that, or set PORT to another" in done.stdout.decode()


async def test_a_full_disk_under_the_log_of_the_running_service_is_told(tmp_path: Path) -> None:
    """`/dev/full` fails each write as a full disk does. The service goes on, and its port is rightly taken."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    async with world() as addresses, trio.open_nursery() as nursery:
        environment = {key: text.format(**addresses) for key, text in (WORKS | {"PORT": port}).items()}
        with open("/dev/full", "wb") as full:  # noqa: ASYNC230, PTH123 - it is no disk
            start = partial(trio.run_process, stdout=full, env=environment, cwd=tmp_path, check=False)
            process = await nursery.start(start, [sys.executable, "-m", "sts_trio", "serve"])
        await until(lambda: answers(int(port)))
        done = await checked(tmp_path, environment)
        process.terminate()
    lines = done.stdout.decode().splitlines()
    (told,) = [line for line in lines if not line.startswith("ok: ")]
    assert told.startswith("wrong: the running service has lost ")
    assert "disk it is written to is full" in told
    assert told.endswith("LOG_LEVEL=warning makes less")
    assert any(line.startswith(f"ok: PORT {port} is held by this service itself, which runs (") for line in lines)
    assert done.returncode == 1


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_a_full_disk_under_the_check_itself_is_one_line(tmp_path: Path) -> None:
    rows: list[tuple[str, ...]] = [(), ("--json",)]
    await at_once(partial(cannot_print, tmp_path), [(row, keys) for row in rows for keys in ({}, {"XAI_API_KEY": KEY})])


async def cannot_print(tmp_path: Path, options: tuple[str, ...], keys: dict[str, str]) -> None:
    with open("/dev/full", "wb") as full:  # noqa: ASYNC230, PTH123 - it is no disk
        done = await trio.run_process(
            [sys.executable, "-m", "sts_trio", "check", *options],
            stdout=full,
            env={"HOST": "127.0.0.1", "PORT": "0", "XAI_BASE_URL": "http://127.0.0.1:9/v1"} | keys,
            cwd=tmp_path,
            capture_stderr=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.decode() == (
        "sts-trio: what was found cannot be printed: No space left on device; make room, or print elsewhere\n"
    )


async def test_the_service_tells_of_misspelt_names_once_when_it_starts(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("WELCOME_MESSAGE=Hi\nDEEPGRAM_API_KEY=x\nHTTP_PORT=6001\n")
    async with running(tmp_path, "ws://127.0.0.1:9/x", HUMEAI_VOICE="night", WORKERS="2") as (_, _, log):
        told = [json.loads(line) for line in log.read_text().splitlines()]
    notes = [line["note"] for line in told if line["event"] == "a setting wants attention"]
    assert notes == [
        "HUMEAI_VOICE in the environment is not the name of a setting; did you mean HUMEAI_VOICE_ID?",
        "WELCOME_MESSAGE in .env is not the name of a setting; did you mean HUMEAI_WELCOME_MESSAGE?",
    ]
