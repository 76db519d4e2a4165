"""What the operator chose: every environment variable, its name, default, check and help.

A table for each matter: who the agent is and what each provider needs, how a call goes, the service itself.
`environment` reads them; nobody else looks at the environment.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from sts_trio.settings import urls
from sts_trio.settings.calls import CallSettings
from sts_trio.settings.hume import HumeSettings
from sts_trio.settings.openai import OpenAiSettings
from sts_trio.settings.secret import Secret
from sts_trio.settings.service import ServiceSettings
from sts_trio.settings.setting import LONGEST_SHOWN
from sts_trio.settings.xai import XaiSettings


@dataclass(frozen=True, kw_only=True)
class Settings(ServiceSettings, CallSettings, XaiSettings, OpenAiSettings, HumeSettings):
    """All of it, in one value. A dataclass lists the fields of its last base first."""

    @property
    def stored_config(self) -> str | None:
        """The configuration at the provider that holds prompt and voice; only Hume has such."""
        return self.config_id if self.provider == "humeai" else None

    def shown(self) -> dict[str, str]:
        """Every setting by its variable's name, fit for a log.

        Secrets are starred, long texts cut; URLs come without user, password and query, rules as their number.
        """
        shown = {}
        for each in fields(self):
            value = getattr(self, each.name)
            words = str(None) if value is None else each.metadata["show"](value)
            shown[each.metadata["name"]] = words if len(words) <= LONGEST_SHOWN else words[:LONGEST_SHOWN] + "…"
        return shown

    def secrets(self) -> list[str]:
        """Every text that no log may have, whatever quotes it: keys, and the secret parts of URLs."""
        keys = [value.reveal() for each in fields(self) if isinstance(value := getattr(self, each.name), Secret)]
        shown_in_part = [each for each in fields(self) if each.metadata["show"] is urls.shown_url]
        whole = [*(getattr(self, each.name) for each in shown_in_part), *(rule.webhook for rule in self.emotion_rules)]
        return keys + [text for url in whole if url for text in urls.url_secrets(url)]
