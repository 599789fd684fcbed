"""Fixtures that more than one folder of tests needs."""

import csv
import os
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest

from dagster_project import transform
from dagster_project.domain.activation import write_files
from dagster_project.domain.contract import feeds
from dagster_project.domain.countries import write_country_names
from dagster_project.domain.identity import resolve
from dagster_project.domain.landing import tables
from dagster_project.domain.landing.intake import take_in
from dagster_project.domain.phones import write_phone_numbers
from dagster_project.domain.places import write_postal_places
from dagster_project.settings import Settings
from dagster_project.stages import ACCOUNT, AUDIENCE, SEGMENT, STAGES, STAGING

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
        connection.execute(
            f"create table staging.stg_{feed.name} ({columns}, delivered_on date, file_no bigint, line bigint)"
        )
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


_PARIS = ZoneInfo("Europe/Paris")


def _cell(value: Any, type_: str, dialect: str) -> str:
    """A value as the feed's systems write it; a text goes into the file as it is."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(_PARIS).strftime("%d/%m/%Y %H:%M:%S") if dialect == "pos" else value.isoformat()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal) and dialect == "pos":
        return f"{value:.2f}".replace(".", ",")
    return str(value)


@contextmanager
def _outside_environment() -> Iterator[None]:
    """No setting of who runs the tests counts, and none that a run leaves for its child processes stays."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith(("COCANAL_", "DAGSTER_HOME"))]:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    with _outside_environment():
        yield


@pytest.fixture(scope="session")
def outside_environment() -> Callable[[], AbstractContextManager[None]]:
    """The same for fixtures that live longer than a test."""
    return _outside_environment


class Supplier:
    """Puts rows of Python values into a landing folder, in the notation of each feed."""

    def __init__(self, landing: Path) -> None:
        self.landing = landing

    def deliver(self, feed: str, day: date, rows: Iterable[dict[str, Any]], name: str = "part_01.csv") -> Path:
        shape = feeds()[feed]
        folder = self.landing / feed / day.isoformat()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        is_till = shape.dialect == "pos"
        with path.open("w", encoding="latin-1" if is_till else "utf-8", newline="") as out:
            writer = csv.writer(out, delimiter=";" if is_till else ",", lineterminator="\n")
            writer.writerow(shape.column_names)
            for row in rows:
                assert set(row) <= set(shape.column_names), f"{feed} has no {set(row) - set(shape.column_names)}"
                writer.writerow([_cell(row.get(c.name), c.type, shape.dialect) for c in shape.columns])
        return path

    def deliver_all(self, deliveries: "Deliveries", shuffled_by: int | None = None) -> None:
        """Write a file per feed and day; ``shuffled_by`` is the seed of another order of the rows in each file."""
        for (feed, day), rows in sorted(deliveries.items()):
            ordered = list(rows)
            if shuffled_by is not None:
                random.Random(f"{shuffled_by} {feed} {day}").shuffle(ordered)
            self.deliver(feed, day, ordered)


Deliveries = dict[tuple[str, date], list[dict[str, Any]]]


@pytest.fixture(scope="session")
def supplier() -> type[Supplier]:
    return Supplier


BROKEN = "31/02/20,20"  # no moment and no amount in any notation


