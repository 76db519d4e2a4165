"""What the lab can play: a line for each provider. A name that has none is refused, never played as another. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sts_trio.errors import StsError


class WireProtocol(Enum):
    """What is spoken on the provider's WebSocket (docs/protocols/evi.md, docs/protocols/realtime.md)."""

    EVI = "evi"
    REALTIME = "realtime"


class UnknownProviderError(StsError, ValueError):
    """The lab has no provider of this name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabProvider:
    """A provider as the lab plays it.

    `path`: of its WebSocket. `url_setting`: the service's setting for its address, which ends in `url_path`.
    `bit_exact`: caller audio comes in the samples that the caller sent, in no other rate and format.
    `companded`: its audio is G.711. `flat_session`: voice and turn detection are top fields of its session, and its
    conversations have an id by which they can be resumed (xAI). `spoken`: protocol and audio, for people. The
    provider's own share of an answer and of a barge-in, by its defaults: `end_of_turn` seconds of silence end a turn,
    `min_interruption` seconds of speech interrupt.
    """

    name: str
    protocol: WireProtocol
    path: str
    url_setting: str
    url_path: str
    bit_exact: bool = False
    companded: bool = False
    flat_session: bool = False
    spoken: str = ""
    end_of_turn: float = 0.8
    min_interruption: float = 0.8


_TABLE = (
    LabProvider(
        name="humeai",
        protocol=WireProtocol.EVI,
        path="/v0/evi/chat",
        url_setting="HUMEAI_WS_URL",
        url_path="/v0/evi/chat",
        bit_exact=True,
        spoken="Hume's EVI protocol; PCM, 8 kHz up, 48 kHz down",
    ),
    LabProvider(
        name="openai",
        protocol=WireProtocol.REALTIME,
        path="/v1/realtime",
        url_setting="OPENAI_BASE_URL",
        url_path="/v1",
        companded=True,
        spoken="OpenAI's Realtime protocol; G.711 µ-law",
        end_of_turn=0.5,
        min_interruption=0.1,
    ),
    LabProvider(
        name="xai",
        protocol=WireProtocol.REALTIME,
        path="/v1/realtime",
        url_setting="XAI_BASE_URL",
        url_path="/v1",
        flat_session=True,
        spoken="xAI's Realtime protocol; PCM, 8 kHz",
        end_of_turn=0.5,
        min_interruption=0.1,
    ),
)
_BY_NAME = {provider.name: provider for provider in _TABLE}

PROVIDERS = tuple(_BY_NAME)
"""The names, the default first."""


def find_provider(name: str) -> LabProvider:
    """Look a provider up.

    Raises:
        UnknownProviderError: there is none of this name.
    """
    if name not in _BY_NAME:
        raise UnknownProviderError(f"the lab cannot play {name!r}; it knows {', '.join(PROVIDERS)}")
    return _BY_NAME[name]
