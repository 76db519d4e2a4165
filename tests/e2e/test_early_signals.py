"""A signal in the first moments of a process ends it at once and quietly, also the first process of a container."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import cache, partial
from pathlib import Path

import pytest
import trio

from tests.e2e.evi import at_once
from tests.e2e.process import KEY

# Each has an end of its own if the signal is lost: too late for the test.
COMMANDS = (
    (["serve"], 0),
    (["emulate", "--port", "0"], 0),
    (["check"], 143),
    (["demo"], 143),
    (["call", "ws://127.0.0.1:1"], 143),
    (["settings"], 143),
    (["load", "--serve"], 143),
)
DELAYS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)  # seconds after Python can hear a signal
_QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


@cache
def first_process() -> list[str]:
    """What runs a command as the first process of a namespace, as a container does; empty: not allowed here."""
    command = ["unshare", "--map-root-user", "--pid", "--fork", "--kill-child", "--"]
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return command


def hears(pid: int, number: int) -> bool:
    """Whether this process has a handler for the signal."""
    [caught] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt:")]
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def children(pid: int) -> list[int]:
    """The processes that this one has started."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def end_early(
    tmp_path: Path, words: list[str], delay: float, number: int, expected: set[int], *, first: bool, **given: str
) -> None:
    env = {"PATH": os.environ["PATH"], "HUMEAI_API_KEY": KEY, "PORT": "0", "HOST": "127.0.0.1"} | given
    command = [*(first_process() if first else []), sys.executable, "-m", "sts_trio", *words]
    process = await trio.lowlevel.open_process(command, env=env, cwd=tmp_path, **_QUIET)  # type: ignore[call-overload]  # three pipes
    target = process.pid
    with trio.fail_after(20):
        if first:
            while not (pids := children(target)):
                await trio.sleep(0.001)
            [target] = pids
        while not hears(target, number):
            await trio.sleep(0.001)
    await trio.sleep(delay)
    os.kill(target, number)
    with trio.fail_after(5):
        status = await process.wait()
    said = await process.stderr.receive_some()
    await process.stdout.aclose()
    await process.stderr.aclose()
    assert status in expected, (words, delay)
    assert b"Traceback" not in said, (words, delay)


async def test_a_signal_ends_the_service_in_its_first_moments(tmp_path: Path) -> None:
    rows = [(["serve"], delay, number, {0}) for delay in DELAYS for number in (signal.SIGTERM, signal.SIGHUP)]
    for alike in (rows[:4], rows[4:9], rows[9:]):  # two cores
        await at_once(partial(end_early, tmp_path, first=False), alike)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_signal_ends_a_containers_first_process_in_its_first_moments(workers: str, tmp_path: Path) -> None:
    if not first_process():
        pytest.skip("no process here may have a namespace of its own (unshare --map-root-user --pid)")
    for delay in DELAYS:
        await end_early(tmp_path, ["serve"], delay, signal.SIGTERM, {0}, first=True, WORKERS=workers)


async def test_a_signal_ends_every_command_while_it_is_being_loaded(tmp_path: Path) -> None:
    first = bool(first_process())
    for words, status in COMMANDS:
        await end_early(tmp_path, words, 0.0, signal.SIGTERM, {status}, first=first)


async def test_the_signals_are_heard_before_anything_is_loaded() -> None:
    ask = "import sts_trio.__main__, sys; print(*{'click', 'trio', 'asyncio', 'structlog'}.intersection(sys.modules))"
    done = await trio.run_process([sys.executable, "-c", ask], capture_stdout=True)
    assert done.stdout.split() == []


async def test_nohup_keeps_the_service_from_hanging_up(tmp_path: Path) -> None:
    ask = (
        "import signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); import sts_trio.__main__ as m; "
        "sys.argv[1:] = ['--version']\ntry: m.main()\nexcept SystemExit: pass\nprint(signal.getsignal(signal.SIGHUP))"
    )
    done = await trio.run_process([sys.executable, "-c", ask], capture_stdout=True, cwd=tmp_path)
    assert done.stdout.split()[-1] == str(int(signal.SIG_IGN)).encode()
