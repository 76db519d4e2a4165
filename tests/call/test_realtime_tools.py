"""Tools, and interruptions, on the bad days of a Realtime service (docs/protocols/realtime.md 10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from sts_trio.lab.emulator import (
    AsksForTool,
    CloseWith,
    Cut,
    EmulatorOptions,
    LateCancel,
    LateDone,
    LateEvents,
    MissingEvents,
    MoreCalls,
    OddFields,
    OddResponses,
    Reset,
    SlowAnswers,
)
from tests.call.bench import Bench
from tests.call.realtime_line import ANSWER, BOTH, GREETING, KEYED, Line
from tests.call.stage import KEY, open_stage

if TYPE_CHECKING:
    import trio.testing
    from _pytest.mark import ParameterSet


@dataclass(frozen=True)
class ToolRow:
    """A day of a tool that takes `seconds`: how often it is to be run, and what is said of it, once."""

    name: str
    faults: tuple[Any, ...]
    seconds: float = 1.0
    runs: int = 1
    said: str = "shipped"
    sessions: int = 1


ASKED = AsksForTool(at="user_speaking", connections=0)
TOOLS = [
    ToolRow("as ever", ()),
    ToolRow("at once", (), seconds=0.0),
    ToolRow("two in one response", (MoreCalls(),), runs=2, said="shipped shipped"),
    ToolRow("two at once", (MoreCalls(),), seconds=0.0, runs=2, said="shipped shipped"),
    ToolRow("done late, tool at once", (LateDone(),), seconds=0.0),
    ToolRow("done late, two at once", (LateDone(), MoreCalls()), 0.0, runs=2, said="shipped shipped"),
    ToolRow("done very late, tool slow", (LateDone(seconds=3.0),), seconds=1.0),
    ToolRow("done is missing", (MissingEvents(event="response.done", at="user_speaking", count=1),)),
    ToolRow("done is late, and the service knows it not", (LateEvents(),)),
    ToolRow("arguments.done is missing", (MissingEvents(event="response.function_call_arguments.done"),)),
    ToolRow("output_item.done is missing", (MissingEvents(event="response.output_item.done"),)),
    ToolRow("ids are numbers", (OddFields(how="ids_numbers"),)),
    ToolRow("its answer fails", (OddResponses(at="tool_call"),)),
    ToolRow("its answer is empty", (OddResponses(how="empty", at="tool_call"),)),
    ToolRow("its answer is in text", (OddResponses(how="text", at="tool_call"),)),
    ToolRow("its answer is rate limited", (OddResponses(how="rate_limited", at="tool_call"),)),
    ToolRow("its answer never comes", (OddResponses(how="unanswered", at="tool_call"),)),
    *(
        ToolRow(f"{name} while it runs", (fault,), seconds=3.0, sessions=2)
        for name, fault in (
            ("cut", Cut(at="tool_call", after=1.0, connections=0)),
            ("reset", Reset(at="tool_call", after=1.0, connections=0)),
            ("close 1011", CloseWith(code=1011, at="tool_call", after=1.0, connections=0)),
            ("close 1000", CloseWith(code=1000, at="tool_call", after=1.0, connections=0)),
        )
    ),
    ToolRow(
        "cut between its output and its answer",
        (SlowAnswers(connections=0), Cut(at="tool_call", after=1.5, connections=0)),
        sessions=2,
    ),
]


def as_tool_parameters(provider: str, row: ToolRow) -> ParameterSet:
    marks: list[Any] = []
    if provider == "xai" and row.name != "as ever":
        marks.append(pytest.mark.matrix)
    return pytest.param(provider, row, marks=marks, id=f"{provider}-{row.name}")


@pytest.mark.parametrize(("provider", "row"), [as_tool_parameters(name, row) for row in TOOLS for name in BOTH])
async def test_a_tool_lives_through_the_day(
    provider: str, row: ToolRow, autojump_clock: trio.testing.MockClock
) -> None:
    faults = (ASKED, *row.faults)
    options = EmulatorOptions(service=provider, api_keys=frozenset({KEY}), seed=1, faults=faults, inactivity=600)
    bench = Bench(seconds=row.seconds)
    own: dict[str, Any] = {"welcome_message": GREETING, "answer_seconds": 2.0, "tools": (bench.tool,)}
    async with open_stage(provider=provider, emulator=options, **own) as stage:
        line = Line(await stage.call())
        await line.live()
        agent, sessions = line.said("agent"), len(stage.emulator.sessions)
        refused = [code for session in stage.emulator.sessions for code in session.realtime.refused]
        print(f"{provider} {row.name}: {len(bench.runs)} runs, {sessions} sessions, {agent}, {refused}, {line.code}")
        assert line.code is None, "the call has ended"
        assert len(bench.runs) == len(bench.finished) == row.runs
        assert agent == [GREETING, row.said, KEYED]
        assert sessions == row.sessions
        assert refused == []


@pytest.mark.parametrize("provider", BOTH)
@pytest.mark.parametrize(
    "faults",
    [
        pytest.param((), id="as ever"),
        pytest.param((LateCancel(),), id="its audio goes on for 0.3 s"),
        pytest.param((LateCancel(seconds=1.0),), id="its audio goes on for 1 s"),
        pytest.param((LateEvents(event="response.done", by=0.5),), id="its end is late"),
        pytest.param((LateEvents(event="response.created", by=0.5),), id="its beginning is late"),
        pytest.param((MissingEvents(event="response.created"),), id="it never begins"),
        pytest.param((MissingEvents(event="response.done", count=1),), id="it never ends"),
        pytest.param((OddFields(how="ids_numbers"),), id="ids are numbers"),
        pytest.param((OddFields(how="status_details_text"),), id="its details are a text"),
    ],
)
async def test_an_answer_that_is_spoken_over_stops_and_stays_stopped(
    provider: str, faults: tuple[Any, ...], autojump_clock: trio.testing.MockClock
) -> None:
    """The caller speaks 0.6 s into the greeting, which lasts 2.3 s; what was heard of it is what is kept of it."""
    options = EmulatorOptions(
        service=provider, api_keys=frozenset({KEY}), seed=1, speed=2.0, faults=faults, inactivity=600
    )
    async with open_stage(provider=provider, emulator=options, welcome_message=GREETING) as stage:
        line = Line(await stage.call())
        await line.live(speaks=0.6, ends=12.0)
        assert line.kinds().count("interruption") == 1
        stopped = next(at for at, message in line.heard if message["type"] == "interruption")
        assert stopped < 0.9
        assert line.sound(stopped) >= 0.6 + 1.5 + 0.4, "it spoke on"  # the turn is over 0.5 s after it
        cuts = [ms for session in stage.emulator.sessions for ms in session.realtime.items.cuts.values()]
        heard = [message.get("heard_ms") for _, message in line.heard if message.get("text") == GREETING]
        assert cuts == pytest.approx(heard, abs=30)
        assert line.said("agent")[1:] == [ANSWER]
        assert [list(session.realtime.refused) for session in stage.emulator.sessions] == [[]]
