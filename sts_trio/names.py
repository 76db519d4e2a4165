"""Looking up host names, with threads of its own for each purpose: a name that hangs starves nobody else.

A look-up is a system call in a thread, which goes on when nobody waits for it any more; the system may take half a
minute for a name whose server is mute. With trio's one limiter of 40 threads for everything, eight calls a second with
such a name (an instructions service, a webhook) take all of them within seconds, and no provider's name is found.
"""

from __future__ import annotations

import errno
import socket
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator

# Look-ups at once for one purpose, those that nobody waits for any more among them. A thread that waits costs some
# 50 KB; when all are taken, the next look-up waits for as long as its request has time.
MOST_LOOKUPS = 16


def new_lookups() -> trio.CapacityLimiter:
    """Threads for the look-ups of one purpose."""
    return trio.CapacityLimiter(MOST_LOOKUPS)


_lookups: ContextVar[trio.CapacityLimiter | None] = ContextVar("lookups", default=None)


class _Resolver(trio.abc.HostnameResolver):
    """Uses the limiter of the purpose that the task is about; without one, trio's own."""

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,  # noqa: A002 - its name there
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """See `trio.socket.getaddrinfo`. Raises: OSError; also when the system gives no thread."""
        return await _in_thread(socket.getaddrinfo, host, port, family, type, proto, flags)

    async def getnameinfo(self, sockaddr: tuple[str, int] | tuple[str, int, int, int], flags: int) -> tuple[str, str]:
        """See `trio.socket.getnameinfo`."""
        found: tuple[str, str] = await _in_thread(socket.getnameinfo, sockaddr, flags)
        return found


async def _in_thread(look_up: Any, *arguments: object) -> Any:
    try:
        return await trio.to_thread.run_sync(look_up, *arguments, abandon_on_cancel=True, limiter=_lookups.get())
    except RuntimeError as exc:  # "can't start new thread": it may be better in a moment
        raise OSError(errno.EAGAIN, f"no name can be looked up: {exc}") from exc


_RESOLVER = _Resolver()


@contextmanager
def names_for(lookups: trio.CapacityLimiter) -> Iterator[None]:
    """Look names up with the threads of `lookups` in this context, and in the tasks that it starts."""
    before = trio.socket.set_custom_hostname_resolver(_RESOLVER)  # trio's setting of this run
    if before is not None and before is not _RESOLVER:
        trio.socket.set_custom_hostname_resolver(before)  # somebody else's stays
    token = _lookups.set(lookups)
    try:
        yield
    finally:
        _lookups.reset(token)
