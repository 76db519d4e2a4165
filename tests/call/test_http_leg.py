"""Calls over plain HTTP through the whole service in memory: the same conversation, with nothing but audio."""

from __future__ import annotations

import json
import logging
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import structlog.testing
import trio
import trio.testing

from sts_trio.call.meter import CallOutcome, Cause
from sts_trio.lab.emulator import CloseWith, Mute, Refuse, Script
from sts_trio.lab.harness.caller import place_call
from sts_trio.lab.harness.script import Speak, WaitForAgent
from sts_trio.web.call_stream import HEADERS_SECONDS
from tests.call.fakes import tone
from tests.call.stage import ALL, ONE, matrix, open_stage
from tests.e2e.evi import evi_in_memory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sts_trio.lab.harness.script import Step
    from tests.call.stage import Stage
    from tests.e2e.evi import Evi
    from tests.fakes.http_caller import HttpCaller

CHUNKS = [(320, 320), (1, 7), (100, 3000), (16_000, 16_000)]  # from which size to which
Clock = trio.testing.MockClock
UUID = "0b6f1f6e-54f0-4f6b-9a49-3d2a1f0c7e11"
LEAD = 0.04


@asynccontextmanager
async def open_leg(provider: str) -> AsyncIterator[tuple[Stage, Evi]]:
    """Open a service whose provider says what the test tells it to; both in memory. No call may fail inside."""
    async with evi_in_memory(provider) as (evi, dial):
        with structlog.testing.capture_logs() as lines:
            async with open_stage(provider=provider, dial=dial, welcome_message="") as stage:
                yield stage, evi
        assert not [line for line in lines if line["log_level"] == "error"]


async def place(stage: Stage, evi: Evi, number: int = 0) -> HttpCaller:
    """Place a call, and wait until its agent is there."""
    caller = await stage.wire.stream("/speech-to-speech-stream", ("X-UUID", UUID))
    while len(evi.chats) <= number:
        await trio.sleep(0.001)
    await trio.testing.wait_all_tasks_blocked()
    return caller


@pytest.mark.parametrize("scheme", ["ws", "http"])
@pytest.mark.parametrize(
    "rest",
    [
        "",
        "/",
        "/?from=1&to=2&channel=PJSIP%2F2000-00000013",
        "?uuid=0b6f1f6e-54f0-4f6b-9a49-3d2a1f0c7e11",
        "/speech-to-speech-stream",
        "/speech-to-speech-stream/",
        "/speech-to-speech-stream/?from=2000&to=5003",
        "//speech-to-speech-stream//",
        "//?from=1&from=2&x=[object%20Object]",
        "/speech-to-speech-stream/?&&=&%zz=%00;a",
    ],
)
@ONE
async def test_every_form_of_the_url_holds_a_call(provider: str, scheme: str, rest: str, autojump_clock: Clock) -> None:
    """The agent greets, and hears the caller."""
    async with open_stage(provider=provider, welcome_message="Hi.") as stage:
        script: list[Step] = [WaitForAgent(0.1), Speak(tone(0.2))]
        report = await place_call(f"{scheme}://h:6039{rest}", script, dial=stage.wire.connect)
        with trio.fail_after(1):
            while stage.registry.live:
                await trio.sleep(0.01)
        (session,) = stage.emulator.sessions
    assert (report.ended, report.unmet, report.errors) == ("script", (), ())
    assert report.measures.first_audio is not None
    assert stage.as_heard(tone(0.2)) in session.caller_audio


@pytest.mark.parametrize(
    ("provider", "sizes"),
    [
        *(("humeai", sizes) for sizes in CHUNKS),
        ("openai", CHUNKS[0]),
        ("xai", CHUNKS[0]),
        *(matrix(provider, sizes) for provider in ("openai", "xai") for sizes in CHUNKS[1:]),
    ],
    ids=str,
)
async def test_ten_seconds_each_way_while_the_request_is_open(
    provider: str, sizes: tuple[int, int], autojump_clock: Clock
) -> None:
    """Up bit exact, however the chunks are cut; down as it is spoken, and never more than two frames ahead."""
    dice = random.Random(1)
    up, down = dice.randbytes(160_000 if sizes[0] > 1 else 4_000), tone(10.0)
    async with open_leg(provider) as (stage, evi):
        caller = await place(stage, evi)
        await evi.speak(0, 10.0, "r", rate=8000)
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller.speak, up, lambda: dice.randint(*sizes))
            heard = await caller.hear(len(down))
        assert caller.ended == ""
        await caller.hang_up()
        with trio.fail_after(1):
            while evi.chats:
                await trio.sleep(0.01)
        assert bytes(evi.received) == stage.as_heard(up)
    assert heard == stage.as_heard(down)
    assert caller.answered_at - caller.began_at < 0.1
    assert {size for _, size in caller.arrivals} == {320}
    played = 0.0
    for at, size in caller.arrivals:
        played += size / 16_000
        assert -1e-6 <= played - (at - began) <= LEAD + 1e-6


