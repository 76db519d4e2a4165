"""An open session of the Realtime protocol, behind the seam of `providers.base`: receiving, sending."""

from __future__ import annotations

from collections import Counter, deque
from contextlib import suppress
from math import inf
from time import time
from typing import TYPE_CHECKING

import structlog
import trio

from sts_trio.audio.pcm import FRAME_BYTES, FRAME_SECONDS
from sts_trio.errors import ProviderLost
from sts_trio.providers.base import OddMessage, RateLimit, SessionEnd, TokensUsed
from sts_trio.providers.openai import wire
from sts_trio.providers.openai.dialect import closed, describe
from sts_trio.providers.socket import SocketEnd
from sts_trio.websocket.frames import TEXT

if TYPE_CHECKING:
    from collections.abc import Callable

    from sts_trio.providers.base import AgentEvent, AgentNews
    from sts_trio.providers.openai.audio import Codec
    from sts_trio.providers.openai.barge_in import BargeInGate
    from sts_trio.providers.openai.dialect import Dialect
    from sts_trio.providers.openai.opening import SessionSetup
    from sts_trio.providers.openai.protocol import RealtimeProtocol
    from sts_trio.providers.reading import Reader
    from sts_trio.providers.socket import ProviderSocket

log = structlog.get_logger(__name__)

# A turn ends when the service hears silence, so a caller's side that stops sending in mid-turn would never be answered.
# After this gap we send silence ourselves, until the turn is over, or for so long (semantic detection waits up to 8 s).
_GAP_SECONDS = 0.5
_MOST_SILENCE_SECONDS = 10.0
# Some services say nothing of a session before they are told what it is to be like (docs/protocols/realtime.md 7.5).
_UNANNOUNCED_SECONDS = 1.0
_MOST_EARLY = 16  # odd messages before the session is ready, kept to be counted
_SILENCE_BYTES = int(_GAP_SECONDS / FRAME_SECONDS) * FRAME_BYTES


