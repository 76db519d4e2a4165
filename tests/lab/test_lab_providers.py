"""The table of what the lab can play: every name is played as itself, and any other is refused everywhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from sts_trio.lab import PROVIDERS, UnknownProviderError
from sts_trio.lab.demo import demo
from sts_trio.lab.emulator import Emulator, EmulatorOptions
from sts_trio.lab.load.agents import light_providers
from sts_trio.lab.load.command import LoadOptions, provider_settings
from sts_trio.lab.load.plan import Plan, decode_plan, encode
from sts_trio.lab.providers import find_provider
from sts_trio.providers import PROVIDERS as SERVED


def plan(provider: str) -> Plan:
    return Plan(
        url="ws://127.0.0.1:1",
        calls=1,
        seconds=1,
        ramp=1,
        settle=1,
        profile="talk",
        mark=1,
        provider=provider,
        rate=48_000,
        host="127.0.0.1",
        port=1,
        tls="",
        times="",
    )


def test_what_the_service_has_the_lab_can_play() -> None:
    assert set(PROVIDERS) == set(SERVED)


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_provider_is_played_in_full_and_lightly_in_the_same_protocol(name: str) -> None:
    full = Emulator(EmulatorOptions(service=name)).protocol.__name__
    light = type(light_providers(plan(name))()).__name__
    assert (full, light) in {("EviChat", "LightEvi"), ("RealtimeChat", "LightRealtime")}
    url = provider_settings(LoadOptions(provider=name))[find_provider(name).url_setting]
    assert find_provider(name).path.startswith(find_provider(name).url_path)
    assert url.endswith(find_provider(name).url_path)


@pytest.mark.parametrize("name", ["", "gemini", "HUMEAI", "xai "])
async def test_an_unknown_name_is_played_as_nobody(name: str) -> None:
    with pytest.raises(UnknownProviderError, match="humeai, openai, xai"):
        EmulatorOptions(service=name)
    with pytest.raises(UnknownProviderError):
        plan(name)
    with pytest.raises(UnknownProviderError):
        provider_settings(LoadOptions(provider=name))
    with pytest.raises(UnknownProviderError):
        await demo(Console(file=io.StringIO()), name)
    with pytest.raises(ValueError, match="cannot play"):
        decode_plan(encode(plan("humeai")).replace(b'"humeai"', f'"{name}"'.encode()))
