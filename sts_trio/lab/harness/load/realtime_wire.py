"""The Realtime protocol as a light agent needs it: what a client says, and shapes of what is answered. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence


class Said(msgspec.Struct):
    """Any message of a client's."""

    type: str
    audio: bytes = b""
    event_id: str | None = None
    session: msgspec.Raw = msgspec.Raw(b"{}")
    item: dict[str, Any] = {}
    item_id: str = ""
    audio_end_ms: int = 0


class _Format(msgspec.Struct):
    type: str = "audio/pcm"
    rate: int | None = None


class _Side(msgspec.Struct):
    format: _Format = msgspec.field(default_factory=_Format)


class _Audio(msgspec.Struct):
    input: _Side = msgspec.field(default_factory=_Side)
    output: _Side = msgspec.field(default_factory=_Side)


class Session(msgspec.Struct):
    """What a light agent looks at in a session."""

    audio: _Audio = msgspec.field(default_factory=_Audio)


decode = msgspec.json.Decoder(Said).decode
decode_session = msgspec.json.Decoder(Session).decode


class Reply:
    """A response with its one message."""

    def __init__(self, id_: str, item: str) -> None:
        self.id = id_
        self.item = item
        self.words: list[str] = []
        self.ids: dict[str, Any] = {"response_id": id_, "item_id": item, "output_index": 0, "content_index": 0}

    def message(self, status: str, words: str | None = None) -> dict[str, Any]:
        """The message as an item; with `words` once they have been said."""
        content = [] if words is None else [{"type": "output_audio", "transcript": words}]
        head = {"id": self.item, "object": "realtime.item", "type": "message", "role": "assistant"}
        return {**head, "status": status, "content": content}


def response_shape(id_: str, status: str, output: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """A response as events have it."""
    done = {"usage": {"total_tokens": 30, "input_tokens": 20, "output_tokens": 10}} if status == "completed" else {}
    head = {"id": id_, "object": "realtime.response", "status": status, "status_details": None}
    return {**head, "output": output, "metadata": None, **done}
