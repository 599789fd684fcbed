"""Refused rows as a file for the supplier: as delivered, in the feed's own notation, each with what is wrong with it.

The supplier corrects the file and delivers it again: the columns that begin with ``quarantine_`` are none of the
contract's and are ignored. Values come from the raw files, so that nothing is kept twice. Not for what is refused and
why: ``dbt/models/staging/quarantine.sql``.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import duckdb

from dagster_project.domain.activation import define_macros
from dagster_project.domain.contract import Feed
from dagster_project.domain.sql_literal import literal, literals

_CHUNK_CHARACTERS = 1 << 20


class NothingToExport(Exception):
    """No refused row is asked for; the message says so."""


@dataclass(frozen=True)
class Wanted:
    """Which refused rows of a feed: all, or those of a rule, a delivered file (path under landing), or both."""

    feed: Feed
    rule: str | None = None
    file: str | None = None


def _refused(wanted: Wanted) -> str:
    where = [f"quarantine.feed = {literal(wanted.feed.name)}"]
    where += [f"quarantine.rule = {literal(wanted.rule)}"] if wanted.rule else []
    where += [f"quarantine.file = {literal(wanted.file)}"] if wanted.file else []
    return f"""
        select quarantine.file, files.sha256, quarantine.line, quarantine.rule, quarantine.message
        from staging.quarantine as quarantine
        join landing.files as files on quarantine.feed = files.feed and quarantine.file = files.file
        where {" and ".join(where)}
    """


def export(connection: duckdb.DuckDBPyConnection, raw: Path, wanted: Wanted, target: Path) -> int:
    """Write the refused rows to ``target``, which only its owner may read; returns how many there are.

    ``connection`` is on a build or the analysts' database of a release. One row per refused row: the contract's columns
    as delivered, then ``quarantine_file``, ``quarantine_line`` (1 = first after the header), ``quarantine_rule``,
    ``quarantine_message`` and, of a row that could not be read as a row, ``quarantine_text``. A text that a spreadsheet
    would run has an apostrophe before it. Raises NothingToExport. Cost grows with the files that hold refused rows.
    """
    define_macros(connection)
    connection.execute(f"create or replace temp table refused as {_refused(wanted)}")
    ((count,),) = connection.execute("select count(*) from refused").fetchall()
    if not count:
        raise NothingToExport(f"No row of {wanted.feed.name} that you ask for is in quarantine.")
    paths = [
        raw / wanted.feed.name / f"{sha256}.parquet"
        for (sha256,) in connection.execute("select distinct sha256 from refused order by sha256").fetchall()
    ]
    values = ", ".join(f"{_as_text(f'rows.{name}')} as {name}" for name in wanted.feed.column_names)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    delimiter = ";" if wanted.feed.dialect == "pos" else ","
    try:
        os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
        connection.execute(
            f"""
            copy (
                select
                    {values}, {_as_text("refused.file")} as quarantine_file, refused.line as quarantine_line,
                    refused.rule as quarantine_rule, refused.message as quarantine_message,
                    neutral_text(rows._text) as quarantine_text
                from refused
                join read_parquet([{literals(paths)}], filename = true) as rows
                    on refused.sha256 = parse_filename(rows.filename, true) and refused.line = rows.line
                order by refused.file, refused.line
            ) to {literal(unfinished)} (format csv, header true, delimiter '{delimiter}')
            """
        )
        unfinished.chmod(0o600)
        if wanted.feed.dialect == "pos":
            _write_in_latin(unfinished)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return int(count)


def _as_text(value: str) -> str:
    """SQL: the value, an apostrophe before what a spreadsheet would run; numbers and telephone numbers as they are."""
    return f"case when regexp_full_match({value}, '[+-]?[0-9 .,()/-]+') then {value} else neutral_text({value}) end"


def _write_in_latin(path: Path) -> None:
    """The file in the notation of the tills; a letter that it does not have becomes a question mark."""
    latin = path.with_name(f"{path.name}.latin")
    handle = os.open(latin, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with (
            path.open(encoding="utf-8", newline="") as source,
            os.fdopen(handle, "w", encoding="cp1252", errors="replace", newline="") as out,
        ):
            while text := source.read(_CHUNK_CHARACTERS):
                out.write(text)
        latin.replace(path)
    finally:
        latin.unlink(missing_ok=True)
