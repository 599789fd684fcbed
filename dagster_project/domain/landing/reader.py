"""One delivered file becomes one raw Parquet file.

The raw file holds one row per row of the delivery, as text, in the order of the file: the contract's columns, ``line``
(1 = the first row after the header), and for a row that could not be read ``_rule`` and ``_text`` instead of values.
Not for meaning: a date that is no date is text like any other here.
"""

import csv
import gzip
import hashlib
import os
import tempfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from dagster_project.domain.contract import Feed
from dagster_project.domain.landing.deliveries import Delivery
from dagster_project.domain.landing.repair import BROKEN_LINE_MARK, Repair, write_readable_copy

RULE_OF_ERROR = {
    "MISSING COLUMNS": "wrong_column_count",
    "TOO MANY COLUMNS": "wrong_column_count",
    "UNQUOTED VALUE": "broken_quoting",
    "LINE SIZE OVER MAXIMUM": "line_too_long",
    "INVALID ENCODING": "invalid_encoding",
    "INVALID STATE": "broken_quoting",
    "CUT OFF": "cut_off",
}
# A gz of a night's tickets unpacks to some GiB at the very most; beyond that it is a bomb.
MOST_UNPACKED_BYTES = 16 * 2**30
_MOST_HEADER_BYTES = 1 << 16


class Unreadable(Exception):
    """Nothing in the file can be read; the message says why and what to do, without any of its values."""


@dataclass(frozen=True)
class Header:
    """The first row of a CSV file: its columns in the file's order, and how the file is written."""

    names: tuple[str, ...]
    delimiter: str
    is_latin: bool


