"""How the text of a variable becomes a value: a parser for each kind, and what of secrets and URLs may be shown. Pure.

A parser raises `ValueError` with what the value must be, such as "a whole number from 1 to 9". It raises
`HiddenValueError` when the wrong text may hold a secret, so that nobody repeats it.
"""

from __future__ import annotations

import hmac
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

import decouple

if TYPE_CHECKING:
    from collections.abc import Callable
    from urllib.parse import SplitResult


class HiddenValueError(ValueError):
    """A value is wrong, and it may hold a secret: it must not be shown."""


class Secret:
    """A text that shows as stars in whatever way it is shown; `reveal` gives the text itself."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(self._text)

    def reveal(self) -> str:
        """Return the secret."""
        return self._text


MOST_NAMES = 32
LONGEST_NAME = 64
SHORTEST_TOKEN = 16


def text(value: str) -> str:
    """Take any text that can be sent on; bytes that were no UTF-8 arrive as lone surrogates, and cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("text in UTF-8") from None
    return value


def secret(value: str) -> Secret:
    """Take a key that fits into an HTTP header."""
    if not value.isascii() or not value.isprintable() or " " in value:
        raise HiddenValueError("a key of printable ASCII characters without spaces")
    return Secret(value)


def access_token(value: str) -> Secret:
    """Take a secret that fits into a Bearer header (RFC 6750, 2.1), and is long enough not to be guessed."""
    if not re.fullmatch(rf"[A-Za-z0-9._~+/-]{{{SHORTEST_TOKEN},}}=*", value):
        raise HiddenValueError(
            f"at least {SHORTEST_TOKEN} letters, digits or -._~+/, such as openssl rand -hex 24 gives"
        )
    return Secret(value)


def whole(low: int, high: int) -> Callable[[str], int]:
    """Make a parser of whole numbers, bounds included."""

    def parse(value: str) -> int:
        if not (value.isascii() and value.isdecimal()) or len(value) > len(str(high)) or not low <= int(value) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(value)

    return parse


def seconds(low: float, high: float) -> Callable[[str], float]:
    """Make a parser of times in seconds, bounds included."""
    return _number("a number of seconds", low, high)


def fraction(low: float, high: float) -> Callable[[str], float]:
    """Make a parser of numbers, bounds included."""
    return _number("a number", low, high)


def _number(what: str, low: float, high: float) -> Callable[[str], float]:
    def parse(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            raise ValueError(f"{what} from {low:g} to {high:g}")
        return number

    return parse


def tokens(high: int) -> Callable[[str], int | str]:
    """Make a parser of a number of tokens, or ``inf``."""
    number = whole(1, high)

    def parse(value: str) -> int | str:
        try:
            return "inf" if value.lower() == "inf" else number(value)
        except ValueError:
            raise ValueError(f"a whole number from 1 to {high}, or inf") from None

    return parse


def language(value: str) -> str | None:
    """Take a language tag (BCP 47); ``auto`` means none."""
    if value.lower() == "auto":
        return None
    if not re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,2}", value):
        raise ValueError("a language such as en or pt-BR, or auto")
    return value


def languages(value: str) -> tuple[str, ...]:
    """Take language tags with commas between them; ``auto`` means none."""
    if value.lower() == "auto":
        return ()
    found = tuple(dict.fromkeys(language(part.strip()) for part in value.split(",") if part.strip()))
    if None in found:
        raise ValueError("a language such as en or pt-BR, several with commas between them, or auto")
    return tuple(each for each in found if each)


MOST_TERMS = 100
LONGEST_TERM = 50


def terms(value: str) -> tuple[str, ...]:
    """Take words to expect in speech, with commas between them; a service refuses marks of markup in them."""
    found = tuple(dict.fromkeys(term for part in value.split(",") if (term := part.strip())))
    if len(found) > MOST_TERMS or any(
        len(term) > LONGEST_TERM or not term.isprintable() or set("<>") & set(term) for term in found
    ):
        raise ValueError(
            f"at most {MOST_TERMS} words or phrases of at most {LONGEST_TERM} characters, without < and >, "
            "with commas between them"
        )
    return found


def voice(value: str) -> str:
    """Take the name of a voice, or the id of one, also as the JSON object that the Realtime API has for it."""
    if not value.startswith("{"):
        return text(value)
    try:
        id_ = json.loads(value).get("id")
    except ValueError:
        id_ = None
    if not isinstance(id_, str) or not id_:
        raise ValueError('the name of a voice, its id, or {"id": "voice_..."}')
    return id_


def switch(value: str) -> bool:
    """Take true or false, in the usual spellings."""
    try:
        return bool(decouple.strtobool(value))
    except ValueError:
        raise ValueError("true or false") from None


def one_of(*words: str) -> Callable[[str], str]:
    """Make a parser that takes these words, in any case."""

    def parse(value: str) -> str:
        if value.lower() not in words:
            raise ValueError("one of " + ", ".join(words))
        return value.lower()

    return parse


def some_of(*words: str) -> Callable[[str], tuple[str, ...]]:
    """Make a parser that takes any of these words, in any case, with commas between them."""
    one = one_of(*words)

    def parse(value: str) -> tuple[str, ...]:
        try:
            return tuple(dict.fromkeys(one(part.strip()) for part in value.split(",") if part.strip()))
        except ValueError:
            raise ValueError(f"some of {', '.join(words)}, with commas between them") from None

    return parse


def names(value: str) -> tuple[str, ...]:
    """Take names with commas between them; spaces around a name are dropped, a repeated name counts once."""
    found = tuple(dict.fromkeys(name for part in value.split(",") if (name := part.strip())))
    if len(found) > MOST_NAMES or any(len(name) > LONGEST_NAME or not name.isprintable() for name in found):
        raise ValueError(f"at most {MOST_NAMES} names of at most {LONGEST_NAME} characters, with commas between them")
    return found


_WEB_SCHEMES = ("http", "https", "ws", "wss")


def websocket_url(value: str) -> str:
    """Take the whole URL of a WebSocket, which may begin with `https://` as well, without a key in it."""
    parts = _split(value, _WEB_SCHEMES, "a URL such as wss://host/path")
    if parts.username or parts.password or {"api_key", "access_token"} & {name for name, _ in parse_qsl(parts.query)}:
        raise HiddenValueError("a URL without a key in it; the key belongs in HUMEAI_API_KEY")
    return value


def realtime_url(value: str) -> str:
    """Take the URL of a Realtime API: HTTP, as clients have it, or WebSocket, without a key in it."""
    parts = _split(value, _WEB_SCHEMES, "a URL such as https://host/v1")
    if (
        parts.username
        or parts.password
        or {"api_key", "api-key", "subscription-key"} & {name.lower() for name, _ in parse_qsl(parts.query)}
    ):
        raise HiddenValueError("a URL without a key in it")
    return value


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
