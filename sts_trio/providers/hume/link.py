"""A chat with Hume EVI, behind the seam of `providers.base`."""

from __future__ import annotations

from collections import deque
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from math import inf
from typing import TYPE_CHECKING

import structlog
import trio

from sts_trio.errors import ProviderLost, ProviderTimeout
from sts_trio.providers.advice import common_advice
from sts_trio.providers.base import (
    AgentAudio,
    AgentFault,
    AgentReady,
    OddMessage,
    SessionEnd,
    SessionEndKind,
    ToolCall,
    UserTurn,
    never_ready,
)
from sts_trio.providers.dial import hiding
from sts_trio.providers.hume import wire
from sts_trio.providers.hume.opening import Opening, chat_request, plan_opening
from sts_trio.providers.hume.wire import closed, to_event
from sts_trio.providers.reading import Reader, shown
from sts_trio.providers.socket import SocketEnd, SocketTimes, open_socket
from sts_trio.websocket.frames import BINARY, TEXT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from sts_trio.audio.pcm import Wav
    from sts_trio.providers.advice import Refusal
    from sts_trio.providers.base import AgentEvent, CallInfo
    from sts_trio.providers.dial import Dial, Endpoint
    from sts_trio.providers.socket import ProviderSocket


log = structlog.get_logger(__name__)

_MOST_WARNINGS = 5  # log lines a chat; their texts may quote the caller, so they are left out
_LONGEST_ID = 64
_MOST_EARLY = 16  # odd messages before the chat has begun, kept to be counted
_MOST_UNSPOKEN = 16  # texts that await their echo, and tool calls that are still to be answered
_NO_SOUND = memoryview(b"")
_LATE_SECONDS = 1.0  # after a pause: what EVI had said before it heard of that is here by then
_GO_ON = "(The connection was interrupted. Go on with what you were saying; do not mention this.)"
_RESULT = "(The function that you had asked for before the connection was interrupted says: {})"

_HINTS = {
    400: "check HUMEAI_CONFIG_ID, HUMEAI_VOICE_ID and HUMEAI_WS_URL",
    401: "check HUMEAI_API_KEY",
    403: "check HUMEAI_API_KEY",
    404: "check HUMEAI_WS_URL; its path is /v0/evi/chat at Hume",
    410: "Hume announced the end of its public EVI API; point HUMEAI_WS_URL at a service that speaks its protocol",
}


def advise(refusal: Refusal, endpoint: Endpoint) -> str:
    """Say which setting to look at after a refusal; see `advice.Advise`."""
    return common_advice(refusal, endpoint, endpoint.path.partition("?")[0], "HUMEAI_WS_URL") or _HINTS.get(
        refusal.status or 0, ""
    )


