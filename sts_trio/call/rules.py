"""What an operator decided about calls, in one value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sts_trio.call.config import SessionPolicy
from sts_trio.call.resume import ResumeRules
from sts_trio.call.silence import NoInputRules

if TYPE_CHECKING:
    from sts_trio.settings.emotion_rules import EmotionRule
    from sts_trio.tools.tool import Tool


@dataclass(frozen=True, slots=True)
class CallRules:
    """What an operator decides about calls. Times in seconds; `keypad` is ``input``, ``context`` or ``off``.

    `fallback` is what the caller hears when the agent's side has failed for good: telephone PCM, whole frames.
    """

    session_policy: SessionPolicy = field(default_factory=SessionPolicy)
    lifeline: ResumeRules = field(default_factory=ResumeRules)
    tools: tuple[Tool, ...] = ()
    tool_grace: float = 3.0
    keypad: str = "input"
    keypad_gap: float = 1.5
    silence: NoInputRules = field(default_factory=NoInputRules)
    fallback: bytes = field(default=b"", repr=False)
    answer_seconds: float = 10.0
    emotion_rules: tuple[EmotionRule, ...] = ()
    emotions: bool = True
    init_seconds: float = 10.0
    most_seconds: float = 14_400.0
