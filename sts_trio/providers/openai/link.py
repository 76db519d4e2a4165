"""A session of the Realtime protocol, behind the seam of `providers.events`: opening, receiving, sending."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

import structlog
import trio

from sts_trio.audio.pcm import FRAME_BYTES, FRAME_SECONDS
from sts_trio.errors import ConversationGone, ProviderLost, ProviderRefused, ProviderTimeout
from sts_trio.providers.dial import without_key
from sts_trio.providers.events import AgentReady
from sts_trio.providers.openai import wire
from sts_trio.providers.openai.codec import open_codec
from sts_trio.providers.openai.dialogue import Dialogue
from sts_trio.providers.openai.meaning import closed, describe, fault, hints
from sts_trio.providers.openai.memory import Memory
from sts_trio.providers.openai.opening import SETTINGS, credentials, session, target
from sts_trio.providers.socket import SocketEnd, SocketTimes, open_socket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from sts_trio.providers.dial import Dial, Endpoint
    from sts_trio.providers.events import AgentEvent, CallInfo
    from sts_trio.providers.openai.codec import Codec
    from sts_trio.providers.openai.dialect import Dialect
    from sts_trio.providers.openai.opening import Options
    from sts_trio.providers.socket import ProviderSocket

log = structlog.get_logger(__name__)

# A turn ends when the service hears silence, so a source that stops sending in mid-turn would never be answered: after
# this gap we send the silence ourselves, until the turn is over, or for so long (semantic detection waits up to 8 s).
_GAP_SECONDS = 0.5
_MOST_SILENCE_SECONDS = 10.0
_SILENCE_BYTES = int(_GAP_SECONDS / FRAME_SECONDS) * FRAME_BYTES


@dataclass(frozen=True, slots=True)
class RealtimeProvider:
    """How to open sessions: an `OpenAgent`. `api_key` stays out of URLs, logs, errors and `repr`."""

    endpoint: Endpoint
    api_key: str = field(repr=False)
    dial: Dial = field(repr=False)
    options: Options
    times: SocketTimes = field(default_factory=SocketTimes)

    def __call__(self, call: CallInfo) -> AbstractAsyncContextManager[RealtimeLink]:
        """Open a session for `call`, ready for audio within `times.open`; leaving the context closes it.

        Raises (on entry):
            ProviderError: refused, not ready in time, lost, or not speaking the protocol.
        """
        return self._open(call, call.resume if isinstance(call.resume, Memory) else None)

    @asynccontextmanager
    async def _open(self, call: CallInfo, before: Memory | None) -> AsyncIterator[RealtimeLink]:
        dialect, memory = self.options.dialect, before or Memory()
        codec = open_codec(self.options.format, self.options.rate)
        ready_by = trio.current_time() + self.times.open
        async with open_socket(
            self.endpoint,
            path=target(self.endpoint, self.options, memory.conversation),
            headers=credentials(self.endpoint, self.api_key),
            dial=self.dial,
            times=self.times,
            hints=hints(dialect),
            hide=self._without_key,
        ) as socket:
            link = RealtimeLink(socket, dialect, codec, memory, self._without_key)
            with trio.move_on_at(ready_by) as waiting:
                await link.open(session(self.options, codec, call.brief), resumed=before is not None)
            if waiting.cancelled_caught:
                raise ProviderTimeout(
                    f"{self.endpoint} took the connection but sent no session.updated within {self.times.open:g} s"
                )
            try:
                yield link
            finally:
                used = link.tokens
                log.info("agent session over", call=call.id, tokens_in=used[0], tokens_out=used[1])

    def _without_key(self, text: str) -> str:
        return without_key(text, self.api_key)


class RealtimeLink:
    """An open session; see `providers.events.AgentLink`."""

    def __init__(
        self, socket: ProviderSocket, dialect: Dialect, codec: Codec, memory: Memory, hide: Callable[[str], str]
    ) -> None:
        self._socket = socket
        self._dialect = dialect
        self._codec = codec
        self._memory = memory
        self._hide = hide
        self._parse = wire.reader(dialect.name).parse
        self._dialogue = Dialogue(dialect, codec, memory)
        self._reading = trio.CancelScope()  # who waits for the next message does so in here
        self._audio_at = inf  # when caller audio was sent last
        self._silence_until = -inf

    @property
    def tokens(self) -> tuple[int, int]:
        """What the session's responses have cost: tokens in and out."""
        return self._dialogue.tokens

    @property
    def doubtful(self) -> bool:
        """See `AgentLink.doubtful`."""
        return self._socket.doubtful

    # Opening.

    async def open(self, settings: dict[str, object], *, resumed: bool) -> None:
        """Bring the session's settings into force, and tell it what has been said before.

        Raises:
            ProviderError: the service reported an error, or closed, instead.
        """
        id_ = ""
        while True:
            match await self._next_of_opening():
                case wire.SessionCreated(session=created):
                    id_ = created.id or ""
                    with suppress(ProviderLost):  # what follows will tell why
                        await self._send(wire.SessionUpdate(SETTINGS, settings))
                case wire.ConversationCreated(conversation=conversation) if self._dialect.resumes:
                    self._memory.conversation = conversation.id
                case wire.SessionUpdated():
                    break
                case _:
                    pass
        if resumed and not self._dialect.resumes:
            with suppress(ProviderLost):
                for item in self._memory.items():
                    await self._send(wire.ItemCreate("seed", item))
        self._dialogue.events.append(AgentReady(id_, self._memory))

    async def _next_of_opening(self) -> wire.FromService | None:
        message = await self._socket.receive()
        if isinstance(message, SocketEnd):
            end = closed(message.code, self._hide(message.reason), self._dialect)
            text = f"{end.message} before the session began"
            raise ProviderLost(text) if end.retryable else ProviderRefused(text)
        heard = self._read(message)
        if isinstance(heard, wire.ServiceError):
            self._refused(heard.cause)
        return heard

    def _refused(self, cause: wire.Cause) -> None:
        """Raise what an error before the session was ready comes to; an error about nothing of ours is none."""
        told = fault(cause, self._dialect)
        if self._memory.conversation is not None and "conversation" in describe(cause):
            raise ConversationGone(f"{self._dialect.name} reports an error: {describe(cause)}")
        if told is not None and told.ends_session:
            raise ProviderLost(told.message) if told.retryable else ProviderRefused(told.message)
        if told is not None and cause.event_id == SETTINGS:
            raise ProviderRefused(
                f"{self._dialect.name} did not take the session's settings: {describe(cause)}; "
                f"check the {self._dialect.prefix}_ settings"
            )

    def _read(self, message: str | bytes) -> wire.FromService | None:
        heard = self._parse(message)
        if isinstance(heard, wire.ServiceError):
            cause = heard.cause
            shown = {name: getattr(cause, name) for name in ("type", "code", "message", "param")}
            hidden = {name: self._hide(str(value)) for name, value in shown.items() if value is not None}
            return wire.ServiceError({**hidden, "event_id": cause.event_id})
        return heard

    # Receiving.

    async def receive(self) -> AgentEvent:
        """See `AgentLink.receive`; the first event is the `AgentReady` of `open`."""
        events = self._dialogue.events
        while not events:
            message = None
            with trio.CancelScope(deadline=self._wake_at()) as self._reading:
                message = await self._socket.receive()
            now = trio.current_time()
            if isinstance(message, SocketEnd):
                return closed(message.code, self._hide(message.reason), self._dialect)
            if message is not None:
                self._take(message, now)
            self._dialogue.expire(now)
            with suppress(ProviderLost):  # the socket's own end is still to be read
                await self._fill_gap(now)
                await self._flush()
        return events.popleft()

    def _take(self, message: str | bytes, now: float) -> None:
        heard = self._read(message)
        if heard is None:
            return
        spoke = self._dialogue.caller_speaks
        self._dialogue.take(heard, now)
        if self._dialogue.caller_speaks and not spoke:
            self._silence_until = now + _MOST_SILENCE_SECONDS

    def _wake_at(self) -> float:
        gap = self._audio_at + _GAP_SECONDS if self._dialogue.caller_speaks else inf
        return min(self._dialogue.deadline, gap)

    async def _fill_gap(self, now: float) -> None:
        if not self._dialogue.caller_speaks or now < self._audio_at + _GAP_SECONDS:
            return
        if now >= self._silence_until:
            self._audio_at = inf  # until the caller's next frame
            return
        await self.send_audio(bytes(_SILENCE_BYTES))

    # Sending.

    async def send_audio(self, pcm: bytes) -> None:
        """Send caller audio; there is no binary form of it (openai-realtime.md 1)."""
        self._audio_at = trio.current_time()
        if data := self._codec.encode(pcm):
            await self._send(wire.Append(data))

    async def say(self, text: str) -> None:
        """Have the agent speak `text`."""
        self._dialogue.say(text)
        await self._flush()

    async def user_text(self, text: str) -> None:
        """Have the agent answer `text`, as if the caller had said it."""
        self._dialogue.user_text(text)
        await self._flush()

    async def add_context(self, text: str) -> None:
        """Let the agent know `text`; it stays in the conversation."""
        self._dialogue.add_context(text)
        await self._flush()

    async def cut_off(self, unheard: float) -> None:
        """Have the service forget what of its voice the caller did not hear."""
        self._dialogue.cut_off(unheard)
        await self._flush()

    async def tool_response(self, call_id: str, content: str) -> None:
        """Answer a tool call with its result."""
        self._dialogue.answer(call_id, content, failed=False)
        await self._flush()

    async def tool_error(self, call_id: str, message: str) -> None:
        """Answer a tool call that could not be carried out."""
        self._dialogue.answer(call_id, message, failed=True)
        await self._flush()

    async def _flush(self) -> None:
        """Send what the dialogue has for the service, and wake who waits for what it has for the call."""
        if self._dialogue.events:
            self._reading.deadline = -inf
        out = self._dialogue.out
        while out:
            await self._send(out.popleft())

    async def _send(self, message: wire.ToService) -> None:
        await self._socket.send(wire.encode_to_service(message))
