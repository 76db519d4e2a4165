"""The service as a process of its own, and what its log holds."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

from tests.e2e.evi import environment_of, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

KEY = "a-key-that-nobody-may-see"
NUMBER = "+491711234567"


@asynccontextmanager
async def running(
    directory: Path, agent_url: str, provider: str = "humeai", **environment: str
) -> AsyncIterator[tuple[trio.Process, str, Path]]:
    """Run `sts-trio serve` in an empty directory; yields the process, its URL, and its log."""
    log = directory / "log"
    env = {"PATH": os.environ["PATH"], "PORT": "0"} | environment_of(provider, agent_url, KEY)
    with log.open("wb") as out:
        start = partial(
            trio.run_process,
            [sys.executable, "-m", "sts_trio", "serve"],
            env=env | {"HOST": "127.0.0.1"} | environment,
            cwd=directory,
            stdout=out,
            stderr=subprocess.STDOUT,
            check=False,
        )
        async with trio.open_nursery() as nursery:
            process = await nursery.start(start)
            await until(lambda: "ready for calls" in log.read_text())
            address = re.search(r"http://(127\.0\.0\.1:\d+)", log.read_text())
            assert address is not None
            yield process, f"ws://{address[1]}/?from={NUMBER}&to=5003", log
            if process.returncode is None:
                process.kill()


def lines(log: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.read_text().splitlines()]
