"""`sts-trio check`: would a call work with these settings? One line for each finding."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import trio

from sts_trio.audio.pcm import seconds
from sts_trio.errors import ConfigError, ProviderError
from sts_trio.http_client import HttpFailed
from sts_trio.providers.base import CallInfo
from sts_trio.wiring import (
    find_tools,
    load_fallback,
    open_ami,
    open_http,
    open_provider,
    read_instructions,
    rule_problems,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sts_trio.providers.dial import Dial
    from sts_trio.settings import Settings


async def check_all(settings: Settings, report: Callable[[str], None], dial: Dial | None = None) -> bool:
    """Check all that settings name, and the provider. Returns whether all of it would work."""
    results = [
        check_tools(settings, report),
        check_fallback(settings, report),
        await check_ami(settings, report),
        await check_instructions(settings, report),
        await check_provider(settings, report, dial),
    ]
    return all(results)


def check_tools(settings: Settings, report: Callable[[str], None]) -> bool:
    """Load the tools as the service does."""
    found = find_tools(settings, open_ami(settings, open_http()))
    report("ok: tools " + (", ".join(tool.name for tool in found.tools) or "(none)"))
    problems = (*found.problems, *rule_problems(settings, found.tools))
    for problem in problems:
        report(f"failed: {problem}")
    return not problems


def check_fallback(settings: Settings, report: Callable[[str], None]) -> bool:
    """Load what a caller hears when the agent has failed."""
    if settings.calls.fallback_wav is None:
        return True
    try:
        length = seconds(len(load_fallback(settings.calls.fallback_wav)))
    except ConfigError as exc:
        report(f"failed: {exc}")
        return False
    report(f"ok: a fallback of {length:.1f} s")
    return True


async def check_ami(settings: Settings, report: Callable[[str], None]) -> bool:
    """Ask the AMI service for anything: whatever its answer is, it is there."""
    if settings.calls.ami_url is None:
        return True
    try:
        await open_http().get(settings.calls.ami_url, seconds=5)
    except HttpFailed as exc:
        report(f"failed: AMI_URL: {exc}")
        return False
    report("ok: the AMI service is there")
    return True


async def check_instructions(settings: Settings, report: Callable[[str], None]) -> bool:
    """Load the instructions as a call does, if they come from outside."""
    provider = settings.provider
    outside = provider.url_instructions or provider.file_instructions
    if provider.config_id or provider.instructions or not outside:
        return True
    text = await read_instructions(settings, open_http()).load(None)
    if text is None:
        names = f"{provider.prefix}_URL_INSTRUCTIONS or {provider.prefix}_FILE_INSTRUCTIONS"
        report(f"failed: no instructions from {names}; the default is used")
        return False
    report(f"ok: instructions of {len(text)} characters")
    return True


async def check_provider(settings: Settings, report: Callable[[str], None], dial: Dial | None = None) -> bool:
    """Open a session with the provider and close it again, nothing said. Returns whether that worked."""
    for note in settings.notes(datetime.now(UTC).date()):
        report(f"note: {note}")
    began = trio.current_time()
    try:
        provider = open_provider(settings, dial)
        async with provider(CallInfo(id="check")) as link:
            await link.receive()  # what the provider says first; a session that has been opened has it
            took = (trio.current_time() - began) * 1000
            config = settings.provider.config_id
            mode = f"config {config}" if config else "instructions and voice of the environment"
            report(f"ok: {provider.endpoint} opened a chat in {took:.0f} ms, with {mode}")
            return True
    except (ConfigError, ProviderError) as exc:
        report(f"failed: {exc}")
        return False
