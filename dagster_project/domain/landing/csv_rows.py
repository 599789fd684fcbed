"""The rows of a delivered CSV file or archive, as raw Parquet: every line of it is a row or refused.

DuckDB reads the file; where what it read cannot be the whole file, ``repair`` makes it readable line by line. Not for
what a row means, nor for which file is read when: ``reader``.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import duckdb

from dagster_project.domain.contract import Feed
from dagster_project.domain.landing.content import Copy, Ending, Lines, Unreadable, unpacked
from dagster_project.domain.landing.repair import Repair, write_readable_copy
from dagster_project.domain.machine_faults import is_the_machines_fault
from dagster_project.domain.sql_literal import literal

RULE_OF_ERROR = {
    "MISSING COLUMNS": "wrong_column_count",
    "TOO MANY COLUMNS": "wrong_column_count",
    "UNQUOTED VALUE": "broken_quoting",
    "LINE SIZE OVER MAXIMUM": "line_too_long",
    "INVALID ENCODING": "invalid_encoding",
    "INVALID STATE": "broken_quoting",
    "NUL BYTE": "nul_byte",
    "CUT OFF": "cut_off",
}
_MOST_HEADER_BYTES = 1 << 16
# Of a line that was refused, this much is kept to show; a whole one of megabytes helps nobody.
_MOST_SHOWN_CHARACTERS = 10_000


@dataclass(frozen=True)
class Header:
    """The first row of a CSV file: its columns in the file's order, and how the file is written."""

    names: tuple[str, ...]
    delimiter: str
    is_latin: bool


def _first_line(path: Path, most_bytes: int) -> bytes:
    """The first line that is not blank, without its end."""
    start = b""
    for piece in unpacked(path, Ending(), most_bytes):
        start = (start + piece).removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n")
        if len(start) >= _MOST_HEADER_BYTES or b"\n" in start or b"\r" in start:
            break
    return start[:_MOST_HEADER_BYTES].replace(b"\r", b"\n").split(b"\n", 1)[0]


def _has_mark(path: Path, most_bytes: int) -> bool:
    return next(unpacked(path, Ending(), most_bytes), b"").startswith(b"\xef\xbb\xbf")


def _names(line: str, delimiter: str) -> tuple[str, ...]:
    row = next(csv.reader([line], delimiter=delimiter), [])
    return tuple(name.strip().lower() for name in row)


