"""Names in the environment and in `.env` that no table of settings knows: misspelt ones, with the name that was meant.

A wrong value is refused; a wrong name is silently nothing, which costs an evening. Names that others use on purpose
are left alone: those of the family's other services, which may share our `.env`, of Compose, of Kubernetes, of the
vendors' own tools.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

from sts_trio.errors import ConfigError
from sts_trio.settings import FILE, UNSET, topics
from sts_trio.settings.dotenv_file import DotenvFile
from sts_trio.settings.variable import variables
from sts_trio.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sts_trio.settings.service import ProviderSettings
    from sts_trio.settings.variable import Variable

    Tables = Sequence[type[ProviderSettings]]

OURS = "STS_"
_LONGEST_NAME = 64
# How alike two names must be, 0 to 1 (`difflib`). Behind one of our prefixes a name is meant for us; without one, in a
# file that is shared with other services, it seldom is.
_ALIKE, _MORE_ALIKE, _NEARLY_THE_SAME = 0.7, 0.8, 0.85
# What people call a setting who know another product.
_OTHER_WORDS = {
    "SYSTEM_PROMPT": "INSTRUCTIONS",
    "PROMPT": "INSTRUCTIONS",
    "GREETING": "WELCOME_MESSAGE",
    "FIRST_MESSAGE": "WELCOME_MESSAGE",
}

_OF_OTHERS = re.compile(
    # dsai-core's, its panel's and its other services' (docs/protocols/core.md 7.5), and their ancestor's
    r"(?:STS|ASR|LLM|TTS|VAD|BACKEND|WEBHOOK)_URL|WEBHOOK_(?:SECRET|TIMEOUT|RETRY)|HTTP_PORT|TCP_NODELAY"
    r"|AGENT_(?:ID|NAME)|PROVIDER_\w+|INTERRUPT_LISTENING|SYSTEM_MESSAGE|AMBIENT_NOISE_\w+|(?:AVR|DSAI)_\w+"
    r"|ARI_\w+|AMI_(?:HOST|PORT|USER|USERNAME|PASSWORD|SECRET)|CONNECTOR_READINESS_TIMEOUT_MS"
    # Compose's and Docker's, and what our compose files use of them
    r"|COMPOSE_\w+|DOCKER_\w+|BUILDKIT_\w+|TOOLS_DIR|PROMPT_FILE|SECOND_\w+|HAPROXY_IMAGE"
    # what Kubernetes gives a pod of each service, such as one that is called sts
    r"|\w+_SERVICE_(?:HOST|PORT\w*)|\w+_PORT_\d+_(?:TCP|UDP|SCTP)\w*"
    # the vendors' own tools and clients
    r"|OPENAI_(?:ORG_ID|ORGANIZATION(?:_ID)?|PROJECT(?:_ID)?|LOG|API_TYPE|API_VERSION|WEBHOOK_SECRET|ADMIN_KEY)"
    r"|XAI_MANAGEMENT_KEY|HUME_SECRET_KEY|HUMEAI_SECRET_KEY"
    # what any process has
    r"|PATH|HOME|TZ|LANG|LC_\w+|USER|UID|GID|PUID|PGID|PYTHON\w+|\w*_PROXY|\w*_proxy|TERM|SSL_CERT_\w+"
)


@dataclass(frozen=True, slots=True)
class UnknownName:
    """A name that no table knows. `meant` is the setting that it is most like; none, if it is like none.

    `counts`: that setting is of the chosen provider, or of all, and not set by its right name; as long as there is no
    such provider, a misspelt name may be why.
    """

    name: str
    place: str
    meant: str = ""
    counts: bool = False

    def __str__(self) -> str:
        where = f"{self.name} in {self.place} is not the name of a setting"
        if not self.meant:
            return f"{where}; nothing reads it: take it out, or look for its right name in `sts-trio settings`"
        return f"{where}; did you mean {self.meant}?"


def unknown_names(tables: Tables, chosen: str | None) -> list[UnknownName]:
    """Find the names that no table knows: in the environment those with our prefixes, and in `.env` any.

    `chosen` is the name of the provider, if there is one yet. Names whose value is empty count as not set.
    """
    known = _Known(tables, chosen, frozenset(name for name, _, _ in _names_set()))
    found = {}
    for name, value, place in _names_set():
        if known.is_ours(name, value) or (place != FILE and not known.has_prefix(name)):
            continue
        meant = known.nearest(name)
        shown = one_line(name, _LONGEST_NAME)
        found[name] = UnknownName(shown, place, meant.name if meant else "", meant is not None and known.counts(meant))
    return list(found.values())


def read_foreign(name: str) -> str | None:
    """Return the value of another service's variable, where we share its environment or its `.env`."""
    return next((value for each, value, _ in _names_set() if each == name), None)


