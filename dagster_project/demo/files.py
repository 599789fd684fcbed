"""How the systems write their files: formats, rows said twice or broken, and files cut off, repeated or half written.

A CSV feed is rendered by DuckDB as one line of text per row, ordered by file; the content of a file is then a slice of
that column. What stands in the rows belongs elsewhere.
"""

import codecs
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dagster_project.demo import dirt, seasons
from dagster_project.domain.contract import Feed

CUT_OFF_FEED = "pos_tickets"
"""The feed of which one file arrives cut off, and another lies about half written."""
# What differs when a key is said twice in one file: something that changes no person and no euro.
_CONFLICTS = {
    "pos_tickets": "'R9' as register_id",
    "shop_orders": "'Colis' as city",
    "loyalty_members": "'FR' as country",
}
# Feeds in which an older row must not come again later: the latest delivery would win.
_NOT_AGAIN = frozenset({"deliveries"})
_EXTRA_COLUMN = {"shop_customers": ("internal_note", "à rappeler"), "pos_tickets": ("cashier_initials", "É.B.")}
_PARQUET_TYPES = {
    "moment": "timestamptz",
    "date": "date",
    "boolean": "boolean",
    "integer": "bigint",
    "decimal": "double",
    "amount": "decimal(18, 2)",
}


@dataclass(frozen=True)
class _File:
    """One file to write: a part of a feed's delivery."""

    delivered_on: date
    part: int
    form: str  # csv | csv.gz | parquet
    layout: int  # 0 = contract order, 1 = reordered, 2 = with an unknown column


def _chance(*key: object) -> float:
    return zlib.crc32("|".join(map(str, key)).encode()) / 2**32


def _text(name: str, type_: str, dialect: str) -> str:
    """SQL that renders a column as the feed's dialect writes it."""
    if type_ == "moment":
        if dialect == "pos":
            return f"strftime(paris({name}), '%d/%m/%Y %H:%M:%S')"
        return f"case when seq % 5 = 0 then strftime({name}, '%Y-%m-%dT%H:%M:%SZ') else paris_iso({name}) end"
    if type_ == "amount":
        return f"replace({name}::varchar, '.', ',')" if dialect == "pos" else f"{name}::varchar"
    if name == "birth_date":
        return f"case when u(seq, 'garbled') < {dirt.BIRTH_DATE_GARBLED} then '31/02/1975' else {name}::varchar end"
    if type_ in ("date", "integer", "boolean", "decimal"):
        return f"{name}::varchar"
    return name


def _broken(feed: Feed) -> dict[str, str]:
    """A reading of each mandatory column that cannot be right, for rows that are damaged in their values."""
    unreadable = {
        "moment": "32/13/2019 27:61",
        "amount": "abc,de",
        "integer": "x",
        "boolean": "peut-être",
        "date": "31/02",
    }
    found = {}
    for column in feed.columns:
        if not column.mandatory:
            continue
        if column.name in feed.key and column.type == "text":
            found[column.name] = ""
        elif column.type in unreadable:
            found[column.name] = unreadable[column.type]
        elif column.choices:
            found[column.name] = "unknown_" + column.name
    return found


def _line(feed: Feed, layout: int) -> tuple[str, str]:
    """The header line and the SQL of a whole line (without line end) of a layout."""
    separator = ";" if feed.dialect == "pos" else ","
    columns = list(feed.columns)
    if layout == 1:
        columns = columns[::-1]
    names = [column.name for column in columns]
    cells = []
    for column in columns:
        value = _text(column.name, column.type, feed.dialect)
        if column.type in ("text", "name", "address", "city", "key_value"):
            quoted = f"""'"' || replace({value}, '"', '""') || '"'"""
            value = f"case when regexp_matches({value}, '[\"\\n{separator}]') then {quoted} else {value} end"
        wrong = _broken(feed).get(column.name)
        if wrong is not None:
            position = list(_broken(feed)).index(column.name)
            value = f"case when damage = {3 + position} then '{wrong}' else {value} end"
        cells.append(f"coalesce({value}, '')")
    if layout == 2:
        name, content = _EXTRA_COLUMN[feed.name]
        names.append(name)
        cells.append(f"case when seq % 9 = 0 then '{content}' else '' end")
    line = f" || '{separator}' || ".join(cells)
    # Damage 1: a field too many and one too few by turns; damage 2: a quote that closes in the middle of a field.
    cut = f"regexp_replace({line}, '{separator}[^{separator}]*$', '')"
    sql = (
        f"case damage when 1 then case when seq % 2 = 0 then ({line}) || '{separator}?{separator}?' else {cut} end"
        f" when 2 then '\"' || regexp_replace({cut}, '{separator}', '\"x{separator}') else {line} end"
    )
    return separator.join(names), sql


