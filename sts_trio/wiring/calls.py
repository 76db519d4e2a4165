"""What all calls share, out of the settings."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from sts_trio.audio.resample import prepare
from sts_trio.call.config import SessionPolicy
from sts_trio.call.handler import CallHandler
from sts_trio.call.meter import NoMeter
from sts_trio.call.playout import Pace
from sts_trio.call.resume import ResumeRules
from sts_trio.call.rules import CallRules
from sts_trio.call.silence import NoInputRules
from sts_trio.wiring.fallback import find_fallback
from sts_trio.wiring.provider import spoken_rates
from sts_trio.wiring.services import open_ami, open_http, reach_services
from sts_trio.wiring.tools import find_tools, rule_problems

if TYPE_CHECKING:
    from sts_trio.call.meter import Meter
    from sts_trio.call.registry import Registry
    from sts_trio.providers.dial import Dial
    from sts_trio.settings import Settings
    from sts_trio.tools.tool import Tool

log = structlog.get_logger(__name__)


def build_rules(settings: Settings, tools: tuple[Tool, ...]) -> CallRules:
    """Put into one value what the operator decided about calls."""
    session_policy = SessionPolicy(
        greeting=settings.account.welcome_message,
        greet_with_config=settings.greet_with_config,
        has_config=settings.stored_config is not None,
        variables=settings.call_variables,
        overrides=settings.allow_call_overrides,
        declare_tools=settings.declare_tools,
    )
    return CallRules(
        session_policy=session_policy,
        lifeline=ResumeRules(settings.resume_seconds, settings.account.max_session_seconds),
        silence=NoInputRules(settings.silence_seconds, settings.silence_prompt),
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


def build_handler(
    settings: Settings, registry: Registry, dial: Dial | None = None, meter: Meter | None = None
) -> CallHandler:
    """Build what all calls share. What is wrong with a tool or a rule is logged, and stops nothing."""
    for rate in spoken_rates(settings):
        prepare(rate)
    http = open_http()
    ami = open_ami(settings, http)
    tools = find_tools(settings, ami)
    for problem in (*tools.problems, *rule_problems(settings, tools.tools)):
        log.warning("a tool or a rule cannot be used", problem=problem)
    if (ending := settings.ending_model()) is not None:
        log.warning("the model will be switched off", problem=ending)
    return CallHandler(
        rules=build_rules(settings, tools.tools),
        pace=Pace(lead=settings.playout_lead_ms / 1000),
        services=replace(reach_services(settings, http, ami, dial), meter=meter or NoMeter()),
        registry=registry,
        log_transcripts=settings.log_transcripts,
    )
