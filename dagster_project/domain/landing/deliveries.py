"""Which files have been delivered: found in the landing folder, remembered beside the raw files.

The register is a folder of JSON-lines files, each written once, so that neither the warehouse nor the landing folder
has to survive for the raw files to be understood. A path that is delivered again with other content replaces its older
content; a file that is gone from landing stays in the register. Which of them a release was ever made from is kept the
same way, for releases go: they are pruned, rolled back, and may be lost. Not for reading what is inside a file:
``reader``.
"""

import contextlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path

from dagster_project.domain.contract import feeds

ERASURES = "erasures.jsonl"
SUFFIXES = (".csv", ".csv.gz", ".parquet")


@dataclass(frozen=True)
class Delivery:
    """One delivered file. ``file`` is its path under landing; ``modified_ns`` and ``byte_count`` only save re-reading.

    ``status`` is ``loaded``, ``empty`` (a header and nothing else, or nothing at all), ``cut_off`` (what came before
    the cut counts), ``unreadable`` (nothing in it could be read; ``message`` says why) or ``changing`` (somebody writes
    to it). One without a ``sha256`` could not be had at all: the register does not know it, the next night asks again.
    """

    feed: str
    file: str
    delivered_on: date
    byte_count: int
    modified_ns: int
    sha256: str = ""
    row_count: int = 0
    rejected_row_count: int = 0
    status: str = "loaded"
    unknown_columns: str = ""
    missing_columns: str = ""
    message: str = ""


class RawDamaged(Exception):
    """Something in the raw folder is gone or damaged; the message names it and says what to do."""


@dataclass(frozen=True)
class Stranger:
    """Something in the landing folder that is not a delivery, and what to do about it."""

    path: str
    message: str


def _is_still_being_written(name: str) -> bool:
    return name.startswith((".", "_")) or name.endswith((".part", ".tmp"))


def _delivery_date(name: str) -> date | None:
    try:
        found = date.fromisoformat(name)
    except ValueError:
        return None
    return found if found.isoformat() == name else None


def shown(name: str) -> str:
    """A name from the file system as it may be logged and kept: on one line, in letters that can be written."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in name)


def _entries(folder: Path, strangers: list[Stranger], path: str) -> list[os.DirEntry[str]]:
    """What lies in a folder, by name, without what is still being written; a folder that will not open is strange."""
    try:
        with os.scandir(folder) as found:
            return sorted((e for e in found if not _is_still_being_written(e.name)), key=lambda entry: entry.name)
    except OSError as error:
        strangers.append(
            Stranger(path, f"it cannot be opened ({error.strerror}); let the user of the pipeline read it")
        )
        return []


def _why_it_cannot_be_read(entry: os.DirEntry[str]) -> str:
    """Empty for a plain file with a plain name."""
    if not entry.name.isprintable():
        return "its name is not plain text; rename it"
    if entry.is_symlink():
        return "it is a link, and links are not followed; deliver the file itself"
    if entry.is_dir():
        return "it is a folder; deliver the files in it"
    if not entry.is_file():
        return "it is not a file; remove it, and deliver the file itself"
    return "" if entry.name.endswith(SUFFIXES) else "its name must end in small letters; rename it"


def _delivery(entry: os.DirEntry[str], feed: str, file: str, delivered_on: date) -> Delivery | None:
    """One entry of a day's folder; None where it is gone by now. What cannot be read has no hash, and says why."""
    try:
        stat = entry.stat(follow_symlinks=False)
        why = _why_it_cannot_be_read(entry)
    except OSError:
        return None
    found = Delivery(feed, shown(file), delivered_on, stat.st_size, stat.st_mtime_ns)
    return replace(found, status="unreadable", message=why) if why else found


def find(landing: Path, until: date | None = None) -> tuple[list[Delivery], list[Stranger]]:
    """The files that lie in the landing folder, delivered on or before ``until``, and what else lies there.

    Links are not followed: a link in landing could make the pipeline read any file of the machine. (The landing folder
    may be a link itself: that is the operator's word, not a supplier's.) What has the name of a delivery and is none is
    a delivery that is ``unreadable``, so that a gate tells of it.
    """
    deliveries: list[Delivery] = []
    strangers: list[Stranger] = []
    if not landing.is_dir():
        return deliveries, strangers
    with os.scandir(landing):
        pass  # a landing folder that cannot be read is an error, not an empty one
    for feed_folder in _entries(landing, strangers, "landing"):
        feed = feed_folder.name
        if feed not in feeds() or not feed_folder.is_dir(follow_symlinks=False):
            strangers.append(Stranger(shown(feed), "not a feed of the contract; rename or remove it"))
            continue
        for day_folder in _entries(landing / feed, strangers, feed):
            delivered_on = _delivery_date(day_folder.name)
            day = f"{feed}/{day_folder.name}"
            if delivered_on is None or not day_folder.is_dir(follow_symlinks=False):
                strangers.append(Stranger(shown(day), "not a day of delivery; the folder's name must be YYYY-MM-DD"))
                continue
            if until is not None and delivered_on > until:
                continue
            for entry in _entries(landing / day, strangers, day):
                file = f"{day}/{entry.name}"
                if not entry.name.lower().endswith(SUFFIXES):
                    strangers.append(Stranger(shown(file), "not a .csv, .csv.gz or .parquet file; it was left alone"))
                elif (delivery := _delivery(entry, feed, file, delivered_on)) is not None:
                    deliveries.append(delivery)
    return deliveries, strangers


# No feed of a living shop rests so long that all rest: a day after such a gap is more likely mistyped than true.
_LONGEST_GAP_DAYS = 45


