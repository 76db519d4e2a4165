"""The operator's own tools: every Python file of a directory is one. Read and checked once, at start."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from dataclasses import dataclass
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any

from sts_trio.text import one_line
from sts_trio.tools.runner import innermost_line, threaded_tool
from sts_trio.tools.tool import NotATool, describe

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from importlib.machinery import ModuleSpec
    from pathlib import Path
    from types import ModuleType

    from sts_trio.tools.tool import Tool


@dataclass(frozen=True, slots=True)
class LoadedTools:
    """What a directory held: tools that can be offered, and a line for each file that cannot."""

    tools: tuple[Tool, ...] = ()
    problems: tuple[str, ...] = ()


class _Unusable(Exception):
    """A file is no tool; `line` is where in it, if known."""

    def __init__(self, what: str, line: int | None = None) -> None:
        super().__init__(what)
        self.line = line


def load_tools(
    directory: Path,
    *,
    explicit: bool,
    seconds: float,
    taken: Collection[str] = (),
    on_fault: Callable[[BaseException], object] | None = None,
) -> LoadedTools:
    """Load every file of `directory` that ends in ``.py`` and begins with neither ``_`` nor ``.``, by name.

    `explicit`: the operator named the directory, so that it must exist. `seconds`: what a run may take. `taken`: names
    that no tool may have. Files run as they are loaded, and what one does wrong is a problem of that one only.
    `on_fault` is shown what a tool raises when it is run.
    """
    directory = directory.absolute()  # as Python names files in tracebacks
    try:
        paths = sorted(directory.iterdir())
    except FileNotFoundError:
        problem = f"{directory}: there is no such directory: make it, or correct TOOLS_DIR"
        return LoadedTools(problems=(problem,) if explicit else ())
    except OSError as exc:
        return LoadedTools(problems=(f"{directory}: its files cannot be listed: {exc.strerror}",))
    if (finder := _Neighbours(str(directory))) not in sys.meta_path:
        sys.meta_path.append(finder)
    importlib.invalidate_caches()  # the directory may be younger than what Python remembers of it
    tools: dict[str, Tool] = {}
    files: dict[str, str] = {}
    problems = []
    for path in paths:
        if path.name.startswith(("_", ".")) or path.suffix not in (".py", ".js") or path.is_dir():
            continue
        try:
            tool = _load(path, seconds, on_fault)
            if tool.name in taken:
                raise _Unusable(f"{tool.name} is the name of a built-in tool: rename the function")
            if tool.name in tools:
                raise _Unusable(f"{tool.name} is in {files[tool.name]} already: rename one of the two")
        except _Unusable as exc:
            problems.append(f"{path}:{exc.line}: {exc}" if exc.line else f"{path}: {exc}")
        else:
            tools[tool.name], files[tool.name] = tool, path.name
    return LoadedTools(tuple(tools.values()), tuple(problems))


def _load(path: Path, seconds: float, on_fault: Callable[[BaseException], object] | None) -> Tool:
    if path.suffix == ".js":
        raise _Unusable("JavaScript is not run here: write the tool in Python")
    if not path.is_file():
        raise _Unusable("this is no file, or it is gone")
    name, function = _only_function(_run_file(path), path.stem)
    try:
        return threaded_tool(function, describe(function, name), path, seconds=seconds, on_fault=on_fault)
    except NotATool as exc:
        raise _Unusable(str(exc), inspect.unwrap(function).__code__.co_firstlineno) from exc


def _run_file(path: Path) -> ModuleType:
    # Dataclasses and type hints look their module up by its name, so it must have one that is nobody else's.
    name = "sts_trio_tool_" + "".join(each if each.isalnum() else f"_{ord(each):x}_" for each in str(path))
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise _Unusable("Python cannot load this file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:  # the operator's, who has lost patience with it
        raise
    except BaseException as exc:  # sys.exit() in a file ends that file only
        del sys.modules[name]
        raise _why(exc, path) from exc
    return module


def _why(exc: BaseException, path: Path) -> _Unusable:
    words = one_line(str(getattr(exc, "msg", exc)))[:300]
    line = innermost_line(exc.__traceback__, path)
    match exc:
        case SyntaxError():
            own = exc.filename in (None, str(path))
            other = "" if own else f" (in {exc.filename}, line {exc.lineno})"
            return _Unusable(f"this is not Python: {words}{other}", exc.lineno if own else line)
        case UnicodeDecodeError():
            return _Unusable("this is not UTF-8 text: save it as such")
        case ModuleNotFoundError():
            return _Unusable(f"{words}: install it beside sts-trio, or call your own file _{exc.name}.py", line)
        case SystemExit():
            return _Unusable("it ends the program as it is loaded: take the exit out", line)
        case OSError() if line is None:
            return _Unusable(f"it cannot be read: {exc.strerror or words}")
        case _:
            return _Unusable(f"it fails as it is loaded: {type(exc).__qualname__}: {words}".rstrip(": "), line)


def _only_function(module: ModuleType, stem: str) -> tuple[str, Callable[..., object]]:
    """Return the public function that was defined in `module`; of several, the one that is named `stem`."""
    found: dict[str, Any] = {}
    for name, value in vars(module).items():
        own = getattr(value, "__module__", None) == module.__name__
        if (
            own
            and not name.startswith("_")
            and inspect.isfunction(inspect.unwrap(value))
            and value not in found.values()
        ):
            found[name] = value
    if not found:
        raise _Unusable("it has no function: define one whose name does not begin with `_`")
    if len(found) == 1:
        return next(iter(found.items()))
    if stem in found:
        return stem, found[stem]
    raise _Unusable(
        f"it has {len(found)} functions ({', '.join(found)}): call one {stem}, or let the others begin with `_`"
    )


@dataclass(frozen=True, slots=True)
class _Neighbours:
    """Finds modules for tools' files: those beside them that begin with ``_``, and no others.

    The directory is not put on `sys.path`: a tool called ``brotli.py`` must not be what a library finds.
    """

    directory: str

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Answer the import system; `path` is set for submodules, which are none of ours."""
        del target
        return PathFinder.find_spec(name, [self.directory]) if path is None and name.startswith("_") else None
