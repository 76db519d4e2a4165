"""Who the agent is, and what the operator set up for it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from sts_trio.settings import parsers
from sts_trio.settings.setting import PROVIDERS, setting

if TYPE_CHECKING:
    from sts_trio.settings.secret import Secret

DEFAULT_INSTRUCTIONS = "You are a helpful assistant"  # what the family's documents say (docs/protocols/core.md 7.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentAccount:
    """What the operator set up for the chosen provider. `prefix` is that of its variables."""

    prefix: str
    api_key: Secret | None
    instructions: str | None = field(repr=False)
    url_instructions: str | None = field(repr=False)
    file_instructions: str | None
    welcome_message: str
    ca_file: str | None
    max_session_seconds: float


@dataclass(frozen=True, kw_only=True)
class AgentSettings:
    """The provider; each has a table of its own, `hume`, `openai`, `xai`, of which one counts."""

    provider: str = setting(
        "STS_PROVIDER", "humeai", parsers.one_of(*PROVIDERS), "Who the agent is; only that provider's settings count"
    )

    @property
    def account(self) -> AgentAccount:
        """What was set up for the chosen provider."""
        family = "" if self.provider == "humeai" else f"{self.provider}_"
        own = {each.name: getattr(self, family + each.name) for each in fields(AgentAccount) if each.name != "prefix"}
        return AgentAccount(prefix=self.provider.upper(), **own)
