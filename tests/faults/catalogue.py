"""Everything that can be wrong with a delivery, each with what must be kept and what must be refused.

One function per defect, which makes a shop deliver it. How a shop writes its files is ``shop``, which row counts after
all is worked out in ``truth``. ``docs/reliability.md`` shows the list; after a change:
``PYTHONPATH=tests .venv/bin/python -m faults.catalogue docs/reliability.md``.
"""

import gzip
import os
import random
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
from faults.shop import DAYS, Shop, content, growth
from faults.truth import PARIS, File, Row

from dagster_project.domain.contract import feeds

UNREADABLE = "unreadable_value"
MOST_UNPACKED_BYTES = 1_000_000  # so that a bomb may be small


@dataclass(frozen=True)
class Defect:
    """One kind of defect: ``kept`` and ``refused`` say in words what ``happen`` puts into a shop's deliveries."""

    name: str
    kept: str
    refused: str
    happen: Callable[[Shop], None]
    # Why the pipeline does not do it yet.
    wrong: str | None = None

    def strike(self, shop: Shop) -> None:
        shop.defect = self.name
        self.happen(shop)
        shop.defect = ""


DEFECTS: list[Defect] = []


def _defect(name: str, *, kept: str, refused: str = "nothing", wrong: str | None = None) -> Callable[..., None]:
    def add(happen: Callable[[Shop], None]) -> None:
        DEFECTS.append(Defect(name, kept, refused, happen, wrong))

    return add


# When it comes.


@_defect("late by days", kept="the ticket counts on the day of the sale, which is restated")
def _(shop: Shop) -> None:
    shop.deliver(4, *shop.with_line(shop.ticket(0), shop.order(1)))


@_defect("the same file under another name", kept="its rows once; the others are identical rows")
def _(shop: Shop) -> None:
    rows = [shop.ticket(2), shop.ticket(2)]
    for night, name in ((2, "a.csv"), (2, "b.csv"), (3, "a.csv")):
        shop.file(night, name, rows)


@_defect("an older day delivered again", kept="rows that are new; of a key, the row of the later day stays in force")
def _(shop: Shop) -> None:
    early, late = shop.ticket(1), shop.ticket(1)
    shop.file(1, "first.csv", [early])
    shop.file(3, "second.csv", [early.but(total_amount=Decimal("21.00")), shop.ticket(2)])
    shop.file(5, "again.csv", [early.but(total_amount=Decimal("19.00")), late], day=1)


@_defect("two files of a day that disagree", kept="of a key, the row of the last file by name; the other is superseded")
def _(shop: Shop) -> None:
    ticket = shop.ticket(1)
    for name, total in (("part_9.csv", "9.00"), ("part_10.csv", "10.00"), ("part_8.csv.gz", "8.00")):
        shop.file(1, name, [ticket.but(total_amount=Decimal(total)), shop.ticket(1)])


@_defect("a file replaced under its own name", kept="what the file says now")
def _(shop: Shop) -> None:
    gone, stays = shop.ticket(1), shop.ticket(1)
    shop.file(1, "till_7.csv", [gone, stays])
    shop.file(2, "till_7.csv", [stays.but(total_amount=Decimal("7.00")), shop.ticket(1)], day=1)


@_defect("a file still being written", kept="nothing, until it has its name")
def _(shop: Shop) -> None:
    row = shop.ticket(1)
    names = ("_till_8.csv", ".till_8.csv", "till_8.csv.part", "till_8.csv.tmp")
    unfinished = content(File("pos_tickets", DAYS[1], 1, "till_8.csv", [row]))[:-9]

    def write(landing: Path) -> None:
        folder = landing / "pos_tickets" / DAYS[1].isoformat()
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / name).write_bytes(unfinished)

    shop.act(1, write)
    shop.file(2, "till_8.csv", [row], day=1)


@_defect("a file that grows while it is read", kept="the rows that were read; the next night, all of them")
def _(shop: Shop) -> None:
    shop.file(2, "growing.csv", [shop.ticket(2) for _ in range(3)], growing=[shop.ticket(2), shop.ticket(2)])


# What is corrected after the fact.


@_defect(
    "an order that is cancelled or refunded later", kept="the newest status; the order's own day is restated to nil"
)
def _(shop: Shop) -> None:
    for status in ("cancelled", "refunded"):
        order = shop.order(1)
        shop.deliver(1, *shop.with_line(order))
        shop.deliver(3, order.but(status=status, updated_at=shop.at(3)))


@_defect("a refund whose order is cancelled as well", kept="both; the refund stops counting when its order does")
def _(shop: Shop) -> None:
    order = shop.order(1)
    refund = shop.refund(2, order)
    shop.deliver(1, *shop.with_line(order))
    shop.deliver(2, *shop.with_line(refund))
    shop.deliver(3, order.but(status="cancelled", updated_at=shop.at(3)))


@_defect("a ticket that changes its total", kept="the latest delivery's; the older row is superseded")
def _(shop: Shop) -> None:
    ticket = shop.ticket(1, "20.00")
    shop.deliver(1, *shop.with_line(ticket))
    changed = ticket.but(total_amount=Decimal("18.50"))
    shop.deliver(3, *shop.with_line(changed))


