"""A chat with Hume EVI, behind the seam of `providers.base`: opening, receiving, sending."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
import trio

from sts_trio.errors import ProviderLost, ProviderTimeout
from sts_trio.providers.base import AgentFault, AgentReady, SessionEnd, SessionEndKind, never_ready
from sts_trio.providers.dial import without_key
from sts_trio.providers.hume import wire
from sts_trio.providers.hume.events import closed, to_event
from sts_trio.providers.hume.handshake import chat_request, plan_opening
from sts_trio.providers.socket import SocketEnd, SocketTimes, open_socket
from sts_trio.text import one_line
from sts_trio.websocket.frames import BINARY, TEXT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from sts_trio.providers.base import AgentEvent, CallInfo
    from sts_trio.providers.dial import Dial, Endpoint
    from sts_trio.providers.hume.handshake import Opening
    from sts_trio.providers.socket import ProviderSocket

log = structlog.get_logger(__name__)

_MOST_WARNINGS = 5  # log lines a chat; their texts may quote the caller, so they are left out
_LONGEST_ID = 64

_HINTS = {
    401: "check HUMEAI_API_KEY",
    403: "check HUMEAI_API_KEY",
    404: "check HUMEAI_WS_URL",
    410: "Hume announced the end of its public EVI API; point HUMEAI_WS_URL at a service that speaks its protocol",
}


@dataclass(frozen=True, slots=True)
class HumeProvider:
    """How to open chats: an `OpenAgent`. `api_key` stays out of URLs, logs, errors and `repr`.

    `config_id`, `voice_id` and `instructions` are for calls that bring none of their own (`handshake.chat_request`).
    """

    endpoint: Endpoint
    api_key: str = field(repr=False)
    dial: Dial = field(repr=False)
    config_id: str | None = None
    voice_id: str | None = None
    instructions: str | None = field(default=None, repr=False)
    times: SocketTimes = field(default_factory=SocketTimes)

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
        async with open_socket(
            self.endpoint,
            path=opening.target,
            headers={"X-Hume-Api-Key": self.api_key},
            dial=self.dial,
            times=self.times,
            hints=_HINTS,
            hide=self._without_key,
        ) as socket:
            link = HumeLink(socket, self._without_key)
            with trio.move_on_at(ready_by) as waiting:
                await link.wait_ready(opening.late)
            if waiting.cancelled_caught:
                raise ProviderTimeout(
                    f"{self.endpoint} took the connection but sent no chat_metadata within {self.times.open:g} s"
                )
            yield link

    def _without_key(self, text: str) -> str:
        return without_key(text, self.api_key)


class HumeLink:
    """An open chat; see `providers.base.AgentLink`."""

    def __init__(self, socket: ProviderSocket, hide: Callable[[str], str]) -> None:
        self._socket = socket
        self._hide = hide
        self._ready: AgentReady | None = None
        self._warnings_logged = 0

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
                case _:
                    pass
        if late is not None:
            with suppress(ProviderLost):  # `receive` will tell why
                await self._send(late)
        self._ready = ready

    async def receive(self) -> AgentEvent:
        """See `AgentLink.receive`; the first event is the `AgentReady` that `wait_ready` saw."""
        if self._ready is not None:
            ready, self._ready = self._ready, None
            return ready
        return await self._next()

    async def _next(self) -> AgentEvent:
        while True:
            message = await self._socket.receive()
            if isinstance(message, SocketEnd):
                return closed(message.code, self._hide(message.reason))
            heard = wire.parse_from_hume(message)
            if isinstance(heard, wire.HumeError):
                heard = wire.HumeError(
                    *(self._hide(str(part or "")) for part in (heard.code, heard.slug, heard.message))
                )
            event = to_event(heard) if heard is not None else None
            if event is not None:
                return event
            self._warn_of(heard)

    def _warn_of(self, heard: wire.HumeMessage | None) -> None:
        """Log a warning that changes nothing in the call, at most `_MOST_WARNINGS` times a chat."""
        if self._warnings_logged >= _MOST_WARNINGS:
            return
        match heard:
            case wire.HumeError(code=code, slug=slug):
                log.warning("Hume warns", code=code, slug=slug)
            case wire.ToolFailure(tool_call_id=tool_call_id):
                shown = one_line(self._hide(str(tool_call_id or "")))[:_LONGEST_ID]
                log.warning("Hume reports a tool call that failed", tool_call_id=shown)
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

    async def add_context(self, text: str) -> None:
        """Let EVI's next reply know `text`; a later one replaces it until then (docs/protocols/evi.md 2.2)."""
        await self._send(wire.SessionSettings(context=wire.Context(text, "temporary")))

    async def truncate(self, unheard: float) -> None:
        """Nothing is sent: EVI itself keeps count of what has been played."""

    async def tool_response(self, call_id: str, content: str) -> None:
        """Answer a tool call with its result."""
        await self._send(wire.ToolAnswer(tool_call_id=call_id, content=content))

    async def tool_error(self, call_id: str, message: str) -> None:
        """Answer a tool call that could not be carried out; the model hears `message` as well."""
        await self._send(wire.ToolErrorAnswer(tool_call_id=call_id, error=message, content=message))

    async def _send(self, message: wire.ToHume) -> None:
        await self._socket.send(TEXT, wire.encode_to_hume(message))
