"""The importer of Online Retail II: each quirk of the export on a frame of a few lines."""

import csv
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagster_project.domain.contract import feeds
from dagster_project.importers import IMPORTERS
from dagster_project.settings import SettingsError

_COLUMNS = ("Invoice", "StockCode", "Description", "Quantity", "InvoiceDate", "Price", "Customer ID", "Country")
Line = tuple[Any, ...]
Import = Callable[..., dict[str, list[dict[str, str]]]]


def _line(
    invoice: str,
    code: str = "85123A",
    quantity: int = 1,
    price: float = 2.5,
    *,
    at: str = "2010-01-04 10:00",
    customer: int | None = 13085,
    country: str = "United Kingdom",
    description: str = "WHITE HANGING HEART",
) -> Line:
    return (invoice, code, description, quantity, datetime.fromisoformat(at), price, customer, country)


def _write(path: Path, lines: list[Line]) -> Path:
    pq.write_table(pa.table({name: [line[i] for line in lines] for i, name in enumerate(_COLUMNS)}), path)
    return path


def _delivered(landing: Path) -> dict[str, list[dict[str, str]]]:
    """Every delivered row by feed, with its day of delivery as ``on``."""
    found: dict[str, list[dict[str, str]]] = {feed: [] for feed in feeds()}
    for path in sorted(landing.glob("*/*/*")):
        with path.open(encoding="utf-8", newline="") as source:
            found[path.parts[-3]] += [{**row, "on": path.parts[-2]} for row in csv.DictReader(source)]
    return found


@pytest.fixture
def imported(tmp_path: Path) -> Import:
    def run(*files: list[Line]) -> dict[str, list[dict[str, str]]]:
        paths = [_write(tmp_path / f"sheet_{number}.parquet", lines) for number, lines in enumerate(files)]
        IMPORTERS["online-retail"](paths, tmp_path / "landing", lambda told: None)
        return _delivered(tmp_path / "landing")

    return run


def test_an_invoice_is_a_delivered_order_of_its_customer(imported: Import) -> None:
    rows = imported([_line("500001", quantity=12, price=6.95), _line("500001", "22041", quantity=2, price=2.1)])
    (order,) = rows["shop_orders"]
    assert order == {
        "order_id": "500001",
        "customer_id": "13085",
        "country": "United Kingdom",
        "ordered_at": "2010-01-04T10:00:00+00:00",
        "updated_at": "2010-01-04T10:00:00+00:00",
        "status": "delivered",
        "fulfilment": "delivery",
        "total_amount": "87.60",
        "on": "2010-01-05",
    }
    assert [
        (line["line_no"], line["product_id"], line["quantity"], line["unit_price"], line["amount"])
        for line in rows["shop_order_lines"]
    ] == [("1", "85123A", "12", "6.95", "83.40"), ("2", "22041", "2", "2.10", "4.20")]
    assert not rows["shop_refunds"] and not rows["shop_refund_lines"]


def test_every_column_delivered_is_one_of_the_contract(imported: Import) -> None:
    rows = imported([_line("500001"), _line("C500002", quantity=-1)])
    for feed, found in rows.items():
        for row in found:
            assert set(row) - {"on"} <= set(feeds()[feed].column_names), feed


def test_a_credit_note_is_a_refund_of_its_customer_and_no_order(imported: Import) -> None:
    rows = imported([_line("C500002", quantity=-3, price=2.95)])
    (refund,) = rows["shop_refunds"]
    assert (refund["refund_id"], refund["customer_id"], refund["reason"]) == ("C500002", "13085", "credit note")
    assert refund["total_amount"] == "-8.85"
    assert [(line["quantity"], line["amount"]) for line in rows["shop_refund_lines"]] == [("-3", "-8.85")]
    assert not rows["shop_orders"] and not rows["shop_order_lines"]


def test_a_positive_credit_note_keeps_its_sign(imported: Import) -> None:
    rows = imported([_line("C496350", "M", 1, 373.57, customer=None)])
    assert [refund["total_amount"] for refund in rows["shop_refunds"]] == ["373.57"]


def test_a_bad_debt_adjustment_is_a_refund_with_that_reason(imported: Import) -> None:
    rows = imported([_line("A506401", "B", 1, -53594.36, customer=None, description="Adjust bad debt")])
    (refund,) = rows["shop_refunds"]
    assert (refund["reason"], refund["total_amount"], refund["customer_id"]) == ("bad debt adjustment", "-53594.36", "")


