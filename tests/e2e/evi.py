"""A provider on loopback that says what a test tells it to, when it tells it to."""

from __future__ import annotations

import base64
import json
import warnings
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import trio
import trio.testing
from hume.empathic_voice import SubscribeEvent, ToolErrorMessage, ToolResponseMessage
from openai.types.realtime import ConversationItemCreateEvent
from pydantic import TypeAdapter
from trio_websocket import (
    ConnectionClosed,
    WebSocketConnection,
    WebSocketRequest,
    serve_websocket,
    wrap_client_stream,
    wrap_server_stream,
)

from tests.call.fakes import tone, wav_file

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.11 and 3.12 tell of its removal
    import audioop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

    from sts_trio.providers.dial import Dial


@dataclass(eq=False)
class Evi:
    """Chats that are open, and the caller's audio that came, in linear PCM; `messages` is what else came, decoded.

    `Realtime` is the same in another protocol.
    """

    provider: str = "humeai"
    url: str = ""
    chats: list[WebSocketConnection] = field(default_factory=list)
    received: bytearray = field(default_factory=bytearray)
    messages: list[dict[str, Any]] = field(default_factory=list)

    async def _serve(self, request: WebSocketRequest) -> None:
        chat = await request.accept()
        await chat.send_message(json.dumps({"type": "chat_metadata", "chat_id": "c", "chat_group_id": "g"}))
        self.chats.append(chat)
        try:
            while True:
                message = await chat.get_message()
                if isinstance(message, bytes):
                    self.received += message
                else:
                    self.messages.append(json.loads(message))
        except ConnectionClosed:
            self.chats.remove(chat)

    def told(self, kind: str) -> list[dict[str, Any]]:
        """The messages of one type that came, in order."""
        return [message for message in self.messages if message["type"] == kind]

    async def say(self, chat: int, **message: object) -> float:
        """Send a message; return when."""
        at = trio.current_time()
        await self.chats[chat].send_message(json.dumps(message))
        return at

    async def interrupt(self, chat: int) -> float:
        """The caller has spoken over the agent; return when."""
        return await self.say(chat, type="user_interruption", time=0)

    async def end_turn(self, chat: int) -> float:
        """The agent has finished its turn; return when."""
        return await self.say(chat, type="assistant_end")

    async def user_says(self, chat: int, text: str, anger: float | None = None) -> float:
        """The caller has finished his, in anger where the protocol can tell; return when."""
        models = {} if anger is None else {"prosody": {"scores": {"Anger": anger}}}
        return await self.say(chat, type="user_message", message={"role": "user", "content": text}, models=models)

    async def agent_says(self, chat: int, text: str) -> float:
        """The words of the agent come, without a voice; return when."""
        return await self.say(chat, type="assistant_message", id="r", message={"role": "assistant", "content": text})

    async def complain(self, chat: int, text: str) -> float:
        """Report an error that ends nothing; return when."""
        return await self.say(chat, type="error", code="E0101", slug="hiccup", message=text)

    async def ask(self, chat: int, id_: str, name: str, arguments: str) -> float:
        """Ask for a function; return when."""
        request = {"name": name, "parameters": arguments, "tool_call_id": id_, "tool_type": "function"}
        message = {"type": "tool_call", "response_required": True} | request
        TypeAdapter(SubscribeEvent).validate_python(message)
        return await self.say(chat, **message)

    @property
    def answers(self) -> list[tuple[str, str, bool]]:
        """What functions were answered, in order: id, text, and whether they failed."""
        kinds: dict[str, Any] = {"tool_response": ToolResponseMessage, "tool_error": ToolErrorMessage}
        found = [message for message in self.messages if message["type"] in kinds]
        for message in found:
            kinds[message["type"]].model_validate(message)
        return [(each["tool_call_id"], each["content"], each["type"] == "tool_error") for each in found]

    async def offers(self) -> list[str]:
        """Wait for the functions that are offered first, which may come after the chat has begun; their names."""
        await until(lambda: self.told("session_settings"))
        return [tool["name"] for tool in self.told("session_settings")[0]["tools"]]

    async def speak(self, chat: int, length: float, reply: str, rate: int = 48_000) -> float:
        """Send a chunk of speech, at this rate where the protocol leaves a choice; return when."""
        data = base64.b64encode(wav_file(tone(length, rate=rate), rate)).decode()
        return await self.say(chat, type="audio_output", id=reply, index=0, data=data)


