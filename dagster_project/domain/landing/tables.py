"""The landing schema: the delivered files, and each feed's rows as delivered, as views over the raw Parquet files."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa

from dagster_project.domain.contract import Feed, feeds
from dagster_project.domain.landing.deliveries import Delivery
from dagster_project.domain.sql_literal import literal

_FILES = pa.schema(
    [
        ("feed", pa.string()),
        ("file", pa.string()),
        ("delivered_on", pa.date32()),
        ("byte_count", pa.int64()),
        ("modified_ns", pa.int64()),
        ("sha256", pa.string()),
        ("row_count", pa.int64()),
        ("rejected_row_count", pa.int64()),
        ("status", pa.string()),
        ("unknown_columns", pa.string()),
        ("missing_columns", pa.string()),
        ("message", pa.string()),
    ]
)


def write_files(connection: duckdb.DuckDBPyConnection, deliveries: Iterable[Delivery], as_of: date) -> None:
    """Write ``landing.files``: one row per file delivered on or before ``as_of``.

    ``file_no`` ranks the files of a feed by day of delivery, then by name: the greater one is the later delivery.
    ``past_until_at`` is the first moment (UTC) that lies after the Paris day of delivery + 1.
    """
    rows = [asdict(delivery) for delivery in deliveries if delivery.delivered_on <= as_of]
    delivered = pa.Table.from_pylist(rows, schema=_FILES)  # noqa: F841 - read by the SQL below
    connection.execute(
        """
        create or replace table landing.files as
        select
            feed, file, delivered_on, sha256, row_count, rejected_row_count, status, byte_count, unknown_columns,
            missing_columns, message,
            row_number() over (
                partition by feed order by delivered_on, regexp_extract(file, '[^/]+$'), file
            ) as file_no,
            timezone('UTC', timezone('Europe/Paris', (delivered_on + 2)::timestamp)) as past_until_at
        from delivered
        order by feed, file_no
        """
    )


def write_file_names(connection: duckdb.DuckDBPyConnection, table: str, deliveries: Iterable[Delivery]) -> None:
    """Write the landing table ``table``, for the gates: one row per file, with ``file`` and ``delivered_on``.

    ``unreleased_files``: content that no release was made from yet; the gates answer for it, whatever its day.
    ``withdrawn_files``: read once, and gone from landing before a release was made. Beside ``landing.files`` and not in
    it, for that is released, and a release says the same however often it is made.
    """
    rows = [{"file": delivery.file, "delivered_on": delivery.delivered_on} for delivery in deliveries]
    names = pa.Table.from_pylist(  # noqa: F841 - read by the SQL below
        rows, schema=pa.schema([("file", pa.string()), ("delivered_on", pa.date32())])
    )
    connection.execute(f"create or replace table landing.{table} as select * from names")


def _create_view(connection: duckdb.DuckDBPyConnection, feed: Feed, raw: Path) -> None:
    shas = connection.execute(
        "select distinct sha256 from landing.files where feed = $1 and row_count > 0 order by sha256", [feed.name]
    ).fetchall()
    columns = ", ".join(f"rows.{name}" for name in feed.column_names)
    if shas:
        paths = ", ".join(literal(raw / feed.name / f"{sha}.parquet") for (sha,) in shas)
        connection.execute(
            f"""
            create or replace view landing.{feed.name} as
            select
                {columns}, rows.line, rows._rule, rows._text,
                files.file_no, files.file, files.delivered_on, files.past_until_at
            from read_parquet([{paths}], filename = true) as rows
            join landing.files as files
                on files.feed = '{feed.name}' and files.sha256 = parse_filename(rows.filename, true)
            """
        )
        return
    columns = ", ".join(f"null::varchar as {name}" for name in feed.column_names)
    connection.execute(
        f"""
        create or replace view landing.{feed.name} as
        select
            {columns}, null::bigint as line, null::varchar as _rule, null::varchar as _text,
            null::bigint as file_no, null::varchar as file, null::date as delivered_on,
            null::timestamp as past_until_at
        where false
        """
    )


def create_views(connection: duckdb.DuckDBPyConnection, raw: Path) -> None:
    """Create ``landing.<feed>`` for every feed of the contract: one row per delivered row, every value as text.

    A feed that never delivered has an empty view, so that nothing downstream has to know which feeds there are.
    """
    for feed in feeds().values():
        _create_view(connection, feed, raw)


def write_rejected_rows(connection: duckdb.DuckDBPyConnection) -> None:
    """Write ``landing.rejected_rows``: one row per delivered row that could not be read as a row at all.

    What an erasure emptied is not among them: ``staging.row_counts`` counts it.
    """
    parts = " union all ".join(
        f"select '{feed}' as feed, file, file_no, delivered_on, line, _rule as rule, _text as text "
        f"from landing.{feed} where _rule is not null and _rule <> 'erased'"
        for feed in feeds()
    )
    connection.execute(
        f"create or replace table landing.rejected_rows as select * from ({parts}) order by feed, file_no, line"
    )


def write_carried_out(connection: duckdb.DuckDBPyConnection, carried_out: Mapping[str, Mapping[str, str]]) -> None:
    """Write ``landing.carried_out_requests``: one row per privacy request that was carried out."""
    told = pa.table(  # noqa: F841 - read by the SQL below
        {
            "request_id": pa.array(list(carried_out), pa.string()),
            "carried_out_at": pa.array([each["carried_out_at"] for each in carried_out.values()], pa.string()),
        }
    )
    connection.execute(
        """
        create or replace table landing.carried_out_requests as
        select request_id, cast(left(carried_out_at, 10) as date) as carried_out_on from told order by request_id
        """
    )


def write_last_audiences(connection: duckdb.DuckDBPyConnection, released: Path | None) -> None:
    """Write ``landing.last_members`` and ``landing.last_exclusions`` from the last release's database for analysts.

    Both are empty where ``released`` is None (the first release), or has no such table (one of an older version).
    """
    for table, origin, columns in (
        ("last_members", "members", ("audience", "destination", "account_id")),
        ("last_exclusions", "waterfall", ("audience", "destination", "account_id", "reason")),
    ):
        described = ", ".join(f"{column} varchar" for column in columns)
        connection.execute(f"create or replace table landing.{table} ({described})")
        if released is None:
            continue
        connection.execute(f"attach {literal(released)} as last_release (read_only)")
        try:
            is_there = connection.execute(
                "select 1 from duckdb_tables()"
                " where database_name = 'last_release' and schema_name = 'audience' and table_name = $1",
                [origin],
            ).fetchall()
            if is_there:
                listed = ", ".join(columns)
                connection.execute(f"insert into landing.{table} select {listed} from last_release.audience.{origin}")
        finally:
            connection.execute("detach last_release")
