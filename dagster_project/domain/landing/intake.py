"""Taking in a night: every new or changed file in landing becomes raw Parquet and an entry of the register."""

import shutil
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import duckdb

from dagster_project.domain.contract import feeds
from dagster_project.domain.landing.deliveries import (
    Delivery,
    Stranger,
    add_to_register,
    as_read,
    find,
    is_unchanged,
    read_register,
)
from dagster_project.domain.landing.reader import content_hash, read_file

_PAGE_FILES = 500


@dataclass(frozen=True)
class Intake:
    """What is known of the deliveries up to a day: every file, which of them were new, and what else lay about."""

    deliveries: tuple[Delivery, ...]
    new_files: tuple[str, ...]
    strangers: tuple[Stranger, ...]


def _is_raw_there(raw: Path, delivery: Delivery) -> bool:
    return delivery.row_count == 0 or (raw / delivery.feed / f"{delivery.sha256}.parquet").exists()


def take_in(
    landing: Path,
    raw: Path,
    register: Path,
    *,
    as_of: date,
    connect: Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]],
    workers: int,
    progress: Callable[[int, int], None],
    released: Collection[tuple[str, str]] = (),
    is_kept: Callable[[Delivery], bool] = lambda delivery: True,
) -> Intake:
    """Read what is new in ``landing`` up to ``as_of``; ``progress`` is told how many of how many files are read.

    A file whose size and time of change are those of the register is not read again; one whose content is known is
    hashed and not parsed. The register is written every few hundred files, so that a killed run goes on where it was.
    Cost grows with the new bytes.

    ``released`` names the files (path under landing, hash) of the last release. A file that is gone from landing still
    counts if it was released, for landing folders are emptied; one that was never released was withdrawn (a bad file
    that a gate stopped), unless the whole landing folder is gone. What ``is_kept`` says no to has been kept for long
    enough: it is neither read nor counted.
    """
    raw.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left_over in raw.glob(".reading-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    known = read_register(register)
    by_content = {
        (delivery.feed, delivery.sha256): delivery for delivery in known.values() if _is_raw_there(raw, delivery)
    }
    found, strangers = find(landing, as_of)
    new = [
        delivery
        for delivery in found
        if is_kept(delivery)
        and not (is_unchanged(delivery, known.get(delivery.file)) and _is_raw_there(raw, known[delivery.file]))
    ]

    def read(delivery: Delivery) -> Delivery:
        path = landing / delivery.file
        same = by_content.get((delivery.feed, content_hash(path)))
        if same is not None:
            return as_read(delivery, same)
        with database.cursor() as connection:
            outcome = read_file(connection, delivery, path, feeds()[delivery.feed], raw)
        stat = path.stat()
        if (stat.st_size, stat.st_mtime_ns) != (delivery.byte_count, delivery.modified_ns):
            # Somebody wrote while it was read: what was read counts for tonight, and the next run reads it again.
            return replace(outcome, modified_ns=-1, message="the file changed while it was read; it is read again")
        return outcome

    done = 0
    with connect() as database, ThreadPoolExecutor(max_workers=workers) as pool:
        for start in range(0, len(new), _PAGE_FILES):
            page = []
            for outcome in pool.map(read, new[start : start + _PAGE_FILES]):
                page.append(outcome)
                done += 1
                progress(done, len(new))
            add_to_register(register, page)
            known.update({delivery.file: delivery for delivery in page})
    here = {delivery.file for delivery in found}
    deliveries = sorted(
        (
            delivery
            for delivery in known.values()
            if delivery.delivered_on <= as_of
            and is_kept(delivery)
            and (not here or delivery.file in here or (delivery.file, delivery.sha256) in released)
        ),
        key=lambda delivery: delivery.file,
    )
    return Intake(tuple(deliveries), tuple(delivery.file for delivery in new), tuple(strangers))


def forget_damaged(
    landing: Path,
    raw: Path,
    register: Path,
    *,
    connect: Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]],
) -> list[Path]:
    """Put aside every raw file that cannot be read and whose delivery still lies in landing: it is read again.

    Reads all of raw. Returns the paths; a damaged file without its delivery stays where it is.
    """
    found = []
    with connect() as connection:
        for delivery in read_register(register).values():
            path = raw / delivery.feed / f"{delivery.sha256}.parquet"
            if delivery.row_count and (landing / delivery.file).is_file() and is_raw_damaged(connection, path):
                path.replace(path.with_suffix(".damaged"))
                found.append(path)
    return found


def is_raw_damaged(connection: duckdb.DuckDBPyConnection, path: Path, *, is_thorough: bool = True) -> bool:
    """Whether a raw file that is there cannot be read: its footer or, thorough, any of its values."""
    if not path.is_file():
        return False
    shown = "'" + str(path).replace("'", "''") + "'"
    query = f"select bit_xor(hash(rows)) from read_parquet({shown}) as rows"
    if not is_thorough:
        query = f"select count(*) from parquet_schema({shown})"
    try:
        connection.execute(query).fetchall()
    except duckdb.Error:
        return True
    return False
