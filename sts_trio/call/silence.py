"""Whether nobody speaks and nothing is under way, and for how long. Pure.

Two want to know. A caller who says nothing is asked whether they are still there, and then the call ends. And a session
is renewed in a quiet moment, so that nobody hears of it.
Any sound of the caller's that is loud enough may be a word.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from sts_trio.call.actions import Deadline
from sts_trio.call.resume import QUIET_SECONDS

if TYPE_CHECKING:
    from sts_trio.call.actions import Deadlines
    from sts_trio.call.config import NoInputRules
    from sts_trio.call.playout import Playout
    from sts_trio.call.speech import AgentSpeech
    from sts_trio.call.tools import ToolCalls
    from sts_trio.call.unanswered import Unanswered
    from sts_trio.call.upstream import UpstreamFrames


class Silence:
    """How long neither side has said a word, and whether the caller has been asked if they are still there."""

    def __init__(
        self,
        rules: NoInputRules,
        deadlines: Deadlines,
        frames: UpstreamFrames,
        playout: Playout,
        speech: AgentSpeech,
        tools: ToolCalls,
        unanswered: Unanswered,
    ) -> None:
        self.agent_until = -inf  # when the caller has heard what the agent has said since they spoke
        self._rules = rules
        self._deadlines = deadlines
        self._frames = frames
        self._playout = playout
        self._speech = speech
        self._tools = tools
        self._unanswered = unanswered
        self._prompted = False

    def heard_caller(self, now: float) -> None:
        """The caller has said or keyed something: the next silence is the first again."""
        self.agent_until = -inf
        self._prompted = False
        self.wait_from(now)

    def wait_from(self, now: float) -> None:
        """Somebody speaks, or something is under way, until `now`: silence begins after it."""
        self._deadlines[Deadline.NO_INPUT] = now + self._rules.seconds if self._rules.seconds else inf

    def is_over(self, now: float, *, talking: bool) -> bool:
        """Whether the time for a word has passed without one. If not, it begins after what there was.

        `talking`: there is a session that a caller can talk to.
        """
        if not talking or not self._idle(now):
            self.wait_from(self._playout.played_at(now))
        elif now < self.agent_until + self._rules.seconds:
            self.wait_from(self.agent_until)
        elif now < self._frames.loud_at + self._rules.seconds:  # they speak, though no turn has ended
            self._prompted = False
            self.wait_from(self._frames.loud_at)
        else:
            return True
        return False

    def step(self, now: float) -> str | None:
        """It has been silent for so long: return what the agent is to say now, or None to end the call."""
        self.wait_from(now)
        if self._prompted or not self._rules.prompt:
            return None
        self._prompted = True
        return self._rules.prompt

    def is_quiet(self, now: float) -> bool:
        """Whether this is a quiet moment: a session can be replaced without anybody hearing it."""
        idle = self._idle(now) and not self._unanswered.pending
        return idle and now >= self._frames.loud_at + QUIET_SECONDS

    def _idle(self, now: float) -> bool:
        """Whether the agent does not speak, and nothing is under way."""
        return self._playout.played_at(now) <= now and not self._speech.speaking and not self._tools.work
