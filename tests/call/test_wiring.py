"""From settings to what calls share, and `sts-trio check`: what an operator is told of a tool, a rule, a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import structlog.testing
import trio
import trio.testing

from sts_trio.audio.pcm import BYTES_PER_SECOND
from sts_trio.call.config import Prompt
from sts_trio.call.handler import Registry
from sts_trio.call.meter import Cause
from sts_trio.check import check_all
from sts_trio.errors import ConfigError, ProviderLost
from sts_trio.lab.emulator import Emulator, EmulatorOptions, serve_stream
from sts_trio.providers.base import CallInfo
from sts_trio.settings.calls import EmotionRule
from sts_trio.tools.control import AmiFailed
from sts_trio.wiring import (
    SilentFallbackError,
    build_handler,
    build_rules,
    find_fallback,
    find_tools,
    open_ami,
    open_http,
    open_provider,
    reach_services,
    rule_problems,
)
from tests.call.fakes import wav_file
from tests.call.stage import ALL, KEY, make_settings
from tests.tools import http_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sts_trio.providers.dial import Dial, Endpoint

TOOL = '''
def opening_hours(day: str) -> str:
    """Say when we are open.

    Args:
        day: A day of the week.
    """
    return "nine to five"
'''


def to_emulator(nursery: trio.Nursery, provider: Any = "humeai") -> Dial:
    evi = Emulator(EmulatorOptions(service=provider, api_keys=frozenset({KEY}), seed=1))

    async def dial(endpoint: Endpoint) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(serve_stream, evi, theirs)
        return ours

    return dial


async def to_nowhere(endpoint: Endpoint) -> trio.abc.Stream:
    raise ProviderLost("cannot connect to evi.test:443: no route to host")


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        (EmotionRule("Anger", 0.6, tool="dsai_hangup"), None),
        (EmotionRule("anger", 0.6, webhook="http://crm/alert"), None),
        (EmotionRule("Angr", 0.6, webhook="http://crm/alert"), "no emotion 'Angr'; did you mean Anger?"),
        (EmotionRule("Xyzzy", 0.6, webhook="http://crm/alert"), "no emotion 'Xyzzy'"),
        (EmotionRule("Anger", 0.6, tool="dsai_tranfer"), "no tool 'dsai_tranfer' (see TOOLS_DIR and AMI_URL)"),
    ],
)
def test_a_rule_that_will_never_do_anything_is_told(rule: EmotionRule, problem: str | None, tmp_path: Path) -> None:
    chosen = make_settings(ami_url="http://ami:6006", tools_dir=str(tmp_path), emotion_rules=(rule,))
    tools = find_tools(chosen, open_ami(chosen, open_http())).tools
    problems = rule_problems(chosen, tools)
    assert len(problems) == (problem is not None)
    assert all(told.endswith(problem or "") for told in problems)


@pytest.mark.parametrize(
    ("ami_url", "names"),
    [(None, ["opening_hours"]), ("http://ami:6006", ["dsai_transfer", "dsai_hangup", "opening_hours"])],
)
def test_agents_may_ask_for_call_control_where_there_is_a_service_for_it(
    ami_url: str | None, names: list[str], tmp_path: Path
) -> None:
    (tmp_path / "opening_hours.py").write_text(TOOL)
    chosen = make_settings(ami_url=ami_url, tools_dir=str(tmp_path))
    found = find_tools(chosen, open_ami(chosen, open_http()))
    assert [tool.name for tool in found.tools] == names
    assert not found.problems


def test_only_a_directory_that_was_asked_for_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not find_tools(make_settings(), None).problems
    assert find_tools(make_settings(tools_dir="elsewhere"), None).problems


def test_the_rules_of_calls_are_the_operators_in_seconds() -> None:
    rule = EmotionRule("Anger", 0.6, tool="opening_hours")
    rules = build_rules(
        make_settings(
            config_id="config",
            call_control_grace_ms=1500,
            dtmf_mode="context",
            dtmf_gap_ms=700,
            emotions=False,
            emotion_rules=(rule,),
            init_seconds=7,
            max_call_seconds=99,
            call_variables=("from",),
            allow_call_overrides=True,
            declare_tools=False,
        ),
        (),
    )
    assert (rules.tool_grace, rules.keypad, rules.keypad_gap) == (1.5, "context", 0.7)
    assert (rules.emotions, rules.emotion_rules) == (False, (rule,))
    assert (rules.init_seconds, rules.most_seconds) == (7, 99)
    assert rules.session_policy.variables == ("from",)
    assert (rules.session_policy.overrides, rules.session_policy.declare_tools) == (True, False)
    assert rules.session_policy.greeting_for({}) == ""  # a configuration greets by itself
    assert build_rules(make_settings(), ()).session_policy.greeting_for({}) != ""


@pytest.mark.parametrize(
    ("config", "prompt"), [(None, Prompt("Be brief.", "text")), ("config", Prompt(None, "config"))]
)
async def test_a_stored_configuration_holds_the_prompt(config: str | None, prompt: Prompt) -> None:
    chosen = make_settings(instructions="Be brief.", config_id=config)
    services = reach_services(chosen, open_http(), None)
    assert services.instructions is not None
    assert await services.instructions(CallInfo(id="call-1")) == prompt


@pytest.mark.parametrize("milliseconds", [100, 900])
def test_the_lead_is_the_operators(milliseconds: int, tmp_path: Path) -> None:
    board = build_handler(make_settings(playout_lead_ms=milliseconds, tools_dir=str(tmp_path)), Registry())
    assert board.pace.lead == milliseconds / 1000


@ALL
async def test_a_check_says_what_works(nursery: trio.Nursery, tmp_path: Path, provider: str) -> None:
    (tmp_path / "opening_hours.py").write_text(TOOL)
    (tmp_path / "prompt.txt").write_text("Be brief.")
    lines: list[str] = []
    chosen = make_settings(provider, tools_dir=str(tmp_path), file_instructions=str(tmp_path / "prompt.txt"))
    assert await check_all(chosen, lines.append, to_emulator(nursery, provider))
    assert lines[:2] == ["ok: tools opening_hours", "ok: instructions of 9 characters"]
    assert lines[2].startswith("ok: evi.test" if provider == "humeai" else "ok: realtime.test")
    assert KEY not in "".join(lines)


def _broken_tool(directory: Path) -> dict[str, Any]:
    (directory / "broken.py").write_text("def (")
    return {}


def _no_prompt(directory: Path) -> dict[str, Any]:
    return {"file_instructions": str(directory / "gone.txt")}


def _useless_rule(_: Path) -> dict[str, Any]:
    return {"emotion_rules": (EmotionRule("Anger", 0.6, tool="gone"),)}


@pytest.mark.parametrize("fault", [_broken_tool, _no_prompt, _useless_rule])
async def test_a_check_fails_with_each_fault_and_checks_the_rest(
    nursery: trio.Nursery, tmp_path: Path, fault: Callable[[Path], dict[str, Any]]
) -> None:
    lines: list[str] = []
    chosen = make_settings(**{"tools_dir": str(tmp_path)} | fault(tmp_path))
    assert not await check_all(chosen, lines.append, to_emulator(nursery))
    assert sum(line.startswith("failed: ") for line in lines) == 1
    assert lines[-1].startswith("ok: evi.test")


async def test_a_check_names_the_end_of_a_model_and_the_prompt_that_is_not_there(
    nursery: trio.Nursery, tmp_path: Path
) -> None:
    lines: list[str] = []
    gone = {"model": "gpt-realtime", "file_instructions": str(tmp_path / "gone.txt")}
    chosen = make_settings("openai", tools_dir=str(tmp_path), **gone)
    assert not await check_all(chosen, lines.append, to_emulator(nursery, "openai"))
    assert lines[1] == (
        f"failed: OPENAI_FILE_INSTRUCTIONS: {tmp_path}/gone.txt: No such file or directory; "
        "a call has the default in its place"
    )
    assert lines[2] == "note: OPENAI_MODEL gpt-realtime ends on 20 January 2027 at OpenAI; gpt-realtime-2.1 replaces it"
    assert lines[3].startswith("ok: ")


def test_rules_about_emotions_are_told_where_there_are_none() -> None:
    rule = EmotionRule("Anger", 0.6, webhook="http://crm/alert")
    assert "no emotions" in rule_problems(make_settings("openai", emotion_rules=(rule,)), ())[0]


@ALL
def test_certificates_that_cannot_be_read_are_one_line_with_the_providers_own_name(
    provider: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"{provider.upper()}_CA_FILE is .*gone.pem, which cannot be used"):
        open_provider(make_settings(provider, ca_file=str(tmp_path / "gone.pem")))


@pytest.mark.parametrize(
    ("chosen", "line"),
    [
        ({"fallback_wav": "tone"}, "ok: a fallback of 4.0 s"),
        ({"fallback_wav": "gone.wav"}, "failed: FALLBACK_WAV is gone.wav, which cannot be used: "),
        ({"ami_url": "http://127.0.0.1:9"}, "failed: AMI_URL: "),
    ],
)
async def test_a_check_looks_at_the_fallback_and_for_the_ami_service(
    nursery: trio.Nursery, tmp_path: Path, chosen: dict[str, Any], line: str
) -> None:
    lines: list[str] = []
    settings = make_settings(tools_dir=str(tmp_path), **chosen)
    assert await check_all(settings, lines.append, to_emulator(nursery)) == line.startswith("ok")
    assert lines[1].startswith(line)


@pytest.mark.parametrize("status", [200, 404, 500])
async def test_an_ami_service_that_answers_anything_is_there(
    nursery: trio.Nursery, tmp_path: Path, status: int
) -> None:
    lines: list[str] = []
    async with http_server.serving(http_server.reply(status, {})) as ami:
        settings = make_settings(tools_dir=str(tmp_path), ami_url=ami.url)
        assert await check_all(settings, lines.append, to_emulator(nursery))
    assert lines[1] == "ok: the AMI service is there"
    assert len(ami.asked) == 1


async def test_a_check_names_the_configuration_that_it_opened(nursery: trio.Nursery, tmp_path: Path) -> None:
    lines: list[str] = []
    settings = make_settings(tools_dir=str(tmp_path), config_id="cfg-1", file_instructions=str(tmp_path / "gone.txt"))
    assert await check_all(settings, lines.append, to_emulator(nursery))
    assert len(lines) == 2, "a prompt that the configuration holds is not looked up"
    assert lines[1].endswith("with config cfg-1")


async def test_a_check_fails_without_a_provider(tmp_path: Path) -> None:
    lines: list[str] = []
    assert not await check_all(make_settings(tools_dir=str(tmp_path)), lines.append, to_nowhere)
    told = "failed: cannot connect to evi.test:443: no route to host (check HUMEAI_WS_URL)"
    assert lines == ["ok: tools (none)", told]


class FakeAmi:
    """An AMI service that notes what it is told, and may refuse transfers."""

    def __init__(self, *, transfers: bool = True) -> None:
        self.told: list[tuple[str, ...]] = []
        self._transfers = transfers

    async def transfer(self, uuid: str, exten: str, context: str, priority: int) -> str:
        await trio.lowlevel.checkpoint()
        self.told.append(("transfer", uuid, exten))
        if not self._transfers:
            raise AmiFailed("HTTP 500", "it refused the command")
        return "queued"

    async def hang_up(self, uuid: str) -> str:
        await trio.lowlevel.checkpoint()
        self.told.append(("hang up", uuid))
        return "queued"


MOVED, HUNG_UP = ("transfer", "u", "2000"), ("hang up", "u")


@pytest.mark.parametrize(
    ("cause", "chosen", "transfers", "told"),
    [
        (Cause.PROVIDER_FAILED, {}, True, []),
        (Cause.PROVIDER_FAILED, {"fallback_wav": "tone"}, True, [HUNG_UP]),
        (Cause.PROVIDER_FAILED, {"fallback_extension": "2000"}, True, [MOVED]),
        (Cause.PROVIDER_FAILED, {"fallback_wav": "tone", "fallback_extension": "2000"}, True, [MOVED]),
        (Cause.PROVIDER_FAILED, {"fallback_wav": "tone", "fallback_extension": "2000"}, False, [MOVED, HUNG_UP]),
        (Cause.PROVIDER_FAILED, {"fallback_extension": "2000"}, False, [MOVED, HUNG_UP]),
        (Cause.AGENT_ENDED, {"fallback_extension": "2000"}, True, [HUNG_UP]),
        (Cause.CALLER_SILENT, {"fallback_extension": "2000"}, True, [HUNG_UP]),
        (Cause.HUNG_UP, {"fallback_wav": "tone", "fallback_extension": "2000"}, True, []),
        (Cause.DRAINED, {"fallback_wav": "tone", "fallback_extension": "2000"}, True, []),
    ],
)
async def test_what_becomes_of_the_telephone_call_when_ours_is_over(
    cause: Cause, chosen: dict[str, str], transfers: bool, told: list[tuple[str, ...]]
) -> None:
    ami = FakeAmi(transfers=transfers)
    services = reach_services(make_settings(**chosen), open_http(), ami)  # type: ignore[arg-type]  # it has what is used of one
    assert services.release is not None
    goes_on = await services.release("u", cause)
    assert ami.told == told
    assert goes_on is (told == [MOVED])


def test_a_fallback_in_which_nothing_can_be_heard_is_refused(tmp_path: Path) -> None:
    (tmp_path / "silent.wav").write_bytes(wav_file(bytes(32_000), 8000))
    with pytest.raises(SilentFallbackError, match="nothing can be heard"):
        build_handler(make_settings(fallback_wav=str(tmp_path / "silent.wav")), Registry())


@pytest.mark.parametrize(("choice", "seconds"), [(None, 0), ("tone", 4), ("gone.wav", 4)])
def test_a_fallback_that_cannot_be_used_is_the_tone(choice: str | None, seconds: int) -> None:
    with structlog.testing.capture_logs() as lines:
        assert len(find_fallback(make_settings(fallback_wav=choice))) == seconds * BYTES_PER_SECOND
    told = [line for line in lines if line["log_level"] == "error"]
    assert len(told) == (choice == "gone.wav")
    assert all(line["problem"].startswith("FALLBACK_WAV is gone.wav, which cannot be used") for line in told)
