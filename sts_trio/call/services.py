"""What a call may use of the world, beside Core."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sts_trio.call.meter import NoMeter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from sts_trio.call.meter import Meter
    from sts_trio.call.outcome import Cause
    from sts_trio.providers.base import CallInfo, OpenAgent


async def _no_instructions(_: CallInfo) -> str | None:
    """Leave the prompt to the provider's settings."""
    return None


async def _nothing(*_: object) -> None:
    """Stand for a service that the operator has not set up."""


@dataclass(frozen=True, slots=True)
class Services:
    """The way to an agent, and services of the operator's own.

    `instructions` returns the agent's prompt for a call, or None for the provider's own. `webhook` takes a URL, the
    call's id, an event's kind and what it holds. `release` sees to the telephone call with this uuid when ours is over
    for this cause: the line must drop, or go elsewhere, which it answers with true. `meter` takes what is measured.
    None of these raises, and each ends in its own time.
    """

    open_agent: OpenAgent
    instructions: Callable[[CallInfo], Awaitable[str | None]] = _no_instructions
    webhook: Callable[[str, str, str, Mapping[str, object]], Awaitable[object]] = _nothing
    release: Callable[[str, Cause], Awaitable[object]] = _nothing
    meter: Meter = field(default_factory=NoMeter)
