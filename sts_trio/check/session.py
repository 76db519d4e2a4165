"""Would the provider open a session? It is told what a call tells it: prompt, tools, voice, formats."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import trio

from sts_trio.check.finding import Finding, Level, name_settings, remedy, with_setting
from sts_trio.errors import ConfigError, ProviderBusy, ProviderError, ProviderTimeout
from sts_trio.providers.base import AgentFault, CallInfo, SessionEnd
from sts_trio.wiring import build_rules, open_provider

if TYPE_CHECKING:
    from sts_trio.call.config import Prompt
    from sts_trio.check.finding import Report
    from sts_trio.providers.base import AgentLink
    from sts_trio.providers.dial import Dial
    from sts_trio.settings import Settings
    from sts_trio.tools.tool import Tool

# For an objection to what a session was told after it had begun: some protocols confirm nothing.
_OBJECTION_SECONDS = 0.5


async def check_session(
    settings: Settings, report: Report, dial: Dial | None, prompt: Prompt, tools: tuple[Tool, ...]
) -> bool:
    """Open a session as a call does, with its prompt and tools, and close it again, nothing said."""
    for note in settings.notes(datetime.now(UTC).date()):
        report(Finding(Level.NOTE, "provider", note))
    began = trio.current_time()
    told = build_rules(settings, tools).session_policy.session_config({}, tools)
    call = CallInfo(id="check", session_config=replace(told, instructions=prompt.text))
    try:
        provider = open_provider(settings, dial)
        async with provider(call) as link:
            await link.receive()  # what the provider says first; a session that has been opened has it
            took = (trio.current_time() - began) * 1000
            objection = await _objection(link)
    except (ConfigError, ProviderError) as exc:
        report(Finding(Level.WRONG, "session", _explained(exc, settings)))
        return False
    if objection:
        names = name_settings(settings, "voice", "voice_id", "config_id", "instructions")
        report(Finding(Level.WRONG, "session", with_setting(objection, f"check {names}", settings)))
        return False
    config = settings.provider.config_id
    mode = f"config {config}" if config else "instructions and voice of the environment"
    report(Finding(Level.OK, "session", f"{provider.endpoint} opened a chat in {took:.0f} ms, with {mode}"))
    return True


async def _objection(link: AgentLink) -> str:
    """What the provider has against the session that it has just opened, if anything."""
    with trio.move_on_after(_OBJECTION_SECONDS):
        while True:
            match await link.receive():
                case AgentFault(message=message):
                    return message
                case SessionEnd(cause=cause):
                    return cause
    return ""


def _explained(exc: ConfigError | ProviderError, settings: Settings) -> str:
    """What went wrong, and which setting to look at; most of it says so by itself."""
    url = name_settings(settings, "url")
    if isinstance(exc, ProviderTimeout):
        hint = f"check {url} and the way there, or give it longer by READY_SECONDS"
    elif isinstance(exc, ProviderBusy):
        account = f"the account of {name_settings(settings, 'api_key')}"
        hint = f"try again in a minute; if that lasts, {account} has too little room"
    elif "certificate" in str(exc):
        hint = f"name its authority by {name_settings(settings, 'ca_file')}, or check {url}"
    elif isinstance(exc, ProviderError) and exc.retryable:
        hint = f"try again in a minute, or check {url}"
    else:
        hint = f"check {url} and {name_settings(settings, 'api_key')}"
    text = with_setting(str(exc), hint, settings)
    # What the provider answers may be of any cause.
    do = remedy(text) if "cannot connect" in text or "which cannot be" in text else ""
    return f"{text}; {do}" if do else text
