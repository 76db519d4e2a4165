"""The end of a call on Core's side: last words, the telephone line, the close."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from sts_trio.call.config import is_real_uuid
from sts_trio.call.ending import CORE_LEAVES_SECONDS
from sts_trio.core.link import SocketClosed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sts_trio.call.outcome import CallOutcome
    from sts_trio.call.services import Services
    from sts_trio.core.link import CoreLink
    from sts_trio.core.wire import ToCore

# What is left to tell Core at the end, with the close handshake.
_LAST_WORDS_SECONDS = 2.0
# For an operator's service to take the telephone call away, before Core's side is closed.
_RELEASE_SECONDS = 3.0


async def close_call(
    core: CoreLink, services: Services, uuid: str | None, outcome: CallOutcome, last_words: Iterable[ToCore]
) -> None:
    """Tell Core what is left, and close its side, each in bounded time, cancelled or not."""
    with trio.move_on_after(_LAST_WORDS_SECONDS, shield=True):
        for message in last_words:  # to a Core that has gone it is lost, but not to a log on the way
            await core.send(message)
    if outcome.by_caller:
        return
    if await _release(services, uuid, outcome):
        with trio.move_on_after(CORE_LEAVES_SECONDS, shield=True):  # our close could hang up who is on his way
            while not isinstance(await core.receive(), SocketClosed):
                pass
    with trio.move_on_after(_LAST_WORDS_SECONDS, shield=True):
        await core.close(outcome.code, outcome.cause)


async def _release(services: Services, uuid: str | None, outcome: CallOutcome) -> bool:
    """Closing Core's side may not be enough for the line to drop (docs/protocols/core.md 8). True: it goes on."""
    if uuid is not None and is_real_uuid(uuid):
        with trio.move_on_after(_RELEASE_SECONDS, shield=True):
            return bool(await services.release(uuid, outcome.cause))
    return False
