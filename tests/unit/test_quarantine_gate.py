"""How much may be refused before the night stops, and before somebody is told."""

from collections.abc import Iterator

import duckdb
import pytest

from dagster_project.quality.gate import judge
from dagster_project.quality.statements import Judgement, Suite
from dagster_project.quality.suites import staging
from dagster_project.settings import Settings


@pytest.fixture
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("create schema landing; create schema staging")
        connection.execute(
            "create table landing.builds as select date '2020-07-10' as as_of, null::date as previous_as_of"
        )
        connection.execute("create table landing.unreleased_files (file varchar)")
        connection.execute(
            "create table landing.files (feed varchar, file varchar, delivered_on date, row_count bigint)"
        )
        connection.execute(
            "create table staging.quarantine "
            "(feed varchar, file varchar, delivered_on date, column_name varchar, rule varchar)"
        )
        yield connection


def deliver(connection: duckdb.DuckDBPyConnection, file: str, rows: int, refused: int) -> None:
    feed, day, _ = file.split("/")
    connection.execute("insert into landing.files values ($1, $2, $3, $4)", [feed, file, day, rows])
    connection.execute("insert into landing.unreleased_files values ($1)", [file])
    connection.execute(
        "insert into staging.quarantine select $1, $2, $3::date, 'status', 'unknown_choice' from range($4)",
        [feed, file, day, refused],
    )


def verdict(connection: duckdb.DuckDBPyConnection, name: str) -> Judgement:
    (statement,) = [one for one in staging.suite(Settings(home="home")).statements if one.name == name]
    return judge(connection, Suite("staging", "staging.quarantine", (statement,)), {})[0]


def test_a_small_file_that_is_refused_as_a_whole_is_told_and_stops_nothing(database: duckdb.DuckDBPyConnection) -> None:
    """Forty withdrawals that say `unsubscribed` where the contract says `withdrawn`."""
    deliver(database, "consents/2020-07-10/c.csv", 40, 40)
    assert verdict(database, "quarantine_is_small").is_passed
    found = verdict(database, "small_deliveries_are_not_refused")
    assert not found.is_passed and not found.is_stopping
    assert found.failed_scopes == ("consents of 2020-07-10, 40 rows: status unknown_choice 40",)


def test_a_bad_file_that_comes_late_is_not_hidden_by_its_days_good_ones(database: duckdb.DuckDBPyConnection) -> None:
    deliver(database, "pos_tickets/2020-07-01/late.csv", 100, 90)
    database.execute(
        "insert into landing.files values ('pos_tickets', 'pos_tickets/2020-07-01/t.csv', '2020-07-01', 9000)"
    )
    assert verdict(database, "quarantine_is_small").is_stopping
    database.execute("delete from landing.unreleased_files")
    assert verdict(database, "quarantine_is_small").is_passed, "a release was made from it: it was accepted then"
