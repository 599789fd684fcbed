"""What staging keeps: no row is lost or made up, the order of rows in a file does not matter, the latest wins.

All feeds at once, walked from generated files with the landing reader and the models of staging.
"""

import random
import shutil
from collections import Counter, defaultdict
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws.effort import QUICK

from dagster_project.domain.contract import Feed, feeds

DAYS = tuple(date(2020, 7, day) for day in range(6, 11))


def _value(draw: random.Random, feed: Feed, name: str, type_: str, choices: tuple[str, ...], day: date) -> str:
    """A value of a type in the feed's notation, one in fifty of which cannot be read."""
    is_till = feed.dialect == "pos"
    moment = (
        f"09/07/20{draw.randrange(10, 20)} 1{draw.randrange(10)}:00:00"
        if is_till
        else (f"20{draw.randrange(10, 20)}-07-09T1{draw.randrange(10)}:00:00+02:00")
    )
    amount = f"{draw.randrange(100)}.{draw.randrange(100):02d}"
    if draw.random() < 0.02:
        return draw.choice(("", "?", "31/02/2020", "1.2.3", "2999-01-01T00:00:00Z"))
    if choices:
        return draw.choice(choices)
    return {
        "moment": moment,
        "date": f"19{draw.randrange(40, 99)}-03-0{draw.randrange(1, 10)}",
        "time": f"{draw.randrange(10, 24)}:30",
        "boolean": draw.choice(("true", "false")),
        "integer": str(draw.randrange(1, 9)),
        "decimal": f"{draw.randrange(90)}.5",
        "amount": amount.replace(".", ",") if is_till else amount,
        "email": f"{name}{draw.randrange(50)}@mail.example",
        "phone": f"04 65 71 00 {draw.randrange(10, 99)}",
        "country": draw.choice(("FR", "Belgique", "Atlantis")),
        "key_value": f"someone{draw.randrange(60)}@mail.example",
    }.get(type_, f"{name} {draw.randrange(40)}")


def random_deliveries(seed: int) -> dict[tuple[str, date], list[dict[str, Any]]]:
    """Rows of every feed over five days, whose keys repeat within and between files, with and without other content."""
    draw = random.Random(seed)
    found: dict[tuple[str, date], list[dict[str, Any]]] = {}
    for feed in feeds().values():
        for day in DAYS:
            rows: list[dict[str, Any]] = []
            for _ in range(draw.randrange(0, 30)):
                row: dict[str, Any] = {
                    column.name: _value(draw, feed, column.name, column.type, column.choices, day)
                    for column in feed.columns
                }
                if "key_type" in row:
                    row["key_type"] = "email"
                row[feed.key[0]] = draw.choice(
                    ("", *(f"K{n}" for n in range(12))) if feed.header is None else [f"K{n}" for n in range(16)]
                )
                rows += [row] * draw.choice((1, 1, 1, 2))
            found[feed.name, day] = rows
    return found


def staged(connection: Any, feed: str) -> list[tuple[Any, ...]]:
    """The rows of a staging table as the contract's columns and where they come from, but for the line."""
    return sorted(connection.execute(f"select * exclude (line) from staging.stg_{feed}").fetchall(), key=repr)


def test_every_delivered_row_is_current_or_superseded_or_refused(tmp_path: Path, supplier: Any, walk: Any) -> None:
    @QUICK
    @given(seed=st.integers(0, 2**32))
    def holds(seed: int) -> None:
        shutil.rmtree(tmp_path / "home", ignore_errors=True)
        deliveries = random_deliveries(seed)
        supplier(tmp_path / "home" / "landing").deliver_all(deliveries)
        with walk(tmp_path / "home", DAYS[-1], until="staging") as connection:
            for feed in feeds().values():
                delivered = sum(len(rows) for (name, _), rows in deliveries.items() if name == feed.name)
                places: Counter[tuple[int, int]] = Counter()
                for file_no, line in connection.execute(
                    f"select file_no, line from staging.stg_{feed.name}"
                ).fetchall():
                    places[file_no, line] += 1
                for file_no, line in connection.execute(
                    """
                    select files.file_no, quarantine.line
                    from staging.quarantine as quarantine
                    join landing.files as files using (feed, file)
                    where feed = $1
                    """,
                    [feed.name],
                ).fetchall():
                    places[file_no, line] += 1
                assert set(places.values()) <= {1}, f"a row of {feed.name} is both current and refused, or twice"
                # What is neither lost to a later row of its key. For a table that is delivered whole, to a later day.
                given_rows = connection.execute(
                    f"select file_no, line, {', '.join(feed.key)} from landing.{feed.name}"
                ).fetchall()
                assert len(given_rows) == delivered
                keys = ", ".join(f"cast({key} as varchar)" for key in feed.key)
                current = set(connection.execute(f"select {keys} from staging.stg_{feed.name}").fetchall())
                for file_no, line, *key in given_rows:
                    if (file_no, line) not in places and not feed.whole_table:
                        assert tuple(key) in current, f"a row of {feed.name} is gone"

            # ... and the pipeline's own account of it says the same.
            for feed, delivered, replaced, outranked, *others in connection.execute(
                """
                select feed, delivered_row_count, replaced_row_count, outranked_row_count,
                    current_row_count, identical_row_count, superseded_row_count, refused_row_count
                from staging.row_counts
                """
            ).fetchall():
                assert delivered == sum(others)
                assert min(replaced, outranked, *others) >= 0
                assert replaced + outranked <= others[2]
                assert replaced == 0 or feeds()[feed].whole_table
            for delivered, *parts in connection.execute(
                """
                select delivered_amount, current_amount, identical_amount, superseded_amount, refused_amount
                from staging.row_counts where delivered_amount is not null
                """
            ).fetchall():
                assert delivered == sum(parts)

    holds()


