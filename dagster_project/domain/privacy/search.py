"""Whether anything of a person is left in a home: every file is looked through, what is packed in it too.

Two looks at each file. What can be decoded (Parquet, DuckDB, SQLite, gzip, zip) is read cell by cell; and every file is
read byte by byte, for what was deleted inside a database stays in its free blocks until they are written over. Here
belongs finding; not what is removed, nor the sentence about it (``receipt``). A find never tells the value: only where.

Looked for are the identifiers that are the person's alone, in every spelling that was delivered, and the hashes that
destinations were sent and that the identity stage keeps. Numbers of web accounts and cards below ``_LEAST_LETTERS``
letters are looked for in columns that hold such numbers only: as words of a text, they would be found everywhere. Names
are not looked for: others bear them; the rows that held them are found by what stands beside them.
"""

import gzip
import hashlib
import re
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

from dagster_project.domain.landing.intake import looks_like_parquet
from dagster_project.domain.privacy.subject import Subject
from dagster_project.domain.sql_literal import literal

_LEAST_LETTERS = 8
_CHUNK = 2**22
_KEY_COLUMNS = {
    "customer_id": ("customer_id", "key_value", "record_id"),
    "card_id": ("card_id", "loyalty_card_id", "key_value", "record_id"),
    "payment_token": ("payment_token",),
}
# So many words at once in one pattern; beyond, a text is searched several times.
_WORDS_AT_ONCE = 2_000
# Beyond so many words a home is searched by whole cells only: each text would be read again and again.
MOST_WORDS = 50_000


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
class _Words:
    """What is looked for: ``anywhere`` as words of any text, ``keys`` (type, value) in columns of such keys."""

    anywhere: tuple[str, ...]
    keys: tuple[tuple[str, str], ...]

    @cached_property
    def loose_patterns(self) -> list[str]:
        """The words wherever they stand, also inside longer ones; for RE2 and ``re`` alike, on text in lower case."""
        chunks = [
            self.anywhere[start : start + _WORDS_AT_ONCE] for start in range(0, len(self.anywhere), _WORDS_AT_ONCE)
        ]
        return [f"(?:{'|'.join(map(_escaped, chunk))})" for chunk in chunks]

    @cached_property
    def patterns(self) -> list[str]:
        """The words as words of their own."""
        return [f"(?:^|[^0-9a-z]){pattern}(?:$|[^0-9a-z])" for pattern in self.loose_patterns]


def _escaped(word: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else re.escape(letter) for letter in word)


def find_left_over(
    connection: duckdb.DuckDBPyConnection, home: Path, subjects: Sequence[Subject], *, ignored: Iterable[Path] = ()
) -> Search:
    """Look through every file of ``home`` but the ``ignored`` ones (and what lies in them).

    Any connection will do. Cost grows with the size of the home, and with the number of words per
    ``_WORDS_AT_ONCE``. A database that another process writes to is read byte by byte only.
    """
    words = _words(subjects)
    is_thorough = len(words.anywhere) <= MOST_WORDS
    ignored = tuple(ignored)
    found: list[Found] = []
    files = bytes_read = cells = 0
    connection.execute("set TimeZone = 'UTC'")
    _write_words(connection, words)
    for path in sorted(home.rglob("*")):
        if path.is_symlink() or not path.is_file() or any(path.is_relative_to(each) for each in ignored):
            continue
        name = path.relative_to(home).as_posix()
        files += 1
        bytes_read += path.stat().st_size
        longer: set[str] = set()
        for place, count, looked_at in _decoded(connection, path, words, is_thorough, longer):
            cells += looked_at
            if count:
                found.append(Found(name, place, count))
        if is_thorough and words.anywhere and (count := _count_in_bytes(path, words, longer)):
            found.append(Found(name, "bytes", count))
    return Search(tuple(found), files, bytes_read, cells, is_thorough)


