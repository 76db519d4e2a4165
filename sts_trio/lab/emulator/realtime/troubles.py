"""The bad days of one session: which are in force, and what they make of its responses and its events. Pure.

Times in seconds. `steps` has them; `agent` and `chat` ask.
"""

from __future__ import annotations

import heapq
import itertools
import math
from typing import TYPE_CHECKING, Any

from sts_trio.lab.emulator.evi.wire import AssistantEnd, AssistantMessage, AudioOutput, Ended, ToolCall, Written
from sts_trio.lab.emulator.realtime.events import new_id, transcribed, transcription_failed
from sts_trio.lab.emulator.realtime.steps import (
    AsksForTool,
    LateCancel,
    LateDone,
    LateEvents,
    MissingEvents,
    MoreCalls,
    OddFields,
    OddResponses,
    RefusedTranscription,
    SlowAnswers,
    Transcripts,
)

if TYPE_CHECKING:
    import numpy as np

    from sts_trio.lab.emulator.chat import Item, Turn
    from sts_trio.lab.emulator.evi.wire import Event
    from sts_trio.lab.emulator.realtime.steps import RealtimeStep

Fields = dict[str, Any]

SERVER_ERROR = {"type": "server_error", "code": "server_error", "message": "The server had an error."}
LIMITED_SECONDS = 5.55  # of a rate limit; until then nothing else is answered either
ENDS = {
    "failed": Ended("failed", cause=SERVER_ERROR),
    "incomplete": Ended("incomplete", "max_output_tokens"),
    "filtered": Ended("incomplete", "content_filter"),
    "empty": Ended("completed"),
}
WRITTEN_SECONDS = 0.3  # the model that writes words down is another, and later than the answer
LATE_WORDS = 4.0
OWN_IDS = ("resp_", "item_", "call_", "conv_")  # that the service gives; the client's are left alone
IDS = {"id", "item_id", "response_id", "previous_item_id", "call_id", "conversation_id"}


