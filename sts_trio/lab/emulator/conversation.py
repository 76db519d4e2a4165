"""One chat over one WebSocket: a task that reads, one that sends, and one for each group of faults."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING

import structlog
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from sts_trio.lab.emulator.chat import Action, Close, Item, Late
from sts_trio.lab.emulator.evi.wire import (
    AssistantMessage,
    AudioOutput,
    ChatMetadata,
    ErrorMessage,
    Event,
    ToolCall,
    UserMessage,
)
from sts_trio.lab.emulator.malformed import flood_of, half_a_frame, malformed_frame
from sts_trio.lab.emulator.oddness import Oddness
from sts_trio.lab.emulator.outbox import DelayLine, Outbox
from sts_trio.lab.emulator.realtime.steps import RealtimeStep
from sts_trio.lab.emulator.steps import (
    CloseWith,
    Cut,
    Delay,
    DoubledChunks,
    Flood,
    GarbageOnly,
    HalfOpen,
    LateChunks,
    NoEnds,
    OddArguments,
    Reset,
    ResetInFrame,
    SameIds,
    SendBinary,
    SendError,
    SendGarbage,
    SendJunk,
    SendRaw,
    SlowReader,
    SwappedChunks,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sts_trio.lab.emulator.emulator import Emulator, Session
    from sts_trio.lab.emulator.faults import AnyStep, End
    from sts_trio.lab.emulator.faulty_stream import FaultyStream
    from sts_trio.lab.emulator.steps import Moment

CLOSE_SECONDS = 5.0  # for the client's answer to our close frame
NO_CODE = b"\x88\x00"  # a close frame without a code; trio-websocket would put 1000 into it

log = structlog.get_logger(__name__)


class Moments:
    """Counts how often each moment (`faults.Moment`) has come, and lets tasks wait for the nth time."""

    def __init__(self) -> None:
        self._counts: Counter[Moment] = Counter({"accepted": 1})
        self._news = trio.Event()

    def note(self, moment: Moment, times: int = 1) -> None:
        """Count a moment that has just come, `times` times."""
        if times:
            self._counts[moment] += times
            self._news.set()
            self._news = trio.Event()

    async def reach(self, moment: Moment, nth: int) -> None:
        """Wait until a moment has come for the `nth` time."""
        while self._counts[moment] < nth:
            await self._news.wait()


class Conversation:
    """A chat whose upgrade has been accepted. `run` it once, after `put` got what it begins with."""

    def __init__(
        self, emulator: Emulator, session: Session, connection: WebSocketConnection, faulty: FaultyStream
    ) -> None:
        self._emulator = emulator
        self._session = session
        self._connection = connection
        self._faulty = faulty
        self._outbox = Outbox(emulator.options.speed)
        self._way = DelayLine(emulator.dice(session.connection))
        self._moments = Moments()
        self._oddness = Oddness()
        self._speaks: str | None = None  # the segment that was sent last
        self._left = trio.Event()
        # One note is enough: it says only "look again".
        self._wake, self._woken = trio.open_memory_channel[None](1)

    def put(self, actions: Iterable[Action]) -> None:
        """Have these sent."""
        self._outbox.put(actions)
        self._look_again()

    async def run(self, steps: Iterable[AnyStep]) -> None:
        """Talk until one side ends it; `steps` are the faults, each at its moment."""
        first, rest = _split(steps)
        for step in first:
            self._strike(step)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read, nursery.cancel_scope)
            for (at, nth), group in groupby(sorted(rest, key=_moment), key=_moment):
                nursery.start_soon(self._make_trouble, at, nth, sorted(group, key=lambda step: step.after))
            await self._end(await self._write())
            nursery.cancel_scope.cancel(reason="the chat is over")

    # --- inside ---

    def _look_again(self) -> None:
        with contextlib.suppress(trio.WouldBlock):
            self._wake.send_nowait(None)

    async def _read(self, scope: trio.CancelScope) -> None:
        """Take what the client sends, until it leaves."""
        chat = self._session.chat
        try:
            while True:
                message = await self._connection.get_message()
                before = chat.onsets
                self.put(chat.receive(message, trio.current_time()))
                self._moments.note("user_speaking", chat.onsets - before)
        except ConnectionClosed as exc:
            self._left.set()
            # After our own close this comes too, but then the end has been noted already.
            if self._session.live:
                self._emulator.end(self._session, exc.reason.code if exc.reason else 1006, by_server=False)
                scope.cancel(reason="the client left")

    async def _write(self) -> Close | End:
        """Send what is due, keep the chat's limits, and return how the server wants to end.

        Raises:
            TooSlowError: the client does not read.
        """
        chat = self._session.chat
        while True:
            now = trio.current_time()
            if chat.deadline <= now:
                self._outbox.put(chat.tick(now))
            if (item := self._way.pop(now)) is not None:
                if isinstance(item, Close | CloseWith):
                    return item
                await self._send(item)
            elif not self._way.full and (item := self._outbox.pop(now)) is not None:
                if isinstance(item, Cut | Reset | ResetInFrame):
                    return item  # not in order with what is on its way: that is lost
                self._way.put(item, now)
            else:
                ready = math.inf if self._way.full else self._outbox.due(now)
                with trio.move_on_at(min(ready, self._way.due, chat.deadline)):
                    await self._woken.receive()

    async def _send(self, meant: Item) -> None:
        item = self._oddness.of(meant)
        if item is None:
            return
        try:
            await self._write_out(item)
        except ConnectionClosed:
            await trio.sleep(math.inf)  # `_read` knows why it closed, and cancels us
        match item:
            case ChatMetadata() | Event(ready=True):
                self._moments.note("ready")
            case AssistantMessage():
                self._speaks = None  # its id may be that of the one before
            case AudioOutput(id=segment) if segment != self._speaks:
                self._speaks = segment
                self._moments.note("agent_speaking")
            case ToolCall():
                self._moments.note("tool_call")
            case UserMessage(interim=False) | Event(fields={"type": "input_audio_buffer.committed"}):
                self._moments.note("turn_over")

    async def _write_out(self, item: Item) -> None:
        match item:
            case SendGarbage(data=data):
                await self._faulty.send_all(data)
            case SendJunk(kind=kind):
                await self._faulty.send_all(malformed_frame(kind, self._session.chat.malformed))
            case Flood():
                for frames in flood_of(item.kind, item.count, item.each):
                    await self._faulty.send_all(frames)
            case SendRaw(data=data) | SendBinary(data=data):
                await self._connection.send_message(data)
            case Late() | Close() | CloseWith() | Cut() | Reset() | ResetInFrame():
                raise AssertionError(item)  # `_write` and `DelayLine` have taken these
            case message:
                for text in self._session.chat.encode(message, trio.current_time()):
                    await self._connection.send_message(text)

    async def _make_trouble(self, at: Moment, nth: int, steps: list[AnyStep]) -> None:
        await self._moments.reach(at, nth)
        begin = trio.current_time()
        for step in steps:
            await trio.sleep_until(begin + step.after)
            self._strike(step)
        babble = next((step for step in steps if isinstance(step, GarbageOnly)), None)
        while babble is not None:
            self.put([SendJunk(kind=babble.kind)])
            await trio.sleep(babble.every)

    def _strike(self, step: AnyStep) -> None:
        log.info("emulator: fault", connection=self._session.connection, fault=step.name, at=step.at)
        self._emulator.note(step, self._session)
        self._do(step)

    def _do(self, step: AnyStep) -> None:
        match step:
            case SendError(code=code, slug=slug, message=message, close=close):
                self.put([ErrorMessage(code=code, slug=slug, message=message)])
                if close is not None:
                    self.put([CloseWith(code=close)])
            case HalfOpen(seconds=seconds):
                # A client that left with its buffers full cannot be seen: the longest chat is the limit.
                self._faulty.freeze(self._emulator.options.max_duration if seconds is None else seconds)
            case SlowReader(bytes_per_second=rate):
                self._faulty.read_slowly(rate)
            case Delay(seconds=seconds, jitter=jitter):
                self._way.delay(seconds, jitter)
            case LateChunks() | SwappedChunks() | DoubledChunks():
                self._outbox.disturb(step)
            case GarbageOnly() | SameIds() | OddArguments() | NoEnds():
                self._oddness.add(step)
            case _ if isinstance(step, RealtimeStep):
                self._session.chat.befall(step)
            case _:
                self.put([step])

    async def _end(self, last: Close | End) -> None:
        code = last.code if isinstance(last, Close | CloseWith) else 1006
        self._emulator.end(self._session, code, by_server=True)
        match last:
            case CloseWith(code=1005):
                await self._faulty.send_all(NO_CODE)
                with trio.move_on_after(CLOSE_SECONDS):
                    await self._left.wait()
            case Close(code=code, reason=reason) | CloseWith(code=code, reason=reason):
                with trio.move_on_after(CLOSE_SECONDS):
                    await self._connection.aclose(code, reason)
            case Cut():
                await trio.aclose_forcefully(self._faulty)
            case ResetInFrame():
                await self._faulty.send_all(half_a_frame())
                await self._faulty.reset()
            case Reset():
                await self._faulty.reset()


def _moment(step: AnyStep) -> tuple[Moment, int]:
    return step.at, step.nth


def _split(steps: Iterable[AnyStep]) -> tuple[list[AnyStep], list[AnyStep]]:
    """Those that are in force before the first message is sent, and the rest."""
    first: list[AnyStep] = []
    rest: list[AnyStep] = []
    for step in steps:
        begins = isinstance(step, RealtimeStep) and (step.at, step.nth, step.after) == ("accepted", 1, 0)
        (first if begins else rest).append(step)
    return first, rest
