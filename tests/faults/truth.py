"""What must be kept of what was delivered, worked out in plain Python from the source contract.

Here belong delivered rows and files with what is true of them, and the rules of the contract that decide which row of a
key counts, which line waits for its header, which amount counts on which day. Nothing here reads the pipeline's code or
tables: that is ``books``, which compares. What can be wrong with a delivery is ``catalogue``.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from dagster_project.domain.contract import feeds

PARIS = ZoneInfo("Europe/Paris")
Place = tuple[str, int]  # path under landing, line after the header


@dataclass(frozen=True, eq=False)
class Row:
    """One delivered row: ``values`` is what it says, ``texts`` how a column is written where that is not the plain way.

    ``rules`` is not empty where the row must be refused, for one of them; ``column`` is the one that the message must
    then name. ``line`` is the whole line as it stands in the file, where it is no row at all.
    """

    feed: str
    values: Mapping[str, Any]
    texts: Mapping[str, str] = field(default_factory=dict)
    rules: tuple[str, ...] = ()
    column: str | None = None
    line: str | None = None
    defect: str = ""

    def but(self, **values: Any) -> "Row":
        """The same row saying something else."""
        return replace(self, values={**self.values, **values})

    def written(self, **texts: str) -> "Row":
        """The same row, in another notation."""
        return replace(self, texts={**self.texts, **texts})

    def broken(self, column: str, text: str, *rules: str) -> "Row":
        """The same row with a text in a mandatory column that costs it."""
        return replace(self, texts={**self.texts, column: text}, rules=rules, column=column)

    def refused(self, *rules: str, column: str | None = None) -> "Row":
        return replace(self, rules=rules, column=column)

    @property
    def key(self) -> tuple[Any, ...] | None:
        """The row's key; None where it cannot be read as a row."""
        return None if self.line is not None else tuple(self.values.get(name) for name in feeds()[self.feed].key)

    @property
    def content(self) -> tuple[Any, ...]:
        """What it says beside its key, comparable: instants in UTC, texts without the blanks around them."""
        shape = feeds()[self.feed]
        return tuple(comparable(self.values.get(name)) for name in shape.column_names if name not in shape.key)


