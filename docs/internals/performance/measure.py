"""Measure the curve of docs/internals/performance.md again on this machine: latency and CPU by the number of calls.

    python docs/internals/performance/measure.py 25 50 100 150 200 250     # writes curve.json beside this file
    python docs/internals/performance/plot.py                              # draws curve.svg from it

The service runs on the first core, the load on the others: at least two are needed, and nothing else to do for them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
ROUNDS = 3
SECONDS = 6


def measure(calls: int, file: Path) -> dict[str, float]:
    """Run the load `ROUNDS` times with this many calls, each with a fresh service; return the medians."""
    found = []
    for _ in range(ROUNDS):
        core = min(os.sched_getaffinity(0))
        command = [sys.executable, "-m", "sts_trio", "load", "--serve", "--pin", str(core)]
        command += ["--calls", str(calls), "--seconds", str(SECONDS), "--json", str(file)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found.append(json.loads(file.read_text())["medians"])
    return {name: round(median(run[name] or 0 for run in found), 2) for name in found[0]}


def main() -> None:
    """Measure at each of the given numbers of calls."""
    curve = []
    with TemporaryDirectory() as directory:
        for calls in map(int, sys.argv[1:] or ["25", "50", "100", "150", "200", "250"]):
            figures = {"calls": calls} | measure(calls, Path(directory) / "load.json")
            print(figures, flush=True)
            curve.append(figures)
    (HERE / "curve.json").write_text(json.dumps(curve, indent=1) + "\n")


if __name__ == "__main__":
    main()
