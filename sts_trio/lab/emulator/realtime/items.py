"""The items of a conversation, and what a client may do to them. Nothing waits.

Refusals are those of the real service, as far as they are known (docs/protocols/realtime.md 5.1).
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from sts_trio.lab.emulator.evi.settings import Context
from sts_trio.lab.emulator.evi.wire import ToolCall, ToolResponse
from sts_trio.lab.emulator.realtime.events import added, deleted, event, truncated
from sts_trio.lab.emulator.realtime.usage import Meter
from sts_trio.lab.emulator.realtime.wire import ClientError, refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sts_trio.lab.emulator.chat import Action
    from sts_trio.lab.emulator.realtime.wire import ItemCreate, ItemDelete, ItemRetrieve, Truncate

KEPT_TEXTS = 100
KEPT_ITEMS = 10_000  # of a session: more than an hour has
LONGEST_ID = 32  # characters, of an item's and of a call's
LONGEST_TEXT = 256_000  # characters of one part
CALL_ID = re.compile(r"[a-zA-Z0-9_-]+")


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["input_text", "output_text"]
    text: str


class _Item(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", forbid_unknown_fields=True):
    id: str | None = None
    object: Literal["realtime.item"] | None = None
    status: Literal["completed", "incomplete", "in_progress"] | None = None


class _Message(_Item, frozen=True, tag="message"):
    role: Literal["user", "assistant", "system"]
    content: list[_Part]


class _Forced(_Item, frozen=True, tag="force_message"):
    role: Literal["assistant"]
    content: list[_Part]
    interruptible: bool = True


class _Call(_Item, frozen=True, tag="function_call"):
    name: str
    arguments: str
    call_id: str | None = None


class _Output(_Item, frozen=True, tag="function_call_output"):
    call_id: str
    output: str


@dataclass(frozen=True, slots=True)
class Memory:
    """What is left of a conversation when its session ends: its items, and the answer that is still due, if any."""

    items: tuple[dict[str, Any], ...] = ()
    unanswered: str | None = None


class Items:
    """The conversation, in order, and what the client made of it. `lengths`: ms of voice, by item of the agent's.

    `seeded`: items of an earlier session, told at the beginning of this one. `cuts`: by item, the ms that truncation
    left, or None when it was deleted. `context`: the newest system message. `forces`: the service speaks a message as
    it stands (xAI). `meter` counts its tokens.
    """

    def __init__(self, *, forces: bool) -> None:
        self.seeded: list[dict[str, Any]] = []
        self.user_inputs: deque[str] = deque(maxlen=KEPT_TEXTS)
        self.answers: deque[ToolResponse] = deque(maxlen=KEPT_TEXTS)
        self.cuts: dict[str, int | None] = {}
        self.context: Context | None = None
        self.lengths: dict[str, float] = {}
        self.meter = Meter()
        self._forces = forces
        self._kinds: dict[str, str] = {}  # by id, in the order of the conversation
        self._calls: dict[str, None] = {}  # ids of calls that may be answered
        self._awaited: dict[str, ToolCall] = {}  # those of them that have not been answered
        self._typed: str | None = None
        self._outputs: list[ToolResponse] = []
        self._left_open: str | None = None  # what an earlier session had not answered
        self._history: deque[dict[str, Any]] = deque(maxlen=KEPT_TEXTS)

    # What the service does.

    def remember(self, memory: Memory) -> None:
        """Go on with an earlier conversation."""
        for item in memory.items:
            self.note(item)
            if item["type"] == "function_call":
                self.open_calls([item["call_id"]])
        self._left_open = memory.unanswered

    def memory(self, asked: str | None) -> Memory:
        """Return what is left of it; `asked` is what the agent was about to answer."""
        outputs = " ".join(output.content for output in self._outputs)
        return Memory(tuple(self._history), outputs or self._typed or self._left_open or asked)

    def record(self, item: dict[str, Any]) -> None:
        """An item is complete, and can be told again."""
        self._history.append(item)

    def note(self, item: dict[str, Any]) -> str | None:
        """A complete item is the last one now; return the id of the one before it."""
        self.record(item)
        kind = item["type"] if item["type"] != "message" else "text"
        return self.append(item["id"], str(kind))

    def append(self, id_: str, kind: str) -> str | None:
        """An item is the last one now; return the id of the one before it."""
        before = next(reversed(self._kinds), None)
        self._kinds[id_] = kind
        if len(self._kinds) > KEPT_ITEMS:
            oldest = next(iter(self._kinds))
            del self._kinds[oldest]
            self.lengths.pop(oldest, None)
        return before

    def speak(self, id_: str, seconds: float) -> None:
        """An item of the agent's has got more voice."""
        self.lengths[id_] = self.lengths.get(id_, 0.0) + seconds * 1000
        self.meter.say(seconds=seconds)

    def open_calls(self, ids: Iterable[str], call: ToolCall | None = None) -> None:
        """The response that asked for this function, perhaps more than once, is over: it may be answered."""
        for id_ in ids:
            self._calls[id_] = None
            if call is not None:
                self._awaited[id_] = call

    def take_awaited(self) -> ToolCall | None:
        """Return a call that has not been answered, and is to be made again: the model knows no output of it."""
        return self._awaited.pop(next(iter(self._awaited)), None) if self._awaited else None

    def take_unanswered(self) -> tuple[str | None, list[ToolResponse]]:
        """Return what was typed last, and the outputs of functions, as far as no response has begun since."""
        unanswered, self._typed, self._outputs = (self._typed, self._outputs), None, []
        return unanswered

    def take_left_open(self) -> str | None:
        """Return how to answer what an earlier session had not answered, once."""
        told, self._left_open = self._left_open, None
        return told

    # What the client does.

    def add(self, create: ItemCreate, new_id: str) -> list[Action]:
        """Take what the client adds; `new_id` is for an item that has no id.

        Raises:
            ClientError: it is refused.
        """
        item = self._checked(create)
        fields = {"object": "realtime.item", "status": "completed", **create.item, "id": item.id or new_id}
        self._check_ids(create, item)
        match item:
            case _ if str(item.id).startswith("seed_"):
                self._seed(item, fields)
            case _Message(role="user"):
                self._typed = text_of(create.item)
                self.user_inputs.append(self._typed)
            case _Message(role="system"):
                self.context = Context(text_of(create.item), "persistent")
            case _Output():
                answer = ToolResponse(tool_call_id=item.call_id, content=item.output)
                self._outputs.append(answer)
                self.answers.append(answer)
                self._awaited.pop(item.call_id, None)
            case _Call(call_id=call_id):
                self.open_calls([call_id] if call_id else ())
            case _:
                pass
        self.meter.read(text_of(create.item) if isinstance(item, _Message) else str(create.item))
        last = self.note(fields)
        place = create.previous_item_id
        return [*added(fields, last if place is None else None if place == "root" else place)]

    def delete(self, message: ItemDelete) -> list[Action]:
        """Take an item out. Raises ClientError where there is none."""
        self._find(message.item_id, "delete", "deleting", message.event_id)
        del self._kinds[message.item_id]
        if self.lengths.pop(message.item_id, None) is not None:
            self.cuts[message.item_id] = None
        return [deleted(message.item_id)]

    def retrieve(self, message: ItemRetrieve) -> list[Action]:
        """Tell an item. Raises ClientError where there is none."""
        kind = self._find(message.item_id, "retrieve", "retrieving", message.event_id)
        item = {"id": message.item_id, "object": "realtime.item", "status": "completed"}
        shape = "message" if kind in ("voice", "text", "caller") else kind
        return [event("conversation.item.retrieved", item={**item, "type": shape, "role": "user", "content": []})]

    def truncate(self, cut: Truncate) -> list[Action]:
        """Forget the end of an item's voice. Raises ClientError where there is none, or not as much."""
        kind = self._find(cut.item_id, "truncate", "truncating", cut.event_id)
        length = self.lengths.get(cut.item_id, 0.0)
        if kind != "voice" or not length:
            text = "Only model output audio messages can be truncated"
            raise ClientError("unsupported_content_type", text, cut.event_id)
        if cut.content_index != 0:
            raise ClientError("invalid_value", "There is no such part.", cut.event_id, "content_index")
        if cut.audio_end_ms < 0:
            text = "Expected a value >= 0, but got one below it instead."
            raise ClientError("integer_below_min_value", text, cut.event_id, "audio_end_ms")
        if cut.audio_end_ms > length:
            text = f"Audio content of {length:.0f}ms is already shorter than {cut.audio_end_ms}ms"
            raise ClientError("invalid_value", text, cut.event_id, "audio_end_ms")
        self.cuts[cut.item_id] = cut.audio_end_ms
        self.lengths[cut.item_id] = cut.audio_end_ms
        return [truncated(cut.item_id, cut.audio_end_ms)]

    # Inside.

    def _seed(self, item: _Message | _Forced | _Call | _Output, fields: dict[str, Any]) -> None:
        """Take an item of an earlier session: what it ended with may be still to be answered, or to be gone on with."""
        self.seeded.append(fields)
        match item:
            case _Message(role="user"):
                self._left_open = f"You said: {text_of(fields)}"
            case _Message(role="assistant"):
                self._left_open = "As I was saying." if text_of(fields).endswith("…") else None
            case _Output(output=output):
                self._left_open = output
            case _Call(call_id=str(call_id)):
                self.open_calls([call_id])
            case _:
                pass

    def _find(self, id_: str, what: str, doing: str, event_id: str | None) -> str:
        if id_ not in self._kinds:
            text = f"Error {doing} item: the item with id '{id_}' does not exist."
            raise ClientError(f"item_{what}_invalid_item_id", text, event_id, "item_id")
        return self._kinds[id_]

    def _checked(self, create: ItemCreate) -> _Message | _Forced | _Call | _Output:
        try:
            item: _Message | _Forced | _Call | _Output = msgspec.convert(
                create.item, _Message | _Forced | _Call | _Output
            )
        except msgspec.ValidationError as exc:
            raise refusal(exc, create.event_id, "item") from exc
        if isinstance(item, _Forced) and not self._forces:
            raise ClientError("invalid_value", "Invalid value: 'force_message'.", create.event_id, "item.type")
        if not isinstance(item, _Message):
            return item
        kind = "output_text" if item.role == "assistant" else "input_text"
        for index, part in enumerate(item.content):
            place = f"item.content[{index}]"
            if part.type != kind:
                text = f"Invalid value: '{part.type}'. Value must be '{kind}'."
                raise ClientError("invalid_value", text, create.event_id, f"{place}.type")
            _check_length(part.text, LONGEST_TEXT, create.event_id, f"{place}.text")
        return item

    def _check_ids(self, create: ItemCreate, item: _Message | _Forced | _Call | _Output) -> None:
        if item.id is not None:
            _check_length(item.id, LONGEST_ID, create.event_id, "item.id")
            if item.id in self._kinds:
                text = f"Error adding item: an item with id '{item.id}' already exists."
                raise ClientError("item_create_duplicate_item_id", text, create.event_id, "item.id")
        before = create.previous_item_id
        if before not in (None, "root") and before not in self._kinds:
            text = f"Error adding item: the previous item with id '{before}' does not exist."
            raise ClientError("item_create_invalid_previous_item_id", text, create.event_id, "previous_item_id")
        if isinstance(item, _Call | _Output) and item.call_id is not None:
            _check_length(item.call_id, LONGEST_ID, create.event_id, "item.call_id")
            if not CALL_ID.fullmatch(item.call_id):
                text = "Invalid 'item.call_id': it may have letters, digits, '_' and '-'."
                raise ClientError("invalid_value", text, create.event_id, "item.call_id")
        if isinstance(item, _Output) and item.call_id not in self._calls:
            text = f"Tool call ID '{item.call_id}' not found in conversation."
            raise ClientError("invalid_tool_call_id", text, create.event_id)


def text_of(item: dict[str, Any]) -> str:
    """Return an item's text, whatever its parts are."""
    return "".join(str(part.get("text", "")) for part in item.get("content", ()))


def _check_length(text: str, longest: int, event_id: str | None, place: str) -> None:
    if len(text) > longest:
        told = f"string too long. Expected a string with maximum length {longest}, but got one of {len(text)} instead."
        raise ClientError("string_above_max_length", f"Invalid '{place}': {told}", event_id, place)