class ImplausibleDay(Exception):
    """The newest day of delivery lies far from all others; the message says what to do."""


def read_erasures(raw: Path) -> set[tuple[str, str]]:
    """Feed and hash of every raw file that an erasure ever changed. A line that was cut off is passed over: its file
    was not changed yet.
    """
    path = raw / ERASURES
    found = set()
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else ():
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            found.add((entry["feed"], entry["sha256"]))
    return found


def _days(landing: Path, register: Path) -> set[date]:
    days = {delivery.delivered_on for delivery in find(landing)[0]}
    if not days:
        return {delivery.delivered_on for delivery in read_register(register).values()}
    # What an erasure took out of landing was delivered all the same: the as-of date does not go back for it.
    if erased := read_erasures(register.parent):
        days |= {each.delivered_on for each in read_register(register).values() if (each.feed, each.sha256) in erased}
    return days


def newest_date(landing: Path, register: Path) -> date | None:
    """The newest day of delivery in landing; where landing is empty, that of the register; None where both are."""
    return max(_days(landing, register), default=None)


def believable_newest_date(landing: Path, register: Path) -> date | None:
    """The same, for a run to judge everything at. Raises ImplausibleDay where a folder seems to be mistyped: in a night
    of the year 2062 every customer has lapsed, and every period of retention is over.
    """
    newest = newest_date(landing, register)
    if newest is None:
        return None
    known = _days(landing, register) | {delivery.delivered_on for delivery in read_register(register).values()}
    before = max((day for day in known if day < newest), default=newest)
    if (newest - before).days > _LONGEST_GAP_DAYS:
        raise ImplausibleDay(
            f"The newest delivery is of {newest}, {(newest - before).days} days after all others ({before}). If the "
            f"name of its folder is wrong, rename it and run again; if it is right, run once with --as-of {newest}."
        )
    return newest


def _from_json(text: str) -> Delivery:
    values = json.loads(text)
    known = {name: value for name, value in values.items() if name in Delivery.__dataclass_fields__}
    return Delivery(**{**known, "delivered_on": date.fromisoformat(values["delivered_on"])})


def _read_page(page: Path) -> list[str]:
    return [line for line in page.read_text(encoding="utf-8").split("\n") if line]


def read_versions(register: Path) -> list[Delivery]:
    """Every content that was ever read, the older of a path before the newer.

    Raises RawDamaged where a page cannot be read: to go on without it would forget deliveries that have left landing.
    """
    versions: list[Delivery] = []
    for page in sorted(register.glob("*.jsonl")):
        try:
            versions.extend(map(_from_json, _read_page(page)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RawDamaged(
                f"The register's page {page} is damaged. Put it back from the backup. If every file that it names "
                "still lies in landing, move it away instead and run again: they are read anew."
            ) from error
    return versions


def read_register(register: Path) -> dict[str, Delivery]:
    """Every delivery ever read, by its path under landing; of a path that came twice, the later content.

    Raises RawDamaged as ``read_versions`` does.
    """
    return {delivery.file: delivery for delivery in read_versions(register)}


def add_to_register(register: Path, deliveries: Iterable[Delivery]) -> None:
    """Write one new page with ``deliveries``; nothing where there are none."""
    _add_page(
        register,
        [json.dumps({**asdict(d), "delivered_on": d.delivered_on.isoformat()}, sort_keys=True) for d in deliveries],
    )


def read_released(released: Path) -> set[tuple[str, str]]:
    """Path under landing and hash of every file that a release was ever made from, as ``add_to_released`` wrote them.

    Raises RawDamaged where a page cannot be read: what has left landing would be taken for withdrawn.
    """
    found: set[tuple[str, str]] = set()
    for page in sorted(released.glob("*.jsonl")):
        try:
            found.update((entry["file"], entry["sha256"]) for entry in map(json.loads, _read_page(page)))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RawDamaged(
                f"The page {page} is damaged; it says which files releases were made from. Put it back from the "
                "backup. If every release is still there, move it away instead: the manifests say the same."
            ) from error
    return found


def add_to_released(released: Path, files: Iterable[tuple[str, str]]) -> None:
    """Write one new page with those of ``files`` (path under landing, hash) that no page names yet."""
    new = sorted(set(files) - read_released(released))
    _add_page(released, [json.dumps({"file": file, "sha256": sha256}) for file, sha256 in new])


def _add_page(folder: Path, lines: list[str]) -> None:
    """Write ``lines`` as a folder's next page, where there are any. Atomic: a page is there whole or not."""
    if not lines:
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    last = max((int(page.stem) for page in folder.glob("*.jsonl") if page.stem.isdigit()), default=0)
    page = folder / f"{last + 1:06d}.jsonl"
    unfinished = page.with_suffix(".tmp")
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
        out.write("\n".join(lines) + "\n")
        out.flush()
        os.fsync(out.fileno())
    unfinished.replace(page)
    for each in (folder, folder.parent):
        sync_folder(each)


def sync_folder(folder: Path) -> None:
    """Make sure that the names in a folder survive a power cut, not only the files behind them."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_unchanged(found: Delivery, known: Delivery | None) -> bool:
    """Whether a file has the size and the time of change with which it was last read, so that it need not be read."""
    return known is not None and (found.byte_count, found.modified_ns) == (known.byte_count, known.modified_ns)


def as_read(found: Delivery, read: Delivery) -> Delivery:
    """What is known of one content, said of another file that holds the same."""
    return replace(
        read,
        feed=found.feed,
        file=found.file,
        delivered_on=found.delivered_on,
        byte_count=found.byte_count,
        modified_ns=found.modified_ns,
    )
