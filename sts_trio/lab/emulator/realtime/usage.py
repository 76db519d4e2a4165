"""What a response costs: tokens of text and of voice, and those of them that were cached. Pure.

Counted as the service does, roughly: a response is charged for the whole conversation before it, and what an earlier
one was charged for is cached (docs/protocols/realtime.md 6.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

TEXT_CHARACTERS = 4  # of a token, about
HEARD_TOKENS = 10  # of a second of the caller's voice
SPOKEN_TOKENS = 20  # of a second of the agent's


@dataclass(slots=True)
class Tokens:
    """Of text, and of voice."""

    text: int = 0
    audio: int = 0

    @property
    def details(self) -> dict[str, int]:
        """As a response tells them."""
        return {"text_tokens": self.text, "audio_tokens": self.audio}


class Meter:
    """Counts one conversation. `limit`: tokens a minute; those of the whole session count, since nobody waits here."""

    def __init__(self, limit: int = 800_000) -> None:
        self.limit = limit
        self.used = 0
        self._before = Tokens()  # the conversation so far
        self._cached = Tokens()  # as much of it as was charged for before
        self._spoken = Tokens()  # of the response under way

    @property
    def remaining(self) -> int:
        """Tokens that are left."""
        return max(self.limit - self.used, 0)

    def read(self, text: str) -> None:
        """The conversation has grown by a text."""
        self._before.text += _tokens(text)

    def hear(self, seconds: float) -> None:
        """The conversation has grown by the caller's voice."""
        self._before.audio += round(seconds * HEARD_TOKENS)

    def say(self, words: str = "", seconds: float = 0.0) -> None:
        """The response under way has grown."""
        self._spoken.text += _tokens(words)
        self._spoken.audio += round(seconds * SPOKEN_TOKENS)

    def charge(self) -> dict[str, Any]:
        """The response is over: return its `usage`. What it said is part of the conversation from now on."""
        before, cached, spoken = self._before, self._cached, self._spoken
        incoming, outgoing = before.text + before.audio, spoken.text + spoken.audio
        self.used += incoming + outgoing
        self._cached = Tokens(before.text, before.audio)
        self._before = Tokens(before.text + spoken.text, before.audio + spoken.audio)
        self._spoken = Tokens()
        return {
            "total_tokens": incoming + outgoing,
            "input_tokens": incoming,
            "output_tokens": outgoing,
            "input_token_details": {
                **before.details,
                "image_tokens": 0,
                "cached_tokens": cached.text + cached.audio,
                "cached_tokens_details": {**cached.details, "image_tokens": 0},
            },
            "output_token_details": spoken.details,
        }


def _tokens(text: str) -> int:
    return -(-len(text) // TEXT_CHARACTERS)
