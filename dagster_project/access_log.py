"""Who was shown personal data in full, and why: one line of JSON per access in ``explain/access.log``; never the data.

Also here: folders and files that only their owner may read, for what such an access writes.
"""

import json
import os
import pwd
from datetime import UTC, datetime
from pathlib import Path

LOG = "access.log"


def own_folder(folder: Path) -> None:
    """The folder, made where it is missing, closed to everybody else."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)


def log_access(home: Path, because: str, **subject: str) -> None:
    """Add a line: the moment, the user, what was looked at (``account="A1"``, ``quarantine="shop_orders"``), and why.

    Raises OSError where it cannot be written.
    """
    folder = home / "explain"
    own_folder(folder)
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    line = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "user": user,
        **subject,
        "because": because,
    }
    handle = os.open(folder / LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        os.fchmod(stream.fileno(), 0o600)
        stream.write(json.dumps(line, ensure_ascii=False) + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def write_privately(path: Path, text: str) -> None:
    """Only the owner may read it, from its first byte on; it is there whole or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
