"""The service in the test's own process, on real sockets and a real clock."""

from __future__ import annotations

import base64
import json
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio
from trio_websocket import ConnectionClosed

from sts_trio.main import run_service
from tests.call.stage import make_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio_websocket import WebSocketConnection

    from tests.e2e.evi import Evi

INIT = '{"type":"init","uuid":"0b6f1f6e-54f0-4f6b-9a49-3d2a1f0c7e11"}'
FRAME = json.dumps({"type": "audio", "audio": base64.b64encode(bytes(320)).decode()})


@asynccontextmanager
async def service(
    agent_url: str, provider: str = "humeai", welcome_message: str = "", **settings: object
) -> AsyncIterator[str]:
    """Serve on a free port of loopback; yield the address for Core."""
    values = {"welcome_message": welcome_message, "url": agent_url, "host": "127.0.0.1", "port": 0}
    async with trio.open_nursery() as nursery:
        chosen = make_settings(provider, "k", **(values | settings))
        (url,) = await nursery.start(partial(run_service, chosen))
        yield url.replace("http", "ws")
        nursery.cancel_scope.cancel()


async def hear(socket: WebSocketConnection, kind: str) -> float:
    while json.loads(await socket.get_message())["type"] != kind:
        pass
    return trio.current_time()


async def hears(evi: Evi, core: WebSocketConnection) -> bool:
    """Whether the agent's voice reaches this call; the agent speaks in every chat."""
    for chat in range(len(evi.chats)):
        await evi.speak(chat, 0.1, "r")
    try:
        with trio.fail_after(5):
            while json.loads(await core.get_message())["type"] != "audio":
                pass
    except ConnectionClosed:
        return False
    return True
