"""What calls are given beside the provider: the prompt, the operator's tools, the fallback, the AMI service."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, NamedTuple

from sts_trio.audio.pcm import seconds
from sts_trio.call.config import Prompt
from sts_trio.check.finding import Finding, Level, remedy, with_setting
from sts_trio.errors import ConfigError
from sts_trio.http_client import HttpFailed
from sts_trio.settings.variable import variables
from sts_trio.wiring import find_tools, load_fallback, open_ami, open_http, read_instructions, rule_problems

if TYPE_CHECKING:
    from sts_trio.check.finding import Report
    from sts_trio.settings import Settings
    from sts_trio.tools.tool import Tool

_AMI_SECONDS = 5.0


class Instructions(NamedTuple):
    """What a call would be told, and whether each source that was asked for had some."""

    prompt: Prompt
    found: bool


def check_tools(settings: Settings, report: Report) -> tuple[tuple[Tool, ...], bool]:
    """Tell which tools the service would load, and what is wrong with others. Returns the tools, and if all are well.

    Files are run as they are loaded; what one prints is none of our findings.
    """
    with redirect_stdout(sys.stderr):
        found = find_tools(settings, open_ami(settings, open_http()))
    problems = [*found.problems, *rule_problems(settings, found.tools)]
    report(Finding(Level.OK, "tools", "tools " + (", ".join(tool.name for tool in found.tools) or "(none)")))
    for problem in problems:
        told = with_setting(problem, remedy(problem) or "correct it, or TOOLS_DIR", settings)
        report(Finding(Level.WRONG, "tools", told, "" if told == problem else "TOOLS_DIR"))
    return found.tools, not problems


def check_fallback(settings: Settings, report: Report) -> bool:
    """Load what a caller hears when the agent has failed."""
    if settings.calls.fallback_wav is None:
        return True
    try:
        length = seconds(len(load_fallback(settings.calls.fallback_wav)))
    except ConfigError as exc:
        report(Finding(Level.WRONG, "fallback", _with_remedy(str(exc), "give it a WAV file, or set it to tone")))
        return False
    report(Finding(Level.OK, "fallback", f"a fallback of {length:.1f} s"))
    return True


async def check_ami(settings: Settings, report: Report) -> bool:
    """Ask the AMI service for anything: whatever its answer is, it is there."""
    if settings.calls.ami_url is None:
        unset = "AMI_URL is not set: agents can neither transfer nor hang up"
        report(Finding(Level.OK, "ami", unset))
        return True
    try:
        await open_http().get(settings.calls.ami_url, seconds=_AMI_SECONDS)
    except HttpFailed as exc:
        told = _with_remedy(f"AMI_URL: {exc}", "correct it") + ", or set AMI_URL empty: no transfers then"
        report(Finding(Level.WRONG, "ami", told))
        return False
    report(Finding(Level.OK, "ami", "the AMI service is there"))
    return True


async def check_instructions(settings: Settings, report: Report) -> Instructions:
    """Load the instructions as a call does, and say where they came from; their text is told to nobody."""
    provider = settings.provider
    known = variables(type(provider))
    if provider.config_id:
        told = f"the prompt is that of {known['config_id'].name}"
        report(Finding(Level.OK, "prompt", told))
        return Instructions(Prompt(None, "config"), found=True)
    names = {
        "text": known["instructions"].name,
        "url": known["url_instructions"].name,
        "file": known["file_instructions"].name,
    }
    failures: list[str] = []

    def tell(source: str, address: str, reason: str) -> None:
        where = "" if reason.startswith(address) else f" {address}:"
        failures.append(_with_remedy(f"{names[source]}:{where} {reason}", "look at what it answers"))

    prompt = Prompt(*await read_instructions(settings, open_http()).find(None, tell))
    instead = "the default" if prompt.text is None else f"the {prompt.source}'s"
    for failure in failures:
        report(Finding(Level.WRONG, "prompt", f"{failure}; a call has {instead} in its place"))
    if prompt.text is not None:
        told = f"instructions of {len(prompt.text)} characters, from {names[prompt.source]}"
        report(Finding(Level.OK, "prompt", told))
    elif not failures:
        told = f"there are no instructions, and a call has the default: set {names['text']}, or another of its kind"
        report(Finding(Level.NOTE, "prompt", told))
    return Instructions(prompt, not failures)


def _with_remedy(text: str, otherwise: str) -> str:
    return f"{text}; {remedy(text) or otherwise}"
