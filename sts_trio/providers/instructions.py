"""Where an agent's instructions come from: the settings, else a URL of the operator's, else a file.

They are loaded for each call, so that an edit works with the next one, and a URL can tell calls apart
(docs/protocols/core.md 7.3).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec
import structlog
import trio

from sts_trio.errors import StsError
from sts_trio.http_client import HttpFailed
from sts_trio.providers.dial import first_line
from sts_trio.settings.parsers import shown_url

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from sts_trio.http_client import HttpReply

log = structlog.get_logger(__name__)

MOST_CHARACTERS = 100_000  # the longest prompt: some 25,000 tokens, more than a telephone agent can use
_MOST_BYTES = 4 * MOST_CHARACTERS + 3  # of UTF-8, with its mark
_FILE_SHARE = 0.2  # of the time limit is kept for a file, when a URL may use up the rest
_MOST_READERS = 4  # threads; of a disk that hangs they are abandoned, and must not starve name look-ups of theirs
_HEADER_VALUE = re.compile(r"[!-~]{1,128}")


class Get(Protocol):
    """How a URL is fetched: `http_client.HttpClient`."""

    async def get(self, url: str, *, seconds: float, headers: Mapping[str, str] | None = None) -> HttpReply:
        """Fetch `url`. Raises: HttpFailed."""
        ...


def log_failure(_: str, address: str, reason: str) -> None:
    """Log that a source gave no instructions."""
    log.warning("instructions not loaded", source=address, reason=reason)


class _Unusable(StsError):
    """A source gave no instructions; the message says why, without the source's name."""


class _Reply(msgspec.Struct):
    system: str


@dataclass(frozen=True, slots=True)
class InstructionSource:
    """The sources, in the order in which they are asked; None for one that is not set.

    `seconds` is the longest that all of them together may delay a call.
    """

    text: str | None = field(repr=False)
    url: str | None = field(repr=False)
    file: str | None
    seconds: float
    http: Get = field(repr=False)
    _readers: trio.CapacityLimiter = field(
        default_factory=lambda: trio.CapacityLimiter(_MOST_READERS), init=False, repr=False
    )

    async def load(self, uuid: str | None) -> str | None:
        """Return the instructions for the call that Core calls `uuid`; None when no source has any."""
        return (await self.find(uuid))[0]

    async def find(
        self, uuid: str | None, tell: Callable[[str, str, str], object] = log_failure
    ) -> tuple[str | None, str]:
        """Return the instructions, and their source: ``text``, ``url``, ``file`` or, if none has any, ``default``.

        Each source that fails is told (which, its address, why), and the next one asked. Raises nothing but Cancelled.
        """
        if self.text:
            return self.text, "text"
        until = trio.current_time() + self.seconds
        if self.url:
            url, url_until = self.url, until - (self.seconds * _FILE_SHARE if self.file else 0.0)
            found, reason = await self._ask(url_until, lambda: self._fetch(url, uuid, url_until))
            if found is not None:
                return found, "url"
            tell("url", shown_url(url), reason)
        if self.file:
            path = Path(self.file)
            found, reason = await self._ask(until, lambda: self._read(path))
            if found is not None:
                return found, "file"
            tell("file", str(path), reason)
        return None, "default"

    async def _ask(self, until: float, source: Callable[[], Awaitable[str]]) -> tuple[str | None, str]:
        """Return what a source has, or None and why not."""
        try:
            with trio.move_on_at(until):  # not `fail_at`: see `open_socket`
                return _checked(await source()), ""
        except (HttpFailed, _Unusable) as exc:
            return None, str(exc)
        except Exception as exc:  # whatever a library may raise: a call without its own prompt is better than none
            return None, first_line(exc)
        return None, "no answer in time"

    async def _fetch(self, url: str, uuid: str | None, until: float) -> str:
        headers = {"X-DSAI-UUID": uuid} if uuid and _HEADER_VALUE.fullmatch(uuid) else {}
        reply = await self.http.get(url, seconds=until - trio.current_time(), headers=headers)
        if reply.status != 200:
            raise _Unusable(f"it answered HTTP {reply.status}")
        try:
            return msgspec.json.decode(reply.body, type=_Reply).system
        except (msgspec.DecodeError, UnicodeError, RecursionError):  # their texts may quote the answer
            raise _Unusable('it answered with something other than {"system": "..."}') from None

    async def _read(self, path: Path) -> str:
        def read() -> bytes:
            with path.open("rb") as file:
                return file.read(_MOST_BYTES + 1)

        data = await trio.to_thread.run_sync(read, abandon_on_cancel=True, limiter=self._readers)
        if len(data) > _MOST_BYTES:
            raise _Unusable(f"it is longer than {MOST_CHARACTERS} characters")
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as exc:
            raise _Unusable(f"it is not UTF-8 (byte {exc.start})") from None


def _checked(text: str) -> str:
    text = text.strip()
    if not text:
        raise _Unusable("it is empty")
    if len(text) > MOST_CHARACTERS:
        raise _Unusable(f"it is longer than {MOST_CHARACTERS} characters")
    return text
