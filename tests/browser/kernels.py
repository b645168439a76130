"""Kernels that begin in no time: half of what a browser test cost was its kernel importing pandas again.

``python -m tests.browser.kernels SOCKET`` imports once what all of them need and then forks a kernel for
each that is asked for. Each is a process of its own, as ever. JupyterLab starts them by `spec`, whose
program, this file run with ``-I -S``, asks for the kernel, and lives as long as the kernel does.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import NoReturn

IMPORTED = [
    "IPython.core.completerlib",
    "IPython.core.oinspect",
    "IPython.extensions.storemagic",
    "ipykernel.debugger",
    "ipykernel.kernelapp",
    "ipykernel.zmqshell",
    "msgviz.chains",
    "msgviz.log",
    "msgviz.widgets",
    "pyarrow.parquet",
]


def spec(socket_path: Path) -> dict[str, object]:
    """The content of a kernel.json for the kernels of one host."""
    return {
        "argv": [sys.executable, "-I", "-S", __file__, str(socket_path), "{connection_file}"],
        "display_name": "forked",
        "language": "python",
    }


def host(path: str) -> None:
    """Fork a kernel for every one that connects, until terminated."""
    for module in IMPORTED:
        import_module(module)
    gc.freeze()  # looking at them again would copy their memory into every kernel
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        while True:
            asking, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                _be_kernel(asking)
            asking.close()


def _be_kernel(asking: socket.socket) -> NoReturn:
    from ipykernel.kernelapp import IPKernelApp  # noqa: PLC0415

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    wanted = json.loads(asking.makefile("rb").readline())
    os.environ.update(wanted["environment"])
    os.environ.pop("JPY_PARENT_PID", None)  # who asked is not the parent: `end_with` looks after it
    os.chdir(wanted["folder"])
    asking.sendall(f"{os.getpid()}\n".encode())

    def end_with() -> None:
        asking.recv(1)
        os._exit(0)

    threading.Thread(target=end_with, daemon=True).start()
    IPKernelApp.launch_instance(["-f", wanted["connection_file"]])
    sys.stdout.flush()
    os._exit(0)


def ask(path: str, connection_file: str) -> None:
    """Have a kernel forked, hand on the signals meant for it, and return when it has ended."""
    with socket.socket(socket.AF_UNIX) as host:
        host.connect(path)
        wanted = {
            "connection_file": connection_file,
            "environment": dict(os.environ),
            "folder": str(Path.cwd()),
        }
        host.sendall(json.dumps(wanted).encode() + b"\n")
        pid = int(host.makefile("rb").readline())
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: os.kill(pid, number))
        host.recv(1)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        host(sys.argv[1])
    else:
        ask(*sys.argv[1:])
