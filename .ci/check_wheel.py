"""Check what a wheel carries: all the package, its built widgets, and none of their sources."""

from __future__ import annotations

import sys
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).resolve().parents[1]
SOURCES = "msgviz/widgets/src/"


def main(wheel: str) -> None:
    """Exit with what is wrong about the wheel, or print its size."""
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
    wanted = {
        path.relative_to(ROOT).as_posix()
        for pattern in ("*.py", "py.typed", "widgets/static/*")
        for path in (ROOT / "msgviz").rglob(pattern)
        if "node_modules" not in path.parts
    }
    wanted = {name for name in wanted if not name.startswith(SOURCES)}
    found = {name for name in names if not name.partition("/")[0].endswith(".dist-info")}
    wrong = [f"missing: {name}" for name in sorted(wanted - found)]
    wrong += [f"does not belong there: {name}" for name in sorted(found - wanted)]
    if not any(name.endswith("/licenses/LICENSE") for name in names):
        wrong.append("missing: LICENSE")
    for suffix in (".js", ".css", "py.typed"):
        if not any(name.endswith(suffix) for name in found):
            wrong.append(f"no {suffix} at all")
    if wrong:
        sys.exit(f"{Path(wheel).name}:\n  " + "\n  ".join(wrong))
    print(f"{Path(wheel).name}: {len(found)} files, {Path(wheel).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1])
