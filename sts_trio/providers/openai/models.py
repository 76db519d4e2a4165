"""OpenAI's models that have an end, and how those differ that write the caller's words down. Pure.

The dates are those of the vendor's table of deprecations (docs/protocols/realtime.md 0, 4.4). A gateway may stand
before it, or another service may give its models the same names and keep them: there it is said whose dates they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from urllib.parse import urlsplit

CURRENT = "gpt-realtime-2.1"
CURRENT_TRANSCRIBER = "gpt-transcribe"

_SPEECH_ENDS = date(2027, 1, 20)
_TRANSCRIBERS_END = date(2027, 2, 26)
_GONE = ("gpt-4o-realtime", "gpt-4o-mini-realtime")  # since 7 May 2026
_SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$")  # a model of one day; it ends with those of its name
_TAKES_SEVERAL = ("gpt-transcribe", "gpt-live-transcribe")


@dataclass(frozen=True, slots=True)
class Ending:
    """A model goes on this day, and another takes its place."""

    on: date
    successor: str


_ENDINGS = {
    "gpt-realtime": Ending(_SPEECH_ENDS, CURRENT),
    "gpt-realtime-mini": Ending(_SPEECH_ENDS, "gpt-realtime-2.1-mini"),
    "gpt-audio-mini": Ending(_SPEECH_ENDS, "gpt-realtime-2.1-mini"),
    **dict.fromkeys(
        ("whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe", "gpt-4o-transcribe-diarize"),
        Ending(_TRANSCRIBERS_END, CURRENT_TRANSCRIBER),
    ),
}


def is_openai(url: str) -> bool:
    """Whether it is OpenAI itself who listens there, in whatever region."""
    host = (urlsplit(url).hostname or "").lower()
    return host == "api.openai.com" or host.endswith(".api.openai.com")


def is_gone(model: str) -> bool:
    """Whether this speech model has ended before this service was written."""
    return model.startswith(_GONE)


def end_notice(variable: str, model: str, url: str, today: date) -> str | None:
    """Say in one line that the model that `variable` names has an end, or is over; None for one that has none."""
    ending = _ENDINGS.get(model) or _ENDINGS.get(_SNAPSHOT.sub("", model))
    if ending is None:
        return None
    when = f"{ending.on.day} {ending.on:%B %Y}"
    verb = "ended" if today >= ending.on else "ends"
    where = "" if is_openai(url) else " at OpenAI"
    return f"{variable} {model} {verb} on {when}{where}; {ending.successor} replaces it"


def takes_several(transcriber: str) -> bool:
    """Whether this model takes `languages` and `keywords`, where others take one `language`."""
    return transcriber.startswith(_TAKES_SEVERAL)