@_defect("an older version that comes after the newer one", kept="the row with the greatest updated_at")
def _(shop: Shop) -> None:
    for make in (shop.customer, shop.order):
        row = make(1)
        newer = row.but(updated_at=shop.at(1, 18), city="Albi")
        shop.deliver(2, newer)
        shop.deliver(3, row, newer.but(city="Auch"))


# The same key more than once.


@_defect(
    "one key twice in a file, with other content", kept="one of the two, by a hash of what it says, never its place"
)
def _(shop: Shop) -> None:
    for make in (shop.ticket, shop.refund):
        row = make(1) if make == shop.ticket else shop.refund(1, None)
        shop.deliver(1, row, row.but(total_amount=row.values["total_amount"] - 2))
    customer = shop.customer(1)
    shop.deliver(1, customer, customer.but(city="Albi"), customer.but(city="Auch"))


@_defect("identical rows in a file", kept="one of them")
def _(shop: Shop) -> None:
    ticket, order = shop.ticket(1), shop.order(1)
    shop.deliver(1, *shop.with_line(ticket, order) * 3)
    other = ticket.but(register_id="R2")
    shop.deliver(2, ticket, other, other)


# Headers and lines.


@_defect(
    "lines before their header",
    kept="the lines, from the night of the header on",
    refused="until then, as header_missing",
)
def _(shop: Shop) -> None:
    order, ticket = shop.order(1), shop.ticket(1)
    refund = shop.refund(1, order)
    shop.deliver(1, *(shop.line(header) for header in (order, ticket, refund)))
    shop.deliver(3, order, ticket, refund)


@_defect("lines whose header never comes", kept="nothing", refused="each line, as header_missing")
def _(shop: Shop) -> None:
    shop.deliver(1, *(shop.line(header) for header in (shop.order(1), shop.ticket(1), shop.refund(1, None))))


@_defect("a header that is taken back", kept="its lines, as long as it is there", refused="its lines, once it is gone")
def _(shop: Shop) -> None:
    ticket, other = shop.ticket(1), shop.ticket(1)
    shop.file(1, "till_9.csv", [ticket, other])
    shop.deliver(1, shop.line(ticket), shop.line(other))
    shop.file(3, "till_9.csv", [other], day=1)


@_defect("a refund whose order never came", kept="the refund, which counts")
def _(shop: Shop) -> None:
    shop.deliver(1, *shop.with_line(shop.refund(1, shop.order(1))))


@_defect("a header without lines", kept="the header and its amount; it is flagged as out of balance")
def _(shop: Shop) -> None:
    shop.deliver(1, shop.order(1), shop.ticket(1), shop.refund(1, None))


@_defect("a header that does not equal its lines", kept="both; the header's amount counts, and is flagged")
def _(shop: Shop) -> None:
    ticket, order = shop.ticket(1), shop.order(1, shipping_amount=Decimal("4.90"))
    shop.deliver(1, ticket, shop.line(ticket, amount="19.99"), order, shop.line(order))


@_defect(
    "a header that is refused",
    kept="header and lines, from the night on which it comes corrected",
    refused="the header for what is wrong with it, its lines as header_missing",
)
def _(shop: Shop) -> None:
    order, ticket = shop.order(1), shop.ticket(1)
    shop.deliver(1, order.broken("status", "unknown", "unknown_choice"), shop.line(order))
    shop.deliver(1, ticket.broken("sold_at", "31/02/2020 10:00:00", UNREADABLE), shop.line(ticket))
    shop.deliver(3, order, ticket)


# Damaged files.


def _cut(share: float) -> Callable[[bytes], bytes]:
    return lambda whole: whole[: int(len(whole) * share)]


@_defect("a csv cut off in the middle of a row", kept="the rows before the cut", refused="the row that was cut")
def _(shop: Shop) -> None:
    rows = [shop.ticket(2) for _ in range(4)]
    last = rows[-1].refused("wrong_column_count", "cut_off", UNREADABLE)
    seen = [*rows[:-1], replace(last, line="T")]
    shop.file(
        2,
        "cut.csv",
        seen,
        damage=lambda whole: whole.rstrip(b"\n") + rows[-1].values["ticket_id"][1:].encode() + b";S1;22/10/20",
        statuses=("loaded", "cut_off"),
    )
    shop.file(3, "whole.csv", rows)


@_defect("a csv cut off in its last value", kept="all rows, the last with the value that is left, until it comes again")
def _(shop: Shop) -> None:
    rows = [shop.ticket(2, "41.00"), shop.ticket(2, "42.00")]
    # 42,00 becomes 42: a file need not end with a line end, so nothing shows that it was cut.
    shop.file(2, "cut.csv", rows, damage=lambda whole: whole[:-4], statuses=("loaded", "cut_off"))
    shop.file(3, "whole.csv", rows)


def _rows_before_the_cut(rows: list[Row], share: float, night: int) -> tuple[list[Row], list[Row]]:
    """What can be unpacked of an archive: its whole rows, and the piece of a row that is no row."""
    archive = content(File(rows[0].feed, DAYS[night], night, "a.csv.gz", rows))
    text = zlib.decompressobj(31).decompress(_cut(share)(archive))
    *lines, piece = text.split(b"\n")
    seen = rows[: len(lines) - 1]
    broken = [replace(rows[0], values={}, line=piece.decode("latin-1"), rules=("cut_off",))] if piece else []
    return seen, broken


