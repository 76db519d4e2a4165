"""The arrows of the house: who may import whom, and what the pure modules do without."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import sts_trio

SOURCE = Path(sts_trio.__file__).parent
MODULES = sorted(".".join(path.relative_to(SOURCE).with_suffix("").parts) for path in SOURCE.rglob("*.py"))

# Imports point from a room to those beneath it: `cli → main → workers → web → wiring → call → {core, providers, tools}
# → {websocket, audio, settings}`. The lab stands on the other side of the wire: a codec shared with the service would
# hide its own faults.
BASE = {"errors", "http_client", "text"}
AUDIO = BASE | {"audio"}
LINK = AUDIO | {"websocket"}
CALL = LINK | {"core", "logs", "providers", "tools", "call", "settings"}
MAY_IMPORT = {
    "errors": set(),
    "http_client": {"errors", "settings", "text"},
    "text": {"errors"},
    "logs": BASE,
    "printed": BASE,
    "settings": {"errors", "settings"},
    "audio": AUDIO,
    "core": AUDIO | {"core", "settings"},
    "websocket": {"websocket"},
    "providers": LINK | {"providers", "settings"},
    "tools": AUDIO | {"tools", "settings"},
    "call": CALL,
    "web": CALL | {"web"},
    "metrics": {"audio", "call", "metrics"},
    "wiring": CALL | {"wiring"},
    "workers": {"call", "errors", "settings", "web", "workers"},
    "main": CALL | {"main", "logs", "metrics", "printed", "web", "wiring", "workers"},
    "check": LINK | {"call", "core", "logs", "providers", "settings", "tools", "wiring"},
    "lab": AUDIO | {"lab", "core", "logs", "main", "providers", "settings", "wiring"},
    "cli": CALL | {"check", "cli", "lab", "logs", "main", "metrics", "web", "wiring", "workers"},
    "__init__": set(),
    "__main__": {"cli"},
}

ONLY_IN = {  # library: where it may be imported
    "quart": {"web"},
    "quart_trio": {"web"},
    "hypercorn": {"web"},
    "wsproto": {"web", "providers.refusal", "providers.socket", "lab"},
    "h11": {"web", "lab"},
    "trio_websocket": {"providers.socket", "lab"},
    "decouple": {"settings"},
    "soundfile": {"lab"},
    "soxr": {"lab"},
    "httpx": {"http_client"},
    "prometheus_client": {"metrics", "workers"},
    "docstring_parser": {"tools.tool"},
    "audioop": {"providers.openai", "lab"},
    "click": {"cli"},
    "rich": {"cli", "lab"},
    "jinja2": {"lab.page"},
}

# A module is pure when its docstring says so (its first paragraph ends with "Pure."); these must be.
PURE = ["audio.pcm", "audio.resample", "call.bridge", "call.playout", "call.speech", "core.wire", "websocket.frames"]
NOT_PURE = {
    "trio",
    "trio_websocket",
    "asyncio",
    "threading",
    "socket",
    "ssl",
    "quart",
    "hypercorn",
    "h11",
    "wsproto",
}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(SOURCE.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8"))


@cache
def imports(module: str) -> frozenset[str]:
    """Dotted names of all that a module imports, anywhere in it and for types only, too."""
    found: set[str] = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


def within(module: str, room: str) -> bool:
    return module == room or module.startswith(room + ".")


def test_the_walk_sees_the_house() -> None:
    assert len(MODULES) > 40
    assert "sts_trio.core.wire.Init" in imports("call.bridge")
    assert "sts_trio.providers.base.AgentEvent" in imports("call.bridge")  # under TYPE_CHECKING
    assert "trio_websocket" in imports("providers.socket")


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str) -> None:
    allowed = MAY_IMPORT[module.partition(".")[0]]
    rooms = {name.split(".")[1] for name in imports(module) if name.startswith("sts_trio.")}
    assert rooms - {"__version__"} <= allowed


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Not even for types, or by way of others: neither could be read without the other."""
    known = {module: {name.removeprefix("sts_trio.") for name in imports(module)} for module in MODULES}
    beneath = {
        module: {other for other in MODULES if any(within(name, other) for name in names) and other != module}
        for module, names in known.items()
    }
    while free := [module for module, others in beneath.items() if not others & beneath.keys()]:
        for module in free:
            del beneath[module]
    assert not beneath.keys()


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_known_to_its_own_room_only(library: str) -> None:
    users = {module for module in MODULES if any(within(name, library) for name in imports(module))}
    assert not {user for user in users if not any(within(user, room) for room in ONLY_IN[library])}


