"""hypercorn, set up for telephone calls: its configuration, and serving on a listener."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

import trio
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app

from sts_trio.web.connections import (
    BACKLOG,
    Connections,
    ServerConfig,
    listen,
    log_rate_limited,
    most_connections,
    notice_dead_peers,
    url_of,
)
from sts_trio.web.guards import GuardedTCPServer, install_guards

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hypercorn.typing import Framework, LifespanState

    from sts_trio.call.handler import Refusals

# A message of Core is below 1 KiB (docs/protocols/core.md 1.3). Ten may wait for a call that does not read: 10 MiB at
# the worst.
MAX_MESSAGE_BYTES = 2**20
MAX_WAITING_MESSAGES = 10  # 0.2 s of audio at 50 messages a second; beyond that TCP holds the caller back
# Request line and headers in all; webhooks may add parameters to the URL (docs/protocols/core.md 6.1).
MAX_HEADER_BYTES = 2**16
HEADER_SECONDS = 5.0  # to send a request in full, and how long an idle keep-alive connection stays
GRACEFUL_SECONDS = 5.0  # after shutdown: what still runs is then cancelled, which costs up to CLOSE_SECONDS more


def make_config(
    *, ping_seconds: float, dead_seconds: float, most: int = 1000, refusals: Refusals | None = None
) -> ServerConfig:
    """Return hypercorn's configuration.

    `ping_seconds`: how often each WebSocket is pinged. `dead_seconds`: a WebSocket on which nothing at all comes for
    so long, not even a pong, is dropped. `most`: connections at a time; `refusals` is told of those turned away. No
    access log: its formats quote the query, which holds telephone numbers.
    """
    log = logging.getLogger("hypercorn.error")
    log.setLevel(logging.WARNING)  # below that it only repeats where it listens
    config = ServerConfig()
    config.connections = Connections(most, refusals)
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


async def serve_app(
    app: Framework,
    *,
    host: str,
    port: int,
    ping_seconds: float,
    dead_seconds: float,
    shutdown_trigger: Callable[[], Awaitable[None]],
    refusals: Refusals | None = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Listen at `host` and `port`, and serve `app` there; see `serve_on`.

    `task_status` gets the URLs that it listens on.

    Raises:
        OSError: the address cannot be used. Raised before anything starts, so that it is one plain exception.
    """
    config = make_config(
        ping_seconds=ping_seconds, dead_seconds=dead_seconds, most=most_connections(), refusals=refusals
    )
    with listen(host, port) as bound:
        notice_dead_peers(bound, dead_seconds)
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(bound))
        ready = partial(task_status.started, [url_of(bound)])
        await serve_on(app, listener, config, shutdown_trigger=shutdown_trigger, ready=ready)


async def serve_on(
    app: Framework,
    listener: trio.abc.Listener[trio.SocketStream],
    config: ServerConfig,
    *,
    shutdown_trigger: Callable[[], Awaitable[None]],
    ready: Callable[[], None],
) -> None:
    """Serve `app` to what `listener` accepts until `shutdown_trigger` returns; then up to `GRACEFUL_SECONDS` longer.

    That time is for requests and calls that still run; then they are cancelled. Whoever wants to tell calls of the
    shutdown, or to act on signals, does it in `shutdown_trigger`. `ready` is called when connections are accepted.
    This is hypercorn's `worker_serve`, for any listener.
    """
    install_guards()
    asgi = wrap_app(app, config.wsgi_max_body_size, "asgi")
    state: LifespanState = {}
    lifespan, context = Lifespan(asgi, config, state), WorkerContext(None)
    serve_one = partial(GuardedTCPServer, asgi, config, context, ConnectionState(state))
    with log_rate_limited("trio.serve_listeners"):  # each failed accept, with a traceback
        async with trio.open_nursery() as living:
            await living.start(lifespan.handle_lifespan)
            await lifespan.wait_for_startup()
            async with trio.open_nursery() as connections, trio.open_nursery() as accepting:
                serving = partial(trio.serve_listeners, serve_one, [listener], handler_nursery=connections)
                await accepting.start(serving)
                ready()
                await shutdown_trigger()
                accepting.cancel_scope.cancel(reason="the server stops")
                await context.terminated.set()  # no connection is kept alive any more
                connections.cancel_scope.deadline = trio.current_time() + config.graceful_timeout
            await lifespan.wait_for_shutdown()
            living.cancel_scope.cancel()
