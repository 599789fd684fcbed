"""Retention: what has been kept for long enough goes, and what went is written down.

Raw files are immutable but for this and for erasure. Which raw files still count is a function of the as-of date and
the periods, so that a run gives the same tables whether the files are gone yet or not (``is_kept``); removing them only
frees the disk. Here belong raw files, files in landing that raw holds, pages and sheets with personal data, and what
killed commands left behind. Releases are pruned in ``release``; Dagster's records in the job. The clock is given.
"""

import contextlib
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from dagster_project.domain.landing.deliveries import Delivery, is_unchanged

REMOVALS = "removals.jsonl"
# What people are given to read or to fill in: it holds personal data, and nobody needs it when its work is done.
_PAGES = ("explain/*.html", "identity/review_*.csv", "quarantine/*.csv", "privacy/access/*")
# Folders that a command works in and removes at its end, unless it was killed; damaged raw files that were read again.
_LEFT_OVERS = (".diff-*", ".decisions-*", "raw/*/*.damaged")


@dataclass(frozen=True)
class Removed:
    """One thing that went: ``kind`` is ``raw file``, ``landing file``, ``page`` or ``left-over``; ``name`` its path in
    the home, or of a raw file the delivered file.
    """

    kind: str
    name: str
    byte_count: int


def is_kept(delivery: Delivery, as_of: date, keep_days: Mapping[str, int]) -> bool:
    """Whether a delivered file still counts at ``as_of``; a feed that ``keep_days`` does not name is kept for ever."""
    days = keep_days.get(delivery.feed)
    return days is None or delivery.delivered_on >= as_of - timedelta(days=days)


def remove_raw(
    raw: Path,
    deliveries: Iterable[Delivery],
    *,
    as_of: date,
    keep_days: Mapping[str, int],
    at: datetime,
    is_rehearsal: bool = False,
) -> Iterator[Removed]:
    """Remove the raw files of deliveries that no longer count; one that another delivery with the same content needs
    stays. What goes is first written to ``raw/removals.jsonl``: delivered file, hash, rows, when and why.
    """
    by_content: dict[tuple[str, str], list[Delivery]] = defaultdict(list)
    for delivery in deliveries:
        by_content[delivery.feed, delivery.sha256].append(delivery)
    for (feed, sha256), same in sorted(by_content.items(), key=lambda item: min(each.file for each in item[1])):
        path = raw / feed / f"{sha256}.parquet"
        if any(is_kept(delivery, as_of, keep_days) for delivery in same) or not path.exists():
            continue
        size = path.stat().st_size
        if not is_rehearsal:
            _write_down(raw / REMOVALS, same, at, f"kept for {keep_days[feed]} days until {as_of}")
            path.unlink()
        for delivery in same:
            yield Removed("raw file", delivery.file, size)
            size = 0  # counted once


def read_removals(raw: Path) -> set[tuple[str, str]]:
    """Path under landing and hash of every delivered file whose raw file was removed after its period.

    A line that was cut off when the machine died is passed over: its raw file was not removed yet.
    """
    found = set()
    path = raw / REMOVALS
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else ():
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            found.add((entry["file"], entry["sha256"]))
    return found


def _write_down(path: Path, deliveries: Iterable[Delivery], at: datetime, because: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(handle, "a", encoding="utf-8") as out:
        for delivery in deliveries:
            said = {key: asdict(delivery)[key] for key in ("feed", "file", "sha256", "row_count")}
            said |= {
                "delivered_on": delivery.delivered_on.isoformat(),
                "removed_at": at.isoformat(timespec="seconds"),
                "because": because,
            }
            out.write(json.dumps(said, ensure_ascii=False, sort_keys=True) + "\n")
        out.flush()
        os.fsync(out.fileno())


def remove_landed(
    landing: Path,
    found: Iterable[Delivery],
    known: Mapping[str, Delivery],
    released: Collection[tuple[str, str]],
    *,
    before: date,
    is_rehearsal: bool = False,
) -> Iterator[Removed]:
    """Remove the files of landing that were delivered before a day, that have not changed since they were read, and
    that the current release was made from: raw holds them, and they count on.
    """
    for delivery in found:
        read = known.get(delivery.file)
        if delivery.delivered_on >= before or read is None or not is_unchanged(delivery, read):
            continue
        if (read.file, read.sha256) not in released:
            continue
        path = landing / delivery.file
        if not is_rehearsal:
            path.unlink()
            if not any(path.parent.iterdir()):
                path.parent.rmdir()
        yield Removed("landing file", f"landing/{delivery.file}", delivery.byte_count)


def remove_pages(home: Path, *, before: datetime, is_rehearsal: bool = False) -> Iterator[Removed]:
    """Remove explanations, stewards' sheets and exported quarantine last written before a moment."""
    for path in sorted(path for pattern in _PAGES for path in home.glob(pattern)):
        stat = path.lstat()
        if stat.st_mtime < before.timestamp():
            if not is_rehearsal:
                path.unlink()
            yield Removed("page", path.relative_to(home).as_posix(), stat.st_size)


def remove_left_overs(home: Path, *, before: datetime, is_rehearsal: bool = False) -> Iterator[Removed]:
    """Remove what killed commands and a rebuild left: that in which nothing was written since a moment."""
    for path in sorted(path for pattern in _LEFT_OVERS for path in home.glob(pattern)):
        stats = [each.lstat() for each in (path, *path.rglob("*"))]
        if max(stat.st_mtime for stat in stats) >= before.timestamp():
            continue
        if not is_rehearsal and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif not is_rehearsal:
            path.unlink()
        yield Removed("left-over", path.relative_to(home).as_posix(), sum(stat.st_size for stat in stats))
