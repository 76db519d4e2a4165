"""The composition root of `demo`: emulator, service and caller in one process, each on a free port of loopback."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from sts_trio.lab.emulator import Emulator, EmulatorOptions, serve_emulator
from sts_trio.lab.harness.demo import G711, LINEAR, run_demo
from sts_trio.main import run_service
from sts_trio.providers import PROVIDERS
from sts_trio.settings import Settings
from sts_trio.settings.secret import Secret
from sts_trio.settings.service import ServiceSettings

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from sts_trio.lab.harness.demo import DemoResult


async def demo(console: Console, out: Path | None, provider: str = "humeai") -> DemoResult:
    """Place the demo's call through the real service to the emulator; no key, no network.

    Raises:
        CallFailed: no call came about.
        OSError: the recording cannot be written.
    """
    key = "demo"
    async with trio.open_nursery() as nursery:
        service: Any = provider  # one of the words of both
        emulator = Emulator(EmulatorOptions(service=service, api_keys=frozenset({key})))
        agent_url = await nursery.start(serve_emulator, emulator)
        tell, told = trio.open_memory_channel[None](1)
        agent = PROVIDERS[provider].settings(api_key=Secret(key), url=agent_url)
        settings = Settings(provider=agent, service=ServiceSettings(host="127.0.0.1", port=0))
        async with trio.open_nursery() as calls:
            (url,) = await calls.start(partial(run_service, settings, until_told=told.receive))
            heard = G711 if provider == "openai" else LINEAR
            result = await run_demo(url.replace("http://", "ws://"), console, out=out, fidelity_bound=heard)
            tell.send_nowait(None)
        nursery.cancel_scope.cancel()
    return result
