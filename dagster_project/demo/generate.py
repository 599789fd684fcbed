"""From a plan to a landing folder: draws the world, makes the rows, writes the files and the truth.

Everything follows from the plan: the same plan gives the same bytes, whatever the machine's number of threads.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from dagster_project.demo import (
    cast,
    catalogue,
    consents,
    dirt,
    files,
    interactions,
    memberships,
    people,
    purchases,
    records,
    seasons,
    trade,
)
from dagster_project.demo.truth import write_truth
from dagster_project.domain.contract import feeds

_CAST_SEQ = 10_000_000_000
"""Where the numbers of the cast's rows begin: behind all others."""


@dataclass(frozen=True)
class DemoPlan:
    """What to generate: how many persons, how many nightly deliveries after the history, and the seed of it all."""

    persons: int = 5000
    nights: int = 3
    seed: int = 7


@dataclass(frozen=True)
class DemoSummary:
    """What was generated: the as-of dates to run, and files and rows per feed."""

    nights: tuple[date, ...]
    files: dict[str, int]
    rows: dict[str, int]

    @property
    def file_count(self) -> int:
        return sum(self.files.values())

    @property
    def row_count(self) -> int:
        return sum(self.rows.values())


def _draw(con: duckdb.DuckDBPyConnection, plan: DemoPlan) -> None:
    """Draw the world into tables of numbers; one random stream per subject, so that they do not disturb each other."""
    streams = iter(np.random.default_rng(plan.seed).spawn(10))
    products = catalogue.products(next(streams))
    world = people.draw_people(next(streams), plan.persons)
    price = products["price"].to_numpy()
    visits = purchases.draw_purchase_days(next(streams), world, "store", purchases.VISITS_PER_PERSON)
    web = purchases.draw_purchase_days(next(streams), world, "online", purchases.ORDERS_PER_PERSON)
    cards, accounts = memberships.draw_memberships(
        next(streams), memberships.first_days(*visits, plan.persons), memberships.first_days(*web, plan.persons)
    )
    tickets, lines = purchases.draw_tickets(next(streams), world, visits, cards, price)
    orders, order_lines = purchases.draw_orders(next(streams), world, web, accounts, price)
    web_tickets, web_lines = purchases.draw_web_tickets(next(streams), orders, order_lines)
    tickets, lines = purchases.stack(tickets, lines, web_tickets, web_lines)
    tables = {
        "people": world,
        "products": products,
        "stores": catalogue.stores(),
        "cards": cards.table("card"),
        "accounts": accounts.table("account"),
        "tickets": _numbered(tickets),
        "ticket_lines": _lines(lines, tickets["day"]),
        "orders": _numbered(orders),
        "order_lines": _lines(order_lines, orders["day"]),
        "web_sessions": interactions.draw_sessions(next(streams), accounts, catalogue.PRODUCTS),
    }
    for name, table in tables.items():
        _store(con, f"create table {name} as select * from drawn", table)


def _store(con: duckdb.DuckDBPyConnection, sql: str, drawn: pa.Table) -> None:
    """Run a statement that reads the Arrow table ``drawn``."""
    con.register("drawn", drawn)
    con.execute(sql)
    con.unregister("drawn")


def _numbered(columns: dict[str, memberships.Ints]) -> pa.Table:
    return pa.table({"n": np.arange(len(columns["person"])), **columns})


def _lines(lines: purchases.Baskets, day: memberships.Ints) -> pa.Table:
    return pa.table(
        {
            "seq": np.arange(len(lines.purchase)),
            "purchase": lines.purchase,
            "line_no": lines.line_no,
            "product": lines.product,
            "quantity": lines.quantity,
            "unit_price": lines.unit_price,
            "day": day[lines.purchase],
        }
    )


