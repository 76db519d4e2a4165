"""What the agent says now: its text and its voice, and which replies are over for good. Pure."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from sts_trio.audio.resample import TelephoneResampler

if TYPE_CHECKING:
    from sts_trio.audio.wav import Wav

_MOST_SEGMENTS = 200  # of one turn, kept for its transcript
_MOST_CHARACTERS = 10_000  # of one turn; some ten minutes of speech, five times what may wait to be heard
_LONGEST_ID = 128  # of a reply, as far as it is remembered; EVI's have 32 characters
_MOST_REPLIES = 64  # ids remembered, to tell late audio of an interrupted reply from new audio


class AgentTurn:
    """The agent's current turn. It may hold several replies: a provider gives each segment an id of its own."""

    def __init__(self) -> None:
        self._voice = TelephoneResampler()
        self._segments: list[str] = []
        self._room = _MOST_CHARACTERS
        self._replies: deque[str] = deque(maxlen=_MOST_REPLIES)
        self._interrupted: deque[str] = deque(maxlen=_MOST_REPLIES)

    def admits(self, reply: str) -> bool:
        """Whether this reply is said now, and not left over from before a barge-in. Without an id it always is."""
        reply = reply[:_LONGEST_ID]
        if reply in self._interrupted:
            return False
        if reply and reply not in self._replies:
            self._replies.append(reply)
        return True

    def add_text(self, text: str) -> None:
        """Note a segment of what is said."""
        if len(self._segments) < _MOST_SEGMENTS and self._room > 0:
            self._segments.append(text[: self._room])
            self._room -= len(text)

    def take_text(self) -> str:
        """Return what has been said since the last time."""
        text = " ".join(self._segments)
        self._segments.clear()
        self._room = _MOST_CHARACTERS
        return text

    def speak(self, wav: Wav) -> bytes:
        """Return the telephone PCM that is ready after this chunk."""
        return self._voice.feed(wav)

    def finish(self) -> bytes:
        """Return the last of the voice: the turn is over."""
        return self._voice.flush()

    def cut_off(self) -> None:
        """Barge-in: forget the voice, and admit no reply of this turn any more."""
        self._voice.reset()
        self._interrupted.extend(self._replies)
        self._replies.clear()
