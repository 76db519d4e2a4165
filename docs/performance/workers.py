"""How many calls do two workers carry, when one carries N? On this machine, even if it has only two cores.

    sudo .venv/bin/python docs/performance/workers.py        # prints both and their ratio; some ten minutes

The load needs a core of its own for every 400 calls, so on a small machine it would be what gives in first. Each worker
therefore gets a share of a core (a CPU quota of its control group, in periods of 5 ms), the same with one worker and
with two, and the load has the rest. More and more calls are placed until the latency up exceeds the bound. Needs root,
for the control groups (version 1 or 2), and nothing else to do for the machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SHARE = 0.3  # of a core, for each worker
PERIOD_US = 5000
BOUND_MS = 20.0  # latency up, p99
SECONDS = 4
STEP = 10  # calls, for each worker
START_SECONDS = 5
PORT = 6139
ENVIRONMENT = {
    "HUMEAI_API_KEY": "load",
    "HUMEAI_WS_URL": "ws://127.0.0.1:6150/v0/evi/chat",
    "HOST": "127.0.0.1",
    "PORT": str(PORT),
    "LOG_LEVEL": "warning",
    "DRAIN_SECONDS": "2",
}


def quota(name: str) -> Path:
    """Make a control group whose processes get `SHARE` of a core; return its directory."""
    root, allowed = Path("/sys/fs/cgroup"), str(round(SHARE * PERIOD_US))
    if (root / "cpu").is_dir():  # version 1
        group = root / "cpu" / name
        group.mkdir(exist_ok=True)
        (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
        (group / "cpu.cfs_quota_us").write_text(allowed)
    else:
        (root / "cgroup.subtree_control").write_text("+cpu")
        group = root / name
        group.mkdir(exist_ok=True)
        (group / "cpu.max").write_text(f"{allowed} {PERIOD_US}")
    return group


@contextmanager
def service(workers: int) -> Iterator[None]:
    """`sts-trio serve` with each worker on its own core, as long as there are some, and in its own control group."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sts_trio", "serve"], env=os.environ | ENVIRONMENT | {"WORKERS": str(workers)}
    )
    cores = sorted(os.sched_getaffinity(0))
    with ExitStack() as groups, process:
        time.sleep(START_SECONDS)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for number, pid in enumerate(children if workers > 1 else [str(process.pid)]):
            group = quota(f"sts-{number}")
            groups.callback(group.rmdir)
            (group / "cgroup.procs").write_text(pid)
            os.sched_setaffinity(int(pid), {cores[number % len(cores)]})
        try:
            yield
        finally:
            process.terminate()


def latency(calls: int, file: Path) -> float:
    """Latency up (p99, ms) with this many calls: the median of three rounds."""
    command = [sys.executable, "-m", "sts_trio", "load", f"ws://127.0.0.1:{PORT}", "--agents", "127.0.0.1:6150"]
    command += ["--calls", str(calls), "--seconds", str(SECONDS), "--rounds", "3", "--json", str(file)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return float(json.loads(file.read_text())["medians"]["up.p99"])


def capacity(workers: int, file: Path, start: int) -> int:
    """The most calls, in steps of `STEP` a worker, whose latency up keeps the bound."""
    step, calls = STEP * workers, start
    with service(workers):
        while (found := latency(calls, file)) <= BOUND_MS:
            print(f"{workers} worker(s), {calls} calls: p99 up {found:.1f} ms", flush=True)
            calls += step
        print(f"{workers} worker(s), {calls} calls: p99 up {found:.1f} ms, too much", flush=True)
    return calls - step


def main() -> None:
    """Measure with one worker and with two."""
    with TemporaryDirectory() as directory:
        file = Path(directory) / "load.json"
        one = capacity(1, file, 60)
        two = capacity(2, file, 120)
    print(f"{SHARE:.0%} of a core each: one worker {one} calls, two {two}: {two / one:.2f} times as many")


if __name__ == "__main__":
    main()
