"""Who may come in (`STS_TOKEN`, the pages a browser may call from, room for a call), and how others are refused.

Peer addresses play no part: behind one Core all calls come from the same, so a limit for each would limit all callers.
"""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol
from urllib.parse import unquote_to_bytes, urlsplit

from sts_trio.settings.parsers import origin

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable

    from sts_trio.call.handler import Refusal


if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from sts_trio.settings.parsers import Secret

    Headers = Iterable[tuple[bytes, bytes]]

PARAMETER = b"token"
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Denial(NamedTuple):
    """Why a request is turned away: an HTTP status, words that its sender may see, and a word for the metrics."""

    status: int
    message: str
    reason: str


_NO_TOKEN = Denial(
    401,
    "This needs the secret that STS_TOKEN holds: Authorization: Bearer SECRET, or X-STS-Token: SECRET, "
    "or ?token=SECRET at the end of STS_URL.",
    "token",
)
_FOREIGN = Denial(403, "Pages of this origin may not call; the operator can list it in ALLOWED_ORIGINS.", "origin")


@dataclass(frozen=True, slots=True)
class Authorizer:
    """What an operator decided about callers. `token`: None lets everybody in. `origins`: beside that of our own host.

    Comparing an origin with the host keeps pages of other sites out, not one whose name its owner points at us (DNS
    rebinding): against that there is the token.
    """

    token: Secret | None = None
    origins: Collection[str] = ()

    def denies_call(self, headers: Headers, query: bytes) -> Denial | None:
        """Why this caller may not place a call, or None. Header names in lower case, as ASGI gives them."""
        known = list(headers)
        return self._denies_origin(known) or self.denies_reader(known, query)

    def denies_reader(self, headers: Headers, query: bytes) -> Denial | None:
        """Why this request may not see what only the operator should, or None."""
        if self.token is None:
            return None
        expected, admitted = self.token.reveal().encode(), False
        for offered in (*_tokens_of(headers), *split_query(query)[1]):
            admitted |= hmac.compare_digest(offered, expected)
        return None if admitted else _NO_TOKEN

    def _denies_origin(self, headers: Headers) -> Denial | None:
        """Only browsers send an Origin, and always do. Core sends none, nor does any other client."""
        hosts = [value.decode("latin-1").strip().lower() for name, value in headers if name == b"host"]
        for name, value in headers:
            if name == b"origin" and not self._admits_origin(value.decode("latin-1").strip(), hosts):
                return _FOREIGN
        return None

    def _admits_origin(self, text: str, hosts: list[str]) -> bool:
        try:
            plain = origin(text)
        except ValueError:  # `null`, for example: a page from a file, or in a sandbox
            return False
        if plain in self.origins:
            return True
        parts = urlsplit(plain)
        port = _DEFAULT_PORTS.get(parts.scheme)
        return any(parts.netloc == host.removesuffix(f":{port}") for host in hosts)


def split_query(query: bytes) -> tuple[bytes, list[bytes]]:
    """Part a query string from the tokens in it: the first is all that anybody else may see.

    A plus sign stays one: no token holds a space. A program that appends parameters to a URL without parsing it adds a
    second question mark; parameters after that are kept as well.
    """
    rest, tokens = [], []
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if unquote_to_bytes(name) != PARAMETER:
            rest.append(part)
            continue
        value, _, more = value.partition(b"?")
        tokens.append(unquote_to_bytes(value))
        rest += [more] if more else []
    return (b"&".join(rest), tokens) if tokens else (query, [])


def _tokens_of(headers: Headers) -> Iterable[bytes]:
    for name, value in headers:
        if name == b"x-sts-token":
            yield value.strip()
        elif name == b"authorization":
            scheme, _, credentials = value.strip().partition(b" ")
            if scheme.lower() == b"bearer":
                yield credentials.strip()


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


async def refuse_request(send: ASGISendCallable, status: int, message: str, reason: str = "") -> None:
    """Answer a request with a status and a message, without reading its body."""
    reply = json_reply(status, message, reason)
    await send({"type": "http.response.start", "status": status, "headers": reply.headers})
    await send({"type": "http.response.body", "body": reply.body, "more_body": False})
