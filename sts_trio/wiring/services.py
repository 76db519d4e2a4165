"""The services of the world that a call may use: the agent, and the operator's own."""

from __future__ import annotations

import ssl
from functools import partial
from typing import TYPE_CHECKING

from sts_trio.call.outcome import Cause
from sts_trio.call.services import Services
from sts_trio.http_client import HttpClient
from sts_trio.providers.breaker import Breaker, guarded
from sts_trio.providers.instructions import InstructionSource
from sts_trio.tools.ami import AmiClient
from sts_trio.tools.control import hang_up, transfer
from sts_trio.tools.webhook import post_event
from sts_trio.wiring.provider import open_provider

if TYPE_CHECKING:
    from sts_trio.providers.base import CallInfo
    from sts_trio.providers.dial import Dial
    from sts_trio.settings import Settings


def open_http() -> HttpClient:
    """Build the way to services of the operator's own."""
    return HttpClient(ssl.create_default_context())


def open_ami(settings: Settings, http: HttpClient) -> AmiClient | None:
    """Build the way to the AMI service, if there is one."""
    return AmiClient(settings.ami_url, http) if settings.ami_url else None


def read_instructions(settings: Settings, http: HttpClient) -> InstructionSource:
    """Build the sources of the agent's prompt."""
    return InstructionSource(
        text=settings.account.instructions,
        url=settings.account.url_instructions,
        file=settings.account.file_instructions,
        seconds=settings.instructions_seconds,
        http=http,
    )


def reach_services(settings: Settings, http: HttpClient, ami: AmiClient | None, dial: Dial | None = None) -> Services:
    """Build what a call may use of the world."""
    sources = read_instructions(settings, http)

    async def instructions(call: CallInfo) -> str | None:
        # A stored configuration holds the prompt.
        return None if settings.stored_config else await sources.load(call.uuid)

    async def release(uuid: str, cause: Cause) -> bool:
        if ami is None:
            return False
        failed = cause is Cause.PROVIDER_FAILED
        if failed and settings.fallback_extension and await transfer(ami, uuid, settings.fallback_extension):
            return True
        seen_to = failed and (settings.fallback_wav or settings.fallback_extension)
        if seen_to or cause in (Cause.AGENT_ENDED, Cause.CALLER_SILENT):
            await hang_up(ami, uuid)
        return False

    breaker = Breaker(settings.breaker_failures, settings.breaker_seconds)
    return Services(
        open_agent=guarded(open_provider(settings, dial), breaker),
        instructions=instructions,
        webhook=partial(post_event, http),
        release=release,
    )
