"""A token in a file that somebody else keeps fresh, such as one of Microsoft Entra's: read anew for each session.

Tokens last an hour or so; calls come all day. Who keeps the file fresh should write another and rename it. A file that
is empty or out of date for a moment is a lost session, which is tried again; one that is none is a wrong setting.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any

import msgspec
import trio

from sts_trio.errors import ProviderLost, ProviderRefused, ProviderTimeout

_MOST_BYTES = 16_384  # Entra's are some 2 kB; servers take no longer head
# Threads, of a disk that hangs: they are abandoned, and starve no look-up of names.
_READERS = 4


def new_readers() -> trio.CapacityLimiter:
    """Threads for the files of one provider."""
    return trio.CapacityLimiter(_READERS)


async def read_token(file: str, setting: str, until: float, now: float, readers: trio.CapacityLimiter) -> str:
    """Return the token in `file`, which `setting` names. `until`: of trio's clock; `now`: Unix time.

    Raises:
        ProviderRefused: the file cannot be read, or holds no token.
        ProviderLost: it is empty, or what it holds has expired.
        ProviderTimeout: it could not be read in time.
    """
    called = f"{setting} is {file}, which"
    try:
        with trio.move_on_at(until):
            data = await trio.to_thread.run_sync(_read, file, abandon_on_cancel=True, limiter=readers)
            return _checked(data, called, now)
    except (OSError, ValueError) as exc:  # ValueError: a name with a zero in it
        why = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        raise ProviderRefused(f"{called} cannot be read: {why}") from exc
    raise ProviderTimeout(f"{called} could not be read in time")


def _read(file: str) -> bytes:
    with Path(file).open("rb") as opened:
        return opened.read(_MOST_BYTES + 1)


def _checked(data: bytes, called: str, now: float) -> str:
    token = data.removeprefix(b"\xef\xbb\xbf").strip()
    if not token:
        raise ProviderLost(f"{called} is empty; it must hold a token")
    if len(data) > _MOST_BYTES or not token.isascii() or any(byte <= 32 or byte == 127 for byte in token):
        raise ProviderRefused(f"{called} holds no token; it must be one word, without `Bearer` and quotes")
    text = token.decode()
    if text.startswith(('"', "{")):
        raise ProviderRefused(f"{called} holds JSON; it must be the token alone (az: --query accessToken -o tsv)")
    if (ended := _expiry(text)) is not None and ended <= now:
        raise ProviderLost(f"{called} holds a token that expired {_ago(now - ended)} ago; write a new one there")
    return text


def _expiry(token: str) -> float | None:
    """When a token ends, in Unix time; None if it does not say. Only a JWT does (RFC 7519, 4.1.4)."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims: Any = msgspec.json.decode(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    ended = claims.get("exp") if isinstance(claims, dict) else None
    return float(ended) if isinstance(ended, int | float) and not isinstance(ended, bool) else None


def _ago(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
