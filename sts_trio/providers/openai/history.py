"""The conversation of one call, as a new session is told it. Pure.

A session that breaks takes what it knew with it. So what was said, typed and looked up is kept here, over all sessions
of a call, with the agent's voice that is still being heard and the functions that are still to be answered.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

from sts_trio.providers.openai.audio import PlaybackEstimate
from sts_trio.providers.openai.wire import message_item

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sts_trio.providers.base import ToolCall

_REMEMBERED_CALLS = 64  # ids
_MOST_TURNS = 100  # of both sides; some ten minutes of talk, and 30 kB
_LONGEST_TEXT = 2000  # characters of one turn
_WENT_ON = (
    "The telephone call goes on. The connection was replaced without the caller noticing. "
    "Do not greet again and do not mention it."
)
# Characters a second. The text of an answer comes before its voice; nobody speaks faster, so the rest was not heard.
_FASTEST_SPEECH = 20


@dataclass(slots=True)
class _Turn:
    """What was said, or a function's call and its `output`. `item` is the item's id in the session that had it.

    `whole`: it is all there; else an answer is still being given.
    """

    role: str
    text: str
    item: str = ""
    call: tuple[str, str, str] | None = None  # id, name, arguments
    whole: bool = True


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A function that the agent waits for: asked for by a response of the session of this number."""

    call: ToolCall
    response: str
    session: int


class History:
    """The conversation of one call, over all its sessions, which it outlives.

    `conversation` is the service's own id of it, where it has one to resume by; `retold`: the session in use did not
    take that up, and was told all this anew. `played` is the agent's voice. By their ids: `calls` are the functions
    that are to be answered, `doubtful` the outputs that the service has not confirmed; `seen_calls` are the ids of all.
    """

    def __init__(self) -> None:
        self.conversation: str | None = None
        self.retold = False
        self.played = PlaybackEstimate()
        self.calls: dict[str, OpenCall] = {}
        self.doubtful: dict[str, tuple[OpenCall, str]] = {}
        self.seen_calls: deque[str] = deque(maxlen=_REMEMBERED_CALLS)
        self._sessions = 0
        self._turns: deque[_Turn] = deque(maxlen=_MOST_TURNS)

    @property
    def began(self) -> bool:
        """Whether the caller has said something."""
        return any(turn.role == "user" for turn in self._turns)

    @property
    def unknown(self) -> int:
        """How many turns of the caller have no words: they came without, or nobody writes them down."""
        return sum(turn.role == "user" and not turn.text for turn in self._turns)

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
        """The agent says this, as far as is known yet."""
        turn = self._find(item)
        if turn is None:
            self._turns.append(_Turn("assistant", text[:_LONGEST_TEXT], item, whole=False))
        else:
            turn.text = text[:_LONGEST_TEXT]

    def agent_done(self) -> None:
        """The agent's answer is complete."""
        for turn in self._turns:
            turn.whole = True

    def agent_heard(self, item: str, share: float) -> None:
        """Of what the agent said in this item only so much (0 to 1) was heard."""
        if (turn := self._find(item)) is not None:
            turn.text, turn.whole = _cut_off(turn.text, round(len(turn.text) * share)), True

    def output(self, call_id: str) -> str | None:
        """What a function's call was answered with; None if it has not been."""
        return next((turn.text for turn in self._turns if turn.call is not None and turn.call[0] == call_id), None)

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
            elif text := self._said(turn):
                yield message_item(turn.role, text, id_)
        yield message_item("system", _WENT_ON, "seed_end")

    def _said(self, turn: _Turn) -> str:
        """The text of a turn, as far as it has a voice."""
        most = self.played.given(turn.item) * _FASTEST_SPEECH if not turn.whole else inf
        return turn.text if len(turn.text) <= most else _cut_off(turn.text, int(most))

    def _find(self, item: str) -> _Turn | None:
        return next((turn for turn in reversed(self._turns) if item and turn.item == item), None)


def _cut_off(text: str, end: int) -> str:
    """The beginning of a text, as many characters as given at the most, up to a whole word."""
    in_word = text[end : end + 1].strip()
    kept = (text[:end].rpartition(" ")[0] if in_word else text[:end]).rstrip()
    return f"{kept} …" if kept else ""
