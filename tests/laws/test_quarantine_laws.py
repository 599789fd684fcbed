"""What is refused, when it leaves quarantine again, and that numbers nobody can believe break nothing."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from dagster_project.domain.contract import feeds

DAYS = tuple(date(2020, 7, day) for day in range(6, 10))
LOST = """
    delivered_row_count <> current_row_count + identical_row_count + superseded_row_count + refused_row_count
    or delivered_amount <> current_amount + identical_amount + superseded_amount + refused_amount
"""
_EARLIER, _LATER = "2020-07-01T10:00:00Z", "2020-07-02T10:00:00Z"


def order(version: str = _EARLIER, **changed: Any) -> dict[str, Any]:
    return {
        "order_id": "O1",
        "ordered_at": _EARLIER,
        "updated_at": version,
        "status": "paid",
        "fulfilment": "delivery",
        "total_amount": Decimal("5.00"),
        **changed,
    }


def refund(**changed: Any) -> dict[str, Any]:
    return {"refund_id": "R1", "refunded_at": _EARLIER, "total_amount": Decimal("-5.00"), **changed}


def product(**changed: Any) -> dict[str, Any]:
    return {"product_id": "P1", "name": "Thing", "category": "Things", "price": Decimal("3.00"), **changed}


# What each day delivers of one key, and how many of its rows are in quarantine once that day has come.
CORRECTIONS: dict[str, tuple[str, list[list[dict[str, Any]]], list[int]]] = {
    "a row that comes again corrected leaves": (
        "shop_refunds",
        [[refund(total_amount="?")], [refund()]],
        [1, 0, 0],
    ),
    "a row that comes again broken does not": (
        "shop_refunds",
        [[refund(total_amount="?")], [refund(refunded_at="?")], [refund()]],
        [1, 2, 0],
    ),
    "a newer row that is broken waits beside the older one that counts": (
        "shop_refunds",
        [[refund()], [refund(total_amount="?")]],
        [0, 1, 1],
    ),
    "within one file position says nothing": ("shop_refunds", [[refund(total_amount="?"), refund()]], [1, 1, 1]),
    "an older version corrects nothing": (
        "shop_orders",
        [[order(_LATER, total_amount="?")], [order(_EARLIER)], [order(_LATER)]],
        [1, 1, 0],
    ),
    "a version that cannot be read is corrected by any later delivery": (
        "shop_orders",
        [[order("?")], [order(_EARLIER)]],
        [1, 0, 0],
    ),
    "an outdated version would not have counted anyway": (
        "shop_orders",
        [[order(_LATER)], [order(_EARLIER, total_amount="?")]],
        [0, 0, 0],
    ),
    "a whole table without the key replaces what was refused": (
        "products",
        [[product(price="?")], [product(product_id="other")], [product(price="?")]],
        [1, 0, 2],
    ),
}


def test_a_row_leaves_quarantine_when_it_is_delivered_again_corrected(
    tmp_path: Path, supplier: Any, walk: Callable[..., Any]
) -> None:
    found: dict[str, list[int]] = {said: [] for said in CORRECTIONS}
    for night, day in enumerate(DAYS[:3]):
        rows: dict[str, list[dict[str, Any]]] = {}
        for said, (feed, nights, _) in CORRECTIONS.items():
            key = feeds()[feed].key[0]
            for row in nights[night] if night < len(nights) else ():
                rows.setdefault(feed, []).append({**row, key: said if row[key] != "other" else "other"})
        if night == 0:  # without a key nobody knows which row it was: it stays
            rows["shop_refunds"].append(refund(refund_id=None))
        for feed, delivered in rows.items():
            supplier(tmp_path / "landing").deliver(feed, day, delivered)
        with walk(tmp_path, day, until="staging") as connection:
            counts = dict(
                connection.execute("select record_id, count(*) from staging.quarantine group by 1").fetchall()
            )
            assert counts.pop(None) == 1
            for said in CORRECTIONS:
                found[said].append(counts.get(said, 0))
            assert connection.execute(f"select feed from staging.row_counts where {LOST}").fetchall() == []
            ((listed, texts),) = connection.execute(
                "select count(*), count(*) filter (where delivered_row like '%|%') from staging.refused_rows"
            ).fetchall()
            assert listed == texts == sum(counts.values()) + 1
    assert found == {said: expected for said, (_, _, expected) in CORRECTIONS.items()}


def test_a_corrected_line_leaves_quarantine_with_its_header(tmp_path: Path, supplier: Any, walk: Any) -> None:
    """Until the header comes nothing counts, so both deliveries of the line wait: one broken, one without header."""
    line = {"order_id": "O1", "line_no": 1, "product_id": "P1", "quantity": 1, "unit_price": Decimal(5)}
    put = supplier(tmp_path / "landing").deliver
    put("shop_order_lines", DAYS[0], [{**line, "amount": "?"}])
    put("shop_order_lines", DAYS[1], [{**line, "amount": Decimal(5)}])
    put("shop_orders", DAYS[2], [order()])
    found = []
    for day in DAYS[:3]:
        with walk(tmp_path, day, until="staging") as connection:
            found.append(
                connection.execute(
                    "select rule, amount from staging.quarantine where feed = 'shop_order_lines' order by rule"
                ).fetchall()
            )
            amounts = connection.execute(
                """
                select delivered_amount, current_amount, superseded_amount, refused_amount
                from staging.row_counts where feed = 'shop_order_lines'
                """
            ).fetchall()
    assert found == [
        [("unreadable_value", None)],
        [("header_missing", Decimal("5.00")), ("unreadable_value", None)],
        [],
    ]
    assert amounts == [(Decimal("5.00"), Decimal("5.00"), Decimal("0.00"), Decimal("0.00"))]


def test_numbers_and_years_that_nobody_can_believe_are_refused_and_break_nothing(
    tmp_path: Path, supplier: Any, walk: Any
) -> None:
    line = {"order_id": "GOOD", "product_id": "P1", "quantity": 1, "unit_price": "1.00", "amount": "1.00"}
    customer = {"created_at": _EARLIER, "updated_at": _EARLIER}
    shop = {"name": "Shop", "postal_code": "31000"}
    sensitivity = {"key_type": "card_id", "key_value": "29", "topic": "grief", "from_at": _EARLIER}
    rows: dict[str, list[dict[str, Any]]] = {
        "shop_orders": [
            order(order_id="GOOD"),
            order(order_id="MOST", total_amount="999999999.99"),
            order(order_id="LEAST", total_amount="-999999999.99"),
            order(order_id="SHIPPING", shipping_amount="9999999999999999.99"),
            *[
                order(order_id=f"SUM{n}", total_amount=amount)
                for n, amount in enumerate(("1000000000.00", "9999999999999999.99", "-99999999999999999999", "9" * 300))
            ],
            *[order(order_id=f"WORD{n}", total_amount=word) for n, word in enumerate(("NaN", "inf", "1e5", "0x10"))],
            *[order(order_id=f"YEAR{n}", ordered_at=f"{n:04d}-01-01T00:00:00Z") for n in (0, 1, 1799)],
        ],
        "shop_order_lines": [
            {**line, "line_no": 1, "quantity": 10**6},
            {**line, "line_no": 2, "quantity": 10**6 + 1},
            {**line, "line_no": 3, "quantity": 10**18},
            {**line, "line_no": 4, "quantity": "9" * 40},
        ],
        "shop_customers": [
            {**customer, "customer_id": f"C{n}", "birth_date": birth}
            for n, birth in enumerate(("1990-02-01", "0001-01-01", "2030-01-01", "9999-12-31"))
        ],
        "stores": [
            {**shop, "store_id": "S1", "latitude": "43.6", "longitude": "1.44", "closed_on": "9999-12-31"},
            {**shop, "store_id": "S2", "latitude": "90.1", "longitude": "9" * 400},
        ],
        "sensitivities": [
            {**sensitivity, "sensitivity_id": "E1", "until_at": "9999-12-31T00:00:00Z"},
            {**sensitivity, "sensitivity_id": "E2", "until_at": "9999-12-31T23:59:59-11:00"},
            {**sensitivity, "sensitivity_id": "E3", "from_at": "0001-01-01T00:00:00Z"},
        ],
    }
    for feed, feed_rows in rows.items():
        supplier(tmp_path / "landing").deliver(feed, DAYS[0], feed_rows)
    with walk(tmp_path, DAYS[0]) as connection:

        def one(sql: str) -> Any:
            return connection.execute(sql).fetchall()

        refused = dict(one("select record_id, rule from staging.quarantine"))
        assert refused == {
            **{f"SUM{n}": "out_of_bounds" for n in range(4)},
            **{f"WORD{n}": "unreadable_value" for n in range(4)},
            **{f"YEAR{n}": "out_of_bounds" for n in (0, 1, 1799)},
            **{f"GOOD|{n}": "out_of_bounds" for n in (2, 3, 4)},
            "E3": "out_of_bounds",
        }
        reported = one("select column_name, rule, value_count from staging.unreadable_fields order by all")
        assert reported == [
            ("birth_date", "in_the_future", 2),
            ("birth_date", "out_of_bounds", 1),
            ("latitude", "out_of_bounds", 1),
            ("longitude", "out_of_bounds", 1),
            ("shipping_amount", "out_of_bounds", 1),
            ("until_at", "out_of_bounds", 1),
        ]
        assert one("select store_id, latitude, closed_on from staging.stg_stores order by store_id") == [
            ("S1", 43.6, date(9999, 12, 31)),
            ("S2", None, None),
        ]
        assert one("select sum(counted_amount) from account.reconciliation") == [(Decimal("10.00"),)]
        messages = {
            message for (message,) in one("select message from staging.quarantine where rule = 'out_of_bounds'")
        }
        assert {
            "ordered_at cannot be right; it must be of the year 1800 or later; correct it and deliver the row again",
            "quantity cannot be right; it must be between -1000000 and 1000000; correct it and deliver the row again",
        } <= messages
