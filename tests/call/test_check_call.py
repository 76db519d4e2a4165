"""`sts-trio check` tells the provider what a call tells it; with `--call` it listens for the greeting."""

from __future__ import annotations

import base64
import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from click.testing import CliRunner
from trio_websocket import ConnectionClosed, wrap_server_stream

from sts_trio import check
from sts_trio.check import check_all
from sts_trio.cli import main
from sts_trio.lab.emulator import Emulator, EmulatorOptions, serve_stream
from tests.call.fakes import tone
from tests.call.stage import ALL, BOTH, KEY, make_settings, open_stage
from tests.fakes.gateways import Answer, Gateway
from tests.tools import http_server

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sts_trio.lab.emulator.emulator import Session
    from sts_trio.providers.dial import Dial, Endpoint

Clock = trio.testing.MockClock
TOOL = '''
def opening_hours(day: str) -> str:
    """Say when we are open.

    Args:
        day: A day of the week.
    """
    return "nine to five"
'''


def to(emulator: Emulator, nursery: trio.Nursery) -> Dial:
    async def dial(endpoint: Endpoint) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(serve_stream, emulator, theirs)
        return ours

    return dial


def told(session: Session, provider: str) -> object:
    """All that a session was told when it was opened, but for the call's own id."""
    if provider == "humeai":
        settings = {name: getattr(session.settings, name) for name in session.settings.__struct_fields__}
        return session.query.config_id, settings | {"custom_session_id": None}
    return session.realtime.session


# What is sent.


@ALL
@pytest.mark.parametrize("source", ["file", "url", "text"])
async def test_a_check_tells_the_provider_what_a_call_tells_it(
    source: str, provider: str, nursery: trio.Nursery, tmp_path: Path
) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "opening_hours.py").write_text(TOOL)
    (tmp_path / "prompt.txt").write_text("You are the night desk of a clinic.")
    async with http_server.serving(http_server.reply(200, {"system": "You are the night desk of a clinic."})) as crm:
        prompt = {
            "file": {"file_instructions": str(tmp_path / "prompt.txt")},
            "url": {"url_instructions": crm.url},
            "text": {"instructions": "You are the night desk of a clinic."},
        }[source]
        voice = {"voice_id": "night"} if provider == "humeai" else {"voice": "sage"}
        chosen: dict[str, Any] = {**prompt, **voice, "tools_dir": str(tmp_path / "tools")}

        emulator = Emulator(EmulatorOptions(service=provider, api_keys=frozenset({KEY}), seed=1))
        lines: list[str] = []
        assert await check_all(make_settings(provider, **chosen), lines.append, to(emulator, nursery)), lines
        async with open_stage(provider=provider, **chosen) as stage:
            caller = await stage.call()
            await caller.hear_until("audio")
            of_call = told(stage.emulator.sessions[0], provider)
            await caller.socket.aclose()
    of_check = told(emulator.sessions[0], provider)
    assert of_check == of_call
    for word in ("night desk", "opening_hours", "sage" if "voice" in voice else "night"):
        assert word in repr(of_check)


@BOTH
async def test_a_prompt_that_is_not_there_is_told_with_its_reason_and_what_a_call_has(
    provider: str, nursery: trio.Nursery, tmp_path: Path
) -> None:
    (tmp_path / "prompt.txt").write_text("Be brief.")
    emulator = Emulator(EmulatorOptions(service=provider, api_keys=frozenset({KEY}), seed=1))
    lines: list[str] = []
    async with http_server.serving(http_server.reply(500, {})) as crm:
        settings = make_settings(provider, url_instructions=crm.url, file_instructions=str(tmp_path / "prompt.txt"))
        assert not await check_all(settings, lines.append, to(emulator, nursery))
    name = f"{provider.upper()}_URL_INSTRUCTIONS"
    assert lines[1] == f"failed: {name}: {crm.url}: it answered HTTP 500; a call has the file's in its place"
    assert lines[2] == "ok: instructions of 9 characters"
    assert emulator.sessions[0].prompt == "Be brief."


