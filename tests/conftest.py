"""What all tests share."""

from __future__ import annotations

import gc
import ssl
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sts_trio import wiring

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sts_trio.settings import Settings

_SLOW_SECONDS = 900
_ON_SOCKETS = Path(__file__).parent / "e2e"


def pytest_collection_finish() -> None:
    """What has been imported and collected stays: the garbage collector need not go through it, a tenth of a run."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow proofs their time; and keep what measures time on sockets in one process, one after the other."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_SLOW_SECONDS))
        if item.path.is_relative_to(_ON_SOCKETS):
            item.add_marker(pytest.mark.xdist_group("e2e"))


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
