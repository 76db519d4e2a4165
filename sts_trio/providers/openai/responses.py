"""The service's responses: which one is under way, what it has brought, and what its end means. Pure.

A response begins with its `response.created`, or with the first that comes of it where that is missing or late. It ends
with its `response.done`, with the beginning of the next (there is one at a time), or when nothing more of it comes. One
that was cut stays cut: whatever else comes of it is not for the caller. Times in seconds.

| State (`Stage`) | What comes next |
|---|---|
| `UNDER_WAY` | `OVER`; `CUT` when the caller interrupts it, or nobody asked for it |
| `OVER` | late parts of it are still for the caller |
| `CUT` | nothing of it is |
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum, auto
from math import inf
from typing import TYPE_CHECKING

from sts_trio.providers.base import RetryKind
from sts_trio.providers.openai.dialect import describe, is_limit, may_pass
from sts_trio.providers.reading import shown

if TYPE_CHECKING:
    from sts_trio.providers.openai import wire

_REMEMBERED = 64  # responses; what still comes of one comes within a second
# Who has begun to say something, and sends no more of it, has forgotten to tell its end: the parts of a response come
# faster than real time.
_QUIET_SECONDS = 5.0
_TRY_AGAIN = re.compile(
    r"try again in (?=\d)(?:(\d+) ?m(?:in(?:ute)?s?)?(?![a-z]) ?)?(?:(\d+(?:\.\d+)?) ?(ms|s))?", re.IGNORECASE
)
_LOOKED_AT = 1000  # characters of what an error says


class Stage(Enum):
    """How far a response has come; see the table above."""

    UNDER_WAY = auto()
    OVER = auto()
    CUT = auto()


class How(Enum):
    """How a response ended that need not be asked for again."""

    SPOKE = auto()
    ASKED = auto()  # for functions; their answers bring the next response
    CUT = auto()
    REPLACED = auto()  # nothing came of it, and the next has begun already


@dataclass(frozen=True, slots=True)
class Useless:
    """A response of which the caller hears nothing, or not all. `pause`: wait so long before the next.

    `cause` is the service's own error, if there was one; with `hopeless` asking again cannot help.
    """

    kind: RetryKind
    about: str
    pause: float | None = None
    cause: wire.Cause | None = None
    hopeless: bool = False


@dataclass(slots=True, eq=False)
class Answer:
    """One response as far as it is known. `named`: `key` is its own id, and not that of an item of it.

    `unheard`: items of it whose voice came when nobody was to hear it any more.
    """

    key: str
    sign_at: float  # when something of it came last
    named: bool = False
    announced: bool = False  # `response.created` has come
    stage: Stage = Stage.UNDER_WAY
    voiced: bool = False
    written: dict[str, None] = field(default_factory=dict)  # items that are text
    asked: bool = False  # for functions
    done: bool = False  # its end has come
    over_caller: bool = False  # it began while the caller spoke, and none of ours was under way
    unheard: list[str] = field(default_factory=list)

    @property
    def is_nameless(self) -> bool:
        """Whether it is under way, and its id not known."""
        return self.stage is Stage.UNDER_WAY and not self.named

    @property
    def begun(self) -> bool:
        """Whether more of it has come than that it begins."""
        return self.voiced or bool(self.written) or self.asked

    def judge(self, done: wire.Response | None) -> How | Useless:
        """What its end means. `done` is what the service says of it; None if it says nothing."""
        status = done.status if done else None
        if self.over_caller and status in ("completed", "incomplete"):
            return Useless(RetryKind.UNHEARD, "it began before the caller's turn was said to be over")
        if self.stage is Stage.CUT:
            return How.CUT
        if self.asked:
            return How.ASKED
        reason = done.reason if done else ""
        if done is not None and status == "failed":
            return _failed(done.cause, reason)
        if status == "cancelled" and reason == "turn_detected":
            return How.CUT
        if self.voiced:
            return How.SPOKE
        if status == "cancelled":
            return Useless(RetryKind.FAILED, f"it was cancelled ({reason or 'no reason given'})")
        if status == "incomplete":
            kind = RetryKind.FILTERED if reason == "content_filter" else RetryKind.INCOMPLETE
            return Useless(kind, f"it is incomplete ({reason or 'no reason given'})")
        if self.written:
            return Useless(RetryKind.TEXT, "it was written, and not spoken")
        return Useless(RetryKind.EMPTY, "it was empty")


def _failed(cause: wire.Cause, reason: str) -> Useless:
    limit = is_limit(cause)
    about = describe(cause) if (cause.code, cause.type, cause.message) != (None, None, None) else reason
    kind = RetryKind.LIMIT if limit else RetryKind.FAILED
    return Useless(kind, about or "no details given", told_pause(cause), cause, hopeless=not may_pass(cause))


def told_pause(cause: wire.Cause) -> float | None:
    """How many seconds the service wants to be left alone for; None if it does not say."""
    found = _TRY_AGAIN.search(shown(cause.message, _LOOKED_AT))
    if found is None:
        return None
    minutes, number, unit = found.groups()
    seconds = float(number or 0) / (1000 if unit and unit.lower() == "ms" else 1)
    return 60.0 * int(minutes or 0) + seconds


class Responses:
    """`current` is the one under way, also one that was cut. `patience`: who has begun and brings nothing is stuck."""

    def __init__(self, patience: float) -> None:
        self.current: Answer | None = None
        self._patience = patience
        self._known: dict[str, Answer] = {}

    @property
    def deadline(self) -> float:
        """When the one under way is to be taken for over; infinity if there is none."""
        if self.current is None:
            return inf
        waits = self.current.begun or self.current.stage is Stage.CUT
        return self.current.sign_at + (_QUIET_SECONDS if waits else self._patience)

    def find(self, key: str) -> Answer | None:
        """The response of this key; of no key, the one under way."""
        return self._known.get(key) if key else self.current

    def begin(self, key: str, now: float, *, named: bool) -> Answer:
        """Another response has begun."""
        self._known.pop(key, None)
        answer = self.current = self._known[key] = Answer(key, now, named)
        if len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]
        return answer

    def name(self, answer: Answer, key: str) -> None:
        """It has an id after all."""
        self._known[key] = answer
        answer.key, answer.named, answer.announced = key, True, True

    def of_done(self, key: str) -> Answer | None:
        """The response that a `response.done` is about. One whose id was never said can only be the one under way."""
        current = self.current
        return current if current is not None and not current.named and key not in self._known else self.find(key)

    def over(self, answer: Answer) -> None:
        """It is over."""
        if answer.stage is Stage.UNDER_WAY:
            answer.stage = Stage.OVER
        if answer is self.current:
            self.current = None
