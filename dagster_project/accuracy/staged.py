"""Staged tables to measure on: those of a generated retailer, and those of a file of people.

What belongs here: how data come to lie in the schema ``staging`` of a database. What does not: any matching, and any
measure of it.
"""

import csv
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa

from dagster_project.domain.contract import feeds
from dagster_project.stages import LANDING, STAGING

_TYPES = {
    "moment": "timestamp",
    "date": "date",
    "boolean": "boolean",
    "integer": "bigint",
    "decimal": "double",
    "amount": "decimal(18, 2)",
}
_WRITTEN_AT = datetime(2020, 1, 1)
"""When every record of a file of people was written: such files do not say it, and one moment favours no record."""


@dataclass(frozen=True)
class People:
    """A file of people in staged tables: the day to judge them at, and the number of records."""

    as_of: date
    records: int


def stage_retailer(home: Path, persons: int, seed: int) -> None:
    """Generate a retailer into ``home``; land and stage it as the nightly job does, as of its last night.

    Afterwards ``home`` holds ``warehouse.duckdb`` and the truth, ``truth/records.csv`` and ``truth/transactions.csv``.
    """
    import dagster as dg

    from dagster_project.definitions import build_defs
    from dagster_project.demo import DemoPlan, generate
    from dagster_project.instance import open_instance
    from dagster_project.settings import load_settings

    settings = load_settings(home=home)
    plan = DemoPlan(persons=persons, nights=1, seed=seed)
    as_of = generate(settings.landing, settings.home / "truth", plan).nights[-1]
    # Without the gates: how much was delivered is not what is measured.
    selection = dg.AssetSelection.groups(LANDING, STAGING).without_checks()
    staged = dg.define_asset_job("staged", selection=selection, executor_def=dg.in_process_executor)
    job = dg.Definitions.merge(build_defs(settings), dg.Definitions(jobs=[staged])).resolve_job_def("staged")
    config = {
        "ops": {"landing": {"config": {"as_of": as_of.isoformat()}}},
        "loggers": {"console": {"config": {"log_level": "ERROR"}}},
    }
    with open_instance(settings) as instance:
        job.execute_in_process(instance=instance, run_config=config)


Row = Mapping[str, str]
"""One line of a file, by the names of its header; what is blank is missing."""


def read_rows(path: Path) -> list[Row]:
    """The lines of a CSV file with a header, without blanks around the values."""
    with path.open(encoding="utf-8", newline="") as lines:
        return [
            {name.strip(): value.strip() for name, value in line.items() if (value or "").strip()}
            for line in csv.DictReader(lines, skipinitialspace=True)
        ]


def real_date(text: str | None, form: str) -> date | None:
    """The date that a text says, or None where there is no such day."""
    try:
        return datetime.strptime(text or "", form).date()
    except ValueError:
        return None


def lay_out(connection: duckdb.DuckDBPyConnection) -> None:
    """Create every table ``staging.stg_*`` of the contract, empty."""
    connection.execute("create schema if not exists staging")
    for feed in feeds().values():
        columns = ", ".join(f"{column.name} {_TYPES.get(column.type, 'varchar')}" for column in feed.columns)
        connection.execute(
            f"create table staging.stg_{feed.name} ({columns}, delivered_on date, file_no bigint, line bigint)"
        )


def stage_people(
    connection: duckdb.DuckDBPyConnection,
    rows: list[Row],
    *,
    customer: Callable[[Row], dict[str, object]],
    person: Callable[[Row], str],
    seed: int,
) -> People:
    """Stage a file of people as web accounts, and write the table ``truth``: feed, record_id, person_id.

    ``customer`` says what a line becomes in the columns of ``shop_customers``, ``person`` whose it is. The numbers of
    the accounts follow a shuffled order: neither they nor the order of the rows tells who belongs together.
    """
    lay_out(connection)
    shuffled = list(rows)
    random.Random(seed).shuffle(shuffled)
    staged = list(_customers(shuffled, customer))
    _insert(connection, "staging.stg_shop_customers", staged)
    connection.execute("create table truth (feed varchar, record_id varchar, person_id varchar)")
    _insert(
        connection,
        "truth",
        [
            {"feed": "shop_customers", "record_id": account["customer_id"], "person_id": person(row)}
            for account, row in zip(staged, shuffled, strict=True)
        ],
    )
    # Nobody is born after the day at which a file is judged; the files do not say when they were written.
    born = [account["birth_date"] for account in staged if isinstance(account["birth_date"], date)]
    return People(max(born, default=_WRITTEN_AT.date()) + timedelta(days=1), len(staged))


def _customers(rows: list[Row], customer: Callable[[Row], dict[str, object]]) -> Iterator[dict[str, object]]:
    for number, row in enumerate(rows, start=1):
        yield {
            "customer_id": f"C{number:06d}",
            "birth_date": None,
            "created_at": _WRITTEN_AT,
            "updated_at": _WRITTEN_AT,
            **customer(row),
        }


def _insert(connection: duckdb.DuckDBPyConnection, table: str, rows: list[dict[str, object]]) -> None:
    connection.register("given_rows", pa.Table.from_pylist(rows))
    connection.execute(f"insert into {table} by name select * from given_rows")
    connection.unregister("given_rows")