# What the provider has against it.


class Scripted:
    """A service that says this after the session's settings have come (Realtime), or at once (EVI)."""

    def __init__(self, provider: str, *script: dict[str, Any]) -> None:
        self.provider = provider
        self.script = script

    async def dial(self, endpoint: Endpoint) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        self.nursery.start_soon(self._serve, theirs)
        return ours

    def begin(self, nursery: trio.Nursery) -> Dial:
        self.nursery = nursery
        return self.dial

    async def _serve(self, stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as nursery:
            connection = await (await wrap_server_stream(nursery, stream)).accept()
            with suppress(ConnectionClosed):
                if self.provider == "humeai":
                    first = {"type": "chat_metadata", "chat_id": "c", "chat_group_id": "g", "request_id": "r"}
                    await connection.send_message(json.dumps(first))
                else:
                    await connection.send_message('{"type":"session.created","session":{"id":"s"}}')
                    await connection.get_message()
                for said in self.script:
                    await connection.send_message(json.dumps(said))
                while True:
                    await connection.get_message()
            nursery.cancel_scope.cancel()


def refused(param: str) -> dict[str, Any]:
    error = {"type": "invalid_request_error", "code": "invalid_value", "message": "No.", "param": param}
    return {"type": "error", "error": error | {"event_id": "settings"}}


@pytest.mark.parametrize(
    ("param", "setting"),
    [
        ("session.audio.output.voice", "OPENAI_VOICE"),
        ("session.audio.input.turn_detection.eagerness", "OPENAI_TURN_DETECTION"),
        ("session.audio.input.format.rate", "OPENAI_AUDIO_FORMAT"),
        ("session.audio.input.noise_reduction.type", "OPENAI_NOISE_REDUCTION"),
        ("session.reasoning.effort", "OPENAI_REASONING_EFFORT"),
        ("session.max_output_tokens", "OPENAI_MAX_TOKENS"),
        ("session.tools[0].parameters", "TOOLS_DIR"),
        ("session.instructions", "OPENAI_INSTRUCTIONS"),
    ],
)
async def test_a_field_that_is_not_taken_is_told_by_its_setting(
    param: str, setting: str, nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    lines: list[str] = []
    service = Scripted("openai", refused(param))
    assert not await check_all(make_settings("openai"), lines.append, service.begin(nursery))
    assert lines[-1] == (
        f"failed: OpenAI did not take the session's settings: No. (invalid_value {param}); check {setting}"
    )


async def test_a_service_that_speaks_the_beta_is_told_so(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    lines: list[str] = []
    service = Scripted("openai", refused("session.type"))
    assert not await check_all(make_settings("openai"), lines.append, service.begin(nursery))
    assert "the service speaks the beta of this protocol" in lines[-1]
    assert "OPENAI_BASE_URL" in lines[-1]


async def test_what_is_said_against_a_session_after_it_was_opened_counts(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    """EVI confirms no settings: it complains of them, or not."""
    lines: list[str] = []
    error = {"type": "error", "code": "E0300", "slug": "voice_not_found", "message": "No such voice."}
    assert not await check_all(make_settings(), lines.append, Scripted("humeai", error).begin(nursery))
    assert lines[-1].startswith("failed: ")
    assert "No such voice. (E0300 voice_not_found)" in lines[-1]
    assert lines[-1].endswith("check HUMEAI_VOICE_ID, HUMEAI_CONFIG_ID and HUMEAI_INSTRUCTIONS")


# The greeting.


@ALL
async def test_the_greeting_is_heard_and_how_long_it_took_is_told(
    provider: str, nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    emulator = Emulator(EmulatorOptions(service=provider, api_keys=frozenset({KEY}), seed=1))
    lines: list[str] = []
    assert await check_all(make_settings(provider), lines.append, to(emulator, nursery), call=True)
    found = re.fullmatch(r"ok: the greeting is heard (\d+) ms after the call began", lines[-1])
    assert found is not None
    assert int(found[1]) < 2000
    assert len(emulator.sessions) == 2
    assert all(not session.live for session in emulator.sessions)


@ALL
async def test_an_agent_that_waits_for_the_caller_is_not_waited_for(
    provider: str, nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    emulator = Emulator(EmulatorOptions(service=provider, api_keys=frozenset({KEY}), seed=1))
    lines: list[str] = []
    settings = make_settings(provider, welcome_message="")
    assert await check_all(settings, lines.append, to(emulator, nursery), call=True)
    assert lines[-1].startswith(f"note: {provider.upper()}_WELCOME_MESSAGE is empty")


def voice(pcm: bytes) -> Sequence[dict[str, Any]]:
    """An answer of a Realtime service."""
    return [
        {"type": "session.updated", "session": {}},
        {"type": "response.created", "response": {"id": "r"}},
        {"type": "response.output_audio.delta", "response_id": "r", "item_id": "i", "delta": _base64(pcm)},
        {"type": "response.done", "response": {"id": "r", "status": "completed"}},
    ]


def _base64(pcm: bytes) -> str:
    return base64.b64encode(pcm).decode()


@pytest.mark.parametrize(
    ("pcm", "line"),
    [
        (tone(1.0, rate=24_000), "ok: the greeting is heard "),
        (bytes(48_000), "failed: 1.0 s of the agent's voice came, and nothing can be heard in it; check OPENAI_VOICE"),
        (b"", "failed: no sound of the greeting within 20 s (READY_SECONDS and ANSWER_SECONDS); check OPENAI_VOICE"),
    ],
    ids=["loud", "silent", "nothing"],
)
async def test_only_what_can_be_heard_is_a_greeting(
    pcm: bytes, line: str, nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    lines: list[str] = []
    service = Scripted("openai", *voice(pcm))
    settings = make_settings("openai", audio_format="pcm", fallback_wav="tone")
    worked = await check_all(settings, lines.append, service.begin(nursery), call=True)
    assert worked == line.startswith("ok")
    assert lines[-1].startswith(line)


@ALL
async def test_a_call_that_fails_where_the_session_opened_is_told(
    provider: str, nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    """The fallback's tone is no greeting."""
    gateway = Gateway(lambda _: None if len(gateway.requests) == 1 else Answer(401, "no longer"), provider)
    lines: list[str] = []
    settings = make_settings(provider, fallback_wav="tone")
    assert not await check_all(settings, lines.append, gateway.dial(nursery), call=True)
    assert lines[-2].startswith("ok: ")
    assert lines[-1].startswith("failed: ")
    assert f"{provider.upper()}_API_KEY" in lines[-1]


async def test_a_configuration_that_does_not_greet_is_told_what_does(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    lines: list[str] = []
    settings = make_settings(config_id="cfg-1")
    assert not await check_all(settings, lines.append, Scripted("humeai").begin(nursery), call=True)
    assert lines[-1].startswith("failed: no sound of the greeting within 20 s")
    assert lines[-1].endswith("a configuration that does not greet wants HUMEAI_GREET_WITH_CONFIG=true")


async def test_without_a_session_no_call_is_placed(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    gateway = Gateway(lambda _: Answer(401, "no"))
    lines: list[str] = []
    assert not await check_all(make_settings("openai"), lines.append, gateway.dial(nursery), call=True)
    assert len(gateway.requests) == 1
    assert len(lines) == 2


@pytest.mark.parametrize("call", [False, True])
def test_the_command_places_a_call_where_it_is_told_to(
    call: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, restored_logging: None
) -> None:
    asked: list[bool] = []

    async def check_nothing(*_: object, call: bool) -> bool:
        asked.append(call)
        return False

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HUMEAI_API_KEY", KEY)
    monkeypatch.setattr(check, "check_all", check_nothing)
    result = CliRunner().invoke(main, ["check", "--call"] if call else ["check"])
    assert asked == [call]
    assert result.exit_code == 1
