"""What agents may ask for, and the operator's rules that ask for it. What is wrong with either is told, and no end."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from sts_trio.providers.hume.wire import EMOTIONS
from sts_trio.settings.calls import DEFAULT_TOOLS_DIR
from sts_trio.tools.control import call_control_tools
from sts_trio.tools.custom import LoadedTools, load_tools

if TYPE_CHECKING:
    from sts_trio.settings import Settings
    from sts_trio.tools.ami import AmiClient
    from sts_trio.tools.tool import Tool

log = structlog.get_logger(__name__)

_TAKEN = {"dsai_transfer", "dsai_hangup", "hang_up", "web_search"}  # names of our own tools, and of Hume's


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
