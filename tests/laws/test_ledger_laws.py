"""The books: every row and every cent of the files is in the tables once, as a bookkeeper in plain Python finds them.

The bookkeeper below knows the source contract and nothing of the pipeline. It reads the same rows, decides which count,
and adds up. What the pipeline makes of generated deliveries must be its figures to the cent, in whatever order the rows
lie in their files, however often they come, in one night or in many.
"""

import random
import shutil
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws.effort import QUICK

from dagster_project.domain.contract import feeds

_PARIS = ZoneInfo("Europe/Paris")
DAYS = tuple(date(2020, 10, day) for day in range(24, 29))  # the clock goes back on the 25th
BROKEN = "?"
Rows = list[dict[str, Any]]
Deliveries = dict[tuple[str, date], Rows]

# Moments at which days are easily told wrong, as a till in Paris writes them: midnight, and the hour that comes twice.
_AWKWARD = (
    datetime(2020, 10, 22, 23, 59, 59),
    datetime(2020, 10, 23, 0, 0, 0),
    datetime(2020, 10, 23, 23, 59, 59),
    datetime(2020, 10, 24, 23, 30, 0),
    datetime(2020, 10, 25, 0, 30, 0),
    datetime(2020, 10, 25, 2, 30, 0),
    datetime(2020, 10, 25, 23, 59, 59),
)


