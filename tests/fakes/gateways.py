"""Servers that answer the upgrade as Azure, its API Management, proxies and log-in pages do; behind them an emulator.

What they answer is in their documents (docs/protocols/realtime.md 9.2), cited at each.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

import trio
import trio.testing
from trio_websocket import ConnectionClosed, wrap_server_stream

from sts_trio.lab.emulator import Emulator, EmulatorOptions, serve_stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from sts_trio.providers.dial import Dial, Endpoint

KEY = "key-that-nobody-may-see"
DEPLOYMENT = "clinic-voice"


@dataclass(frozen=True)
class Request:
    """The upgrade, as it came; names of headers in lower case."""

    target: str
    headers: dict[str, str]

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.target.partition("?")[2]))


@dataclass(frozen=True)
class Answer:
    """What is said in place of the upgrade."""

    status: int
    body: object = ""
    headers: dict[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        body = self.body if isinstance(self.body, str) else json.dumps(self.body)
        lines = [f"HTTP/1.1 {self.status} Whatever", f"Content-Length: {len(body.encode())}"]
        return "\r\n".join([*lines, *(f"{k}: {v}" for k, v in self.headers.items()), "", body]).encode()


BETA = Answer(101)  # it is let in, and spoken to in the protocol's beta
Judge = "Callable[[Request], Answer | None]"


class Gateway:
    """Judges each upgrade. What is let in (None) is served by an emulator, whatever URL and key it had."""

    def __init__(self, judge: Callable[[Request], Answer | None], provider: Any = "openai", **options: Any) -> None:
        self.judge = judge
        self.requests: list[Request] = []
        self.emulator = Emulator(EmulatorOptions(service=provider, api_keys=frozenset({KEY}), seed=1, **options))
        self._hume = provider == "humeai"

    def dial(self, nursery: trio.Nursery) -> Dial:
        """A way to it in memory."""

        async def dial(endpoint: Endpoint) -> trio.abc.Stream:
            ours, theirs = trio.testing.memory_stream_pair()
            nursery.start_soon(self.serve, theirs)
            return ours

        return dial

    async def serve(self, stream: trio.abc.Stream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._serve(stream)

    async def _serve(self, stream: trio.abc.Stream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            data = await stream.receive_some()
            if not data:
                return
            head += bytes(data)
            if not head.startswith(b"GET"[: len(head)]):
                await stream.send_all(Answer(400, "bad request").encoded())  # as nginx says to TLS on a plain port
                await stream.aclose()
                return
        head, _, rest = head.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        pairs = [line.split(": ", 1) for line in lines]
        request = Request(first.split()[1], {name.lower(): value for name, value in pairs})
        self.requests.append(request)
        answer = self.judge(request)
        if answer is not None and answer is not BETA:
            await stream.send_all(answer.encoded())
            await stream.aclose()
            return
        replay = _Replay(stream, self._forwarded(request, pairs) + rest)
        await (_speak_beta(replay) if answer is BETA else serve_stream(self.emulator, replay))

    def _forwarded(self, request: Request, pairs: list[list[str]]) -> bytes:
        """The upgrade as the emulator wants it."""
        if self._hume:
            target, own = f"/v0/evi/chat?{request.target.partition('?')[2]}", ["X-Hume-Api-Key", KEY]
        else:
            target = f"/v1/realtime?{urlencode({'model': 'gpt-realtime-2.1'})}"
            own = ["Authorization", f"Bearer {KEY}"]
        kept = [pair for pair in pairs if pair[0].lower() != own[0].lower()]
        return "\r\n".join([f"GET {target} HTTP/1.1", *(": ".join(pair) for pair in (*kept, own)), "", ""]).encode()


class _Replay(trio.abc.Stream):
    """A stream whose first bytes have been read already."""

    def __init__(self, stream: trio.abc.Stream, first: bytes) -> None:
        self._stream = stream
        self._first = first

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._first:
            await trio.lowlevel.checkpoint()
            data, self._first = self._first, b""
            return data
        return bytes(await self._stream.receive_some(max_bytes))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _speak_beta(stream: trio.abc.Stream) -> None:
    """The session is flat, and `type` no field of it."""
    async with trio.open_nursery() as nursery:
        connection = await (await wrap_server_stream(nursery, stream)).accept()
        with suppress(ConnectionClosed):
            session = {"id": "sess_1", "object": "realtime.session", "modalities": ["audio", "text"]}
            await connection.send_message(json.dumps({"type": "session.created", "session": session}))
            asked = json.loads(await connection.get_message())
            error = {
                "type": "invalid_request_error",
                "code": "unknown_parameter",
                "message": "Unknown parameter: 'session.type'.",
                "param": "session.type",
                "event_id": asked["event_id"],
            }
            await connection.send_message(json.dumps({"type": "error", "error": error}))
            await connection.get_message()
        nursery.cancel_scope.cancel()


def azure(*, keys: tuple[str, ...] = (KEY,), tokens: tuple[str, ...] = ()) -> Callable[[Request], Answer | None]:
    """Azure OpenAI (learn.microsoft.com: realtime-audio-websockets, its migration guide, troubleshoot-errors)."""

    def judge(request: Request) -> Answer | None:
        if request.path == "/openai/realtime" and {"api-version", "deployment"} <= request.query.keys():
            return BETA
        if request.path != "/openai/v1/realtime":
            return Answer(404, {"error": {"code": "404", "message": "Resource not found"}})
        if "api-version" in request.query:
            return Answer(401)
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if request.headers.get("api-key") not in keys and bearer not in tokens:
            message = (
                "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key "
                "for an active subscription and use a correct regional API endpoint for your resource."
            )
            return Answer(401, {"error": {"code": "401", "message": message}})
        if request.query.get("model") == "chat-only":
            message = "The realtime operation does not work with the specified model."
            return Answer(400, {"error": {"code": "OpperationNotSupported", "message": message}})
        if request.query.get("model") != DEPLOYMENT:
            message = (
                "The API deployment for this resource does not exist. If you created the deployment within the last 5 "
                "minutes, please wait a moment and try again."
            )
            return Answer(404, {"error": {"code": "DeploymentNotFound", "message": message}})
        return None

    return judge


def api_management(header: str = "ocp-apim-subscription-key") -> Callable[[Request], Answer | None]:
    """A WebSocket API of Azure API Management (learn.microsoft.com: websocket-api; its 401: SupportArticles)."""

    def judge(request: Request) -> Answer | None:
        if request.path != "/voice":
            return Answer(404, {"statusCode": 404, "message": "Resource not found"})
        if header not in request.headers:
            message = "Access denied due to missing subscription key. Make sure to include subscription key when making"
            return Answer(401, {"statusCode": 401, "message": f"{message} requests to an API."})
        if request.headers[header] != KEY:
            message = "Access denied due to invalid subscription key. Make sure to provide a valid key for an active"
            return Answer(401, {"statusCode": 401, "message": f"{message} subscription."})
        return None

    return judge


def redirect(status: int, location: str) -> Callable[[Request], Answer | None]:
    """Whatever sends clients elsewhere (RFC 9110, 15.4)."""
    page = "<html><head><title>Moved</title></head></html>"
    return lambda _: Answer(status, page, {"Location": location} if location else {})


def only(path: str) -> Callable[[Request], Answer | None]:
    """A service that listens at one path, and knows one key."""

    def judge(request: Request) -> Answer | None:
        if request.path != path:
            return Answer(404, "not found")
        bearer = request.headers.get("authorization") == f"Bearer {KEY}"
        return None if bearer or request.headers.get("x-hume-api-key") == KEY else Answer(401, "no such key")

    return judge