def _words(subjects: Sequence[Subject]) -> _Words:
    anywhere: set[str] = set()
    keys: set[tuple[str, str]] = set()
    for subject in subjects:
        plain = subject.emails | subject.phones | subject.spellings | subject.addresses
        anywhere |= {word for word in plain if len(word) >= 5}
        for email in subject.emails:
            anywhere |= _hashes("email", email, _email_forms(email))
        for phone in subject.phones:
            anywhere |= _hashes("phone", phone, {phone, phone.removeprefix("+")})
        for type_, values in (
            ("customer_id", subject.customer_ids),
            ("card_id", subject.card_ids),
            ("payment_token", subject.payment_tokens),
        ):
            keys |= {(type_, value) for value in values}
            anywhere |= {value for value in values if len(value) >= _LEAST_LETTERS and not value.isdigit()}
    return _Words(tuple(sorted({word.lower() for word in anywhere})), tuple(sorted(keys)))


def _email_forms(email: str) -> set[str]:
    """As Meta wants it, as Google does (no dots and no tag at Gmail), and as the identity stage compares it."""
    local, _, domain = email.rpartition("@")
    bare = local.split("+")[0].replace(".", "")
    return {email, f"{bare}@{domain}", f"{local.split('+')[0]}@{domain}", f"{bare}@gmail.com"}


def _hashes(type_: str, value: str, forms: set[str]) -> set[str]:
    sent = {hashlib.sha256(form.encode()).hexdigest() for form in forms}
    return sent | {hashlib.sha256(f"{type_}|{form}".encode()).hexdigest()[:16] for form in {value, *forms}}


def _write_words(connection: duckdb.DuckDBPyConnection, words: _Words) -> None:
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
    connection: duckdb.DuckDBPyConnection, path: Path, words: _Words, is_thorough: bool, longer: set[str]
) -> Iterator[tuple[str, int, int]]:
    """Place, finds and cells of everything that can be read as tables. Adds to ``longer`` the values of others that
    hold a word inside: in the bytes of a database, where values stand side by side, they look like finds.
    """
    if looks_like_parquet(path):
        yield from _in_relation(connection, f"read_parquet({literal(path)})", "", words, is_thorough, longer)
    elif _is_duckdb(path):
        try:
            connection.execute(f"attach {literal(path)} as searched (read_only)")
        except duckdb.Error:
            return
        try:
            for schema, table in connection.execute(
                "select schema_name, table_name from duckdb_tables() where database_name = 'searched' order by all"
            ).fetchall():
                yield from _in_relation(
                    connection, f'searched."{schema}"."{table}"', f"{schema}.{table}", words, is_thorough, longer
                )
        finally:
            connection.execute("detach searched")
    elif _begins_with(path, b"SQLite format 3\x00"):
        yield from _in_sqlite(path, words)


def _in_relation(
    connection: duckdb.DuckDBPyConnection,
    relation: str,
    name: str,
    words: _Words,
    is_thorough: bool,
    longer: set[str],
) -> Iterator[tuple[str, int, int]]:
    described = {row[0]: row[1] for row in connection.execute(f"describe select * from {relation}").fetchall()}
    columns = [name for name, type_ in described.items() if "VARCHAR" in type_ or "JSON" in type_]
    if not columns:
        return

    def is_in(column: str, patterns: list[str]) -> str:
        quoted = f'lower(cast("{column}" as varchar))'
        if not is_thorough:
            return f"{quoted} in (select word from search_words)"
        return " or ".join(f"regexp_matches({quoted}, {literal(pattern)})" for pattern in patterns) or "false"

    def is_key(column: str) -> str:
        types = [type_ for type_, names in _KEY_COLUMNS.items() if column in names]
        return "".join(
            f' or cast("{column}" as varchar) in (select value from search_keys where type = {literal(type_)})'
            for type_ in types
        )

    counts = ", ".join(
        f"""
        count("{column}"),
        count(*) filter (where {is_in(column, words.patterns)}{is_key(column)}),
        count(*) filter (where {is_in(column, words.loose_patterns)})
        """
        for column in columns
    )
    (row,) = connection.execute(f"select {counts} from {relation}").fetchall()
    for position, column in enumerate(columns):
        cells, count, loose = row[3 * position : 3 * position + 3]
        if is_thorough and loose > count:
            longer.update(
                value
                for (value,) in connection.execute(
                    f"""
                    select distinct lower(cast("{column}" as varchar)) from {relation}
                    where ({is_in(column, words.loose_patterns)}) and not ({is_in(column, words.patterns)})
                    """
                ).fetchall()
            )
        # A number that a record of another feed bears too is no find.
        if count and column == "record_id" and "feed" in described:
            count = _of_people(connection, relation, words, is_thorough)
        yield f"{name}.{column}".lstrip("."), int(count), int(cells)


