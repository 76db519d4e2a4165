"""The service under load: started as a process of its own, found by its port, and what it uses of CPU and memory."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import trio

from sts_trio.lab.load.process import LoadError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping


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
    """Look at a process and its descendants; None if it is gone."""
    try:
        top = psutil.Process(pid)
        family = [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return None
    cpu, memory = {}, 0
    for each in family:
        with suppress(psutil.NoSuchProcess):
            cpu[each.pid] = _cpu(each)
            memory += _memory(each)
    return Usage(cpu, memory) if pid in cpu else None


def machine_busy() -> float:
    """Seconds of CPU that all programs together have used since the machine started, with what a host took away."""
    all_ = psutil.cpu_times()
    return all_.user + all_.nice + all_.system + all_.irq + all_.softirq + all_.steal


def listener_on(port: int) -> int | None:
    """The process that listens on a TCP port of this machine; of several that share it, their common parent.

    None if there is none, or if it is not ours to look at.
    """
    parents: dict[int, int] = {}  # of the processes that listen, by pid
    for each in psutil.process_iter():
        with suppress(psutil.Error):
            if any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in each.net_connections("tcp")):
                parents[each.pid] = each.ppid()
    tops = {pid: parent for pid, parent in parents.items() if parent not in parents}
    if len(tops) > 1 and len(set(tops.values())) == 1 and not {0, 1} & set(tops.values()):
        return next(iter(tops.values()))  # workers that each opened the port for themselves (SO_REUSEPORT)
    return min(tops, default=None)


def _cpu(process: psutil.Process) -> float:
    """Seconds: by schedstat in ns, for psutil's ticks of 10 ms are more than a short load uses."""
    times = process.cpu_times()
    ticks = times.user + times.system
    try:
        tasks = Path(f"/proc/{process.pid}/task").iterdir()
        exact = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    except (OSError, IndexError, ValueError):
        return ticks
    return exact if abs(exact - ticks) < 0.05 + 0.02 * exact else ticks  # threads that ended are in the ticks only


def _memory(process: psutil.Process) -> int:
    """Bytes of anonymous memory, proportional where shared. psutil's figures include mapped files."""
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("Pss_Anon:")).split()[1]) * 1024
    return 0


_START_SECONDS = 20.0
_END_SECONDS = 10.0


def free_port() -> int:
    """A TCP port of loopback that is free."""
    with closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def environment(provider: Mapping[str, str], port: int) -> dict[str, str]:
    """The settings that a service under load is started with; the rest is the operator's own environment."""
    return {
        **provider,
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "LOG_LEVEL": "warning",
        "DRAIN_SECONDS": "2",
    }


@asynccontextmanager
async def open_service(env: Mapping[str, str], cores: Iterable[int] | None) -> AsyncIterator[tuple[str, int]]:
    """Run the service, on these cores only if given. Gives its URL and process.

    Raises:
        LoadError: it did not come up; with what it said last.
    """
    port = int(env["PORT"])
    # In a file: a pipe that is not read would stop the service.
    with tempfile.TemporaryFile() as said:
        process = await trio.lowlevel.open_process(
            # env(1) adds to what we have, and becomes the service: the process stays the same.
            ["env", *(f"{name}={value}" for name, value in env.items()), sys.executable, "-m", "sts_trio", "serve"],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,  # Ctrl-C is for us, who then end it
        )
        try:
            if cores is not None:
                os.sched_setaffinity(process.pid, cores)
            give_up = time.monotonic() + _START_SECONDS
            while listener_on(port) is None:
                if process.poll() is not None or time.monotonic() > give_up:
                    said.seek(0)
                    last = said.read().decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
                    raise LoadError(f"the service did not start: {last[0]}")
                await trio.sleep(0.1)
            yield f"ws://127.0.0.1:{port}", process.pid
        finally:
            with trio.CancelScope(shield=True):
                process.terminate()
                with trio.move_on_after(_END_SECONDS):
                    await process.wait()
                if process.returncode is None:
                    process.kill()
                    await process.wait()
