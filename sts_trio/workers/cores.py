"""How many cores this process may use: by its affinity, and by the quota of its control group (`docker --cpus`)."""

from __future__ import annotations

import os
from contextlib import suppress
from math import ceil
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")  # version 2; quotas of version 1 are not looked at
_MEMBERSHIP = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Return how many cores there are to use, at least 1. A part of a core counts as one."""
    quotas = [quota for text in _limits() if (quota := cores_of(text)) is not None]
    return max(1, min(len(os.sched_getaffinity(0)), *map(ceil, quotas or [2**20])))


def worker_count(wanted: int, most_calls: int) -> int:
    """Return how many workers there are to be: as many as `wanted`, 0 for one a core; never more than calls."""
    workers = wanted or usable_cores()
    return min(workers, most_calls) if most_calls else workers


def cores_of(text: str) -> float | None:
    """Return the cores that the text of a `cpu.max` allows: quota and period in µs, or None for `max`."""
    quota, _, period = text.partition(" ")
    if not (quota.isdecimal() and period.strip().isdecimal() and int(period)):
        return None
    return int(quota) / int(period)


def _limits() -> list[str]:
    """Each `cpu.max` that holds for us: our group's, and those of the groups it is in."""
    texts = []
    with suppress(OSError):
        lines = _MEMBERSHIP.read_text().splitlines()
        for line in lines:
            if line.startswith("0::/"):
                group = _GROUPS / line.removeprefix("0::/")
                for directory in (group, *group.parents):
                    with suppress(OSError):
                        texts.append((directory / "cpu.max").read_text())
    return texts
