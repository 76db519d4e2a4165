"""The command `tools`: what agents are told of each tool, and one of them run as a call would run it."""

from __future__ import annotations

import io
import sys
import time
import traceback
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import partial
from typing import TYPE_CHECKING

import click

from sts_trio.cli.running import fail, give_up, run_command
from sts_trio.errors import ConfigError
from sts_trio.logs import set_up_logging
from sts_trio.providers import SETTINGS
from sts_trio.settings import Settings, load_call_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sts_trio.tools.tool import CallContext, Tool, ToolResult


@click.command(short_help="Show the agent's tools, or run one.")
@click.argument("name", required=False)
@click.argument("arguments", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--uuid", metavar="ID", help="The call's id, as Core would give it.")
@click.option("--query", multiple=True, metavar="KEY=VALUE", help="A parameter of the call's URL, such as from=100.")
def tools(name: str | None, arguments: tuple[str, ...], uuid: str | None, query: tuple[str, ...]) -> None:
    """Show every tool as the agent is told of it; with NAME, run that one as a call would.

    A VALUE is text, or JSON where the tool takes something else: count=3 tags='["a", "b"]'. One argument that is a JSON
    object gives them all. Exit code 1: the tool failed, or one cannot be used. dsai_transfer and dsai_hangup act on the
    real call --uuid.
    """
    set_up_logging("error", "text", sys.stderr)
    if name is None and (uuid or query):
        fail("--uuid and --query are for a tool that is run: name one", 2)
    try:
        settings = Settings(provider=SETTINGS[0](), calls=load_call_settings())
    except ConfigError as exc:
        give_up(exc.problems, 2)

    from sts_trio.tools.tool import CallContext
    from sts_trio.wiring import find_tools, open_ami, open_http

    faults: list[BaseException] = []
    found = find_tools(settings, open_ami(settings, open_http()), faults.append)
    by_name = {tool.name: tool for tool in found.tools}
    if name is None:
        _show(found.tools)
        if found.problems:
            give_up(list(found.problems), 1)
        return
    if name not in by_name:
        reasons = [problem for problem in found.problems if name in problem]
        known = ", ".join(by_name) or "none"
        give_up([*reasons, f"there is no tool {name} in {settings.calls.tools_dir}; there are: {known}"], 2)
    call = CallContext(uuid, dict(_pair(each, "--query") for each in query))
    _run(by_name[name], _as_json(by_name[name], arguments), call, faults)


def _show(tools: tuple[Tool, ...]) -> None:
    import msgspec

    if not tools:
        click.echo("There are no tools: put Python files into TOOLS_DIR, or set AMI_URL for call control.")
    for number, tool in enumerate(tools):
        told = {"name": tool.name, "description": tool.description, "parameters": msgspec.json.decode(tool.parameters)}
        click.echo(("\n" if number else "") + msgspec.json.format(msgspec.json.encode(told), indent=2).decode())


def _run(tool: Tool, arguments: str, call: CallContext, faults: list[BaseException]) -> None:
    """Run a tool and tell what came of it: the result alone goes to stdout."""
    printed = io.StringIO()
    took = 0.0

    async def timed() -> ToolResult:
        nonlocal took
        began = time.perf_counter()
        with redirect_stdout(printed), redirect_stderr(printed):
            result = await tool.run(arguments, call)
        took = time.perf_counter() - began
        return result

    result = run_command(timed)
    if text := printed.getvalue():
        click.echo(f"{tool.name} printed:\n{text.rstrip()}", err=True)
    if not result.failed:
        click.echo(f"{tool.name} answered after {took * 1000:.0f} ms:", err=True)
        click.echo(result.content)
        return
    for fault in faults:
        frames = traceback.extract_tb(fault.__traceback__)
        where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
        click.echo(f"{tool.name} raised {type(fault).__qualname__}: {fault}{where}", err=True)
    fail(f"after {took * 1000:.0f} ms the agent is told: {result.content}")


def _as_json(tool: Tool, arguments: tuple[str, ...]) -> str:
    """Return what an agent would send for these arguments."""
    import msgspec

    if len(arguments) == 1 and arguments[0].lstrip().startswith("{"):
        return arguments[0]
    properties: Mapping[str, Mapping[str, object]] = msgspec.json.decode(tool.parameters).get("properties", {})
    given: dict[str, object] = {}
    for key, value in map(partial(_pair, what="an argument"), arguments):
        if key not in properties:
            known = ", ".join(properties) or "none"
            fail(f"{tool.name} has no parameter {key}; it has: {known}", 2)
        given[key] = value
        if properties[key].get("type") != "string":
            with suppress(msgspec.DecodeError):  # an Enum, a date or the like: they are texts
                given[key] = msgspec.json.decode(value)
    return msgspec.json.encode(given).decode()


def _pair(text: str, what: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not key or not sign:
        fail(f"{what} must be KEY=VALUE, and not {text!r}", 2)
    return key, value
