"""A file that only its owner reads, and that is there whole or not at all, also after a power cut.

Here belongs how it is written. Not what stands in it, nor pages that grow line by line (``retention``, ``deliveries``).
"""

import os
from collections.abc import Iterable
from pathlib import Path


def write_private_lines(path: Path, lines: Iterable[str]) -> None:
    """Write ``lines``, each with its line end, in place of what is there; the folder is made closed to others."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.tmp")
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
        out.writelines(lines)
        out.flush()
        os.fsync(out.fileno())
    beside.replace(path)
