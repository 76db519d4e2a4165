"""What all tests share."""

from __future__ import annotations

import gc
import io
import json
import logging
import os
import ssl
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
import structlog

from sts_trio import wiring
from sts_trio.logs import set_up_logging

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sts_trio.settings import Settings

# A busy machine is no fault of the code: no example fails for being slow. `HYPOTHESIS_PROFILE=deep` tries more of them.
_UNHURRIED = hypothesis.settings(
    max_examples=40, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("quick", _UNHURRIED)
hypothesis.settings.register_profile("deep", _UNHURRIED, max_examples=400)
# For mutants (docs/internals/mutation.md): the same few examples each time, and no search for the smallest that fails.
hypothesis.settings.register_profile(
    "mutation",
    parent=_UNHURRIED,
    max_examples=20,
    derandomize=True,
    database=None,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

_SLOW_SECONDS = 900
_ON_SOCKETS = Path(__file__).parent / "e2e"
_LONG_CALLS = Path(__file__).parent / "call"


def pytest_collection_finish() -> None:
    """What has been imported and collected stays: the garbage collector need not go through it, a tenth of a run."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow proofs their time, and share the tests out to processes.

    What measures time on sockets runs in one process, one after the other, and so begins first. The small ones go file
    by file: asking for each costs as much as running it. Whole calls come last and one by one, so that all processes
    end at the same time.
    """
    for item in items:
        if (item.get_closest_marker("slow") or item.get_closest_marker("long")) and not item.get_closest_marker(
            "timeout"
        ):
            item.add_marker(pytest.mark.timeout(_SLOW_SECONDS))
        if item.path.is_relative_to(_ON_SOCKETS):
            item.add_marker(pytest.mark.xdist_group("e2e"))
        elif not item.path.is_relative_to(_LONG_CALLS):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
    items.sort(key=lambda item: (not item.path.is_relative_to(_ON_SOCKETS), item.path.is_relative_to(_LONG_CALLS)))


@pytest.fixture(autouse=True, scope="session")
def _system_certificates_are_read_once() -> Iterator[None]:
    """Each service reads them when it is built: 30 ms, and a run builds some 400 services."""
    of_the_system, trust = cache(ssl.create_default_context), wiring.trust

    def trust_once(settings: Settings) -> ssl.SSLContext:
        return trust(settings) if settings.provider.ca_file else of_the_system()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wiring, "open_http", cache(wiring.open_http))
        patch.setattr(wiring, "trust", trust_once)
        yield


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """Logging is the process's: what a test sets up is taken back after it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()  # set_up_logging closes those that it finds; pytest's own must live on
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()


@dataclass(frozen=True, slots=True)
class Logged:
    """All that is logged while a test runs, by us and by libraries, as an operator would read it."""

    _stream: io.StringIO

    @property
    def text(self) -> str:
        """All of it."""
        return self._stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Its lines, parsed."""
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def errors(self) -> list[str]:
        """The events of those that tell of a fault."""
        return [line["event"] for line in self.lines if line["level"] in ("error", "critical")]


@pytest.fixture
def logged(restored_logging: None) -> Logged:
    """Log as the service does, all levels."""
    stream = io.StringIO()
    set_up_logging("debug", "json", stream)
    logging.getLogger().setLevel(logging.DEBUG)
    return Logged(stream)
