"""What a call's recording tells: how fast the agent answered, how fast it fell silent, and what came too late. Pure.

All of it is measured where the caller is: in the lines of the recording, by the energy of what was said and heard.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sts_trio.audio.pcm import BYTES_PER_SECOND, RATE
from sts_trio.lab.harness.recording import AUDIBLE, PAUSE_SECONDS

if TYPE_CHECKING:
    from sts_trio.lab.harness.recording import Recording, Utterance

# Within an utterance sound is relative to its loudest sample (-34 dB): a noisy WAV must not seem to speak for ever.
SOUND_SHARE = 0.02
# After a barge-in this much silence is silence; audio that comes sooner is still the old reply.
STOPPED_SECONDS = 0.2
# Two sums of the same times may differ in their last bit.
_HALF_SAMPLE = 0.5 / RATE


@dataclass(frozen=True, slots=True)
class Turn:
    """One utterance of the caller and what came of it. Times are seconds of the call.

    `begin`, `end`: of its sound. `response`: from its end to the first sound of an agent that had been silent; None
    if no such came before the next utterance. `interrupted`: when the connector's `interruption` came. `stop`: from
    `begin` to the silence in the caller's ear that followed it. `stale_bytes`: agent audio that arrived after that
    `interruption` while the caller was still speaking: no new reply can have begun by then.
    """

    name: str
    over: bool
    begin: float
    end: float
    response: float | None
    interrupted: float | None
    stop: float | None
    stale_bytes: int


@dataclass(frozen=True, slots=True)
class Measures:
    """A whole call. `first_audio`: from the connection's beginning to the agent's first sound, in seconds."""

    first_audio: float | None
    turns: tuple[Turn, ...]

    @property
    def stale_bytes(self) -> int:
        """Over all turns."""
        return sum(turn.stale_bytes for turn in self.turns)


def measure(recording: Recording) -> Measures:
    """Measure every turn of a call."""
    onsets = [begin for begin, _ in sounds(recording.agent, PAUSE_SECONDS)]
    stretches = sounds(recording.agent, STOPPED_SECONDS)
    turns = []
    for utterance, until in _with_ends(recording):
        begin, end = _sound_of(utterance)
        answers = (max(0.0, onset - end) for onset in onsets if end - _HALF_SAMPLE <= onset < until)
        cut = next((cut for cut in recording.cuts if begin <= cut.at < until), None)
        late = recording.arrivals[cut.arrivals :] if cut else ()
        turns.append(
            Turn(
                name=utterance.name,
                over=utterance.over,
                begin=begin,
                end=end,
                response=next(answers, None),
                interrupted=cut.at if cut else None,
                stop=_silence_after(stretches, cut.at) - begin if cut else None,
                stale_bytes=sum(arrival.size for arrival in late if arrival.at <= end),
            )
        )
    return Measures(onsets[0] if onsets else None, tuple(turns))


def answer_to(recording: Recording, index: int) -> bytes:
    """What the caller heard from the end of his utterance number `index` until he spoke again (or the end)."""
    utterance, until = _with_ends(recording)[index]
    end = _sound_of(utterance)[1]
    last = len(recording.agent) if until == float("inf") else round(until * RATE) * 2
    return recording.agent[round(end * RATE) * 2 : last]


def sounds(pcm: bytes, gap: float, threshold: float = AUDIBLE) -> list[tuple[float, float]]:
    """The stretches of sound in a line, in seconds: from the first to just after the last sample at `threshold`.

    Silence shorter than `gap` seconds does not part two.
    """
    loud = np.flatnonzero(np.abs(np.frombuffer(pcm, dtype="<i2").astype(np.int32)) >= threshold)
    if not len(loud):
        return []
    breaks = np.flatnonzero(np.diff(loud) > gap * RATE)
    firsts = loud[np.concatenate(([0], breaks + 1))]
    lasts = loud[np.concatenate((breaks, [len(loud) - 1]))]
    return [(float(a) / RATE, (float(b) + 1) / RATE) for a, b in zip(firsts, lasts, strict=True)]


def _with_ends(recording: Recording) -> list[tuple[Utterance, float]]:
    """Each utterance with the moment when the next one begins."""
    begins = [_sound_of(utterance)[0] for utterance in recording.utterances]
    return list(zip(recording.utterances, [*begins, float("inf")][1:], strict=True))


def _sound_of(utterance: Utterance) -> tuple[float, float]:
    peak = int(np.abs(np.frombuffer(utterance.pcm, dtype="<i2").astype(np.int32)).max(initial=0))
    stretches = sounds(utterance.pcm, float("inf"), max(AUDIBLE, SOUND_SHARE * peak))
    begin, end = stretches[0] if stretches else (0.0, len(utterance.pcm) / BYTES_PER_SECOND)
    return utterance.at + begin, utterance.at + end


def _silence_after(stretches: list[tuple[float, float]], at: float) -> float:
    """When nothing more was heard, given that the queue was emptied `at`."""
    return max([at, *(end for begin, end in stretches if begin <= at + STOPPED_SECONDS)])