@dataclass(frozen=True, slots=True)
class HumeProvider:
    """How to open chats: an `OpenAgent`. Key and headers stay out of URLs, logs, errors and `repr`.

    `config_id`, `voice_id` and `instructions` are for calls that bring none of their own (`opening.chat_request`).
    """

    endpoint: Endpoint
    api_key: str = field(repr=False)
    dial: Dial = field(repr=False)
    config_id: str | None = None
    voice_id: str | None = None
    instructions: str | None = field(default=None, repr=False)
    times: SocketTimes = field(default_factory=SocketTimes)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Be ready to take secrets out of a text: the first error must not hold up other calls."""
        hiding(self.api_key, *self.headers.values())("")

    def __call__(self, call: CallInfo) -> AbstractAsyncContextManager[HumeLink]:
        """Open a chat for `call`, ready for audio within `times.open`; leaving the context closes it.

        Raises (on entry):
            ProviderError: refused, not ready in time, lost, or not speaking EVI's protocol.
        """
        request = chat_request(call, config_id=self.config_id, voice_id=self.voice_id, instructions=self.instructions)
        return self._open(plan_opening(request, self.endpoint.path))

    @asynccontextmanager
    async def _open(self, opening: Opening) -> AsyncIterator[HumeLink]:
        ready_by = trio.current_time() + self.times.open
        hide = hiding(self.api_key, *self.headers.values())
        async with open_socket(
            self.endpoint,
            path=opening.target,
            headers={**self.headers, "X-Hume-Api-Key": self.api_key},
            dial=self.dial,
            times=self.times,
            advise=lambda refusal: advise(refusal, self.endpoint),
            fits=wire.LANGUAGE.fits,
            hide=hide,
        ) as socket:
            link = HumeLink(socket, Reader(wire.LANGUAGE, "Hume", self.times.garbage), hide)
            with trio.move_on_at(ready_by) as waiting:
                await link.wait_ready(opening.late)
            if waiting.cancelled_caught:
                raise ProviderTimeout(
                    f"{self.endpoint} took the connection but sent no chat_metadata within {self.times.open:g} s"
                )
            yield link


class HumeLink:
    """An open chat; see `providers.base.AgentLink`."""

    def __init__(self, socket: ProviderSocket, reader: Reader[wire.HumeMessage], hide: Callable[[str], str]) -> None:
        self._socket = socket
        self._read = reader.read
        self._hide = hide
        self._is_ready = False
        self._early: deque[AgentEvent] = deque(maxlen=_MOST_EARLY)  # what `wait_ready` saw
        self._wav: Wav | None = None  # the format of the voice, good for samples without a header
        self._warnings_logged = 0
        self._paused = False
        self._late_until = -inf  # what the agent says is from before the pause, until the text behind it is echoed
        self._asked: deque[str] = deque(maxlen=_MOST_UNSPOKEN)  # tool calls of this chat
        self._unspoken: deque[str] = deque(maxlen=_MOST_UNSPOKEN)  # told for the caller, who did not say it

    @property
    def ping_overdue(self) -> bool:
        """See `AgentLink.ping_overdue`."""
        return self._socket.ping_overdue

    async def wait_ready(self, late: wire.SessionSettings | None) -> None:
        """Wait for `chat_metadata`, then send the `late` settings: those that the URL could not hold.

        Raises:
            ProviderError: Hume reported an error, or closed, instead.
        """
        reported = ""
        while True:
            match await self._next():
                case AgentReady() as ready:
                    break
                case AgentFault(message=reported, ends=SessionEndKind() as kind):
                    raise never_ready(SessionEnd(reported, kind))
                case AgentFault(message=reported):
                    pass
                case SessionEnd(cause=cause, kind=kind):
                    raise never_ready(SessionEnd(reported or f"{cause} before the chat began", kind))
                case OddMessage() as odd:
                    self._early.append(odd)
                case _:
                    pass
        if late is not None:
            with suppress(ProviderLost):  # `receive` will tell why
                await self._send(late)
        self._is_ready = True
        self._early.appendleft(ready)

    async def receive(self) -> AgentEvent:
        """See `AgentLink.receive`; the first event is the `AgentReady` that `wait_ready` saw."""
        return self._early.popleft() if self._early else await self._next()

    async def _next(self) -> AgentEvent:
        while True:
            message = await self._socket.receive()
            if isinstance(message, SocketEnd):
                return closed(message.code, self._hide(message.reason))
            heard = self._read(message, trio.current_time())
            if isinstance(heard, OddMessage | SessionEnd):
                return heard
            if isinstance(heard, wire.HumeError):
                heard = wire.HumeError(
                    *(self._hide(str(part or "")) for part in (heard.code, heard.slug, heard.message))
                )
            event = to_event(heard, self._wav) if heard is not None else None
            if isinstance(event, AgentAudio) and (self._wav is None or self._wav.rate != event.wav.rate):
                self._wav = replace(event.wav, pcm=_NO_SOUND)
            if isinstance(event, ToolCall):
                self._asked.append(event.id)
            elif isinstance(event, UserTurn) and event.text in self._unspoken:
                self._unspoken.remove(event.text)
                continue
            if self._late_until > -inf and self._is_late(heard, trio.current_time()):
                continue
            if event is not None and not (self._is_ready and isinstance(event, AgentReady)):  # it may be said again
                return event
            self._warn_of(heard)

    def _is_late(self, heard: wire.HumeMessage | None, now: float) -> bool:
        """Whether this is more of what a key has stopped: EVI gives each segment an id of its own."""
        if now >= self._late_until or (isinstance(heard, wire.UserMessage) and heard.from_text is True):
            self._late_until = -inf
            return False
        return isinstance(heard, wire.AudioOutput | wire.AssistantMessage | wire.AssistantEnd)

    def _warn_of(self, heard: wire.HumeMessage | None) -> None:
        """Log a warning that changes nothing in the call, at most `_MOST_WARNINGS` times a chat."""
        if self._warnings_logged >= _MOST_WARNINGS:
            return
        match heard:
            case wire.HumeError(code=code, slug=slug):
                log.warning("Hume warns", code=shown(code), slug=shown(slug))
            case wire.ToolFailure(tool_call_id=tool_call_id):
                id_ = shown(self._hide(str(tool_call_id or "")), _LONGEST_ID)
                log.warning("Hume reports a tool call that failed", tool_call_id=id_)
            case _:
                return
        self._warnings_logged += 1

    async def send_audio(self, pcm: bytes) -> bool:
        """Send caller audio as a binary frame: a quarter less to send than as base64 (docs/protocols/evi.md 2.1).

        May pass no checkpoint.
        """
        return await self._socket.send(BINARY, pcm)

    async def say(self, text: str) -> None:
        """Have EVI speak `text` as it stands."""
        await self._send(wire.AssistantInput(text))

    async def user_text(self, text: str) -> None:
        """Have EVI answer `text`, as if the caller had said it."""
        await self._send(wire.UserInput(text))
        if self._paused:
            self._paused = False
            await self._send(wire.Resume())

    async def add_context(self, text: str) -> None:
        """Let EVI's next reply know `text`; a later one replaces it until then (docs/protocols/evi.md 2.2)."""
        await self._send(wire.SessionSettings(context=wire.Context(text, "temporary")))

    async def go_on(self, words: str, *, cut_off: bool) -> None:
        """Say the caller's words again, which EVI does not answer by itself after a resume; see `AgentLink.go_on`."""
        await self._say_for_caller(words if words and not cut_off else _GO_ON)

    async def stop(self) -> None:
        """Pause EVI until the text that follows: nothing else stops it (docs/protocols/evi.md 5.3)."""
        self._paused, self._late_until = True, trio.current_time() + _LATE_SECONDS
        await self._send(wire.Pause())

    async def truncate(self, unheard: float) -> None:
        """Nothing is sent: EVI itself keeps count of what has been played."""

    async def tool_response(self, call_id: str, content: str) -> None:
        """Answer a tool call with its result; EVI does not know those of a chat before (docs/protocols/evi.md 5.5)."""
        if call_id not in self._asked:
            await self._say_for_caller(_RESULT.format(content))
            return
        await self._send(wire.ToolAnswer(tool_call_id=call_id, content=content))

    async def tool_error(self, call_id: str, message: str) -> None:
        """Answer a tool call that could not be carried out; the model hears `message` as well."""
        if call_id not in self._asked:
            await self._say_for_caller(_RESULT.format(message))
            return
        await self._send(wire.ToolErrorAnswer(tool_call_id=call_id, error=message, content=message))

    async def _say_for_caller(self, text: str) -> None:
        self._unspoken.append(text)
        await self._send(wire.UserInput(text))

    async def _send(self, message: wire.ToHume) -> None:
        await self._socket.send(TEXT, wire.encode_to_hume(message))
