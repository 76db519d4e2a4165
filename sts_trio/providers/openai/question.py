"""A question that waits for an answer of the agent, and a request for one; `questions` holds those of a session. Pure.

| State (`Stage`) | What it waits for | What comes next |
|---|---|---|
| `WAITS` | the floor: no response or request under way, the caller silent | `ASKED`; `ANSWERING` |
| `ASKED` | a response, to our request or the service's own to a turn | `ANSWERING`; `WAITS` if it does not come |
| `ANSWERING` | the end of the response | gone; `WAITS` when the response was of no use |
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from math import inf


class Kind(Enum):
    """What a question is."""

    TURN = auto()  # the caller has spoken; the service answers by itself
    TYPED = auto()  # a text that stands for the caller's words
    OUTPUTS = auto()  # functions that the agent asked for are answered
    SAY = auto()  # a text to be spoken as it stands


class Stage(Enum):
    """How far a question has come; see the table above."""

    WAITS = auto()
    ASKED = auto()
    ANSWERING = auto()


class Verdict(Enum):
    """What is to become of a response that begins."""

    WELCOME = auto()
    OVER_CALLER = auto()  # the caller speaks: not to be heard, and the service is about to cancel it
    UNWANTED = auto()  # to be cancelled: the caller speaks, or its question has been answered by another


@dataclass(slots=True, eq=False)
class Question:
    """`item` is what the service must have to answer it; `since` when it was asked last; `words` those of a `SAY`.

    `missed`: the response under way began without its item.
    """

    kind: Kind
    item: str = ""
    words: str = ""
    stage: Stage = Stage.WAITS
    since: float = -inf
    missed: bool = False
    useless: int = 0  # responses
    unanswered: int = 0  # requests


@dataclass(frozen=True, slots=True)
class Flight:
    """A request that nothing is known of yet; after `until` nothing will be."""

    event_id: str
    questions: list[Question]
    until: float
