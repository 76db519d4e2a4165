"""Times without number in a few hundred counts: a histogram whose buckets are 2 % wide. Pure.

A run of an hour has a hundred million frames; to keep their times would cost gigabytes. Quantiles are right to within
1 % (half a bucket), the largest is exact.
"""

from __future__ import annotations

from math import ceil, exp, log

import msgspec

_WIDTH = log(1.02)
_SMALLEST = 1e-6  # seconds; below, it is all the same
_OFFSET = log(_SMALLEST)


class Histogram(msgspec.Struct):
    """Times in seconds. `counts` are by bucket; a time below a microsecond counts as one."""

    counts: dict[int, int] = msgspec.field(default_factory=dict)
    total: int = 0
    largest: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        bucket = int((log(seconds) - _OFFSET) / _WIDTH) if seconds > _SMALLEST else 0
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.total += 1
        if seconds > self.largest:  # noqa: PLR1730  max() takes longer, and this runs 15,000 times a second
            self.largest = seconds

    def quantile(self, share: float) -> float | None:
        """The time, in seconds, that this `share` (0 to 1) stays within; None if there are none."""
        if not self.total:
            return None
        rank = max(ceil(share * self.total), 1)
        if rank >= self.total:
            return self.largest
        for bucket in sorted(self.counts):
            rank -= self.counts[bucket]
            if rank <= 0:
                return min(exp((bucket + 0.5) * _WIDTH + _OFFSET), self.largest)
        return self.largest