class RealtimeLink:
    """An open session; see `providers.base.AgentLink`. `hide` takes secrets out of what the service may repeat."""

    def __init__(
        self,
        socket: ProviderSocket,
        reader: Reader[wire.FromService],
        dialect: Dialect,
        codec: Codec,
        protocol: RealtimeProtocol,
        hide: Callable[[str], str],
    ) -> None:
        self._socket = socket
        self._read = reader.read
        self._dialect = dialect
        self._encode = codec.encode
        self._protocol = protocol
        self._hide = hide
        self._began = False
        self._waiting = trio.CancelScope()  # for a message; until then, what else is sent may set a deadline
        self._gate: BargeInGate | None = None
        self._news: deque[AgentNews] = deque()
        self._used: Counter[tuple[str, str]] = Counter()
        self._words_failed = False
        self._audio_at = inf  # when caller audio was sent last
        self._silence_until = -inf

    @property
    def tokens(self) -> dict[str, int]:
        """What the session's responses have cost, as fields of a log line: tokens in and out, in all and by kind."""
        sums = {f"tokens_{way}": sum(n for (to, _), n in self._used.items() if to == way) for way in ("in", "out")}
        return sums | {f"tokens_{way}_{kind}": count for (way, kind), count in sorted(self._used.items())}

    def shut(self, gate: BargeInGate) -> None:
        """Let the caller's audio through as `gate` says."""
        self._gate = gate

    @property
    def ping_overdue(self) -> bool:
        """See `AgentLink.ping_overdue`."""
        return self._socket.ping_overdue

    async def wait_ready(self, setup: SessionSetup) -> None:
        """Bring the session's settings into force; `receive` then begins with its `AgentReady`.

        Raises:
            ProviderError: the service reported an error, or closed, instead.
        """
        ready = None
        early: deque[OddMessage] = deque(maxlen=_MOST_EARLY)
        unannounced_at = trio.current_time() + _UNANNOUNCED_SECONDS
        while ready is None:
            message = None
            with trio.CancelScope(deadline=unannounced_at) as waiting:
                message = await self._next()
            if waiting.cancelled_caught:
                unannounced_at = inf
                setup.begin()
            if isinstance(message, OddMessage):
                early.append(message)
            elif message is not None:
                ready = setup.take(message, time())
            with suppress(ProviderLost):  # the next message tells why
                while setup.out:
                    await self._send(setup.out.popleft())
        self._began = True
        self._protocol.events += (ready, *early)
        self._protocol.take_over(trio.current_time())
        with suppress(ProviderLost):
            await self._flush()

    # Receiving.

    async def receive(self) -> AgentEvent | AgentNews:
        """See `AgentLink.receive`."""
        events = self._protocol.events
        while not events and not self._news:
            message = None
            with trio.CancelScope(deadline=self._wake_at()) as self._waiting:
                message = await self._next()
            now = trio.current_time()
            if isinstance(message, SessionEnd):
                self._protocol.lost()
                events.append(message)
                break
            if isinstance(message, OddMessage):
                return message
            if message is not None:
                self._take(message, now)
            self._protocol.expire(now)
            with suppress(ProviderLost):  # the socket's own end is still to be read
                await self._open_gate(now)
                await self._fill_gap(now)
                await self._flush()
        if self._news:
            return self._news.popleft()
        event = events.popleft()
        if self._gate is not None:
            self._gate.agent(event, trio.current_time())
        return event

    async def _next(self) -> wire.FromService | OddMessage | SessionEnd | None:
        """Wait for the next message; None for one that we do not know."""
        message = await self._socket.receive()
        if isinstance(message, SocketEnd):
            return closed(message.code, self._hide(message.reason), self._dialect, began=self._began)
        read = self._read(message, trio.current_time())
        if isinstance(read, wire.ServiceError):
            cause = read.cause
            shown = {name: getattr(cause, name) for name in ("type", "code", "message", "param")}
            hidden = {name: self._hide(str(value)) for name, value in shown.items() if value is not None}
            return wire.ServiceError({**hidden, "event_id": cause.event_id})
        return read

    def _take(self, message: wire.FromService, now: float) -> None:
        spoke = self._protocol.caller_speaks
        self._protocol.take(message, now)
        match message:
            case wire.ResponseDone(response=response) if used := response.used:
                self._used.update(used)
                self._news.append(TokensUsed(used))
            case wire.RateLimits(told=told):
                self._news += [RateLimit(*limit) for limit in told]
            case wire.NoCallerWords(cause=cause) if not self._words_failed:
                self._words_failed = True
                log.warning("the caller's words could not be written down", cause=self._hide(describe(cause)))
        if self._protocol.caller_speaks and not spoke:
            self._silence_until = now + _MOST_SILENCE_SECONDS

    def _wake_at(self) -> float:
        gap = self._audio_at + _GAP_SECONDS if self._protocol.caller_speaks else inf
        gate = self._gate.deadline if self._gate is not None else inf
        return min(self._protocol.deadline, gap, gate)

    async def _open_gate(self, now: float) -> None:
        """Tell what was held back of the caller, when the next frame of theirs may be far."""
        if self._gate is not None and now >= self._gate.deadline:
            held = self._gate.release(now)
            if data := self._encode(held, 2):
                await self._socket.send(TEXT, wire.encode_to_service(wire.Append(data)))

    async def _fill_gap(self, now: float) -> None:
        if not self._protocol.caller_speaks or now < self._audio_at + _GAP_SECONDS:
            return
        if now >= self._silence_until:
            self._audio_at = inf  # until the caller's next frame
            return
        await self.send_audio(bytes(_SILENCE_BYTES))

    # Sending.

    async def send_audio(self, pcm: bytes) -> bool:
        """Send caller audio; there is no binary form of it (docs/protocols/realtime.md 1). May pass no checkpoint."""
        self._audio_at = trio.current_time()
        if self._gate is not None:
            pcm = self._gate.feed(pcm, self._audio_at, in_turn=self._protocol.caller_speaks)
        if data := self._encode(pcm, 2):
            return await self._socket.send(TEXT, wire.encode_to_service(wire.Append(data)))
        return self._socket.ping_overdue

    async def say(self, text: str) -> None:
        """Have the agent speak `text`."""
        if self._gate is not None:
            self._gate.greeting_asked(trio.current_time())
        self._protocol.say(text, trio.current_time())
        await self._flush()

    async def user_text(self, text: str) -> None:
        """Have the agent answer `text`, as if the caller had said it."""
        self._protocol.user_text(text, trio.current_time())
        await self._flush()

    async def add_context(self, text: str) -> None:
        """Let the agent know `text`; it stays in the conversation."""
        self._protocol.add_context(text)
        await self._flush()

    async def go_on(self, words: str, *, cut_off: bool) -> None:  # noqa: ARG002 - the session knows them from its history
        """See `AgentLink.go_on`."""
        self._protocol.go_on(trio.current_time(), cut_off=cut_off)
        await self._flush()

    async def stop(self) -> None:
        """Cancel the response under way."""
        if self._gate is not None:
            self._gate.stopped()
        self._protocol.stop(trio.current_time())
        await self._flush()

    async def truncate(self, unheard: float) -> None:
        """Have the service forget what of its voice the caller did not hear."""
        self._protocol.truncate(unheard)
        await self._flush()

    async def tool_response(self, call_id: str, content: str) -> None:
        """Answer a tool call with its result."""
        self._protocol.answer(call_id, content, trio.current_time(), failed=False)
        await self._flush()

    async def tool_error(self, call_id: str, message: str) -> None:
        """Answer a tool call that could not be carried out."""
        self._protocol.answer(call_id, message, trio.current_time(), failed=True)
        await self._flush()

    async def _flush(self) -> None:
        """Send what the protocol has for the service."""
        out = self._protocol.out
        while out:
            await self._send(out.popleft())
        self._waiting.deadline = self._wake_at()

    async def _send(self, message: wire.ToService) -> None:
        await self._socket.send(TEXT, wire.encode_to_service(message))
