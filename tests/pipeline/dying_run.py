"""The command ``cocanal`` in a process that kills itself: a program that the crash tests start, not a test.

    python dying_run.py <trace> <moment> <words of the command ...>

A moment is a boundary: the process is about to write, rename, link, sync or remove something in the home, or a step
opens or closes the warehouse. Boundaries are counted from 1. ``<moment>`` is the number at which the process sends
itself SIGKILL, or a regular expression that a boundary must match, or ``never``. ``<trace>`` gets a line per boundary.
"""

import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

TRACE, MOMENT, *WORDS = sys.argv[1:]
HOME = os.path.abspath(WORDS[WORDS.index("--home") + 1])
WRITES = {"os.rename", "os.remove", "os.rmdir", "os.symlink", "os.mkdir", "os.chmod", "os.truncate"}

_lock = threading.Lock()
_count = 0
_trace = os.open(TRACE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)


def boundary(what: str) -> None:
    global _count
    with _lock:
        _count += 1
        line = f"{_count} {what}"
        os.write(_trace, f"{line}\n".encode())
        if str(_count) == MOMENT or (not MOMENT.isdigit() and MOMENT != "never" and re.search(MOMENT, line)):
            os.kill(os.getpid(), signal.SIGKILL)


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Python tells of what it is about to do to the file system."""
    if event == "open":
        path, _mode, flags = arguments
        if not isinstance(path, str) or not (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)):
            return
        shown = path
    elif event in WRITES:
        shown = str(arguments[1] if event == "os.symlink" else arguments[0])
    else:
        return
    path = os.path.abspath(shown)
    # Dagster's own files are its business; they are damaged in a test of their own.
    if path.startswith(HOME) and not path.startswith(f"{HOME}/dagster"):
        boundary(f"{event} {path.removeprefix(HOME)}")


def main() -> None:
    sys.addaudithook(watch)
    fsync = os.fsync

    def watched_fsync(descriptor: int) -> None:
        boundary(f"fsync {os.readlink(f'/proc/self/fd/{descriptor}').removeprefix(HOME)}")
        fsync(descriptor)

    os.fsync = watched_fsync
    from dagster_project.warehouse import Warehouse

    session = Warehouse.session

    @contextmanager
    def watched_session(self: Warehouse, purpose: str) -> Iterator[Any]:
        boundary(f"opens the warehouse for {purpose}")
        with session(self, purpose) as connection:
            boundary(f"has opened the warehouse for {purpose}")
            yield connection
            boundary(f"closes the warehouse after {purpose}")

    Warehouse.session = watched_session  # type: ignore[method-assign]
    from dagster_project.cli import app

    sys.argv = ["cocanal", *WORDS]
    app()


main()
