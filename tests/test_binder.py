"""What Binder would build from this repository, without building it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.conftest import require

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def dockerfile(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return what repo2docker, which Binder runs, makes of the repository."""
    require(find_spec("repo2docker"), "repo2docker is not installed")
    command = ["-m", "repo2docker", "--no-run", "--no-build", "--debug", str(ROOT)]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=tmp_path_factory.mktemp("binder"),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "Building conda environment for python=3.12" in done.stderr
    return done.stdout


def test_installs_the_requirements_from_the_root_of_the_repository(dockerfile: str) -> None:
    assert "WORKDIR ${REPO_DIR}\n" in dockerfile
    copy = dockerfile.index("COPY --chown=0:0 src/ ${REPO_DIR}/\n")
    installs = [match for match in re.finditer(r"pip install (.*)", dockerfile) if match.start() > copy]
    assert [shlex.split(match[1]) for match in installs] == [
        ["--no-cache-dir", "-r", "binder/requirements.txt"]
    ]


def test_runs_on_a_python_that_msgviz_supports(dockerfile: str) -> None:
    unescaped = re.sub(r"-([0-9a-f]{2})", lambda match: chr(int(match[1], 16)), dockerfile)
    assert re.search(r"COPY \S+ \S+/environment\.py-3\.12-\S+ /tmp/env/environment\.lock", unescaped)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert Requirement(f"python{project['requires-python']}").specifier.contains("3.12")


def test_every_file_it_copies_exists(dockerfile: str) -> None:
    copied = re.findall(r"^COPY (?:--\S+ )*src/(\S*) ", dockerfile, flags=re.MULTILINE)
    assert "binder/requirements.txt" in copied
    assert [path for path in copied if not (ROOT / path).exists()] == []


def test_the_requirements_are_jupyterlab_and_this_repository_with_its_notebook_extra() -> None:
    editable, others = [], []
    for line in (ROOT / "binder" / "requirements.txt").read_text("utf-8").split("\n"):
        if line.startswith("-e "):
            editable.append(line.removeprefix("-e "))
        elif line:
            others.append(Requirement(line).name)
    assert others == ["jupyterlab"]
    (project,) = editable
    path, extra = re.fullmatch(r"([^\[]+)\[(\w+)\]", project).groups()  # type: ignore[union-attr]
    settings = tomllib.loads((ROOT / path / "pyproject.toml").read_text("utf-8"))["project"]
    assert settings["name"] == "msgviz"
    assert extra in settings["optional-dependencies"]