def comparable(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    if isinstance(value, Decimal):
        return value.quantize(Decimal("0.01"))
    if isinstance(value, str):
        return value.strip() or None
    return value


@dataclass
class File:
    """One delivered file. ``night`` is when it arrives, ``day`` the folder in which it lies, ``rows`` what is in it.

    ``rows`` are those that a reader can see, in their order; ``hidden`` stand in the file too, after a cut or in a file
    that nothing can be made of. ``growing`` are written to it while it is read on its first night. ``damage`` turns the
    whole file's bytes into those that are delivered. ``statuses`` and ``words`` are what must be said of it.
    """

    feed: str
    day: date
    night: int
    name: str
    rows: list[Row]
    hidden: list[Row] = field(default_factory=list)
    growing: list[Row] = field(default_factory=list)
    columns: tuple[str, ...] | None = None
    extra: Mapping[str, str] = field(default_factory=dict)  # columns that are not in the contract, with their value
    types: Mapping[str, str] = field(default_factory=dict)  # of Parquet columns, where they are not the natural ones
    damage: Callable[[bytes], bytes] | None = None
    statuses: tuple[str, ...] = ("loaded",)
    words: tuple[str, ...] = ()
    defect: str = ""

    @property
    def path(self) -> str:
        return f"{self.feed}/{self.day.isoformat()}/{self.name}"

    def rows_on(self, night: int) -> list[Row]:
        return self.rows + self.growing if night > self.night else self.rows


@dataclass(frozen=True)
class Contest:
    """The accepted rows of one key. ``winners`` may be chosen from: rows of one file that differ have equal rights."""

    winners: Mapping[Place, Row]
    accepted: Mapping[Place, Row]

    def beside(self, place: Place) -> tuple[int, int, int]:
        """With that place as the current row: how many others are identical, superseded, and contrary in its file."""
        content = self.accepted[place].content
        same = sum(1 for row in self.accepted.values() if row.content == content)
        contrary = sum(1 for (file, _), row in self.accepted.items() if file == place[0] and row.content != content)
        return same - 1, len(self.accepted) - same, contrary


@dataclass
class FeedTruth:
    """The fate of each delivered row of a feed: in exactly one of these."""

    contests: dict[tuple[Any, ...], Contest] = field(default_factory=dict)
    refused: dict[Place, tuple[Row, tuple[str, ...]]] = field(default_factory=dict)
    corrected: dict[Place, Row] = field(default_factory=dict)  # refused, and followed by the row that counts
    replaced: dict[Place, Row] = field(default_factory=dict)  # of a table that came whole again without them

    def __iter__(self) -> Iterable[Place]:
        for contest in self.contests.values():
            yield from contest.accepted
        yield from self.refused
        yield from self.corrected
        yield from self.replaced


def _is_outranked(refused: Row, rank: int, version_column: str | None, version: Any, best_rank: int) -> bool:
    """Whether the row of its key that counts would have won against it, could it be read."""
    if version_column and refused.column != version_column:
        own = comparable(refused.values[version_column])
        return version > own or (version == own and best_rank > rank)
    return best_rank > rank


class Truth:
    """What must be the case after a night: of each delivered file the newest content, of each row its fate."""

    def __init__(self, files: Iterable[File], night: int) -> None:
        newest: dict[str, File] = {}
        for file in sorted(files, key=lambda file: file.night):
            if file.night <= night:
                newest[file.path] = file
        self.night = night
        self.files = newest
        self.feeds: dict[str, FeedTruth] = {}
        for name in feeds():
            self.feeds[name] = self._feed(name)

    def _feed(self, name: str) -> FeedTruth:
        shape, found = feeds()[name], FeedTruth()
        mine = sorted((file for file in self.files.values() if file.feed == name), key=lambda f: (f.day, f.name))
        accepted: dict[tuple[Any, ...], list[tuple[Any, int, Place, Row]]] = defaultdict(list)
        refused: list[tuple[int, Place, Row]] = []
        best_of: dict[tuple[Any, ...] | None, tuple[Any, int]] = {}
        # A delivery that was cut off says nothing of the keys that it does not hold.
        days = {file.day for file in mine if file.rows_on(self.night)}
        whole = days - {file.day for file in mine if "cut_off" in file.statuses}
        last_day = max(whole or {min(days)}) if days else None
        last_keys = {row.key for file in mine if last_day and file.day >= last_day for row in file.rows_on(self.night)}
        for rank, file in enumerate(mine):
            for line, row in enumerate(file.rows_on(self.night), start=1):
                place = (file.path, line)
                if row.rules:
                    refused.append((rank, place, row))
                elif shape.header and row.key[:1] not in self.feeds[shape.header].contests:  # type: ignore[index]
                    found.refused[place] = (row, ("header_missing",))
                elif shape.whole_table and row.key not in last_keys:
                    found.replaced[place] = row
                else:
                    version = comparable(row.values[shape.version]) if shape.version else 0
                    accepted[row.key].append((version, rank, place, row))  # type: ignore[index]
        for key, rows in accepted.items():
            best_of[key] = best = max((version, rank) for version, rank, _, _ in rows)
            found.contests[key] = Contest(
                {place: row for version, rank, place, row in rows if (version, rank) == best},
                {place: row for _, _, place, row in rows},
            )
        for rank, place, row in refused:
            if shape.whole_table and row.key and row.key not in last_keys:
                found.replaced[place] = row
            elif row.key in best_of and _is_outranked(row, rank, shape.version, *best_of[row.key]):
                found.corrected[place] = row
            else:
                found.refused[place] = (row, row.rules)
        return found


@dataclass(frozen=True)
class Booking:
    """What the ledger must say of one order, ticket or refund."""

    channel: str
    kind: str
    business_on: date
    amount: Decimal
    is_excluded: bool

    @property
    def counted_amount(self) -> Decimal:
        return Decimal("0.00") if self.is_excluded else self.amount


def paris_day(moment: datetime) -> date:
    return moment.astimezone(PARIS).date()


def ledger(current: Mapping[str, Iterable[Row]]) -> dict[tuple[str, str], Booking]:
    """The contract's «what counts as revenue, and when», of the rows that are in force."""
    found: dict[tuple[str, str], Booking] = {}
    gone = {
        row.values["order_id"] for row in current["shop_orders"] if row.values["status"] in ("cancelled", "refunded")
    }
    for row in current["shop_orders"]:
        order = row.values
        found["shop_orders", order["order_id"]] = Booking(
            "online", "sale", paris_day(order["ordered_at"]), order["total_amount"], order["order_id"] in gone
        )
    for row in current["shop_refunds"]:
        refund = row.values
        found["shop_refunds", refund["refund_id"]] = Booking(
            "online", "refund", paris_day(refund["refunded_at"]), refund["total_amount"], refund.get("order_id") in gone
        )
    for row in current["pos_tickets"]:
        ticket = row.values
        kind = ticket["ticket_type"]
        belongs_to_order = kind == "pickup" or (kind == "return" and ticket.get("web_order_id") is not None)
        found["pos_tickets", ticket["ticket_id"]] = Booking(
            "store", kind, paris_day(ticket["sold_at"]), ticket["total_amount"], belongs_to_order
        )
    return found
