"""The door when there is no place, too much to do, or an end in sight: 503 before the upgrade, and nobody else hurt."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tests.call.stage import ONE, open_stage
from tests.fakes.raw_client import Heard, hear, hear_head, upgrade

if TYPE_CHECKING:
    from tests.call.stage import Stage

Clock = trio.testing.MockClock


async def ask(stage: Stage, path: str) -> Heard:
    stream = await stage.wire.connect()
    await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: sts\r\nConnection: close\r\n\r\n".encode())
    return await hear(stream)


async def refused(stage: Stage) -> dict[str, str]:
    """Ask for a call that is refused; return what it is told."""
    stream = await stage.wire.connect()
    await stream.send_all(upgrade())
    heard = await hear(stream)
    assert heard.status == 503
    assert "\r\nretry-after: 5\r\n" in heard.head.lower()
    told: dict[str, str] = json.loads(heard.body)
    return told


async def assert_shut(stage: Stage, reason: str) -> None:
    ready, health = await ask(stage, "/ready"), await ask(stage, "/health")
    assert (ready.status, json.loads(ready.body)["status"]) == (503, reason)
    assert "\r\nretry-after: 5\r\n" in ready.head.lower()
    assert (health.status, json.loads(health.body)["status"]) == (200, reason)
    assert "sts_accepting_calls 0.0" in (await ask(stage, "/metrics")).body.decode()


def count(stage: Stage) -> dict[str, int]:
    return dict(stage.registry.refused.counts)


async def test_a_service_with_room_is_ready(autojump_clock: Clock) -> None:
    async with open_stage(max_calls=1) as stage:
        ready = await ask(stage, "/ready")
        assert (ready.status, json.loads(ready.body)["status"]) == (200, "ready")
        metrics = await ask(stage, "/metrics")
        assert "content-type: text/plain" in metrics.head.lower()
        assert "sts_accepting_calls 1.0" in metrics.body.decode()
        assert count(stage) == {}


@ONE
async def test_a_full_service_refuses_and_the_calls_that_are_in_are_unhurt(
    provider: str, autojump_clock: Clock
) -> None:
    async with open_stage(provider=provider, max_calls=2, welcome_message="") as stage:
        callers = [await stage.call(uuid="uuid-1"), await stage.call(uuid="uuid-2")]
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(5):
            told = await refused(stage)
        assert told == {"reason": "full", "message": "all 2 lines are in use (see MAX_CALLS)"}
        await assert_shut(stage, "full")
        assert count(stage) == {"full": 5}, "asking is not calling"
        for caller in callers:
            await caller.speak(bytes(16_000))
        assert [session.chat.caller_bytes for session in stage.emulator.sessions] == [16_000, 16_000]
        await callers[0].socket.aclose()
        await trio.sleep(0.1)
        assert (await ask(stage, "/ready")).status == 200
        await stage.call(uuid="uuid-3")
        assert (await refused(stage))["reason"] == "full"


@pytest.mark.parametrize("most", [1, 3])
async def test_of_many_upgrades_at_once_exactly_as_many_get_in_as_there_are_places(
    most: int, autojump_clock: Clock
) -> None:
    """None of them has said `init` yet, or even heard that it is in."""
    statuses: list[str] = []

    async with open_stage(max_calls=most) as stage, trio.open_nursery() as nursery:

        async def dial() -> None:
            stream = await stage.wire.connect()
            await stream.send_all(upgrade())
            statuses.append((await hear_head(stream)).split()[1])

        for _ in range(20):
            nursery.start_soon(dial)
        await trio.sleep(0.5)
        assert sorted(statuses) == ["101"] * most + ["503"] * (20 - most)
        assert count(stage) == {"full": 20 - most}


@ONE
async def test_an_overloaded_service_takes_no_new_call_until_it_has_recovered(
    provider: str, autojump_clock: Clock
) -> None:
    async with open_stage(provider=provider, welcome_message="") as stage:
        caller = await stage.call()
        await trio.testing.wait_all_tasks_blocked()
        for tenth in range(11):
            stage.shedder.feed(0.2, tenth / 10)
        assert (await refused(stage))["reason"] == "overloaded"
        await assert_shut(stage, "overloaded")
        await caller.speak(bytes(16_000))
        assert stage.emulator.sessions[0].chat.caller_bytes == 16_000
        for tenth in range(11, 33):
            stage.shedder.feed(0.0, tenth / 10)
        assert (await ask(stage, "/ready")).status == 200
        await stage.call(uuid="uuid-2")
        assert count(stage) == {"overloaded": 1}


@ONE
async def test_a_draining_service_says_so_and_waits_for_who_is_in(provider: str, autojump_clock: Clock) -> None:
    async with open_stage(provider=provider, max_calls=1) as stage, trio.open_nursery() as nursery:
        caller = await stage.call()
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(stage.registry.drain)
        await trio.sleep(10)
        assert (await refused(stage))["reason"] == "draining"
        await assert_shut(stage, "draining")
        stopped_before = stage.registry.stopped
        await caller.socket.aclose()
        await trio.sleep(2)
        assert (stopped_before, stage.registry.stopped) == (False, True)
        assert 'sts_calls_refused_total{reason="draining"} 1.0' in (await ask(stage, "/metrics")).body.decode()
