"""Every field of every message that a provider knows, with each odd value in its place, at three moments of a session.

Before anything else has come, in the middle of the opening, and when it is open. What a whole call makes of some of
them is in tests/call/test_odd_messages.py; here all are tried, on the links alone.
"""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
import trio

from sts_trio.providers.base import AgentFault, AgentReady, AgentTurnEnd, SessionConfig, SessionEnd
from sts_trio.providers.hume import wire as evi
from sts_trio.providers.hume.link import HumeLink
from sts_trio.providers.openai import wire as realtime
from sts_trio.providers.openai.audio import open_codec
from sts_trio.providers.openai.dialect import OPENAI, XAI
from sts_trio.providers.openai.history import History
from sts_trio.providers.openai.link import RealtimeLink
from sts_trio.providers.openai.opening import SessionSetup
from sts_trio.providers.openai.protocol import RealtimeProtocol
from sts_trio.providers.openai.session import Options
from sts_trio.providers.reading import Reader
from tests.call.odd_messages import MESSAGES, ODD, changed, paths

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sts_trio.providers.base import AgentEvent, AgentNews

DIALECTS = {"openai": OPENAI, "xai": XAI}
OPENING = {
    "humeai": ('{"type":"chat_metadata","chat_id":"c","chat_group_id":"g"}',),
    "openai": ('{"type":"session.created","session":{"id":"s"}}', '{"type":"session.updated","session":{}}'),
}
OPENING["xai"] = OPENING["openai"]
# The last that is said: it makes an event of these kinds, whatever came before.
LAST = {"humeai": '{"type":"assistant_end"}', "openai": '{"type":"error","error":{"message":"the last"}}'}
LAST["xai"] = LAST["openai"]


class Script:
    """Stands in for a `ProviderSocket`: it has been sent `messages`, and takes whatever is sent."""

    ping_overdue = False

    def __init__(self, messages: Sequence[str]) -> None:
        self._messages = deque(messages)

    async def receive(self) -> str:
        await trio.lowlevel.checkpoint()
        return self._messages.popleft()

    async def send(self, kind: int, payload: bytes) -> bool:
        return False


async def _open_evi(socket: Any) -> Callable[[], Awaitable[AgentEvent | AgentNews]]:
    link = HumeLink(socket, Reader(evi.LANGUAGE, "Hume", 5.0), str)
    await link.wait_ready(None)
    return link.receive


async def _open_realtime(socket: Any, provider: str) -> Callable[[], Awaitable[AgentEvent | AgentNews]]:
    dialect = DIALECTS[provider]
    codec, history = open_codec("pcmu", 8000), History()
    setup = SessionSetup(Options(dialect=dialect), codec, history, SessionConfig(), resumed=False)
    protocol = RealtimeProtocol(dialect, codec, history, history.begin_session())
    link = RealtimeLink(socket, Reader(realtime.LANGUAGE, dialect.name, 5.0), dialect, codec, protocol, str)
    await link.wait_ready(setup)
    return link.receive


async def _hear(provider: str, messages: Sequence[str]) -> list[AgentEvent | AgentNews]:
    """What a call would hear of these messages, up to what the last of them makes."""
    socket = Script(messages)
    receive = await (_open_evi(socket) if provider == "humeai" else _open_realtime(socket, provider))
    heard: list[AgentEvent | AgentNews] = []
    while not (socket._messages == deque() and heard and isinstance(heard[-1], AgentTurnEnd | AgentFault)):
        heard.append(await receive())
    return heard


@pytest.mark.parametrize("provider", MESSAGES)
async def test_no_field_of_any_message_ends_a_session(provider: str) -> None:
    opening, last = OPENING[provider], LAST[provider]
    tried = 0
    for message in MESSAGES[provider]:
        for path in paths(message):
            for odd in ODD:
                said = json.dumps(changed(message, path, odd))
                script = [part for step in opening for part in (said, step)] + [said, last]
                try:
                    heard = await _hear(provider, script)
                except Exception as exc:
                    raise AssertionError(f"{said[:500]}: {exc!r}") from exc
                tried += 1
                assert isinstance(heard[0], AgentReady), said
                assert not [event for event in heard if isinstance(event, SessionEnd)], said
    assert tried > 1000
