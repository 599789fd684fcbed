"""What the machine did to a run (disk, memory, rights, damaged files), recognised in an error and said in a sentence.

Not for errors of the pipeline itself: those have sentences of their own where they are raised.
"""

import re
import shutil

from dagster_project.domain.machine_faults import DISK_FULL, OUT_OF_MEMORY
from dagster_project.settings import Settings

_RIGHTS = re.compile(r"permission denied|operation not permitted|read-only file system", re.I)
_DAMAGED = re.compile(
    r"corrupt|checksum|not a valid duckdb|no magic bytes|serialization error|could not read|malformed|"
    r"file is not a database|not a parquet file|too small to be|tprotocol|no such file|cannot open file|"
    r"has been invalidated|failed to deserialize|trailing garbage|different storage version|invalid thrift|snappy|zstd",
    re.I,
)
_DAGSTER_STORAGE = re.compile(r"file is not a database|disk image is malformed|sqlite3?\.|no such table", re.I)
_LEAST_FREE = 16 * 2**20


def masked(text: str) -> str:
    """The text without what could be somebody's address or number: an engine's error may quote the value it met."""
    return re.sub(r"[^\s@'\"]+@[^\s@'\"]+|\+?\d[\d .-]{7,}\d", "…", text)


def free_bytes(settings: Settings) -> int:
    """The space that is free where the home lies."""
    place = settings.home
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def _mib(size: float) -> str:
    return f"{size / 2**20:.0f} MiB" if size < 10 * 2**30 else f"{size / 2**30:.0f} GiB"


def size_of_a_night(settings: Settings) -> int:
    """Bytes that the next night will want beside what lies there: the last release once more."""
    newest = max(settings.releases.glob("2*Z"), default=None)
    # The old working database goes before the new one is made.
    return sum(path.stat().st_size for path in newest.rglob("*") if path.is_file()) if newest else 0


def find_lack_of_space(settings: Settings) -> str | None:
    """A sentence where less is free than the last night took; None where there is enough."""
    free, wanted = free_bytes(settings), max(size_of_a_night(settings), _LEAST_FREE)
    if free >= wanted:
        return None
    return (
        f"Only {_mib(free)} are free in {settings.home}, and a night takes about {_mib(wanted)}: the run may "
        "fail for want of space. Free some, or keep fewer releases (COCANAL_KEEP_RELEASES)."
    )


def explain_mishap(text: str, settings: Settings) -> str | None:
    """The sentence for an error's text: what happened and what to do; None where it is no mishap of the machine."""
    if DISK_FULL.search(text):
        return (
            f"The disk is full, or a quota is ({_mib(free_bytes(settings))} are free in {settings.home}): free some "
            "space or keep fewer releases (COCANAL_KEEP_RELEASES), then run again. Nothing was published or lost."
        )
    if OUT_OF_MEMORY.search(text):
        return (
            f"Memory ran out at COCANAL_MEMORY_LIMIT={settings.memory_limit}: set it to what the machine can spare, or "
            "lower COCANAL_THREADS, then run again."
        )
    if _DAGSTER_STORAGE.search(text):
        return (
            f"Dagster's storage in {settings.dagster_home} is damaged: stop Dagster, move its folders history, storage "
            "and schedules away, and start it again. Only the history of runs is lost."
        )
    if _RIGHTS.search(text):
        place = re.search(r"[\"']?(/[^\"':]+)", text)
        shown = place.group(1) if place and place.group(1).startswith(str(settings.home)) else str(settings.home)
        return f"This user may not write {shown}: look at owner and mode, and run as the user whose the home is."
    raw = re.search(re.escape(str(settings.raw)) + r"/\S+?\.parquet", text)
    if raw and _DAMAGED.search(text):
        return (
            f"The raw file {raw.group(0)} is damaged or gone: «cocanal rebuild» reads it again where landing still "
            "has the delivery; else put it back from the backup."
        )
    release = re.search(re.escape(str(settings.releases)) + r"/(?:\.building-)?([^/\s\"']+)", text)
    if release and _DAMAGED.search(text):
        return (
            f"A database of the release {release.group(1)} cannot be read: «cocanal doctor --full» says which files of "
            "which release are whole. Put it back from the backup, or «cocanal release rollback previous»."
        )
    if _DAMAGED.search(text):
        return say_lost_warehouse(settings)
    return None


def say_lost_warehouse(settings: Settings) -> str:
    """The sentence for a working database that a run lost under its hands."""
    return (
        f"The working database {settings.warehouse} was damaged or taken away while the run worked: run again, it is "
        "built anew. If it happens twice, look at the disk."
    )