@ALL
async def test_a_barge_in_leaves_less_than_60_ms_of_old_audio(provider: str, autojump_clock: Clock) -> None:
    async with open_leg(provider) as (stage, evi):
        caller = await place(stage, evi)
        await evi.speak(0, 8.0, "r1", rate=8000)
        await caller.hear(16_000)
        await evi.interrupt(0)
        before = len(caller.body)
        with trio.move_on_after(2) as quiet:
            await caller.hear(16_000)
        assert quiet.cancelled_caught
        stale = (len(caller.body) - before) / 16_000
        lead = before / 16_000 - 1.0  # what Core had got, and not yet played
        assert stale + max(lead, 0.0) <= 0.06
        await evi.speak(0, 0.5, "r1", rate=8000)  # late audio of the old reply
        await evi.speak(0, 0.5, "r2", rate=8000)
        assert await caller.hear(8_000) == stage.as_heard(tone(0.5))


async def test_the_uuid_of_the_request_names_the_call(autojump_clock: Clock) -> None:
    async with open_stage(welcome_message="") as stage:
        for target, headers in (
            ("/", [("X-UUID", UUID)]),
            (f"/?uuid={UUID}", []),
            ("/", [("X-UUID", "unknown")]),
            ("/", []),
        ):
            caller = await stage.wire.stream(target, *headers)
            await trio.sleep(0.1)
            (session,) = stage.emulator.live
            name = session.settings.custom_session_id
            assert isinstance(name, str)
            assert (name == UUID) == (UUID in f"{target}{headers}")
            assert name == UUID or name.startswith("call-")
            await caller.hang_up()
            await caller.hear_out()
            await session.ended.wait()


@ONE
@pytest.mark.parametrize("how", ["end", "reset", "half-close"])
async def test_a_caller_who_leaves_ends_the_chat(provider: str, how: str, autojump_clock: Clock) -> None:
    """At once, although the agent has a lot to say; and the response ends as well."""
    async with open_leg(provider) as (stage, evi):
        caller = await place(stage, evi)
        await evi.speak(0, 8.0, "r", rate=8000)
        await caller.hear(3200)
        left = trio.current_time()
        match how:
            case "end":
                await caller.hang_up()
            case "reset":
                await trio.aclose_forcefully(caller.socket)
            case _:
                await caller.socket.send_eof()
        if how != "reset":
            await caller.hear_out()
            assert caller.ended_at - left < 0.1
            assert len(caller.body) < 3200 + 1600
        if how == "end":
            assert caller.ended == "end"
        with trio.fail_after(1):
            while evi.chats or stage.registry.live or stage.wire.live:
                await trio.sleep(0.01)


@ONE
async def test_a_silent_caller_is_held(provider: str, autojump_clock: Clock) -> None:
    async with open_leg(provider) as (stage, evi):
        caller = await place(stage, evi)
        await trio.sleep(600)
        await caller.say(bytes(320))
        await evi.speak(0, 0.1, "r", rate=8000)
        assert await caller.hear(1600) == stage.as_heard(tone(0.1))
        assert bytes(evi.received) == bytes(320)  # which is nothing in G.711, too


@ONE
@pytest.mark.parametrize(
    ("trouble", "status", "cause"),
    [
        (Script(handshake=Refuse(401)), 500, "HTTP 401"),
        (Script(metadata=False, steps=(CloseWith(0.01, 1000),)), 500, "1000"),
        (Script(handshake=Mute()), 200, ""),
        (Script(metadata=False), 200, ""),
    ],
    ids=["refused", "closed", "mute", "no metadata"],
)
async def test_a_provider_that_fails_before_it_speaks(
    provider: str, trouble: Script, status: int, cause: str, autojump_clock: Clock
) -> None:
    """A quick failure has a status and its cause. After `HEADERS_SECONDS` there is only the end."""
    async with open_stage(provider=provider, script=lambda _: trouble) as stage:
        caller = await (await stage.wire.stream()).hear_out()
        await caller.hang_up()
    assert (caller.status, caller.ended) == (status, "end")
    assert (caller.answered_at - caller.began_at <= HEADERS_SECONDS + 1e-6) == (status in (200, 500))
    if status == 500:
        assert list(message := json.loads(caller.body)) == ["message"]
        assert cause in message["message"]
    else:
        assert caller.body == b""
        assert caller.ended_at - caller.began_at < 11