class Trade:
    """Deliveries of a few days of trade, a function of the seed, with all that real deliveries do wrong."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.deliveries: Deliveries = defaultdict(list)
        self.number = 0
        for day in DAYS[::2]:  # a shop and a product that nobody has announced, until the last delivery does
            known = 3 if day == DAYS[-1] else 2
            self.deliveries["stores", day] = [
                {"store_id": f"S{n}", "name": f"Shop {n}", "postal_code": "31000"} for n in range(known)
            ]
            self.deliveries["products", day] = [
                {"product_id": f"P{n}", "name": f"Thing {n}", "category": "Things", "price": Decimal(n)}
                for n in range(2 * known)
            ]
        born = datetime(2019, 1, 1, tzinfo=UTC)
        self.deliveries["loyalty_members", DAYS[0]] = [
            {
                "card_id": f"29{n}",
                "email": f"person{n}@mail.example",
                "first_name": "Abcdefgh"[n:],
                "last_name": f"Name{n}",
                "enrolled_at": born,
                "updated_at": born,
            }
            for n in range(5)
        ]
        orders = [self._order() for _ in range(30)]
        for _ in range(35):
            self._ticket(orders)
        for _ in range(10):
            self._refund(self.draw.choice([*orders, None, "NEVER CAME"]))

    def _next(self, letter: str) -> str:
        self.number += 1
        return f"{letter}{self.number:03d}"

    def _moment(self) -> datetime:
        local = self.draw.choice((*_AWKWARD, datetime(2020, 10, 22) + timedelta(minutes=self.draw.randrange(2880))))
        return local.replace(tzinfo=_PARIS)  # the first of the hour that comes twice

    def _deliver(self, feed: str, row: dict[str, Any], earliest: date) -> None:
        """On some day from then on: once, twice, broken, broken and corrected, or changed and changed back."""
        draw = self.draw
        place = DAYS.index(max(earliest, DAYS[0]))
        first = draw.randrange(place, len(DAYS))
        later = draw.randrange(first, len(DAYS))
        mandatory = [c.name for c in feeds()[feed].columns if c.mandatory and c.type in ("moment", "amount")]
        broken = {**row, draw.choice(mandatory): BROKEN}
        amount = "amount" if "amount" in row else "total_amount"
        changed = {**row, amount: row[amount] + Decimal(draw.randrange(-300, 300)) / 100}
        chance = draw.random()
        put = self.deliveries
        if chance < 0.08:
            put[feed, DAYS[first]].append(broken)
            if later > first:
                put[feed, DAYS[later]].append(row)
            return
        put[feed, DAYS[first]].append(row)
        if chance < 0.16:
            put[feed, DAYS[later]].append(row)
        elif later > first and chance < 0.22:
            put[feed, DAYS[later]].append(broken)
        elif later > first and chance < 0.28:
            put[feed, DAYS[later]].append(changed)

    def _with_lines(self, header: str, row: dict[str, Any], sign: int, earliest: date) -> None:
        draw = self.draw
        key = feeds()[header].key[0]
        lines_feed = next(feed.name for feed in feeds().values() if feed.header == header)
        total = Decimal(0)
        for number in range(1, draw.choice((1, 2, 2, 3))):
            price, quantity = Decimal(draw.randrange(100, 9000)) / 100, sign * draw.choice((1, 1, 2))
            total += price * quantity
            line = {
                key: row[key],
                "line_no": number,
                "product_id": f"P{draw.randrange(6)}",
                "quantity": quantity,
                "unit_price": price,
                "amount": price * quantity,
            }
            if header == "shop_refunds":
                del line["unit_price"]
            self._deliver(lines_feed, line, earliest)
        row["total_amount"] = total + (row.get("shipping_amount") or 0) - (row.get("discount_amount") or 0)
        if draw.random() < 0.05:
            row["total_amount"] += Decimal("0.01")
        if draw.random() < 0.95:  # else its lines wait for ever
            self._deliver(header, row, earliest)

    def _order(self) -> str:
        draw = self.draw
        moment = self._moment()
        elsewhere = ZoneInfo(draw.choice(("Europe/Paris", "UTC", "America/New_York", "Pacific/Auckland")))
        row = {
            "order_id": self._next("O"),
            "email": f"person{draw.randrange(8)}@mail.example",
            "ordered_at": moment.astimezone(elsewhere),
            "updated_at": moment.astimezone(UTC),
            "status": "delivered",
            "fulfilment": "click_and_collect",
            "shipping_amount": draw.choice((None, Decimal("4.90"))),
            "discount_amount": draw.choice((None, Decimal("2.50"))),
        }
        self._with_lines("shop_orders", row, 1, moment.date())
        if draw.random() < 0.4:  # what becomes of it; the older version may come after this one
            status = draw.choice(("cancelled", "refunded", "collected"))
            update = {
                **row,
                "status": status,
                "updated_at": row["updated_at"] + timedelta(minutes=draw.randrange(-9, 99)),
            }
            self._deliver("shop_orders", update, moment.date())
        return str(row["order_id"])

    def _ticket(self, orders: list[str]) -> None:
        draw = self.draw
        moment = self._moment()
        kind = draw.choice(("sale", "sale", "sale", "return", "pickup"))
        row = {
            "ticket_id": self._next("T"),
            "store_id": f"S{draw.randrange(3)}",
            "sold_at": moment,
            "ticket_type": kind,
            "loyalty_card_id": draw.choice((None, f"29{draw.randrange(5)}")),
            "discount_amount": draw.choice((None, None, Decimal("0.50"))),
        }
        if kind == "pickup" or (kind == "return" and draw.random() < 0.5):
            row["web_order_id"] = draw.choice([*orders, "NEVER CAME"])
        self._with_lines("pos_tickets", row, -1 if kind == "return" else 1, moment.date())

    def _refund(self, order: str | None) -> None:
        moment = self._moment()
        row = {"refund_id": self._next("R"), "order_id": order, "refunded_at": moment.astimezone(UTC)}
        self._with_lines("shop_refunds", row, -1, moment.date())


class Bookkeeper:
    """What the contract makes of deliveries. A file is a feed's day; its number is the day's."""

    def __init__(self, deliveries: Deliveries) -> None:
        self.given: dict[str, list[tuple[date, dict[str, Any]]]] = defaultdict(list)
        for (feed, day), rows in deliveries.items():
            for row in rows:
                content = {column: row.get(column) for column in feeds()[feed].column_names}
                self.given[feed].append((day, content))
        self.current: dict[str, dict[Any, tuple[date, dict[str, Any]]]] = {}
        self.fates: dict[str, Counter[str]] = {}
        self.amounts: dict[str, dict[str, Decimal]] = {}
        for feed in sorted(self.given, key=lambda name: feeds()[name].header is not None):
            self._stage(feed)

    def _stage(self, feed: str) -> None:
        shape = feeds()[feed]

        def key(row: dict[str, Any]) -> tuple[Any, ...]:
            return tuple(row[name] for name in shape.key)

        def version(row: dict[str, Any]) -> Any:
            found = row[shape.version] if shape.version else None
            return None if found in (None, BROKEN) else found.astimezone(UTC)

        def rank(one: tuple[date, dict[str, Any]]) -> tuple[Any, date]:
            return (version(one[1]) if shape.version else 0, one[0])

        readable = [one for one in self.given[feed] if BROKEN not in one[1].values()]
        headers = self.current.get(shape.header or "", {})
        accepted = [one for one in readable if not shape.header or (one[1][shape.key[0]],) in headers]
        if shape.whole_table:
            last = max(day for day, _ in self.given[feed])
            held = {key(row) for day, row in self.given[feed] if day == last}
            accepted = [one for one in accepted if key(one[1]) in held]
        winners: dict[Any, tuple[date, dict[str, Any]]] = {}
        for one in accepted:
            if key(one[1]) not in winners or rank(one) > rank(winners[key(one[1])]):
                winners[key(one[1])] = one
        fates: Counter[str] = Counter()
        amounts: dict[str, Decimal] = defaultdict(Decimal)
        counted: set[Any] = set()
        for one in self.given[feed]:
            day, row = one
            winner = winners.get(key(row))
            if one in accepted:
                if row == (winner or one)[1]:
                    fate = "identical" if key(row) in counted else "current"
                    counted.add(key(row))
                else:
                    fate = "superseded"
            elif one in readable:
                fate = "superseded" if shape.whole_table else "refused"
            else:
                said = version(row)
                is_outranked = winner is not None and (
                    (said is not None and version(winner[1]) > said)
                    or ((said is None or version(winner[1]) == said) and winner[0] > day)
                )
                fate = "superseded" if is_outranked else "refused"
            fates[fate] += 1
            amount = row.get("amount", row.get("total_amount"))
            amounts[fate] += amount if isinstance(amount, Decimal) else 0
        self.current[feed] = winners
        self.fates[feed] = fates
        self.amounts[feed] = amounts

    def books(self) -> dict[tuple[str, date], dict[str, Decimal]]:
        """Per channel and day in Paris: what was delivered, what counts, and what does not, by reason."""
        found: dict[tuple[str, date], dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
        orders = {key[0]: row for key, (_, row) in self.current["shop_orders"].items()}

        def book(channel: str, moment: datetime, amount: Decimal, exclusion: str | None) -> None:
            day = found[channel, moment.astimezone(_PARIS).date()]
            day["delivered"] += amount
            day[exclusion or "counted"] += amount

        for row in orders.values():
            is_out = row["status"] in ("cancelled", "refunded")
            book("online", row["ordered_at"], row["total_amount"], row["status"] if is_out else None)
        for _, row in self.current["shop_refunds"].values():
            order = orders.get(row["order_id"])
            is_out = order is not None and order["status"] in ("cancelled", "refunded")
            book("online", row["refunded_at"], row["total_amount"], "refund_of_excluded_order" if is_out else None)
        for _, row in self.current["pos_tickets"].values():
            exclusion = None
            if row["ticket_type"] == "pickup":
                exclusion = "pickup"
            elif row["ticket_type"] == "return" and row["web_order_id"]:
                exclusion = "return_of_online_order"
            book("store", row["sold_at"], row["total_amount"], exclusion)
        return found


def books_of(connection: Any) -> dict[tuple[str, date], dict[str, Decimal]]:
    """The same as the pipeline has it."""
    names = ("cancelled", "refunded", "pickup", "return_of_online_order", "refund_of_excluded_order")
    rows = connection.execute(
        f"""
        select channel, business_on, delivered_amount, counted_amount, {", ".join(f"{name}_amount" for name in names)}
        from account.reconciliation
        """
    ).fetchall()
    return {
        (channel, day): dict(zip(("delivered", "counted", *names), amounts, strict=True))
        for channel, day, *amounts in rows
    }


def without_noughts(books: dict[Any, dict[str, Decimal]]) -> dict[Any, dict[str, Decimal]]:
    return {place: {name: amount for name, amount in found.items() if amount} for place, found in books.items()}


TABLES = (
    *(f"staging.stg_{feed}" for feed in ("shop_orders", "shop_order_lines", "pos_tickets", "pos_ticket_lines")),
    *(f"staging.stg_{feed}" for feed in ("shop_refunds", "shop_refund_lines", "stores", "products")),
    *("staging.quarantine", "staging.quarantine_summary", "staging.refused_rows", "staging.row_counts"),
    *("account.transactions", "account.transaction_lines", "account.reconciliation"),
    *("account.order_events", "account.unrefunded_returns"),
)
# Where a row lies in its file is not what it says; account ids are the identity stage's own business.
_PLACES = ("line", "first_lines", "account_id")


def tables_of(connection: Any, leaving_out: tuple[str, ...] = ()) -> dict[str, list[Any]]:
    found = {}
    for table in TABLES:
        names = [name for name, *_ in connection.execute(f"describe {table}").fetchall()]
        kept = ", ".join(name for name in names if name not in (*_PLACES, *leaving_out))
        found[table] = connection.execute(f"select {kept} from {table} order by all").fetchall()
    return found


def assert_the_same(one: dict[str, list[Any]], other: dict[str, list[Any]]) -> None:
    for table in one:
        assert one[table] == other[table], f"{table} differs"


def test_every_row_and_every_cent_is_where_the_bookkeeper_finds_it(tmp_path: Path, supplier: Any, walk: Any) -> None:
    @QUICK
    @given(seed=st.integers(0, 2**32))
    def holds(seed: int) -> None:
        shutil.rmtree(tmp_path / "home", ignore_errors=True)
        deliveries = Trade(seed).deliveries
        supplier(tmp_path / "home" / "landing").deliver_all(deliveries)
        truth = Bookkeeper(deliveries)
        terms = ("current", "identical", "superseded", "refused")
        with walk(tmp_path / "home", DAYS[-1], until="account") as connection:
            for feed in truth.fates:
                ((*counts, has_amounts, delivered),) = connection.execute(
                    f"""
                    select {", ".join(f"{term}_row_count" for term in terms)}, delivered_amount is not null,
                        delivered_row_count
                    from staging.row_counts where feed = $1
                    """,
                    [feed],
                ).fetchall()
                assert dict(zip(terms, counts, strict=True)) == {term: truth.fates[feed][term] for term in terms}, feed
                assert sum(counts) == delivered == len(truth.given[feed])
                if has_amounts:
                    (amounts,) = connection.execute(
                        f"""
                        select {", ".join(f"{term}_amount" for term in terms)}
                        from staging.row_counts where feed = $1
                        """,
                        [feed],
                    ).fetchall()
                    assert list(amounts) == [truth.amounts[feed][term] for term in terms], feed
            assert without_noughts(books_of(connection)) == without_noughts(truth.books())
            # What the accounts hold and what is nobody's make the ledger, per channel and day.
            assert (
                connection.execute(
                    """
                select channel, business_on from account.reconciliation
                where counted_amount <> identified_amount + anonymous_amount
                    or delivered_amount <> counted_amount + excluded_amount
                """
                ).fetchall()
                == []
            )
            ((ledger, accounts, nobody),) = connection.execute(
                """
                select (select sum(counted_amount) from account.reconciliation),
                    (select sum(counted_amount) from account.accounts),
                    (select sum(anonymous_amount) from account.reconciliation)
                """
            ).fetchall()
            assert ledger == accounts + nobody
            assert accounts != 0
            assert nobody != 0

    holds()


def test_the_order_of_rows_changes_no_table_of_the_books(tmp_path: Path, supplier: Any, walk: Any) -> None:
    found = []
    for name, shuffled_by in (("one", None), ("other", 7)):
        supplier(tmp_path / name / "landing").deliver_all(Trade(1).deliveries, shuffled_by)
        with walk(tmp_path / name, DAYS[-1], until="account") as connection:
            found.append(tables_of(connection))
    assert_the_same(*found)


def test_many_nights_end_with_the_tables_of_one(tmp_path: Path, supplier: Any, walk: Any) -> None:
    deliveries = Trade(2).deliveries
    for yesterday, day in pairwise((date.min, *DAYS[::2])):
        tonight = {place: rows for place, rows in deliveries.items() if yesterday < place[1] <= day}
        supplier(tmp_path / "nights" / "landing").deliver_all(tonight)
        with walk(tmp_path / "nights", day, until="account") as connection:
            nightly = tables_of(connection)
            delivered_yet = {place: rows for place, rows in deliveries.items() if place[1] <= day}
            assert without_noughts(books_of(connection)) == without_noughts(Bookkeeper(delivered_yet).books()), day
    supplier(tmp_path / "once" / "landing").deliver_all(deliveries)
    with walk(tmp_path / "once", DAYS[-1], until="account") as connection:
        assert_the_same(nightly, tables_of(connection))


def test_the_same_again_changes_nothing(tmp_path: Path, supplier: Any, walk: Any) -> None:
    """A second run changes no table. All files delivered again change what is said of deliveries, and nothing else."""
    deliveries = Trade(3).deliveries
    landing = supplier(tmp_path / "landing")
    landing.deliver_all(deliveries)
    of_deliveries = (
        *("delivered_on", "file_no", "identical_row_count", "superseded_row_count", "conflicting_row_count"),
        "superseded_amount",
    )
    refused = "select distinct feed, record_id, rule from staging.quarantine order by all"
    runs, said, in_quarantine = [], [], []
    for is_repeated in (False, False, True):
        if is_repeated:
            for (feed, day), rows in deliveries.items():
                landing.deliver(feed, DAYS[-1], rows, f"repeat_of_{day}.csv")
        with walk(tmp_path, DAYS[-1], until="account") as connection:
            runs.append(tables_of(connection))
            found = tables_of(connection, of_deliveries)
            said.append({name: rows for name, rows in found.items() if name.startswith(("staging.stg_", "account."))})
            in_quarantine.append(connection.execute(refused).fetchall())
    assert_the_same(runs[0], runs[1])
    assert_the_same(said[0], said[2])
    assert in_quarantine[0] == in_quarantine[2]


@pytest.mark.parametrize(
    ("written", "is_at", "counts_on"),
    [
        ("25/10/2020 02:30:00", "2020-10-25 00:30:00", "2020-10-25"),  # comes twice: the first one is meant
        ("25/10/2020 03:00:00", "2020-10-25 02:00:00", "2020-10-25"),
        ("29/03/2020 02:30:00", "2020-03-29 01:30:00", "2020-03-29"),  # never was: as if the clock had not been moved
        ("29/03/2020 03:30:00", "2020-03-29 01:30:00", "2020-03-29"),
        ("24/10/2020 23:59:59", "2020-10-24 21:59:59", "2020-10-24"),
        ("25/10/2020 23:59:59", "2020-10-25 22:59:59", "2020-10-25"),
        ("28/03/2020 23:59:59", "2020-03-28 22:59:59", "2020-03-28"),
    ],
)
def test_a_till_in_paris_counts_on_its_own_day(written: str, is_at: str, counts_on: str, till_moments: Any) -> None:
    assert till_moments[written] == (is_at, counts_on)


@pytest.fixture(scope="module")
def till_moments(tmp_path_factory: pytest.TempPathFactory, supplier: Any, walk: Any) -> dict[str, tuple[str, str]]:
    """What the ledger makes of moments as a till writes them."""
    home = tmp_path_factory.mktemp("tills")
    written = [
        *("25/10/2020 02:30:00", "25/10/2020 03:00:00", "29/03/2020 02:30:00", "29/03/2020 03:30:00"),
        *("24/10/2020 23:59:59", "25/10/2020 23:59:59", "28/03/2020 23:59:59"),
    ]
    tickets = [
        {"ticket_id": text, "store_id": "S1", "sold_at": text, "ticket_type": "sale", "total_amount": Decimal(1)}
        for text in written
    ]
    supplier(home / "landing").deliver("pos_tickets", DAYS[-1], tickets)
    with walk(home, DAYS[-1], until="account") as connection:
        return {
            text: (at, on)
            for text, at, on in connection.execute(
                "select record_id, occurred_at::varchar, business_on::varchar from account.transactions"
            ).fetchall()
        }


def test_what_business_got_wrong_is_kept_and_flagged_and_known_when_it_is_announced(
    tmp_path: Path, supplier: Any, walk: Any
) -> None:
    """A shop and a product that nobody announced, a sale below nought and a return above it."""
    put = supplier(tmp_path / "landing").deliver
    sold_at = datetime(2020, 10, 23, 12, tzinfo=_PARIS)
    tickets, lines = [], []
    for ticket, kind, quantity in (("A", "sale", 1), ("B", "sale", -1), ("C", "return", -1), ("D", "return", 1)):
        total = Decimal(9) * quantity
        ticket_row = {"ticket_id": ticket, "store_id": "S9", "sold_at": sold_at}
        tickets.append({**ticket_row, "ticket_type": kind, "total_amount": total})
        line = {"ticket_id": ticket, "line_no": 1, "product_id": "P9", "quantity": quantity}
        lines.append({**line, "unit_price": Decimal(9), "amount": total})
    put("pos_tickets", DAYS[0], tickets)
    put("pos_ticket_lines", DAYS[0], lines)
    put("stores", DAYS[1], [{"store_id": "S9", "name": "Shop", "postal_code": "31000"}])
    put("products", DAYS[1], [{"product_id": "P9", "name": "Thing", "category": "Things", "price": Decimal(9)}])
    for day, is_known in zip(DAYS[:2], (False, True), strict=True):
        with walk(tmp_path, day, until="account") as connection:
            found = connection.execute(
                """
                select record_id, counted_amount, ledger.has_usual_sign, lines.has_usual_sign, is_known_store,
                    is_known_product
                from account.transactions as ledger join account.transaction_lines as lines using (transaction_id)
                order by record_id
                """
            ).fetchall()
        assert found == [
            ("A", Decimal("9.00"), True, True, is_known, is_known),
            ("B", Decimal("-9.00"), False, False, is_known, is_known),
            ("C", Decimal("-9.00"), True, True, is_known, is_known),
            ("D", Decimal("9.00"), False, False, is_known, is_known),
        ]
