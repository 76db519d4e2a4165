"""What becomes of each message of a chat from some time on, by the faults that came. Pure.

The order and the time of messages are `outbox`'s.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec

from sts_trio.lab.emulator.evi.wire import AssistantEnd, AssistantMessage, AssistantProsody, AudioOutput, ToolCall
from sts_trio.lab.emulator.steps import (
    Flood,
    GarbageOnly,
    NoEnds,
    OddArguments,
    SameIds,
    SendBinary,
    SendGarbage,
    SendJunk,
    SendRaw,
)

if TYPE_CHECKING:
    from sts_trio.lab.emulator.chat import Item
    from sts_trio.lab.emulator.faults import Oddness as AnyOddness

ONE_ID = "reply"


class Oddness:
    """The oddities in force; several add up, and of two of a kind the later counts last."""

    def __init__(self) -> None:
        self._found: list[AnyOddness] = []

    def add(self, odd: AnyOddness) -> None:
        """Bring one into force."""
        self._found.append(odd)

    def of(self, item: Item) -> Item | None:
        """Return what is sent in place of `item`; None for nothing."""
        sent: Item | None = item
        for odd in self._found:
            if sent is not None:
                sent = _made_odd(sent, odd)
        return sent


def _made_odd(item: Item, odd: AnyOddness) -> Item | None:
    match odd, item:
        case _, SendRaw() | SendBinary() | SendGarbage() | SendJunk() | Flood():
            return item  # a fault itself
        case GarbageOnly(kind=kind), _:
            return SendJunk(kind=kind)
        case SameIds(), AssistantMessage() | AudioOutput() | AssistantProsody():
            return msgspec.structs.replace(item, id=ONE_ID)
        case OddArguments(form="nested"), ToolCall(parameters=parameters):
            return msgspec.structs.replace(item, parameters=json.dumps(parameters))
        case OddArguments(), ToolCall(parameters=parameters):
            return msgspec.structs.replace(item, parameters=f"```json\n{parameters}\n```")
        case NoEnds(), AssistantEnd():
            return None
        case _:
            return item
