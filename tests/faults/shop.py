"""A shop whose systems deliver night after night: good rows beside bad ones, written as files with their truth.

Here belong the makers of good rows and how rows become the bytes of a file. What goes wrong is ``catalogue``.
"""

import csv
import gzip
import io
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faults.truth import PARIS, File, Row

from dagster_project.domain.contract import feeds
from dagster_project.domain.landing import intake

# Six nights around the change of clocks of 25 October 2020.
DAYS = tuple(date(2020, 10, day) for day in range(23, 29))
_NATURAL = {
    "moment": pa.timestamp("us", tz="UTC"),
    "date": pa.date32(),
    "boolean": pa.bool_(),
    "integer": pa.int64(),
    "decimal": pa.float64(),
    "amount": pa.decimal128(18, 2),
}


def _text(value: Any, dialect: str) -> str:
    """A value in the plain notation of its feed."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(PARIS).strftime("%d/%m/%Y %H:%M:%S") if dialect == "pos" else value.isoformat()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return f"{value:.2f}".replace(".", ",") if dialect == "pos" else f"{value:.2f}"
    return str(value)


def _csv(file: File, rows: Sequence[Row], has_header: bool = True) -> bytes:
    shape = feeds()[file.feed]
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=";" if shape.dialect == "pos" else ",", lineterminator="\n")
    columns = file.columns or (*shape.column_names, *file.extra)
    if has_header:
        writer.writerow(columns)
    for row in rows:
        if row.line is not None:
            out.write(row.line + "\n")
            continue
        cells = {**file.extra, **{name: _text(value, shape.dialect) for name, value in row.values.items()}, **row.texts}
        writer.writerow([cells.get(name, "") for name in columns])
    text = out.getvalue()
    # A lone surrogate stands for a byte that is not UTF-8.
    return text.encode("latin-1") if shape.dialect == "pos" else text.encode("utf-8", "surrogateescape")


def _parquet(file: File, rows: Sequence[Row]) -> bytes:
    arrays = {}
    for column in feeds()[file.feed].columns:
        values: list[Any] = [row.texts.get(column.name, row.values.get(column.name)) for row in rows]
        type_ = file.types.get(column.name, _NATURAL.get(column.type, pa.string()))
        if pa.types.is_string(type_):
            values = [None if value is None else str(value) for value in values]
        elif pa.types.is_floating(type_):
            values = [None if value is None else float(value) for value in values]
        elif pa.types.is_timestamp(type_) and type_.tz is None:
            values = [None if value is None else value.astimezone(PARIS).replace(tzinfo=None) for value in values]
        arrays[column.name] = pa.array(values, type_)
    out = io.BytesIO()
    pq.write_table(pa.table(arrays), out)
    return out.getvalue()


def content(file: File, rows: Sequence[Row] | None = None) -> bytes:
    """The bytes of a file as they are delivered."""
    rows = [*file.rows, *file.hidden] if rows is None else rows
    whole = _parquet(file, rows) if file.name.endswith(".parquet") else _csv(file, rows)
    if file.name.endswith(".gz"):
        whole = gzip.compress(whole, mtime=0)
    return file.damage(whole) if file.damage else whole


def growth(file: File) -> bytes:
    """What is appended to the file while it is read."""
    return _csv(file, file.growing, has_header=False)


def let_grow(monkeypatch: pytest.MonkeyPatch, landing: Path, files: Iterable[File]) -> None:
    """Have the files of a landing folder that grow do so as soon as they have been read for the first time."""
    waiting = {landing / file.path: growth(file) for file in files if file.growing}
    read_file = intake.read_file

    def read_and_append(connection: Any, found: Any, path: Path, *others: Any, **named: Any) -> Any:
        outcome = read_file(connection, found, path, *others, **named)
        if path in waiting:
            with path.open("ab") as out:
                out.write(waiting.pop(path))
        return outcome

    monkeypatch.setattr(intake, "read_file", read_and_append)


class Shop:
    """Collects what is delivered on each night. Rows go into one file per feed and night, or into a file of their own.

    Tables that are delivered whole come on each night on which something is announced, with all that was before.
    """

    def __init__(self) -> None:
        self.defect = ""
        self._number = 0
        self._rows: dict[tuple[str, int], list[Row]] = defaultdict(list)
        self._announced: list[tuple[int, Row]] = []
        self._own: list[File] = []
        self._acts: list[tuple[int, Callable[[Path], None]]] = []
        self._nights: set[int] = set()

    # What is delivered.

    def deliver(self, night: int, *rows: Row) -> None:
        for row in rows:
            self._rows[row.feed, night].append(replace(row, defect=self.defect))
        self._note(night)

    def announce(self, night: int, *rows: Row) -> None:
        self._announced += [(night, replace(row, defect=self.defect)) for row in rows]
        self._note(night)

    def file(self, night: int, name: str, rows: Iterable[Row], *, day: int | None = None, **how: Any) -> File:
        """Deliver a file of its own; ``day`` is the night in whose folder it is put, where that is another one."""
        marked = [replace(row, defect=self.defect) for row in rows]
        feed = how.pop("feed", None) or marked[0].feed
        file = File(feed, DAYS[night if day is None else day], night, name, marked, defect=self.defect, **how)
        self._own.append(file)
        self._note(night, *([night + 1] if file.growing else []))
        return file

    def act(self, night: int, happen: Callable[[Path], None]) -> None:
        """Do something else in the landing folder."""
        self._acts.append((night, happen))
        self._note(night)

    def _note(self, *nights: int) -> None:
        self._nights.update(nights)

    @property
    def nights(self) -> list[int]:
        """The nights on which something happens."""
        return sorted(self._nights)

    def files(self, order: int) -> list[File]:
        """Every file; ``order`` is the seed of the order of the rows in those that the shop's systems write."""
        found = list(self._own)
        for feed in ("stores", "products"):
            for night in sorted({night for night, row in self._announced if row.feed == feed}):
                known = {row.key: row for told, row in self._announced if row.feed == feed and told <= night}
                found.append(File(feed, DAYS[night], night, "part_01.csv", list(known.values())))
        for (feed, night), rows in self._rows.items():
            found.append(File(feed, DAYS[night], night, "part_01.csv", list(rows)))
        for file in found:
            if file.name == "part_01.csv":
                random.Random(f"{order} {file.path}").shuffle(file.rows)
        return found

    def arrive(self, landing: Path, files: Iterable[File], night: int) -> None:
        """Write what comes on a night into the landing folder."""
        for file in files:
            if file.night == night:
                path = landing / file.path
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content(file))
        for when, happen in self._acts:
            if when == night:
                happen(landing)

    # Good rows, each with a key of its own.

    def id(self, prefix: str) -> str:
        self._number += 1
        return f"{prefix}9{self._number:05d}"

    @staticmethod
    def at(night: int, hour: int = 12, days: int = 1) -> datetime:
        """An hour in Paris, so many days before the night."""
        return datetime.combine(DAYS[night] - timedelta(days=days), time(hour), PARIS).astimezone(UTC)

    def ticket(self, night: int, total: str = "20.00", **values: Any) -> Row:
        plain = {
            "ticket_id": self.id("T"),
            "store_id": "S1",
            "register_id": "R1",
            "sold_at": self.at(night),
            "ticket_type": "sale",
            "total_amount": Decimal(total),
        }
        return Row("pos_tickets", {**plain, **values})

    def order(self, night: int, total: str = "30.00", **values: Any) -> Row:
        plain = {
            "order_id": self.id("O"),
            "first_name": "Aurore",
            "last_name": "Brindille",
            "ordered_at": self.at(night),
            "updated_at": self.at(night),
            "status": "paid",
            "fulfilment": "delivery",
            "total_amount": Decimal(total),
        }
        return Row("shop_orders", {**plain, **values})

    def refund(self, night: int, order: Row | None, total: str = "-5.00", **values: Any) -> Row:
        plain = {
            "refund_id": self.id("R"),
            "order_id": order.values["order_id"] if order else None,
            "refunded_at": self.at(night),
            "reason": "broken",
            "total_amount": Decimal(total),
        }
        return Row("shop_refunds", {**plain, **values})

    @staticmethod
    def line(header: Row, line_no: int = 1, amount: str | None = None, product: str = "P1") -> Row:
        """A line that makes up the whole amount of its header, or the given one."""
        shape = next(feed for feed in feeds().values() if feed.header == header.feed)
        worth = header.values["total_amount"] if amount is None else Decimal(amount)
        sign = -1 if worth < 0 else 1
        values = {
            shape.key[0]: header.values[shape.key[0]],
            "line_no": line_no,
            "product_id": product,
            "quantity": sign,
            "unit_price": worth * sign,
            "amount": worth,
        }
        return Row(shape.name, {name: value for name, value in values.items() if name in shape.column_names})

    def with_line(self, *headers: Row) -> list[Row]:
        return [row for header in headers for row in (header, self.line(header))]

    def customer(self, night: int, **values: Any) -> Row:
        number = self.id("C")
        plain = {
            "customer_id": number,
            "email": f"{number.lower()}.brindille@mail.example",
            "first_name": "Aurore",
            "last_name": "Brindille",
            "address_line1": "12 rue des Bouleaux",
            "postal_code": "31000",
            "city": "Toulouse",
            "created_at": self.at(night, days=300),
            "updated_at": self.at(night),
        }
        return Row("shop_customers", {**plain, **values})

    def stock(self, night: int, product: str, quantity: int, **values: Any) -> Row:
        plain = {"location_id": "S1", "product_id": product, "quantity": quantity, "counted_at": self.at(night)}
        return Row("stock", {**plain, **values})

    def event(self, night: int, **values: Any) -> Row:
        plain = {
            "event_id": self.id("E"),
            "session_id": self.id("V"),
            "event": "visit",
            "occurred_at": self.at(night),
        }
        return Row("web_events", {**plain, **values})

    def store(self, store_id: str, **values: Any) -> Row:
        return Row("stores", {"store_id": store_id, "name": f"Shop {store_id}", "postal_code": "31000", **values})

    def product(self, product_id: str, **values: Any) -> Row:
        plain = {"product_id": product_id, "name": f"Thing {product_id}", "category": "Things"}
        return Row("products", {**plain, "price": Decimal("9.90"), **values})

    def surround(self) -> None:
        """Give the defect what it needs around it: shops and products, and good rows beside the bad ones."""
        nights = self.nights
        self.announce(0, *(self.store(f"S{n}") for n in (1, 2)), *(self.product(f"P{n}") for n in range(1, 9)))
        for night in nights:
            order = self.order(night)
            refund = self.refund(night, order)
            self.deliver(
                night,
                *self.with_line(self.ticket(night), order, refund),
                self.customer(night),
                self.event(night),
            )
        self._nights = set(nights)
