"""A provider's bad moment in mid-call: the caller's side does not notice, and not a frame is lost."""

from __future__ import annotations

import base64
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from sts_trio.call.config import CallRules, Prompt, ResumeRules, Services, SessionPolicy
from sts_trio.core.wire import Digit, Error, PlayoutAudio
from sts_trio.errors import ConversationGone, ProviderLost
from sts_trio.lab.emulator import CloseWith, EmulatorOptions, HalfOpen, Refuse, Reset, Script, SendError
from sts_trio.providers.base import (
    AgentAudio,
    AgentFault,
    AgentText,
    AgentTurnEnd,
    CallInfo,
    SessionEnd,
    SessionEndKind,
    ToolCall,
)
from tests.call.bench import UUID, Bench
from tests.call.fakes import FRAME, Scene, begin, spoken, tone
from tests.call.stage import ALL, KEY, ONE, open_stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from sts_trio.lab.emulator import Emulator

BREAKS = {
    "reset": Script(steps=(Reset(3.01),)),
    "close 1011": Script(steps=(CloseWith(3.01, 1011),)),  # the other codes are rows of the fault matrix
    "I0116 and close 1000": Script(steps=(SendError(3.01, "I0116", "transcription"), CloseWith(3.01, 1000))),
    "I0100 and no close": Script(steps=(SendError(3.01, "I0100", "internal"),)),
}
REALTIME_BREAKS = {
    "reset": BREAKS["reset"],
    "close 1011": BREAKS["close 1011"],
    "session_expired": Script(steps=(SendError(3.01, "session_expired", "x", close=1001),)),
    "server_error and no close": Script(steps=(SendError(3.01, "x", "server_error"),)),
}


def first(broken: Script) -> Callable[[int], Script]:
    """Only the first connection has trouble."""
    return lambda number: broken if number == 0 else Script()


def numbered(frames: int) -> bytes:
    """Caller audio in which each frame says which it is: quiet, so that nobody takes it for speech."""
    return b"".join((number % 100).to_bytes(2, "little") * 160 for number in range(frames))


def heard_of_caller(emulator: Emulator) -> bytes:
    return b"".join(session.caller_audio for session in emulator.sessions)


def resumed(emulator: Emulator) -> list[bool]:
    return [session.chat.resumed for session in emulator.sessions]


@pytest.mark.parametrize(
    ("provider", "broken"),
    [
        *(pytest.param("humeai", broken, id=f"humeai {name}") for name, broken in BREAKS.items()),
        *(pytest.param("openai", broken, id=f"openai {name}") for name, broken in REALTIME_BREAKS.items()),
        pytest.param("xai", BREAKS["reset"], id="xai reset"),
    ],
)
async def test_the_caller_does_not_notice(
    provider: str, broken: Script, autojump_clock: trio.testing.MockClock
) -> None:
    said = numbered(250)
    async with open_stage(provider=provider, script=first(broken), welcome_message="Hello!") as stage:
        caller = await stage.call()
        messages: list[dict[str, object]] = []

        async def listen() -> None:
            while True:
                messages.append(await caller.hear())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await caller.speak(said)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert resumed(stage.emulator) == [False, True]
        before, after = stage.emulator.sessions
        if provider == "openai":
            assert after.realtime.items.seeded[0]["content"][0]["text"] == "Hello!"
        else:
            assert after.chat.group_id == before.chat.group_id
        assert heard_of_caller(stage.emulator) == stage.as_heard(said), "frames were lost, doubled or reordered"
        assert {message["type"] for message in messages} <= {"audio", "transcript"}
        greetings = [m for m in messages if m["type"] == "transcript" and m["text"] == "Hello!"]
        assert len(greetings) == 1
        assert stage.registry.live == 1
        if provider == "humeai":
            assert before.settings == after.settings
        else:
            assert before.realtime.session == after.realtime.session


