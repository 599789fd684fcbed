"""Whether anything of a person is left in a home: every file is looked through, what is packed in it too.

Two looks at each file. What can be decoded (Parquet, DuckDB, SQLite, gzip, zip) is read cell by cell; and every file is
read byte by byte, for what was deleted inside a database stays in its free blocks until they are written over; but of
Parquet, which has none, the footer only. Here belongs finding; not what is removed, nor the sentence about it
(``receipt``). A find never tells the value: only where.

Looked for are the identifiers that are the person's alone, in every spelling that was delivered, and the hashes that
destinations were sent and that the identity stage keeps, all of them at once: one automaton reads each text once,
however many words there are. Numbers of web accounts and cards below ``_LEAST_LETTERS`` letters are looked for in
columns that hold such numbers only: as words of a text, they would be found everywhere. Names are not looked for:
others bear them; the rows that held them are found by what stands beside them.
"""

import gzip
import os
import sqlite3
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import IO, Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dagster_project.domain.landing.intake import looks_like_parquet
from dagster_project.domain.privacy.subject import Subject, hashes_of
from dagster_project.domain.privacy.words import Words
from dagster_project.domain.sql_literal import literal

_LEAST_LETTERS = 8
_CHUNK = 2**22
_BATCH_ROWS = 50_000
# Parquet files of one folder that are read by one query: a small file costs more to open than to read.
_FILES_AT_ONCE = 100
_KEY_COLUMNS = {
    "customer_id": ("customer_id", "key_value", "record_id"),
    "card_id": ("card_id", "loyalty_card_id", "key_value", "record_id"),
    "payment_token": ("payment_token",),
}
# Beyond so many words a home is searched by whole cells only: the automaton would take more than its half gigabyte, and
# read texts made of hashes at a few megabytes a second.
MOST_WORDS = 250_000


@dataclass(frozen=True)
class Found:
    """Something of a person in a file: ``place`` is a table and column, or ``bytes``; ``count`` cells or places."""

    file: str
    place: str
    count: int


@dataclass(frozen=True)
class Search:
    """What a look through a home came to. ``is_thorough`` is false where only whole cells were compared."""

    found: tuple[Found, ...]
    file_count: int
    byte_count: int
    cell_count: int
    is_thorough: bool


@dataclass(frozen=True)
class _Wanted:
    """What is looked for: ``anywhere`` as words of any text, the ``addresses`` among them, ``keys`` (type, value) in
    columns of such keys.
    """

    anywhere: tuple[str, ...]
    addresses: frozenset[str]
    keys: tuple[tuple[str, str], ...]

    @cached_property
    def finder(self) -> Words:
        return Words(self.anywhere)

    @cached_property
    def is_address(self) -> npt.NDArray[np.bool_]:
        return self.finder.among(self.addresses)


