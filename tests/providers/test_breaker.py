"""A provider that refuses call after call: new calls learn it at once, and one at a time asks again."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from sts_trio.errors import ConversationGone, ProviderBusy, ProviderError, ProviderRefused, ProviderUnavailable
from sts_trio.providers.base import CallInfo, SessionConfig
from sts_trio.providers.dial import Breaker, guarded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sts_trio.providers.base import AgentLink


class Provider:
    """Opens what it is told to, and counts who asked."""

    def __init__(self) -> None:
        self.failure: ProviderError | None = None
        self.takes = 0.0
        self.asked = 0

    @asynccontextmanager
    async def __call__(self, call: CallInfo) -> AsyncIterator[AgentLink]:
        self.asked += 1
        await trio.sleep(self.takes)
        if self.failure is not None:
            raise self.failure
        yield None  # type: ignore[misc]  # nobody speaks to it here


async def place(provider: Provider, breaker: Breaker, call: CallInfo | None = None) -> None:
    async with guarded(provider, breaker)(call or CallInfo("a")):
        pass


async def fail(provider: Provider, breaker: Breaker, times: int, call: CallInfo | None = None) -> None:
    for _ in range(times):
        with pytest.raises(ProviderRefused):
            await place(provider, breaker, call)


@pytest.fixture
def provider() -> Provider:
    provider = Provider()
    provider.failure = ProviderRefused("HTTP 503")
    return provider


async def test_after_so_many_refusals_new_calls_are_told_at_once(
    provider: Provider, autojump_clock: trio.testing.MockClock
) -> None:
    breaker = Breaker(5, 10)
    provider.takes = 3.0
    await fail(provider, breaker, 5)
    began = trio.current_time()
    with pytest.raises(ProviderUnavailable, match=r"refused the last 5 calls \(HTTP 503\).* in 10 s"):
        await place(provider, breaker)
    assert (provider.asked, trio.current_time() - began) == (5, 0)


async def test_one_call_at_a_time_asks_again(
    provider: Provider, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    breaker = Breaker(2, 10)
    await fail(provider, breaker, 2)
    await trio.sleep(10)
    provider.failure, provider.takes = None, 1.0
    nursery.start_soon(place, provider, breaker)
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(ProviderUnavailable):
        await place(provider, breaker)
    await trio.sleep(1.1)
    await place(provider, breaker)
    assert provider.asked == 4


async def test_a_probe_that_fails_begins_another_pause(
    provider: Provider, autojump_clock: trio.testing.MockClock
) -> None:
    breaker = Breaker(2, 10)
    await fail(provider, breaker, 2)
    await trio.sleep(10)
    await fail(provider, breaker, 1)
    with pytest.raises(ProviderUnavailable):
        await place(provider, breaker)
    await trio.sleep(10)
    await fail(provider, breaker, 1)
    assert provider.asked == 4


async def test_a_probe_that_is_broken_off_leaves_the_next_its_turn(
    provider: Provider, autojump_clock: trio.testing.MockClock
) -> None:
    breaker = Breaker(1, 10)
    await fail(provider, breaker, 1)
    await trio.sleep(10)
    provider.takes = 60
    with trio.move_on_after(1):
        await place(provider, breaker)
    provider.takes, provider.failure = 0, None
    await place(provider, breaker)


async def test_an_earlier_call_that_hangs_up_does_not_let_a_second_one_ask(
    provider: Provider, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    breaker, early = Breaker(2, 10), trio.CancelScope()

    async def ring_off_later() -> None:
        with early:
            await place(provider, breaker)

    provider.takes = 60
    nursery.start_soon(ring_off_later)
    await trio.testing.wait_all_tasks_blocked()
    provider.takes = 0
    await fail(provider, breaker, 2)
    await trio.sleep(10)
    provider.failure, provider.takes = None, 5.0
    nursery.start_soon(place, provider, breaker)
    await trio.testing.wait_all_tasks_blocked()
    early.cancel()
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(ProviderUnavailable):
        await place(provider, breaker)


async def test_a_session_that_opens_forgives_all(provider: Provider, autojump_clock: trio.testing.MockClock) -> None:
    breaker = Breaker(3, 10)
    await fail(provider, breaker, 2)
    failure, provider.failure = provider.failure, None
    await place(provider, breaker)
    provider.failure = failure
    await fail(provider, breaker, 2)
    provider.failure = None
    await place(provider, breaker)


async def test_a_session_that_breaks_later_does_not_count(autojump_clock: trio.testing.MockClock) -> None:
    provider, breaker = Provider(), Breaker(1, 10)
    for _ in range(3):
        with pytest.raises(ProviderRefused):
            async with guarded(provider, breaker)(CallInfo("a")):
                raise ProviderRefused("broke in the call")
    assert not breaker.open


OWN = [SessionConfig(config="theirs"), SessionConfig(voice="theirs")]


@pytest.mark.parametrize(
    "call", [*[CallInfo("a", session_config=session_config) for session_config in OWN], CallInfo("a", resume="group")]
)
async def test_who_may_always_ask(provider: Provider, call: CallInfo, autojump_clock: trio.testing.MockClock) -> None:
    """A call with its own configuration, and one that lost its session."""
    breaker = Breaker(2, 10)
    await fail(provider, breaker, 2)
    await fail(provider, breaker, 1, call)
    assert provider.asked == 3


@pytest.mark.parametrize("session_config", OWN)
async def test_a_bad_configuration_of_one_call_says_nothing_of_the_provider(
    provider: Provider, session_config: SessionConfig, autojump_clock: trio.testing.MockClock
) -> None:
    breaker = Breaker(2, 10)
    await fail(provider, breaker, 9, CallInfo("a", session_config=session_config))
    assert not breaker.open


async def test_a_conversation_that_is_gone_is_an_answer(autojump_clock: trio.testing.MockClock) -> None:
    provider, breaker = Provider(), Breaker(2, 10)
    for failure in (ProviderRefused("HTTP 503"), ConversationGone("E0708"), ProviderRefused("HTTP 503")):
        provider.failure = failure
        with pytest.raises(type(failure)):
            await place(provider, breaker, CallInfo("a", resume="group"))
    assert not breaker.open


async def test_it_can_be_turned_off(provider: Provider, autojump_clock: trio.testing.MockClock) -> None:
    await fail(provider, Breaker(0, 10), 50)
    assert provider.asked == 50


async def test_no_room_is_no_illness_and_a_call_counts_once(autojump_clock: trio.testing.MockClock) -> None:
    told: list[bool] = []
    provider, breaker = Provider(), Breaker(2, 10, told.append)
    provider.failure = ProviderBusy("HTTP 429")
    for _ in range(6):
        with pytest.raises(ProviderBusy):
            await place(provider, breaker)
    assert (provider.asked, told) == (6, [])
    provider.failure = ProviderRefused("HTTP 503")
    await fail(provider, breaker, 1)
    await fail(provider, breaker, 9, CallInfo("a", again=True))
    assert told == []
    await fail(provider, breaker, 1)
    assert told == [True]
    await fail(provider, breaker, 1, CallInfo("a", again=True))  # it has a caller on the line, and backs off by itself
    provider.failure = None
    await place(provider, breaker, CallInfo("a", again=True))
    assert told == [True, False]
