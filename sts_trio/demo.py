"""The composition root of `demo`: emulator, service and caller in one process, each on a free port of loopback."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from sts_trio.emulator import Emulator, EmulatorOptions, serve_emulator
from sts_trio.harness.demo import run_demo
from sts_trio.main import run_service
from sts_trio.settings import Secret, Settings

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from sts_trio.harness.demo import DemoResult


async def demo(console: Console, out: Path | None) -> DemoResult:
    """Place the demo's call through the real service to the emulator; no key, no network.

    Raises:
        CallFailed: no call came about.
        OSError: the recording cannot be written.
    """
    key = "demo"
    async with trio.open_nursery() as nursery:
        emulator = Emulator(EmulatorOptions(api_keys=frozenset({key})))
        evi_url = await nursery.start(serve_emulator, emulator)
        tell, told = trio.open_memory_channel[None](1)
        settings = Settings(api_key=Secret(key), ws_url=evi_url, host="127.0.0.1", port=0)
        async with trio.open_nursery() as service:
            (url,) = await service.start(partial(run_service, settings, until_told=told.receive))
            result = await run_demo(url.replace("http://", "ws://"), console, out=out)
            tell.send_nowait(None)
        nursery.cancel_scope.cancel()
    return result
