"""The providers that there are: one package each, and one line each in `PROVIDERS`.

This table and the settings in it are all that the rest of the service knows of a provider by name. What opens a
connection is imported when the first one is opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sts_trio.errors import ConfigError
from sts_trio.providers.hume.settings import EMOTIONS, HumeSettings, open_hume
from sts_trio.providers.hume.settings import SPOKEN_RATES as HUME_RATES
from sts_trio.providers.openai.settings import SPOKEN_RATES as REALTIME_RATES
from sts_trio.providers.openai.settings import OpenAiSettings, open_realtime
from sts_trio.providers.openai.xai import XaiSettings
from sts_trio.settings.service import ProviderSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from sts_trio.providers.dial import AgentProvider, Dial
    from sts_trio.providers.socket import SocketTimes

Table = TypeVar("Table", bound=ProviderSettings)


@dataclass(frozen=True, slots=True)
class Provider(Generic[Table]):
    """All that there is to know of a provider.

    `settings` is its table of variables, and `open` builds the way to it from such a table, the key, a dial and the
    limits. `spoken_rates` are the rates in Hz in which the agent's voice may come, but for the telephone's own.
    `emotions` are the names of those that it reports of callers: none, if it reports no emotions.
    """

    settings: type[Table]
    open: Callable[[Table, str, Dial, SocketTimes], AgentProvider]
    spoken_rates: tuple[int, ...]
    emotions: frozenset[str] = frozenset()


_ALL: tuple[Provider[Any], ...] = (  # the first is the default
    Provider(HumeSettings, open_hume, HUME_RATES, EMOTIONS),
    Provider(OpenAiSettings, open_realtime, REALTIME_RATES),
    Provider(XaiSettings, open_realtime, REALTIME_RATES),
)
PROVIDERS = {provider.settings.name: provider for provider in _ALL}
SETTINGS: tuple[type[ProviderSettings], ...] = tuple(provider.settings for provider in _ALL)


def find_provider(name: str) -> Provider[Any]:
    """Return the provider of this name.

    Raises:
        ConfigError: there is none.
    """
    if name not in PROVIDERS:
        raise ConfigError([f"there is no provider {name!r}; STS_PROVIDER must be one of {', '.join(PROVIDERS)}"])
    return PROVIDERS[name]