def _names_set() -> list[tuple[str, str, str]]:
    """Every name that is set, its value, and where; the environment, which beats the file, comes first."""
    path = Path(FILE)
    try:
        of_file: Mapping[str, str] = DotenvFile(path).values() if path.is_file() else {}
    except (OSError, UnicodeDecodeError, ConfigError):
        of_file = {}  # `load_settings` tells
    both = [(dict(os.environ), "the environment"), (of_file, FILE)]
    return [(name, value, place) for values, place in both for name, value in values.items() if not _is_unset(value)]


def _is_unset(value: str) -> bool:
    return value.strip().lower() in UNSET


class _Known:
    """All names that there are, to compare others with. `are_set` are the names that have a value."""

    def __init__(self, tables: Tables, chosen: str | None, are_set: frozenset[str]) -> None:
        self._are_set = are_set
        self._chosen = chosen
        self._by_name = {name: each for topic in topics(tables) for each in topic.variables for name in each.names}
        self._ignored = {name for table in tables for name in table.ignored}
        self._of_prefix: dict[str, list[tuple[str, Variable]]] = {}
        self._owner: dict[str, str] = {}
        common = set(self._by_name)
        for table in tables:
            of_table = variables(table).values()
            names = {name for each in of_table for name in each.names}
            common -= names
            self._owner |= {each.name: table.name for each in of_table}
            for prefix in sorted({f"{table.prefix}_"} | {f"{name.partition('_')[0]}_" for name in names}):
                self._of_prefix[prefix] = [(_tail(name), self._by_name[name]) for name in names]
        self._of_prefix[OURS] = [(_tail(name), self._by_name[name]) for name in common if name.startswith(OURS)]
        self._common = [(name, self._by_name[name]) for name in common]

    def is_ours(self, name: str, value: str) -> bool:
        """Whether a table knows this name, or somebody else uses it on purpose."""
        of_link = name.endswith("_PORT") and value.startswith(("tcp://", "udp://"))  # Kubernetes' again
        return name in self._by_name or name in self._ignored or of_link or bool(_OF_OTHERS.fullmatch(name))

    def has_prefix(self, name: str) -> bool:
        """Whether it begins as a setting of ours."""
        return name.upper().startswith(tuple(self._of_prefix))

    def counts(self, variable: Variable) -> bool:
        """Whether anything would be different if this had been set."""
        missing = not self._are_set & set(variable.names)
        return missing and (self._chosen is None or self._owner.get(variable.name, self._chosen) == self._chosen)

    def nearest(self, name: str) -> Variable | None:
        """The setting that was meant; None if it is like none."""
        name = name.upper()
        if name in self._by_name:
            return self._by_name[name]
        for prefix, tails in self._of_prefix.items():
            if name.startswith(prefix):
                tail = name.removeprefix(prefix)
                return _best(tail, tails, _ALIKE) or _best(tail, self._common, _NEARLY_THE_SAME)
        own = self._of_prefix[OURS] + (self._of_prefix[f"{self._chosen.upper()}_"] if self._chosen else [])
        return _best(name, [*self._common, *own], _MORE_ALIKE) or _best(name, self._by_name.items(), _NEARLY_THE_SAME)


def _tail(name: str) -> str:
    return name.partition("_")[2]


def _best(name: str, candidates: Iterable[tuple[str, Variable]], least: float) -> Variable | None:
    """Return the candidate that the name is most like; None if it is less than `least` like any.

    People also know the words and not their order (`INSTRUCTIONS_FILE`), so that they are compared sorted, too.
    """
    best: Variable | None = None
    ordered = sorted(candidates, key=itemgetter(0))
    for word in sorted({name, *(name.replace(word, ours) for word, ours in _OTHER_WORDS.items())}):
        for as_spelled in (str, _in_order):
            matcher = SequenceMatcher(None, "", as_spelled(word))
            for each, variable in ordered:
                matcher.set_seq1(as_spelled(each))
                # The bounds cost a fifth of the ratio: a shared file with a hundred names would take seconds.
                if matcher.real_quick_ratio() < least or matcher.quick_ratio() < least:
                    continue
                if (alike := matcher.ratio()) > least or (alike == least and best is None):
                    best, least = variable, alike
    return best


def _in_order(name: str) -> str:
    return "_".join(sorted(name.split("_")))
