"""The emulator's I/O: one nursery for each connection, and no way for one client to disturb another."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

import msgspec
import structlog
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, wrap_server_stream

from sts_trio.lab.emulator.chat import Late
from sts_trio.lab.emulator.conversation import Conversation
from sts_trio.lab.emulator.evi.settings import SessionSettings
from sts_trio.lab.emulator.evi.wire import ChatMetadata, Event
from sts_trio.lab.emulator.faults import AnyFault, Drop, LateMetadata, Mute, NoMetadata, Refuse, Script, SlowHandshake
from sts_trio.lab.emulator.faulty_stream import FaultyStream, drop
from sts_trio.lab.handshake_nursery import HandshakeNursery

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sts_trio.lab.emulator.chat import Action
    from sts_trio.lab.emulator.emulator import Emulator, Session
    from sts_trio.lab.emulator.evi.handshake import Handshake

HANDSHAKE_SECONDS = 10.0
MAX_MESSAGE = 16 * 2**20  # Hume's documented limit, in bytes
MESSAGE_QUEUE = 64  # frames taken off the wire but not looked at: 1.3 s of 20 ms audio

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
    begin = trio.current_time()
    listeners = await trio.open_tcp_listeners(port, host=host)
    bound: int = listeners[0].socket.getsockname()[1]
    task_status.started(f"ws://{f'[{host}]' if ':' in host else host}:{bound}{emulator.options.provider.path}")
    async with trio.open_nursery() as chats:
        for outage in sorted(emulator.options.outages, key=lambda outage: outage.after):
            with trio.move_on_at(begin + outage.after):
                await _listen(emulator, listeners, chats)
            log.info("emulator: nobody listens", seconds=outage.seconds)
            await trio.sleep_until(begin + outage.after + outage.seconds)
            listeners = await trio.open_tcp_listeners(bound, host=host)
        await _listen(emulator, listeners, chats)


async def _listen(emulator: Emulator, listeners: list[trio.SocketListener], chats: trio.Nursery) -> None:
    """Serve until cancelled; then the listeners are closed, and the chats go on."""
    await trio.serve_listeners(partial(serve_stream, emulator), listeners, handler_nursery=chats)


async def serve_stream(emulator: Emulator, stream: trio.abc.Stream) -> None:
    """Serve one connection to its end, and close it.

    Nothing but cancellation leaves here, or the server would stop; a fault in the options' own `script` does.
    """
    number = emulator.connect()
    script = emulator.faults_for(number)
    try:
        match script.handshake:
            case Drop(reset=reset):
                _refused(emulator, script.handshake, number)
                await trio.sleep(script.delay)
                await drop(stream, reset=reset)
            case Mute():
                _refused(emulator, script.handshake, number)
                while await stream.receive_some():
                    pass
            case _:
                await _serve_websocket(emulator, stream, number, script)
    except* (trio.BrokenResourceError, trio.ClosedResourceError, ConnectionClosed, trio.TooSlowError):
        log.info("emulator: connection lost", connection=number)
    except* Exception:
        log.exception("emulator: connection failed", connection=number)
    finally:
        emulator.leave(number)
        await trio.aclose_forcefully(stream)


def _note(emulator: Emulator, fault: AnyFault, number: int, session: Session | None = None) -> None:
    log.info("emulator: fault", connection=number, fault=fault.name)
    emulator.note(fault, session)


def _refused(emulator: Emulator, fault: AnyFault, number: int) -> None:
    emulator.refused += 1
    _note(emulator, fault, number)


async def _serve_websocket(emulator: Emulator, stream: trio.abc.Stream, number: int, script: Script) -> None:
    faulty = FaultyStream(stream)
    async with trio.open_nursery() as nursery:
        reader = HandshakeNursery(nursery)
        connection = None
        with trio.move_on_after(HANDSHAKE_SECONDS) as limit:
            request = await wrap_server_stream(
                cast("trio.Nursery", reader),
                faulty,
                message_queue_size=MESSAGE_QUEUE,
                max_message_size=MAX_MESSAGE,
                receive_buffer_size=2**16,
            )
            if script.delay:
                _note(emulator, SlowHandshake(seconds=script.delay), number)
                limit.deadline = trio.current_time() + script.delay + HANDSHAKE_SECONDS
                await trio.sleep(script.delay)
            handshake = await _judge(emulator, request, number, script)
            if handshake is not None:
                connection = await request.accept()
        reader.done = True
        if connection is not None and handshake is not None:
            await _chat(emulator, faulty, connection, handshake, number, script)
        else:
            emulator.refused += 1
        nursery.cancel_scope.cancel(reason="the connection is over")


async def _judge(emulator: Emulator, request: WebSocketRequest, number: int, script: Script) -> Handshake | None:
    """Return the handshake if it may become a chat; else answer it."""
    if isinstance(script.handshake, Refuse):
        _note(emulator, script.handshake, number)
        refusal = script.handshake
        await _reject(request, refusal.status, refusal.body.encode(), refusal.headers)
        return None
    try:
        handshake = emulator.protocol.parse_upgrade(request.path, request.headers)
    except ValueError as exc:
        await _reject_with(request, 400, f"The query cannot be read: {exc}")
        return None
    if not handshake.path.rstrip("/").endswith(emulator.options.provider.path.rpartition("/")[2]):
        await _reject_with(request, 404, "There is nothing at this path.")
        return None
    if emulator.protocol.KEY_BEFORE_UPGRADE and not emulator.knows_key(handshake.key):
        await _reject_with(request, 401, "The API key or access token is missing or wrong.")
        return None
    if not emulator.admit(number):
        await _reject_with(request, 429, "There are too many chats at once.")
        return None
    return handshake


async def _reject_with(request: WebSocketRequest, status: int, message: str) -> None:
    # The shape of EVI's own body is not documented; clients may only count on the status.
    await _reject(request, status, msgspec.json.encode({"status": status, "message": message}))


async def _reject(
    request: WebSocketRequest, status: int, body: bytes, headers: Mapping[str, str] | None = None
) -> None:
    named = {"Content-Type": "application/json", **(headers or {})}
    await request.reject(status, extra_headers=[(k.encode(), v.encode()) for k, v in named.items()], body=body)


async def _chat(
    emulator: Emulator,
    faulty: FaultyStream,
    connection: WebSocketConnection,
    handshake: Handshake,
    number: int,
    script: Script,
) -> None:
    session = emulator.begin(number, handshake.query, trio.current_time())
    log.info("emulator: chat begins", connection=number, chat=session.chat.chat_id, resumed=session.chat.resumed)
    if not script.metadata:
        _note(emulator, NoMetadata(), number, session)
    elif script.late:
        _note(emulator, LateMetadata(seconds=script.late), number, session)
    conversation = Conversation(emulator, session, connection, faulty)
    conversation.put(_opening(emulator, session, handshake, trio.current_time(), script))
    try:
        await conversation.run(script.steps)
    finally:
        emulator.end(session, 1006, by_server=False)
        log.info("emulator: chat ended", connection=number, code=session.close_code)


def _opening(emulator: Emulator, session: Session, handshake: Handshake, now: float, script: Script) -> list[Action]:
    query, chat, known = handshake.query, session.chat, emulator.options.known_configs
    if not emulator.knows_key(handshake.key):  # only the Realtime protocol answers this after the upgrade
        return chat.refuse("invalid_api_key", "invalid_request_error", "Incorrect API key provided.")
    if query.config_id is not None and known is not None and query.config_id not in known:
        return chat.refuse("I0100", "internal_error", "An internal error occurred.")  # EVI says no more than that
    if query.resumed_chat_group_id is not None and not chat.resumed:
        return chat.refuse("E0708", "chat_group_not_found", "The chat group to resume was not found.")
    actions = chat.open(now, metadata=script.metadata)
    if not script.late:
        return actions
    first = (ChatMetadata, SessionSettings, Event)
    return [Late(action, script.late) if isinstance(action, first) else action for action in actions]
