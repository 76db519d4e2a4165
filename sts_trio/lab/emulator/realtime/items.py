"""The items that a client adds to a conversation, deletes and truncates. Nothing waits."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from sts_trio.lab.emulator.evi.settings import Context
from sts_trio.lab.emulator.evi.wire import ToolResponse
from sts_trio.lab.emulator.realtime.events import added, deleted, truncated
from sts_trio.lab.emulator.realtime.wire import ClientError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sts_trio.lab.emulator.chat import Action
    from sts_trio.lab.emulator.realtime.wire import ItemCreate, ItemDelete, Truncate

KEPT_TEXTS = 100


class Items:
    """What the client made of the conversation. `lengths`: ms of voice that were sent of each item of the agent.

    `seeded`: items of an earlier session, told at the beginning of this one. `cuts`: by item, the ms that truncation
    left, or None when it was deleted. `context`: the newest system message.
    """

    def __init__(self, lengths: Mapping[str, float]) -> None:
        self.seeded: list[dict[str, Any]] = []
        self.user_inputs: deque[str] = deque(maxlen=KEPT_TEXTS)
        self.answers: deque[ToolResponse] = deque(maxlen=KEPT_TEXTS)
        self.cuts: dict[str, int | None] = {}
        self.context: Context | None = None
        self._lengths = lengths
        self._typed: str | None = None
        self._output: ToolResponse | None = None

    def take_unanswered(self) -> tuple[str | None, ToolResponse | None]:
        """Return what was typed last, and the output of a function that came last, if it is still to be answered."""
        unanswered, self._typed, self._output = (self._typed, self._output), None, None
        return unanswered

    def add(self, create: ItemCreate, item: dict[str, Any]) -> list[Action]:
        """Take what the client adds: `item` with an id.

        Raises:
            ClientError: nothing can be made of it.
        """
        match item.get("type"), item.get("role"):
            case kind, role if str(item["id"]).startswith("seed_"):
                self.seeded.append(item)
                if (kind, role) != ("message", "system"):
                    self._typed = text_of(item) if role == "user" else None
            case "message", "user":
                self._typed = text_of(item)
                self.user_inputs.append(self._typed)
            case "message", "system":
                self.context = Context(text_of(item), "persistent")
            case "function_call_output", _:
                self._output = ToolResponse(tool_call_id=str(item["call_id"]), content=str(item["output"]))
                self.answers.append(self._output)
            case kind:
                raise ClientError("invalid_value", f"No item can be made of {kind}.", create.event_id, "item.type")
        return [*added({"object": "realtime.item", "status": "completed", **item})]

    def delete(self, message: ItemDelete) -> list[Action]:
        """Take an item of the agent's out. Raises ClientError where there is none."""
        if message.item_id not in self._lengths:
            text = f"There is no item {message.item_id}."
            raise ClientError("item_delete_invalid_item_id", text, message.event_id)
        self.cuts[message.item_id] = None
        return [deleted(message.item_id)]

    def truncate(self, cut: Truncate) -> list[Action]:
        """Forget the end of an item's voice. Raises ClientError where there is none, or not as much."""
        length = self._lengths.get(cut.item_id)
        if length is None:
            raise ClientError("item_truncate_invalid_item_id", f"There is no item {cut.item_id}.", cut.event_id)
        if cut.audio_end_ms > length:
            text = f"Audio content of {length:.0f}ms is already shorter than {cut.audio_end_ms}ms"
            raise ClientError("invalid_value", text, cut.event_id, "audio_end_ms")
        self.cuts[cut.item_id] = cut.audio_end_ms
        return [truncated(cut.item_id, cut.audio_end_ms)]


def text_of(item: dict[str, Any]) -> str:
    """Return an item's text, whatever its parts are."""
    return "".join(str(part.get("text", "")) for part in item.get("content", ()))
