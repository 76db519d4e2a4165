"""What a release is made of: one version, a licence, and forge files that ask for what helps."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from sts_trio import __version__
from sts_trio.cli import main

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_version_is_the_same_wherever_it_is_written() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)
    assert PROJECT["dynamic"] == ["version"]
    assert CliRunner().invoke(main, ["--version"]).output.split()[-1] == __version__
    [label] = re.findall(r'org\.opencontainers\.image\.version="([^"]+)"', read("Dockerfile"))
    assert label == __version__, "the label of the image"
    composed = [Path("compose.yml"), *sorted((ROOT / "deploy/compose").glob("*.yml"))]
    tags = {tag for path in composed for tag in re.findall(r"image: dsai-sts-humeai:(\S+)", read(str(path)))}
    assert tags == {__version__}, "the image in the compose files"
    releases = re.findall(r"^## \[([^\]]+)\](?: - (\d{4}-\d\d-\d\d))?$", read("CHANGELOG.md"), re.MULTILINE)
    assert releases[0] == ("Unreleased", "")
    assert releases[1][0] == __version__, "CHANGELOG.md's latest release"
    assert all(date for _, date in releases[1:])


def test_the_licence_is_the_one_that_is_named() -> None:
    assert PROJECT["license"] == "MIT"
    assert read("LICENSE").startswith("MIT License\n\nCopyright (c) 2026 sts_trio contributors\n")
    assert PROJECT["authors"] == [{"name": "sts_trio contributors"}]
    assert not [line for line in PROJECT["classifiers"] if line.startswith("License")], "the expression says it"
    assert metadata("sts-trio")["Name"] == PROJECT["name"]
    assert 'licenses="MIT"' in read("Dockerfile")


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_is_one_that_forges_read(path: Path) -> None:
    form = yaml.safe_load(path.read_text())
    if path.stem == "config":
        assert isinstance(form["blank_issues_enabled"], bool)
        return
    assert {"name", "description", "body"} <= form.keys()
    kinds = {"markdown", "textarea", "input", "dropdown", "checkboxes"}
    assert {field["type"] for field in form["body"]} <= kinds
    ids = [field["id"] for field in form["body"] if field["type"] != "markdown"]
    assert len(set(ids)) == len(ids)


def test_a_report_of_a_fault_brings_what_the_doctor_says_and_how_the_call_ended() -> None:
    form = yaml.safe_load(read(".github/ISSUE_TEMPLATE/bug.yml"))
    needed = {
        field["id"]: " ".join(str(value) for value in field["attributes"].values())
        for field in form["body"]
        if field.get("validations", {}).get("required")
    }
    assert "`sts-trio check`" in needed["check"]
    assert '"event": "call ended"' in needed["ended"]
    assert {"what", "version", "provider"} <= needed.keys()


def test_public_ci_runs_everything_on_every_python_that_is_promised() -> None:
    jobs = yaml.safe_load(read(".github/workflows/ci.yml"))["jobs"]
    promised = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert jobs["checks"]["strategy"]["matrix"]["python"] == promised
    assert PROJECT["requires-python"] == f">={promised[0]}"
    [step] = [step for step in jobs["checks"]["steps"] if "run" in step]
    assert step["run"] == "bash .ci/run"
    assert list(step["env"]) == ["CI_PYTHON"]
    assert "${CI_PYTHON:-" in read(".ci/run")
    assert any(step.get("run", "").startswith("docker build") for step in jobs["image"]["steps"])


def test_what_runs_before_a_commit_is_what_ci_runs() -> None:
    [repo] = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert {hook["entry"].split(" --")[0] for hook in repo["hooks"]} == {"ruff check", "ruff format"}
    for command in ("ruff check", "ruff format --check"):
        assert f".venv/bin/{command}" in read(".ci/run")


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "deploy/README.md"])
def test_the_pages_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", read(name)):
        if "://" not in target:
            assert ((ROOT / name).parent / target).exists(), target