@_defect(
    "an archive cut off",
    kept="the rows before the cut",
    refused="the row that was cut; the file is named",
)
def _(shop: Shop) -> None:
    # Codes that do not compress, so that a good part of the rows stands before the cut.
    draw = random.Random(4)
    rows = [shop.ticket(2, register_id=f"{draw.getrandbits(64):x}") for _ in range(60)]
    seen, piece = _rows_before_the_cut(rows, 0.7, 2)
    assert 10 < len(seen) < 60
    shop.file(
        2,
        "cut.csv.gz",
        [*seen, *piece],
        damage=lambda _: _cut(0.7)(content(File("pos_tickets", DAYS[2], 2, "a.csv.gz", rows))),
        statuses=("cut_off",),
        words=("cut",),
    )
    shop.file(3, "whole.csv.gz", rows)


@_defect("an archive of several archives", kept="the rows of all of them")
def _(shop: Shop) -> None:
    rows = [shop.ticket(2), shop.ticket(2)]
    more = gzip.compress(growth(File("pos_tickets", DAYS[2], 2, "more.csv", [], growing=rows[1:])))
    whole = content(File("pos_tickets", DAYS[2], 2, "a.csv.gz", rows[:1])) + more
    shop.file(2, "chained.csv.gz", rows, damage=lambda _: whole)


@_defect("a Parquet file cut off", kept="nothing, until it comes whole", refused="the file, with a sentence")
def _(shop: Shop) -> None:
    rows = [shop.order(2), shop.order(2)]
    shop.file(
        2,
        "cut.parquet",
        [],
        feed="shop_orders",
        hidden=rows,
        damage=_cut(0.6),
        statuses=("unreadable",),
        words=("ask",),
    )
    shop.file(3, "cut.parquet", rows, day=2)


@_defect("an empty file", kept="nothing: there is nothing in it; it is told apart from one that did not come")
def _(shop: Shop) -> None:
    for name in ("empty.csv", "empty.csv.gz"):
        shop.file(1, name, [], feed="pos_tickets", damage=lambda _: b"", statuses=("empty", "unreadable"))
    shop.file(1, "blank.csv", [], feed="shop_orders", damage=lambda _: b"\n", statuses=("empty",))


@_defect("a file with a header and no rows", kept="nothing: there is nothing in it")
def _(shop: Shop) -> None:
    for name in ("none.csv", "none.csv.gz", "none.parquet"):
        shop.file(1, name, [], feed="shop_customers", statuses=("empty",))


@_defect("a file that is no archive", kept="nothing", refused="the file, with a sentence")
def _(shop: Shop) -> None:
    rows = [shop.event(1)]
    plain = content(File("web_events", DAYS[1], 1, "a.csv", rows))
    how = {"feed": "web_events", "statuses": ("unreadable",), "words": ("let its name end",)}
    shop.file(1, "plain.csv.gz", [], damage=lambda _: plain, **how)
    shop.file(1, "plain.parquet", [], damage=lambda _: plain, **how)


@_defect(
    "an archive that unpacks to more than the limit",
    kept="nothing of it; the other files of the night count",
    refused="the file, with a sentence",
)
def _(shop: Shop) -> None:
    row = shop.event(1)
    bomb = [row.but(event_id=f"{row.values['event_id']}-{n}") for n in range(20_000)]
    shop.file(1, "bomb.csv.gz", [], feed="web_events", hidden=bomb, statuses=("unreadable",), words=("unpack",))


# The header row.


@_defect("the columns in another order", kept="every row")
def _(shop: Shop) -> None:
    for row in (shop.ticket(1), shop.order(1), shop.customer(1)):
        shop.file(1, "turned.csv", [row], columns=tuple(reversed(feeds()[row.feed].column_names)))


@_defect("an optional column is gone", kept="every row, with nothing in it; the file's missing columns are named")
def _(shop: Shop) -> None:
    row = shop.ticket(1, register_id=None)
    columns = tuple(name for name in feeds()["pos_tickets"].column_names if name != "register_id")
    shop.file(1, "narrow.csv", [row], columns=columns, words=("register_id",))


@_defect(
    "a mandatory column is gone",
    kept="nothing, until it comes whole",
    refused="every row, as mandatory_missing",
)
def _(shop: Shop) -> None:
    rows = [shop.ticket(1), shop.ticket(1)]
    columns = tuple(name for name in feeds()["pos_tickets"].column_names if name != "total_amount")
    refused = [row.refused("mandatory_missing", column="total_amount") for row in rows]
    shop.file(1, "short.csv", refused, columns=columns, words=("total_amount",))
    shop.file(2, "long.csv", rows)


@_defect("the key's column is gone", kept="nothing", refused="the file, with a sentence")
def _(shop: Shop) -> None:
    columns = tuple(name for name in feeds()["pos_tickets"].column_names if name != "ticket_id")
    shop.file(
        1,
        "keyless.csv",
        [],
        hidden=[shop.ticket(1)],
        feed="pos_tickets",
        columns=columns,
        statuses=("unreadable",),
        words=("ticket_id",),
    )


