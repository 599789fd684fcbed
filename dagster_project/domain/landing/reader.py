"""One delivered file becomes one raw Parquet file.

The raw file holds one row per row of the delivery, as text, in the order of the file: the contract's columns, ``line``
(1 = the first row after the header), and for a row that could not be read ``_rule`` and ``_text`` instead of values.
Not for meaning: a date that is no date is text like any other here.
"""

import csv
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from dagster_project.domain.contract import Column, Feed
from dagster_project.domain.landing.content import (
    Copy,
    Ending,
    Lines,
    StillChanging,
    Unreadable,
    Withheld,
    copy_aside,
    look_at_lines,
    unpacked,
)
from dagster_project.domain.landing.deliveries import Delivery, as_read, shown
from dagster_project.domain.landing.repair import Repair, write_readable_copy
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
# A gz of a night's tickets unpacks to some GB at the very most; beyond that it is a bomb.
MOST_UNPACKED_BYTES = 16 * 10**9
_MOST_NAMES, _MOST_NAME_LETTERS = 30, 60
# A file that was cut off looks like this, and so does one of many a tool.
OPEN_END = "the last row has no line end; if the file was cut off, that row is not whole"
_WITH_ZONE = ("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ_NS")
_WORDS_OF_A_FULL_DISK = ("No space left", "Could not write", "max_temp_directory_size", "File too large")
_MOST_HEADER_BYTES = 1 << 16
# Of a line that was refused, this much is kept to show; a whole one of megabytes helps nobody.
_MOST_SHOWN_CHARACTERS = 10_000
# Run-length encoding makes a billion rows of nothing; a value of a row counts for so many bytes, whatever it is.
_BYTES_OF_A_VALUE = 8


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


def read_header(
    path: Path, feed: Feed, lines: Lines | None = None, most_bytes: int = MOST_UNPACKED_BYTES
) -> Header | None:
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


def _is_the_machines_fault(error: duckdb.Error) -> bool:
    """Whether a file could not be read for want of memory or disk: then nothing is said of the file, the run fails."""
    if isinstance(error, duckdb.OutOfMemoryException | duckdb.InterruptException | duckdb.FatalException):
        return True
    return any(words in str(error) for words in _WORDS_OF_A_FULL_DISK)