def _rows(feed: Feed) -> str:
    """SQL of the delivered rows of a feed, with those that are said twice, again, differently or unreadably."""
    name = f"feed_{feed.name}"
    last = f"date '{seasons.LAST_NIGHT}'"
    parts = [f"select *, 0 as variant, 0 as damage from {name}"]
    parts.append(f"select *, 1, 0 from {name} where u(seq, 'twice {feed.name}') < {dirt.ROW_TWICE}")
    if not feed.whole_table:
        if feed.name not in _NOT_AGAIN:
            parts.append(
                f"select * replace (next_delivery(delivered_on) as delivered_on), 2, 0 from {name}"
                f" where u(seq, 'again {feed.name}') < {dirt.ROW_AGAIN} and next_delivery(delivered_on) <= {last}"
            )
        damages = 2 + len(_broken(feed))
        parts.append(
            f"select *, 3, 1 + floor(u(seq, 'damage') * {damages})::integer from {name}"
            f" where u(seq, 'broken {feed.name}') < {dirt.ROW_BROKEN}"
        )
        if feed.name in _CONFLICTS:
            parts.append(
                f"select * replace ({_CONFLICTS[feed.name]}), 4, 0 from {name}"
                f" where u(seq, 'conflict {feed.name}') < {dirt.ROW_CONFLICT}"
            )
    return " union all ".join(parts)


def _plan(con: duckdb.DuckDBPyConnection, feed: Feed, seed: int, nights: list[date]) -> list[_File]:
    days = con.execute(f"select distinct delivered_on from rows_{feed.name} order by 1").fetchall()
    files = []
    for (day,) in days:
        draw = _chance(seed, feed.name, day, "form")
        form = "csv" if draw < 0.5 else "csv.gz" if draw < 0.8 else "parquet"
        if feed.name == CUT_OFF_FEED and day in (cut_off_on(nights), nights[-1]):
            form = "csv"
        layout = 0
        if form != "parquet":
            layout = 1 if _chance(seed, feed.name, day, "layout") < dirt.FILE_REORDERED else 0
            if feed.name in _EXTRA_COLUMN and (day >= date(2020, 1, 1) or _chance(seed, day, "extra") < 0.3):
                layout = 2
        parts = 2 if _chance(seed, feed.name, day, "split") < dirt.FILE_SPLIT else 1
        files += [_File(day, part, form, layout) for part in range(parts)]
    return files


def _slices(con: duckdb.DuckDBPyConnection, sql: str) -> Iterator[tuple[date, int, pa.Table]]:
    """The result of ``sql``, ordered by ``delivered_on`` and ``part``, cut at every change of them."""
    table = con.sql(sql).to_arrow_table()
    runs = table.select(["delivered_on", "part"]).append_column("row", pa.array(np.arange(table.num_rows)))
    bounds = runs.group_by(["delivered_on", "part"]).aggregate([("row", "min"), ("row", "max")]).sort_by("row_min")
    for run in bounds.to_pylist():
        yield run["delivered_on"], run["part"], table.slice(run["row_min"], run["row_max"] - run["row_min"] + 1)


