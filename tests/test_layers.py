"""What the modules of msgviz may import, and what importing msgviz costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import msgviz

ROOT = Path(__file__).resolve().parents[1]

# From the bottom up. A module imports from its own layer and from those below it.
LAYERS = [
    {"attributes", "backend", "client", "connect", "dead_letters", "decorator", "errors"}
    | {"html", "message", "pull", "receiver", "server", "topic", "urls"},
    {"backends", "decorators", "multiserver"},
    {"observing"},
    {"chains", "drawing", "lineage", "log", "order_lab", "replay", "resume"},
    {"testing"},
    {"widgets"},
]
FRAMES = {"numpy", "pandas", "pyarrow"}
THIRD_PARTY = {  # what a module, or all that is in a package, may import; one that is not here: nothing
    "backends.amqp": {"aio_pika", "aiormq"},
    "backends.aws": {"aiobotocore", "botocore"},
    "backends.gcp": {"google", "grpc"},
    "backends.kafka": {"aiokafka"},
    "backends.nats": {"nats"},
    "backends.redis": {"redis"},
    "decorators.base64": {"pybase64"},
    "decorators.lz4": {"lz4"},
    "decorators.retry": {"tenacity"},
    "decorators.tracing": {"opentelemetry"},
    "decorators.validate": {"jsonschema", "jsonschema_specifications", "referencing"},
    "decorators.zstd": {"zstandard"},
    "observing": FRAMES,
    "drawing": FRAMES,
    "lineage": FRAMES,
    "log": FRAMES,
    "order_lab": FRAMES,
    "replay": FRAMES | {"tqdm"},
    "widgets": FRAMES | {"IPython", "anywidget", "ipywidgets", "traitlets"},
}


class Import(NamedTuple):
    """One module that another imports, and where it says so."""

    importer: str
    imported: str
    where: str

    def __str__(self) -> str:
        return f"{self.where}: {self.importer} imports {self.imported}"


@cache
def modules() -> dict[str, Path]:
    """Return the modules of the package by name."""
    found = {}
    for path in (ROOT / "msgviz").rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if "node_modules" not in parts:
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports() -> list[Import]:
    """Return all imports of the package, those in functions and those for the type checker included."""
    return [
        Import(module, imported, f"{path.relative_to(ROOT)}:{line}")
        for module, path in modules().items()
        for imported, line in _imports(path, module if path.stem == "__init__" else module.rpartition(".")[0])
    ]


def _imports(path: Path, package: str) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_bytes(), path)):
        match node:
            case ast.Import(names=names):
                yield from ((alias.name, node.lineno) for alias in names)
            case ast.ImportFrom(module=base, names=names, level=level):
                above = package.split(".")[: len(package.split(".")) - level + 1] if level else []
                whole = ".".join([*above, *([base] if base else [])])
                for alias in names:  # what is imported from a package may be a module of it
                    inner = f"{whole}.{alias.name}"
                    yield inner if inner in modules() else whole, node.lineno
            case ast.Call(func=ast.Name("import_module") | ast.Attribute(attr="import_module"), args=args):
                match args:
                    case [ast.Constant(str(name)), *_]:
                        yield name, node.lineno


def layer(module: str) -> int:
    """Return the number of a module's layer; the package itself, which offers all of them, is on top."""
    if module == "msgviz":
        return len(LAYERS)
    name = module.split(".")[1]
    found = [number for number, names in enumerate(LAYERS) if name in names]
    assert found, f"{module} is in no layer: give it one in LAYERS"
    return found[0]


def test_every_module_is_in_one_layer() -> None:
    names = [name for names in LAYERS for name in names]
    assert sorted(names) == sorted({module.split(".")[1] for module in modules() if module != "msgviz"})


def test_imports_go_downward_only() -> None:
    own = [found for found in imports() if found.imported.split(".")[0] == "msgviz"]
    assert len(own) > len(modules())
    upward = [
        str(found)
        for found in own
        if found.importer != "msgviz" and layer(found.imported) > layer(found.importer)
    ]
    assert upward == []


def test_no_backend_and_no_decorator_knows_another() -> None:
    known = []
    for found in imports():
        match found.importer.split("."), found.imported.split("."):
            case [_, "backends" | "decorators" as package, name], [_, "backends" | "decorators" as of, other]:
                if (package, name) != (of, other) and not (package == of and other.startswith("_")):
                    known.append(str(found))
    assert known == []


def test_third_party_packages_are_imported_only_where_they_belong() -> None:
    strangers = []
    for found in imports():
        inside = found.importer.removeprefix("msgviz.")
        allowed = {"msgviz"}.union(*(ok for n, ok in THIRD_PARTY.items() if f"{inside}.".startswith(f"{n}.")))
        package = found.imported.split(".")[0]
        if package not in allowed and package not in sys.stdlib_module_names:
            strangers.append(str(found))
    assert strangers == []


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a new interpreter."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )


def test_importing_msgviz_imports_nothing_third_party() -> None:
    code = (
        "import sys; before = set(sys.modules); import msgviz; "
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)"
    )
    assert python("-c", code).stdout.split() == ["msgviz"]


def test_importing_msgviz_imports_its_core_alone() -> None:
    """What that takes is in the benchmark: most of it is asyncio."""
    told = python("-c", "import sys, msgviz; print(*sys.modules)").stdout.split()
    core = LAYERS[0] - {"client", "pull", "urls"}  # what only the backends of other systems stand on
    assert {name for name in told if name.startswith("msgviz.")} == {f"msgviz.{name}" for name in core}
    slow = {"email", "http", "importlib.metadata", "multiprocessing", "sqlite3", "unittest", "xml", "zipfile"}
    assert slow.intersection(told) == set()


def test_every_module_says_what_it_is_for() -> None:
    silent = [name for name, path in modules().items() if not ast.get_docstring(ast.parse(path.read_bytes()))]
    assert silent == []


def test_the_public_names_are_sorted_and_there() -> None:
    assert msgviz.__all__ == sorted(set(msgviz.__all__))
    assert [name for name in msgviz.__all__ if getattr(msgviz, name) is None] == []
    assert set(msgviz.__all__) <= set(dir(msgviz))


@pytest.mark.parametrize("name", ["Nothing", "_hidden"])
def test_a_name_that_is_not_there_is_an_attribute_error(name: str) -> None:
    with pytest.raises(AttributeError, match=name):
        getattr(msgviz, name)


def test_the_public_names_change_only_on_purpose() -> None:
    assert " ".join(msgviz.__all__) == (
        "Attributes Backend BackendClosed Backoff ChainView ConnectionFailed Dashboard DecodeError Features "
        "FlowGraph Inspector Interceptor LogFileError Message MessageLog MessageTable MessageWriter "
        "MissingExtra MsgvizError NotFound Publisher Receiver ReceiverDecorator Replayer Server ServerClosed "
        "Source Timeline Topic TopicDecorator UnknownBackend Unsupported WriterClosed canonical_key chain "
        "connect observe try_orders"
    )
