"""Alerts and dashboards ask for what the service exports, lead to the runbook, and say what they should."""

from __future__ import annotations

import json
import re
import runpy
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from sts_trio.workers.metrics import MergedMetrics, MetricsCollector
from sts_trio.workers.pool import WorkerPool
from tests.deploy.promql import groupings, promtool, selectors
from tests.fakes.metrics import used

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
RUNBOOK = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"] for rule in group["rules"]
]
BOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "deploy/grafana").glob("*.json"))
}
ADDED = {"job", "instance"}  # by Prometheus, to every series
OPEN = {"tool", "emotion", "version", "worker"}  # whose values are the operator's, the provider's, ours by number

Labels = dict[str, dict[str, set[str]]]  # by series and label: the values


def exported() -> Labels:
    """Every series, as one process shows it and as several do."""
    metrics, merged = used(), MergedMetrics()
    metrics.offer(["lookup"])
    alone = metrics.scrape()[0].decode()
    merged.update("1", alone)
    merged.update("supervisor", generate_latest(MetricsCollector(WorkerPool([0]))).decode())
    found: Labels = defaultdict(lambda: defaultdict(set))
    for text in (alone, merged.render({"1", "supervisor"}).decode()):
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found[sample.name] |= {}
                for label, value in sample.labels.items():
                    found[sample.name][label].add(value)
    return found


def panels() -> list[tuple[str, dict[str, Any]]]:
    return [(name, panel) for name, board in BOARDS.items() for panel in board["panels"]]


def plain(query: str) -> str:
    """A dashboard's query as Prometheus gets it."""
    return query.replace("$__rate_interval", "5m").replace("$job", "sts").replace("$instance", ".*")


def queries() -> dict[str, str]:
    """All queries, by where they stand."""
    found = {f"alert {rule['alert']}": rule["expr"] for rule in RULES}
    for name, panel in panels():
        for target in panel.get("targets", ()):
            found[f"{name}: {panel['title']} {target['refId']}"] = plain(target["expr"])
    for name, board in BOARDS.items():
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                found[f"{name}: variable {variable['name']}"] = plain(variable["query"]["query"])
    return found


@pytest.mark.parametrize("query", queries().values(), ids=queries())
async def test_a_query_asks_for_what_is_exported(query: str) -> None:
    known = exported()
    known["up"] = {}
    found = list(selectors(query))
    assert found
    for selector in found:
        assert selector.name in known, f"there is no series {selector.name}"
        labels = known[selector.name]
        for label, values in selector.asked:
            assert label in ADDED | set(labels), f"{selector.name} has no label {label}"
            if label not in ADDED | OPEN:
                assert set(values) <= labels[label], f"{selector.name} has no such {label}"
    for grouping in groupings(query):
        for name in grouping.names:
            assert set(grouping.labels) <= ADDED | set(known[name]), f"{name} has not all of {grouping.labels}"


async def test_every_series_is_on_a_dashboard() -> None:
    families = {re.sub("_(bucket|sum|count)$", "", name) for name in exported() if name.startswith("sts_")}
    shown = {
        re.sub("_(bucket|sum|count)$", "", selector.name)
        for where, query in queries().items()
        if not where.startswith("alert")
        for selector in selectors(query)
    }
    assert families - shown == set(), "give them a panel in deploy/grafana/make.py, and run it"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_how_bad_it_is_what_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert set(rule["annotations"]) == {"summary", "runbook_url"}
    kept = {label for grouping in groupings(rule["expr"]) for label in grouping.labels} or ADDED
    assert set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])) <= kept
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert page == "docs/runbook.md"
    section = {slug(title): text for title, text in sections().items()}[anchor]
    assert f"`{rule['alert']}`" in section, "its section of the runbook does not name it"


async def test_the_runbook_has_ten_questions_and_knows_every_alert() -> None:
    assert len(sections()) == 10
    assert set(re.findall(r"`(Sts\w+)`", RUNBOOK)) == {rule["alert"] for rule in RULES}
    known = exported()
    for name in set(re.findall(r"`((?:sts|process)_\w+)`", RUNBOOK)):
        assert any(series.startswith(name) for series in known), f"the runbook speaks of {name}"


def sections() -> dict[str, str]:
    """The runbook's questions, each with what stands below it."""
    parts = re.split(r"^## (.*)$", RUNBOOK, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def slug(title: str) -> str:
    """A heading's anchor, as forges make it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def test_the_dashboards_are_what_is_made_of_their_description(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "deploy/grafana")
    made: dict[str, str] = runpy.run_path(str(ROOT / "deploy/grafana/make.py"))["dashboards"]()
    for name, text in made.items():
        assert (ROOT / "deploy/grafana" / name).read_text(encoding="utf-8") == text, "python deploy/grafana/make.py"
    assert {Path(name).stem for name in made} == set(BOARDS)


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_can_be_loaded_and_its_panels_do_not_overlap(name: str) -> None:
    board = BOARDS[name]
    assert board["uid"] == f"sts-{name}"
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"].endswith("."), "a panel says what it shows"
            assert {panel["datasource"]["uid"], *(each["datasource"]["uid"] for each in panel["targets"])} == {
                "${datasource}"
            }
    variables = [variable["name"] for variable in board["templating"]["list"]]
    assert variables == ["datasource", "job", "instance"]
    others = {link["url"] for link in board["links"]}
    assert others == {f"/d/sts-{other}" for other in BOARDS if other != name}


def test_the_scrape_example_has_the_job_that_alerts_ask_for_and_brings_the_token() -> None:
    [job] = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    assert job["job_name"] == "sts"
    assert job["authorization"] == {"credentials_file": "/etc/prometheus/sts-token"}
    assert job["static_configs"] == [{"targets": ["dsai-sts-humeai:6039"]}]


def test_promtool_finds_nothing_in_the_rules_and_the_example() -> None:
    assert f"{len(RULES)} rules found" in promtool("check", "rules", "rules.yml", cwd=PROMETHEUS)
    promtool("check", "config", "--syntax-only", "prometheus.yml", cwd=PROMETHEUS)


def test_promtool_tries_the_alerts() -> None:
    assert "SUCCESS" in promtool("test", "rules", "rules.test.yml", cwd=PROMETHEUS)


def test_promtool_reads_the_queries_of_the_dashboards(tmp_path: Path) -> None:
    rules = [
        {"record": f"query:{number}", "expr": query}
        for number, (where, query) in enumerate(queries().items())
        if not where.startswith("alert") and "variable" not in where
    ]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", "queries.yml", cwd=tmp_path)
