"""One run at a time in a home: a lock that the operating system lets go when the process ends, however it ends."""

import fcntl
import os
from pathlib import Path

_held: dict[Path, int] = {}


class HomeIsBusy(Exception):
    """Another run is working in this home."""


def hold_run_lock(path: Path) -> None:
    """Hold the lock at ``path`` until ``release_run_lock`` or the end of the process; again is no error.

    Raises HomeIsBusy, with a sentence, where another process holds it.
    """
    if path in _held:
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise HomeIsBusy(
            f"Another run is working in {path.parent}: wait for its end («cocanal status»), then run again."
        ) from None
    _held[path] = descriptor


def release_run_lock(path: Path) -> None:
    """Let the lock go, so that the process may work on while others run."""
    descriptor = _held.pop(path, None)
    if descriptor is not None:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether a run, of this process or another, holds the lock."""
    if path in _held:
        return True
    if not path.exists():
        return False
    with path.open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
