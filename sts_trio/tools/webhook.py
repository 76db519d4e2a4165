"""Events of a call for an operator's own service, in the shape of Core's own webhooks (docs/protocols/core.md 6.2)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog

from sts_trio.http_client import HttpFailed
from sts_trio.settings.urls import shown_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sts_trio.http_client import HttpClient

log = structlog.get_logger(__name__)

# Core's own limit for a webhook, and like Core we do not try again.
WEBHOOK_SECONDS = 3.0


async def post_event(http: HttpClient, url: str, call: str, kind: str, payload: Mapping[str, object]) -> None:
    """Tell the service at `url` of an event of `call`. Never raises: a failure is a log line."""
    timestamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    event = {"uuid": call, "type": kind, "timestamp": timestamp, "payload": dict(payload)}
    host = urlsplit(url).hostname or ""  # and no more of it: chat systems put their secret into the path
    try:
        reply = await http.post_json(url, event, seconds=WEBHOOK_SECONDS)
    except HttpFailed as exc:
        log.warning("webhook failed", host=host, reason=str(exc).replace(shown_url(url), host))
        return
    if reply.status >= 300:
        log.warning("webhook failed", host=host, reason=f"it answered HTTP {reply.status}")