class Retailer:
    """A small random retailer, made to be awkward: a function of its seed.

    Person ``n`` holds ``C<n>`` (web account), ``D<n>`` (a second one) and ``29<n>`` (card), or some of them, and bought
    on one channel until ninety days before the last day, on both since. Consents, requests and message events pile up
    on a few instants, on every kind of key. Rows come late, twice, broken, in another version, before their header.
    """

    LAST = date(2020, 7, 10)
    DAYS = tuple(date(2020, 7, day) for day in range(1, 11))
    PURPOSES = ("prospecting", "prospecting", "prospecting", "ad_match_search", "ad_match_social", "profiling")

    def __init__(self, seed: int, persons: int) -> None:
        self.draw = random.Random(seed)
        self.deliveries: Deliveries = {}
        self.persons: dict[tuple[str, str], int] = {}  # who stands behind each record of a person
        self._number = 0
        for day in (self.DAYS[0], self.DAYS[-1]):
            self.deliveries["stores", day] = [
                {"store_id": f"S{n}", "name": f"Store {n}", "postal_code": "31000"} for n in (1, 2)
            ]
            self.deliveries["products", day] = [
                {"product_id": f"P{n}", "name": f"Thing {n}", "category": "Things", "price": Decimal(n)}
                for n in range(1, 9)
            ]
        mailbox = None
        for n in range(persons):
            mailbox = self._person(n, mailbox if self.draw.random() < 0.04 else None)

    def _next(self, prefix: str) -> str:
        self._number += 1
        return f"{prefix}{self._number:06d}"

    def _at(self, days_ago: int, hour: int = 12) -> datetime:
        """An instant of a Paris day, in one of the notations of the same instant."""
        day = self.LAST - timedelta(days=days_ago)
        moment = datetime(day.year, day.month, day.day, hour, tzinfo=_PARIS)
        return moment.astimezone(self.draw.choice((_PARIS, UTC, ZoneInfo("America/New_York"))))

    def _deliver(self, feed: str, row: dict[str, Any], moment: datetime, is_dirty: bool = True) -> date:
        earliest = moment.astimezone(_PARIS).date()
        days = [day for day in self.DAYS if day >= earliest] or [self.LAST]
        day = self.draw.choice(days)
        self.deliveries.setdefault((feed, day), []).append(row)
        chance = self.draw.random()
        if is_dirty and chance < 0.03:  # said again, later or in the same file
            self.deliveries.setdefault((feed, self.draw.choice([d for d in days if d >= day])), []).append(row)
        elif is_dirty and chance < 0.045:  # a row of its own that cannot be read
            columns = feeds()[feed].columns
            broken = self.draw.choice([c.name for c in columns if c.mandatory and c.type in ("moment", "amount")])
            self.deliveries[feed, day].append({**row, feeds()[feed].key[0]: self._next("X"), broken: BROKEN})
        return day

    def _word(self) -> str:
        return "".join(self.draw.choice("abcdefghijklmnoprstuvz") for _ in range(8)).capitalize()

    def _person(self, n: int, mailbox: str | None) -> str:
        draw = self.draw
        first, last = self._word(), self._word()
        emails = [mailbox or f"{first}.{last}@mail.example".lower(), f"{last}{n}@poste.example".lower()]
        phone = f"+3346571{n % 10000:04d}"  # a range kept for fiction
        street = f"{draw.randrange(1, 90)} rue {self._word()}"
        person = {
            "first_name": first,
            "last_name": last,
            "birth_date": date(1940 + n % 60, 1 + n % 12, 1 + n % 27),
            "address_line1": street,
            "postal_code": f"{31000 + n % 900}",
            "city": "Toulouse",
            "country": draw.choice((None, "FR", "France")),
        }
        kind = draw.choice(("both", "both", "both", "account", "card"))
        card = f"29{n:06d}" if kind != "account" else None
        account = f"C{n:05d}" if kind != "card" else None
        keys: list[tuple[str, str]] = [("email", mail) for mail in emails] + [("phone", phone)]
        for feed, record in (("shop_customers", account), ("shop_customers", f"D{n:05d}"), ("loyalty_members", card)):
            if record:
                self.persons[feed, record] = n
        if account:
            keys.append(("customer_id", account))
            row = {
                **person,
                "customer_id": account,
                "email": draw.choice((emails[0], emails[0].upper(), f" {emails[0]}")),
                "phone": draw.choice((phone, "0" + phone[3:], None)),
                "loyalty_card_id": card,
                "created_at": self._at(600),
                "updated_at": self._at(600),
            }
            self._deliver("shop_customers", row, row["created_at"])
            if draw.random() < 0.15:  # moved to the other address; an older version may come after it
                changed = {**row, "email": emails[1], "updated_at": self._at(draw.randrange(1, 30))}
                self._deliver("shop_customers", changed, changed["updated_at"])
            if draw.random() < 0.1:
                second = {**row, "customer_id": f"D{n:05d}", "loyalty_card_id": None}
                self._deliver("shop_customers", second, row["created_at"])
                keys.append(("customer_id", f"D{n:05d}"))
        if card:
            keys.append(("card_id", card))
            row = {
                **person,
                "card_id": card,
                "email": draw.choice((emails[0], emails[1], None)) if account else emails[0],
                "phone": draw.choice((phone, None)),
                "enrolled_at": self._at(650),
                "updated_at": self._at(650),
                "status": "active",
            }
            self._deliver("loyalty_members", row, row["enrolled_at"])
        channel = draw.choice(("store", "online"))
        for _ in range(draw.randrange(1, 4)):
            self._buy(n, channel, draw.randrange(100, 600), account, card, emails[0], person)
        for channel in ("store", "online"):
            self._buy(n, channel, draw.randrange(1, 80), account, card, emails[0], person)
        for _ in range(draw.choice((0, 2, 4, 8))):
            self._say(keys)
        if draw.random() < 0.3:
            self._hear(emails[draw.randrange(2)])
        if draw.random() < 0.08:
            key_type, key_value = draw.choice(keys)
            request = {
                "request_id": self._next("Q"),
                "kind": draw.choice(("erasure", "objection", "access")),
                "key_type": key_type,
                "key_value": key_value,
                "received_at": self._at(draw.choice((0, 3, 60))),
            }
            self._deliver("privacy_requests", request, request["received_at"], is_dirty=False)
        return emails[0]

    def _say(self, keys: list[tuple[str, str]]) -> None:
        draw = self.draw
        key_type, key_value = draw.choice(keys)
        if key_type == "email":
            key_value = draw.choice((key_value, key_value.title()))
        elif key_type == "phone":
            key_value = draw.choice((key_value, f"0{key_value[3]} {key_value[4:]}"))
        purpose = draw.choice(self.PURPOSES)
        consent = {
            "consent_id": self._next("K"),
            "key_type": key_type,
            "key_value": key_value,
            "purpose": purpose,
            "channel": draw.choice(("email", "any", "sms")) if purpose == "prospecting" else "any",
            "status": draw.choice(("granted", "granted", "granted", "denied", "withdrawn")),
            # The last is of tomorrow: a till or a form whose clock is ahead.
            "occurred_at": self._at(*draw.choice(((2, 12), (2, 12), (5, 12), (30, 12), (0, 23), (-1, 0)))),
        }
        is_corrected = draw.random() < 0.1
        day = self._deliver("consents", consent, consent["occurred_at"], is_dirty=not is_corrected)
        if is_corrected and day < self.LAST:
            corrected = {**consent, "status": draw.choice(("granted", "denied"))}
            self.deliveries.setdefault(("consents", self.LAST), []).append(corrected)

    def _hear(self, address: str) -> None:
        draw = self.draw
        event = {
            "event_id": self._next("E"),
            "campaign_id": "M1",
            "channel": draw.choice(("email", "email", "sms")),
            "address": address,
            "event": draw.choice(("delivered", "opened", "bounced", "unsubscribed", "complained")),
            "occurred_at": self._at(*draw.choice(((2, 12), (2, 12), (5, 12), (1, 9)))),
        }
        self._deliver("message_events", event, event["occurred_at"])

    def _lines(self, key: str, sign: int) -> tuple[Decimal, list[dict[str, Any]]]:
        lines, total = [], Decimal(0)
        for number in range(1, self.draw.choice((2, 2, 3))):
            price = Decimal(self.draw.randrange(100, 9000)) / 100
            quantity = sign * self.draw.choice((1, 1, 2))
            total += price * quantity
            lines.append(
                {
                    key.split("=")[0]: key.split("=")[1],
                    "line_no": number,
                    "product_id": f"P{self.draw.randrange(1, 10)}",
                    "quantity": quantity,
                    "unit_price": price,
                    "amount": price * quantity,
                }
            )
        return total, lines

    def _buy(
        self,
        n: int,
        channel: str,
        days_ago: int,
        account: str | None,
        card: str | None,
        email: str,
        person: dict[str, Any],
    ) -> None:
        draw = self.draw
        moment = self._at(days_ago, draw.randrange(9, 20))
        if channel == "store":
            ticket = self._next("T")
            total, lines = self._lines(f"ticket_id={ticket}", 1)
            row = {
                "ticket_id": ticket,
                "store_id": draw.choice(("S1", "S2", "S9")),
                "sold_at": moment,
                "ticket_type": "sale",
                "loyalty_card_id": card,
                "email": None if card else email,
                "discount_amount": draw.choice((None, Decimal("0.50"))),
                "total_amount": total,
            }
            row["total_amount"] -= row["discount_amount"] or 0
            header, details = "pos_tickets", "pos_ticket_lines"
        else:
            order = self._next("O")
            total, lines = self._lines(f"order_id={order}", 1)
            names = {name: person[name] for name in ("first_name", "last_name", "address_line1", "postal_code", "city")}
            row = {
                **names,
                "order_id": order,
                "customer_id": account,
                "email": email,
                "ordered_at": moment,
                "updated_at": moment,
                "status": "delivered",
                "fulfilment": "delivery",
                "shipping_amount": draw.choice((None, Decimal("4.90"))),
                "total_amount": total,
            }
            row["total_amount"] += row["shipping_amount"] or 0
            if draw.random() < 0.03:
                row["total_amount"] += Decimal("0.01")  # a header that does not equal its lines
            header, details = "shop_orders", "shop_order_lines"
            if draw.random() < 0.05:
                later = {**row, "status": "cancelled", "updated_at": moment + timedelta(hours=5)}
                self._deliver(header, later, later["updated_at"])
            elif draw.random() < 0.05:
                refund = self._next("R")
                back, back_lines = self._lines(f"refund_id={refund}", -1)
                given = {"refund_id": refund, "order_id": order, "refunded_at": moment, "total_amount": back}
                self._deliver("shop_refunds", given, moment)
                for line in back_lines:
                    line.pop("unit_price")
                    self._deliver("shop_refund_lines", line, moment)
        self.persons[header, row[feeds()[header].key[0]]] = n
        self._deliver(header, row, moment)
        for line in lines:
            self._deliver(details, line, moment)


