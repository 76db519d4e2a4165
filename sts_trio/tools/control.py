"""Call control for agents: `dsai_transfer` and `dsai_hangup` (docs/protocols/core.md 5.1), and the end of a call."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog

from sts_trio.tools.ami import AmiFailed
from sts_trio.tools.schema import describe
from sts_trio.tools.tool import CallContext, Tool, ToolError, ToolResult  # CallContext: `describe` looks it up

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sts_trio.tools.ami import AmiClient

log = structlog.get_logger(__name__)

# What an agent says reaches a dialplan, where `&`, `,`, `/` and `${` would mean something. Asterisk's names end at 79.
_DIALPLAN_WORD = re.compile(r"[A-Za-z0-9_*#+.-]{1,79}")


_CONTEXT = "demo"  # the family's default (docs/protocols/core.md 5.1)


def call_control_tools(ami: AmiClient) -> tuple[Tool, ...]:
    """Return the tools that act on the telephone call itself."""

    async def dsai_transfer(
        transfer_extension: str, call: CallContext, transfer_context: str = _CONTEXT, transfer_priority: str = "1"
    ) -> str:
        """Transfer the caller to another extension, for example to a person. Say good-bye first.

        Args:
            transfer_extension: The extension to transfer the caller to, for example 2000.
            transfer_context: The context of the dialplan that has the extension.
            transfer_priority: The priority of the extension to go on at.
        """
        exten, context, priority = _destination(transfer_extension, transfer_context, transfer_priority)
        number = int(priority) if priority.isdecimal() else priority  # it may be a label
        return await ami.transfer(_known(call), exten, context, number)

    async def dsai_hangup(call: CallContext) -> str:
        """End the telephone call. Say good-bye first."""
        return await ami.hang_up(_known(call))

    hangup = _control_tool(dsai_hangup, "hangup")
    return _control_tool(dsai_transfer, "transfer", _destination), replace(hangup, hangs_up=True)


def _destination(
    transfer_extension: str, transfer_context: str = _CONTEXT, transfer_priority: str = "1"
) -> tuple[str, str, str]:
    """Return extension, context and priority, fit for a dialplan.

    Raises:
        ToolError: one of them is not.
    """
    return (
        _dialplan_word("transfer_extension", transfer_extension),
        _dialplan_word("transfer_context", transfer_context or _CONTEXT),
        _dialplan_word("transfer_priority", transfer_priority or "1"),
    )


async def hang_up(ami: AmiClient, uuid: str) -> bool:
    """End the telephone call of one whose agent has gone. False: that failed, and the log says why."""
    return await _without_agent("hang_up", ami.hang_up(uuid))


async def transfer(ami: AmiClient, uuid: str, extension: str) -> bool:
    """Send a caller whose agent has failed to `extension`. False: that failed, and the log says why."""
    return await _without_agent("transfer", ami.transfer(uuid, extension, _CONTEXT, 1))


async def _without_agent(command: str, sent: Awaitable[str]) -> bool:
    try:
        await sent
    except AmiFailed as exc:
        log.warning("call control failed", tool=command, error=str(exc))
        return False
    return True


def _control_tool(
    function: Callable[..., Awaitable[str]], verb: str, examine: Callable[..., object] = lambda: None
) -> Tool:
    """Make a tool of a function of ours: it waits as it should, so it needs no thread; the client has a time limit.

    `examine` raises `ToolError` for arguments that fit the signature, and yet will not do.
    """
    schema = describe(function)

    def check(arguments: str) -> str | None:
        try:
            bound = schema.bind(arguments, CallContext())
            examine(**{name: value for name, value in bound.items() if name != "call"})
        except ToolError as exc:
            return f"Error during {verb}: {exc}"
        return None

    async def run(arguments: str, call: CallContext) -> ToolResult:
        try:
            bound: dict[str, Any] = schema.bind(arguments, call)
            return ToolResult(await function(**bound))
        except ToolError as exc:
            return ToolResult(f"Error during {verb}: {exc}", failed=True)
        except AmiFailed as exc:
            log.warning("call control failed", tool=schema.name, error=str(exc))
            return ToolResult(f"Error during {verb}: {exc.told}", failed=True)

    return Tool(schema.name, schema.description, schema.parameters, run, check, ends_call=True)


def _known(call: CallContext) -> str:
    if call.uuid is None:
        raise ToolError("the telephone system gave this call no id, so it cannot be told what to do with it")
    return call.uuid


def _dialplan_word(name: str, value: str) -> str:
    word = value.strip()
    if not _DIALPLAN_WORD.fullmatch(word):
        raise ToolError(f"`{name}` must be 1 to 79 of letters, digits and _ * # + . -, such as 2000")
    return word
