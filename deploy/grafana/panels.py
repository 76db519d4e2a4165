"""The parts of a dashboard: queries, panels, variables, and where each panel stands."""

from __future__ import annotations

import re
from typing import Any

CHOSEN = 'job="$job", instance=~"$instance"'
DATA_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24  # of Grafana's grid
ROW, STAT, GRAPH = (24, 1), (4, 4), (8, 7)  # width and height of panels

Panel = dict[str, Any]
_SERIES = re.compile(r"\b((?:sts|process)_\w+|up\b)(?:\{([^}]*)\})?")


def chosen(query: str) -> str:
    """The query for the job and the instances that are chosen."""
    return _SERIES.sub(lambda found: f"{found[1]}{{{', '.join(filter(None, (CHOSEN, found[2])))}}}", query)


def growth(series: str, by: str = "") -> str:
    """How much it has grown, as bars show it.

    Over a scrape more than a bar's width: else what grows between two bars, the only call of an hour perhaps, is in
    none.
    """
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping} (increase({series}[$__rate_interval]))"


def quantile(share: float, series: str, by: str = "le", over: str = "$__rate_interval") -> str:
    """The value below which this share of what a histogram saw lies."""
    return f"histogram_quantile({share}, sum by ({by}) (rate({series}_bucket[{over}])))"


def panel(kind: str, size: tuple[int, int], title: str, shows: str, queries: dict[str, str], **more: Any) -> Panel:
    """A panel; `queries` by what the legend says of each."""
    targets = [
        {
            "datasource": DATA_SOURCE,
            "expr": chosen(query),
            "legendFormat": legend or "__auto",
            "refId": "ABCDEF"[number],
        }
        for number, (legend, query) in enumerate(queries.items())
    ]
    field = {"unit": more.pop("unit", "short"), "custom": more.pop("custom", {})}
    field |= {name: more.pop(name) for name in ("min", "decimals", "mappings") if name in more}
    field["thresholds"] = {"mode": "absolute", "steps": more.pop("steps", [{"color": "green", "value": None}])}
    head = {"type": kind, "size": size, "title": title, "description": shows, "datasource": DATA_SOURCE}
    return head | {"fieldConfig": {"defaults": field, "overrides": []}, "targets": targets} | more


def row(title: str) -> Panel:
    return {"type": "row", "size": ROW, "title": title, "collapsed": False, "panels": []}


def stat(title: str, shows: str, query: str, **more: Any) -> Panel:
    options = {"colorMode": "value", "graphMode": "area", "reduceOptions": {"calcs": ["lastNotNull"], "values": False}}
    return panel("stat", STAT, title, shows, {"": query}, options=options, **more)


def lines(title: str, shows: str, queries: dict[str, str], **more: Any) -> Panel:
    more.setdefault("custom", {"lineWidth": 1, "fillOpacity": 10, "showPoints": "auto"})
    options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
    return panel("timeseries", GRAPH, title, shows, queries, options=options, min=0, **more)


def bars(title: str, shows: str, queries: dict[str, str], **more: Any) -> Panel:
    stacked = {"drawStyle": "bars", "fillOpacity": 80, "lineWidth": 0, "stacking": {"mode": "normal", "group": "A"}}
    return lines(title, shows, queries, custom=stacked, interval="1m", **more)


def steps(*above: tuple[float, str], below: str = "green") -> list[dict[str, Any]]:
    """Colours: the first for what is below all, then one from each value on."""
    return [{"color": below, "value": None}, *({"color": color, "value": value} for value, color in above)]


def words(zero: str, one: str, *, good: int) -> list[dict[str, Any]]:
    """Words for 0 and 1, green and red."""
    colors = ("green", "red") if good == 0 else ("red", "green")
    texts = {str(value): {"text": text, "color": colors[value]} for value, text in enumerate((zero, one))}
    return [{"type": "value", "options": texts}]


def variable(name: str, query: str, *, several: bool) -> dict[str, Any]:
    asked = {"query": query, "refId": "variable"}
    many = {"multi": several, "includeAll": several, "allValue": ".*" if several else None}
    head = {"name": name, "label": name.capitalize(), "type": "query", "datasource": DATA_SOURCE, "query": asked}
    return head | {"definition": query, "refresh": 2, "sort": 1} | many


def board(name: str, shows: str, panels: list[Panel], others: list[str]) -> dict[str, Any]:
    """A dashboard: the panels from left to right, row by row."""
    placed, x, y, tallest = [], 0, 0, 0
    for number, each in enumerate(panels, 1):
        rest = dict(each)
        width, height = rest.pop("size")
        if x + width > WIDTH:
            x, y, tallest = 0, y + tallest, 0
        placed.append(rest | {"id": number, "gridPos": {"x": x, "y": y, "w": width, "h": height}})
        x, tallest = x + width, max(tallest, height)
    links = [
        {"type": "link", "title": other, "url": f"/d/sts-{other}", "keepTime": True, "includeVars": True}
        for other in others
    ]
    source = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1}
    job = variable("job", "label_values(sts_build_info, job)", several=False)
    instance = variable("instance", 'label_values(sts_build_info{job="$job"}, instance)', several=True)
    head = {
        "uid": f"sts-{name}",
        "title": f"sts_trio: {name}",
        "description": f"{shows} docs/runbook.md says what to do.",
    }
    times = {"refresh": "30s", "time": {"from": "now-6h", "to": "now"}, "timezone": "browser", "graphTooltip": 1}
    rest = {"tags": ["sts_trio"], "schemaVersion": 39, "version": 1, "editable": True, "links": links}
    return head | times | rest | {"templating": {"list": [source, job, instance]}, "panels": placed}
