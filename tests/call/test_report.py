"""The line that a call begins with, and the one it ends with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import structlog.testing
import trio
import trio.testing

from sts_trio.call.config import CallRules
from sts_trio.call.meter import PROMPT_SOURCES, CallCounts
from sts_trio.http_client import HttpReply
from sts_trio.providers.base import AgentTurnEnd, ToolCall, UserTurn
from sts_trio.providers.instructions import InstructionSource
from tests.call.bench import Bench
from tests.call.fakes import begin, spoken
from tests.call.stage import ALL, open_stage

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from pathlib import Path
    from typing import Any

    Line = MutableMapping[str, Any]

Clock = trio.testing.MockClock
FIELDS = {
    *("leg", "provider", "session", "prompt", "first_audio_ms", "tools"),
    *("answers", "answer_first_ms", "answer_median_ms", "answer_longest_ms"),
}


def lines_of(logs: list[Line], event: str) -> list[Line]:
    return [line for line in logs if line["event"] == event]


async def test_a_call_in_which_nothing_happened_has_all_fields(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    with structlog.testing.capture_logs() as logs:
        scene = await begin(nursery)
        scene.core.hang_up()
        await scene.over.wait()
    (first,), (last,) = lines_of(logs, "call began"), lines_of(logs, "call ended")
    assert first.keys() >= FIELDS
    assert last.keys() >= FIELDS | set(CallCounts.__dataclass_fields__) | {"mood"}
    assert (last["answers"], last["first_audio_ms"], last["answer_longest_ms"], last["tools"]) == (0, None, None, {})
    assert (last["digits"], last["resumes"]) == (0, 0)


async def test_the_last_line_says_how_soon_the_agent_spoke_and_answered(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    with structlog.testing.capture_logs() as logs:
        scene = await begin(nursery)
        await trio.sleep(0.7)
        for number, seconds in enumerate((0.4, 0.2, 0.9)):
            scene.agent.feed(UserTurn("And?"))
            await trio.sleep(seconds)
            scene.agent.feed(spoken(0.1, f"r{number}"), AgentTurnEnd())
            await trio.sleep(1)
        scene.core.hang_up()
        await scene.over.wait()
    (last,) = lines_of(logs, "call ended")
    assert last["first_audio_ms"] == pytest.approx(1100, abs=25)
    assert last["answers"] == 3
    times = [last[f"answer_{which}_ms"] for which in ("first", "median", "longest")]
    assert times == [pytest.approx(400, abs=25), pytest.approx(400, abs=25), pytest.approx(900, abs=25)]


@ALL
@pytest.mark.parametrize("leg", ["websocket", "http"])
async def test_both_lines_tell_leg_provider_session_and_prompt(provider: str, leg: str, autojump_clock: Clock) -> None:
    with structlog.testing.capture_logs() as logs:
        async with open_stage(provider=provider, instructions="Be brief.", tools=(Bench("lookup").tool,)) as stage:
            if leg == "websocket":
                caller = await stage.call()
                await caller.speak(bytes(16_000))
                await caller.socket.aclose()
            else:
                stream = await stage.wire.stream()
                await stream.speak(bytes(16_000))
                await stream.hang_up()
            await trio.sleep(3)
    (first,), (last,) = lines_of(logs, "call began"), lines_of(logs, "call ended")
    assert (first["leg"], first["provider"]) == (last["leg"], last["provider"]) == (leg, provider)
    assert last["session"] == lines_of(logs, "agent ready")[0]["session"] != ""
    assert last["prompt"] == "text"
    assert last["first_audio_ms"] is not None  # the greeting


@pytest.mark.parametrize(
    ("settings", "path", "source"),
    [
        ({"instructions": "Be brief."}, "/", "text"),
        ({}, "/", "default"),
        ({"config_id": "cfg"}, "/", "config"),
        ({"allow_call_overrides": True}, "/?instructions=Hurry", "call"),
        ({"allow_call_overrides": True}, "/?config_id=cfg", "config"),
    ],
)
async def test_the_source_of_the_prompt_is_told(
    settings: dict[str, Any], path: str, source: str, autojump_clock: Clock
) -> None:
    with structlog.testing.capture_logs() as logs:
        async with open_stage(**settings) as stage:
            caller = await stage.call(path)
            await caller.speak(bytes(3200))
            await caller.socket.aclose()
            await trio.sleep(1)
    assert lines_of(logs, "call ended")[0]["prompt"] == source
    assert source in PROMPT_SOURCES


class Web:
    def __init__(self, status: int) -> None:
        self._status = status

    async def get(self, url: str, *, seconds: float, headers: object = None) -> HttpReply:
        return HttpReply(self._status, b'{"system": "Be swift."}')


@pytest.mark.parametrize(
    ("status", "file", "found"),
    [
        (200, "prompt.txt", ("Be swift.", "url")),
        (500, "prompt.txt", ("Be kind.", "file")),
        (500, "gone.txt", (None, "default")),
    ],
)
async def test_the_source_that_gave_the_prompt_is_told(
    status: int, file: str, found: tuple[str | None, str], tmp_path: Path
) -> None:
    (tmp_path / "prompt.txt").write_text("Be kind.")
    source = InstructionSource(None, "http://prompts.test", str(tmp_path / file), 5.0, Web(status))
    assert await source.find(None) == found


async def test_tools_are_told_by_name(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    bench = Bench("lookup", seconds=0.1)
    with structlog.testing.capture_logs() as logs:
        scene = await begin(nursery, rules=CallRules(tools=(bench.tool,)))
        for id_ in ("a", "b"):
            scene.agent.feed(ToolCall(id_, "lookup", "{}", response_required=True))
            await trio.sleep(1)
        scene.core.hang_up()
        await scene.over.wait()
    assert lines_of(logs, "call ended")[0]["tools"] == {"lookup": 2}
