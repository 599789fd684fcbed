"""Which files have been delivered: found in the landing folder, remembered beside the raw files.

The register is a folder of JSON-lines files, each written once, so that neither the warehouse nor the landing folder
has to survive for the raw files to be understood. A path that is delivered again with other content replaces its older
content; a file that is gone from landing stays in the register. Not for reading what is inside a file: ``reader``.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path

from dagster_project.domain.contract import feeds

SUFFIXES = (".csv", ".csv.gz", ".parquet")


@dataclass(frozen=True)
class Delivery:
    """One delivered file. ``file`` is its path under landing; ``modified_ns`` and ``byte_count`` only save re-reading.

    ``status`` is ``loaded``, ``empty`` (a header and nothing else, or nothing at all), ``cut_off`` (what came before
    the cut counts) or ``unreadable`` (nothing in it could be read; ``message`` says why).
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


def find(landing: Path, until: date | None = None) -> tuple[list[Delivery], list[Stranger]]:
    """The files that lie in the landing folder, delivered on or before ``until``, and what else lies there.

    Links are not followed: a link in landing could make the pipeline read any file of the machine.
    """
    deliveries: list[Delivery] = []
    strangers: list[Stranger] = []
    if not landing.is_dir():
        return deliveries, strangers
    for feed_folder in sorted(landing.iterdir()):
        if _is_still_being_written(feed_folder.name):
            continue
        if feed_folder.name not in feeds() or feed_folder.is_symlink() or not feed_folder.is_dir():
            strangers.append(Stranger(feed_folder.name, "not a feed of the contract; rename or remove it"))
            continue
        for day_folder in sorted(feed_folder.iterdir()):
            if _is_still_being_written(day_folder.name):
                continue
            delivered_on = _delivery_date(day_folder.name)
            shown = f"{feed_folder.name}/{day_folder.name}"
            if delivered_on is None or day_folder.is_symlink() or not day_folder.is_dir():
                strangers.append(Stranger(shown, "not a day of delivery; the folder's name must be YYYY-MM-DD"))
                continue
            if until is not None and delivered_on > until:
                continue
            for path in sorted(day_folder.iterdir()):
                if _is_still_being_written(path.name):
                    continue
                file = f"{shown}/{path.name}"
                if path.is_symlink() or not path.is_file() or not path.name.endswith(SUFFIXES):
                    strangers.append(Stranger(file, "not a .csv, .csv.gz or .parquet file; it was left alone"))
                    continue
                stat = path.stat()
                deliveries.append(Delivery(feed_folder.name, file, delivered_on, stat.st_size, stat.st_mtime_ns))
    return deliveries, strangers


def newest_date(landing: Path, register: Path) -> date | None:
    """The newest day of delivery in landing; where landing is empty, that of the register; None where both are."""
    days = [delivery.delivered_on for delivery in find(landing)[0]]
    days = days or [delivery.delivered_on for delivery in read_register(register).values()]
    return max(days, default=None)


def _from_json(text: str) -> Delivery:
    values = json.loads(text)
    return Delivery(**{**values, "delivered_on": date.fromisoformat(values["delivered_on"])})


def read_register(register: Path) -> dict[str, Delivery]:
    """Every delivery ever read, by its path under landing; of a path that came twice, the later content."""
    known: dict[str, Delivery] = {}
    for page in sorted(register.glob("*.jsonl")):
        for line in page.read_text(encoding="utf-8").splitlines():
            delivery = _from_json(line)
            known[delivery.file] = delivery
    return known


def add_to_register(register: Path, deliveries: Iterable[Delivery]) -> None:
    """Write one new page with ``deliveries``; nothing where there are none. Atomic: a page is there whole or not."""
    lines = [json.dumps({**asdict(d), "delivered_on": d.delivered_on.isoformat()}, sort_keys=True) for d in deliveries]
    if not lines:
        return
    register.mkdir(parents=True, exist_ok=True)
    last = max((int(page.stem) for page in register.glob("*.jsonl")), default=0)
    page = register / f"{last + 1:06d}.jsonl"
    unfinished = page.with_suffix(".tmp")
    with unfinished.open("w", encoding="utf-8") as out:
        out.write("\n".join(lines) + "\n")
        out.flush()
        os.fsync(out.fileno())
    unfinished.replace(page)


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
