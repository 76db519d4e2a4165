"""hypercorn, set up for telephone calls."""

from __future__ import annotations

import logging
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio
from hypercorn.config import Sockets
from hypercorn.trio.run import worker_serve
from hypercorn.utils import wrap_app

from sts_trio.web.connections import Connections, DoorConfig, Seldom, most_connections
from sts_trio.web.guards import install_guards

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from hypercorn.typing import Framework

# A message of Core is below 1 KiB (contract 1.3). Ten may wait for a call that does not read: 10 MiB at the worst.
MAX_MESSAGE_BYTES = 2**20
MAX_WAITING_MESSAGES = 10  # 0.2 s of audio at 50 messages a second; beyond that TCP holds the caller back
MAX_HEADER_BYTES = 2**16  # a request line with headers; webhooks may add parameters to the URL (contract 6.1)
HEADER_SECONDS = 5.0  # to send a request in full, and how long an idle keep-alive connection stays
GRACEFUL_SECONDS = 5.0  # after shutdown: what still runs is then cancelled, which costs up to CLOSE_SECONDS more
_PROBES = 3  # that a peer leaves without an answer before it counts as gone; the half of that time is for them
BACKLOG = 128  # connections that the kernel holds for us while we are busy


def make_config(*, ping_seconds: float, dead_seconds: float, most: int = 1000) -> DoorConfig:
    """Return hypercorn's configuration.

    `ping_seconds`: how often each WebSocket is pinged. `dead_seconds`: a WebSocket on which nothing at all comes for
    so long, not even a pong, is dropped. `most`: connections at a time. No access log: its formats quote the query,
    which holds telephone numbers.
    """
    log = logging.getLogger("hypercorn.error")
    log.setLevel(logging.WARNING)  # below that it only repeats where it listens
    config = DoorConfig()
    config.connections = Connections(most)
    config.accesslog = None
    config.errorlog = log
    config.backlog = BACKLOG
    config.graceful_timeout = GRACEFUL_SECONDS
    config.h11_max_incomplete_size = MAX_HEADER_BYTES
    config.include_server_header = False
    config.keep_alive_timeout = HEADER_SECONDS
    config.max_app_queue_size = MAX_WAITING_MESSAGES
    # Declared as int; it only goes to trio.fail_after. From the mapping, as a float is what we have.
    vars(config)["read_timeout"] = dead_seconds
    config.websocket_max_message_size = MAX_MESSAGE_BYTES
    config.websocket_ping_interval = ping_seconds
    return config


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket: an IPv4 or IPv6 address or a name; `::` takes IPv4 as well; port 0 finds a free one.

    Raises:
        OSError: the address cannot be used; its text names it and says why.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()
    listener = socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=both)
    listener.setblocking(False)
    return listener


def notice_dead_peers(listener: socket.socket, seconds: float) -> None:
    """Have the kernel break the connections of this listener whose peer is gone, `seconds` after it was last heard.

    A caller over plain HTTP may send nothing for hours (hold, mute), and HTTP has no pings: TCP's own probes tell him
    from a dead one. While something of ours waits for its acknowledgement TCP does not probe; that has the same limit.
    Accepted connections inherit all of this (Linux).
    """
    probe = max(1, round(seconds / 2 / _PROBES))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, round(seconds - probe * _PROBES)))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, probe)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, round(seconds * 1000)))


@contextmanager
def _seldom_told(name: str) -> Iterator[None]:
    seldom, log = Seldom(), logging.getLogger(name)
    log.addFilter(seldom)
    try:
        yield
    finally:
        log.removeFilter(seldom)


async def serve_app(
    app: Framework,
    *,
    host: str,
    port: int,
    ping_seconds: float,
    dead_seconds: float,
    shutdown_trigger: Callable[[], Awaitable[None]],
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` until `shutdown_trigger` returns, and then up to `GRACEFUL_SECONDS` for what still runs.

    `task_status` gets the URLs that it listens on. Signals are the caller's, as is telling calls of the shutdown:
    hypercorn cancels them when the time is over, without a word before.

    Raises:
        OSError: the address cannot be used. Raised before anything starts, so that it is one plain exception.
    """
    install_guards()
    config = make_config(ping_seconds=ping_seconds, dead_seconds=dead_seconds, most=most_connections())
    with listen(host, port) as listener, _seldom_told("trio.serve_listeners"):  # each failed accept, with a traceback
        notice_dead_peers(listener, dead_seconds)
        await worker_serve(
            wrap_app(app, config.wsgi_max_body_size, "asgi"),
            config,
            sockets=Sockets([], [listener], []),
            shutdown_trigger=shutdown_trigger,
            task_status=task_status,
        )
