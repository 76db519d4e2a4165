"""A session of the Realtime protocol, behind the seam of `providers.events`: opening, receiving, sending."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, TypeVar

import structlog
import trio

from sts_trio.audio.pcm import FRAME_BYTES, FRAME_SECONDS
from sts_trio.errors import ProviderError, ProviderLost, ProviderTimeout
from sts_trio.providers.dial import without_key
from sts_trio.providers.openai import wire
from sts_trio.providers.openai.beginning import SessionSetup
from sts_trio.providers.openai.codec import open_codec
from sts_trio.providers.openai.hearing import Hearing
from sts_trio.providers.openai.history import History
from sts_trio.providers.openai.meaning import closed, hints
from sts_trio.providers.openai.opening import credentials, session, target
from sts_trio.providers.openai.protocol import RealtimeProtocol
from sts_trio.providers.socket import SocketEnd, SocketTimes, open_socket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from sts_trio.providers.base import AgentEvent, AgentReady, CallInfo
    from sts_trio.providers.dial import Dial, Endpoint
    from sts_trio.providers.openai.codec import Codec
    from sts_trio.providers.openai.dialect import Dialect
    from sts_trio.providers.openai.opening import Options
    from sts_trio.providers.socket import ProviderSocket

log = structlog.get_logger(__name__)

Opened = TypeVar("Opened", bound=wire.FromService)

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
        return self._open(call, call.resume if isinstance(call.resume, History) else History())

    @asynccontextmanager
    async def _open(self, call: CallInfo, history: History) -> AsyncIterator[RealtimeLink]:
        """Open a session. One that is refused though it may be only for the conversation it asks for is asked for anew.

        How a service says that it has forgotten a conversation is not documented; without it, a wrong key is still one.
        """
        asked = history.conversation
        while True:
            try:
                async with self._session(call, history) as link:
                    asked = None  # what fails from here on is no refusal
                    yield link
                return
            except ProviderError as exc:
                if asked is None or exc.retryable:
                    raise
                log.info("the conversation is not taken up; it is told anew", cause=str(exc))
            asked = history.conversation = None

    @asynccontextmanager
    async def _session(self, call: CallInfo, history: History) -> AsyncIterator[RealtimeLink]:
        dialect = self.options.dialect
        codec = open_codec(self.options.format, self.options.rate)
        ready_by = trio.current_time() + self.times.open
        async with open_socket(
            self.endpoint,
            path=target(self.endpoint, self.options, history.conversation),
            headers=credentials(self.endpoint, self.api_key),
            dial=self.dial,
            times=self.times,
            hints=hints(dialect),
            hide=self._without_key,
        ) as socket:
            hearing = Hearing(socket, dialect.name, self._without_key)
            link = RealtimeLink(socket, hearing, dialect, codec, history)
            beginning = SessionSetup(dialect, history, hearing, link.send)
            try:
                with trio.move_on_at(ready_by) as waiting:
                    link.begin(await beginning.run(session(self.options, codec, call.session_config), codec))
                if waiting.cancelled_caught:
                    text = f"{self.endpoint} took the connection but sent no session.updated within"
                    raise ProviderTimeout(beginning.complaint(f"{text} {self.times.open:g} s"))
            except ProviderError:
                history.conversation = None  # perhaps it is that which it cannot take up
                raise
            try:
                yield link
            finally:
                used = link.tokens
                log.info("agent session over", tokens_in=used[0], tokens_out=used[1])

    def _without_key(self, text: str) -> str:
        return without_key(text, self.api_key)


class RealtimeLink:
    """An open session; see `providers.events.AgentLink`."""

    def __init__(
        self, socket: ProviderSocket, hearing: Hearing, dialect: Dialect, codec: Codec, history: History
    ) -> None:
        self._socket = socket
        self._dialect = dialect
        self._hearing = hearing
        self._codec = codec
        self._dialogue = RealtimeProtocol(dialect, codec, history)
        self._reading = trio.CancelScope()  # who waits for the next message does so in here
        self._audio_at = inf  # when caller audio was sent last
        self._silence_until = -inf

    @property
    def tokens(self) -> tuple[int, int]:
        """What the session's responses have cost: tokens in and out."""
        return self._dialogue.tokens

    @property
    def ping_overdue(self) -> bool:
        """See `AgentLink.ping_overdue`."""
        return self._socket.ping_overdue

    def begin(self, ready: AgentReady) -> None:
        """The session is ready; this is its first event."""
        self._dialogue.events.append(ready)

    # Receiving.

    async def receive(self) -> AgentEvent:
        """See `AgentLink.receive`."""
        events = self._dialogue.events
        while not events:
            heard = None
            with trio.CancelScope(deadline=self._wake_at()) as self._reading:
                heard = await self._hearing.receive()
            now = trio.current_time()
            if isinstance(heard, SocketEnd):
                return closed(heard.code, heard.reason, self._dialect)
            if heard is not None:
                self._take(heard, now)
            self._dialogue.expire(now)
            with suppress(ProviderLost):  # the socket's own end is still to be read
                await self._fill_gap(now)
                await self._flush()
        return events.popleft()

    def _take(self, heard: wire.FromService, now: float) -> None:
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
        """Send caller audio; there is no binary form of it (docs/protocols/realtime.md 1)."""
        self._audio_at = trio.current_time()
        if data := self._codec.encode(pcm):
            await self.send(wire.Append(data))

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

    async def truncate(self, unheard: float) -> None:
        """Have the service forget what of its voice the caller did not hear."""
        self._dialogue.truncate(unheard)
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
            await self.send(out.popleft())

    async def send(self, message: wire.ToService) -> None:
        """Send a message."""
        await self._socket.send(wire.encode_to_service(message))
