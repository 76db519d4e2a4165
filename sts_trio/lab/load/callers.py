"""The callers of a load: all of Core's ends, in one process."""

from __future__ import annotations

import binascii
import os
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import trio

from sts_trio.audio.pcm import FRAME_BYTES
from sts_trio.lab.harness import wire
from sts_trio.lab.harness.address import parse_address, reason
from sts_trio.lab.load.handshake import HANDSHAKE_SECONDS, open_call
from sts_trio.lab.load.hearing import CallHearing, DownArrivals, SharedTimes
from sts_trio.lab.load.histogram import Histogram
from sts_trio.lab.load.plan import CallersDone, DownCall, Glance, Measuring
from sts_trio.lab.load.process import GLANCE_SECONDS, LoadError, Tell, run_child
from sts_trio.lab.load.socket_loop import SocketLoop, TimerHeap
from sts_trio.lab.load.stamps.base import FRAME_NS
from sts_trio.lab.load.stamps.g711 import g711_frame
from sts_trio.lab.load.stamps.pcm import pcm_frame
from sts_trio.lab.websocket import TEXT, ClientFramer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sts_trio.lab.harness.address import Address
    from sts_trio.lab.load.plan import Plan
    from sts_trio.lab.load.socket_loop import Connection
    from sts_trio.lab.load.stamps.base import Stamper
    from sts_trio.lab.websocket import Message

# When the callers fall silent, their last frames may still be in a queue of an overloaded server. The parent, who sees
# the agents too, ends the calls when nothing more arrives; what takes longer than this counts as lost.
_LAST_FRAMES_SECONDS = 15.0
# Behind the last frame, for a resampler keeps the end of what it got until there is more.
_SILENCE = binascii.b2a_base64(bytes(FRAME_BYTES), newline=False)
_UUID = "5f0a9c1e-0000-4000-8000-{:012x}"
_GOLDEN = 0.618  # spreads any number of calls evenly over the 20 ms


class Caller:
    """One call, from `init` to the hang-up."""

    def __init__(self, number: int, hearing: CallHearing, stamper: Stamper, window_ns: tuple[int, int]) -> None:
        self.number = number
        self.hearing = hearing
        self.sent = 0
        self.over = ""
        self.errors = 0
        self.speaking = True
        self._stamper = stamper
        self._window = window_ns
        self._due = 0
        self._connection: Connection

    def begin(self, connection: Connection, rest: bytes) -> None:
        """Say which call this is; `rest` came behind the handshake."""
        self._connection = connection
        connection.send(TEXT, wire.init(_UUID.format(self.number)).encode())
        if rest:
            connection.feed(rest)

    def speak(self, now: int) -> int | None:
        """Send the next frame; return when the one after it is due (ns), None if there is none."""
        if self.over:
            return None
        if not self.speaking:
            self._send(_SILENCE)
            return None
        counted = self._window[0] <= now < self._window[1]
        audio = self._stamper(self.number, self.sent, time.monotonic_ns(), counted=counted)
        self._send(audio)
        self.sent += 1
        self._due = (self._due or now) + FRAME_NS
        return self._due

    def _send(self, audio: bytes) -> None:
        self._connection.send(TEXT, wire.audio_of(audio))

    def hang_up(self) -> None:
        """Close the connection; what was measured stays."""
        self._connection.close()

    def hear(self, message: Message) -> None:
        """See `socket_loop.Member`."""
        now = time.monotonic()
        if message.opcode != TEXT:
            return
        try:
            said = wire.read(message.data)
        except wire.UNREADABLE as exc:
            self.errors += not wire.is_unknown_type(exc)  # another connector may have types of its own
            return
        if isinstance(said, wire.AudioMessage):
            self.hearing.audio(said.audio, now)
        elif isinstance(said, wire.InterruptionMessage):
            self.hearing.interruption(now)
        elif isinstance(said, wire.ErrorMessage):
            self.errors += 1

    def gone(self, why: str) -> None:
        """See `socket_loop.Member`."""
        self.over = why


