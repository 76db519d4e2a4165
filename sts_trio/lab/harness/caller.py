"""Place one call as DSAI Core does: over a WebSocket or plain HTTP, a frame each 20 ms in real time.

Works against any STS connector (docs/protocols/core.md 1 and 2). What carries the call is a `line`, what the caller
does is in `script`, what they hear in `recording`; here is the connection, and the clock.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import uuid4

import h11
import trio
import trio_websocket
import wsproto

from sts_trio.audio.pcm import FRAME_SECONDS
from sts_trio.lab.harness import wire
from sts_trio.lab.harness.address import Address, CallFailed, parse_address, reason
from sts_trio.lab.harness.line import HttpLine, LineClosed, LineRefused, shake_hands
from sts_trio.lab.harness.measures import measure
from sts_trio.lab.harness.recording import Ear, Recording
from sts_trio.lab.harness.report import AgentBegins, CallReport, Event
from sts_trio.lab.harness.script import Player, Press, Unmet

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sts_trio.lab.harness.line import Line
    from sts_trio.lab.harness.report import Ending, Happening
    from sts_trio.lab.harness.script import CallerScript, Key

    Dial = Callable[[], Awaitable[trio.abc.Stream]]

# A connector that does not read for so long has stalled; a call's own backlog there is 250 frames.
STALL_SECONDS = 5.0
# For the close handshake at the end; the measurements are taken by then.
CLOSE_SECONDS = 2.0
# A frame this late was held up on this machine, not by the script.
LATE_SECONDS = FRAME_SECONDS

# What a connection can do to us. Never OSError: trio's streams translate it, and a listener's own must not be hidden.
_TROUBLE = (
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio.TooSlowError,
    trio_websocket.HandshakeError,
    trio_websocket.ConnectionClosed,
    wsproto.utilities.ProtocolError,
    h11.ProtocolError,
)


async def place_call(
    url: str,
    speech: CallerScript,
    *,
    on_event: Callable[[Event], None] | None = None,
    dial: Dial | None = None,
    uuid: str | None = None,
    limit: float = 300.0,
    connect_limit: float = 10.0,
    tls: ssl.SSLContext | None = None,
    keys: Sequence[Key] = (),
    hang_up: Callable[[], Awaitable[object]] | None = None,
) -> CallReport:
    """Call `url` (ws, wss, http or https; any path and query), play the script, and report what came of it.

    Over HTTP only audio goes either way: no key, no transcript, no interruption.

    The call ends when the script is over and the `keys` are pressed, when the far end closes, when `limit` seconds have
    passed, or when `hang_up`, which is awaited while the call lasts, returns. `dial` opens the stream in place of TCP
    (and TLS, with `tls` or the system's trust).

    Raises:
        CallFailed: no call came about (address, network, TLS, handshake). Later trouble is in the report.
    """
    address = parse_address(url)
    started = trio.current_time()
    try:
        with trio.fail_after(connect_limit):
            stream = await (dial() if dial else _dial(address, tls))
    except (OSError, UnicodeError, trio.BrokenResourceError, trio.TooSlowError) as exc:
        raise CallFailed(f"{address}: {reason(exc, connect_limit)}") from exc
    trouble: list[BaseException] = []
    call: _Call | None = None
    try:
        async with trio.open_nursery() as connection:
            try:
                with trio.fail_after(connect_limit):
                    line = await _open_line(connection, stream, address)
                call = _Call(uuid or str(uuid4()), Player(speech, keys), on_event or _ignore, trio.current_time())
                await _converse(line, call, limit, hang_up)
                # A stalled one may have half a frame on its way: no orderly end can follow it.
                if call.ended != "stalled" and call.refusal is None:
                    with trio.move_on_after(CLOSE_SECONDS):
                        await line.aclose()
            finally:
                await trio.aclose_forcefully(stream)
            connection.cancel_scope.cancel(reason="the call is over")
    except* _TROUBLE as group:
        trouble.extend(group.exceptions)
    if call is None:
        raise CallFailed(f"{address}: {reason(trouble[0], connect_limit)}") from trouble[0]
    if call.refusal is not None:
        raise CallFailed(f"{address}: {call.refusal}") from call.refusal
    return call.report(call.began - started)


def _ignore(_: Event) -> None:
    """Drop the call's events: the default for `on_event`."""


async def _dial(address: Address, tls: ssl.SSLContext | None) -> trio.abc.Stream:
    if not address.tls:
        return await trio.open_tcp_stream(address.host, address.port)
    stream = await trio.open_ssl_over_tcp_stream(
        address.host, address.port, ssl_context=tls or ssl.create_default_context(), https_compatible=True
    )
    try:
        await stream.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


async def _open_line(nursery: trio.Nursery, stream: trio.abc.Stream, address: Address) -> Line:
    return HttpLine(stream, address) if address.is_http else await shake_hands(nursery, stream, address)


@dataclass(slots=True)
class _Call:
    """What a call in progress has gathered."""

    uuid: str
    player: Player
    on_event: Callable[[Event], None]
    began: float
    ear: Ear = field(default_factory=Ear)
    events: list[Event] = field(default_factory=list)
    frames_sent: int = 0
    frames_late: int = 0
    ended: Ending = "far end"
    close_code: int = 1006
    close_reason: str = ""
    duration: float = 0.0
    refusal: LineRefused | None = None
    hangs_up: bool = False  # at the next frame: one that is half sent would leave no orderly end

    def now(self) -> float:
        return trio.current_time() - self.began

    def note(self, at: float, what: Happening) -> None:
        event = Event(at, what)
        self.events.append(event)
        self.on_event(event)

    def hear(self, message: wire.FromConnector) -> None:
        now = self.now()
        self.note(now, message)
        match message:
            case wire.Audio(pcm=pcm) if self.ear.audio(now, pcm):
                self.note(now, AgentBegins())
            case wire.Interruption():
                self.ear.interruption(now)

    def report(self, setup: float) -> CallReport:
        recording = Recording(
            caller=self.player.line,
            agent=self.ear.line,
            utterances=tuple(self.player.utterances),
            arrivals=tuple(self.ear.arrivals),
            cuts=tuple(self.ear.cuts),
            underruns=self.ear.underruns,
            overflow=self.ear.overflow,
        )
        return CallReport(
            uuid=self.uuid,
            setup=setup,
            duration=self.duration,
            ended=self.ended,
            close_code=self.close_code,
            close_reason=self.close_reason,
            events=tuple(self.events),
            recording=recording,
            measures=measure(recording),
            frames_sent=self.frames_sent,
            frames_late=self.frames_late,
            bytes_received=sum(arrival.size for arrival in self.ear.arrivals),
            unmet=tuple(event.what.step for event in self.events if isinstance(event.what, Unmet)),
        )


async def _converse(line: Line, call: _Call, limit: float, hang_up: Callable[[], Awaitable[object]] | None) -> None:
    """Speak and listen until one of the ends has come; the time line stops there."""
    try:
        with trio.move_on_after(limit) as budget:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_listen, line, call, nursery.cancel_scope)
                if hang_up is not None:
                    nursery.start_soon(_wait_for_word, hang_up, call)
                if await _speak(line, call):
                    nursery.cancel_scope.cancel(reason="the caller hangs up")
        if budget.cancelled_caught:
            call.ended, call.close_code = "limit", 1000
    finally:
        call.duration = call.now()
        call.ear.hang_up(call.duration)