def find_left_over(
    connection: duckdb.DuckDBPyConnection,
    home: Path,
    subjects: Sequence[Subject],
    *,
    ignored: Iterable[Path] = (),
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Search:
    """Look through every file of ``home`` but the ``ignored`` ones (and what lies in them).

    Any connection will do. ``progress`` is told how many of how many MiB are looked through. Cost grows with the size
    of the home; with the number of words only by their memory. A database that another process writes to is read byte
    by byte only.
    """
    words = _words(subjects)
    is_thorough = len(words.anywhere) <= MOST_WORDS
    ignored = tuple(ignored)
    connection.execute("set TimeZone = 'UTC'")
    _write_words(connection, words)
    looked = [
        (path, path.stat().st_size)
        for path in sorted(home.rglob("*"))
        if not path.is_symlink() and path.is_file() and not any(path.is_relative_to(each) for each in ignored)
    ]
    sizes = dict(looked)
    in_all = sum(sizes.values())
    found: list[Found] = []
    cells = done = 0
    for paths in _together(list(sizes)):
        longer: dict[Path, set[bytes]] = {path: set() for path in paths}
        for path, place, count, looked_at in _decoded(connection, paths, words, is_thorough, longer):
            cells += looked_at
            if count:
                found.append(Found(path.relative_to(home).as_posix(), place, count))
        for path in paths:
            if is_thorough and words.anywhere and (count := _count_in_bytes(path, words, longer[path])):
                found.append(Found(path.relative_to(home).as_posix(), "bytes", count))
            done += sizes[path]
            progress(done >> 20, in_all >> 20)
    return Search(
        tuple(sorted(found, key=lambda each: (each.file, each.place))), len(looked), in_all, cells, is_thorough
    )


def _together(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """The paths in order, Parquet files that lie side by side together; everything else alone."""
    several: list[Path] = []
    for path in paths:
        is_next = path.suffix == ".parquet" and looks_like_parquet(path)
        if several and not (is_next and several[0].parent == path.parent and len(several) < _FILES_AT_ONCE):
            yield several
            several = []
        if is_next:
            several.append(path)
        else:
            yield [path]
    if several:
        yield several


def _words(subjects: Sequence[Subject]) -> _Wanted:
    anywhere: set[str] = set()
    keys: set[tuple[str, str]] = set()
    for subject in subjects:
        plain = subject.emails | subject.phones | subject.spellings | subject.addresses
        anywhere |= {word for word in plain if len(word) >= 5}
        anywhere |= hashes_of(subject)
        for type_, values in (
            ("customer_id", subject.customer_ids),
            ("card_id", subject.card_ids),
            ("payment_token", subject.payment_tokens),
        ):
            keys |= {(type_, value) for value in values}
            anywhere |= {value for value in values if len(value) >= _LEAST_LETTERS and not value.isdigit()}
    addresses = frozenset(address.lower() for subject in subjects for address in subject.addresses)
    return _Wanted(tuple(sorted({word.lower() for word in anywhere})), addresses, tuple(sorted(keys)))


def _write_words(connection: duckdb.DuckDBPyConnection, words: _Wanted) -> None:
    connection.execute("create or replace temp table search_words (word varchar)")
    connection.execute("create or replace temp table search_keys (type varchar, value varchar)")
    if words.anywhere:
        connection.execute("insert into search_words select unnest($1::varchar[])", [list(words.anywhere)])
    if words.keys:
        connection.execute(
            "insert into search_keys select unnest($1::varchar[]), unnest($2::varchar[])",
            [[type_ for type_, _ in words.keys], [value for _, value in words.keys]],
        )


def _decoded(
    connection: duckdb.DuckDBPyConnection,
    paths: Sequence[Path],
    words: _Wanted,
    is_thorough: bool,
    longer: dict[Path, set[bytes]],
) -> Iterator[tuple[Path, str, int, int]]:
    """File, place, finds and cells of everything that can be read as tables: one file, or several of Parquet. Adds to
    ``longer`` the values of others that hold a word inside: in the bytes of a database, where values stand side by
    side, they look like finds.
    """
    if len(paths) > 1:
        yield from _in_several(connection, paths, words, is_thorough, longer)
        return
    (path,) = paths
    if looks_like_parquet(path):
        relations = [(f"read_parquet({literal(path)})", "")]
    elif _is_duckdb(path):
        try:
            connection.execute(f"attach {literal(path)} as searched (read_only)")
        except duckdb.Error:
            return
        relations = [
            (f'searched."{schema}"."{table}"', f"{schema}.{table}")
            for schema, table in connection.execute(
                "select schema_name, table_name from duckdb_tables() where database_name = 'searched' order by all"
            ).fetchall()
        ]
    elif _begins_with(path, b"SQLite format 3\x00"):
        yield from ((path, *each) for each in _in_sqlite(path, words))
        return
    else:
        return
    try:
        for relation, name in relations:
            for place, count, cells in _in_relation(connection, relation, name, words, is_thorough, longer[path]):
                yield path, place, count, cells
    finally:
        if _is_duckdb(path):
            connection.execute("detach searched")


def _in_several(
    connection: duckdb.DuckDBPyConnection,
    paths: Sequence[Path],
    words: _Wanted,
    is_thorough: bool,
    longer: dict[Path, set[bytes]],
) -> Iterator[tuple[Path, str, int, int]]:
    """The same of Parquet files, read together; one by one where something is found, or they do not go together."""
    listed = ", ".join(literal(path) for path in paths)
    inside: set[bytes] = set()
    try:
        told = list(
            _in_relation(connection, f"read_parquet([{listed}], union_by_name = true)", "", words, is_thorough, inside)
        )
    except duckdb.Error:
        told = []
    if told and not inside and not any(count for _, count, _ in told):
        yield from ((paths[0], place, 0, cells) for place, _, cells in told)
        return
    for path in paths:
        yield from _decoded(connection, [path], words, is_thorough, longer)


def _in_relation(
    connection: duckdb.DuckDBPyConnection,
    relation: str,
    name: str,
    words: _Wanted,
    is_thorough: bool,
    longer: set[bytes],
) -> Iterator[tuple[str, int, int]]:
    described = {row[0]: row[1] for row in connection.execute(f"describe select * from {relation}").fetchall()}
    columns = [name for name, type_ in described.items() if any(text in type_ for text in ("VARCHAR", "JSON", "BLOB"))]
    if not columns:
        return
    if is_thorough:
        told = _cells_with_words(connection, relation, columns, words, longer)
    else:
        told = _cells_that_are_words(connection, relation, columns)
    for column, (cells, count, values) in told.items():
        # A number that a record of another feed bears too is no find.
        if count and column == "record_id" and "feed" in described:
            count = _of_people(connection, relation, values)
        yield f"{name}.{column}".lstrip("."), count, cells


def _is_key(column: str) -> str:
    """SQL: whether a cell is a number that is looked for in such columns."""
    types = ", ".join(literal(type_) for type_, names in _KEY_COLUMNS.items() if column in names)
    return (
        f'coalesce(cast("{column}" as varchar) in (select value from search_keys where type in ({types})), false)'
        if types
        else "false"
    )


def _cells_that_are_words(
    connection: duckdb.DuckDBPyConnection, relation: str, columns: Sequence[str]
) -> dict[str, tuple[int, int, set[str]]]:
    """By column: cells, finds, and no words, for ``_of_people`` compares whole cells then."""
    counts = ", ".join(
        f"""
        count("{column}"), count(*) filter (
            where lower(cast("{column}" as varchar)) in (select word from search_words) or {_is_key(column)}
        )
        """
        for column in columns
    )
    (row,) = connection.execute(f"select {counts} from {relation}").fetchall()
    return {column: (*row[2 * n : 2 * n + 2], set()) for n, column in enumerate(columns)}


def _cells_with_words(
    connection: duckdb.DuckDBPyConnection,
    relation: str,
    columns: Sequence[str],
    words: _Wanted,
    longer: set[bytes],
) -> dict[str, tuple[int, int, set[str]]]:
    """By column: cells, finds, and the cells in small letters in which a word stands on its own."""
    keys = [_is_key(column) if words.keys else "false" for column in columns]
    listed = ", ".join(
        f'lower(cast("{column}" as varchar)) as c{n}, {is_key} as k{n}'
        for n, (column, is_key) in enumerate(zip(columns, keys, strict=True))
    )
    cells, counts = [0] * len(columns), [0] * len(columns)
    values: list[set[str]] = [set() for _ in columns]
    for batch in connection.sql(f"select {listed} from {relation}").to_arrow_reader(_BATCH_ROWS):
        for n in range(len(columns)):
            texts, is_key = batch.column(2 * n), batch.column(2 * n + 1)
            cells[n] += len(texts) - texts.null_count
            alone, inside, _ = words.finder.in_cells(texts)
            values[n] |= {texts[int(position)].as_py() for position in alone}
            longer |= {texts[int(position)].as_py().encode("utf-8") for position in inside}
            found = np.zeros(len(texts), dtype=bool) if keys[n] == "false" else np.array(is_key)
            found[alone] = True
            counts[n] += int(found.sum())
    return {column: (cells[n], counts[n], values[n]) for n, column in enumerate(columns)}


def _of_people(connection: duckdb.DuckDBPyConnection, relation: str, values: set[str]) -> int:
    ((count,),) = connection.execute(
        f"""
        select count(*) from {relation}
        where (feed, record_id) in (
            select (case type when 'customer_id' then 'shop_customers' else 'loyalty_members' end, value)
            from search_keys where type in ('customer_id', 'card_id')
        )
        or lower(record_id) in (select word from search_words)
        or lower(record_id) in (select unnest($1::varchar[]))
        """,
        [sorted(values)],
    ).fetchall()
    return int(count)


def _in_sqlite(path: Path, words: _Wanted) -> Iterator[tuple[str, int, int]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as database:
        for (table,) in database.execute("select name from sqlite_master where type = 'table'").fetchall():
            cells = count = 0
            rows = database.execute(f'select * from "{table}"')
            while page := rows.fetchmany(1_000):
                texts = pa.array(
                    [
                        (cell.decode(errors="replace") if isinstance(cell, bytes) else cell).lower()
                        for row in page
                        for cell in row
                        if isinstance(cell, bytes | str)
                    ],
                    pa.string(),
                )
                cells += len(texts)
                count += len(words.finder.in_cells(texts)[0])
            yield table, count, cells


def _is_duckdb(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(12)[8:] == b"DUCK"
    except OSError:
        return False


def _begins_with(path: Path, magic: bytes) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(magic)) == magic


def _count_in_bytes(path: Path, words: _Wanted, longer: set[bytes]) -> int:
    """How often a word stands in the bytes of a file, or of what is packed in it, in UTF-8 or latin-1.

    In a database values stand side by side, without anything between them: there a word counts wherever it stands,
    unless it is a part of one of the ``longer`` values that the tables hold. Addresses do not: where «place du 8 mai
    1945» and «1 rue du Port» meet, «51 rue du Port» would be found. Of Parquet the footer is read: its pages
    were read cell by cell and hold nothing else, and what is compressed looks like a word by chance.
    """
    is_parquet = looks_like_parquet(path)
    is_packed = is_parquet or _is_duckdb(path)
    longest = 2 + max(words.finder.longest, max(map(len, longer), default=0))

    def is_part_of_longer(text: bytes, begin: int, end: int) -> bool:
        near = text[max(0, begin - longest) : end + longest]
        return any(value in near for value in longer)

    def count(stream: IO[bytes]) -> int:
        total = offset = done = 0  # where the text begins in the stream, and up to where beginnings were counted
        before = b""
        while True:
            chunk = stream.read(_CHUNK)
            text = (before + chunk).lower()
            # What begins near the end is looked at again with what follows it.
            until = offset + len(text) - (2 * longest if chunk else 0)
            which, begins, ends = words.finder.places(text)
            is_new = (offset + begins >= done) & (offset + begins < until)
            if is_packed:
                is_new &= ~words.is_address[which]
            which, begins, ends = which[is_new], begins[is_new], ends[is_new]
            if len(begins) and not is_packed:
                letters = np.frombuffer(text, np.uint8)
                is_alone = words.finder.are_alone(letters, which, begins, ends, 0, len(text))
                begins, ends = begins[is_alone], ends[is_alone]
            total += len(
                {
                    begin
                    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)
                    if not is_part_of_longer(text, begin, end)
                }
            )
            if not chunk:
                return total
            done = max(done, until)
            before = text[-4 * longest :]
            offset += len(text) - len(before)

    with path.open("rb") as stream:
        if is_parquet:
            stream.seek(-8, os.SEEK_END)
            footer_size = int.from_bytes(stream.read(4), "little")
            stream.seek(-min(8 + footer_size, path.stat().st_size), os.SEEK_END)
        total = count(stream)
    if _begins_with(path, b"\x1f\x8b"):
        total += _count_unpacked(partial(gzip.open, path), count)
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                total += _count_unpacked(partial(archive.open, member), count)
    return total


def _count_unpacked(opening: Callable[[], Any], count: Callable[[IO[bytes]], int]) -> int:
    try:
        with opening() as unpacked:
            return count(unpacked)
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error):
        return 0  # what cannot be unpacked was searched as bytes