@_defect("a column more than the contract has", kept="every row without it; the column is named, never loaded")
def _(shop: Shop) -> None:
    shop.file(1, "wide.csv", [shop.ticket(1), shop.ticket(1)], extra={"cashier": "Aurore"}, words=("cashier",))


@_defect("another feed's file", kept="nothing", refused="the file, with a sentence")
def _(shop: Shop) -> None:
    orders = content(File("shop_orders", DAYS[1], 1, "a.csv", [shop.order(1)]))
    shop.file(
        1,
        "orders.csv",
        [],
        feed="shop_refunds",
        damage=lambda _: orders,
        statuses=("unreadable",),
        words=("refund_id",),
    )


@_defect("a column twice", kept="nothing", refused="the file, with the column's name")
def _(shop: Shop) -> None:
    columns = (*feeds()["pos_tickets"].column_names, "total_amount")
    shop.file(
        1,
        "twice.csv",
        [],
        feed="pos_tickets",
        hidden=[shop.ticket(1)],
        columns=columns,
        statuses=("unreadable",),
        words=("total_amount",),
    )


@_defect("no header row", kept="nothing", refused="the file, with a sentence")
def _(shop: Shop) -> None:
    shop.file(
        1,
        "headless.csv",
        [],
        hidden=[shop.ticket(1), shop.ticket(1)],
        feed="pos_tickets",
        damage=lambda whole: whole.split(b"\n", 1)[1],
        statuses=("unreadable",),
        words=("first row",),
    )


# Notation.


@_defect("a row in another encoding", kept="the other rows", refused="the row, as invalid_encoding")
def _(shop: Shop) -> None:
    row = shop.customer(1)
    latin = replace(
        row,
        line=f"{row.values['customer_id']},a@mail.example,,Zo\udceb,Pr\udce9vost" + "," * 8,
        rules=("invalid_encoding",),
    )
    shop.file(1, "latin.csv", [shop.customer(1), latin, shop.customer(1)])


@_defect("a file in UTF-16", kept="nothing", refused="the file, with a sentence")
def _(shop: Shop) -> None:
    for row in (shop.ticket(1), shop.order(1)):
        encoding = "latin-1" if row.feed == "pos_tickets" else "utf-8"
        shop.file(
            1,
            "wide.csv",
            [],
            feed=row.feed,
            hidden=[row],
            statuses=("unreadable",),
            words=("UTF-16", "UTF-8"),
            damage=lambda whole, encoding=encoding: whole.decode(encoding).encode("utf-16"),
        )


@_defect("a byte order mark and Windows line ends", kept="every row")
def _(shop: Shop) -> None:
    for row in (shop.ticket(1), shop.order(1)):
        shop.file(
            1,
            "windows.csv",
            [row, row.but(**{feeds()[row.feed].key[0]: shop.id("W")})],
            damage=lambda whole: b"\xef\xbb\xbf" + whole.replace(b"\n", b"\r\n"),
        )


@_defect("blank lines", kept="every row, with the line that it has without them")
def _(shop: Shop) -> None:
    bad = replace(shop.order(1), line="O1,short", rules=("wrong_column_count",))
    rows = [shop.order(1), shop.order(1), bad, shop.order(1)]
    shop.file(1, "airy.csv", rows, damage=lambda whole: whole.replace(b"\n", b"\n\n\n"))


@_defect("a byte of nought in a row", kept="the other rows", refused="the row")
def _(shop: Shop) -> None:
    bad = replace(shop.order(1), line="O1\0" + "," * (len(feeds()["shop_orders"].column_names) - 1))
    bad = bad.refused("nul_byte", "mandatory_missing", UNREADABLE)
    shop.file(1, "nought.csv", [shop.order(1), bad, shop.order(1)])


@_defect("instants in other notations of ISO 8601", kept="every row")
def _(shop: Shop) -> None:
    for text in (
        "2020-10-20T10:00:00Z",
        "2020-10-20T12:00:00+02:00",
        "2020-10-20T12:00:00+0200",
        "2020-10-20 12:00:00+02",
        "2020-10-20T10:00Z",
        "2020-10-20T10:00:00.000000Z",
        "2020-10-19T23:00:00-11:00",
    ):
        moment = datetime(2020, 10, 20, 10, tzinfo=UTC)
        shop.deliver(1, shop.order(1, ordered_at=moment, updated_at=moment).written(ordered_at=text, updated_at=text))


@_defect("what is no instant", kept="the other rows", refused="the row, with its column")
def _(shop: Shop) -> None:
    for text in (
        "31/04/2020 10:00:00",
        "22/10/20 10:00:00",
        "22/10/2020 25:00:00",
        "2020-10-22",
        "0",
        "10/22/2020 10:00:00",
    ):
        shop.deliver(1, shop.ticket(1).broken("sold_at", text, UNREADABLE, "out_of_bounds"))
    for text in (
        "2020-10-20T10:00:00",
        "2020-02-30T10:00:00Z",
        "20/10/2020 10:00:00",
        "1603188000",
        "now",
        "0000-00-00",
    ):
        shop.deliver(1, shop.order(1).broken("ordered_at", text, UNREADABLE, "out_of_bounds"))


