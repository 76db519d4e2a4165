"""The last of a call, once its tasks are over: Core hears what is left, the line drops, Core's side is closed.

Each of it takes a bounded time, whether the call was cancelled or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from sts_trio.call.config import is_real_uuid
from sts_trio.call.ending import CORE_LEAVES_SECONDS
from sts_trio.core.link import SocketClosed

if TYPE_CHECKING:
    from sts_trio.call.bridge import Bridge
    from sts_trio.call.config import Services
    from sts_trio.call.meter import CallOutcome
    from sts_trio.call.playout import Playout
    from sts_trio.core.link import CoreLink

# What is left to tell Core at the end; and its close handshake.
_LAST_WORDS_SECONDS = 2.0
# For an operator's service to take the telephone call away, before Core's side is closed.
_RELEASE_SECONDS = 3.0


async def close_call(
    core: CoreLink, bridge: Bridge, playout: Playout, services: Services, outcome: CallOutcome
) -> None:
    """Tell Core what is left, and close its side; a Core that has gone needs no close."""
    if not outcome.by_caller:
        bridge.end(outcome, trio.current_time())  # tells what has not been told yet
    with trio.move_on_after(_LAST_WORDS_SECONDS, shield=True):
        for message in playout.left_over():  # to a Core that has gone it is lost, but not to a log on the way
            await core.send(message)
    if outcome.by_caller:
        return
    leaves_by = bridge.core_leaves_by  # set: nobody of ours hangs up on them
    if leaves_by is None:
        leaves_by = await _release(bridge.call.uuid, services, outcome)
    if leaves_by is not None:
        with trio.CancelScope(deadline=leaves_by, shield=True):  # our close could hang up on a transferred caller
            while not isinstance(await core.receive(), SocketClosed):
                pass
    with trio.move_on_after(_LAST_WORDS_SECONDS, shield=True):
        await core.close(outcome.code, outcome.cause)


async def _release(uuid: str | None, services: Services, outcome: CallOutcome) -> float | None:
    """Closing Core's side may not be enough for the line to drop (docs/protocols/core.md 8): see to it.

    Returns until when Core should close first, since the caller goes on elsewhere; None if they do not.
    """
    if services.release is not None and uuid is not None and is_real_uuid(uuid):
        with trio.move_on_after(_RELEASE_SECONDS, shield=True):
            if await services.release(uuid, outcome.cause):
                return trio.current_time() + CORE_LEAVES_SECONDS
    return None
