"""What a load shows on a narrow terminal: whole, and what is to be told apart can be."""

from __future__ import annotations

import io

from rich.console import Console

from sts_trio.lab.load.show import live_table, remarks, results_table, versus_table
from tests.lab.page.examples import look, results

WIDTH = 60


def test_a_load_is_readable_at_60_columns() -> None:
    screen = Console(file=io.StringIO(), width=WIDTH, color_system=None)
    run = results(failures={"no answer within ten seconds, and nothing else was heard of it": 2}, warnings=("w " * 50,))
    names = ["ws://connector.example:6039", "ws://connector.example:7039"]
    medians = {"up.p50": 1.0, "cpu_per_call": 3.0}
    screen.print(results_table(run, "ws://127.0.0.1:36955, 20 calls, humeai, talk"), *remarks(run), sep="\n")
    screen.print(versus_table(names, medians, medians, 3))
    screen.print(live_table(look(3.0), "ws://127.0.0.1:36955, 20 calls, humeai, talk"))
    assert isinstance(screen.file, io.StringIO)
    shown = screen.file.getvalue()
    assert max(map(len, shown.splitlines())) <= WIDTH
    assert "…" not in shown
    assert "server 10 % of a core, load 5 %" in shown
