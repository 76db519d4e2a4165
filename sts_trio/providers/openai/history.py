"""What has been said in a call, to tell another session: nothing is resumed (docs/protocols/realtime.md 7.5). Pure.

One history belongs to one call, and its sessions use it one after another. It is the handle by which the call resumes
(`AgentReady.resume`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sts_trio.providers.openai.wire import message_item

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_TURNS = 100  # of both sides; some ten minutes of talk, and 30 kB
_LONGEST_TEXT = 2000  # characters of one turn
_WENT_ON = (
    "The telephone call goes on. The connection was replaced without the caller noticing. "
    "Do not greet again and do not mention it; just answer what the caller says next."
)


@dataclass(slots=True)
class _Turn:
    """What was said, or a function's call and its `output`. `item` is the item's id in the session that had it."""

    role: str
    text: str
    item: str = ""
    call: tuple[str, str, str] | None = None  # id, name, arguments


class History:
    """The conversation of one call. `conversation` is the service's own id of it, where it has one to resume by."""

    def __init__(self) -> None:
        self.conversation: str | None = None
        self._sessions = 0
        self._turns: deque[_Turn] = deque(maxlen=_MOST_TURNS)

    def begin_session(self) -> int:
        """Another session of the call uses this history: return its number, 1 for the first."""
        self._sessions += 1
        return self._sessions

    def user_turn(self, item: str) -> None:
        """The caller has spoken; the words may come later, or never, and other turns before them."""
        self._turns.append(_Turn("user", "", item))

    def user_words(self, item: str, text: str) -> None:
        """The words of a turn that was spoken, or of text that stands for one."""
        turn = self._find(item)
        if turn is None:
            turn = _Turn("user", "", item)
            self._turns.append(turn)
        turn.text = text[:_LONGEST_TEXT]

    def agent_words(self, item: str, text: str) -> None:
        """The agent says this, all of it as far as is known yet."""
        turn = self._find(item)
        if turn is None:
            self._turns.append(_Turn("assistant", text[:_LONGEST_TEXT], item))
        else:
            turn.text = text[:_LONGEST_TEXT]

    def agent_heard(self, item: str, share: float) -> None:
        """Of what the agent said in this item only so much (0 to 1) was heard."""
        if (turn := self._find(item)) is not None:
            end = round(len(turn.text) * share)
            in_word = turn.text[end : end + 1].strip()
            kept = (turn.text[:end].rpartition(" ")[0] if in_word else turn.text[:end]).rstrip()
            turn.text = f"{kept} …" if kept else ""

    def tool(self, call: tuple[str, str, str], output: str) -> None:
        """A function was called, by its id, name and arguments, and answered."""
        id_, name, arguments = call
        kept = arguments if len(arguments) <= _LONGEST_TEXT else "{}"  # half of them would be no JSON
        self._turns.append(_Turn("tool", output[:_LONGEST_TEXT], call=(id_, name, kept)))

    def note(self, text: str) -> None:
        """The agent was given this as context."""
        self._turns.append(_Turn("system", text[:_LONGEST_TEXT]))

    def items(self) -> Iterator[dict[str, Any]]:
        """What a new session is to be told, in order: items of a conversation, with ids that begin with ``seed_``."""
        for number, turn in enumerate(self._turns):
            id_ = f"seed_{number}"
            if turn.call is not None:
                call_id, name, arguments = turn.call
                yield {"type": "function_call", "id": id_, "call_id": call_id, "name": name, "arguments": arguments}
                yield {"type": "function_call_output", "id": f"{id_}_out", "call_id": call_id, "output": turn.text}
            elif turn.text:
                yield message_item(turn.role, turn.text, id_)
        yield message_item("system", _WENT_ON, "seed_end")

    def _find(self, item: str) -> _Turn | None:
        return next((turn for turn in reversed(self._turns) if item and turn.item == item), None)