def test_the_environment_is_read_in_one_place() -> None:
    readers = set()
    for module in MODULES:
        names = {node.attr for node in ast.walk(tree(module)) if isinstance(node, ast.Attribute)} | imports(module)
        if names & {"environ", "environb", "getenv", "getenvb", "os.environ", "os.getenv"}:
            readers.add(module)
    assert readers == set()  # decouple does it, where `ONLY_IN` lets it


def called_pure(module: str) -> bool:
    """Whether the docstring of a module promises that it neither waits nor knows the clock or the network."""
    first, _, _ = (ast.get_docstring(tree(module)) or "").partition("\n\n")
    return " ".join(first.split()).endswith("Pure.") or "Pure: " in first


@pytest.mark.parametrize("module", [name for name in MODULES if called_pure(name)])
def test_a_pure_module_neither_waits_nor_knows_the_clock_or_the_network(module: str) -> None:
    waiting = (ast.Await, ast.AsyncFor, ast.AsyncWith, ast.AsyncFunctionDef)
    assert not [node.lineno for node in ast.walk(tree(module)) if isinstance(node, waiting)]
    known = {name.split(".")[0] for name in imports(module)}
    assert not known & NOT_PURE
    # The emulators stamp some messages with the time of day; nothing is decided by it.
    assert "time" not in known or within(module, "lab.emulator")


@pytest.mark.parametrize("module", PURE)
def test_what_must_be_pure_says_so(module: str) -> None:
    assert called_pure(module)


def test_the_packages_of_the_providers_are_known_to_the_table_only() -> None:
    knowing = set()
    for module in MODULES:
        rooms = {".".join(name.split(".")[1:3]) for name in imports(module) if name.startswith("sts_trio.providers.")}
        knowing |= {module for room in rooms & {"providers.hume", "providers.openai"} if not within(module, room)}
    assert knowing == {"providers.__init__"}


def loaded_by(statement: str) -> set[str]:
    """The modules that are there after a statement, in a new interpreter."""
    command = f"import contextlib, json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout
    return set(json.loads(printed.splitlines()[-1]))


@pytest.mark.parametrize(
    "statement",
    [
        "import sts_trio.main, sts_trio.workers.supervisor",
        "from sts_trio.cli import main\nwith contextlib.suppress(SystemExit): main(['serve', '--help'])",
    ],
)
def test_the_service_loads_nothing_of_the_lab(statement: str) -> None:
    lab = {name for name in loaded_by(statement) if within(name, "sts_trio.lab") or within(name, "soxr")}
    assert not lab


def test_the_help_waits_for_no_network_and_no_numbers() -> None:
    loaded = loaded_by("from sts_trio.cli import main\nwith contextlib.suppress(SystemExit): main(['--help'])")
    assert not loaded & {"trio", "trio_websocket", "quart", "hypercorn", "httpx", "numpy", "sts_trio.wiring"}


def test_what_tests_share_is_in_no_module_of_tests() -> None:
    """Nor is it imported from one in a script that a test runs."""
    importing = re.compile(r"^\s*(?:from|import) tests[\w.]*\.test_\w+", re.MULTILINE)
    tests = Path(__file__).parents[1]
    found = {path.name for path in tests.rglob("*.py") if importing.search(path.read_text(encoding="utf-8"))}
    assert not found