@pytest.fixture(scope="session")
def retailer() -> type[Retailer]:
    return Retailer


@pytest.fixture(scope="session")
def broken_value() -> str:
    """What stands in a value that cannot be read, in the rows of ``retailer``."""
    return BROKEN


@dataclass(frozen=True)
class CompiledModel:
    """The SQL of one model as dbt made it for DuckDB."""

    stage: str
    name: str
    sql: str


@pytest.fixture(scope="session")
def compiled_models(tmp_path_factory: pytest.TempPathFactory, outside_environment: Any) -> list[CompiledModel]:
    """Every model in an order in which they can be built."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.cli.main import dbtRunner

    home = tmp_path_factory.mktemp("compiled")
    with outside_environment():
        os.environ.update(transform.environment_of_run(Settings(home=home, threads=1)))
        try:
            result = dbtRunner().invoke(
                ["compile", *transform._arguments(home / "dbt"), "--select", "resource_type:model"]
            )
        finally:
            DuckDBConnectionManager.close_all_connections()
    assert result.success, result.exception
    return [CompiledModel(done.node.fqn[1], done.node.name, done.node.compiled_code) for done in result.result]


@pytest.fixture(scope="session")
def walk(compiled_models: list[CompiledModel]) -> Callable[..., Any]:
    """Walk a home's landing as far as a stage; yields the open warehouse. Audience files lie in ``audiences``.

    ``minimum_size`` takes the place of the audiences' own, which a small retailer does not reach.
    """

    @contextmanager
    def walked(
        home: Path, as_of: date, until: str = AUDIENCE, minimum_size: int | None = None, **limits: int
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        settings = Settings(home=home, threads=1)
        intake = take_in(
            settings.landing,
            settings.raw,
            settings.register,
            as_of=as_of,
            connect=duckdb.connect,
            workers=1,
            progress=lambda done, of: None,
            **limits,
        )
        with duckdb.connect(str(settings.warehouse)) as connection:
            connection.execute("set TimeZone = 'UTC'")
            connection.execute("set preserve_insertion_order = false")
            for stage in STAGES:
                connection.execute(f"create schema if not exists {stage}")
            connection.execute(
                """
                create or replace table landing.builds as
                select 'law' as build_id, $1::date as as_of, null::varchar as previous_release_id,
                    null::date as previous_as_of, 0.1::double as holdout_share, 0.02::double as global_holdout_share,
                    'law' as holdout_salt,
                    'EUR' as currency, 'FR' as default_country, 36::bigint as inactive_months
                """,
                [as_of],
            )
            tables.write_files(connection, intake.deliveries, as_of)
            tables.create_views(connection, settings.raw)
            tables.write_rejected_rows(connection)
            tables.write_last_audiences(connection, None)
            tables.write_carried_out(connection, {})
            write_phone_numbers(connection, "FR")
            write_country_names(connection)
            write_postal_places(connection)
            for stage in (STAGING, ACCOUNT, SEGMENT, AUDIENCE):
                if STAGES.index(stage) > STAGES.index(until):
                    break
                if stage == ACCOUNT:
                    resolve(connection, as_of=as_of, run_id="law", previous=None)
                for model in compiled_models:
                    if model.stage != stage:
                        continue
                    connection.execute(f"create or replace table {stage}.{model.name} as {model.sql}")
                    if model.name == "audiences" and minimum_size is not None:
                        connection.execute("update audience.audiences set minimum_size = $1", [minimum_size])
            if until == AUDIENCE:
                write_files(connection, home / "audiences")
            yield connection

    return walked
