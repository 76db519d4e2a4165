"""`sts-trio check`: would a call work with these settings? One line for each finding; a failure names its setting.

`examine` is all of it; `check_all` leaves out what belongs to this process and its machine. The provider is told what a
call tells it: prompt, tools, voice, formats; with `call` a whole call is placed in memory, whose caller says nothing
and listens.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sts_trio.check.door import check_callers, check_choice, check_file, check_names, check_version
from sts_trio.check.finding import Finding, Level, setting_in, setting_names
from sts_trio.check.greeting import check_call
from sts_trio.check.machine import check_port, check_workers
from sts_trio.check.session import check_session
from sts_trio.check.sources import check_ami, check_fallback, check_instructions, check_tools
from sts_trio.settings import topics
from sts_trio.settings.names import unknown_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sts_trio.check.finding import Report
    from sts_trio.providers.dial import Dial
    from sts_trio.settings import Settings
    from sts_trio.settings.service import ProviderSettings

    Tables = Sequence[type[ProviderSettings]]

__all__ = ["check_all", "examine", "examine_unusable"]


async def examine(settings: Settings, tables: Tables, report: Report, *, call: bool = False) -> bool:
    """Look at this process's environment, at its machine, and at all that `check_all` does. Returns if all works."""
    well = True

    def told(finding: Finding) -> None:
        nonlocal well
        well = well and finding.level is not Level.WRONG
        if not finding.setting and finding.level is not Level.OK:
            finding = replace(finding, setting=setting_in(finding.message, setting_names(settings)))
        report(finding)

    check_version(told)
    check_file(told)
    check_names(unknown_names(tables, settings.provider.name), told)
    check_choice(settings, told)
    check_callers(settings, told)
    check_workers(settings, told)
    await check_port(settings, told)
    await check_all(settings, told, call=call)
    return well


def examine_unusable(problems: Sequence[str], tables: Tables, report: Report) -> None:
    """Tell what is wrong with settings that are none yet, misspelt names included."""
    names = [name for topic in topics(tables) for variable in topic.variables for name in variable.names]
    check_version(report)
    for problem in problems:
        report(Finding(Level.WRONG, "settings", problem, setting_in(problem, names)))
    check_file(report)
    check_names(unknown_names(tables, None), report)


async def check_all(settings: Settings, report: Report, dial: Dial | None = None, *, call: bool = False) -> bool:
    """Check all that settings name, and the provider; with `call` also what a caller hears. Returns if all works."""
    tools, loaded = check_tools(settings, report)
    results = [loaded, check_fallback(settings, report), await check_ami(settings, report)]
    settings = replace(settings, calls=replace(settings.calls, fallback_wav=None))  # told; and it is no greeting
    prompt = await check_instructions(settings, report)
    results += [prompt.found, await check_session(settings, report, dial, prompt.prompt, tools)]
    if call and results[-1]:
        results.append(await check_call(settings, report, dial, tools))
    return all(results)
