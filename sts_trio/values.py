"""How the text of a variable becomes a value: one parser for each kind, and what may be shown of it. Pure.

A parser raises `ValueError` with what the value must be, such as "a whole number from 1 to 9". It raises
`HiddenValueError` when the wrong text may hold a secret, so that nobody repeats it.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import decouple
import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable
    from urllib.parse import SplitResult

MOST_NAMES = 32
LONGEST_NAME = 64
SHORTEST_TOKEN = 16
MOST_RULES = 16
MOST_RULE_TURNS = 20


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


@dataclass(frozen=True, slots=True)
class EmotionRule:
    """What an operator wants done when a caller's emotion stays strong.

    It fires when the score of `emotion` is greater than `above` in `turns` user turns in a row. Then either `tool` is
    called with `arguments` (a JSON object, as text), or `webhook`, a URL, is told.
    """

    emotion: str
    above: float
    turns: int = 2
    tool: str | None = None
    arguments: str = field(default="{}", repr=False)
    webhook: str | None = field(default=None, repr=False)


# Texts, numbers, words.


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

    def parse(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            raise ValueError(f"a number of seconds from {low:g} to {high:g}")
        return number

    return parse


def fraction(low: float, high: float) -> Callable[[str], float]:
    """Make a parser of numbers, bounds included."""

    def parse(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            raise ValueError(f"a number from {low:g} to {high:g}")
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


def names(value: str) -> tuple[str, ...]:
    """Take names with commas between them; spaces around a name are dropped, a repeated name counts once."""
    found = tuple(dict.fromkeys(name for part in value.split(",") if (name := part.strip())))
    if len(found) > MOST_NAMES or any(len(name) > LONGEST_NAME or not name.isprintable() for name in found):
        raise ValueError(f"at most {MOST_NAMES} names of at most {LONGEST_NAME} characters, with commas between them")
    return found


# URLs.


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


# Rules about emotions.


_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class _Rule(msgspec.Struct, forbid_unknown_fields=True):
    """A rule as an operator writes it."""

    emotion: Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_NAME)]
    above: Annotated[float, msgspec.Meta(ge=0, le=1)]
    turns: Annotated[int, msgspec.Meta(ge=1, le=MOST_RULE_TURNS)] = 2
    tool: str | None = None
    arguments: dict[str, Any] = {}
    webhook: str | None = None

    def __post_init__(self) -> None:
        """Check the name here: a pattern in `Meta` may crash msgspec 0.22 when the process ends (its issue 717)."""
        if self.tool is not None and not _TOOL_NAME.fullmatch(self.tool):
            raise ValueError("not the name of a tool - at `$.tool`")


_RULES = msgspec.json.Decoder(list[msgspec.Raw])
_RULE = msgspec.json.Decoder(_Rule)
_BROKEN = (msgspec.DecodeError, UnicodeError, RecursionError)
_WANTED = {
    "emotion": f"a name of 1 to {LONGEST_NAME} characters",
    "above": "a number from 0 to 1",
    "turns": f"a whole number from 1 to {MOST_RULE_TURNS}",
    "tool": "the name of a tool",
    "arguments": "an object",
    "webhook": "a URL such as http://host/path",
}
_AT = re.compile(rf" - at `\$\.({'|'.join(_WANTED)})")


def emotion_rules(value: str) -> tuple[EmotionRule, ...]:
    """Take a JSON list of `EmotionRule`s, each with either a tool or a webhook. The error says which rule is wrong."""
    try:
        rules = _RULES.decode(value)
    except _BROKEN as exc:
        about = f" ({exc})" if isinstance(exc, msgspec.DecodeError) else ""
        raise HiddenValueError(f"a JSON list of rules{about}") from None
    if len(rules) > MOST_RULES:
        raise HiddenValueError(f"a JSON list of at most {MOST_RULES} rules")
    return tuple(_rule(number, rule) for number, rule in enumerate(rules, start=1))


def _rule(number: int, raw: msgspec.Raw) -> EmotionRule:
    try:
        rule = _RULE.decode(raw)
        emotion = rule.emotion.strip()
        _must(emotion and emotion.isprintable(), f"emotion must be {_WANTED['emotion']}")
        _must((rule.tool is None) != (rule.webhook is None), "it must have either a tool or a webhook")
        _must(rule.tool is not None or not rule.arguments, "arguments go with a tool, not with a webhook")
        _must(rule.webhook is None or _is_http_url(rule.webhook), f"webhook must be {_WANTED['webhook']}")
    except _BROKEN as exc:
        raise HiddenValueError(f"a JSON list of rules; rule {number}: {_words(exc)}") from None
    except ValueError as exc:
        raise HiddenValueError(f"a JSON list of rules; rule {number}: {exc}") from None
    arguments = msgspec.json.encode(rule.arguments).decode()
    return EmotionRule(emotion, rule.above, rule.turns, rule.tool, arguments, rule.webhook)


def _must(holds: object, wanted: str) -> None:
    if not holds:
        raise ValueError(wanted)


def _is_http_url(value: str) -> bool:
    try:
        return bool(http_url(value))
    except ValueError:
        return False


def _words(exc: Exception) -> str:
    """Say what msgspec found, in one line and without a value."""
    said = str(exc)
    if unknown := re.match(r"Object contains unknown field `(.*)`", said, re.DOTALL):
        return f"a rule has no field {unknown[1][:LONGEST_NAME]!r}"
    if missing := re.match(r"Object missing required field `(\w+)`", said):
        return f"it has no {missing[1]}"
    if at := _AT.search(said):
        return f"{at[1]} must be {_WANTED[at[1]]}"
    return "it must be an object"
