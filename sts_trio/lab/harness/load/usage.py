"""What a process and its children use, from /proc (proc(5)); and which process listens on a port. Linux only."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_PROC = Path("/proc")
_LISTEN = "0A"
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """At one moment: seconds of CPU by process, and bytes of memory of all together.

    Memory is what the processes hold of their own: not mapped files, which the load's own processes may share with
    them, and what workers share counts once.
    """

    cpu: Mapping[int, float]
    memory: int

    def cpu_since(self, before: Usage) -> float:
        """Seconds of CPU used since then, by those that are still there."""
        return sum(seconds - before.cpu.get(pid, 0.0) for pid, seconds in self.cpu.items())


def usage(pid: int) -> Usage | None:
    """Look at a process and all below it; None if it is gone."""
    cpu, memory = {}, 0
    for each in family(pid):
        seconds = _cpu(each)
        if seconds is not None:
            cpu[each] = seconds
            memory += _memory(each)
    return Usage(cpu, memory) if pid in cpu else None


def machine_busy() -> float:
    """Seconds of CPU that all programs together have used since the machine started, with what a host took away."""
    fields = (_PROC / "stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _wait, irq, soft, steal, *_ = (int(field) for field in fields)
    return (user + nice + system + irq + soft + steal) / _TICKS


def family(pid: int) -> list[int]:
    """`pid` and all its descendants."""
    below: dict[int, list[int]] = {}
    for each in _pids():
        if (fields := _stat(each)) is not None:
            below.setdefault(int(fields[1]), []).append(each)
    found, at = [pid], 0
    while at < len(found):
        found += below.get(found[at], [])
        at += 1
    return found


def listener_on(port: int) -> int | None:
    """The process that listens on a TCP port of this machine; of several that share it, their common parent.

    None if there is none, or it is not ours to look at.
    """
    inodes = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not inodes:
        return None
    holders = {pid for pid in _pids() if _holds(pid, inodes)}
    tops = [pid for pid in holders if (fields := _stat(pid)) is None or int(fields[1]) not in holders]
    parents = {int(fields[1]) for pid in tops if (fields := _stat(pid)) is not None}
    if len(tops) > 1 and len(parents) == 1 and parents.isdisjoint({0, 1}):
        return parents.pop()  # workers that each opened the port for themselves (SO_REUSEPORT)
    return min(tops, default=None)


def _listening_inodes(port: int) -> Iterable[str]:
    for name in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (_PROC / "net" / name).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]


def _pids() -> list[int]:
    return [int(name) for name in os.listdir(_PROC) if name.isdecimal()]  # noqa: PTH208  Paths for a thousand names


def _holds(pid: int, inodes: set[str]) -> bool:
    try:
        with os.scandir(_PROC / str(pid) / "fd") as entries:
            for entry in entries:
                with suppress(OSError):
                    if os.readlink(entry.path) in inodes:  # noqa: PTH115  as above
                        return True
    except OSError:
        pass
    return False


def _stat(pid: int) -> list[str] | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()  # the name before may hold spaces


def _cpu(pid: int) -> float | None:
    fields = _stat(pid)
    if fields is None:
        return None
    ticks = int(fields[11]) + int(fields[12])
    try:  # nanoseconds, where the kernel keeps them; of the threads that live
        tasks = list((_PROC / str(pid) / "task").iterdir())
        exact = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    except (OSError, IndexError, ValueError):
        return ticks / _TICKS
    # Threads that have ended are in the ticks only.
    return exact if abs(exact - ticks / _TICKS) < 0.05 + 0.02 * exact else ticks / _TICKS


def _memory(pid: int) -> int:
    with suppress(OSError):
        for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss_Anon:"):
                return int(line.split()[1]) * 1024
    with suppress(OSError):  # kernels before 5.9
        for line in (_PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0