def _write_reference(con: duckdb.DuckDBPyConnection, plan: DemoPlan) -> None:
    """The whole tables, each delivered a few times: stores, products, opening hours, stock."""
    rng = np.random.default_rng([plan.seed, 1])
    nights = seasons.nights(plan.nights)
    yearly = [date(2018, 10, 1), date(2019, 7, 1), date(2020, 3, 20), nights[0]]
    hours = pa.concat_tables(
        table.append_column("delivered_on", pa.array([day] * table.num_rows, pa.date32()))
        for day in yearly
        for table in [catalogue.store_hours(day)]
    )
    stock = pa.concat_tables(
        table.append_column("delivered_on", pa.array([day] * table.num_rows, pa.date32()))
        for day in [*yearly[:3], *seasons.stock_counts(nights[0]), *nights]
        for table in [catalogue.stock(rng, day)]
    )
    for name, table in (("store_hours", hours), ("stock", stock)):
        numbered = table.append_column("seq", pa.array(np.arange(table.num_rows)))
        _store(con, f"create table feed_{name} as select * from drawn", numbered)
    days = ", ".join(f"date '{day}'" for day in yearly)
    con.execute(
        f"""
        create table feed_stores as
        select s.* exclude (store), d as delivered_on, row_number() over (order by d, store) as seq
        from stores as s cross join unnest([{days}]) as t(d);
        create table feed_products as
        select p.* exclude (product) replace (cents(price) as price), d as delivered_on,
            row_number() over (order by d, product) as seq
        from products as p cross join unnest([{days}]) as t(d)
        """
    )


def _write_cast(con: duckdb.DuckDBPyConnection) -> None:
    """Add the named cast to the feeds and to the truth."""
    members = cast.cast()
    for feed in feeds().values():
        rows = [row for member in members for row in member.rows if row.feed == feed.name]
        if not rows:
            continue
        columns = [name for name in feed.column_names if any(name in row.values for row in rows)]
        table = pa.table(
            {name: [row.values.get(name) for row in rows] for name in columns}
            | {"day": [row.day for row in rows], "seq": np.arange(len(rows)) + _CAST_SEQ}
        )
        select = "select * exclude (day), delivered_date(day) as delivered_on from drawn"
        _store(con, f"insert into feed_{feed.name} by name {select}", table)
    owners = {record: member for member in members for record in member.owned}
    truth: dict[str, list[dict[str, object]]] = {
        "person_truth": [
            {
                "person_id": member.person_id,
                "household_id": member.household_id,
                "scenario": member.scenario,
                "first_name": member.first_name,
                "last_name": member.last_name,
                "married_name": member.last_name,
                "birth_date": member.birth_date,
                "sex": member.sex,
            }
            for member in members
        ],
        "record_truth": [
            {
                "feed": feed_name,
                "record_id": record_id,
                "person_id": owner.person_id,
                "household_id": owner.household_id,
                "scenario": owner.scenario,
            }
            for (feed_name, record_id), owner in owners.items()
        ],
        "transaction_truth": [
            {
                "feed": feed_name,
                "record_id": record_id,
                "person_id": member.person_id,
                "key_owner_person_id": None
                if (owner := owners.get((feed_name, record_id), member)) is member
                else owner.person_id,
                "counted_amount": counted,
                "channel": channel,
                "business_on": day,
            }
            for member in members
            for feed_name, record_id, counted, channel, day in member.bought
        ],
        "consent_truth": [
            {
                name: row.values[name]
                for name in ("consent_id", "key_type", "purpose", "channel", "status", "occurred_at")
            }
            | {"person_id": member.person_id}
            for member in members
            for row in member.rows
            if row.feed == "consents"
        ],
    }
    for name, rows_ in truth.items():
        _store(con, f"insert into {name} by name select * from drawn", pa.Table.from_pylist(rows_))


def generate(
    landing: Path, truth: Path, plan: DemoPlan, progress: Callable[[str, float], None] | None = None
) -> DemoSummary:
    """Write the retailer of ``plan`` under ``landing`` and what is true of it under ``truth``.

    ``progress`` is told what is being done and the share (0 to 1) that is done.
    """
    tell = progress or (lambda words, share: None)
    con = duckdb.connect()
    try:
        con.execute("set timezone = 'UTC'")
        dirt.create_macros(con, plan.seed, plan.nights)
        tell("drawing people and purchases", 0.0)
        _draw(con, plan)
        tell("writing down people", 0.15)
        records.write_people(con, plan.seed, plan.persons)
        tell("writing down purchases", 0.25)
        trade.write_trade(con)
        consents.write_consents(con)
        interactions.write_interactions(con)
        _write_reference(con, plan)
        _write_cast(con)
        written = {}
        for position, feed in enumerate(feeds().values()):
            tell(f"delivering {feed.name}", 0.45 + 0.5 * position / len(feeds()))
            written[feed.name] = files.write_feed(con, feed, landing, plan.seed, seasons.nights(plan.nights))
        tell("writing the truth", 0.97)
        write_truth(con, truth)
    finally:
        con.close()
    tell("done", 1.0)
    return DemoSummary(
        nights=tuple(seasons.nights(plan.nights)),
        files={name: counts["files"] for name, counts in written.items()},
        rows={name: counts["rows"] for name, counts in written.items()},
    )
