"""What the settings of every provider have in common, and the variable that chooses one of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from sts_trio.settings import parsers
from sts_trio.settings.variable import Variable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sts_trio.settings.secret import Secret

DEFAULT_INSTRUCTIONS = "You are a helpful assistant"  # what the family's documents say (docs/protocols/core.md 7.2)
DEFAULT_WELCOME_MESSAGE = "Hello, how can I help you today?"


@dataclass(frozen=True, kw_only=True)
class ProviderSettings:
    """What the operator set up for one provider. Times in seconds.

    A provider's own table derives from this one and says by which variable each field is set. A field that it leaves
    out stands for what the provider does not have: its default holds.

    `name` is the word for `STS_PROVIDER`; in capitals it begins the names of the provider's variables. `title` is the
    name that people know.
    """

    name: ClassVar[str]
    title: ClassVar[str]

    api_key: Secret | None = None
    url: str = ""  # where the provider listens
    config_id: str | None = None  # a configuration stored at the provider that holds prompt and voice
    instructions: str | None = field(default=None, repr=False)
    url_instructions: str | None = field(default=None, repr=False)
    file_instructions: str | None = None
    welcome_message: str = DEFAULT_WELCOME_MESSAGE
    greet_with_config: bool = False
    ca_file: str | None = None
    max_session_seconds: float = 86_400.0

    @property
    def prefix(self) -> str:
        """What the names of its variables begin with."""
        return self.name.upper()

    def problem(self) -> str | None:
        """Say what is wrong though each value by itself is right. One line, or None."""
        return None

    def warning(self) -> str | None:
        """Say what works today and will not for long. One line, or None."""
        return None


def provider_variable(tables: Sequence[type[ProviderSettings]]) -> Variable:
    """Describe the variable that chooses one of these providers; the first is the default."""
    names = [table.name for table in tables]
    meaning = "Who the agent is; only that provider's settings count"
    return Variable("STS_PROVIDER", names[0], parsers.one_of(*names), meaning)
