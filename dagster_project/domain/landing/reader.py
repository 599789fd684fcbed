"""One delivered file becomes one raw Parquet file.

The raw file holds one row per row of the delivery, as text, in the order of the file: the contract's columns, ``line``
(1 = the first row after the header), and for a row that could not be read ``_rule`` and ``_text`` instead of values.
How rows are read is the business of ``csv_rows`` and ``parquet_rows``. Not for meaning: a date that is no date is text
like any other here.
"""

import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import duckdb

from dagster_project.domain.contract import Feed
from dagster_project.domain.landing.content import (
    Copy,
    StillChanging,
    Unreadable,
    Withheld,
    copy_aside,
    look_at_lines,
)
from dagster_project.domain.landing.csv_rows import read_header, write_csv
from dagster_project.domain.landing.deliveries import Delivery, as_read, shown
from dagster_project.domain.landing.parquet_rows import write_parquet

# A gz of a night's tickets unpacks to some GB at the very most; beyond that it is a bomb.
MOST_UNPACKED_BYTES = 16 * 10**9
_MOST_NAMES, _MOST_NAME_LETTERS = 30, 60
# A file that was cut off looks like this, and so does one of many a tool.
OPEN_END = "the last row has no line end; if the file was cut off, that row is not whole"


def _told_names(names: list[str]) -> str:
    """Names that a supplier chose, as they may be logged: on one line, and not without end."""
    told = [shown(name)[:_MOST_NAME_LETTERS] for name in names[:_MOST_NAMES]]
    return ", ".join(told) + (f", and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else "")


def _read_copy(
    connection: duckdb.DuckDBPyConnection, copy: Copy, feed: Feed, unfinished: Path, most: int
) -> dict[str, str | int]:
    """Write the copy's rows to ``unfinished`` and say what the delivery is to say. Raises Unreadable."""
    told: list[str] = []
    status = "loaded"
    if copy.path.suffix == ".parquet":
        row_count, rejected, names, nested = write_parquet(connection, feed, copy.path, unfinished, most)
        if nested:
            told.append(f"{', '.join(nested)} holds lists or structures and was read as empty; write plain values")
    else:
        lines = look_at_lines(copy.path, most)
        if lines.ending.is_cut_off and lines.count <= 1:
            raise Unreadable("the archive is cut off before its first row; ask for the file again")
        header = read_header(copy.path, feed, lines, most_bytes=most)
        if header is None:
            return {"status": "empty", "message": "the file is empty"}
        row_count, rejected, is_last_refused = write_csv(connection, copy, feed, header, lines, unfinished, most)
        names = header.names
        if lines.ending.is_cut_off:
            status = "cut_off"
            told.append("the archive ends too early; the rows before the cut count; ask for the file again")
        elif lines.ends_open and is_last_refused:
            status = "cut_off"
            told.append("the file ends in the middle of a row; the rows before it count; ask for the file again")
        elif lines.ends_open and row_count:
            told.append(OPEN_END)
        if lines.ending.has_tail:
            told.append("something stands behind the archive's end and was ignored; ask whether the file is whole")
        if feed.dialect == "pos" and lines.is_utf8:
            told.append("it is written in UTF-8 and was read so; this feed is latin-1")
    return {
        "status": "empty" if status == "loaded" and not row_count else status,
        "row_count": row_count,
        "rejected_row_count": rejected,
        "unknown_columns": _told_names(sorted(set(names) - set(feed.column_names) - {""})),
        "missing_columns": ", ".join(name for name in feed.column_names if name not in names),
        "message": "; ".join(told),
    }


def read_file(
    connection: duckdb.DuckDBPyConnection,
    found: Delivery,
    path: Path,
    feed: Feed,
    raw: Path,
    *,
    known: Callable[[str], Delivery | None] = lambda sha256: None,
    most_unpacked_bytes: int = MOST_UNPACKED_BYTES,
    erase: Callable[[Feed, Path, str], None] = lambda feed, path, sha256: None,
) -> Delivery:
    """Read one delivered file into ``raw/<feed>/<sha256>.parquet`` and say what was in it.

    What is read is a copy, so that the raw file holds the content of its hash even where somebody writes to the file
    meanwhile. The raw file appears whole or not at all; where it is already there it is written again with the same
    content. A file that nothing can be made of leaves no raw file and has the status ``unreadable``. ``known`` says
    what is known of a content: then it is not parsed again. A file that cannot be had tonight (somebody writes to it,
    or it may not be opened) comes back without a hash, ``changing`` or ``unreadable``. ``erase`` empties the rows of
    people who were erased, before anything lies in raw.
    """
    folder = raw / feed.name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=raw, prefix=".reading-") as scratch:
        try:
            copy = copy_aside(path, Path(scratch))
        except Withheld as error:
            status = "changing" if isinstance(error, StillChanging) else "unreadable"
            return replace(found, status=status, message=str(error))
        found = replace(found, sha256=copy.sha256, byte_count=copy.byte_count, modified_ns=copy.modified_ns)
        if (same := known(copy.sha256)) is not None:
            return as_read(found, same)
        unfinished = Path(scratch) / "rows.parquet"
        try:
            said = _read_copy(connection, copy, feed, unfinished, most_unpacked_bytes)
        except Unreadable as error:
            return replace(found, status="unreadable", message=str(error))
        if unfinished.exists():
            erase(feed, unfinished, copy.sha256)
            unfinished.chmod(0o600)
            with unfinished.open("rb") as written:
                os.fsync(written.fileno())
            unfinished.replace(folder / f"{copy.sha256}.parquet")
    return replace(found, **said)  # type: ignore[arg-type]
