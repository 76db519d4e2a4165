"""The Realtime protocol's events that are no part of a response, as the emulator tells them."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from sts_trio.lab.emulator.wire import Event

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np

    from sts_trio.lab.emulator.actions import Action


def event(kind: str, **fields: Any) -> Event:
    """Make one."""
    return Event({"type": kind, **fields})


def error(
    code: str,
    message: str,
    *,
    kind: str = "invalid_request_error",
    event_id: str | None = None,
    param: str | None = None,
) -> Event:
    """Make an `error`; `event_id` is that of the client's message which it is about."""
    cause = {"type": kind, "code": code, "message": message, "param": param, "event_id": event_id}
    return event("error", error=cause)


def added(item: dict[str, Any]) -> list[Action]:
    """Tell of an item that is in the conversation now, and complete."""
    kinds: Iterable[str] = ("conversation.item.added", "conversation.item.done")
    return [event(kind, previous_item_id=None, item=item) for kind in kinds]


def turn_over(item: str, end_ms: int) -> list[Action]:
    """Tell that the caller has stopped speaking, and of the item that his turn has become."""
    content = [{"type": "input_audio", "transcript": None}]
    message = {"id": item, "object": "realtime.item", "type": "message", "role": "user", "status": "completed"}
    return [
        event("input_audio_buffer.speech_stopped", audio_end_ms=end_ms, item_id=item),
        event("input_audio_buffer.committed", item_id=item, previous_item_id=None),
        *added({**message, "content": content}),
    ]


def new_id(rng: np.random.Generator) -> str:
    """Make the part of an id that is after its kind."""
    return uuid.UUID(bytes=rng.bytes(16), version=4).hex[:20]
