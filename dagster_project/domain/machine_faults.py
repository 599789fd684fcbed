"""Errors that say something of the machine (its disk, its memory) and nothing of the data, recognised by their words.

Not for what a person should do about them: ``mishaps``.
"""

import re

import duckdb

DISK_FULL = re.compile(
    r"no space left|disk is full|disk full|file too large|\[errno 2[78]\]|quota exceeded|max_temp_directory_size|"
    r"disk i/o error|could not write",
    re.I,
)
OUT_OF_MEMORY = re.compile(
    r"out of memory|outofmemory|memoryerror|cannot allocate memory|bad_alloc|could not allocate", re.I
)


def is_the_machines_fault(error: duckdb.Error) -> bool:
    """Whether a file could not be read for want of memory or disk: then nothing is said of the file, the run fails."""
    if isinstance(error, duckdb.OutOfMemoryException | duckdb.InterruptException | duckdb.FatalException):
        return True
    return bool(DISK_FULL.search(str(error)) or OUT_OF_MEMORY.search(str(error)))
