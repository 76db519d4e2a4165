"""How a request is refused: who decides it (`Admission`), and the JSON that its sender gets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable

    from sts_trio.call.handler import Refusal

RETRY_AFTER_SECONDS = 5


class Admission(Protocol):
    """Decides which calls come in. The caller may see the text of a `Refusal`."""

    def refusal(self) -> Refusal | None:
        """Why a call would not be taken now, or None. Asking changes nothing."""
        ...

    def admit(self) -> AbstractContextManager[Refusal | None]:
        """Give a new call a place while the context lasts, or say why there is none."""
        ...


class JsonReply(NamedTuple):
    """A whole response, but for its status."""

    headers: list[tuple[bytes, bytes]]
    body: bytes


def json_reply(status: int, message: str, reason: str = "") -> JsonReply:
    """Make a response that closes its connection: a `message` for people, and a `reason` for programs.

    With 401 it says what kind of secret is wanted (RFC 6750, 3), with 503 when to try again.
    """
    body = json.dumps({"message": message} | ({"reason": reason} if reason else {})).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    elif status == 503:
        headers.append((b"retry-after", b"%d" % RETRY_AFTER_SECONDS))
    return JsonReply(headers, body)


async def refuse_upgrade(
    receive: ASGIReceiveCallable, send: ASGISendCallable, status: int, message: str, reason: str = ""
) -> None:
    """Answer a WebSocket handshake with an HTTP status and a message, in place of an upgrade."""
    await receive()  # websocket.connect
    reply = json_reply(status, message, reason)
    await send({"type": "websocket.http.response.start", "status": status, "headers": reply.headers})
    await send({"type": "websocket.http.response.body", "body": reply.body, "more_body": False})


async def refuse_request(send: ASGISendCallable, status: int, message: str) -> None:
    """Answer a request with a status and a message, without reading its body."""
    reply = json_reply(status, message)
    await send({"type": "http.response.start", "status": status, "headers": reply.headers})
    await send({"type": "http.response.body", "body": reply.body, "more_body": False})