class CallerPool:
    """All callers of the process, and what is measured of them."""

    def __init__(self, plan: Plan, address: Address, at: tuple[int, tuple[str, int]]) -> None:
        self._plan = plan
        self._address = address
        self._at = at
        self.times = SharedTimes(plan.times_path, plan.calls)
        self.timers = TimerHeap()  # it tells of the agents too, which share the machine
        self.loop = SocketLoop(self.timers)
        self.heard = DownArrivals()
        self.setup = Histogram()
        self.callers: list[Caller] = []
        self.failures: Counter[str] = Counter()
        self._framer = ClientFramer(os.urandom(4))
        self._stamper: Stamper = partial(pcm_frame if plan.played.bit_exact else g711_frame, plan.mark)
        self.begin = time.monotonic() + 0.1
        first = self.begin + plan.calls / plan.ramp + plan.settle
        self.window = first, first + plan.seconds
        self._window_ns = round(first * 1e9), round(self.window[1] * 1e9)

    async def place_all(self) -> None:
        """Place the calls, one after the other as the plan's ramp has it."""
        async with trio.open_nursery() as nursery:
            for number in range(self._plan.calls):
                await _sleep_until(self.begin + number / self._plan.ramp)
                nursery.start_soon(self._place, number)

    async def _place(self, number: int) -> None:
        began = time.monotonic()
        self.loop.stir()
        try:
            sock, rest = await open_call(self._address, self._at)
        except Exception as exc:  # of any kind: it is one call that failed
            self.failures[reason(exc, HANDSHAKE_SECONDS)] += 1
            return
        self.setup.add(time.monotonic() - began)
        caller = Caller(
            number, CallHearing(number, self.times, self.heard, self.window), self._stamper, self._window_ns
        )
        caller.begin(self.loop.join(sock, b"", caller, self._framer.encode), rest)
        self.callers.append(caller)
        if self._plan.conversation.caller:
            now = time.monotonic_ns()
            self.timers.add(now + round(number * _GOLDEN % 1 * FRAME_NS), caller.speak)

    def silence(self) -> None:
        """Have all callers stop sending stamped frames."""
        for caller in self.callers:
            caller.speaking = False

    def hang_up(self) -> None:
        """End the calls that have not ended."""
        for caller in self.callers:
            if not caller.over:
                caller.hang_up()

    def done(self) -> CallersDone:
        """Sum up what was measured."""
        failures = self.failures + Counter(caller.over for caller in self.callers if caller.over)
        if errors := sum(caller.errors for caller in self.callers if not caller.over):
            failures["the connector reported an error"] += errors
        calls = []
        for caller in self.callers:
            ear = caller.hearing
            missed = self.times.last_cut(caller.number)[0] - ear.interruptions
            calls.append(
                DownCall(
                    caller.number,
                    caller.sent,
                    ear.received,
                    ear.lost,
                    ear.doubled,
                    ear.reordered,
                    ear.damaged,
                    ear.stale,
                    missed,
                    bool(caller.over),
                )
            )
        heard = self.heard
        return CallersDone(
            self.setup, heard.first, heard.late, heard.stop, self.timers.late, heard.holes, calls, dict(failures)
        )

    def glance(self) -> Glance:
        """Sum up for the live table."""
        first = self.heard.first
        return Glance(
            calls=sum(not caller.over for caller in self.callers),
            failed=self.failures.total() + sum(bool(caller.over) for caller in self.callers),
            lost=sum(caller.hearing.lost for caller in self.callers),
            stale=sum(caller.hearing.stale for caller in self.callers),
            received=self.heard.received,
            p50=first.quantile(0.5),
            p99=first.quantile(0.99),
            largest=first.largest if first.total else None,
        )


async def run_callers(plan: Plan, tell: Tell, until: Callable[[], Awaitable[None]]) -> None:
    """Place the calls, hold them for as long as is measured, hang up, and say what was measured.

    Raises:
        LoadError: the connector's name cannot be resolved.
    """
    address = parse_address(plan.url)
    try:
        found = await trio.socket.getaddrinfo(address.host, address.port, type=trio.socket.SOCK_STREAM)
    except OSError as exc:
        raise LoadError(f"no call to {address} can be placed: {exc.strerror or exc}") from exc
    family, _, _, _, place = found[0]
    pool = CallerPool(plan, address, (family, (str(place[0]), int(place[1]))))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.loop.run)
        nursery.start_soon(_glances, pool, tell)
        with trio.CancelScope() as running:
            nursery.start_soon(_place, pool, running)
            nursery.start_soon(_leave, until, running)
            await _sleep_until(pool.window[0])
            pool.timers.late = Histogram()  # placing calls takes its time, and does no harm
            tell(Measuring(on=True))
            await _sleep_until(pool.window[1])
            tell(Measuring(on=False))
            pool.silence()
            await trio.sleep(_LAST_FRAMES_SECONDS)
        pool.hang_up()
        nursery.cancel_scope.cancel()
    tell(pool.done())


async def _sleep_until(at: float) -> None:
    await trio.sleep(max(at - time.monotonic(), 0.0))


async def _place(pool: CallerPool, running: trio.CancelScope) -> None:
    await pool.place_all()
    if not pool.callers:
        running.cancel()  # nothing to wait for


async def _leave(until: Callable[[], Awaitable[None]], running: trio.CancelScope) -> None:
    await until()
    running.cancel()


async def _glances(pool: CallerPool, tell: Tell) -> None:
    while True:
        await trio.sleep(GLANCE_SECONDS)
        tell(pool.glance())


if __name__ == "__main__":
    run_child(run_callers)
