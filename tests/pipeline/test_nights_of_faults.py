"""All defects in one shop's deliveries, through the whole pipeline, night after night."""

from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from faults.books import Books
from faults.catalogue import DEFECTS, MOST_UNPACKED_BYTES
from faults.shop import DAYS, Shop, let_grow
from faults.truth import File, Row, Truth

from dagster_project.nightly import run_night
from dagster_project.settings import Settings

PERSONS = 60
# So few people make shares jump from night to night, and so many faults are more than a gate lets pass.
ACCEPTED = dict.fromkeys(("landing", "staging", "identity", "segment", "audience"), "a shop made of faults")


def _shop(retailer: Any, broken_value: str, seed: int) -> Shop:
    """A small retailer's deliveries, dirty as they are, with every defect among them."""
    shop = Shop()
    usual = type("Autumn", (retailer,), {"DAYS": DAYS, "LAST": DAYS[-1]})(seed, PERSONS)
    for (feed, day), rows in usual.deliveries.items():
        for values in rows:
            row = Row(feed, values)
            for column, value in values.items():
                if value == broken_value:
                    row = row.broken(column, value, "unreadable_value")
            put = shop.announce if feed in ("stores", "products") else shop.deliver
            put(DAYS.index(day), row)
    for defect in DEFECTS:
        if not defect.wrong:
            defect.strike(shop)
    return shop


def _run(home: Path, night: int) -> None:
    settings = Settings(home=home, threads=1, memory_limit="1GB", most_unpacked_gb=MOST_UNPACKED_BYTES / 1e9)
    ended = run_night(settings, as_of=DAYS[night], accept=ACCEPTED)
    assert ended.outcome == "released", ended.sentences


@contextmanager
def _warehouse(home: Path) -> Any:
    with duckdb.connect(str(home / "warehouse.duckdb"), read_only=True) as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(f"attach '{home / 'releases' / 'current' / 'cocanal.duckdb'}' as released (read_only)")
        yield connection


def _complaints(home: Path, files: list[File], night: int) -> list[str]:
    with _warehouse(home) as connection:
        books = Books(connection, Truth(files, night))
        books.check_ledger()
        complaints = books.complaints
        for table in ("landing.files", "staging.quarantine", "account.reconciliation", "account.transactions"):
            columns = ", ".join(
                name
                for (name,) in connection.execute(
                    """
                    select column_name from duckdb_columns()
                    where database_name = 'released' and schema_name || '.' || table_name = $1
                    """,
                    [table],
                ).fetchall()
            )
            here, there = (f"select {columns} from {database}{table}" for database in ("", "released."))
            ((count,),) = connection.execute(
                f"select count(*) from (({here} except all {there}) union all ({there} except all {here}))"
            ).fetchall()
            if count:
                complaints.append(f"night {night}: {count} rows of {table} are other ones in the release")
    return complaints


def _night_after_night(
    tmp_path: Path, retailer: Any, broken_value: str, patch: pytest.MonkeyPatch, compare: Any, seed: int, step: int
) -> None:
    """A run every ``step`` days and on the last, each of what has come since; then one of everything."""
    shop = _shop(retailer, broken_value, seed)
    home, files = tmp_path / "nights", shop.files(order=seed)
    let_grow(patch, home / "landing", files)
    for night in range(len(DAYS)):
        shop.arrive(home / "landing", files, night)
        if night % step and night < len(DAYS) - 1:
            continue
        _run(home, night)
        complaints = _complaints(home, files, night)
        assert complaints == [], "\n".join(["", *complaints[:40]])

    # The same at once, its rows in another order: the same tables.
    once = tmp_path / "at_one"  # a path as long: the size of a link is that of where it leads
    files = shop.files(order=seed + 1)
    for night in range(len(DAYS)):
        shop.arrive(once / "landing", files, night)
    for file in files:
        if file.growing:
            path = once / "landing" / file.path
            path.write_bytes((home / "landing" / file.path).read_bytes())
    _run(once, len(DAYS) - 1)
    complaints = _complaints(once, files, len(DAYS) - 1)
    assert complaints == [], "\n".join(["", *complaints[:40]])
    assert compare(home, once) == {}

    # Whatever stood in a name, nothing of it is a tag on the page that people open.
    page = (once / "releases" / "current" / "report" / "index.html").read_text(encoding="utf-8")
    for tag in ("<script>alert", "<img src=x", "<b>bold"):
        assert tag not in page


def test_all_faults_at_once_leave_the_books_in_balance(
    tmp_path: Path,
    retailer: Any,
    broken_value: str,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    differing_tables: Any,
) -> None:
    _night_after_night(tmp_path, retailer, broken_value, monkeypatch, differing_tables, seed=1, step=2)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 12))
def test_all_faults_in_other_shops_leave_the_books_in_balance(
    seed: int,
    tmp_path: Path,
    retailer: Any,
    broken_value: str,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    differing_tables: Any,
) -> None:
    _night_after_night(tmp_path, retailer, broken_value, monkeypatch, differing_tables, seed, step=1)