@_defect("another delimiter", kept="nothing", refused="the file, with the delimiter that it must have")
def _(shop: Shop) -> None:
    shop.file(
        1,
        "semicolons.csv",
        [],
        feed="shop_orders",
        hidden=[shop.order(1)],
        statuses=("unreadable",),
        words=("«;»", "«,»"),
        damage=lambda whole: whole.replace(b",", b";"),
    )
    shop.file(
        1,
        "commas.csv",
        [],
        feed="pos_tickets",
        hidden=[shop.ticket(1)],
        statuses=("unreadable",),
        words=("«;»", "«,»"),
        damage=lambda whole: whole.replace(b";", b","),
    )


@_defect("a stray quote", kept="every other row, before it and after it", refused="the row, as broken_quoting")
def _(shop: Shop) -> None:
    broken = replace(shop.ticket(1), line='T1;"S1;22/10/2020 10:00:00;sale', rules=("broken_quoting",))
    last = replace(shop.ticket(1), line='T2;S1;"R1" 2;22/10/2020 10:00:00;sale;;;;;;;;20,00', rules=("broken_quoting",))
    shop.file(1, "quote.csv", [shop.ticket(1), broken, *(shop.ticket(1) for _ in range(5))])
    shop.file(1, "quoted.csv", [shop.ticket(1), last, *(shop.ticket(1) for _ in range(5))])


@_defect(
    "a stray quote that a later one closes",
    kept="the rows between them",
    refused="the two rows, as broken_quoting",
)
def _(shop: Shop) -> None:
    rules = ("broken_quoting", "wrong_column_count")
    opening = replace(shop.ticket(1), line='T1;"S1;22/10/2020 10:00:00;sale', rules=rules)
    closing = replace(shop.ticket(1), line='T2;S1;"22/10/2020 10:00:00";sale"', rules=rules)
    shop.file(1, "quotes.csv", [shop.ticket(1), opening, *(shop.ticket(1) for _ in range(5)), closing])


@_defect(
    "two stray quotes that make one row of many",
    kept="the rows between them",
    refused="the two rows, as broken_quoting",
)
def _(shop: Shop) -> None:
    first, last = shop.ticket(1).values["ticket_id"], shop.ticket(1).values["ticket_id"]
    opening = f'{first};S1;"R1;22/10/2020 10:00:00;sale;;;;;;;;20,00'
    closing = f'{last};S1;R1";22/10/2020 10:00:00;sale;;;;;;;;20,00'
    broken = [replace(shop.ticket(1), line=line, rules=("broken_quoting",)) for line in (opening, closing)]
    shop.file(1, "quotes.csv", [shop.ticket(1), broken[0], *(shop.ticket(1) for _ in range(5)), broken[1]])


@_defect("a row with too few or too many values", kept="the other rows", refused="the row, as wrong_column_count")
def _(shop: Shop) -> None:
    few = replace(shop.order(1), line="O1,C1,paid", rules=("wrong_column_count",))
    many = replace(shop.order(1), line="O2" + ",1" * 40, rules=("wrong_column_count",))
    shop.file(1, "ragged.csv", [few, shop.order(1), many, shop.order(1)])


@_defect("Parquet with the natural types", kept="every row")
def _(shop: Shop) -> None:
    order, ticket = shop.order(1, shipping_amount=Decimal("4.90")), shop.ticket(1)
    for row in (order, ticket, shop.line(order), shop.line(ticket), shop.customer(1, birth_date=date(1980, 2, 29))):
        shop.file(1, "natural.parquet", [row])


@_defect(
    "Parquet with other types",
    kept="what can only mean one thing",
    refused="an instant without its offset",
)
def _(shop: Shop) -> None:
    order, ticket = shop.order(1, "33.10"), shop.ticket(1, "20.50")
    texts = order.written(ordered_at=order.values["ordered_at"].isoformat(), total_amount="33.10")
    shop.file(1, "texts.parquet", [texts], types={"ordered_at": pa.string(), "total_amount": pa.string()})
    shop.file(1, "floats.parquet", [shop.ticket(1, "20.50")], types={"total_amount": pa.float64()})
    shop.file(1, "wide.parquet", [shop.ticket(1, "0.10")], types={"total_amount": pa.decimal128(38, 6)})
    shop.file(1, "local.parquet", [ticket], types={"sold_at": pa.timestamp("ms")})
    shop.file(1, "lines.parquet", [shop.line(ticket)], types={"line_no": pa.string(), "quantity": pa.int8()})
    naive = shop.order(1)
    shop.file(
        1, "naive.parquet", [naive.refused(UNREADABLE, column="ordered_at")], types={"ordered_at": pa.timestamp("us")}
    )
    day = shop.order(1)
    shop.file(1, "days.parquet", [day.refused(UNREADABLE, column="ordered_at")], types={"ordered_at": pa.date32()})


# Time.


