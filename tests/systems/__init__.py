"""The real servers that tests run against, started by the tests themselves, on loopback."""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.conftest import require


class System(Protocol):
    """A server to test against; `start` returns when it answers, `stop` when it is gone."""

    url: str

    @staticmethod
    def missing() -> str | None:
        """Why it cannot be started on this machine; None where it can."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


def system_fixture(make: Callable[[Path], Any]) -> Any:
    """A session's fixture: the system made by ``make(folder for its data)``, running."""

    @pytest.fixture(scope="session")
    def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
        reason = make.missing()  # type: ignore[attr-defined]
        require(reason is None, reason or "")
        running = make(tmp_path_factory.mktemp(getattr(make, "__name__", "system")))
        running.start()
        try:
            yield running
        finally:
            running.stop()

    return system


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now.

    It is none that the system gives away: those are taken by whoever asks next (a kernel, a browser, the
    near end of any connection) while a server that was killed is about to listen on its port again.
    """
    for port in random.sample(range(10_000, _given_away()), 100):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no port of 127.0.0.1 is free")


def _given_away() -> int:
    """The first port that Linux gives to whoever asks for any."""
    try:
        low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        low = 0
    return low if low > 12_000 else 32_768


def wait_for_port(
    port: int, process: subprocess.Popen[Any], seconds: float = 30, *, said: Path | None = None
) -> None:
    """Return when somebody listens on a port; `RuntimeError`, with what it `said`, where it ends before."""
    until = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None:
            last = said.read_text(errors="replace")[-4000:] if said is not None else ""
            raise RuntimeError(f"{process.args!r} ended with {process.returncode} before it listened\n{last}")
        if time.monotonic() > until:
            raise TimeoutError(f"{process.args!r} does not listen on {port} after {seconds} s")
        time.sleep(0.02)


def end(process: subprocess.Popen[Any], *, kill: bool = False) -> None:
    """Have a process end: asked first, unless `kill`."""
    if process.poll() is None:
        process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


@dataclass(frozen=True)
class Crash:
    """What became of the messages of one crash test."""

    system: str
    what: str
    acknowledged: int
    lost: int
    twice: int

    def __str__(self) -> str:
        return (
            f"{self.system}: {self.what}: {self.acknowledged} acknowledged, "
            f"{self.lost} lost, {self.twice} came twice"
        )


def record_crash(record_property: Callable[[str, object], None], crash: Crash) -> None:
    """Have the figures of a crash test printed in the summary, from whatever process it ran in."""
    record_property("crash", str(crash))