def test_the_order_of_rows_in_a_file_changes_nothing(tmp_path: Path, supplier: Any, walk: Any) -> None:
    @QUICK
    @given(seed=st.integers(0, 2**32))
    def holds(seed: int) -> None:
        found = []
        for name, shuffled_by in (("one", None), ("other", seed)):
            home = tmp_path / name
            shutil.rmtree(home, ignore_errors=True)
            supplier(home / "landing").deliver_all(random_deliveries(seed), shuffled_by)
            with walk(home, DAYS[-1], until="staging") as connection:
                tables = {feed: staged(connection, feed) for feed in feeds()}
                tables["quarantine"] = sorted(
                    connection.execute("select * exclude (line) from staging.quarantine").fetchall(), key=repr
                )
            found.append(tables)
        assert found[0].keys() == found[1].keys()
        for table in found[0]:
            assert found[0][table] == found[1][table], f"{table} depends on the order of rows"

    holds()


def test_the_greatest_version_wins_then_the_latest_delivery(tmp_path: Path, supplier: Any, walk: Any) -> None:
    """Judged from the delivered rows themselves, for a feed with a version and one without."""

    @QUICK
    @given(seed=st.integers(0, 2**32))
    def holds(seed: int) -> None:
        draw = random.Random(seed)
        home = tmp_path / "home"
        shutil.rmtree(home, ignore_errors=True)
        last: dict[str, dict[str, tuple[Any, str]]] = defaultdict(dict)
        for day in DAYS:
            customers, refunds = [], []
            for key in draw.sample(range(40), 25):
                version = f"2020-07-0{draw.randrange(1, 6)}T1{draw.randrange(10)}:00:00Z"
                city = f"City {draw.randrange(10**6)}"
                customers.append(
                    {
                        "customer_id": f"C{key}",
                        "created_at": "2019-01-01T00:00:00Z",
                        "updated_at": version,
                        "city": city,
                    }
                )
                rank: Any = (version, day)
                last["customers"][f"C{key}"] = max(last["customers"].get(f"C{key}", (rank, city)), (rank, city))
                reason = f"reason {draw.randrange(10**6)}"
                is_refused = draw.random() < 0.2  # the newest row cannot be read: the older one stays in force
                refunds.append(
                    {
                        "refund_id": f"R{key}",
                        "refunded_at": "2020-07-01T10:00:00Z",
                        "reason": reason,
                        "total_amount": "?" if is_refused else Decimal("-1.00"),
                    }
                )
                if not is_refused:
                    last["refunds"][f"R{key}"] = (day, reason)
            supplier(home / "landing").deliver("shop_customers", day, customers)
            supplier(home / "landing").deliver("shop_refunds", day, refunds)
        with walk(home, DAYS[-1], until="staging") as connection:
            customers_kept = dict(
                connection.execute("select customer_id, city from staging.stg_shop_customers").fetchall()
            )
            refunds_kept = dict(connection.execute("select refund_id, reason from staging.stg_shop_refunds").fetchall())
        assert customers_kept == {key: city for key, (_, city) in last["customers"].items()}
        assert refunds_kept == {key: reason for key, (_, reason) in last["refunds"].items()}

    holds()


@pytest.mark.parametrize("is_header_first", [True, False])
def test_a_line_waits_for_its_header_and_leaves_quarantine_when_it_comes(
    tmp_path: Path, supplier: Any, walk: Any, is_header_first: bool
) -> None:
    order = {
        "order_id": "O1",
        "ordered_at": "2020-07-05T10:00:00Z",
        "updated_at": "2020-07-05T10:00:00Z",
        "status": "paid",
        "fulfilment": "delivery",
        "total_amount": Decimal("5.00"),
    }
    line = {
        "order_id": "O1",
        "line_no": 1,
        "product_id": "P1",
        "quantity": 1,
        "unit_price": Decimal(5),
        "amount": Decimal(5),
    }
    first, second = [("shop_orders", order), ("shop_order_lines", line)][:: 1 if is_header_first else -1]
    put = supplier(tmp_path / "landing").deliver
    put(first[0], DAYS[0], [first[1]])
    put(second[0], DAYS[1], [second[1]])
    counts = []
    for day in DAYS[:2]:
        with walk(tmp_path, day, until="staging") as connection:
            counts += connection.execute(
                """
                select (select count(*) from staging.stg_shop_order_lines),
                    (select count(*) from staging.quarantine where rule = 'header_missing')
                """
            ).fetchall()
    assert counts == ([(0, 0), (1, 0)] if is_header_first else [(0, 1), (1, 0)])
