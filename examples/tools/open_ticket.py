"""A tool for the agent: opens a ticket in a system of yours that takes JSON over HTTP.

It needs TICKETS_URL in the environment, for example http://tickets:8080/api/tickets.
"""

import os
from typing import Literal

import httpx

from sts_trio.tools import CallContext, ToolError


async def open_ticket(call: CallContext, summary: str, urgency: Literal["low", "normal", "high"] = "normal") -> str:
    """Open a ticket for the caller's problem. Ask for what is wrong first, and tell the caller the ticket's number.

    Args:
        summary: What is wrong, in one or two sentences.
        urgency: How urgent it is for the caller.
    """
    if "TICKETS_URL" not in os.environ:
        raise ToolError("The ticket system is not set up.")
    ticket = {
        "summary": summary,
        "urgency": urgency,
        "caller": call.query.get("from", "unknown"),  # what Core put into the URL of this call
        "call": call.uuid,
    }
    async with httpx.AsyncClient(timeout=5) as client:
        try:
            reply = await client.post(os.environ["TICKETS_URL"], json=ticket)
            reply.raise_for_status()
        except httpx.HTTPError as exc:
            raise ToolError("The ticket system cannot be reached now. Offer to call back.") from exc
    return f"Ticket {reply.json()['number']} is open."
