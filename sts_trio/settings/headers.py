"""Headers that an operator adds to the upgrade, and the name of the one that carries the key. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from sts_trio.settings.parsers import HiddenValueError, Secret

MOST_HEADERS = 16
_LONGEST_HEADERS = 6000  # characters of all of them: servers take 8 kB for the whole head of a request
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")  # a token (RFC 9110, 5.6.2)
# The handshake's own (RFC 6455, 4.1), what frames a request (RFC 9112), and what turns the general release off.
_RESERVED = {
    *("host", "connection", "upgrade", "content-length", "transfer-encoding", "te", "trailer", "expect"),
    *("keep-alive", "proxy-connection", "http2-settings", "openai-beta"),
}
_RESERVED_PREFIX = "sec-websocket-"


@dataclass(frozen=True, slots=True)
class SecretHeaders:
    """Headers whose values show as stars; `reveal` gives them by name."""

    pairs: tuple[tuple[str, Secret], ...] = ()

    def __str__(self) -> str:
        return ", ".join(f"{name}: ***" for name, _ in self.pairs)

    def reveal(self) -> dict[str, str]:
        """Return the headers themselves."""
        return {name: value.reveal() for name, value in self.pairs}

    def secrets(self) -> list[str]:
        """Return the values, and what stands behind a scheme in one, as in ``Bearer abc``."""
        values = [value.reveal() for _, value in self.pairs]
        return [*values, *(value.rpartition(" ")[2] for value in values if " " in value)]


def key_header(value: str) -> str:
    """Take the name of the header that a key goes into; ``auto`` and ``bearer`` are words of ours, in any case."""
    if value.lower() in ("auto", "bearer", "authorization"):
        return value.lower().replace("authorization", "bearer")
    if not _HEADER_NAME.fullmatch(value) or _is_reserved(value):
        raise ValueError("auto, bearer, or the name of a header such as api-key")
    return value


def headers(value: str) -> SecretHeaders:
    """Take headers as a JSON object of names and texts. None may be the handshake's own, or break out of its line."""
    pairs = _json_pairs(value)
    if pairs is None:
        raise HiddenValueError('a JSON object of names and texts, such as {"X-Tenant": "clinic"}')
    names = [name.lower() for name, _ in pairs]
    if len(pairs) > MOST_HEADERS or sum(len(name) + len(text) for name, text in pairs) > _LONGEST_HEADERS:
        raise HiddenValueError(f"at most {MOST_HEADERS} headers, of at most {_LONGEST_HEADERS} characters together")
    if len(set(names)) < len(names) or not all(_HEADER_NAME.fullmatch(name) for name in names):
        raise HiddenValueError("headers whose names are words without blanks, each there once")
    if taken := [name for name in names if _is_reserved(name)]:
        raise HiddenValueError(f"headers beside the connection's own; {taken[0]} is not for you to set")
    if not all(text.isascii() and text.isprintable() and text == text.strip() and text for _, text in pairs):
        raise HiddenValueError("headers whose values are printable ASCII on one line, without blanks at the ends")
    return SecretHeaders(tuple((name, Secret(text)) for name, text in pairs))


def _json_pairs(value: str) -> list[tuple[str, str]] | None:
    """The members of a JSON object of texts, repeated ones as well; None if it is something else."""
    try:
        found = json.loads(value, object_pairs_hook=tuple)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, tuple) or not all(isinstance(text, str) for _, text in found):
        return None
    return list(found)


def _is_reserved(name: str) -> bool:
    return name.lower() in _RESERVED or name.lower().startswith(_RESERVED_PREFIX)
