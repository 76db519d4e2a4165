"""Draw curve.svg from curve.json: needs matplotlib (`pip install matplotlib`)."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot

HERE = Path(__file__).parent


def main() -> None:
    """Two pictures side by side: latency, and what a call costs."""
    mpl.rcParams["svg.hashsalt"] = "curve"  # the same figures give the same file
    curve = json.loads((HERE / "curve.json").read_text())
    calls = [point["calls"] for point in curve]
    figure, (latency, cost) = pyplot.subplots(1, 2, figsize=(10, 4))
    for name, label in (("up.p50", "up, p50"), ("up.p99", "up, p99"), ("first_audio.p99", "first audio, p99")):
        latency.plot(calls, [point[name] for point in curve], marker="o", label=label)
    latency.set(xlabel="calls on one core", ylabel="added latency, ms", yscale="log")
    latency.legend()
    cost.plot(calls, [point["cpu_per_call"] for point in curve], marker="o", label="a call")
    cost.set(xlabel="calls on one core", ylabel="thousandths of a core a call", ylim=0)
    for axes in (latency, cost):
        axes.grid(visible=True, alpha=0.3)
    figure.tight_layout()
    figure.savefig(HERE / "curve.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
