"""A name that hangs starves nobody else, and a system without threads is a provider that cannot be reached for now."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import trio

from sts_trio.http_client import HttpClient, HttpFailed, names_for, new_lookups
from sts_trio.providers.dial import Endpoint, TcpDial

if TYPE_CHECKING:
    from collections.abc import Iterator


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


async def ask(client: HttpClient, url: str = "http://hangs.test/") -> None:
    with pytest.raises(HttpFailed):
        await client.get(url, seconds=1.0)


async def test_a_name_that_hangs_starves_no_other_purpose(names: None) -> None:
    context = ssl.create_default_context()
    instructions = HttpClient(context)
    webhook, dial = instructions.apart(), TcpDial(context)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        for _ in range(64):  # eight calls a second, for eight seconds
            nursery.start_soon(ask, instructions)
        await trio.sleep(0.3)
        began = time.monotonic()
        stream = await dial(Endpoint("works.test", port, "/", tls=False))
        await stream.aclose()
        with pytest.raises(HttpFailed, match="refused"):
            await webhook.get("http://works.test:1/", seconds=1.0)
        assert time.monotonic() - began < 0.3
    for listener in listeners:
        await listener.aclose()


async def test_no_thread_for_a_look_up_is_an_error_of_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(trio.to_thread, "run_sync", refuse)
    with pytest.raises(OSError, match="can't start new thread"):
        await TcpDial(ssl.create_default_context())(Endpoint("works.test", 1, "/", tls=False))
    with pytest.raises(HttpFailed, match="thread"):
        await HttpClient(ssl.create_default_context()).get("http://works.test/", seconds=1)


async def test_a_resolver_that_somebody_else_has_set_stays() -> None:
    class Own(trio.abc.HostnameResolver):
        async def getaddrinfo(self, *_: object, **__: object) -> Any:
            raise OSError("asked")

        async def getnameinfo(self, *_: object, **__: object) -> Any:
            raise NotImplementedError

    trio.socket.set_custom_hostname_resolver(Own())
    for _ in range(2):
        with names_for(new_lookups()), pytest.raises(OSError, match="asked"):
            await trio.socket.getaddrinfo("works.test", 1)