def _write_csv(
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
            if _is_the_machines_fault(error):
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
            if _is_the_machines_fault(error):
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


def _parquet_text(column: Column, name: str, type_: str, dialect: str) -> str:
    """SQL that writes a Parquet value the way the feed's CSV would; what has no such form is written as it is, for
    staging to refuse.
    """
    value = _name(name)
    if type_.endswith("[]") or type_.startswith(("STRUCT", "MAP", "UNION")):
        return "null::varchar"
    if type_ == "VARCHAR":
        return f"nullif({value}, '')"
    if column.type == "date" and type_.startswith("TIMESTAMP"):
        # A day written as its midnight, in UTC or in Paris.
        places = [f"timezone('{zone}', {value}::timestamptz)" for zone in ("UTC", "Europe/Paris")]
        midnights = places if type_ in _WITH_ZONE else [f"{value}::timestamp"]
        days = " ".join(f"when {m} = date_trunc('day', {m}) then {m}::date::varchar" for m in midnights)
        return f"case {days} else {value}::varchar end"
    if type_ in _WITH_ZONE:
        return f"strftime(timezone('UTC', {value}::timestamptz), '%Y-%m-%dT%H:%M:%S.%fZ')"
    if type_.startswith("TIMESTAMP") and dialect == "pos":
        return f"strftime({value}::timestamp, '%d/%m/%Y %H:%M:%S')"
    if column.type == "time" and type_.startswith("TIME"):
        return f"left({value}::varchar, 5)"
    if type_.startswith("DECIMAL"):
        # 12.5000 is 12.50: digits that say nothing are not a third decimal
        return rf"regexp_replace(regexp_replace({value}::varchar, '(\.\d\d\d*?)0+$', '\1'), '\.0*$', '')"
    if type_ in ("DOUBLE", "FLOAT"):
        return _float_text(column, value, type_)
    return f"{value}::varchar"


def _float_text(column: Column, value: str, type_: str) -> str:
    """A binary fraction as the decimal that it stands for, where there is just one.

    33.300000000000004 is 33.30. Amounts of single precision from 131072 on do not tell two cents apart: they keep all
    their digits, so that they are refused. Whole numbers stay whole, for keys come as fractions from tools that know
    no missing integer.
    """
    exact = f"{value}::double"
    near = f"abs({exact} - round({exact}, 2)) <= " + (
        f"if(abs({exact}) < 131072, 0.004, 0)" if type_ == "FLOAT" else f"1e-9 * greatest(1, abs({exact}))"
    )
    whole = f"{exact} = trunc({exact}) and abs({exact}) < 9007199254740992"
    if column.type != "amount":
        return f"case when {whole} then {exact}::bigint::varchar else {value}::varchar end"
    cents = f"{near} and abs({exact}) < 1e13"
    return f"""
        case
            when {whole} then {exact}::bigint::varchar
            when {cents} then {exact}::decimal(18, 2)::varchar
            else {exact}::varchar
        end"""


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _look_at_parquet(path: Path, feed: Feed, most: int) -> None:
    """Raises Unreadable where the footer tells that the file is none of this feed, or a bomb."""
    try:
        with pq.ParquetFile(path) as footer:
            names = [name.strip().lower() for name in footer.schema_arrow.names]
            rows = footer.metadata.num_rows
            groups = [footer.metadata.row_group(place) for place in range(footer.metadata.num_row_groups)]
            unpacked_bytes = sum(group.total_byte_size for group in groups)
    except (pa.ArrowException, OSError, ValueError) as error:
        with path.open("rb") as source:
            start = source.read(4)
        if not start:
            raise Unreadable("it is empty, not even a Parquet file without rows; ask for the file again") from error
        if start != b"PAR1":
            raise Unreadable("it is not Parquet; let its name end with what it is, .csv or .csv.gz") from error
        raise Unreadable("it cannot be read as Parquet: it is cut off or damaged; ask for the file again") from error
    if "file_row_number" in names:
        raise Unreadable("it has a column file_row_number, a name that is kept for the reader; rename the column")
    if not set(feed.key) & set(names):
        raise Unreadable(f"it has none of the columns {', '.join(feed.key)}; is it another feed's file?")
    twice = sorted({name for name in names if name in feed.column_names and names.count(name) > 1})
    if twice:
        raise Unreadable(f"it has the column {', '.join(twice)} twice; name each column once")
    width = sum(name in feed.column_names for name in names)
    if max(rows * width * _BYTES_OF_A_VALUE, unpacked_bytes) > most:
        raise Unreadable(
            f"it unpacks to more than {most / 1e9:g} GB ({rows} rows); ask for the file in parts, or set "
            "COCANAL_MOST_UNPACKED_GB"
        )


def _write_parquet(
    connection: duckdb.DuckDBPyConnection, feed: Feed, path: Path, target: Path, most: int
) -> tuple[int, int, tuple[str, ...], list[str]]:
    """Write the file's rows to ``target``: how many, how many refused, its columns, and those that hold no values."""
    _look_at_parquet(path, feed, most)
    source = f"read_parquet({literal(path)}, binary_as_string = true)"
    try:
        described = connection.execute(f"describe select * from {source}").fetchall()
        types = {row[0].strip().lower(): (row[0], row[1]) for row in described}
        nested = [
            name
            for name in feed.column_names
            if name in types and types[name][1].endswith(("[]", ")")) and not types[name][1].startswith("DECIMAL")
        ]
        values = ", ".join(
            f"{_parquet_text(column, *types[column.name], feed.dialect)} as {column.name}"
            if column.name in types
            else f"null::varchar as {column.name}"
            for column in feed.columns
        )
        texts = [name for name in feed.column_names if name in types and types[name][1] == "VARCHAR"]
        has_nul = " or ".join(f"coalesce(contains({name}, chr(0)), false)" for name in texts) or "false"
        emptied = ", ".join(f"if(has_nul, null, {name}) as {name}" for name in feed.column_names)
        connection.execute(
            f"""
            copy (
                with texts as (select {values}, file_row_number + 1 as line from {source}),
                judged as (select *, {has_nul} as has_nul from texts)
                select {emptied}, line, if(has_nul, 'nul_byte', null) as _rule, null::varchar as _text
                from judged
            ) to {literal(target)} (format parquet)
            """
        )
        ((count, rejected),) = connection.execute(
            f"select count(*), count(_rule) from read_parquet({literal(target)})"
        ).fetchall()
    except duckdb.Error as error:
        if _is_the_machines_fault(error):
            raise
        if "UTF-8" in str(error) or "UTF8" in str(error):
            raise Unreadable("a text in it is not UTF-8; write texts as UTF-8 strings") from error
        raise Unreadable("it cannot be read as Parquet: it is cut off or damaged; ask for the file again") from error
    return count, rejected, tuple(types), nested


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
        row_count, rejected, names, nested = _write_parquet(connection, feed, copy.path, unfinished, most)
        if nested:
            told.append(f"{', '.join(nested)} holds lists or structures and was read as empty; write plain values")
    else:
        lines = look_at_lines(copy.path, most)
        if lines.ending.is_cut_off and lines.count <= 1:
            raise Unreadable("the archive is cut off before its first row; ask for the file again")
        header = read_header(copy.path, feed, lines, most)
        if header is None:
            return {"status": "empty", "message": "the file is empty"}
        row_count, rejected, is_last_refused = _write_csv(connection, copy, feed, header, lines, unfinished, most)
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
) -> Delivery:
    """Read one delivered file into ``raw/<feed>/<sha256>.parquet`` and say what was in it.

    What is read is a copy, so that the raw file holds the content of its hash even where somebody writes to the file
    meanwhile. The raw file appears whole or not at all; where it is already there it is written again with the same
    content. A file that nothing can be made of leaves no raw file and has the status ``unreadable``. ``known`` says
    what is known of a content: then it is not parsed again. A file that cannot be had tonight (somebody writes to it,
    or it may not be opened) comes back without a hash, ``changing`` or ``unreadable``.
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
            unfinished.chmod(0o600)
            with unfinished.open("rb") as written:
                os.fsync(written.fileno())
            unfinished.replace(folder / f"{copy.sha256}.parquet")
    return replace(found, **said)  # type: ignore[arg-type]
