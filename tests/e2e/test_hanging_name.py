"""An instructions service whose name hangs, with 32 calls a second: each call is taken, without its own prompt."""

from __future__ import annotations

import socket
import threading
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.e2e.evi import open_core, open_evi, until
from tests.e2e.service import INIT, hear, service

if TYPE_CHECKING:
    from collections.abc import Iterator

CALLS = 64  # more than all look-ups of trio's own limiter (40) and of one purpose (16)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The name ``hangs.test`` hangs; any other is this machine."""
    over, look_up = threading.Event(), socket.getaddrinfo

    def patched(host: Any, port: Any, family: int = 0, type_: int = 0, proto: int = 0, flags: int = 0) -> Any:
        if not flags & socket.AI_NUMERICHOST:
            if host == b"hangs.test":
                over.wait(30)
                raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
            host = "127.0.0.1"
        return look_up(host, port, family, type_, proto, flags)

    monkeypatch.setattr(socket, "getaddrinfo", patched)
    yield
    over.set()


async def test_no_call_is_lost(names: None) -> None:
    own: dict[str, Any] = {"url_instructions": "http://hangs.test/prompt", "instructions_seconds": 1.0}
    async with open_evi() as evi:
        agent = evi.url.replace("127.0.0.1", "works.test")
        assert agent != evi.url
        async with service(agent, **own) as url, AsyncExitStack() as stack:
            cores = []
            for _ in range(CALLS):
                core = await stack.enter_async_context(open_core(url))
                await core.send_message(INIT)
                cores.append(core)
                await trio.sleep(1 / 32)
            await until(lambda: len(evi.chats) == CALLS, 10)
            for chat in range(CALLS):
                await evi.speak(chat, 0.1, "r")
            with trio.fail_after(10):
                for core in cores:
                    await hear(core, "audio")