def content_hash(path: Path) -> str:
    """SHA-256 of the file's bytes, in lower-case hex."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _sql(text: str | Path) -> str:
    return "'" + str(text).replace("'", "''") + "'"


def _first_line(path: Path) -> bytes:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as source:
        try:
            start = source.read(_MOST_HEADER_BYTES)
        except (EOFError, OSError, zlib.error) as error:
            raise Unreadable("the gzip archive is damaged from its start; ask for the file again") from error
    return start.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n", 1)[0]


def _names(line: str, delimiter: str) -> tuple[str, ...]:
    row = next(csv.reader([line], delimiter=delimiter), [])
    return tuple(name.strip().lower() for name in row)


def read_header(path: Path, feed: Feed) -> Header | None:
    """The header of a CSV file; None where the file is empty. Raises Unreadable where it is not the feed's header."""
    raw = _first_line(path)
    has_mark = raw.startswith(b"\xef\xbb\xbf")
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    if not raw.strip():
        return None
    is_latin = feed.dialect == "pos" and not has_mark
    try:
        line = raw.decode("latin-1" if is_latin else "utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable("the header is not UTF-8; write the file in UTF-8") from error
    delimiter = ";" if feed.dialect == "pos" else ","
    names = _names(line, delimiter)
    if not set(feed.key) & set(names):
        for other in {",", ";", "\t", "|"} - {delimiter}:
            if set(feed.key) & set(_names(line, other)):
                shown = "tab" if other == "\t" else f"«{other}»"
                raise Unreadable(f"the columns are separated by {shown}; this feed is separated by «{delimiter}»")
        raise Unreadable(
            f"the first row is not the header of {feed.name}: it names none of {', '.join(feed.key)}; "
            "write the names of the columns into the first row"
        )
    twice = sorted({name for name in names if name in feed.column_names and names.count(name) > 1})
    if twice:
        raise Unreadable(f"the header names {', '.join(twice)} twice; name each column once")
    return Header(names, delimiter, is_latin)


def _load_csv(connection: duckdb.DuckDBPyConnection, path: Path, feed: Feed, header: Header, *, is_latin: bool) -> None:
    """Read the file into ``read_rows``, whose row ids are the order of the file; what cannot be read goes to
    ``read_errors``.
    """
    columns = ", ".join(f"'c{position}': 'varchar'" for position in range(len(header.names)))
    positions = {name: position for position, name in enumerate(header.names)}
    values = ", ".join(
        f"c{positions[name]} as {name}" if name in positions else f"null::varchar as {name}"
        for name in feed.column_names
    )
    for table in ("reject_errors", "reject_scans"):
        connection.execute(f"drop table if exists {table}")
    connection.execute(
        f"""
        create or replace temp table read_rows as
        select {values}
        from read_csv(
            {_sql(path)}, auto_detect = false, header = true, delim = '{header.delimiter}', quote = '"', escape = '"',
            nullstr = '', encoding = '{"latin-1" if is_latin else "utf-8"}', columns = {{{columns}}},
            strict_mode = true, null_padding = false, store_rejects = true, rejects_limit = 0
        )
        """
    )
    connection.execute(
        """
        create or replace temp table read_errors as
        select (line - 1)::bigint as line, min(error_type)::varchar as error_type, any_value(csv_line) as text
        from reject_errors
        group by line
        """
    )


def _needs_repair(connection: duckdb.DuckDBPyConnection, path: Path) -> bool:
    ((count, harmless),) = connection.execute(
        """
        select count(*), count(*) filter (where error_type in ('MISSING COLUMNS', 'TOO MANY COLUMNS'))
        from read_errors
        """
    ).fetchall()
    if not count:
        return False
    # After a broken quote the reader may swallow good rows, or drop all that follow, without a word.
    if harmless < count or path.suffix == ".gz":
        return True
    with path.open("rb") as source:  # a blank line shifts the line numbers of the errors after it
        tail = b""
        while chunk := source.read(1 << 20):
            window = (tail + chunk).replace(b"\r", b"")
            if b"\n\n" in window:
                return True
            tail = chunk[-2:]
    return False


def _name_broken_lines(connection: duckdb.DuckDBPyConnection, repair: Repair) -> None:
    """Give the errors that the repair marked their own text back."""
    connection.execute(
        """
        create or replace temp table broken_lines as
        select unnest($1::varchar[]) as text, generate_subscripts($1::varchar[], 1) as position
        """,
        [repair.broken_lines],
    )
    connection.execute(
        f"""
        update read_errors set
            text = named.text,
            error_type = case when named.is_last and {bool(repair.last_piece)} then 'CUT OFF' else 'UNQUOTED VALUE' end
        from (
            select
                marked.line, broken_lines.text,
                broken_lines.position = {len(repair.broken_lines)} as is_last
            from (
                select line, row_number() over (order by line) as position
                from read_errors
                where text like '%{BROKEN_LINE_MARK.decode()}%'
            ) as marked
            join broken_lines using (position)
        ) as named
        where read_errors.line = named.line
        """
    )


def _write_csv(
    connection: duckdb.DuckDBPyConnection, path: Path, feed: Feed, header: Header, target: Path
) -> tuple[int, int, Repair]:
    """Write the file's rows to the Parquet file ``target``: how many there are, how many are refused, the repair."""
    repair = Repair()
    try:
        _load_csv(connection, path, feed, header, is_latin=header.is_latin)
        is_damaged = _needs_repair(connection, path)
    except duckdb.Error:
        is_damaged = True  # the repaired copy says what is wrong, line by line
    if is_damaged:
        copy = target.with_name("readable.csv")
        try:
            repair = write_readable_copy(
                path,
                copy,
                delimiter=header.delimiter,
                is_latin=header.is_latin,
                column_count=len(header.names),
                most_bytes=MOST_UNPACKED_BYTES,
            )
            _load_csv(connection, copy, feed, header, is_latin=False)
        except ValueError as error:
            raise Unreadable(f"{error}; ask for the file in parts") from error
        except duckdb.Error as error:
            raise Unreadable("it cannot be read as CSV; open it in an editor and look for binary content") from error
        _name_broken_lines(connection, repair)
    ((goods, errors),) = connection.execute(
        "select (select count(*) from read_rows), (select count(*) from read_errors)"
    ).fetchall()
    if is_damaged and goods + errors != repair.record_count - 1:
        raise Unreadable("it is damaged in a way that would lose good rows; ask for the file again")
    _copy_rows(connection, target, has_errors=errors > 0)
    connection.execute("drop table read_rows")
    return goods + errors, errors, repair


def _copy_rows(connection: duckdb.DuckDBPyConnection, target: Path, *, has_errors: bool) -> None:
    rows = "select *, rowid + 1 as line, null::varchar as _rule, null::varchar as _text from read_rows"
    if has_errors:
        rules = " ".join(f"when '{error}' then '{rule}'" for error, rule in RULE_OF_ERROR.items())
        # The k-th good row stands k + (errors before it) rows after the header. Before the i-th error, on line r, there
        # are r - i good rows; so the errors before good row k are those with r - i < k.
        rows = f"""
            with errors as (select line, line - row_number() over (order by line) as goods_before from read_errors),
            steps as (select goods_before, count(*) as here from errors group by goods_before),
            shifts as (
                select goods_before + 1 as first_good, sum(here) over (order by goods_before) as shift from steps
            ),
            goods as (select *, rowid + 1 as number from read_rows)
            select goods.* exclude (number), (goods.number + coalesce(shifts.shift, 0))::bigint as line
            from goods
            asof left join shifts on goods.number >= shifts.first_good
            union all by name
            select line, case error_type {rules} else 'unreadable_line' end as _rule, text as _text from read_errors
        """
    connection.execute(f"copy ({rows}) to {_sql(target)} (format parquet)")


def _parquet_text(name: str, type_: str, dialect: str) -> str:
    """SQL that writes a Parquet value the way the feed's CSV would."""
    column = '"' + name.replace('"', '""') + '"'
    if type_ == "VARCHAR":
        return f"nullif({column}, '')"
    if type_ == "TIMESTAMP WITH TIME ZONE":
        return f"strftime(timezone('UTC', {column}), '%Y-%m-%dT%H:%M:%S.%fZ')"
    if type_.startswith("TIMESTAMP") and dialect == "pos":
        return f"strftime({column}::timestamp, '%d/%m/%Y %H:%M:%S')"
    if type_.startswith("DECIMAL"):
        # 12.5000 is 12.50: digits that say nothing are not a third decimal
        return rf"regexp_replace(regexp_replace({column}::varchar, '(\.\d\d\d*?)0+$', '\1'), '\.0*$', '')"
    if type_ in ("DOUBLE", "FLOAT"):
        return rf"regexp_replace({column}::varchar, '\.0$', '')"
    return f"{column}::varchar"


def _write_parquet(
    connection: duckdb.DuckDBPyConnection, feed: Feed, path: Path, target: Path
) -> tuple[int, tuple[str, ...]]:
    source = f"read_parquet({_sql(path)}, file_row_number = true, binary_as_string = true)"
    try:
        described = connection.execute(f"describe select * from {source}").fetchall()
        types = {row[0].strip().lower(): (row[0], row[1]) for row in described if row[0] != "file_row_number"}
        if not set(feed.key) & set(types):
            raise Unreadable(f"it has none of the columns {', '.join(feed.key)}; is it another feed's file?")
        values = ", ".join(
            f"{_parquet_text(*types[name], feed.dialect)} as {name}" if name in types else f"null::varchar as {name}"
            for name in feed.column_names
        )
        connection.execute(
            f"""
            copy (
                select {values}, file_row_number + 1 as line, null::varchar as _rule, null::varchar as _text
                from {source}
            ) to {_sql(target)} (format parquet)
            """
        )
        (count,) = connection.execute(f"select count(*) from read_parquet({_sql(target)})").fetchall()[0]
    except duckdb.Error as error:
        raise Unreadable("it cannot be read as Parquet; ask for the file again") from error
    return count, tuple(types)


def read_file(connection: duckdb.DuckDBPyConnection, found: Delivery, path: Path, feed: Feed, raw: Path) -> Delivery:
    """Read one delivered file into ``raw/<feed>/<sha256>.parquet`` and say what was in it.

    The raw file appears whole or not at all; where it is already there it is written again with the same content. A
    file that nothing can be made of leaves no raw file and has the status ``unreadable``.
    """
    sha256 = content_hash(path)
    folder = raw / feed.name
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{sha256}.parquet"
    with tempfile.TemporaryDirectory(dir=raw, prefix=".reading-") as scratch:
        unfinished = Path(scratch) / "rows.parquet"
        try:
            status, rejected = "loaded", 0
            if path.suffix == ".parquet":
                row_count, names = _write_parquet(connection, feed, path, unfinished)
            else:
                header = read_header(path, feed)
                if header is None:
                    return replace(found, sha256=sha256, status="empty", message="the file is empty")
                row_count, rejected, repair = _write_csv(connection, path, feed, header, unfinished)
                names = header.names
                status = "cut_off" if repair.is_cut_off else status
        except Unreadable as error:
            return replace(found, sha256=sha256, status="unreadable", message=str(error))
        with unfinished.open("rb") as written:
            os.fsync(written.fileno())
        unfinished.replace(target)
    return replace(
        found,
        sha256=sha256,
        row_count=row_count,
        rejected_row_count=rejected,
        status="empty" if status == "loaded" and not row_count else status,
        unknown_columns=", ".join(sorted(set(names) - set(feed.column_names) - {""})),
        missing_columns=", ".join(name for name in feed.column_names if name not in names),
        message="the archive ends too early; the rows before the cut count" if status == "cut_off" else "",
    )
