"""Fixtures that more than one folder of tests needs."""

from collections.abc import Callable
from typing import Any

import duckdb
import pytest

from dagster_project.domain.contract import feeds

_TYPES = {
    "moment": "timestamp",
    "date": "date",
    "boolean": "boolean",
    "integer": "bigint",
    "decimal": "double",
    "amount": "decimal(18, 2)",
}
Rows = dict[str, list[dict[str, Any]]]


def _staging_database(rows: Rows) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config={"threads": 1})
    connection.execute("set TimeZone = 'UTC'")
    connection.execute("create schema staging")
    for feed in feeds().values():
        columns = ", ".join(f"{column.name} {_TYPES.get(column.type, 'varchar')}" for column in feed.columns)
        connection.execute(f"create table staging.stg_{feed.name} ({columns}, delivered_on date, file_no bigint, line bigint)")
    for name, records in rows.items():
        for record in records:
            marks = ", ".join("?" * len(record))
            connection.execute(
                f"insert into staging.stg_{name} ({', '.join(record)}) values ({marks})", list(record.values())
            )
    return connection


@pytest.fixture(scope="session")
def staging_database() -> Callable[[Rows], duckdb.DuckDBPyConnection]:
    """A database in memory with every table ``staging.stg_*`` of the contract, empty but for the given rows."""
    return _staging_database