@dataclass(eq=False)
class Realtime(Evi):
    """A service of the Realtime protocol: OpenAI's, in G.711, or xAI's, in linear PCM at 8 kHz."""

    provider: str = "openai"
    over: set[str] = field(default_factory=set)  # replies that are over; what still comes of them is late
    reply: str = ""
    turns: int = 0  # of the caller that are over

    async def _serve(self, request: WebSocketRequest) -> None:
        chat = await request.accept()
        try:
            await chat.send_message('{"type":"session.created","session":{"id":"s"}}')
            await chat.send_message('{"type":"conversation.created","conversation":{"id":"c"}}')
            self.messages.append(json.loads(await chat.get_message()))
            await chat.send_message('{"type":"session.updated","session":{}}')
            self.chats.append(chat)
            while True:
                message = json.loads(await chat.get_message())
                if message["type"] == "input_audio_buffer.append":
                    data = base64.b64decode(message["audio"])
                    self.received += data if self.provider == "xai" else audioop.ulaw2lin(data, 2)
                else:
                    self.messages.append(message)
        except ConnectionClosed:
            if chat in self.chats:
                self.chats.remove(chat)

    async def interrupt(self, chat: int) -> float:
        item = f"u{self.turns}"
        at = await self.say(chat, type="input_audio_buffer.speech_started", item_id=item)
        await self._done(chat, "cancelled")
        await self.say(chat, type="input_audio_buffer.speech_stopped", item_id=item)
        return at

    async def end_turn(self, chat: int) -> float:
        return await self._done(chat, "completed")

    async def agent_says(self, chat: int, text: str) -> float:
        return await self.say(chat, type="response.output_audio_transcript.done", response_id="r", transcript=text)

    async def user_says(self, chat: int, text: str, anger: float | None = None) -> float:
        item, self.turns = f"u{self.turns}", self.turns + 1
        at = await self.say(chat, type="input_audio_buffer.committed", item_id=item)
        kind = "conversation.item.input_audio_transcription.completed"
        await self.say(chat, type=kind, item_id=item, transcript=text)
        return at

    async def complain(self, chat: int, text: str) -> float:
        return await self.say(chat, type="error", error={"code": "hiccup", "message": text})

    async def ask(self, chat: int, id_: str, name: str, arguments: str) -> float:
        item: dict[str, Any] = {
            "type": "function_call",
            "name": name,
            "call_id": id_,
            "arguments": arguments,
            "status": "completed",
        }
        reply = self.reply or await self._begin(chat, f"response for {id_}")
        at = await self.say(chat, type="response.output_item.done", response_id=reply, item=item)
        await self._done(chat, "completed")
        return at

    @property
    def answers(self) -> list[tuple[str, str, bool]]:
        found = [message["item"] for message in self.told("conversation.item.create")]
        outputs = [(item["call_id"], item["output"]) for item in found if item["type"] == "function_call_output"]
        for message in self.told("conversation.item.create"):
            ConversationItemCreateEvent.model_validate(message)
        return [(id_, text.removeprefix("Error: "), text.startswith("Error: ")) for id_, text in outputs]

    async def offers(self) -> list[str]:
        await until(lambda: self.told("session.update"))
        return [tool["name"] for tool in self.told("session.update")[0]["session"]["tools"]]

    async def speak(self, chat: int, length: float, reply: str, rate: int = 48_000) -> float:
        if reply not in (self.reply, *self.over):
            await self._begin(chat, reply)
        pcm = tone(length)
        data = base64.b64encode(pcm if self.provider == "xai" else audioop.lin2ulaw(pcm, 2)).decode()
        return await self.say(
            chat, type="response.output_audio.delta", response_id=reply, item_id=f"item of {reply}", delta=data
        )

    async def _begin(self, chat: int, reply: str) -> str:
        await self.say(chat, type="response.created", response={"id": reply, "status": "in_progress"})
        self.reply = reply
        return reply

    async def _done(self, chat: int, status: str) -> float:
        done, self.reply = self.reply, ""
        self.over.add(done)
        return await self.say(chat, type="response.done", response={"id": done, "status": status})