async def _listen(line: Line, call: _Call, until: trio.CancelScope) -> None:
    try:
        while True:
            call.hear(await line.hear())
    except LineClosed as closed:
        call.close_code, call.close_reason = closed.code, closed.reason
    except LineRefused as refusal:
        call.refusal = refusal
    until.cancel(reason="the far end closed")


async def _wait_for_word(hang_up: Callable[[], Awaitable[object]], call: _Call) -> None:
    await hang_up()
    call.hangs_up = True


async def _speak(line: Line, call: _Call) -> bool:
    """Send the script's frames in real time. False if the far end was gone first: the listener knows the cause."""
    try:
        with trio.CancelScope(deadline=trio.current_time() + STALL_SECONDS) as patience:
            await line.begin(call.uuid)
            while True:
                due = call.began + (call.frames_sent + 1) * FRAME_SECONDS
                patience.deadline = max(due, trio.current_time()) + STALL_SECONDS
                await trio.sleep_until(due)
                if call.hangs_up:
                    call.ended, call.close_code = "caller", 1000
                    return True
                slot = call.player.slot(call.now(), call.ear)
                for news in slot.news:
                    call.note(call.now(), news)
                    if isinstance(news, Press):
                        await line.press(news.digit)
                if slot.frame is None:
                    call.ended, call.close_code = "script", 1000
                    return True
                call.frames_late += trio.current_time() - due > LATE_SECONDS
                await line.speak(slot.frame)
                call.frames_sent += 1
    except LineClosed:
        return False
    call.ended = "stalled"
    return True
