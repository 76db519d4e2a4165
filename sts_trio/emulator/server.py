"""The emulator's I/O: one nursery for each connection, and no way for one client to disturb another."""

from __future__ import annotations

import contextlib
import math
import socket
import struct
from functools import partial
from typing import TYPE_CHECKING, cast

import msgspec
import structlog
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, wrap_server_stream

from sts_trio.emulator.outbox import Action, Close, Item, Outbox
from sts_trio.emulator.query import Handshake, parse_handshake
from sts_trio.emulator.script import (
    CloseWith,
    Mute,
    Refuse,
    Reset,
    Script,
    SendError,
    SendGarbage,
    SendRaw,
    Step,
)
from sts_trio.emulator.wire import Fault, encode_server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sts_trio.emulator.emulator import Emulator, Session

HANDSHAKE_SECONDS = 10.0
CLOSE_SECONDS = 5.0  # for the client's answer to our close frame
SEND_SECONDS = 30.0  # a client that reads nothing for so long is gone
MAX_MESSAGE = 16 * 2**20  # Hume's documented limit, in bytes
MESSAGE_QUEUE = 64  # frames taken off the wire but not looked at: 1.3 s of 20 ms audio
PATH = "/v0/evi/chat"

log = structlog.get_logger(__name__)


async def serve_emulator(
    emulator: Emulator,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve chats until cancelled; `started` gives the address, such as `ws://127.0.0.1:41233/v0/evi/chat`.

    Raises:
        OSError: the port cannot be had.
    """
    listeners = await trio.open_tcp_listeners(port, host=host)
    bound: int = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_listeners, partial(serve_stream, emulator), listeners))
        task_status.started(f"ws://{f'[{host}]' if ':' in host else host}:{bound}{PATH}")


async def serve_stream(emulator: Emulator, stream: trio.abc.Stream) -> None:
    """Serve one connection to its end, and close it.

    Nothing but cancellation leaves here, or the server would stop; a fault in the options' own `script` does.
    """
    number = emulator.connect()
    script = emulator.options.script(number)
    try:
        if isinstance(script.handshake, Mute):
            emulator.refused += 1
            while await stream.receive_some():
                pass
        else:
            await _serve_websocket(emulator, stream, number, script)
    except* (trio.BrokenResourceError, trio.ClosedResourceError, ConnectionClosed, trio.TooSlowError):
        log.info("emulator: connection lost", connection=number)
    except* Exception:
        log.exception("emulator: connection failed", connection=number)
    finally:
        await trio.aclose_forcefully(stream)


class _Reader:
    """Stands in for a nursery, so that the end of trio-websocket's reader is seen.

    Without it a client that leaves before its request is whole would be waited for until the time limit.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.handshaking = True

    def start_soon(self, function: Callable[..., Awaitable[object]], *args: object) -> None:
        self._nursery.start_soon(self._run, function, args)

    async def _run(self, function: Callable[..., Awaitable[object]], args: tuple[object, ...]) -> None:
        await function(*args)
        if self.handshaking:
            self._nursery.cancel_scope.cancel(reason="the client left during the handshake")


async def _serve_websocket(emulator: Emulator, stream: trio.abc.Stream, number: int, script: Script) -> None:
    async with trio.open_nursery() as nursery:
        reader = _Reader(nursery)
        connection = None
        with trio.move_on_after(HANDSHAKE_SECONDS):
            request = await wrap_server_stream(
                cast("trio.Nursery", reader),
                stream,
                message_queue_size=MESSAGE_QUEUE,
                max_message_size=MAX_MESSAGE,
                receive_buffer_size=2**16,
            )
            handshake = await _judge(emulator, request, script)
            if handshake is not None:
                connection = await request.accept()
        reader.handshaking = False
        if connection is not None and handshake is not None:
            await _chat(emulator, stream, connection, handshake, number, script)
        else:
            emulator.refused += 1
        nursery.cancel_scope.cancel(reason="the connection is over")


async def _judge(emulator: Emulator, request: WebSocketRequest, script: Script) -> Handshake | None:
    """Return the handshake if it may become a chat; else answer it."""
    if isinstance(script.handshake, Refuse):
        await _reject(request, script.handshake.status, script.handshake.body.encode())
        return None
    try:
        handshake = parse_handshake(request.path, request.headers)
    except ValueError as exc:
        await _reject_with(request, 400, f"The query cannot be read: {exc}")
        return None
    if not handshake.path.rstrip("/").endswith("/chat"):
        await _reject_with(request, 404, "There is nothing at this path.")
        return None
    if not emulator.knows_key(handshake.key):
        await _reject_with(request, 401, "The API key or access token is missing or wrong.")
        return None
    return handshake


async def _reject_with(request: WebSocketRequest, status: int, message: str) -> None:
    # The shape of EVI's own body is not documented; clients may only count on the status.
    await _reject(request, status, msgspec.json.encode({"status": status, "message": message}))


async def _reject(request: WebSocketRequest, status: int, body: bytes) -> None:
    await request.reject(status, extra_headers=[(b"Content-Type", b"application/json")], body=body)


async def _chat(
    emulator: Emulator,
    stream: trio.abc.Stream,
    connection: WebSocketConnection,
    handshake: Handshake,
    number: int,
    script: Script,
) -> None:
    session = emulator.begin(number, handshake.query, trio.current_time())
    log.info("emulator: chat begins", connection=number, chat=session.chat.chat_id, resumed=session.chat.resumed)
    outbox = Outbox(emulator.options.speed)
    # One note is enough: it says only "look again".
    wake, woken = trio.open_memory_channel[None](1)

    def put(actions: list[Action]) -> None:
        outbox.put(actions)
        with contextlib.suppress(trio.WouldBlock):
            wake.send_nowait(None)

    put(_opening(emulator, session, trio.current_time(), script))
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_read, emulator, session, connection, put, nursery.cancel_scope)
            nursery.start_soon(_play, script.steps, put)
            last = await _write(session, stream, connection, outbox, woken)
            code = last.code if isinstance(last, Close | CloseWith) else 1006
            emulator.end(session, code, by_server=True)
            if isinstance(last, Close | CloseWith):
                with trio.move_on_after(CLOSE_SECONDS):
                    await connection.aclose(last.code, last.reason)
            else:
                await _reset(stream)
            nursery.cancel_scope.cancel(reason="the chat is over")
    finally:
        emulator.end(session, 1006, by_server=False)
        log.info("emulator: chat ended", connection=number, code=session.close_code)