def read_header(path: Path, feed: Feed, lines: Lines | None = None, *, most_bytes: int) -> Header | None:
    """The header of a CSV file; None where the file is empty. Raises Unreadable where it is not the feed's header.

    ``lines`` is what is known of the text: whether a till file is all UTF-8, and whether rows follow a blank line.
    """
    lines = lines or Lines()
    raw = _first_line(path, most_bytes)
    if not raw.strip():
        if lines.count > 1:
            raise Unreadable("its first row is blank; write the names of the columns into the first row")
        return None
    # A till file with accents that are all UTF-8 is UTF-8: text in latin-1 is never so by chance.
    is_latin = feed.dialect == "pos" and not lines.is_utf8 and not _has_mark(path, most_bytes)
    try:
        line = raw.decode("latin-1" if is_latin else "utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable("the header is not UTF-8; write the file in UTF-8") from error
    if "\0" in line:
        raise Unreadable("its first row holds NUL bytes: it is binary or UTF-16; write it as text in UTF-8")
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
            {literal(path)}, auto_detect = false, header = true, delim = '{header.delimiter}', quote = '"',
            escape = '"', nullstr = '', encoding = '{"latin-1" if is_latin else "utf-8"}', columns = {{{columns}}},
            strict_mode = true, null_padding = false, store_rejects = true, rejects_limit = 0
        )
        """
    )
    connection.execute(
        f"""
        create or replace temp table read_errors as
        select
            (line - 1)::bigint as line, min(error_type)::varchar as error_type,
            left(any_value(csv_line), {_MOST_SHOWN_CHARACTERS}) as text
        from reject_errors
        group by line
        """
    )


def _counts(connection: duckdb.DuckDBPyConnection) -> tuple[int, int]:
    """How many rows were read, and how many lines were refused."""
    ((goods, errors),) = connection.execute(
        "select (select count(*) from read_rows), (select count(*) from read_errors)"
    ).fetchall()
    return goods, errors


def _needs_repair(connection: duckdb.DuckDBPyConnection, lines: Lines) -> bool:
    """Whether what was read cannot be the whole file: every line must be a row or refused.

    After a broken quote, and at a line that is longer than its buffer, the reader drops rows without a word. Where a
    quoted value holds line ends there are fewer rows than lines in a sound file too; the repaired copy counts them.
    """
    goods, errors = _counts(connection)
    if goods + errors != lines.count - 1:
        return True
    ((harmless,),) = connection.execute(
        "select count(*) from read_errors where error_type in ('MISSING COLUMNS', 'TOO MANY COLUMNS')"
    ).fetchall()
    # A blank line shifts the line numbers of the errors after it.
    return harmless < errors or (errors > 0 and lines.has_blank)


def _name_broken_lines(connection: duckdb.DuckDBPyConnection, repair: Repair, mark: str) -> None:
    """Give the errors that the repair marked their own text and cause back."""
    if not repair.broken_lines:
        return
    connection.execute(
        """
        create or replace temp table broken_lines as
        select
            unnest($1::varchar[]) as text, unnest($2::varchar[]) as error_type,
            generate_subscripts($1::varchar[], 1) as position
        """,
        [
            [text[:_MOST_SHOWN_CHARACTERS].replace("\0", "") for text, _ in repair.broken_lines],
            [error for _, error in repair.broken_lines],
        ],
    )
    connection.execute(
        f"""
        update read_errors set text = named.text, error_type = named.error_type
        from (
            select marked.line, broken_lines.text, broken_lines.error_type
            from (
                select line, row_number() over (order by line) as position
                from read_errors
                where text like '%{mark}%'
            ) as marked
            join broken_lines using (position)
        ) as named
        where read_errors.line = named.line
        """
    )


def write_csv(
    connection: duckdb.DuckDBPyConnection, copy: Copy, feed: Feed, header: Header, lines: Lines, target: Path, most: int
) -> tuple[int, int, bool]:
    """Write the file's rows to the Parquet file ``target``: how many there are, how many are refused, and whether the
    last one is.
    """
    is_archive_damaged = lines.ending.is_cut_off or lines.ending.has_tail
    is_damaged = is_archive_damaged or lines.has_nul or lines.has_long or lines.has_end_mark
    repair = Repair()
    mark = f"\x1abroken {copy.sha256}\x1a"  # nobody can write the hash of a file into the file
    if not is_damaged:
        try:
            _load_csv(connection, copy.path, feed, header, is_latin=header.is_latin)
            is_damaged = _needs_repair(connection, lines)
        except duckdb.Error as error:
            if is_the_machines_fault(error):
                raise
            is_damaged = True  # the repaired copy says what is wrong, line by line
    if is_damaged:
        readable = target.with_name("readable.csv")
        repair = write_readable_copy(
            copy.path,
            readable,
            delimiter=header.delimiter,
            is_latin=header.is_latin,
            column_count=len(header.names),
            most_bytes=most,
            mark=mark,
        )
        try:
            _load_csv(connection, readable, feed, header, is_latin=False)
        except duckdb.Error as error:
            if is_the_machines_fault(error):
                raise
            raise Unreadable("it cannot be read as CSV; open it in an editor and look for binary content") from error
        _name_broken_lines(connection, repair, mark)
    goods, errors = _counts(connection)
    if is_damaged and goods + errors != repair.record_count - 1:
        raise Unreadable("it is damaged in a way that would lose good rows; ask for the file again")
    _copy_rows(connection, target, has_errors=errors > 0)
    ((is_last_refused,),) = connection.execute(
        f"select coalesce(max(line), 0) = {goods + errors} and {errors} > 0 from read_errors"
    ).fetchall()
    connection.execute("drop table read_rows")
    return goods + errors, errors, is_last_refused


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
    connection.execute(f"copy ({rows}) to {literal(target)} (format parquet)")