@_defect(
    "a moment in the future",
    kept="what falls on the day of delivery or the next; the others' neighbours",
    refused="what falls later, as in_the_future",
)
def _(shop: Shop) -> None:
    # The last second that can be right, and the first that cannot, in Paris.
    last = datetime(*(DAYS[2] + timedelta(days=1)).timetuple()[:3], 23, 59, 59, tzinfo=PARIS)
    too_late = (last + timedelta(seconds=1)).astimezone(UTC)
    shop.deliver(2, shop.ticket(2, sold_at=last), shop.order(2, ordered_at=last, updated_at=last))
    for row, column in (
        (shop.ticket(2, sold_at=too_late), "sold_at"),
        (shop.order(2, ordered_at=too_late, updated_at=too_late), "ordered_at"),
        (shop.refund(2, None, refunded_at=too_late), "refunded_at"),
        (shop.customer(2, updated_at=datetime(2120, 1, 1, tzinfo=UTC)), "updated_at"),
    ):
        shop.deliver(2, row.refused("in_the_future", column=column))


@_defect("the hour that comes twice in autumn", kept="every row; a till's means the first, the shop says which")
def _(shop: Shop) -> None:
    # 25 October 2020 02:30 is 00:30 and 01:30 in UTC.
    first, second = (datetime(2020, 10, 25, hour, 30, tzinfo=UTC) for hour in (0, 1))
    shop.deliver(3, shop.ticket(3, sold_at=first), shop.ticket(3, sold_at=datetime(2020, 10, 25, 2, 30, tzinfo=UTC)))
    for moment, text in ((first, "2020-10-25T02:30:00+02:00"), (second, "2020-10-25T02:30:00+01:00")):
        shop.deliver(3, shop.order(3, ordered_at=moment, updated_at=moment).written(ordered_at=text, updated_at=text))


@_defect("the hour that is left out in spring", kept="every row; a till that says 02:30 means half past one in UTC")
def _(shop: Shop) -> None:
    for text, hour, minute, second in (("01:59:59", 0, 59, 59), ("03:00:00", 1, 0, 0), ("02:30:00", 1, 30, 0)):
        moment = datetime(2020, 3, 29, hour, minute, second, tzinfo=UTC)
        shop.deliver(1, shop.ticket(1, sold_at=moment).written(sold_at=f"29/03/2020 {text}"))
    shop.deliver(1, shop.order(1, ordered_at=datetime(2020, 3, 29, 1, 0, tzinfo=UTC)))


@_defect("either side of midnight in Paris", kept="every row, each on its own day")
def _(shop: Shop) -> None:
    for day in (date(2020, 7, 14), date(2020, 1, 14), date(2020, 10, 25), date(2020, 3, 29)):
        before = datetime(day.year, day.month, day.day, 23, 59, 59, tzinfo=PARIS)
        for moment in (before, before.astimezone(UTC) + timedelta(seconds=1)):
            order = shop.order(3, ordered_at=moment.astimezone(UTC), updated_at=moment.astimezone(UTC))
            shop.deliver(3, shop.ticket(3, sold_at=moment), order)
            shop.deliver(3, shop.refund(3, order, refunded_at=moment.astimezone(UTC)))


# References.


@_defect("a store that nobody announced", kept="the ticket, flagged until the store is announced")
def _(shop: Shop) -> None:
    ticket = shop.ticket(1, store_id="S77")
    order = shop.order(1, fulfilment="click_and_collect", pickup_store_id="S77")
    shop.deliver(1, *shop.with_line(ticket, order))
    shop.announce(3, shop.store("S77"))


@_defect("a product that nobody announced", kept="the line, flagged until the product is announced")
def _(shop: Shop) -> None:
    ticket = shop.ticket(1)
    shop.deliver(1, ticket, shop.line(ticket, product="P77"))
    shop.announce(3, shop.product("P77"))


@_defect(
    "a whole table that comes without some of its rows", kept="the rows of the last delivery; the others are replaced"
)
def _(shop: Shop) -> None:
    shop.deliver(1, *(shop.stock(1, f"P{n}", n) for n in (1, 2, 3)))
    shop.file(3, "stock.csv", [shop.stock(3, "P1", 7), shop.stock(3, "P4", 4)])
    # A row of the last delivery that is refused: the older row of its key stays in force.
    shop.file(3, "stock_2.csv", [shop.stock(3, "P2", 0).broken("quantity", "none", UNREADABLE)])


@_defect(
    "a whole table that is cut off",
    kept="the rows before the cut, and every key that stands behind it as it was",
    refused="the row that was cut",
)
def _(shop: Shop) -> None:
    shop.deliver(1, *(shop.stock(1, f"P{n}", n) for n in (1, 2, 3)))
    cut = replace(shop.stock(3, "P2", 0).refused("wrong_column_count", "cut_off", UNREADABLE), line="S1")
    shop.file(
        3,
        "stock.csv",
        [shop.stock(3, "P1", 7), cut],
        damage=lambda whole: whole.rstrip(b"\n") + b",P2",
        statuses=("cut_off",),
    )


@_defect("a negative quantity on a sale", kept="the line as it says")
def _(shop: Shop) -> None:
    ticket = shop.ticket(1, "10.00")
    shop.deliver(1, ticket, shop.line(ticket, 1, "15.00"), shop.line(ticket, 2, "-5.00"))


