"""connect: from a URL to a backend, ours or another package's."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import msgviz as mv
from tests.queues import drained

Install = Callable[[str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a package with these entry points, beside a module `strange_backend`."""

    def do(points: str) -> None:
        info = tmp_path / "strange_backend-1.0.dist-info"
        info.mkdir()
        info.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: strange-backend\nVersion: 1.0\n")
        info.joinpath("entry_points.txt").write_text(f"[msgviz.backends]\n{points}\n")
        tmp_path.joinpath("strange_backend.py").write_text(
            "from msgviz.backends.memory import MemoryBackend\n"
            "class Strange(MemoryBackend):\n"
            "    name = 'strange'\n"
            "    @classmethod\n"
            "    def from_url(cls, url, **options):\n"
            "        self = cls()\n"
            "        self.made_from = (url, options)\n"
            "        return self\n"
            "class NoBackend: ...\n"
            "def no_class(): ...\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "strange_backend", raising=False)

    return do


def test_memory() -> None:
    backend = mv.connect("memory://")
    assert isinstance(backend, mv.Backend)
    assert backend.name == "memory"
    assert repr(backend) == "<MemoryBackend>"
    assert mv.connect("memory://") is not backend


@pytest.mark.parametrize(
    ("url", "options", "capacity"),
    [
        ("memory://", {}, None),
        ("memory://?", {}, None),
        ("memory://?capacity=7", {}, 7),
        ("memory://", {"capacity": 7}, 7),
        ("memory://?capacity=7", {"capacity": 8}, 8),  # what is said in code says more
        ("memory://", {"capacity": None}, None),
    ],
)
def test_capacity(url: str, options: dict[str, Any], capacity: int | None) -> None:
    backend: Any = mv.connect(url, **options)
    assert backend.capacity == capacity


@pytest.mark.parametrize(
    "url",
    [
        "memory",
        "memory:",
        "memory:/",
        "",
        "://",
        "memory://host",
        "memory:///path",
        "memory://#here",
        "memory://?capacity=",
        "memory://?capacity=x",
        "memory://?capacity=-1",
        "memory://?capacity=0",
        "memory://?capacity=1.5",
        "memory://?size=3",
        "memory://?capacity=3&size=3",
    ],
)
def test_urls_that_cannot_be_read(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  each says what is wrong in words of its own
        mv.connect(url)


@pytest.mark.parametrize("url", [None, 3, b"memory://", Path("memory://")])
def test_what_is_no_url(url: Any) -> None:
    with pytest.raises(TypeError, match=type(url).__name__):
        mv.connect(url)


@pytest.mark.parametrize("capacity", [0, -1, 1.5, True, "7"])
def test_what_is_no_capacity(capacity: Any) -> None:
    with pytest.raises(ValueError, match="capacity"):
        mv.connect("memory://", capacity=capacity)


def test_an_option_that_is_none() -> None:
    with pytest.raises(TypeError, match="not colour, size"):
        mv.connect("memory://", size=3, colour="red")


@pytest.mark.parametrize("scheme", ["nonsense", "Memory", "http", "strange", "<script>"])
def test_an_unknown_scheme_says_which_there_are(scheme: str) -> None:
    with pytest.raises(mv.UnknownBackend) as caught:
        mv.connect(f"{scheme}://x")
    said = str(caught.value)
    assert f"no backend answers to {scheme}://" in said
    assert "memory://" in said.replace(f"{scheme}://", "", 1)
    assert "'msgviz.backends'" in said  # how a package adds one
    assert isinstance(caught.value, ValueError)


async def test_a_backend_of_another_package(install: Install) -> None:
    install("strange = strange_backend:Strange")
    backend: Any = mv.connect("strange://host/path?x=1", option=2)
    assert type(backend).__module__ == "strange_backend"
    assert backend.made_from == ("strange://host/path?x=1", {"option": 2})
    await backend.topic("t").publish(b"x")
    assert await drained(backend, "t") == [mv.Message(b"x")]


def test_another_package_is_listed(install: Install) -> None:
    install("strange = strange_backend:Strange")
    with pytest.raises(mv.UnknownBackend, match=r"strange:// \(of strange_backend\)"):
        mv.connect("nonsense://")


def test_another_package_does_not_take_our_schemes(install: Install) -> None:
    install("memory = strange_backend:Strange")
    assert type(mv.connect("memory://")).__name__ == "MemoryBackend"


@pytest.mark.parametrize("what", ["no_class", "NoBackend", "MemoryBackend.features"])
def test_what_is_no_backend(install: Install, what: str) -> None:
    install(f"strange = strange_backend:{what}")
    with pytest.raises(mv.UnknownBackend, match="no Backend class"):
        mv.connect("strange://")


def test_another_package_that_is_broken(install: Install) -> None:
    install("strange = no_such_module_anywhere:Strange")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        mv.connect("strange://")
