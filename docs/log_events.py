"""What the service may log, read from its source: every event with its levels, its logger and its fields.

An event's name is a constant word or two in the source (docs/internals/architecture.md, "Who wrote a log line"), so the
list is whole. Fields that are only known while it runs are shown as an ellipsis.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(__file__).parents[1] / "sts_trio"
LEVELS = ("debug", "info", "warning", "error", "exception")
UNKNOWN = "…"
_Scope = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Event:
    """One event of one module. `levels` has more than one if the level depends on what happened."""

    name: str
    logger: str
    levels: set[str] = field(default_factory=set)
    fields: dict[str, None] = field(default_factory=dict)


def events(source: Path = SOURCE) -> list[Event]:
    """Every event of the service's modules, by logger and name; the lab's are left out."""
    found: dict[tuple[str, str], Event] = {}
    for path in sorted(source.rglob("*.py")):
        logger = ".".join(path.relative_to(source.parent).with_suffix("").parts).removesuffix(".__init__")
        if logger.startswith("sts_trio.lab"):
            continue
        for name, levels, fields in _Module(ast.parse(path.read_text(encoding="utf-8"))).said():
            event = found.setdefault((logger, name), Event(name, logger))
            event.levels |= levels
            event.fields |= dict.fromkeys(fields)
    # An action of the bridge is logged by the call that carries it out.
    for (logger, name), event in list(found.items()):
        if "action" in event.levels:
            del found[logger, name]
            event.logger, event.levels = "sts_trio.call.call", {"warning"}
            found.setdefault((event.logger, name), event).fields |= event.fields
    return [found[key] for key in sorted(found)]


class _Module:
    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self._scopes = [node for node in ast.walk(tree) if isinstance(node, _Scope)]

    def said(self) -> Iterator[tuple[str, set[str], list[str]]]:
        """Each call that logs: the event, the levels, the fields."""
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Call) and node.args and (levels := self._levels(node)):
                event = node.args[0]
                if isinstance(event, ast.Constant) and isinstance(event.value, str):
                    fields = [name for keyword in node.keywords for name in self._names(keyword, node)]
                    if levels == {"action"}:
                        fields = [name for more in node.args[1:] for name in self._keys(more, node)]
                    if "exception" in levels:
                        fields.append("exception")
                    yield event.value, {level.replace("exception", "error") for level in levels}, fields

    def _levels(self, call: ast.Call) -> set[str]:
        match call.func:
            case ast.Attribute(value=ast.Name(id="log"), attr=level) if level in LEVELS:
                return {level}
            case ast.Name(id="LogWarning"):
                return {"action"}
            case ast.Name(id=name):
                return self._levels_of_name(name, call)
        return set()

    def _levels_of_name(self, name: str, call: ast.Call) -> set[str]:
        """The levels of `report = log.warning if ... else log.info`, or of a function here that passes an event on."""
        for assigned in self._assigned(name, call):
            levels = {node.attr for node in ast.walk(assigned) if _is_log(node)}
            if levels:
                return levels
        for scope in self._scopes:
            if scope.name == name and scope.args.args:
                first = scope.args.args[0].arg
                return {
                    node.func.attr
                    for node in ast.walk(scope)
                    if isinstance(node, ast.Call) and _is_log(node.func) and _is_name(node.args[0], first)
                }
        return set()

    def _names(self, keyword: ast.keyword, call: ast.Call) -> list[str]:
        if keyword.arg == "exc_info":
            return ["exception"]
        return [keyword.arg] if keyword.arg else self._keys(keyword.value, call)

    def _keys(self, value: ast.expr, call: ast.Call) -> list[str]:
        """The keys of a mapping that is written in this module; an ellipsis for what is not."""
        match value:
            case ast.Dict(keys=keys):
                return [key.value if isinstance(key, ast.Constant) else UNKNOWN for key in keys]  # type: ignore[misc]
            case ast.Name(id=name):
                for assigned in self._assigned(name, call):
                    return self._keys(assigned, call)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="self"), attr=name)):
                for scope in self._scopes:
                    for node in ast.walk(scope):
                        if scope.name == name and isinstance(node, ast.Return) and node.value is not None:
                            return self._keys(node.value, call)
        return [UNKNOWN]

    def _assigned(self, name: str, call: ast.Call) -> Iterator[ast.expr]:
        """What this name is, in the function around the call."""
        for scope in self._scopes:
            if any(node is call for node in ast.walk(scope)):
                for node in ast.walk(scope):
                    if isinstance(node, ast.Assign) and _is_name(node.targets[0], name):
                        yield node.value


def _is_log(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and _is_name(node.value, "log") and node.attr in LEVELS


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name