@_defect(
    "pickups, and returns of online orders in a store", kept="every ticket, and none of them counts: the order does"
)
def _(shop: Shop) -> None:
    order = shop.order(1, "50.00", fulfilment="click_and_collect", pickup_store_id="S1")
    number = order.values["order_id"]
    shop.deliver(1, *shop.with_line(order))
    for total in ("0.00", "50.00"):
        shop.deliver(2, shop.ticket(2, total, ticket_type="pickup", web_order_id=number))
    back = shop.ticket(3, "-12.00", ticket_type="return", web_order_id=number)
    own = shop.ticket(3, "-20.00", ticket_type="return", original_ticket_id="T1")
    shop.deliver(3, *shop.with_line(back, own))


# Rows that are refused, and come again.


@_defect(
    "a refused row that comes again as it should be",
    kept="the corrected row, which counts",
    refused="the row, until the corrected one comes: then it leaves quarantine",
)
def _(shop: Shop) -> None:
    for row in (shop.ticket(1), shop.refund(1, None)):
        text = "12 euros"
        shop.deliver(1, row.broken("total_amount", text, UNREADABLE))
        shop.deliver(3, row)
    # The correction is the newer version: an older one that comes later is none, and a refused older one is history.
    order = shop.order(1)
    newer = order.but(status="shipped", updated_at=shop.at(2))
    shop.deliver(2, newer.broken("fulfilment", "drone", "unknown_choice"))
    shop.deliver(3, order)
    shop.deliver(4, newer.but(updated_at=shop.at(4)))
    shop.deliver(5, order.but(updated_at=shop.at(3)).broken("fulfilment", "drone", "unknown_choice"))
    customer = shop.customer(1)
    shop.deliver(1, customer.broken("created_at", "yesterday", UNREADABLE))
    shop.deliver(2, customer.broken("created_at", "", "mandatory_missing"))
    shop.deliver(3, customer)


@_defect("the newest version of a row is refused", kept="the older version stays in force", refused="the newest")
def _(shop: Shop) -> None:
    order, ticket = shop.order(1), shop.ticket(1)
    shop.deliver(1, *shop.with_line(order, ticket))
    later = order.but(status="refunded", updated_at=shop.at(3))
    shop.deliver(3, later.broken("fulfilment", "drone", "unknown_choice"))
    shop.deliver(3, ticket.broken("total_amount", "", "mandatory_missing"))


@_defect("a mandatory value that is missing or unknown", kept="the other rows", refused="the row, with its column")
def _(shop: Shop) -> None:
    shop.deliver(1, shop.ticket(1).broken("store_id", "", "mandatory_missing"))
    shop.deliver(1, shop.ticket(1).broken("store_id", "  ", "mandatory_missing"))
    shop.deliver(1, shop.ticket(1).broken("ticket_type", "gift", "unknown_choice"))
    shop.deliver(1, shop.order(1).broken("ordered_at", "2020-10-20T10:00:00", UNREADABLE))
    nobody = shop.ticket(1).but(ticket_id=None)
    shop.deliver(1, nobody.refused("mandatory_missing", column="ticket_id"))


@_defect("an optional value that cannot be read", kept="the row, with nothing in that column; the column is reported")
def _(shop: Shop) -> None:
    shop.deliver(1, shop.ticket(1).written(discount_amount="a lot", email="not an address", phone="12"))
    shop.deliver(1, shop.customer(1).written(birth_date="31/02/1980", country="Atlantis"))
    shop.deliver(1, shop.order(1).written(shipping_amount="1,5"))


# Hostile input.


