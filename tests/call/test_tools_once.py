"""Each tool that a Realtime service asks for is run exactly once, and its result is spoken, whatever else happens."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from sts_trio.lab.emulator import AsksForTool, CloseWith, Cut, EmulatorOptions, LateDone, MoreCalls, Reset, SlowAnswers
from tests.call.bench import Bench
from tests.call.realtime_line import BOTH, KEYED, SPEAKS, TURN_OVER, Line
from tests.call.stage import KEY, open_stage

if TYPE_CHECKING:
    import trio.testing

CALLS = 100  # with each provider
BREAKS = (Cut, Reset, CloseWith)


def random_day(chance: random.Random) -> list[Any]:
    """The service takes no output before the end of the response that asked; one or two of its sessions break."""
    faults: list[Any] = [AsksForTool(at="user_speaking"), LateDone(seconds=chance.uniform(0, 2))]
    if chance.random() < 0.5:
        faults.append(SlowAnswers(seconds=chance.uniform(0.2, 1.5)))
    if chance.random() < 0.3:
        faults.append(MoreCalls())
    first = chance.uniform(SPEAKS, TURN_OVER + 5)
    for connection, after in enumerate((first, chance.uniform(1.0, 4.0))[: chance.choice((1, 1, 2))]):
        kind = chance.choice(BREAKS)
        more: dict[str, Any] = {"code": chance.choice((1000, 1011, 4000))} if kind is CloseWith else {}
        faults.append(kind(after=after, connections=connection, **more))
    return faults


@pytest.mark.parametrize("provider", BOTH)
@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(3, CALLS))])
async def test_a_tool_is_run_once_for_each_request(
    provider: str, seed: int, autojump_clock: trio.testing.MockClock
) -> None:
    chance = random.Random(seed)
    faults = random_day(chance)
    options = EmulatorOptions(
        service=provider, api_keys=frozenset({KEY}), seed=seed, faults=tuple(faults), inactivity=600
    )
    bench = Bench(seconds=chance.choice((0.0, 0.5, 2.0, 4.0)))
    own: dict[str, Any] = {"welcome_message": "", "answer_seconds": 4.0, "tools": (bench.tool,)}
    async with open_stage(provider=provider, emulator=options, **own) as stage:
        line = Line(await stage.call())
        await line.live()
        refused = [code for session in stage.emulator.sessions for code in session.realtime.refused]
        agent = line.said("agent")
        broken = min(fault.after for fault in faults if isinstance(fault, BREAKS))
        slow = max((fault.seconds for fault in faults if isinstance(fault, SlowAnswers)), default=0.0)
        asked = 2 if any(isinstance(fault, MoreCalls) for fault in faults) else 1
        print(f"{provider} {seed}: {len(bench.runs)} runs, {len(stage.emulator.sessions)} sessions, {agent}, {refused}")
        assert line.code is None, "the call has ended"
        assert len(bench.runs) == len(bench.finished)
        assert len(bench.runs) == asked or (not bench.runs and broken < TURN_OVER + slow), "not once for each request"
        spoken = sum("shipped" in said for said in agent)
        assert bool(bench.runs) <= spoken <= len(stage.emulator.sessions), "spoken; again only where that was cut off"
        assert agent[-1] == KEYED
        assert refused == []
