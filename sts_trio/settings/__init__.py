"""What the operator chose: every environment variable, its name, default, check and help.

A table for each topic: each provider has its own beside its code (`providers/*/settings.py`), how a call goes is in
`calls`, the service itself in `service`. `environment` reads them; nobody else looks at the environment. `document`
makes of them what people read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sts_trio.settings import urls
from sts_trio.settings.calls import CallSettings
from sts_trio.settings.secret import Secret
from sts_trio.settings.service import ServiceSettings
from sts_trio.settings.variable import variables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sts_trio.settings.provider import ProviderSettings
    from sts_trio.settings.variable import Variable


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All of it, in one value.

    `provider` is the table of the provider that was chosen. `others` are those that were not: nothing in them counts,
    but their secrets are not shown either.
    """

    provider: ProviderSettings
    calls: CallSettings = field(default_factory=CallSettings)
    service: ServiceSettings = field(default_factory=ServiceSettings)
    others: tuple[ProviderSettings, ...] = field(default=(), repr=False, compare=False)

    def values(self) -> Iterator[tuple[Variable, object]]:
        """Every variable with its value, but for the one that chooses the provider."""
        for part in (self.provider, *self.others, self.calls, self.service):
            for name, variable in variables(type(part)).items():
                yield variable, getattr(part, name)

    def shown(self) -> dict[str, str]:
        """Every setting by its variable's name, fit for a log.

        Secrets are starred, long texts cut; URLs come without user, password and query, rules as their number.
        """
        shown = {variable.name: variable.shown(value) for variable, value in self.values()}
        return {"STS_PROVIDER": self.provider.name} | shown

    def secrets(self) -> list[str]:
        """Every text that no log may have, whatever quotes it: keys, and the secret parts of URLs."""
        values = list(self.values())
        keys = [value.reveal() for _, value in values if isinstance(value, Secret)]
        whole = [str(value) for variable, value in values if variable.is_url and value]
        whole += [rule.webhook for rule in self.calls.emotion_rules if rule.webhook]
        return keys + [text for url in whole for text in urls.url_secrets(url)]
