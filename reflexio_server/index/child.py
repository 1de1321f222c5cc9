"""Processes of this server's own that do what it must not die of: how one is started, and what it does first.

A process and its server share a socket. It ends with its server whatever way that ends: it reads the end of the socket
or, on Linux, is killed, also in the midst of native code.
"""

import contextlib
import ctypes
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path

from reflexio_server.cores import everywhere

# Whoever started this process may have reached the file by ways that are closed to it, as in a container's entry.
_INTERPRETER = "/proc/self/exe" if sys.platform == "linux" else None
_SECRETS = ("REFLEXIO_DATABASE_URL", "PGPASSWORD")
_PR_SET_PDEATHSIG = 1  # prctl(2)
_OOM_SCORE = 300  # more than the server's, which can do without this process


def command(module: str, *arguments: str) -> list[str]:
    """What starts a module as a process."""
    return [sys.executable, "-P", "-m", module, *arguments]


def start(
    command: Callable[[int], list[str]],
    environment: Mapping[str, str],
    sending_seconds: float,
    receiving_seconds: float = 0,
) -> tuple[Connection, "subprocess.Popen[str]"]:
    """Start a process; the server's end of the socket, and the process, whose standard error is a pipe.

    On Linux it is killed when the thread that calls this ends.

    Args:
        command: what to start; given the number of the open file that is the process's end of the socket.
        environment: of the process, which has this one's modules besides, and none of the working directory's.
        sending_seconds: after so long a message that the process does not take is an OSError.
        receiving_seconds: after so long a message of the process that does not come, or does not end, is one; 0 for
            never.

    Raises:
        OSError: no process can be started, or no file be opened.
    """
    ours, theirs = socket.socketpair()
    with theirs, everywhere():
        for option, seconds in ((socket.SO_SNDTIMEO, sending_seconds), (socket.SO_RCVTIMEO, receiving_seconds)):
            ours.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", int(seconds), 0))
        connection = Connection(ours.detach())
        try:
            process = subprocess.Popen(
                command(theirs.fileno()),
                executable=_INTERPRETER,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                pass_fds=[theirs.fileno()],
                env={**_without_secrets(environment), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        except BaseException:
            connection.close()
            raise
    return connection, process


def _without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """What no process has to know that looks at what strangers sent."""
    return {name: value for name, value in environment.items() if name not in _SECRETS}


def begin() -> None:
    """For the process, first of all: be ended by its server alone, or with it, or before it when memory is used up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # a terminal and systemd send them to all processes
        signal.signal(number, signal.SIG_IGN)
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    score = Path("/proc/self/oom_score_adj")
    with contextlib.suppress(OSError):
        score.write_text(str(min(1000, int(score.read_text()) + _OOM_SCORE)))
