"""The files beside compose.yml: what each makes of it, read by Compose 2 where there is one, and as YAML everywhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/compose"
FILES = {path.stem: path for path in sorted(FOLDER.glob("*.yml"))}


class _Loader(yaml.SafeLoader):
    """YAML with Compose's own mark for what a file takes away."""


_Loader.add_constructor("!reset", lambda _, __: None)


def services(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.load(path.read_text(), _Loader)["services"]
    return found


@cache
def command() -> list[str]:
    """Compose 2.24 or later, if there is one; empty: none."""
    for words in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(words[0]) is None:
            continue
        told = subprocess.run([*words, "version", "--short"], capture_output=True, text=True, check=False)
        version = re.match(r"v?(\d+)\.(\d+)", told.stdout) if told.returncode == 0 else None
        if version and (int(version[1]), int(version[2])) >= (2, 24):
            return words
    return []


def config(folder: Path, *words: str, extra: str = "", **given: str) -> dict[str, Any]:
    """What Compose makes of the project with this file, in a copy of it without anybody's .env."""
    if not command():
        pytest.skip("there is no Compose 2.24 here (Debian 13: docker-compose)")
    shutil.copy(ROOT / "compose.yml", folder)
    shutil.copytree(FOLDER, folder / "deploy/compose", dirs_exist_ok=True)
    files = ["-f", "compose.yml", *(["-f", f"deploy/compose/{extra}.yml"] if extra else [])]
    done = subprocess.run(
        [*command(), *words, *files, "config", "--format", "json"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **given},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr.lower()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# As YAML.


def test_each_file_says_in_its_head_how_it_is_used() -> None:
    assert set(FILES) == {"second-agent", "second-project", "scale"}
    main = (ROOT / "compose.yml").read_text()
    for name, path in FILES.items():
        head = path.read_text().partition("services:")[0]
        assert f"-f compose.yml -f deploy/compose/{name}.yml" in head
        assert "STS_URL=ws://" in head
        assert f"deploy/compose/{name}.yml" in main


def test_no_two_agents_answer_to_one_name() -> None:
    taken = {service["container_name"] for service in services(ROOT / "compose.yml").values()}
    names = [
        service["container_name"]
        for path in FILES.values()
        for service in services(path).values()
        if service.get("container_name")
    ]
    assert not taken.intersection(names)
    assert len(set(names)) == len(names)


def test_the_second_agent_is_held_like_the_first() -> None:
    first = services(ROOT / "compose.yml")["dsai-sts-humeai"]
    second = services(FILES["second-agent"])["dsai-sts-second"]
    differing = {"container_name", "environment", "env_file", "volumes"}
    assert {name: value for name, value in second.items() if name not in differing} == {
        name: value for name, value in first.items() if name not in differing
    }


def test_the_balancers_rules_are_the_readmes() -> None:
    shown = (ROOT / "README.md").read_text().partition("```haproxy\n")[2].partition("```")[0]
    ours = {line.strip() for line in (FOLDER / "haproxy.cfg").read_text().splitlines()}
    for line in map(str.strip, shown.splitlines()):
        assert line in ours or line.startswith("server "), line


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed (Debian package haproxy)")
def test_haproxy_takes_the_file() -> None:
    subprocess.run(["haproxy", "-c", "-f", str(FOLDER / "haproxy.cfg")], check=True, capture_output=True)


# As Compose reads them.


def test_the_project_as_it_stands(tmp_path: Path) -> None:
    found = config(tmp_path, HUMEAI_API_KEY="k", PROMPT_FILE="./mine.txt")
    assert set(found["services"]) == {"dsai-sts-humeai"}
    service = found["services"]["dsai-sts-humeai"]
    assert service["container_name"] == "dsai-sts-humeai"
    assert service["environment"]["HUMEAI_FILE_INSTRUCTIONS"] == "prompt.txt"
    assert [mount["source"] for mount in service["volumes"]] == [str(tmp_path / "tools"), str(tmp_path / "mine.txt")]
    assert set(config(tmp_path, "--profile", "emulator")["services"]) == {
        "dsai-sts-humeai",
        "dsai-sts-demo",
        "evi-emulator",
    }


def test_a_network_of_ones_own(tmp_path: Path) -> None:
    assert config(tmp_path, DSAI_NETWORK_EXTERNAL="true")["networks"]["dsai"]["external"] is True
    assert not config(tmp_path)["networks"]["dsai"].get("external")


def test_a_second_agent_differs_in_what_its_file_says(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("HUMEAI_API_KEY=k\nHOST=127.0.0.1\nTOOL_SECONDS=7\nSECOND_PROMPT_FILE=./other.txt\n")
    (tmp_path / "second.env").write_text("STS_PROVIDER=xai\nXAI_API_KEY=x\nXAI_VOICE=Ara\n")
    found = config(tmp_path, extra="second-agent")["services"]
    assert set(found) == {"dsai-sts-humeai", "dsai-sts-second"}
    given = found["dsai-sts-second"]["environment"]
    told = {"STS_PROVIDER": "xai", "XAI_API_KEY": "x", "XAI_VOICE": "Ara", "HUMEAI_API_KEY": "k", "TOOL_SECONDS": "7"}
    assert given.items() >= told.items()
    assert given["HOST"] == "0.0.0.0"
    assert given["XAI_FILE_INSTRUCTIONS"] == "prompt.txt"
    assert found["dsai-sts-second"]["volumes"][1]["source"] == str(tmp_path / "other.txt")
    assert found["dsai-sts-humeai"]["environment"]["XAI_VOICE"] is None
    (tmp_path / "second.env").unlink()
    assert set(config(tmp_path, extra="second-agent")["services"]) == {"dsai-sts-humeai", "dsai-sts-second"}


def test_a_second_project_has_a_name_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "sales.env").write_text("OPENAI_API_KEY=o\n")
    found = config(tmp_path, "-p", "sales", "--env-file", "sales.env", extra="second-project")
    [(name, service)] = found["services"].items()
    assert (name, service["container_name"]) == ("sts", "sales-sts")
    assert service["environment"]["OPENAI_API_KEY"] == "o"
    assert service["init"] is True
    assert service["build"]["context"] == str(tmp_path)
    assert found["networks"]["dsai"]["external"] is True


def test_several_behind_haproxy_have_no_fixed_name(tmp_path: Path) -> None:
    found = config(tmp_path, extra="scale", HUMEAI_API_KEY="k")["services"]
    assert "container_name" not in found["dsai-sts-humeai"]
    [mount] = found["dsai-sts"]["volumes"]
    assert Path(mount["source"]).read_bytes() == (FOLDER / "haproxy.cfg").read_bytes()
    assert found["dsai-sts"]["stop_grace_period"] == found["dsai-sts-humeai"]["stop_grace_period"]