def _of_people(connection: duckdb.DuckDBPyConnection, relation: str, words: _Words, is_thorough: bool) -> int:
    anywhere = " or ".join(
        [f"regexp_matches(lower(record_id), {literal(pattern)})" for pattern in words.patterns]
        if is_thorough
        else ["lower(record_id) in (select word from search_words)"]
    )
    ((count,),) = connection.execute(
        f"""
        select count(*) from {relation}
        where (feed, record_id) in (
            select (case type when 'customer_id' then 'shop_customers' else 'loyalty_members' end, value)
            from search_keys where type in ('customer_id', 'card_id')
        ) or ({anywhere or "false"})
        """
    ).fetchall()
    return int(count)


def _in_sqlite(path: Path, words: _Words) -> Iterator[tuple[str, int, int]]:
    patterns = [re.compile(pattern) for pattern in words.patterns]
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as database:
        for (table,) in database.execute("select name from sqlite_master where type = 'table'").fetchall():
            cells = count = 0
            for row in database.execute(f'select * from "{table}"'):
                for cell in row:
                    if isinstance(cell, bytes | str):
                        text = cell.decode(errors="replace") if isinstance(cell, bytes) else cell
                        cells += 1
                        count += any(pattern.search(text.lower()) for pattern in patterns)
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


def _count_in_bytes(path: Path, words: _Words, longer: set[str]) -> int:
    """How often a word stands in the bytes of a file, or of what is packed in it, in UTF-8 or latin-1.

    In a database values stand side by side, without anything between them: there a word counts wherever it stands,
    unless it is a part of one of the ``longer`` values that the tables hold.
    """
    is_packed = looks_like_parquet(path) or _is_duckdb(path)
    told = words.loose_patterns if is_packed else words.patterns
    patterns = [re.compile(pattern.encode("utf-8")) for pattern in told]
    latin = [word for word in words.anywhere if not word.isascii()]
    if latin:
        patterns.append(re.compile(b"|".join(re.escape(word.encode("latin-1", "replace")) for word in latin)))
    around = [value.encode("utf-8") for value in longer]
    longest = 2 + max(len(word.encode("utf-8")) for word in (*words.anywhere, *longer))

    def is_part_of_longer(text: bytes, match: re.Match[bytes]) -> bool:
        near = text[max(0, match.start() - longest) : match.end() + longest]
        return any(value in near for value in around)

    def count(stream: IO[bytes]) -> int:
        total = offset = done = 0  # where the text begins in the stream, and up to where beginnings were counted
        before = b""
        while True:
            chunk = stream.read(_CHUNK)
            text = (before + chunk).lower()
            # What begins near the end is looked at again with what follows it.
            until = offset + len(text) - (2 * longest if chunk else 0)
            for pattern in patterns:
                total += sum(
                    done <= offset + match.start() < until and not is_part_of_longer(text, match)
                    for match in pattern.finditer(text)
                )
            if not chunk:
                return total
            done = max(done, until)
            before = text[-4 * longest :]
            offset += len(text) - len(before)

    with path.open("rb") as stream:
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
