"""Call control for agents: `dsai_transfer` and `dsai_hangup` (docs/protocols/core.md 5.1).

Through the AMI service Asterisk is told to transfer a call or to end it (docs/protocols/core.md 5.2).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from sts_trio.errors import StsError
from sts_trio.http_client import HttpFailed
from sts_trio.settings.parsers import shown_url
from sts_trio.text import one_line
from sts_trio.tools.tool import (  # CallContext: `describe` looks it up
    CallContext,
    Tool,
    ToolError,
    ToolResult,
    describe,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sts_trio.http_client import HttpClient


_LONGEST_MESSAGE = 500


class AmiFailed(StsError):
    """The command was not taken. The text is fit for a log; `told` is for the agent: the service's own words."""

    def __init__(self, text: str, told: str = "") -> None:
        super().__init__(text)
        self.told = told or text


class _Reply(msgspec.Struct):
    message: str = ""


@dataclass(frozen=True, slots=True)
class AmiClient:
    """Sends commands for a call to the service at `url`, which has no time limit of its own: `seconds` is ours.

    No command is repeated: of one that got no answer nobody knows whether it was carried out.
    """

    url: str
    http: HttpClient
    seconds: float = 5.0

    async def transfer(self, uuid: str, exten: str, context: str, priority: int | str) -> str:
        """Send the caller to an extension of the dialplan. Returns the service's message.

        Raises:
            AmiFailed: it was not taken.
        """
        place: dict[str, object] = {"exten": exten, "context": context, "priority": priority}
        return await self._command("transfer", {"uuid": uuid} | place)

    async def hang_up(self, uuid: str) -> str:
        """End the telephone call. Returns and raises as `transfer` does."""
        return await self._command("hangup", {"uuid": uuid})

    async def _command(self, name: str, command: dict[str, object]) -> str:
        url = f"{self.url.rstrip('/')}/{name}"
        try:
            reply = await self.http.post_json(url, command, seconds=self.seconds)
        except HttpFailed as exc:
            raise AmiFailed(str(exc), "the telephone system did not answer") from exc
        message = _message(reply.body)
        if not 200 <= reply.status < 300:
            raise AmiFailed(f"{shown_url(url)} answered HTTP {reply.status}", message or "it refused the command")
        if message is None:
            raise AmiFailed(
                f"{shown_url(url)} answered with something else than JSON of its own: check AMI_URL",
                "the telephone system gave an answer that makes no sense",
            )
        return message or f"the {name} is queued"


def _message(body: bytes) -> str | None:
    """Return the message of an answer, on one line; None if it is not the service's JSON."""
    try:
        text = msgspec.json.decode(body, type=_Reply).message
    except (ValueError, RecursionError):  # msgspec's own errors are ValueErrors
        return None
    return one_line(text)[:_LONGEST_MESSAGE]


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
