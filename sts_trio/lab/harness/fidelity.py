"""How well what was heard matches what was said: alignment, signal-to-noise ratio, spectral distance. Pure.

Meant for an agent that gives the caller's own words back (the emulator's parrot). All figures are of the telephone
band, 300 to 3400 Hz. Delay is found to a fraction of a sample and gain is taken out, so that neither counts as noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from sts_trio.audio.pcm import RATE
from sts_trio.lab.harness.measure import SOUND_SHARE

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
