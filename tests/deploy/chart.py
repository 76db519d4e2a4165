"""The chart, rendered by Helm's own library where it is installed (`pip install -e '.[deploy]'`)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

CHART = Path(__file__).parents[2] / "deploy/helm/sts-trio"

Manifest = dict[str, Any]


def render(values: dict[str, Any] | None = None, name: str = "line", namespace: str = "phones") -> list[Manifest]:
    """All manifests that an installation with these values would make."""
    helm = pytest.importorskip("helm_python", reason="Helm's library is not here: pip install -e '.[deploy]'")
    with helm.Chart.load(CHART) as chart:
        chart.validate_schema(values or {})
        pages: dict[str, str] = chart.render(values or {}, name=name, namespace=namespace)
    return [
        manifest
        for path, text in pages.items()
        if path.endswith(".yaml")
        for manifest in yaml.safe_load_all(text)
        if manifest is not None
    ]


def one(manifests: list[Manifest], kind: str) -> Manifest:
    """The only manifest of that kind."""
    [found] = [each for each in manifests if each["kind"] == kind]
    return found


def image(word: str) -> str:
    """What the last such instruction of the Dockerfile says, in one line."""
    text = (CHART.parents[2] / "Dockerfile").read_text(encoding="utf-8")
    return str(re.findall(rf"^{word} (.*)$", text, re.MULTILINE)[-1])


def values_table() -> str:
    """The README's table, made of the values and the comments before them."""
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    rows, path, meaning = ["| Value | Default | Meaning |", "|---|---|---|"], list[str](), ""
    for line in text.splitlines():
        if comment := re.match(r" *# -- (.*)", line):
            meaning = comment[1]
        elif (key := re.match(r"( *)(\w+):", line)) and len(key[1]) // 2 <= len(path):
            path = [*path[: len(key[1]) // 2], key[2]]
            if meaning:
                value = values
                for part in path:
                    value = value[part]
                rows.append(f"| `{'.'.join(path)}` | `{json.dumps(value)}` | {meaning} |")
                meaning = ""
    return "\n".join(rows)
