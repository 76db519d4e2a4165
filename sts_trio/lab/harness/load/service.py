"""`sts-trio serve` as a process of its own, for a load that needs nothing set up."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING

import trio

from sts_trio.lab.harness.load.process import LoadError
from sts_trio.lab.harness.load.usage import listener_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

_START_SECONDS = 20.0
_END_SECONDS = 10.0


def free_port() -> int:
    """A TCP port of loopback that nobody listens on."""
    with closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def environment(provider: Mapping[str, str], port: int) -> dict[str, str]:
    """The settings that a service under load is started with; the rest is the operator's own environment."""
    return {
        **provider,
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "LOG_LEVEL": "warning",
        "DRAIN_SECONDS": "2",
    }


@asynccontextmanager
async def open_service(env: Mapping[str, str], cores: Iterable[int] | None) -> AsyncIterator[tuple[str, int]]:
    """Run the service, on these cores only if given. Gives its URL and process.

    Raises:
        LoadError: it did not come up; with what it said last.
    """
    port = int(env["PORT"])
    # In a file: a pipe that nobody reads would stop the service.
    with tempfile.TemporaryFile() as said:
        process = await trio.lowlevel.open_process(
            # env(1) adds to what we have, and becomes the service: the process stays the same.
            ["env", *(f"{name}={value}" for name, value in env.items()), sys.executable, "-m", "sts_trio", "serve"],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,  # Ctrl-C is for us, who then end it
        )
        try:
            if cores is not None:
                os.sched_setaffinity(process.pid, cores)
            give_up = time.monotonic() + _START_SECONDS
            while listener_on(port) is None:
                if process.poll() is not None or time.monotonic() > give_up:
                    said.seek(0)
                    last = said.read().decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
                    raise LoadError(f"the service did not start: {last[0]}")
                await trio.sleep(0.1)
            yield f"ws://127.0.0.1:{port}", process.pid
        finally:
            with trio.CancelScope(shield=True):
                process.terminate()
                with trio.move_on_after(_END_SECONDS):
                    await process.wait()
                if process.returncode is None:
                    process.kill()
                    await process.wait()
