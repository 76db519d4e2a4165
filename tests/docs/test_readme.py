"""The README: short, and every command in it does what it says: what it starts runs here, on this machine."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import wave
from functools import partial
from pathlib import Path
from typing import Any

import click
import pytest
import trio
import yaml

from sts_trio.audio.pcm import RATE
from sts_trio.cli import main
from sts_trio.lab.emulator import Emulator, EmulatorOptions, serve_emulator
from tests.fakes.programs import compose
from tests.tools.http_server import free_port

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
YOUR_PROMPT = (ROOT / "docs/start/your-prompt.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")]
STS_TRIO = ".venv/bin/sts-trio"

INSTALL = "python3 -m venv .venv && .venv/bin/pip install -e ."
DEMO = f"{INSTALL} && {STS_TRIO} demo"
TEST = "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest"
CONTAINER = ["cp .env.example .env", "docker compose up --build -d", "docker exec dsai-sts-humeai sts-trio check"]


def commands(page: str) -> list[str]:
    """The lines of a page's blocks for a shell."""
    return [
        line
        for block in re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 120
    assert len(README.encode()) <= 9 * 1024


def test_each_of_its_commands_is_one_that_is_tried() -> None:
    serve, call = commands(README)[2:4]
    assert commands(README) == [DEMO, INSTALL, serve, call, *CONTAINER, TEST], "have a test here run the new one"
    assert commands(YOUR_PROMPT)[:3] == [INSTALL, serve, call], "the page says the same three"


def test_ci_runs_the_line_that_it_has_for_the_tests() -> None:
    [pattern] = re.findall(r"grep -m 1 -E '(.+)' README.md", (ROOT / ".ci/run").read_text(encoding="utf-8"))
    assert [line for line in README.splitlines() if re.search(pattern, line)] == [TEST]


def shell(command: str, cwd: Path, **environment: str) -> Any:
    """What runs a line of the README in a directory that has no `.env`; its `.venv` is ours."""
    line = command.replace(STS_TRIO, f"{shlex.quote(sys.executable)} -m sts_trio")
    env = {"PATH": os.environ["PATH"]} | environment
    run = partial(trio.run_process, ["bash", "-c", f"exec env {line}"], env=env, cwd=cwd, check=False)
    return partial(run, capture_stdout=True, stderr=subprocess.STDOUT)


async def listens(port: int) -> bool:
    """Whether the service takes connections by now."""
    try:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
    except OSError:
        return False
    await stream.aclose()
    return True


def voices(path: Path) -> list[int]:
    """The loudest sample of each channel of a recording, caller first."""
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 2, 2)
        samples = memoryview(file.readframes(file.getnframes())).cast("h")
    return [max(samples[channel::2]) for channel in (0, 1)]


@pytest.mark.timeout(120)
async def test_the_demo_is_heard_and_so_is_ones_own_prompt_after_three_commands(tmp_path: Path) -> None:
    """Both take the time that people take to speak, so they are held at once."""
    serve, call = commands(README)[2:4]
    port = await free_port()
    key, said = re.findall(r"OPENAI_API_KEY=(\S+) OPENAI_INSTRUCTIONS='([^']+)'", serve)[0]
    emulator = Emulator(EmulatorOptions(service="openai", api_keys=frozenset({key})))
    done: dict[str, tuple[int, str]] = {}

    async def run(name: str, command: str) -> None:
        ended = await shell(command, tmp_path)()
        done[name] = ended.returncode, ended.stdout.decode()

    async with trio.open_nursery() as nursery:
        url = await nursery.start(serve_emulator, emulator)
        async with trio.open_nursery() as calls:
            calls.start_soon(run, "demo", DEMO.removeprefix(f"{INSTALL} && "))
            # The only difference: where OpenAI is, and a port that is free on this machine.
            service = await nursery.start(shell(serve, tmp_path, OPENAI_BASE_URL=url, PORT=str(port)))
            while not await listens(port):
                await trio.sleep(0.1)
            calls.start_soon(run, "call", call.replace(":6039", f":{port}"))
        service.terminate()
        await service.wait()
        nursery.cancel_scope.cancel()
    assert done["demo"][0] == 0, done["demo"][1]
    assert "The call went through." in done["demo"][1]
    assert min(voices(tmp_path / "demo.wav")) > 1000
    assert done["call"][0] == 0, done["call"][1]
    assert [session.prompt for session in emulator.sessions] == [said]
    assert min(voices(tmp_path / "call.wav")) > 1000


def test_the_container_is_called_as_the_readme_calls_it(tmp_path: Path) -> None:
    """The image is not built here: file, service and name are there, and Compose takes the file."""
    assert (ROOT / ".env.example").is_file()
    file = yaml.safe_load((ROOT / "compose.yml").read_text(encoding="utf-8"))
    assert file["services"]["dsai-sts-humeai"]["container_name"] == CONTAINER[-1].split()[2]
    assert CONTAINER[-1].split()[3:] == ["sts-trio", "check"]
    if command := compose():
        for name in ("compose.yml", ".env.example"):
            (tmp_path / name.replace(".example", "")).write_bytes((ROOT / name).read_bytes())
        subprocess.run([*command, "config", "--quiet"], cwd=tmp_path, check=True, timeout=30)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_names_commands_and_options_that_there_are(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    for name, rest in re.findall(r"(?:`|\bbin/|exec \S+ |humeai |^)sts-trio ([a-z]+)([^\n`|&;#]*)", text, re.MULTILINE):
        command = main.commands.get(name)
        assert command, f"there is no command {name}"
        known = {option for each in command.params if isinstance(each, click.Option) for option in each.opts}
        assert set(re.findall(r"(?<!\S)--[a-z][\w-]*", rest)) <= known | {"--help"}, name
