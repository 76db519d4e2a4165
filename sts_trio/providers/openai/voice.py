"""The agent's voice: given to the call, and taken from the conversation as far as nobody has heard it. Pure.

See docs/protocols/realtime.md 7.2. Times in seconds.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from sts_trio.providers.base import AgentAudio
from sts_trio.providers.openai import wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sts_trio.providers.base import AgentEvent
    from sts_trio.providers.openai.audio import Codec, Cut
    from sts_trio.providers.openai.history import History

_REMEMBERED = 64  # items that are text


class AgentVoice:
    """Puts chunks into `events`, and what is to be forgotten of them into `out`."""

    def __init__(
        self,
        codec: Codec,
        history: History,
        events: deque[AgentEvent],
        out: deque[wire.ToService],
        new_id: Callable[[str], str],
    ) -> None:
        self._codec = codec
        self._history = history
        self._events = events
        self._out = out
        self._new_id = new_id
        self._played = history.played
        self._last: tuple[str | None, str | None] = (None, None)  # response and item of the last chunk
        self._texts: deque[str] = deque(maxlen=_REMEMBERED)  # a service refuses to cut these

    def give(self, chunk: wire.AudioDelta, now: float) -> None:
        """Give a chunk to the call. A reply without a name cannot be told from the next one."""
        response, item = chunk.response_id, chunk.item_id
        if self._last != (response, item):
            self._last = (response, item)
            self._codec.begin()
        wav = self._codec.decode(chunk.delta)
        part = chunk.content_index if isinstance(chunk.content_index, int) else 0
        self._played.give(item or "", wav.seconds, now, part)
        self._events.append(AgentAudio(response or item or "", wav))

    def playing(self, now: float) -> bool:
        """Whether the caller is still listening to it."""
        return self._played.playing(now)

    def is_text(self, item: str) -> None:
        """This item is written; it may be spoken all the same."""
        self._texts.append(item)

    def truncate(self, unheard: float) -> None:
        """The last so many seconds will not be heard."""
        for cut in self._played.cut(unheard):
            if cut.item:
                self._history.agent_heard(cut.item, cut.heard_ms / max(cut.of_ms, 1))
                self._shorten(cut)

    def drop(self, items: Iterable[str]) -> None:
        """More of these items came than was given to the call."""
        for item in items:
            if (cut := self._played.drop(item)) is not None:
                self._shorten(cut)

    def forget(self, items: Iterable[str]) -> None:
        """Take these out of the conversation."""
        self._out += (wire.ItemDelete(self._new_id("cut"), item) for item in items if item)

    def _shorten(self, cut: Cut) -> None:
        if cut.heard_ms <= 0:
            self._out.append(wire.ItemDelete(self._new_id("cut"), cut.item))
        elif cut.item not in self._texts:
            self._out.append(wire.Truncate(self._new_id("cut"), cut.item, cut.heard_ms, cut.part))