def environment_of(provider: str, url: str, key: str) -> dict[str, str]:
    """The variables that lead a process to this provider, and let its agent say nothing first."""
    if provider == "humeai":
        return {"HUMEAI_API_KEY": key, "HUMEAI_WS_URL": url, "HUMEAI_WELCOME_MESSAGE": ""}
    prefix = provider.upper()
    own = {f"{prefix}_API_KEY": key, f"{prefix}_BASE_URL": url, f"{prefix}_WELCOME_MESSAGE": ""}
    return {"STS_PROVIDER": provider} | own


def agent_of(provider: str) -> Evi:
    """Make the one that this provider's protocol wants."""
    return Evi() if provider == "humeai" else Realtime(provider)


@asynccontextmanager
async def open_evi(provider: str = "humeai") -> AsyncIterator[Evi]:
    """Serve on a free port of loopback, in this provider's protocol."""
    evi = agent_of(provider)
    async with trio.open_nursery() as nursery:
        serving = partial(serve_websocket, evi._serve, "127.0.0.1", 0, None, max_message_size=2**24)
        server = await nursery.start(serving)
        evi.url = f"ws://127.0.0.1:{server.port}/" + ("v0/evi/chat" if provider == "humeai" else "v1")
        yield evi
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def evi_in_memory(provider: str) -> AsyncIterator[tuple[Evi, Dial]]:
    """The same without a socket: what is said to, and how it is dialled."""
    evi = agent_of(provider)

    async def serve(stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as reader:
            await evi._serve(await wrap_server_stream(reader, stream, max_message_size=2**24))

    async with trio.open_nursery() as nursery:

        async def dial(endpoint: object) -> trio.abc.Stream:
            ours, theirs = trio.testing.memory_stream_pair()
            nursery.start_soon(serve, theirs)
            return ours

        yield evi, dial
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], object], limit: float = 30.0) -> None:
    """Wait until a condition on things outside of our control holds (another process, the kernel)."""
    with trio.fail_after(limit):
        while not condition():
            await trio.sleep(0.005)


def kept_waiting() -> float:
    """Seconds in which this thread wanted to run, so far, and had no CPU; 0 where the kernel does not say."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


async def keeps(limits: Mapping[str, float], measure: Callable[[], Awaitable[Mapping[str, float]]]) -> None:
    """Measure until each figure is within its limit (seconds), three times at most.

    A machine that is busy with something else keeps any process waiting now and then: that time is not ours, so it is
    allowed for; and a fault of ours is there each time. What `measure` itself asserts must hold each time, too.
    """
    for _ in range(3):
        before = kept_waiting()
        figures = await measure()
        waited = kept_waiting() - before
        shown = ", ".join(f"{name} {figure * 1000:.1f} ms" for name, figure in figures.items())
        print(f"{shown}; waited for a CPU for {waited * 1000:.1f} ms")
        broken = {name: figure for name, figure in figures.items() if figure > limits[name] + waited}
        if not broken:
            return
    raise AssertionError(f"again and again: {broken}, of {limits}")


async def at_once(check: Callable[..., Awaitable[object]], rows: Iterable[tuple[object, ...]]) -> None:
    """Run a check for all rows at the same time, for their waits and their processes are long; a failure names its row.

    Rows share nothing but the machine.
    """

    async def one(row: tuple[object, ...]) -> None:
        try:
            await check(*row)
        except Exception as exc:
            exc.add_note(f"in the row {row}")
            raise

    async with trio.open_nursery() as nursery:
        for row in rows:
            nursery.start_soon(one, row)


@asynccontextmanager
async def open_core(url: str) -> AsyncIterator[WebSocketConnection]:
    """Call as Core does.

    trio_websocket's own client leaves its socket open when the peer closed first; this one does not.
    """
    parts = urlsplit(url)
    stream = await trio.open_tcp_stream(parts.hostname or "", parts.port or 80)
    async with stream, trio.open_nursery() as nursery:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection = await wrap_client_stream(nursery, stream, "sts", path, message_queue_size=512)
        try:
            yield connection
        finally:
            cancelled = trio.current_effective_deadline() == -inf  # the reader is, too: no answer could be read
            with trio.move_on_after(0.02 if cancelled else 1, shield=True):
                await connection.aclose()
            nursery.cancel_scope.cancel()
