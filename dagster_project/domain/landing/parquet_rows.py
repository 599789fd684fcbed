"""The rows of a delivered Parquet file, as raw Parquet: each value as the text that the feed's CSV would hold.

What has no such form is written as it is, for staging to refuse. Not for which file is read when: ``reader``.
"""

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from dagster_project.domain.contract import Column, Feed
from dagster_project.domain.landing.content import Unreadable
from dagster_project.domain.machine_faults import is_the_machines_fault
from dagster_project.domain.sql_literal import literal

_WITH_ZONE = ("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ_NS")
# Run-length encoding makes a billion rows of nothing; a value of a row counts for so many bytes, whatever it is.
_BYTES_OF_A_VALUE = 8


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


def write_parquet(
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
        if is_the_machines_fault(error):
            raise
        if "UTF-8" in str(error) or "UTF8" in str(error):
            raise Unreadable("a text in it is not UTF-8; write texts as UTF-8 strings") from error
        raise Unreadable("it cannot be read as Parquet: it is cut off or damaged; ask for the file again") from error
    return count, rejected, tuple(types), nested