@ALL
async def test_speech_that_was_queued_is_heard_out(provider: str, autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(
        provider=provider, script=first(Script(steps=(Reset(1.0),))), welcome_message="Hello, " * 12
    ) as stage:
        caller = await stage.call()
        heard = b""
        with trio.move_on_after(20):
            while True:
                message = await caller.hear()
                assert message["type"] in ("audio", "transcript")
                if message["type"] == "audio":
                    heard += base64.b64decode(str(message["audio"]))
        assert stage.emulator.connections == 2
        assert len(heard) > 2 * 16_000  # more than what had been played when it broke


@ALL
async def test_a_provider_that_is_away_for_a_while_loses_all_but_the_newest_five_seconds(
    provider: str,
    autojump_clock: trio.testing.MockClock,
) -> None:
    def script(number: int) -> Script:
        return Script(steps=(Reset(2.0),)) if number == 0 else Script(handshake=Refuse(503)) if number < 6 else Script()

    said = numbered(1000)
    async with open_stage(provider=provider, script=script, welcome_message="") as stage:
        caller = await stage.call()
        await caller.speak(said, 0.1)
        said = stage.as_heard(said)
        before, after = (s.caller_audio for s in stage.emulator.sessions if s.caller_audio)
        assert said.startswith(before)
        assert said.endswith(after)
        missing = len(said) - len(before) - len(after)
        assert missing == 0 or len(after) >= 5 * 16_000 - 640
        assert stage.registry.live == 1


@ALL
async def test_a_provider_that_falls_silent_still_gets_the_newest_five_seconds(
    provider: str,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Nothing tells of it but a ping without an answer; what is sent meanwhile disappears."""
    said = numbered(1250)
    silent = first(Script(steps=(HalfOpen(2.0),)))
    async with open_stage(provider=provider, script=silent, welcome_message="") as stage:
        caller = await stage.call()
        await caller.speak(said, 0.1)
        said = stage.as_heard(said)
        assert stage.emulator.connections == 2
        lost, after = (session.caller_audio for session in stage.emulator.sessions)
        assert said.startswith(lost)
        assert said.endswith(after)
        since = 25 - len(after) / 16_000  # seconds of the call at which the new session's audio begins
        assert since == pytest.approx(20 - 5, abs=0.1)  # given up after 20 s, with what was said in the 5 s before


async def test_a_provider_that_answers_a_ping_late_is_believed_again(autojump_clock: trio.testing.MockClock) -> None:
    """What it was sent while it might have been dead is not sent again when it goes later."""
    said = numbered(1100)
    broken = Script(steps=(HalfOpen(2.0, 14.0), Reset(18.01)))  # pinged after 10 s, it answers after 16
    async with open_stage(script=first(broken), welcome_message="") as stage:
        caller = await stage.call()
        await caller.speak(said, 0.1)
        assert resumed(stage.emulator) == [False, True]
        assert heard_of_caller(stage.emulator) == said, "frames were lost, doubled or reordered"


@ALL
async def test_a_refusal_that_will_not_change_ends_the_call_with_both_causes(
    provider: str,
    autojump_clock: trio.testing.MockClock,
) -> None:
    def script(number: int) -> Script:
        return Script(steps=(Reset(2.0),)) if number == 0 else Script(handshake=Refuse(401))

    async with open_stage(provider=provider, script=script) as stage:
        began = trio.current_time()
        heard, code = await (await stage.call()).hear_out()
        errors = [str(message["message"]) for message in heard if message["type"] == "error"]
        assert len(errors) == 1
        assert "broke" in errors[0]
        assert "HTTP 401" in errors[0]
        assert (code, trio.current_time() - began < 3) == (1011, True)


@pytest.mark.parametrize("provider", ["humeai", "xai"])
async def test_a_chat_group_that_is_gone_is_followed_by_a_new_chat(
    provider: str, autojump_clock: trio.testing.MockClock
) -> None:
    broken = first(Script(steps=(Reset(2.0),)))
    async with open_stage(provider=provider, script=broken, welcome_message="") as stage:
        caller = await stage.call()
        await caller.speak(bytes(16_000))
        stage.emulator._groups.clear()
        await caller.speak(bytes(3 * 16_000))
        asked = [session.chat.query.resumed_chat_group_id is not None for session in stage.emulator.sessions]
        assert asked == [False, True, False]
        assert stage.emulator.sessions[2].live


@pytest.mark.parametrize("gone", [True, False])
async def test_instructions_are_looked_up_once_a_call(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, gone: bool
) -> None:
    asked: list[CallInfo] = []

    async def instructions(call: CallInfo) -> Prompt:
        asked.append(call)
        return Prompt("Be brief.", "text")

    scene = await begin(nursery, services=partial(Services, instructions=instructions))
    scene.agent.said_ready = False
    if gone:
        scene.agent.failure = ConversationGone("no such group")
    scene.agent.feed(ProviderLost("it broke"))
    await trio.sleep(5)
    assert len(asked) == 1
    assert {call.session_config.instructions for call in scene.agent.calls} == {"Be brief."}
    assert [call.resume for call in scene.agent.calls] == [None, "group-1", *([None] if gone else [])]
    scene.core.hang_up()


async def test_what_is_keyed_between_two_sessions_reaches_the_next(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery)
    scene.agent.ready_after, scene.agent.said_ready = 2.0, False
    scene.agent.feed(ProviderLost("it broke"))
    await trio.sleep(0.5)
    scene.core.say(Digit("4"), Digit("#"))
    scene.core.speak(10)
    await trio.sleep(0.5)
    assert scene.agent.typed == []
    await trio.sleep(2)
    assert len(scene.agent.typed) == 1
    assert b"".join(scene.agent.audio) == FRAME * 10
    assert not [message for message in scene.core.messages if isinstance(message, Error)]
    scene.core.hang_up()


@pytest.mark.parametrize(("name", "answered"), [("lookup", [("t1", "shipped")]), ("dsai_transfer", [])])
async def test_a_tool_at_work_when_the_session_breaks_goes_on(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, name: str, answered: list[tuple[str, str]]
) -> None:
    bench = Bench(name, seconds=4.0)
    scene = await begin(nursery, rules=CallRules(tools=(bench.tool,)), uuid=UUID)
    scene.agent.feed(ToolCall("t1", name, "{}", response_required=True))
    await trio.sleep(1)
    scene.agent.said_ready = False
    scene.agent.feed(ProviderLost("it broke"))
    await trio.sleep(10)
    assert len(bench.finished) == 1
    assert scene.agent.answered == answered, "of the transfer nobody is to speak"
    scene.core.hang_up()


@ONE
async def test_a_call_of_three_hours_is_renewed_six_times_and_loses_no_frame(
    provider: str,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each lasts half an hour: EVI's by the settings; a Realtime service's, as Azure's, by what it says itself."""
    # It says so by the time of day, which does not wait for a mock clock.
    monkeypatch.setattr("sts_trio.lab.emulator.realtime.chat.time", SimpleNamespace(time=lambda: 1_800_000_000.0))
    monkeypatch.setattr("sts_trio.providers.openai.link.time", lambda: 1_800_000_000.0)
    options = EmulatorOptions(api_keys=frozenset({KEY}), seed=1, inactivity=1e9, max_duration=1800)
    async with open_stage(provider=provider, emulator=options, welcome_message="Hello!") as stage:
        caller = await stage.call()
        word, quiet = tone(0.9, level=0.3), numbered(150)
        sent = 0

        async def listen() -> None:
            while True:
                message = await caller.hear()
                assert message["type"] in ("audio", "transcript")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            began = trio.current_time() - 0.6  # so that a renewal falls due while he is heard
            for minute in range(180):
                # A session is renewed in its minute 29: around that he speaks each minute, else seldom.
                near = minute % 29 in (0, 28)
                if near or minute % 15 == 0:
                    said = word + (quiet if near else quiet[: len(quiet) // 3])
                    for start in range(0, len(said), 1600):
                        await caller.say(type="audio", audio=said[start : start + 1600])
                        await trio.sleep(0.1)
                    sent += len(said)
                await trio.sleep_until(began + 60 * (minute + 1))  # on hold
                assert stage.registry.live == 1, minute
            nursery.cancel_scope.cancel()
        sessions = stage.emulator.sessions
        assert len(sessions) == 7
        assert sum(session.chat.caller_bytes for session in sessions) == sent
        assert {session.close_code for session in sessions[:-1]} == {1000}
        assert not any(session.closed_by_server for session in sessions[:-1])
        quiet = stage.as_heard(quiet)
        assert all(quiet.find(session.caller_audio[:1600]) > 0 for session in sessions[1:]), "renewed in silence"


@pytest.mark.parametrize("provider", ["openai", "xai"])
async def test_a_session_is_renewed_before_its_limit_and_knows_what_was_said(
    provider: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_stage(provider=provider, welcome_message="Hello!", max_session_seconds=60.0) as stage:
        caller = await stage.call()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller.hear_out)
            said = b""
            for _ in range(65):
                said += numbered(50)
                await caller.say(type="audio", audio=numbered(50))
                await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert resumed(stage.emulator) == [False, True]
        before, after = stage.emulator.sessions
        assert (before.close_code, before.closed_by_server) == (1000, False)
        assert heard_of_caller(stage.emulator) == stage.as_heard(said)
        assert (provider == "openai") == ("Hello!" in str(after.realtime.items.seeded))


async def test_nothing_is_renewed_while_the_agent_speaks(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    rules = CallRules(lifeline=ResumeRules(renew_seconds=60), session_policy=SessionPolicy())
    scene = await begin(nursery, rules=rules)
    await trio.sleep(58)
    scene.agent.feed(AgentText("r", "A story."), *[spoken(0.1, "r") for _ in range(100)], AgentTurnEnd())
    await trio.sleep(9)
    assert len(scene.agent.calls) == 1
    scene.agent.said_ready = False
    await trio.sleep(3)
    assert len(scene.agent.calls) == 2
    assert scene.agent.open_sessions == 1
    played = [message for _, message in scene.core.heard if isinstance(message, PlayoutAudio)]
    assert sum(len(message.audio) for message in played) == 160_000
    scene.agent.feed(AgentAudio("s", spoken(0.5).wav), AgentTurnEnd())
    await trio.sleep(1)
    assert len(scene.core.audio) == 168_000
    scene.core.hang_up()


async def speak(scene: Scene, length: float) -> None:
    for _ in range(round(length / 0.02)):
        scene.core.speak(1, tone(0.02))
        await trio.sleep(0.02)


async def test_nothing_is_renewed_while_the_caller_speaks(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery, rules=CallRules(lifeline=ResumeRules(renew_seconds=10)))
    nursery.start_soon(speak, scene, 15.0)
    await trio.sleep(15.5)
    assert len(scene.agent.calls) == 1
    scene.agent.said_ready = False
    await trio.sleep(2)
    assert len(scene.agent.calls) == 2
    scene.core.hang_up()


async def test_a_caller_who_has_just_spoken_is_no_quiet_moment(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery, rules=CallRules(lifeline=ResumeRules(renew_seconds=10)))
    await trio.sleep(9.0)
    await speak(scene, 0.8)
    await trio.sleep(0.7)
    assert len(scene.agent.calls) == 1, "he is taking breath"
    await trio.sleep(1.0)
    assert len(scene.agent.calls) == 2
    scene.core.hang_up()


async def test_a_renewal_that_is_ready_when_the_caller_speaks_again_makes_way(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """His sentence would be cut in two, and the answer be lost with the session that it was given to."""
    scene = await begin(nursery, rules=CallRules(lifeline=ResumeRules(renew_seconds=10)))
    scene.agent.said_ready, scene.agent.ready_after = False, 1.0
    await trio.sleep(10.5)
    assert len(scene.agent.calls) == 2
    await speak(scene, 3.0)
    assert scene.agent.open_sessions == 1
    scene.agent.said_ready = False
    scene.agent.feed(AgentText("r", "Yes."), AgentAudio("r", spoken(2.0).wav), AgentTurnEnd())
    await trio.sleep(2.2)
    assert len(scene.core.audio) == 32_000
    await trio.sleep(3)
    assert (len(scene.agent.calls), scene.agent.open_sessions) == (3, 1)
    assert len(scene.agent.audio) == 150
    scene.core.hang_up()
    await scene.over.wait()


async def test_a_renewal_that_cannot_wait_takes_the_answer_of_an_old_tool_along(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench("hours", 100.0)
    rules = CallRules(lifeline=ResumeRules(renew_seconds=10), tools=(bench.tool,))
    scene = await begin(nursery, rules=rules, uuid=UUID)
    scene.agent.feed(ToolCall("t1", "hours", "{}", response_required=True))
    await trio.sleep(50)
    assert len(scene.agent.calls) == 1
    scene.agent.said_ready = False
    await trio.sleep(100)
    assert len(scene.agent.calls) >= 2
    assert len(scene.agent.answered) == 1
    assert len(bench.finished) == 1
    scene.core.hang_up()


async def test_an_error_that_the_chat_survived_does_not_keep_it_from_being_resumed(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery)
    scene.agent.feed(AgentFault("no such field (E0101)"))
    await trio.sleep(3)
    scene.agent.said_ready = False
    scene.agent.feed(SessionEnd("the connection broke (1006)", SessionEndKind.LOST))
    await trio.sleep(3)
    assert scene.outcome is None
    assert len(scene.agent.calls) == 2
    scene.core.hang_up()
    await scene.over.wait()


@pytest.mark.parametrize("pause", [6, 14.9, 20, 40])
async def test_a_caller_on_hold_survives_breaks_in_a_row(
    nursery: trio.Nursery, pause: float, autojump_clock: trio.testing.MockClock
) -> None:
    """A provider that restarts node after node; nobody speaks, so no session says anything."""
    scene = await begin(nursery)
    for _ in range(4):
        await trio.sleep(pause)
        scene.agent.said_ready = False
        scene.agent.feed(SessionEnd("the connection broke (1006)", SessionEndKind.LOST))
    await trio.sleep(2)
    assert scene.outcome is None
    assert scene.agent.open_sessions == 1
    scene.core.hang_up()
    await scene.over.wait()


async def test_no_session_is_opened_after_the_good_bye(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery, rules=CallRules(lifeline=ResumeRules(renew_seconds=10)))
    await trio.sleep(9.5)
    scene.agent.feed(AgentText("r", "Bye."), AgentAudio("r", spoken(0.2).wav), AgentTurnEnd())
    scene.agent.feed(AgentAudio("r", spoken(60.0).wav))
    scene.agent.feed(AgentTurnEnd(), SessionEnd("good-bye", SessionEndKind.GOODBYE))
    with trio.fail_after(65):
        await scene.over.wait()
    assert len(scene.agent.calls) == 1
