"""One run at a time in a home: a lock that the operating system lets go when the process ends, however it ends."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_held: dict[Path, int] = {}
_LOOK_EVERY_SECONDS = 2.0


class HomeIsBusy(Exception):
    """Another run is working in this home."""


class HomeIsUnusable(Exception):
    """The home cannot be worked in: no rights, or something else lies where a file of it belongs."""


def hold_run_lock(path: Path, wait_seconds: float = 0) -> None:
    """Hold the lock at ``path`` until ``release_run_lock`` or the end of the process; again is no error.

    Waits up to ``wait_seconds`` for another process to let it go. Raises HomeIsBusy, with a sentence, where it does
    not, and HomeIsUnusable where the lock cannot be made.
    """
    if path in _held:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise HomeIsUnusable(
            f"{path} cannot be opened ({error.strerror}): it must be a file that this user may write. Look whose "
            f"{path.parent} is, and move away what lies at run.lock if that is no file."
        ) from None
    until = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() >= until:
                os.close(descriptor)
                waited = f" It was waited for {wait_seconds / 60:.0f} minutes." if wait_seconds else ""
                raise HomeIsBusy(
                    f"Another run is working in {path.parent}: wait for its end («cocanal status»), then run again."
                    + waited
                ) from None
            time.sleep(min(_LOOK_EVERY_SECONDS, max(until - time.monotonic(), 0)))
        except OSError as error:
            os.close(descriptor)
            raise HomeIsUnusable(
                f"{path} cannot be locked ({error.strerror}): the home must lie on a file system with locks, a local "
                "disk rather than a network share."
            ) from None
    _held[path] = descriptor


def release_run_lock(path: Path) -> None:
    """Let the lock go, so that the process may work on while others run."""
    descriptor = _held.pop(path, None)
    if descriptor is not None:
        os.close(descriptor)


@contextmanager
def run_lock(path: Path) -> Iterator[None]:
    """The lock for the length of a block, unless this process holds it already: then it stays held."""
    is_ours = path in _held
    hold_run_lock(path)
    try:
        yield
    finally:
        if not is_ours:
            release_run_lock(path)


def is_locked(path: Path) -> bool:
    """Whether a run, of this process or another, holds the lock."""
    if path in _held:
        return True
    if not path.is_file():
        return False
    with path.open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