def _opening(emulator: Emulator, session: Session, now: float, script: Script) -> list[Action]:
    query, chat, known = session.query, session.chat, emulator.options.known_configs
    if query.config_id is not None and known is not None and query.config_id not in known:
        return chat.refuse("I0100", "internal_error", "An internal error occurred.")  # EVI says no more than that
    if query.resumed_chat_group_id is not None and not chat.resumed:
        return chat.refuse("E0708", "chat_group_not_found", "The chat group to resume was not found.")
    return chat.open(now, metadata=script.metadata)


async def _read(
    emulator: Emulator,
    session: Session,
    connection: WebSocketConnection,
    put: Callable[[list[Action]], None],
    scope: trio.CancelScope,
) -> None:
    """Take what the client sends, until it leaves."""
    try:
        while True:
            put(session.chat.receive(await connection.get_message(), trio.current_time()))
    except ConnectionClosed as exc:
        # After our own close this comes too, but then the end has been noted already.
        if session.live:
            emulator.end(session, exc.reason.code if exc.reason else 1006, by_server=False)
            scope.cancel(reason="the client left")


async def _write(
    session: Session,
    stream: trio.abc.Stream,
    connection: WebSocketConnection,
    outbox: Outbox,
    woken: trio.MemoryReceiveChannel[None],
) -> Close | CloseWith | Reset:
    """Send what is due, keep the chat's limits, and return how the server wants to end.

    Raises:
        TooSlowError: the client does not read.
    """
    while True:
        now = trio.current_time()
        if session.chat.deadline <= now:
            outbox.put(session.chat.tick(now))
        item = outbox.pop(now)
        if isinstance(item, Close | CloseWith | Reset):
            return item
        if item is not None:
            with trio.fail_after(SEND_SECONDS):
                await _send(session, stream, connection, item)
            continue
        with trio.move_on_at(min(outbox.due(now), session.chat.deadline)):
            await woken.receive()


async def _send(
    session: Session,
    stream: trio.abc.Stream,
    connection: WebSocketConnection,
    item: Item,
) -> None:
    try:
        match item:
            case SendGarbage(data=data):
                await stream.send_all(data)
            case SendRaw(data=data):
                await connection.send_message(data)
            case Close() | CloseWith() | Reset():
                raise AssertionError(item)  # `_write` has taken these
            case message:
                await connection.send_message(encode_server(message, session.chat.custom_session_id))
    except ConnectionClosed:
        await trio.sleep(math.inf)  # `_read` knows why it closed, and cancels us


async def _play(steps: tuple[Step, ...], put: Callable[[list[Action]], None]) -> None:
    begin = trio.current_time()
    for step in sorted(steps, key=lambda step: step.after):
        await trio.sleep_until(begin + step.after)
        if isinstance(step, SendError):
            put([Fault(code=step.code, slug=step.slug, message=step.message)])
        else:
            put([step])


async def _reset(stream: trio.abc.Stream) -> None:
    """Drop a connection with a TCP RST; an in-memory stream just ends."""
    if isinstance(stream, trio.SocketStream):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await trio.aclose_forcefully(stream)