class Troubles:
    """What is in force. All is well without a step.

    `answer_seconds`, `done_seconds`, `cancel_seconds`: how late these are. `calls`: how often a function is asked for.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.answer_seconds = self.done_seconds = self.cancel_seconds = 0.0
        self.calls = 1
        self.refuses_transcription = False
        self._rng = rng
        self._words = "as ever"
        self._limited_until = -math.inf
        self._responses: list[tuple[OddResponses | AsksForTool, list[int]]] = []  # with how many are left of each
        self._events: list[tuple[MissingEvents | LateEvents, list[int]]] = []
        self._fields: set[str] = set()
        self._numbers: dict[str, int] = {}
        self._held: list[tuple[float, int, str]] = []
        self._order = itertools.count()

    def add(self, step: RealtimeStep) -> None:
        """Bring one into force."""
        match step:
            case OddResponses(count=count) | AsksForTool(count=count):
                self._responses.append((step, [count]))
            case MissingEvents(count=count) | LateEvents(count=count):
                self._events.append((step, [count]))
            case SlowAnswers(seconds=seconds):
                self.answer_seconds = seconds
            case LateDone(seconds=seconds):
                self.done_seconds = seconds
            case LateCancel(seconds=seconds):
                self.cancel_seconds = seconds
            case MoreCalls(count=count):
                self.calls = count
            case Transcripts(how=how):
                self._words = how
            case RefusedTranscription():
                self.refuses_transcription = True
            case OddFields(how=how):
                self._fields.add(how)

    # Responses.

    def of_response(self, turn: Turn, now: float, *, asked: bool) -> Turn | None:
        """Return what becomes of a response; None for no event at all. `asked`: by the client."""
        if now < self._limited_until:
            return single(_rate_limited(self._limited_until - now))
        for step, left in self._responses:
            if left[0] and (asked or isinstance(step, AsksForTool) or not step.asked):
                left[0] -= 1
                if isinstance(step, AsksForTool):
                    return single(self._call(step))
                if step.how == "unanswered":
                    return None
                if step.how == "rate_limited":
                    self._limited_until = now + LIMITED_SECONDS
                    return _ended(turn, _rate_limited(LIMITED_SECONDS), step.said)
                said = 0.0 if step.how == "empty" else step.said
                turn = self._written(turn) if step.how == "text" else _ended(turn, ENDS[step.how], said)
                break
        return turn

    def _call(self, step: AsksForTool) -> ToolCall:
        return ToolCall(
            name=step.tool,
            parameters=step.arguments,
            tool_call_id=f"call_{new_id(self._rng)}",
            tool_type="function",
            response_required=True,
        )

    def _written(self, turn: Turn) -> Turn:
        words = next((item.message.content for _, item in turn if isinstance(item, AssistantMessage)), None)
        yield 0.0, Written(new_id(self._rng), words or "")
        yield 0.0, AssistantEnd()

    # What the caller said.

    def words_begin(self, item: str) -> list[tuple[float, Event]]:
        """What is written down while the caller speaks, each with its seconds from now."""
        if self._words != "growing":
            return []
        return [(at, transcribed(item, words)) for at, words in ((0.1, "I"), (0.2, "I spoke"), (0.3, "I spoke for"))]

    def words_early(self, item: str, words: str) -> list[Event]:
        """What is written down before the turn is committed."""
        return [transcribed(item, words)] if self._words == "early" else []

    def words_end(self, item: str, words: str) -> list[tuple[float, Event]]:
        """What is written down when the caller has spoken, each with its seconds from now."""
        whole = (WRITTEN_SECONDS, transcribed(item, words))
        match self._words:
            case "growing":
                grown = f"I spoke for {words}"
                return [(0.1, transcribed(item, grown.rpartition(" ")[0])), (WRITTEN_SECONDS, transcribed(item, grown))]
            case "twice":
                return [whole, (2 * WRITTEN_SECONDS, transcribed(item, words))]
            case "untrimmed":
                return [(WRITTEN_SECONDS, transcribed(item, f" \t{words}\r\n "))]
            case "blank":
                return [(WRITTEN_SECONDS, transcribed(item, " \n"))]
            case "late":
                return [(LATE_WORDS, transcribed(item, words))]
            case "failed":
                return [(WRITTEN_SECONDS, transcription_failed(item))]
            case "missing" | "early":
                return []
            case _:
                return [whole]

    # Events.

    def changed(self, fields: Fields) -> Fields:
        """Return what an event is told as."""
        if "usage_floats" in self._fields and isinstance(response := fields.get("response"), dict):
            fields = {**fields, "response": {**response, "usage": _halves(response.get("usage"))}}
        if "status_details_text" in self._fields and isinstance(response := fields.get("response"), dict):
            fields = {**fields, "response": {**response, "status_details": _as_text(response.get("status_details"))}}
        if "ids_numbers" in self._fields:
            fields = self._numbered(fields)
        return fields

    def real_id(self, id_: str) -> str:
        """Return the id that a client means, who may have been told a number."""
        return next((known for known, number in self._numbers.items() if str(number) == id_), id_)

    def lateness(self, kind: str) -> float | None:
        """Return how late the next event of a type is; None if it does not come."""
        for step, left in self._events:
            if step.event == kind and left[0]:
                left[0] -= 1
                return step.by if isinstance(step, LateEvents) else None
        return 0.0

    def hold(self, text: str, due: float) -> None:
        """Keep a late event, as it is to be sent."""
        heapq.heappush(self._held, (due, next(self._order), text))

    @property
    def due(self) -> float:
        """When `release` has something."""
        return self._held[0][0] if self._held else math.inf

    def release(self, now: float) -> list[str]:
        """Return the late events that are due."""
        texts: list[str] = []
        while self.due <= now:
            texts.append(heapq.heappop(self._held)[2])
        return texts

    def _numbered(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._numbered(each) for each in value]
        if not isinstance(value, dict):
            return value
        return {
            key: self._numbers.setdefault(each, 1000 + len(self._numbers))
            if key in IDS and isinstance(each, str) and each.startswith(OWN_IDS)
            else self._numbered(each)
            for key, each in value.items()
        }


def _ended(turn: Turn, end: Ended, seconds: float) -> Turn:
    """The beginning of a response, as long as it is, and its end."""
    last = 0.0
    if seconds:
        for at, item in turn:
            last = at
            if at >= seconds or not isinstance(item, AssistantMessage | AudioOutput):
                break
            yield at, item
    yield last, end


def _rate_limited(seconds: float) -> Ended:
    used = "Rate limit reached for gpt-realtime on tokens per min (TPM): Limit 40000, Used 39127, Requested 4573."
    text = f"{used} Please try again in {seconds:.2f}s."
    kind = "rate_limit_exceeded"
    return Ended("failed", cause={"type": kind, "code": kind, "message": text})


def single(item: Item) -> Turn:
    """A response of one item."""
    yield 0.0, item


def _halves(usage: Any) -> Any:
    if isinstance(usage, dict):
        return {key: _halves(each) for key, each in usage.items()}
    return usage + 0.5 if isinstance(usage, int) else usage


def _as_text(details: Any) -> str:
    cause = details.get("error") if isinstance(details, dict) else None
    told = (
        cause.get("message") if isinstance(cause, dict) else details.get("reason") if isinstance(details, dict) else ""
    )
    return str(told or "")
