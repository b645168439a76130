"""A way to a server on loopback that can be cut: every connection through it breaks, and none can be made."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from types import TracebackType
from typing import Self

from tests.systems import free_port


class Cut:
    """Listens on `port` and passes bytes to and from another port of 127.0.0.1, until it is closed."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = free_port()
        self._stop = threading.Event()
        self._holding = threading.Event()
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Let connections through."""
        listener = socket.create_server(("127.0.0.1", self.port))
        self._stop.clear()
        self._thread = threading.Thread(target=self._pass, args=(listener,))
        self._thread.start()

    def close(self) -> None:
        """Break them, and refuse new ones."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def hold(self) -> None:
        """Pass nothing on, and take nothing, until `go`."""
        self._holding.set()

    def go(self) -> None:
        """Go on after `hold`."""
        self._holding.clear()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _pass(self, listener: socket.socket) -> None:
        peers: dict[socket.socket, socket.socket] = {}
        with selectors.DefaultSelector() as ready:
            ready.register(listener, selectors.EVENT_READ)
            while not self._stop.is_set():
                if self._holding.is_set():
                    time.sleep(0.02)
                    continue
                for key, _ in ready.select(0.02):
                    one = key.fileobj
                    assert isinstance(one, socket.socket)
                    if one is listener:
                        near, _address = listener.accept()
                        far = socket.create_connection(("127.0.0.1", self.target))
                        for end, other in ((near, far), (far, near)):
                            peers[end] = other
                            ready.register(end, selectors.EVENT_READ)
                    elif one in peers:
                        data = b""
                        with contextlib.suppress(OSError):
                            data = one.recv(65536)
                            if data:
                                peers[one].sendall(data)
                        if not data:
                            for end in (one, peers[one]):
                                peers.pop(end, None)
                                ready.unregister(end)
                                end.close()
        for end in (listener, *peers):
            end.close()
