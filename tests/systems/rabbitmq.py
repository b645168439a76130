"""RabbitMQ, the real broker, as its own package installs it, with data and ports of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from tests.systems import end, free_port, wait_for_port

PLACES = ("/usr/lib/rabbitmq/bin/rabbitmq-server", "/usr/local/sbin/rabbitmq-server")
"""Where packages put the script that starts the broker; in the PATH may be a wrapper that wants root."""

_CLOSED = b"\0\0\0\1"
"""In the header of an Erlang table on disk (dets): all of it is there, as if it had been closed."""


def _script() -> str | None:
    return next((place for place in PLACES if Path(place).is_file()), None)


class RabbitmqSystem:
    """One node. What it leaves behind it leaves in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self._dist_port, self._epmd_port = free_port(), free_port(), free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/"
        self._epmd: subprocess.Popen[bytes] | None = None
        self._broker: subprocess.Popen[bytes] | None = None

    @staticmethod
    def missing() -> str | None:
        """Why it cannot be started on this machine; None where it can."""
        if _script() is None:
            return "RabbitMQ is not installed (apt-get install --no-install-recommends rabbitmq-server)"
        if shutil.which("epmd") is None:
            return "RabbitMQ needs Erlang's epmd"
        return None

    def start(self) -> None:
        """Return when it answers, after 5 to 7 seconds."""
        try:
            self._start()
        except RuntimeError:  # once more, as the unit of its package does (Restart=on-failure)
            self._start()

    def _start(self) -> None:
        script, epmd = _script(), shutil.which("epmd")
        assert script is not None
        assert epmd is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "plugins").write_text("[].\n")
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\ndisk_free_limit.absolute = 50MB\n"
        )
        # Else what it cannot pass on while it starts waits for three minutes.
        (self.folder / "advanced.config").write_text(
            "[{rabbit, [{dead_letter_worker_publisher_confirm_timeout, 2000}]}].\n"
        )
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "RABBITMQ_NODENAME": f"msgviz{self.port}@localhost",
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "detached": "1",  # the script becomes the broker, which so has the pid that is known here
        }
        with (self.folder / "out.txt").open("ab") as out:
            if self._epmd is None:
                # Our own, in the foreground: one that the broker starts outlives it.
                self._epmd = subprocess.Popen(
                    [epmd, "-port", str(self._epmd_port), "-address", "127.0.0.1"],
                    stdout=out,
                    stderr=out,
                )
                wait_for_port(self._epmd_port, self._epmd)
            self._broker = subprocess.Popen(
                [script], env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.folder
            )
        wait_for_port(self.port, self._broker, 60, said=self.folder / "out.txt")

    def kill(self) -> None:
        """End the broker as a crash does."""
        if self._broker is not None:
            end(self._broker, kill=True)
            self._broker = None

    def settle(self) -> None:
        """Return when a new queue outlives a crash of the broker.

        RabbitMQ 3.10 writes down where the log of a new quorum queue is half a second after it said that
        the queue is there. Killed before, it makes an empty log, which never elects a leader.
        """
        until = time.monotonic() + 15
        for names in self.folder.glob("mnesia/*/quorum/*/names.dets"):
            while names.read_bytes()[8:12] != _CLOSED and time.monotonic() < until:
                time.sleep(0.05)

    def restart(self) -> None:
        """Kill the broker, once it has settled, and start it again, on the same port and data."""
        self.settle()
        self.kill()
        self.start()

    def stop(self) -> None:
        """Return when all that was started is gone."""
        for process in (self._broker, self._epmd):
            if process is not None:
                end(process)
        self._broker = self._epmd = None
