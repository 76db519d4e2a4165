"""Calls beside one that misbehaves in every way at once: not a frame is lost, and latency stays what it was."""

from __future__ import annotations

import json
import os
import sys
from contextlib import asynccontextmanager, suppress
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import trio

from tests.fakes.bad_clients import KINDS
from tests.fakes.raw_client import hear
from tests.tools.http_server import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

CALLS = int(os.environ.get("NEIGHBOUR_CALLS", "100"))
SECONDS = float(os.environ.get("NEIGHBOUR_SECONDS", "10"))
PAUSE = 0.25  # between two tries of the same kind
NOISE_MS = 10.0  # what two runs without a neighbour differ by, on two cores that the load shares


@asynccontextmanager
async def service(port: int, evi: int, log: Path, ours: int) -> AsyncIterator[None]:
    """`sts-trio serve`, with the load's EVI, on one core."""
    environment = os.environ | {
        "HUMEAI_API_KEY": "any",
        "HUMEAI_WS_URL": f"ws://127.0.0.1:{evi}/v0/evi/chat",
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "SHED_LAG_MS": "0",
    }
    command = [sys.executable, "-m", "sts_trio", "serve"]
    with log.open("wb") as out:
        async with trio.open_nursery() as nursery:
            run = partial(trio.run_process, command, env=environment, stdout=out, stderr=out, check=False)
            process = await nursery.start(run)
            os.sched_setaffinity(process.pid, {ours})
            with trio.fail_after(20):
                while b"ready for calls" not in await trio.Path(log).read_bytes():
                    await trio.sleep(0.05)
            yield
            process.terminate()


async def measure(port: int, evi: int, file: Path) -> SimpleNamespace:
    """Run the load, in processes of its own, and return its figures."""
    command = [sys.executable, "-m", "sts_trio", "load", f"ws://127.0.0.1:{port}", "--evi", f"127.0.0.1:{evi}"]
    command += ["--calls", str(CALLS), "--seconds", str(SECONDS), "--ramp", "100", "--json", str(file)]
    done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()[-2000:]
    text = await trio.Path(file).read_text()
    figures: SimpleNamespace = json.loads(text, object_hook=lambda found: SimpleNamespace(**found)).runs[0]
    return figures


async def misbehave(kind: Callable[[trio.abc.Stream], Awaitable[None]], port: int) -> None:
    """Again and again."""
    while True:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        try:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError), trio.move_on_after(2):
                await kind(stream)
                await hear(stream)
        finally:
            stream.socket.close()
        await trio.sleep(PAUSE)


@pytest.fixture
def cores() -> Iterator[list[int]]:
    """Those of this machine; the test and what it starts are kept off the first, which is the service's."""
    all_of_them = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, all_of_them[1:] or all_of_them)
    yield all_of_them
    os.sched_setaffinity(0, all_of_them)


@pytest.mark.slow
async def test_who_misbehaves_in_every_way_at_once_hurts_nobody(tmp_path: Path, cores: list[int]) -> None:
    port, evi = await free_port(), await free_port()
    async with service(port, evi, tmp_path / "log", cores[0]):
        alone = await measure(port, evi, tmp_path / "alone.json")
        async with trio.open_nursery() as nursery:
            for kind in KINDS:
                nursery.start_soon(misbehave, kind, port)
            beside = await measure(port, evi, tmp_path / "beside.json")
            nursery.cancel_scope.cancel()
    print(f"\n{CALLS} calls, alone and beside {len(KINDS)} ways to misbehave:")
    for name in ("up", "first_audio"):
        before, after = getattr(alone, name), getattr(beside, name)
        print(f"  {name}, ms: {shown(before)} -> {shown(after)}")
        assert after.p99 <= 2 * before.p99 + NOISE_MS
    for name in ("failed", "up_lost", "up_doubled", "up_reordered", "up_damaged", "down_lost"):
        assert getattr(beside, name) == 0, name


def shown(spread: SimpleNamespace) -> str:
    return f"p50 {spread.p50:.1f}, p99 {spread.p99:.1f}, max {spread.max:.1f}"