@pytest.mark.parametrize(("goes_on", "status"), [(True, 200), (False, 500)])
async def test_an_error_that_ends_nothing_is_no_500(goes_on: bool, status: int, autojump_clock: Clock) -> None:
    """All within `HEADERS_SECONDS`: an error, perhaps the caller's next turn, and the agent's good-bye.

    A Realtime service has none (docs/protocols/realtime.md 8.2).
    """
    async with open_leg("humeai") as (stage, evi):
        caller = await place(stage, evi)
        await evi.complain(0, "a hiccup")
        if goes_on:
            await evi.user_says(0, "bye")
        await evi.chats[0].aclose(1000, "bye")
        await caller.hear_out()
    assert (caller.status, caller.ended) == (status, "end")
    assert (b"a hiccup" in caller.body) == (status == 500)


async def test_an_agent_that_says_good_bye_is_heard_out(autojump_clock: Clock) -> None:
    async with open_leg("humeai") as (stage, evi):
        caller = await place(stage, evi)
        await evi.speak(0, 2.0, "r", rate=8000)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        await evi.chats[0].aclose(1000, "bye")
        await caller.hear_out()
        assert (caller.status, caller.ended, bytes(caller.body)) == (200, "end", stage.as_heard(tone(2.0)))
        assert 1.9 < caller.ended_at - began < 2.5


@ONE
async def test_a_drain_refuses_new_calls_and_ends_the_old_ones(provider: str, autojump_clock: Clock) -> None:
    async with open_leg(provider) as (stage, evi):
        old = await place(stage, evi)
        await evi.speak(0, 8.0, "r", rate=8000)
        await old.hear(320)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.registry.drain)
            await trio.testing.wait_all_tasks_blocked()
            refused = await (await stage.wire.stream()).hear_out()
            assert (refused.status, refused.headers["retry-after"]) == (503, "5")
            told = {"message": "the service is stopping; no new calls", "reason": "draining"}
            assert json.loads(refused.body) == told
            stage.registry.end_all(CallOutcome(Cause.DRAINED, 1001, "the service is stopping"))
            await old.hear_out()
            assert (old.status, old.ended) == (200, "end")
            await old.hang_up()
            await old.socket.send_eof()


@ONE
async def test_a_fault_of_ours_is_told_without_details(
    provider: str, autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)

    async def broken(endpoint: object) -> trio.abc.Stream:
        raise KeyError("secret 15551234567")

    async with open_stage(provider=provider, dial=broken) as stage:
        caller = await (await stage.wire.stream()).hear_out()
    assert (caller.status, caller.ended) == (500, "end")
    assert json.loads(caller.body) == {"message": "internal error of the connector"}


@ONE
async def test_callers_on_both_legs_hear_only_themselves(provider: str, autojump_clock: Clock) -> None:
    async with open_stage(provider=provider, welcome_message="", allow_call_overrides=True) as stage:
        loud, silent = [await stage.wire.stream(f"/?instructions={name}") for name in ("loud", "silent")]
        socket = await stage.call("/?instructions=socket")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(loud.speak, tone(2.0, level=1.0) + bytes(16_000))
            nursery.start_soon(silent.speak, bytes(48_000))
            nursery.start_soon(socket.speak, bytes(48_000))
        assert any(await loud.hear(16_000))
        with trio.move_on_after(5) as waiting:
            await silent.hear(1)
        assert waiting.cancelled_caught, "the silent caller heard something"
        sessions = {session.prompt: session for session in stage.emulator.live}
        assert bytes(sessions["silent"].caller_audio) == bytes(48_000)
        assert bytes(sessions["loud"].caller_audio[:32_000]) == stage.as_heard(tone(2.0, level=1.0))
        assert bytes(sessions["socket"].caller_audio) == bytes(48_000)
