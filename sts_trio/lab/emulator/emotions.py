"""The 48 prosody labels, and scores for them that follow from the sound alone.

The scores mean nothing; they are plausible in form (0 to 1, independent of each other), the same for the same audio
and different for another, so that a test can follow one utterance through.
"""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Spelled as in the schema's `emotion_scores`, spaces and brackets included.
LABELS = (
    "Admiration", "Adoration", "Aesthetic Appreciation", "Amusement", "Anger", "Anxiety", "Awe", "Awkwardness",
    "Boredom", "Calmness", "Concentration", "Confusion", "Contemplation", "Contempt", "Contentment", "Craving",
    "Desire", "Determination", "Disappointment", "Disgust", "Distress", "Doubt", "Ecstasy", "Embarrassment",
    "Empathic Pain", "Entrancement", "Envy", "Excitement", "Fear", "Guilt", "Horror", "Interest",
    "Joy", "Love", "Nostalgia", "Pain", "Pride", "Realization", "Relief", "Romance",
    "Sadness", "Satisfaction", "Shame", "Surprise (negative)", "Surprise (positive)", "Sympathy", "Tiredness",
    "Triumph",
)  # fmt: skip


def scores(samples: NDArray[np.int16], rate: int) -> dict[str, float]:
    """Return a score in 0..1 for each label, from loudness, brightness and liveliness of mono audio at `rate` Hz."""
    if samples.size == 0:
        return dict.fromkeys(LABELS, 0.0)
    signal = samples.astype(np.float64) / 32768
    loudness = float(np.sqrt(np.mean(signal**2)))
    # Zero crossings stand for pitch: half of them, over the time they took, is a frequency; 1 kHz is bright.
    brightness = np.count_nonzero(np.diff(samples >= 0)) * rate / (2000 * samples.size)
    window = max(rate // 50, 1)
    levels = np.abs(signal[: samples.size // window * window]).reshape(-1, window).mean(axis=1)
    liveliness = float(np.std(levels) / (np.mean(levels) + 1e-4)) if levels.size else 0.0
    features = (loudness, min(brightness, 4.0), liveliness)
    return {label: _score(label, features) for label in LABELS}


def _score(label: str, features: tuple[float, float, float]) -> float:
    seed = zlib.crc32(label.encode())  # stable between runs, unlike hash()
    phase = sum((1 + (seed >> shift & 7)) * value for shift, value in zip((0, 3, 6), features, strict=True))
    # Cubed: a few labels stand out and most stay low, as real ones do.
    return round((0.5 + 0.5 * math.sin(phase + (seed >> 9 & 63) / 10)) ** 3, 4)
