"""Who speaks the Realtime protocol, and how their ways differ: data, no code (docs/protocols/realtime.md 9). Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dialect:
    """One vendor's.

    `prefix` is that of its settings. `flat`: voice and turn detection stand at the top of the session, and the keys
    that only OpenAI has are left out. `forces_message`: it speaks a text as it stands. `resumes`: it keeps
    conversations by their id. `language_key` names the language of the caller in the transcription. `path` is added to
    a base URL. `current` is the model to take in place of one that is not there.
    """

    name: str
    prefix: str
    current: str
    flat: bool = False
    forces_message: bool = False
    resumes: bool = False
    language_key: str = "language"
    path: str = "/realtime"


OPENAI = Dialect(name="OpenAI", prefix="OPENAI", current="gpt-realtime-2.1")
XAI = Dialect(
    name="xAI",
    prefix="XAI",
    current="grok-voice-latest",
    flat=True,
    forces_message=True,
    resumes=True,
    language_key="language_hint",
)
