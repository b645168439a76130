"""What holds for the files of the repository as a whole."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import nbformat

from tests.conftest import require

ROOT = Path(__file__).resolve().parents[1]

TOP_LEVEL = {
    ".ci", ".gitattributes", ".gitignore", "LICENSE", "README.md", "binder", "msgviz", "notebooks",
    "pyproject.toml", "tests",
}  # fmt: skip

# Written so that this file does not find itself.
HOSTS = re.compile(
    r"py[p]i\.org|python[h]osted|npm[j]s\.(org|com)|yarn[p]kg\.com|debia[n]\.org"
    r"|jsdeliv[r]|unpk[g]\.com|cdnj[s]|esm\.s[h]\b|skypac[k]\.dev|fonts\.(googleapi[s]|gstati[c])"
)
MACHINE_PATHS = re.compile(r"(?<![\w.:/])/(wor[k]|far[m]|roo[t]|hom[e]/\w+|User[s]/\w+)/|\b[A-Z]:\\User[s]\\")


@cache
def files() -> list[Path]:
    """Return what git tracks, and what it would if all were added now."""
    require(shutil.which("git") and (ROOT / ".git").exists(), "this is no git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    paths = [Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file()]
    assert Path("pyproject.toml") in paths
    return paths


@cache
def texts() -> dict[Path, str]:
    """Return the text of every file that is text."""
    found = {}
    for path in files():
        data = (ROOT / path).read_bytes()
        if b"\0" not in data:
            found[path] = data.decode("utf-8")
    return found


def places(pattern: re.Pattern[str]) -> list[str]:
    """Return where in the repository the pattern matches."""
    return [
        f"{path}:{number}: {match[0]}"
        for path, text in texts().items()
        for number, line in enumerate(text.split("\n"), 1)
        if (match := pattern.search(line))
    ]


def test_the_top_level_is_what_it_is_meant_to_be() -> None:
    assert {path.parts[0] for path in files()} == TOP_LEVEL


def test_no_file_names_the_host_of_a_registry_or_of_a_cdn() -> None:
    assert places(HOSTS) == []


def test_no_file_names_a_path_of_a_machine() -> None:
    assert places(MACHINE_PATHS) == []


def test_the_lock_file_says_what_is_installed_but_not_from_where() -> None:
    locks = [path for path in files() if path.name == "package-lock.json"]
    assert locks == [Path("msgviz/widgets/src/package-lock.json")]
    packages = json.loads(texts()[locks[0]])["packages"]
    assert all("integrity" in package for name, package in packages.items() if name)
    assert [name for name, package in packages.items() if "resolved" in package] == []


def test_every_bundle_is_small_and_stands_alone() -> None:
    folder = Path("msgviz/widgets/static")
    bundles = {path: text for path, text in texts().items() if path.parent == folder}
    assert {path.suffix for path in bundles} == {".js", ".css"}
    other = re.compile(r"""(^|[;}])import[\s{*"']|\bimport\(|@import|sourceMappingURL""", flags=re.MULTILINE)
    for path, text in bundles.items():
        assert len(text.encode()) < 100_000, path
        assert other.search(text) is None, path


def test_the_widgets_write_no_html_keep_nothing_and_ask_nobody() -> None:
    pattern = re.compile(
        r"inner_?HTML|outerHTML|insertAdjacentHTML|document\.write|localStorage|sessionStorage|indexedDB"
        r"|\beval\(|\bfetch\(|XMLHttpRequest|WebSocket|https?://(?!www\.w3\.org/)",
        flags=re.IGNORECASE,
    )
    sources = [path for path in texts() if path.suffix in {".ts", ".tsx", ".css"}]
    assert sources
    assert [place for place in places(pattern) if Path(place.partition(":")[0]) in sources] == []


def test_notebooks_are_kept_without_what_they_gave() -> None:
    notebooks = [path for path in files() if path.suffix == ".ipynb"]
    assert notebooks
    for path in notebooks:
        notebook = nbformat.read(ROOT / path, as_version=nbformat.NO_CONVERT)  # type: ignore[no-untyped-call]
        nbformat.validate(notebook)
        assert path.parent == Path("notebooks")
        assert notebook.metadata.kernelspec.name == "python3"
        assert "widgets" not in notebook.metadata
        for cell in notebook.cells:
            assert cell.get("outputs", []) == [], path
            assert cell.get("execution_count") is None, path


def test_the_readme_gives_one_command_to_open_and_one_to_test() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", readme, flags=re.MULTILINE | re.DOTALL)
    start = r'^python3 -m venv \.venv && \.venv/bin/pip install -q -e "\.\[(\w+)\]" && \.venv/bin/'
    opens = re.findall(rf"{start}jupyter lab (?:--\S+ )*(\S+\.ipynb)$", "".join(blocks), flags=re.MULTILINE)
    tests = re.findall(rf"{start}python -m pytest$", "".join(blocks), flags=re.MULTILINE)
    ((opens_with, notebook),) = opens
    (tests_with,) = tests
    assert (ROOT / notebook).is_file()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert {opens_with, tests_with} <= set(extras)
