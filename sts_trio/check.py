"""`sts-trio check`: does the provider take a call with these settings? One line for each finding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from sts_trio.errors import ProviderError
from sts_trio.main import open_provider
from sts_trio.providers.events import CallInfo

if TYPE_CHECKING:
    from collections.abc import Callable

    from sts_trio.providers.dial import Dial
    from sts_trio.settings import Settings


async def check_provider(settings: Settings, report: Callable[[str], None], dial: Dial | None = None) -> bool:
    """Open a chat with the provider and close it again, nothing said. Returns whether that worked."""
    provider = open_provider(settings, dial)
    began = trio.current_time()
    try:
        async with provider(CallInfo(id="check")) as link:
            await link.receive()  # what the provider says first; a session that has been opened has it
            took = (trio.current_time() - began) * 1000
            mode = f"config {settings.config_id}" if settings.config_id else "instructions and voice of the environment"
            report(f"ok: {provider.endpoint} opened a chat in {took:.0f} ms, with {mode}")
            return True
    except ProviderError as exc:
        report(f"failed: {exc}")
        return False
