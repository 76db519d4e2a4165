"""What every command has in common: help, wrong words on the command line, files, a reader that has gone, Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import wave
from functools import partial
from typing import TYPE_CHECKING

import click
import pytest
import trio
from click.testing import CliRunner

from sts_trio import __version__
from sts_trio.cli import main
from tests.e2e.evi import at_once, until

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = {name: command for name, command in main.commands.items() if not command.hidden}
STARTS = [sys.executable, "-m", "sts_trio"]
ENV = {"PATH": os.environ["PATH"], "COLUMNS": "60"}


def test_the_version() -> None:
    done = CliRunner().invoke(main, ["--version"])
    assert done.output.split()[-1] == __version__


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_is_told_in_one_line(command: str) -> None:
    """In a terminal of 80 columns, as most are."""
    found = COMMANDS[command]
    assert found.short_help
    assert found.short_help.endswith((".", "?"))
    assert f"  {command:<8}  {found.short_help}\n" in CliRunner().invoke(main, ["--help"], terminal_width=80).output
    told = CliRunner().invoke(main, [command, "--help"], terminal_width=80).output
    _, _, options = told.partition("Options:\n")
    lines = options.partition("\n\n")[0].splitlines()
    shown = [each for each in found.params if isinstance(each, click.Option) and not each.hidden]
    assert len(lines) == len(shown) + 1, options  # and --help
    assert all(re.match(r"  -", line) and len(line) <= 80 for line in lines), options


@pytest.mark.parametrize(("typed", "found"), [("de", "demo"), ("call --k", "--keys"), ("settings --format e", "env")])
def test_the_shell_completes_what_is_typed(typed: str, found: str) -> None:
    words = f"sts-trio {typed}".split()
    env = {"_STS_TRIO_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    done = CliRunner().invoke(main, [], prog_name="sts-trio", env=env)
    assert done.output == f"plain,{found}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "No such command"),
        (["demo", "--nothing"], "No such option"),
        (["demo", "--provider", "nobody"], "'nobody' is not one of 'humeai', 'openai', 'xai'"),
        (["demo", "--out", "/nowhere/demo.wav"], "cannot write /nowhere/demo.wav: there is no directory /nowhere"),
        (["demo", "--html", "/proc/demo.html"], "cannot write /proc/demo.html: "),
        (["call"], "Missing argument 'URL'"),
        (["call", "nowhere"], "the address must look like ws://host:6039/"),
        (["call", "ws://127.0.0.1:1", "--out", "/proc/call.wav"], "cannot write /proc/call.wav: "),
        (["call", "ws://127.0.0.1:1", "--wav", "/nowhere.wav"], "does not exist"),
        (["call", "ws://127.0.0.1:1", "--wav", __file__], "as a WAV file: "),
        (["call", "ws://127.0.0.1:1", "--keys", "x@3"], "'X' is no key of a telephone"),
        (["call", "http://127.0.0.1:1", "--keys", "0@3"], "--keys needs a ws:// address"),
        (["emulate", "--port", "70000"], "'70000' is not a whole number from 0 to 65535"),
        (["emulate", "--faults", "/nowhere.toml"], "cannot read /nowhere.toml: No such file"),
        (["emulate", "--faults", __file__], "must end in .json or .toml"),
        (["settings", "--format", "xml"], "'xml' is not one of"),
    ],
)
def test_an_error_of_usage_is_told_and_ends_with_2(
    arguments: list[str], words: str, restored_logging: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2, done.output
    assert words in done.stderr
    assert not list(tmp_path.iterdir())


def test_what_is_asked_for_is_looked_at_before_the_call_and_not_changed(tmp_path: Path) -> None:
    there, fresh = tmp_path / "there.wav", tmp_path / "fresh.html"
    there.write_bytes(b"of another call")
    done = CliRunner().invoke(main, ["call", "ws://127.0.0.1:1/", "--out", str(there), "--html", str(fresh)])
    assert done.exit_code == 1
    assert "ws://127.0.0.1:1/: cannot connect: Connection refused" in done.stderr
    assert there.read_bytes() == b"of another call"
    assert not fresh.exists()


@pytest.mark.parametrize("command", [["settings"], ["demo"], ["load", "--help"]])
def test_a_reader_that_has_gone_ends_a_command_quietly(command: list[str], tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*STARTS, *command], stdout=writing, stderr=subprocess.PIPE, cwd=tmp_path, env=ENV, timeout=30, check=False
        )
    finally:
        os.close(writing)
    assert done.stderr == b""
    assert done.returncode == 1


async def test_ctrl_c_and_a_full_disk_lose_nothing_of_a_call(tmp_path: Path) -> None:
    rows = [("demo.wav", signal.SIGINT, 130, ""), ("/dev/full", signal.SIGTERM, 1, "cannot write /dev/full: No space")]
    await at_once(partial(broken_off, tmp_path), rows)


async def broken_off(tmp_path: Path, out: str, number: signal.Signals, code: int, words: str) -> None:
    """A demo is told to stop in its middle: it hangs up, shows what there is, and writes what can be written."""
    directory = tmp_path / number.name
    directory.mkdir()
    shown, said = directory / "shown", directory / "said"
    with shown.open("wb") as stdout, said.open("wb") as stderr:
        async with trio.open_nursery() as nursery:
            command = [*STARTS, "demo", "--out", out, "--html", "demo.html"]
            start = partial(trio.run_process, stdout=stdout, stderr=stderr, check=False, cwd=directory, env=ENV)
            process = await nursery.start(start, command)
            await until(lambda: "can I help you" in shown.read_text())
            process.send_signal(number)
            with trio.fail_after(20):
                assert await process.wait() == code
    text = shown.read_text()
    assert "The call was broken off after " in text
    assert re.search(r"greeting +heard", text)
    assert "Traceback" not in said.read_text()
    assert words in said.read_text()
    assert b"<audio" in (directory / "demo.html").read_bytes()
    if not out.startswith("/dev"):
        with wave.open(str(directory / out)) as file:
            assert file.getnchannels() == 2
            assert file.getnframes() > 8000
