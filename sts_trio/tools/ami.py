"""The AMI service, through which Asterisk is told to transfer a call or to end it (docs/protocols/core.md 5.2).

It answers 200 when a command is queued: what Asterisk made of it, it does not say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from sts_trio.errors import StsError
from sts_trio.http_client import HttpFailed
from sts_trio.settings.urls import shown_url
from sts_trio.text import one_line

if TYPE_CHECKING:
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
