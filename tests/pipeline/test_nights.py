"""However the deliveries were spread over nights, whatever the order of rows, wherever a run died: the same tables."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from dagster_project.domain import release
from dagster_project.nightly import run_night


@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.long)])
def test_many_nights_end_with_the_tables_of_one(
    step: int,
    tmp_path: Path,
    base_home: Path,
    deliveries: Any,
    retailer: Any,
    supplier: Any,
    instance: dg.DagsterInstance,
    settings_of: Any,
    run_in: Any,
    published: Any,
    differing_tables: Any,
    audience_files: Any,
) -> None:
    """The base home took everything in one night; here each night reads what was there by then, in another order."""
    home = tmp_path / "home"
    supplier(home / "landing").deliver_all(deliveries, shuffled_by=5)
    settings = settings_of(home).model_copy(update={"keep_releases": 3})
    nights = retailer.DAYS[::step]
    assert nights[-1] == retailer.LAST
    for day in nights:
        # So few people make the shares of segments jump from night to night; that is not what is tested here.
        night = run_night(settings, as_of=day, accept={"segment": "much of the history arrives each night"})
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
    assert len(release.list_releases(home)) == 3

    # The same again brings nothing new: nothing is published, nothing is touched.
    before = published(home)
    night = run_in(home)
    assert (night.outcome, night.exit_code) == ("nothing_new", 0)
    assert set(night.seconds) <= {"landing"}
    assert published(home) == before


class PowerCut(Exception):
    """What ends a run in the middle."""


@pytest.mark.parametrize(
    "moments",
    [
        ("identity", "release gate"),
        *(pytest.param((moment,), marks=pytest.mark.long) for moment in ("identity", "release gate")),
    ],
    ids="-".join,
)
def test_runs_that_died_cost_nothing_but_their_time(
    moments: tuple[str, ...],
    home: Path,
    base_home: Path,
    retailer: Any,
    supplier: Any,
    instance: dg.DagsterInstance,
    settings_of: Any,
    broken_into: Any,
    run_in: Any,
    published: Any,
    differing_tables: Any,
    audience_files: Any,
) -> None:
    """Before it is known who is who, or when all is built and the release is not judged, or one after the other."""
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

    for moment in moments:
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
