"""What a call's recording tells: speed of answer and barge-in, what came too late, and likeness of sound. Pure.

All of it is measured where the caller is, in the lines of the recording. `fidelity` is meant for an agent that gives
the caller's own words back (the emulator's parrot); its figures are of the telephone band, 300 to 3400 Hz. Delay is
found to a fraction of a sample and gain is taken out, so that neither counts as noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

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
    """What the caller heard from the end of utterance number `index` until they spoke again (or the end)."""
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


Signal: TypeAlias = np.ndarray[tuple[int], np.dtype[np.float64]]

BAND_HZ = (300.0, 3400.0)
# The band's edges are this wide, so that the filter rings for no more than about 10 ms.
EDGE_HZ = 100.0
# Spectra: frames of 32 ms, each half over the next; only those within 40 dB of the loudest, only bins within 50 dB.
_WINDOW, _HOP = 256, 128
_QUIET_FRAME_DB, _FLOOR_DB = -40.0, -50.0
# No difference at all would be an infinite ratio.
BEST_SNR_DB = 100.0


@dataclass(frozen=True, slots=True)
class Fidelity:
    """What was heard against what was said.

    `delay`: seconds from the beginning of what was heard to where the reference begins in it (negative: its
    beginning is missing). `gain_db`: heard over said. `snr_db`: in band, over the part that was heard.
    `correlation`: 1 for equal, 0 for unrelated. `lsd_db`: log-spectral distance, 0 for equal; it forgives shifts of
    a few ms, which the others do not. `coverage`: how much of the reference's energy was there to compare, 0 to 1;
    a reply that ends early shows here.
    """

    delay: float
    gain_db: float
    snr_db: float
    correlation: float
    lsd_db: float
    coverage: float


def fidelity(reference: bytes, heard: bytes) -> Fidelity | None:
    """Compare `heard` with `reference` (both s16le, 8000 Hz, mono) where they fit best.

    None if either is silent.
    """
    said, ear = _signal(reference), _signal(heard)
    if not said.any() or not ear.any():
        return None
    # Room for every shift without the end wrapping onto the beginning.
    size = 1 << (len(said) + len(ear) + _WINDOW).bit_length()
    delay = _best_delay(said, ear, size)
    whole = float(np.sum(_in_band(said, size) ** 2))
    shifted = _shifted(said, delay, size)[: len(ear)]

    # A voice detector may have cut the ends: compare only where something was heard, both cut alike.
    loud = np.flatnonzero(np.abs(ear) > SOUND_SHARE * np.abs(ear).max())
    part = slice(int(loud[0]), int(loud[-1]) + 1)
    said_part, ear_part = _in_band(shifted[part], size), _in_band(ear[part], size)

    said_power, ear_power = float(said_part @ said_part), float(ear_part @ ear_part)
    product = float(said_part @ ear_part)
    if not whole or not said_power or not ear_power or not product:
        return Fidelity(delay / RATE, -BEST_SNR_DB, -BEST_SNR_DB, 0.0, -_FLOOR_DB, 0.0)
    gain = product / said_power
    noise = float(np.sum((ear_part - gain * said_part) ** 2))
    snr = 10 * np.log10(gain**2 * said_power / noise) if noise else BEST_SNR_DB
    return Fidelity(
        delay=delay / RATE,
        gain_db=float(20 * np.log10(abs(gain))),
        snr_db=min(float(snr), BEST_SNR_DB),
        correlation=product / float(np.sqrt(said_power * ear_power)),
        lsd_db=_spectral_distance(said_part, ear_part * float(np.sqrt(said_power / ear_power))),
        coverage=min(1.0, said_power / whole),
    )


def _signal(pcm: bytes) -> Signal:
    return np.frombuffer(pcm, dtype="<i2").astype(np.float64)


def _band(size: int) -> Signal:
    """The band's gain at each frequency of a transform of `size`, with raised-cosine edges."""
    frequency = np.fft.rfftfreq(size, 1 / RATE)
    low, high = BAND_HZ
    inside = np.minimum(frequency - low, high - frequency) / EDGE_HZ + 0.5
    gain: Signal = 0.5 - 0.5 * np.cos(np.pi * np.clip(inside, 0.0, 1.0))
    return gain


def _in_band(signal: Signal, size: int) -> Signal:
    return np.fft.irfft(np.fft.rfft(signal, size) * _band(size), size)


def _best_delay(said: Signal, ear: Signal, size: int) -> float:
    """The delay, in samples, at which `said` fits `ear` best, by cross-correlation in the band."""
    cross = np.fft.rfft(ear, size) * np.conj(np.fft.rfft(said, size)) * _band(size) ** 2
    peak = int(np.argmax(np.fft.irfft(cross, size)))
    delay = float(peak if peak < size // 2 else peak - size)
    # Newton's steps to the top between the samples: the correlation is band-limited, so its slope is known exactly.
    omega = 2 * np.pi * np.fft.rfftfreq(size)
    for _ in range(5):
        turned = cross * np.exp(1j * omega * delay)
        slope, bend = -float(np.sum(omega * turned.imag)), -float(np.sum(omega**2 * turned.real))
        if bend >= 0:
            break
        delay -= max(-0.5, min(0.5, slope / bend))
    return delay


def _shifted(signal: Signal, delay: float, size: int) -> Signal:
    """`signal` later by `delay` samples (any fraction); a negative delay wraps to the end of `size`."""
    if delay == round(delay):
        return np.roll(np.pad(signal, (0, size - len(signal))), round(delay))
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(size) * delay)
    return np.fft.irfft(np.fft.rfft(signal, size) * turn, size)


def _spectral_distance(said: Signal, ear: Signal) -> float:
    """Mean over frames of the root mean square difference of the log spectra in the band, in dB."""
    starts = np.arange(0, len(said) - _WINDOW + 1, _HOP)[:, None] + np.arange(_WINDOW)
    window = np.hanning(_WINDOW)
    frequency = np.fft.rfftfreq(_WINDOW, 1 / RATE)
    bins = (frequency >= BAND_HZ[0]) & (frequency <= BAND_HZ[1])
    said_power, ear_power = (np.abs(np.fft.rfft(s[starts] * window)[:, bins]) ** 2 for s in (said, ear))
    energy = said_power.sum(axis=1)
    speech = energy > energy.max() * 10 ** (_QUIET_FRAME_DB / 10)
    floor = said_power.max(axis=1, keepdims=True)[speech] * 10 ** (_FLOOR_DB / 10)
    said_db, ear_db = (10 * np.log10(np.maximum(p[speech], floor)) for p in (said_power, ear_power))
    return float(np.mean(np.sqrt(np.mean((said_db - ear_db) ** 2, axis=1))))