def test_a_movement_of_stock_is_a_cancelled_order_with_its_line(imported: Import) -> None:
    rows = imported([_line("489464", "21733", -96, 0.0, customer=None, description="damaged")])
    assert [(order["status"], order["total_amount"]) for order in rows["shop_orders"]] == [("cancelled", "0.00")]
    assert [(line["quantity"], line["amount"]) for line in rows["shop_order_lines"]] == [("-96", "0.00")]


def test_a_gift_among_paid_lines_is_a_line_of_a_delivered_order(imported: Import) -> None:
    rows = imported([_line("500003", customer=None), _line("500003", "22041", 5, 0.0, customer=None)])
    assert [order["status"] for order in rows["shop_orders"]] == ["delivered"]
    assert len(rows["shop_order_lines"]) == 2


def test_a_free_order_of_a_customer_is_an_order(imported: Import) -> None:
    rows = imported([_line("497819", "TEST001", 5, 0.0)])
    assert [order["status"] for order in rows["shop_orders"]] == ["delivered"]


def test_a_line_without_a_customer_makes_a_guest_and_no_customer(imported: Import) -> None:
    rows = imported([_line("500004", customer=None)])
    assert [order["customer_id"] for order in rows["shop_orders"]] == [""]
    assert not rows["shop_customers"]


def test_a_price_below_the_penny_is_rounded_half_up_by_line(imported: Import) -> None:
    rows = imported(
        [_line("500005", "PADS", 1, 0.001), _line("500005", "PADS", 5, 0.001), _line("500005", "PADS", 10, 0.125)]
    )
    assert [line["amount"] for line in rows["shop_order_lines"]] == ["0.00", "0.01", "1.25"]
    assert [line["unit_price"] for line in rows["shop_order_lines"]] == ["0.00", "0.00", "0.13"]
    assert rows["shop_orders"][0]["total_amount"] == "1.26"


def test_identical_lines_of_one_invoice_stay_apart(imported: Import) -> None:
    rows = imported([_line("500006"), _line("500006")])
    assert [line["line_no"] for line in rows["shop_order_lines"]] == ["1", "2"]


def test_an_invoice_of_several_minutes_has_the_first_and_the_last(imported: Import) -> None:
    rows = imported([_line("500007", at="2010-06-07 09:14"), _line("500007", at="2010-06-07 09:12")])
    (order,) = rows["shop_orders"]
    assert (order["ordered_at"], order["updated_at"]) == ("2010-06-07T09:12:00+01:00", "2010-06-07T09:14:00+01:00")


def test_an_invoice_of_two_customers_goes_to_the_first_that_is_named(imported: Import) -> None:
    rows = imported([_line("500008", customer=None), _line("500008", customer=14000), _line("500008", customer=13000)])
    assert [order["customer_id"] for order in rows["shop_orders"]] == ["14000"]
    assert len(rows["shop_order_lines"]) == 3


def test_british_wall_time_gets_the_offset_of_its_season(imported: Import) -> None:
    rows = imported([_line("500009", at="2010-03-27 10:00"), _line("500010", at="2010-03-28 10:00")])
    assert [order["ordered_at"][-6:] for order in rows["shop_orders"]] == ["+00:00", "+01:00"]


def test_a_customer_comes_with_the_first_document_and_when_the_country_changes(imported: Import) -> None:
    rows = imported(
        [
            _line("500011", at="2010-01-04 10:00", country="Belgium"),
            _line("500012", at="2010-02-04 10:00", country="Belgium"),
            _line("500013", at="2010-03-04 10:00", country="Unspecified"),
            _line("C500014", at="2010-04-08 10:00", quantity=-1, country="Spain"),
            _line("500015", at="2010-05-04 10:00", country="Belgium"),
        ]
    )
    assert [(row["on"], row["country"], row["created_at"], row["updated_at"]) for row in rows["shop_customers"]] == [
        ("2010-01-05", "Belgium", "2010-01-04T10:00:00+00:00", "2010-01-04T10:00:00+00:00"),
        ("2010-04-09", "Spain", "2010-01-04T10:00:00+00:00", "2010-04-08T10:00:00+01:00"),
        ("2010-05-05", "Belgium", "2010-01-04T10:00:00+00:00", "2010-05-04T10:00:00+01:00"),
    ]


def test_an_unspecified_country_is_no_country(imported: Import) -> None:
    rows = imported([_line("500016", country="Unspecified")])
    assert [row["country"] for row in rows["shop_orders"] + rows["shop_customers"]] == ["", ""]


def test_stock_codes_are_the_same_in_capitals(imported: Import) -> None:
    rows = imported([_line("500017", "85123a"), _line("500017", "85123A ")])
    assert {line["product_id"] for line in rows["shop_order_lines"]} == {"85123A"}


