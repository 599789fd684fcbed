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

from dagster_project.demo import cast, catalogue, consents, dirt, files, interactions, people, purchases, records, seasons, trade, truth as truths
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
    cards, accounts = purchases.draw_memberships(
        next(streams), purchases.first_days(*visits, plan.persons), purchases.first_days(*web, plan.persons)
    )
    tickets, lines = purchases.draw_tickets(next(streams), world, visits, cards, price)
    orders, order_lines = purchases.draw_orders(next(streams), world, web, accounts, price)
    web_tickets, web_lines = purchases.draw_web_tickets(next(streams), orders, order_lines)
    tickets, lines = purchases.stack(tickets, lines, web_tickets, web_lines)
    tables = {
        "people": world, "products": products, "stores": catalogue.stores(), "cards": cards.table("card"),
        "accounts": accounts.table("account"), "tickets": _numbered(tickets), "ticket_lines": _lines(lines, tickets["day"]),
        "orders": _numbered(orders), "order_lines": _lines(order_lines, orders["day"]),
        "web_sessions": interactions.draw_sessions(next(streams), accounts, catalogue.PRODUCTS),
    }  # fmt: skip
    for name, table in tables.items():
        con.register("drawn", table)
        con.execute(f"create table {name} as select * from drawn")
        con.unregister("drawn")


def _numbered(columns: dict[str, purchases.Ints]) -> pa.Table:
    return pa.table({"n": np.arange(len(columns["person"])), **columns})


def _lines(lines: purchases.Baskets, day: purchases.Ints) -> pa.Table:
    return pa.table(
        {
            "seq": np.arange(len(lines.purchase)), "purchase": lines.purchase, "line_no": lines.line_no, "product": lines.product,
            "quantity": lines.quantity, "unit_price": lines.unit_price, "day": day[lines.purchase],
        }
    )  # fmt: skip


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
        for day in [*yearly[:3], *nights]
        for table in [catalogue.stock(rng, day)]
    )
    for name, table in (("store_hours", hours), ("stock", stock)):
        con.register("drawn", table.append_column("seq", pa.array(np.arange(table.num_rows))))
        con.execute(f"create table feed_{name} as select * from drawn")
        con.unregister("drawn")
    days = ", ".join(f"date '{day}'" for day in yearly)
    con.execute(
        f"""
        create table feed_stores as
        select s.* exclude (store), d as delivered_on, row_number() over (order by d, store) as seq
        from stores as s cross join unnest([{days}]) as t(d);
        create table feed_products as
        select p.* exclude (product) replace (cents(price) as price), d as delivered_on, row_number() over (order by d, product) as seq
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
        con.register("drawn", table)
        con.execute(
            f"insert into feed_{feed.name} by name select * exclude (day), delivered_date(day) as delivered_on from drawn"
        )
        con.unregister("drawn")
    con.execute(
        """
        create table person_truth as
        select person_id, household_id, scenario, first_name, last_name, married_name, birth_date, sex from persons
        """
    )
    owners = {record: member for member in members for record in member.owned}
    for member in members:
        con.execute(
            "insert into person_truth values (?, ?, ?, ?, ?, ?, ?, ?)",
            [member.person_id, member.household_id, member.scenario, member.first_name, member.last_name, member.last_name,
             member.birth_date, member.sex],
        )  # fmt: skip
    records_ = [(*record, owner.person_id, owner.household_id, owner.scenario) for record, owner in owners.items()]
    con.executemany("insert into record_truth values (?, ?, ?, ?, ?)", records_)
    transactions = []
    for member in members:
        for feed_name, record, counted, channel, day in member.bought:
            owner = owners.get((feed_name, record), member)
            key_owner = None if owner is member else owner.person_id
            transactions.append((feed_name, record, member.person_id, key_owner, counted, channel, day))
    con.executemany("insert into transaction_truth values (?, ?, ?, ?, ?, ?, ?)", transactions)
    statements = [
        (member.person_id, row.values["consent_id"], None, None, row.values["key_type"], row.values["purpose"], row.values["channel"],
         row.values["status"], row.values["occurred_at"])
        for member in members for row in member.rows if row.feed == "consents"
    ]  # fmt: skip
    con.executemany("insert into consent_truth values (?, ?, ?, ?, ?, ?, ?, ?, ?)", statements)


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
        truths.write_truth(con, truth)
    finally:
        con.close()
    tell("done", 1.0)
    return DemoSummary(
        nights=tuple(seasons.nights(plan.nights)),
        files={name: counts["files"] for name, counts in written.items()},
        rows={name: counts["rows"] for name, counts in written.items()},
    )
