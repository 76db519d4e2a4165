"""How calls are put together: settings → what all calls share. A wrong tool or rule is a warning, never an end."""

from __future__ import annotations

import ssl
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from sts_trio.audio.resample import prepare
from sts_trio.call.answer import Switchboard
from sts_trio.call.briefing import Briefing
from sts_trio.call.lifeline import LifelineRules
from sts_trio.call.meter import NoMeter
from sts_trio.call.outcome import Cause
from sts_trio.call.playout import Pace
from sts_trio.call.rules import CallRules
from sts_trio.call.services import Services
from sts_trio.call.silence import SilenceRules
from sts_trio.choosing import open_provider, spoken_rates
from sts_trio.errors import ConfigError
from sts_trio.fallback import TONE, load_fallback
from sts_trio.http_client import HttpClient
from sts_trio.providers.breaker import Breaker, guarded
from sts_trio.providers.hume.emotions import EMOTIONS
from sts_trio.providers.instructions import InstructionSource
from sts_trio.settings.calls import DEFAULT_TOOLS_DIR
from sts_trio.tools.ami import AmiClient
from sts_trio.tools.control import call_control_tools, hang_up, transfer
from sts_trio.tools.custom import LoadedTools, load_tools
from sts_trio.tools.webhook import post_event

if TYPE_CHECKING:
    from sts_trio.call.meter import Meter
    from sts_trio.call.registry import Registry
    from sts_trio.providers.dial import Dial
    from sts_trio.providers.events import CallInfo
    from sts_trio.settings import Settings
    from sts_trio.tools.tool import Tool

log = structlog.get_logger(__name__)

_TAKEN = {"dsai_transfer", "dsai_hangup", "hang_up", "web_search"}  # names of our own tools, and of Hume's


def open_http() -> HttpClient:
    """Build the way to services of the operator's own."""
    return HttpClient(ssl.create_default_context())


def open_ami(settings: Settings, http: HttpClient) -> AmiClient | None:
    """Build the way to the AMI service, if there is one."""
    return AmiClient(settings.ami_url, http) if settings.ami_url else None


def read_instructions(settings: Settings, http: HttpClient) -> InstructionSource:
    """Build the sources of the agent's prompt."""
    return InstructionSource(
        text=settings.account.instructions,
        url=settings.account.url_instructions,
        file=settings.account.file_instructions,
        seconds=settings.instructions_seconds,
        http=http,
    )


def find_tools(settings: Settings, ami: AmiClient | None) -> LoadedTools:
    """Gather what agents may ask for: call control, if there is a service for it, and the operator's own tools."""
    log.debug("loading tools", directory=settings.tools_dir)  # files are run: if one never ends, this is the last line
    control = call_control_tools(ami) if ami else ()
    own = load_tools(
        Path(settings.tools_dir),
        explicit=settings.tools_dir != DEFAULT_TOOLS_DIR,
        seconds=settings.tool_seconds,
        taken=_TAKEN,
    )
    return LoadedTools((*control, *own.tools), own.problems)


def reach_services(settings: Settings, http: HttpClient, ami: AmiClient | None, dial: Dial | None = None) -> Services:
    """Build what a call may use of the world."""
    sources = read_instructions(settings, http)

    async def instructions(call: CallInfo) -> str | None:
        # A stored configuration holds the prompt.
        return None if settings.stored_config else await sources.load(call.uuid, call=call.id)

    async def release(uuid: str, cause: Cause) -> bool:
        if ami is None:
            return False
        failed = cause is Cause.PROVIDER_FAILED
        if failed and settings.fallback_extension and await transfer(ami, uuid, settings.fallback_extension):
            return True
        seen_to = failed and (settings.fallback_wav or settings.fallback_extension)
        if seen_to or cause in (Cause.AGENT_ENDED, Cause.CALLER_SILENT):
            await hang_up(ami, uuid)
        return False

    breaker = Breaker(settings.breaker_failures, settings.breaker_seconds)
    return Services(
        open_agent=guarded(open_provider(settings, dial), breaker),
        instructions=instructions,
        webhook=partial(post_event, http),
        release=release,
    )


def find_fallback(settings: Settings) -> bytes:
    """Load what a caller hears when the agent has failed; for a file that cannot be used the tone, and a log line."""
    if settings.fallback_wav is None:
        return b""
    try:
        return load_fallback(settings.fallback_wav)
    except ConfigError as exc:
        log.error("callers whose agent fails will hear the tone", problem=str(exc))
        return load_fallback(TONE)


def build_rules(settings: Settings, tools: tuple[Tool, ...]) -> CallRules:
    """Put into one value what the operator decided about calls."""
    briefing = Briefing(
        greeting=settings.account.welcome_message,
        greet_with_config=settings.greet_with_config,
        has_config=settings.stored_config is not None,
        variables=settings.call_variables,
        overrides=settings.allow_call_overrides,
        declare_tools=settings.declare_tools,
    )
    return CallRules(
        briefing=briefing,
        lifeline=LifelineRules(settings.resume_seconds, settings.account.max_session_seconds),
        silence=SilenceRules(settings.silence_seconds, settings.silence_prompt),
        fallback=find_fallback(settings),
        answer_seconds=settings.answer_seconds,
        tools=tools,
        tool_grace=settings.call_control_grace_ms / 1000,
        keypad=settings.dtmf_mode,
        keypad_gap=settings.dtmf_gap_ms / 1000,
        emotion_rules=settings.emotion_rules,
        emotions=settings.emotions,
        init_seconds=settings.init_seconds,
        most_seconds=settings.max_call_seconds,
    )


def build_switchboard(
    settings: Settings, registry: Registry, dial: Dial | None = None, meter: Meter | None = None
) -> Switchboard:
    """Build what all calls share. What is wrong with a tool or a rule is logged, and stops nothing."""
    for rate in spoken_rates(settings):
        prepare(rate)
    http = open_http()
    ami = open_ami(settings, http)
    tools = find_tools(settings, ami)
    for problem in (*tools.problems, *rule_problems(settings, tools.tools)):
        log.warning(problem)
    if (ending := settings.ending_model()) is not None:
        log.warning(ending)
    return Switchboard(
        rules=build_rules(settings, tools.tools),
        pace=Pace(lead=settings.playout_lead_ms / 1000),
        services=replace(reach_services(settings, http, ami, dial), meter=meter or NoMeter()),
        registry=registry,
        log_transcripts=settings.log_transcripts,
    )


def rule_problems(settings: Settings, tools: tuple[Tool, ...]) -> list[str]:
    """Say which of the EMOTION_RULES will never do anything."""
    by_name = {tool.name: tool for tool in tools}
    known = {emotion.casefold() for emotion in EMOTIONS}
    if settings.emotion_rules and settings.provider != "humeai":
        return [f"EMOTION_RULES: {settings.provider} reports no emotions, so no rule will ever do anything"]
    problems = []
    for rule in settings.emotion_rules:
        if rule.emotion.casefold() not in known:
            close = get_close_matches(rule.emotion.title(), EMOTIONS, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            problems.append(f"EMOTION_RULES: Hume reports no emotion {rule.emotion!r}{hint}")
        if rule.tool is not None and rule.tool not in by_name:
            problems.append(f"EMOTION_RULES: there is no tool {rule.tool!r} (see TOOLS_DIR and AMI_URL)")
        elif rule.tool is not None and (why := by_name[rule.tool].check(rule.arguments)):
            problems.append(f"EMOTION_RULES: {rule.tool} cannot be called like this: {why}")
    return problems