def test_products_know_nothing_of_later_months(imported: Import) -> None:
    rows = imported(
        [
            _line("500018", "22041", price=2.1, description="RECORD FRAME", at="2010-01-04 10:00"),
            _line("500019", "22041", 9, 0.0, description="damaged", customer=None, at="2010-01-29 10:00"),
            _line("500020", "22041", price=2.55, description="nan", at="2010-02-02 10:00"),
            _line("500021", "POST", price=18.0, description="POSTAGE", at="2010-02-03 10:00"),
        ]
    )
    assert [(row["on"], row["product_id"], row["name"], row["category"], row["price"]) for row in rows["products"]] == [
        ("2010-01-30", "22041", "RECORD FRAME", "goods", "2.10"),
        ("2010-02-04", "22041", "RECORD FRAME", "goods", "2.55"),
        ("2010-02-04", "POST", "POSTAGE", "postage", "18.00"),
    ]


def test_a_product_that_was_never_sold_has_its_code_for_a_name(imported: Import) -> None:
    rows = imported([_line("500022", "84016", -4, 0.0, description="nan", customer=None)])
    assert [(row["name"], row["price"]) for row in rows["products"]] == [("84016", "0.00")]


def test_lines_that_two_sheets_share_come_once(imported: Import) -> None:
    shared = [_line("500023"), _line("500023"), _line("500023", "22041")]
    rows = imported([_line("500022"), *shared], [*reversed(shared), _line("500024")])
    assert [(line["order_id"], line["line_no"]) for line in rows["shop_order_lines"]] == [
        ("500022", "1"),
        ("500023", "1"),
        ("500023", "2"),
        ("500023", "3"),
        ("500024", "1"),
    ]


def test_a_line_that_cannot_be_right_is_delivered_all_the_same(tmp_path: Path) -> None:
    """The importer refuses nothing: the row goes to quarantine in the run, where it is on record."""
    source = tmp_path / "retail.csv"
    source.write_text(
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
        "536365,71053,LANTERN,six,12/1/2010 8:26,3.39,17850.0,United Kingdom\n"
        '536365,22752,"BOX, NESTED",2,12/1/2010 8:26,7.65,17850.0,United Kingdom\n'
        ",22752,BOX,2,12/1/2010 8:26,7.65,17850.0,United Kingdom\n"
        "536366,22752,BOX,2,some day,7.65,17850.0,United Kingdom\n",
        encoding="utf-8",
    )
    IMPORTERS["online-retail"]([source], tmp_path / "landing", lambda told: None)
    rows = _delivered(tmp_path / "landing")
    assert sorted((line["order_id"], line["quantity"], line["amount"]) for line in rows["shop_order_lines"]) == [
        ("", "2", "15.30"),
        ("536365", "", ""),
        ("536365", "2", "15.30"),
        ("536366", "2", "15.30"),
    ]
    assert [(o["order_id"], o["customer_id"], o["ordered_at"], o["on"]) for o in rows["shop_orders"]] == [
        ("536365", "17850", "2010-12-01T08:26:00+00:00", "2010-12-02"),
        ("536366", "17850", "", "2010-12-02"),
        ("", "17850", "2010-12-01T08:26:00+00:00", "2010-12-02"),
    ]


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    source = _write(tmp_path / "retail.parquet", [_line(f"5000{n:02d}", quantity=n, price=n / 7) for n in range(50)])
    contents = []
    for name in ("one", "two"):
        IMPORTERS["online-retail"]([source], tmp_path / name, lambda told: None)
        contents.append(
            {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        )
    assert contents[0] == contents[1]
    assert all(path.suffix == ".csv" for path in contents[0])


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("retail.txt", "Invoice\n1\n", "no .parquet, .csv, .csv.gz file"),
        ("retail.csv", "Invoice,StockCode\n1,2\n", "no column description"),
        ("retail.parquet", "not parquet", "cannot be read"),
        ("undated.csv", ",".join(_COLUMNS) + "\n1,2,X,1,some day,2.5,,France\n", "No InvoiceDate"),
    ],
)
def test_what_is_not_the_export_is_refused_with_a_sentence(tmp_path: Path, name: str, content: str, told: str) -> None:
    source = tmp_path / name
    source.write_text(content, encoding="utf-8")
    with pytest.raises(SettingsError, match=told):
        IMPORTERS["online-retail"]([source], tmp_path / "landing", lambda told: None)
    assert not (tmp_path / "landing").exists()