def write_feed(
    con: duckdb.DuckDBPyConnection, feed: Feed, landing: Path, seed: int, nights: list[date]
) -> dict[str, int]:
    """Write every file of a feed; returns how many files and rows (as delivered, damaged ones too)."""
    con.execute(f"create temp table rows_{feed.name} as {_rows(feed)}")
    files = _plan(con, feed, seed, nights)
    plan = pa.table(
        {
            "delivered_on": pa.array([file.delivered_on for file in files], pa.date32()),
            "part": pa.array([file.part for file in files], pa.int32()),
            "form": [file.form for file in files],
            "layout": pa.array([file.layout for file in files], pa.int32()),
            "parts": pa.array(
                [sum(other.delivered_on == file.delivered_on for other in files) for file in files], pa.int32()
            ),
        }
    )
    con.register("file_plan", plan)
    by_place = {(file.delivered_on, file.part): file for file in files}
    written = 0
    rows = 0
    chosen = (
        f"select r.*, p.part, p.form, p.layout from rows_{feed.name} as r join file_plan as p"
        " on p.delivered_on = r.delivered_on and p.part ="
        " (case when u(r.seq, 'part') < 0.5 then p.parts - 1 else 0 end)"
    )
    for layout in sorted({file.layout for file in files if file.form != "parquet"}):
        header, line = _line(feed, layout)
        sql = (
            f"select delivered_on, part, ({line}) || chr(10) as line from ({chosen})"
            f" where form <> 'parquet' and layout = {layout}"
            " order by delivered_on, part, seq, variant"
        )
        for day, part, lines in _slices(con, sql):
            rows += lines.num_rows
            written += _write_text(
                landing, feed, by_place[day, part], header + "\n" + "".join(lines["line"].to_pylist()), seed, nights
            )
    if any(file.form == "parquet" for file in files):
        columns = ", ".join(
            f"{column.name}::{_PARQUET_TYPES.get(column.type, 'varchar')} as {column.name}" for column in feed.columns
        )
        sql = (
            f"select delivered_on, part, {columns} from ({chosen}) where form = 'parquet' and damage = 0"
            " order by delivered_on, part, seq, variant"
        )
        for day, part, table in _slices(con, sql):
            rows += table.num_rows
            target = _target(landing, feed, by_place[day, part])
            pq.write_table(table.select(list(feed.column_names)), target, compression="zstd")
            written += 1
    con.unregister("file_plan")
    con.execute(f"drop table rows_{feed.name}")
    return {"files": written, "rows": rows}


def _target(landing: Path, feed: Feed, file: _File) -> Path:
    folder = landing / feed.name / file.delivered_on.isoformat()
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{feed.name}_{file.delivered_on:%Y%m%d}_{file.part + 1:02d}.{file.form}"


def _write_text(landing: Path, feed: Feed, file: _File, text: str, seed: int, nights: list[date]) -> int:
    """Write a CSV file and what became of it: cut off and sent again, sent again later, half written beside."""
    if _chance(seed, feed.name, file.delivered_on, "crlf") < dirt.FILE_CRLF:
        text = text.replace("\n", "\r\n")
    content = text.encode("latin-1" if feed.dialect == "pos" else "utf-8")
    if feed.dialect != "pos" and _chance(seed, feed.name, file.delivered_on, "bom") < dirt.FILE_BOM:
        content = codecs.BOM_UTF8 + content
    target = _target(landing, feed, file)
    packed = gzip.compress(content, 3, mtime=0) if file.form == "csv.gz" else content
    again = _next_delivery(file.delivered_on, nights)
    if feed.name == CUT_OFF_FEED and file.delivered_on == cut_off_on(nights):
        target.write_bytes(content[: len(content) * 3 // 5])
        _again(landing, feed, file, again).write_bytes(packed)
        return 2
    target.write_bytes(packed)
    if feed.name == CUT_OFF_FEED and file.delivered_on == nights[-1]:
        target.with_name(f"{target.name}.part").write_bytes(content[: len(content) // 2])
    may_repeat = not feed.whole_table and feed.name not in _NOT_AGAIN and again <= nights[-1]
    if may_repeat and _chance(seed, feed.name, file.delivered_on, "file again") < dirt.FILE_AGAIN:
        _again(landing, feed, file, again).write_bytes(packed)
        return 2
    return 1


def cut_off_on(nights: list[date]) -> date:
    """The day whose ticket file arrived cut off: a usual day in the history, twelve days before the first night."""
    day = nights[0] - timedelta(days=12)
    return day + timedelta(days=1) if day.weekday() in (0, 1) else day


def _next_delivery(day: date, nights: list[date]) -> date:
    daily_from = nights[0] - timedelta(days=seasons.DAILY_DELIVERIES_BEFORE_NIGHTS)
    if day >= daily_from:
        return day + timedelta(days=1)
    return min((day.replace(day=1) + timedelta(days=32)).replace(day=1), daily_from)


def _again(landing: Path, feed: Feed, file: _File, day: date) -> Path:
    path = _target(landing, feed, _File(day, file.part, file.form, file.layout))
    return path.with_name(f"{feed.name}_{file.delivered_on:%Y%m%d}_{file.part + 1:02d}_again.{file.form}")