HOSTILE = {
    "formulas": ('=HYPERLINK("http://evil.example")', "+33-1", "@SUM(A1:A9)", "-2+3", "|cmd /c calc"),
    "quotes and separators": ('He said "no"; then, "yes"', "a,b;c\td|e", "two\nlines", "'single'", "back\\slash", '"'),
    "SQL": ("Robert'); drop table staging.stg_shop_orders; --", "' or 1=1 --", "{{ ref('x') }}", "${HOME} $1 %s {0}"),
    "scripts": ("<script>alert('x')</script>", "<img src=x onerror=alert(1)>", "&lt;b&gt;", "javascript:alert(1)"),
    "5,000 characters": ("é" * 5000, "x" * 5000),
    "invisible letters": ("a\u202eb", "zero\u200bwidth", "\u0001bell", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 🦊"),
}


def _hostile(kind: str) -> Callable[[Shop], None]:
    def happen(shop: Shop) -> None:
        for text in HOSTILE[kind]:
            till = text.encode("latin-1", "ignore").decode("latin-1")
            shop.deliver(1, shop.customer(1, first_name=text, last_name=text, address_line1=text, city=text))
            shop.deliver(1, shop.order(1, first_name=text, last_name=text, payment_token=text))
            shop.deliver(1, shop.refund(1, None, reason=text))
            shop.deliver(1, shop.ticket(1, register_id=till, payment_token=till))
            shop.announce(1, shop.product(shop.id("P"), name=text, category="Things"))
            shop.announce(1, shop.store(shop.id("S"), name=text, city=text))

    return happen


for _kind in HOSTILE:
    _defect(f"{_kind} in names", kept="every row, letter by letter")(_hostile(_kind))


@_defect("formulas and SQL in keys", kept="every row, letter by letter")
def _(shop: Shop) -> None:
    for text in ("=1+1", "O'Hara", 'x"y', "a|b", "<script>alert(1)</script>", "--", "%", "T;1"):
        ticket = shop.ticket(1, ticket_id=f"{text}{shop.id('T')}")
        order = shop.order(1, order_id=f"{text}{shop.id('O')}")
        shop.deliver(1, *shop.with_line(ticket, order))


FILE_NAMES = (
    'it\'s "quoted".csv',
    "part_*.csv",
    "part_0?.csv",
    "[a-z]{1,2}.csv",
    "**.csv.gz",
    "-rf.csv",
    "$(touch pwned);`id`.csv",
    "a';drop table landing.files;--.csv",
    "a..%2f..%2fetc.csv",
    "C:\\till.csv",
    "é💶 .csv",
    "=1+1.csv",
    "<b>bold<br>.csv.gz",
    "*.parquet",
    "x" * 240 + ".csv",
)


@_defect(
    "names of files that try something",
    kept="every row of every file, once",
)
def _(shop: Shop) -> None:
    for name in FILE_NAMES:
        shop.file(1, name, [shop.ticket(1), shop.ticket(1)])


@_defect(
    "names of files that are no plain text", kept="nothing", refused="the file, which is told under a name that is"
)
def _(shop: Shop) -> None:
    bytes_of_file = content(File("pos_tickets", DAYS[1], 1, "a.csv", [shop.ticket(1)]))

    def write(landing: Path) -> None:
        folder = landing / "pos_tickets" / DAYS[1].isoformat()
        folder.mkdir(parents=True, exist_ok=True)
        for name in (b"two\nlines.csv", b"caf\xe9.csv", b"\x1b[31mred.csv"):
            (Path(os.fsdecode(bytes(folder) + b"/" + name))).write_bytes(bytes_of_file)

    shop.act(1, write)


@_defect("symbolic links in landing", kept="nothing: a link is not followed, and is told")
def _(shop: Shop) -> None:
    stolen = content(File("pos_tickets", DAYS[1], 1, "a.csv", [shop.ticket(1)]))

    def link(landing: Path) -> None:
        outside = landing.parent / "outside" / DAYS[1].isoformat()
        outside.mkdir(parents=True, exist_ok=True)
        (outside / "stolen.csv").write_bytes(stolen)
        folder = landing / "pos_tickets" / DAYS[1].isoformat()
        folder.mkdir(parents=True, exist_ok=True)
        os.symlink(outside / "stolen.csv", folder / "link.csv")
        os.symlink("/dev/zero", folder / "endless.csv")
        os.symlink(landing / "nowhere.csv", folder / "dangling.csv")
        os.symlink(outside, landing / "pos_tickets" / "2020-10-20")
        os.symlink(outside.parent, landing / "web_events_too")
        os.mkfifo(folder / "pipe.csv")
        (folder / "folder.csv").mkdir()
        (landing / "pos_tickets" / "yesterday").mkdir()

    shop.act(1, link)


@_defect("what is no number", kept="the other rows", refused="the row, with its column")
def _(shop: Shop) -> None:
    for text in (
        "1.234,56",
        "1 234,56",
        "12,345",
        "12,50 EUR",
        "0x10",
        "--5",
        ",",
        "NaN",
        "Infinity",
        "1e999",
        "9" * 30,
    ):
        shop.deliver(1, shop.ticket(1).broken("total_amount", text, UNREADABLE, "out_of_bounds"))
    order = shop.order(1)
    shop.deliver(1, *shop.with_line(order))
    for number, text in enumerate(("9" * 30, "1.5", "1e3", "NaN"), start=2):
        line = shop.line(order, number).broken("quantity", text, UNREADABLE, "out_of_bounds")
        shop.deliver(1, line)
    plain = (("0.00", "-0,00"), ("7.00", "+007"), ("12.50", "12,5"), ("12.50", "12.50"))
    shop.deliver(1, *(shop.ticket(1, total).written(total_amount=text) for total, text in plain))


@_defect(
    "absurd numbers",
    kept="the other rows, and every sum",
    refused="the row, with its column",
)
def _(shop: Shop) -> None:
    for text in ("9999999999999999,99", "-9999999999999999,99"):
        shop.deliver(1, shop.ticket(1).broken("total_amount", text, UNREADABLE, "out_of_bounds"))
    order = shop.order(1)
    shop.deliver(1, *shop.with_line(order))
    for number, text in enumerate(("999999999999999999", "-999999999999999999"), start=2):
        shop.deliver(1, shop.line(order, number).broken("quantity", text, UNREADABLE, "out_of_bounds"))


MARKS = ("<!-- defects -->", "<!-- end of defects -->")


def page_with_list(text: str) -> str:
    """The text of a page with the list of all defects between its marks."""
    rows = [
        f"| {defect.name}{' (*)' if defect.wrong else ''} | {defect.kept} | {defect.refused} |" for defect in DEFECTS
    ]
    table = "\n".join(["| what is delivered | what is kept | what is refused |", "|---|---|---|", *rows])
    before, _, rest = text.partition(MARKS[0])
    return f"{before}{MARKS[0]}\n\n{table}\n\n{MARKS[1]}{rest.partition(MARKS[1])[2]}"


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(page_with_list(page.read_text(encoding="utf-8")), encoding="utf-8")
