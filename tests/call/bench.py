"""A tool for tests of calls, and the id of a call that call control can find."""

from __future__ import annotations

import trio

from sts_trio.tools.tool import CallContext, Tool, ToolResult

UUID = "0b6f1f6e-54f0-4f6b-9a49-3d2a1f0c7e11"


class Bench:
    """A tool that takes its time, and notes when it was run, for whom, and whether it was stopped."""

    def __init__(self, name: str = "lookup", seconds: float = 0.0, *, result: ToolResult | None = None) -> None:
        self.seconds = seconds
        self.result = result or ToolResult("shipped")
        self.runs: list[tuple[float, str, CallContext]] = []
        self.finished: list[float] = []
        control = name.startswith("dsai_")
        self.tool = Tool(name, "A test's.", "{}", self.run, ends_call=control, hangs_up=name == "dsai_hangup")

    async def run(self, arguments: str, call: CallContext) -> ToolResult:
        self.runs.append((trio.current_time(), arguments, call))
        await trio.sleep(self.seconds)
        self.finished.append(trio.current_time())
        return self.result
