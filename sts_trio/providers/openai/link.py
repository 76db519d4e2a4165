"""A session of the Realtime protocol, behind the seam of `providers.base`: opening, receiving, sending."""

from __future__ import annotations

from collections import Counter, deque
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from math import inf
from time import time
from typing import TYPE_CHECKING

import structlog
import trio

from sts_trio.audio.pcm import FRAME_BYTES, FRAME_SECONDS
from sts_trio.errors import ProviderError, ProviderLost, ProviderTimeout
from sts_trio.providers.base import OddMessage, RateLimit, SessionEnd, TokensUsed
from sts_trio.providers.dial import hiding
from sts_trio.providers.openai import wire
from sts_trio.providers.openai.audio import open_codec
from sts_trio.providers.openai.barge_in import BargeInGate
from sts_trio.providers.openai.dialect import closed, describe
from sts_trio.providers.openai.gateway import Access, advise, beta_advice, credentials, target
from sts_trio.providers.openai.history import History
from sts_trio.providers.openai.opening import SessionSetup, Transcriber, safety_identifier
from sts_trio.providers.openai.protocol import RealtimeProtocol
from sts_trio.providers.openai.token_file import new_readers, read_token
from sts_trio.providers.reading import Reader
from sts_trio.providers.socket import SocketEnd, SocketTimes, open_socket
from sts_trio.websocket.frames import TEXT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from sts_trio.providers.base import AgentEvent, AgentNews, CallInfo
    from sts_trio.providers.dial import Dial, Endpoint
    from sts_trio.providers.openai.audio import Codec
    from sts_trio.providers.openai.dialect import Dialect
    from sts_trio.providers.openai.session import Options
    from sts_trio.providers.socket import ProviderSocket

log = structlog.get_logger(__name__)

# A turn ends when the service hears silence, so a caller's side that stops sending in mid-turn would never be answered.
# After this gap we send silence ourselves, until the turn is over, or for so long (semantic detection waits up to 8 s).
_GAP_SECONDS = 0.5
_MOST_SILENCE_SECONDS = 10.0
_NUMBER = "from"  # the caller's number among the parameters of Core's URL (docs/protocols/core.md 6.1)
_MOST_EARLY = 16  # odd messages before the session is ready, kept to be counted
_SILENCE_BYTES = int(_GAP_SECONDS / FRAME_SECONDS) * FRAME_BYTES


@dataclass(frozen=True, slots=True)
class RealtimeProvider:
    """How to open sessions: an `OpenAgent`. Key, token and headers stay out of URLs, logs, errors and `repr`.

    `safety_key`: what callers' numbers are hashed with for the service.
    """

    endpoint: Endpoint
    api_key: str = field(repr=False)
    dial: Dial = field(repr=False)
    options: Options
    times: SocketTimes = field(default_factory=SocketTimes)
    access: Access = field(default_factory=Access)
    safety_key: str | None = field(default=None, repr=False, kw_only=True)
    transcriber: Transcriber = field(default_factory=Transcriber, init=False, repr=False)
    _readers: trio.CapacityLimiter = field(default_factory=new_readers, init=False, repr=False)

    def __post_init__(self) -> None:
        """Be ready to take secrets out of a text: the first error must not hold up other calls."""
        hiding(self.api_key, *self.access.headers.values())("")

    def __call__(self, call: CallInfo) -> AbstractAsyncContextManager[RealtimeLink]:
        """Open a session for `call`, ready for audio within `times.open`; leaving the context closes it.

        Raises (on entry):
            ProviderError: refused, not ready in time, lost, or not speaking the protocol.
        """
        return self._open(call, call.resume if isinstance(call.resume, History) else History())

    @asynccontextmanager
    async def _open(self, call: CallInfo, history: History) -> AsyncIterator[RealtimeLink]:
        """Open a session; if it is refused and had asked for a conversation, try once more without that.

        How a service says that it has forgotten a conversation is not documented. If it was a wrong key that was
        refused, it is refused again.
        """
        asked = history.conversation
        while True:
            try:
                async with self._session(call, history) as link:
                    asked = None  # it was opened: what fails from here on is no refusal
                    yield link
                return
            except ProviderError as exc:
                if asked is None or exc.retryable:
                    raise
                log.info("the conversation is not taken up; it is told anew", cause=str(exc))
            asked = history.conversation = None

    @asynccontextmanager
    async def _session(self, call: CallInfo, history: History) -> AsyncIterator[RealtimeLink]:
        options, number = self.options, history.begin_session()
        codec = open_codec(options.format, options.rate)
        transcribes = self.transcriber.wanted(trio.current_time())
        setup = SessionSetup(options, codec, history, call.session_config, resumed=number > 1, transcribes=transcribes)
        protocol = RealtimeProtocol(
            options.dialect,
            codec,
            history,
            number,
            self.times.answer,
            interrupts=options.turns.interrupts,
            answers=options.turns.answers,
        )
        ready_by = trio.current_time() + self.times.open
        token = await self._token(ready_by)
        hide = hiding(self.api_key, token, *self.access.headers.values())
        async with open_socket(
            self.endpoint,
            path=target(self.endpoint, options, history.conversation),
            headers={
                **credentials(self.endpoint, self.api_key, self.access, token),
                **safety_identifier(self.safety_key, call.query.get(_NUMBER, "")),
            },
            dial=self.dial,
            times=self.times,
            advise=lambda refusal: advise(refusal, self.endpoint, options, self.api_key, self.access),
            fits=wire.LANGUAGE.fits,
            hide=hide,
        ) as socket:
            reader = Reader(wire.LANGUAGE, options.dialect.name, self.times.garbage)
            link = RealtimeLink(socket, reader, options.dialect, codec, protocol, hide)
            try:
                with trio.move_on_at(ready_by) as waiting:
                    await link.wait_ready(setup)
                if waiting.cancelled_caught:
                    text = f"{self.endpoint} took the connection but sent no session.updated within"
                    raise ProviderTimeout(setup.complaint(f"{text} {self.times.open:g} s"))
            except ProviderError as exc:
                history.conversation = None  # it may be the conversation that cannot be resumed
                if not (advice := beta_advice(self.endpoint, options.dialect)):
                    raise
                raise type(exc)(f"{exc}; {advice}") from exc
            finally:
                self._note(setup)
            if options.barge_in or not options.greeting_stops:
                protected = not options.greeting_stops and not history.began
                link.shut(BargeInGate(options.barge_in, trio.current_time(), protected=protected))
            try:
                yield link
            finally:
                log.info("agent session over", **link.tokens)

    def _note(self, setup: SessionSetup) -> None:
        """Log what a session lacks that has begun all the same."""
        prefix = self.options.dialect.prefix
        if setup.refused:
            self.transcriber.refused(trio.current_time())
            log.warning(
                "the caller's words are not written down: the service refused the model for that",
                cause=setup.refused,
                setting=f"{prefix}_TRANSCRIPTION_MODEL",
            )
        if setup.unknown:
            log.warning(
                "the session that takes over does not know all that the caller said: it was not written down",
                turns=setup.unknown,
                setting=f"{prefix}_TRANSCRIPTION_MODEL",
            )

    async def _token(self, until: float) -> str | None:
        file = self.access.token_file
        if file is None:
            return None
        return await read_token(file, f"{self.options.dialect.prefix}_TOKEN_FILE", until, time(), self._readers)


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
        while ready is None:
            message = await self._next()
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
