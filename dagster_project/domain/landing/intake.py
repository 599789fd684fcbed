"""Taking in a night: every new or changed file in landing becomes raw Parquet and an entry of the register."""

import os
import shutil
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path

import duckdb

from dagster_project.domain.contract import Feed, feeds
from dagster_project.domain.landing.deliveries import (
    Delivery,
    RawDamaged,
    Stranger,
    add_to_register,
    find,
    is_unchanged,
    read_register,
    read_versions,
    sync_folder,
)
from dagster_project.domain.landing.reader import MOST_UNPACKED_BYTES, read_file
from dagster_project.domain.sql_literal import literal

_PAGE_FILES = 500


@dataclass(frozen=True)
class Intake:
    """What is known of the deliveries up to a day: every file, which of them were new, and what else lay about.

    ``withdrawn`` were read once, but left landing before a release was made from them: they do not count.
    """

    deliveries: tuple[Delivery, ...]
    new_files: tuple[str, ...]
    strangers: tuple[Stranger, ...]
    withdrawn: tuple[Delivery, ...] = ()


def looks_like_parquet(path: Path) -> bool:
    """Whether a file is there that begins and ends as Parquet does."""
    try:
        with path.open("rb") as source:
            begins = source.read(4) == b"PAR1"
            source.seek(-4, os.SEEK_END)
            return begins and source.read(4) == b"PAR1"
    except OSError:
        return False


def _is_raw_there(raw: Path, delivery: Delivery) -> bool:
    return delivery.row_count == 0 or looks_like_parquet(raw / delivery.feed / f"{delivery.sha256}.parquet")


def _ask_for_raw(raw: Path, deliveries: Iterable[Delivery]) -> None:
    """Raises RawDamaged where the raw file of a delivery that counts is gone or cut off, and landing has it no more."""
    lost = [delivery for delivery in deliveries if not _is_raw_there(raw, delivery)]
    if lost:
        first = lost[0]
        raise RawDamaged(
            f"{len(lost)} raw file{'s are' if len(lost) > 1 else ' is'} gone or damaged: "
            f"{raw / first.feed / first.sha256}.parquet, made from {first.file}, is the first. Put raw/ back from the "
            "backup, or the delivered file into landing again, and run again."
        )


def _beside_older_content(withheld: Delivery, before: Delivery | None) -> Delivery:
    """A file that could not be had tonight; what it held when it was last read counts on."""
    if before is None:
        return withheld
    return replace(before, message=f"{withheld.message}; what it held before counts until then")


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
    removed: Collection[tuple[str, str]] = (),
    is_kept: Callable[[Delivery], bool] = lambda delivery: True,
    most_unpacked_bytes: int = MOST_UNPACKED_BYTES,
    erase: Callable[[duckdb.DuckDBPyConnection, Feed, Path, str], None] = lambda connection, feed, path, sha256: None,
) -> Intake:
    """Read what is new in ``landing`` up to ``as_of``; ``progress`` is told how many of how many files are read.

    A file whose size and time of change are those of the register is not read again, unless it was unreadable; one
    whose content is known is hashed and not parsed. The register is written every few hundred files, so that a killed
    run goes on where it was. Cost grows with the new bytes.

    ``released`` names the files (path under landing, hash) that a release was ever made from. A file that is gone from
    landing still counts if it was released, for landing folders are emptied; one that was never released was withdrawn
    (a bad file that a gate stopped), unless the whole landing folder is gone. Where the withdrawn content had replaced
    one that was released, that one counts on. What ``is_kept`` says no to has been
    kept for long enough: it is neither read nor counted; nor is what retention ``removed`` from raw and landing no
    longer has, should the period have become longer since. A file that cannot be had tonight (it is being written, or
    may not be opened) is among the deliveries without a hash, is no part of the register, and the next night asks for
    it again. ``erase`` empties the rows of people who were erased in a raw file (feed, path, hash) before it counts.

    Raises RawDamaged where a raw file that counts is gone or damaged and landing holds its delivery no more.
    """
    raw.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left_over in raw.glob(".reading-*"):
        shutil.rmtree(left_over, ignore_errors=True)

    def is_settled(delivery: Delivery) -> bool:
        # What could not be read is tried again every night: a limit may have been raised, or the code be another.
        return delivery.status != "unreadable" and _is_raw_there(raw, delivery)

    known = read_register(register)
    by_content = {(delivery.feed, delivery.sha256): delivery for delivery in known.values() if is_settled(delivery)}
    found, strangers = find(landing, as_of)
    new = [
        delivery
        for delivery in found
        if is_kept(delivery)
        and not (is_unchanged(delivery, known.get(delivery.file)) and is_settled(known[delivery.file]))
    ]

    def read(delivery: Delivery) -> Delivery:
        if delivery.message:
            return delivery  # a link, a folder: not a file that could be opened
        with database.cursor() as connection:
            return read_file(
                connection,
                delivery,
                landing / delivery.file,
                feeds()[delivery.feed],
                raw,
                known=lambda sha256: by_content.get((delivery.feed, sha256)),
                most_unpacked_bytes=most_unpacked_bytes,
                erase=partial(erase, connection),
            )

    done = 0
    withheld: dict[str, Delivery] = {}
    with connect() as database, ThreadPoolExecutor(max_workers=workers) as pool:
        for start in range(0, len(new), _PAGE_FILES):
            page = []
            for outcome in pool.map(read, new[start : start + _PAGE_FILES]):
                if outcome.sha256:
                    if outcome != known.get(outcome.file):
                        page.append(outcome)
                else:
                    withheld[outcome.file] = _beside_older_content(outcome, known.get(outcome.file))
                done += 1
                progress(done, len(new))
            for folder in sorted({raw / delivery.feed for delivery in page}):
                sync_folder(folder)  # before the register names what lies there
            add_to_register(register, page)
            known.update({delivery.file: delivery for delivery in page})
    known.update(withheld)
    here = {delivery.file for delivery in found}
    due = sorted(
        (
            delivery
            for delivery in known.values()
            if delivery.delivered_on <= as_of
            and is_kept(delivery)
            and not ((delivery.file, delivery.sha256) in removed and not _is_raw_there(raw, delivery))
        ),
        key=lambda delivery: delivery.file,
    )
    withdrawn = tuple(
        delivery
        for delivery in due
        if here and delivery.file not in here and (delivery.file, delivery.sha256) not in released
    )
    gone = {delivery.file for delivery in withdrawn}
    replaced = {
        delivery.file: delivery
        for delivery in (read_versions(register) if gone else ())
        if delivery.file in gone and (delivery.file, delivery.sha256) in released
    }
    deliveries = [replaced.get(each.file, each) for each in due if each.file not in gone or each.file in replaced]
    _ask_for_raw(raw, deliveries)
    return Intake(tuple(deliveries), tuple(delivery.file for delivery in new), tuple(strangers), withdrawn)


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


def is_raw_damaged(connection: duckdb.DuckDBPyConnection, path: Path) -> bool:
    """Whether any value of a raw file that is there cannot be read."""
    if not path.is_file():
        return False
    try:
        connection.execute(f"select bit_xor(hash(rows)) from read_parquet({literal(path)}) as rows").fetchall()
    except duckdb.Error:
        return True
    return False
