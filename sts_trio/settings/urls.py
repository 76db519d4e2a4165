"""URLs: parsers as in `values.plain`, and what of a URL may be shown. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from sts_trio.settings.secret import HiddenValueError

if TYPE_CHECKING:
    from urllib.parse import SplitResult


def websocket_url(value: str) -> str:
    """Take a `ws://` or `wss://` URL without a key in it."""
    parts = _split(value, ("ws", "wss"), "a URL such as wss://host/path")
    if parts.username or parts.password or {"api_key", "access_token"} & {name for name, _ in parse_qsl(parts.query)}:
        raise HiddenValueError("a URL without a key in it; the key belongs in HUMEAI_API_KEY")
    return value


def realtime_url(value: str) -> str:
    """Take the base URL of a Realtime API: HTTP, as clients have it, or WebSocket. No slash is left at its end."""
    parts = _split(value, ("http", "https", "ws", "wss"), "a URL such as https://host/v1")
    if parts.username or parts.password or {"api_key", "api-key"} & {name for name, _ in parse_qsl(parts.query)}:
        raise HiddenValueError("a URL without a key in it")
    return value.rstrip("/")


def http_url(value: str) -> str:
    """Take an `http://` or `https://` URL; a user, a password and a query may be in it."""
    _split(value, ("http", "https"), "a URL such as http://host/path")
    return value


def base_url(value: str) -> str:
    """Take an HTTP URL that paths are added to: no query, and no slash is left at its end."""
    wanted = "a URL such as http://host:6006, without a query"
    _split(value, ("http", "https"), wanted)
    if "?" in value or "#" in value:
        raise HiddenValueError(wanted)
    return value.rstrip("/")


def origin(value: str) -> str:
    """Take an origin as browsers send it (RFC 6454, 6.2): scheme and host, and a port that is not the usual one."""
    wanted = "an origin such as https://host or http://host:8080"
    parts = _split(value, ("http", "https"), wanted)
    if set("@?#") & set(value):
        raise HiddenValueError(wanted)
    if parts.path:
        raise ValueError(wanted)
    usual = ":443" if parts.scheme == "https" else ":80"
    return f"{parts.scheme}://{parts.netloc.lower().removesuffix(usual)}"


def origins(value: str) -> tuple[str, ...]:
    """Take origins with commas between them; a slash at the end of one is dropped."""
    return tuple(dict.fromkeys(origin(text.removesuffix("/")) for part in value.split(",") if (text := part.strip())))


def _split(value: str, schemes: tuple[str, ...], wanted: str) -> SplitResult:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in schemes and (parts.hostname or "").encode("idna") and parts.port != 0
    except ValueError:
        usable = False
    if not usable or any(not (" " < character < "\x7f") for character in value):
        # Passwords stand before an @, tokens in a query.
        raise (HiddenValueError if set("@?#") & set(value) else ValueError)(wanted)
    return parts


def shown_url(url: str) -> str:
    """Return a URL fit for a log: without user, password, query and fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a broken URL"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def url_secrets(url: str) -> list[str]:
    """Return the texts in a URL that `shown_url` leaves out: user, password, query, and each value in that."""
    parts = urlsplit(url)
    query = [parts.query, *(value for _, value in parse_qsl(parts.query))]
    login = [form for text in (parts.username, parts.password) if text for form in (text, unquote(text))]
    return login + [text for text in query if text]
