"""However the deliveries were spread over nights, whatever the order of rows, wherever a run died: the same tables."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from dagster_project.domain import release

# What names a run, an id or a line of a file; and the tables that are about the nights themselves.
_NOT_COMPARED = {"line", "sha256"}
_ABOUT_NIGHTS = {
    "identity.account_events",
    "identity.account_link_history",
    "identity.account_redirects",
    "segment.drift",
    "release.info",
    "release.gate_results",
    "activation.ledger",
}


@contextmanager
def _releases(*homes: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        for name, home in zip(("left", "right"), homes, strict=True):
            for kind, file in release.DATABASES.items():
                path = home / "releases" / "current" / file
                connection.execute(f"attach '{path}' as {name}_{kind} (read_only)")
        yield connection


def _comparable(columns: list[str], database: str, table: str) -> str:
    """SQL of a table's rows that are to be the same: an account is named by its anchor, a household by its people."""
    side = database.split("_")[0]
    shown = []
    for column in columns:
        if column == "account_id":
            shown.append(
                f"(select anchor_key from {side}_analysts.identity.anchors as anchors "
                "where anchors.account_id = rows.account_id) as account_id"
            )
        elif column not in _NOT_COMPARED:
            shown.append(column)
    return f"select {', '.join(shown)} from {database}.{table} as rows"


def differing_tables(left: Path, right: Path) -> dict[str, int]:
    """The tables of two releases that hold other rows, with how many rows one has and the other has not."""
    found = {}
    with _releases(left, right) as connection:
        tables = connection.execute(
            """
            select
                split_part(database_name, '_', 2), schema_name || '.' || table_name,
                list(column_name order by column_index)
            from duckdb_columns()
            where database_name in ('left_analysts', 'left_restricted')
            group by all order by all
            """
        ).fetchall()
        assert len(tables) > 30
        for readers, table, columns in tables:
            if table in _ABOUT_NIGHTS:
                continue
            one, other = (_comparable(columns, f"{side}_{readers}", table) for side in ("left", "right"))
            ((count,),) = connection.execute(
                f"select count(*) from (({one} except all {other}) union all ({other} except all {one}))"
            ).fetchall()
            if count:
                found[table] = count
        sent = (
            "select audience, destination, identifier_type, identifier_hash, anchor_key "
            "from {0}_restricted.activation.ledger join {0}_analysts.identity.anchors using (account_id) "
            "where last_release_id = (select release_id from {0}_analysts.release.info)"
        )
        ((count,),) = connection.execute(
            f"select count(*) from (({sent.format('left')}) except all ({sent.format('right')}))"
        ).fetchall()
        assert count == 0
    return found


def audience_files(home: Path) -> dict[str, bytes]:
    folder = home / "releases" / "current" / "audiences"
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.csv")}


def test_ten_nights_end_with_the_tables_of_one(
    tmp_path: Path,
    base_home: Path,
    deliveries: Any,
    retailer: Any,
    supplier: Any,
    instance: dg.DagsterInstance,
    run_in: Any,
    published: Any,
) -> None:
    """The base home took everything in one night; here each night reads what was there by then, in another order."""
    home = tmp_path / "home"
    supplier(home / "landing").deliver_all(deliveries, shuffled_by=5)
    for day in retailer.DAYS:
        # So few people make the shares of segments jump from night to night; that is not what is tested here.
        night = run_in(home, as_of=day, accept={"segment": "a tenth of the history arrives each night"})
        assert night.outcome == "released", night.sentences
        current = release.current_release(home)
        assert current is not None
        assert current.manifest()["as_of"] == day.isoformat()
        with duckdb.connect(str(current.directory / "cocanal.duckdb"), read_only=True) as connection:
            ((newest, read),) = connection.execute("select max(delivered_on), count(*) from landing.files").fetchall()
        assert newest == day
        assert read == sum(1 for _, delivered_on in deliveries if delivered_on <= day)

    assert differing_tables(base_home, home) == {}
    assert audience_files(home) == audience_files(base_home)
    assert len(release.list_releases(home)) == 7

    # The same again brings nothing new: nothing is published, nothing is touched.
    before = published(home)
    night = run_in(home)
    assert (night.outcome, night.exit_code) == ("nothing_new", 0)
    assert set(night.seconds) <= {"landing"}
    assert published(home) == before


class PowerCut(Exception):
    """What ends a run in the middle."""


@pytest.mark.parametrize("moment", ["identity", "release gate"])
def test_a_run_that_died_costs_nothing_but_its_time(
    moment: str,
    home: Path,
    base_home: Path,
    retailer: Any,
    supplier: Any,
    instance: dg.DagsterInstance,
    settings_of: Any,
    broken_into: Any,
    run_in: Any,
    published: Any,
) -> None:
    rows = [
        {"event_id": f"N{n}", "session_id": "V1", "event": "visit", "occurred_at": "2020-07-10T09:00:00Z"}
        for n in range(90)
    ]
    supplier(home / "landing").deliver("web_events", retailer.LAST, rows, "part_02.csv")
    before = published(home)

    def cut(connection: duckdb.DuckDBPyConnection) -> None:
        # Whatever had been written of the step before is there, half or whole.
        connection.execute("delete from staging.stg_shop_orders where hash(order_id) % 2 = 0")
        raise PowerCut

    night = run_in(home, warehouse=broken_into(settings_of(home), moment, cut))
    assert (night.outcome, night.exit_code) == ("failed", 1)
    assert "PowerCut" in " ".join(night.sentences)
    assert published(home) == before

    night = run_in(home)
    assert night.outcome == "released", night.sentences
    # Visits change no account: but for what is said of the new file, every table is that of the run that did not die.
    assert set(differing_tables(base_home, home)) == {"landing.files", "staging.row_counts"}
    assert audience_files(home) == audience_files(base_home)
    assert not list((home / "releases").glob(".building-*"))


def test_the_same_deliveries_at_an_earlier_day_are_another_release(
    home: Path, instance: dg.DagsterInstance, retailer: Any, run_in: Any
) -> None:
    """What was delivered since is not read, although it lies there: so accounts that it had joined come apart again."""
    past = retailer.LAST - timedelta(days=3)
    night = run_in(home, as_of=past, accept={"identity": "we look at last week", "segment": "we look at last week"})
    assert night.outcome == "released", night.sentences
    current = release.current_release(home)
    assert current is not None
    with duckdb.connect(str(current.directory / "cocanal.duckdb"), read_only=True) as connection:
        ((newest, latest_purchase),) = connection.execute(
            "select (select max(delivered_on) from landing.files), (select max(business_on) from account.transactions)"
        ).fetchall()
    assert newest == past
    assert latest_purchase <= past
