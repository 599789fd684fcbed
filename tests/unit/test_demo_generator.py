"""The generated retailer: complete, repeatable, and true to what it says of itself."""

import csv
import gzip
import hashlib
import io
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from dagster_project.demo import DemoPlan, DemoSummary, generate, seasons
from dagster_project.demo.files import cut_off_on
from dagster_project.domain.contract import feeds

PLAN = DemoPlan(persons=1500, nights=3, seed=7)


@dataclass(frozen=True)
class Demo:
    """A generated retailer on disk, and a database with a table of text per feed (parquet and readable CSV rows)."""

    root: Path
    summary: DemoSummary
    con: duckdb.DuckDBPyConnection
    told: tuple[float, ...]

    def one(self, sql: str) -> object:
        ((value,),) = self.con.execute(sql).fetchall()
        return value


def _text_rows(path: Path, encoding: str, delimiter: str) -> list[dict[str, str]]:
    """The rows of a CSV file that have as many fields as its header."""
    packed = path.read_bytes()
    text = (gzip.decompress(packed) if path.suffix == ".gz" else packed).decode(encoding)
    header, *rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    return [dict(zip(header, row, strict=True)) for row in rows if len(row) == len(header)]


def _load(con: duckdb.DuckDBPyConnection, root: Path) -> None:
    for feed in feeds().values():
        names = ", ".join(f"{name} varchar" for name in feed.column_names)
        con.execute(f"create table {feed.name} ({names}, delivered_on date)")
        columns = ", ".join(f"nullif({name}::varchar, '') as {name}" for name in feed.column_names)
        insert = f"insert into {feed.name} by name select {columns}, delivered_on::date as delivered_on"
        texts: list[dict[str, str]] = []
        for path in sorted((root / "landing" / feed.name).glob("*/*")):
            if path.suffix == ".parquet":
                con.execute(
                    f"{insert} from (select *, '{path.parent.name}' as delivered_on from read_parquet('{path}'))"
                )
            elif path.suffix != ".part":
                dialect = ("latin-1", ";") if feed.dialect == "pos" else ("utf-8-sig", ",")
                texts += [row | {"delivered_on": path.parent.name} for row in _text_rows(path, *dialect)]
        wanted = [*feed.column_names, "delivered_on"]
        con.register("texts", pa.table({name: [row[name] for row in texts] for name in wanted}))
        con.execute(f"{insert} from texts")
        con.unregister("texts")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    root = tmp_path_factory.mktemp("demo")
    told: list[float] = []
    summary = generate(root / "landing", root / "truth", PLAN, lambda words, share: told.append(share))
    con = duckdb.connect()
    con.execute("set timezone = 'UTC'")
    _load(con, root)
    for name in ("records", "persons", "transactions", "consents"):
        con.execute(f"create table truth_{name} as select * from read_csv('{root}/truth/{name}.csv', header = true)")
    return Demo(root, summary, con, tuple(told))


def _content(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_the_same_plan_gives_the_same_bytes(tmp_path: Path) -> None:
    plan = DemoPlan(persons=80, nights=1, seed=3)
    for name in ("first", "second"):
        generate(tmp_path / name / "landing", tmp_path / name / "truth", plan)
    assert _content(tmp_path / "first") == _content(tmp_path / "second")


@pytest.mark.parametrize("feed", list(feeds()))
def test_every_feed_and_every_column_of_the_contract_is_delivered(demo: Demo, feed: str) -> None:
    counts = ", ".join(f"count({name})" for name in feeds()[feed].column_names)
    ((total, *filled),) = demo.con.execute(f"select count(*), {counts} from {feed}").fetchall()
    empty = [name for name, count in zip(feeds()[feed].column_names, filled, strict=True) if count == 0]
    assert total > 0
    assert empty == []


@pytest.mark.parametrize(
    "feed", ["shop_orders", "shop_order_lines", "pos_tickets", "pos_ticket_lines", "shop_refunds", "shop_refund_lines"]
)
def test_a_transactional_feed_has_a_history_of_deliveries_before_the_first_night(demo: Demo, feed: str) -> None:
    before = demo.one(
        f"select count(distinct delivered_on) from {feed} where delivered_on < date '{demo.summary.nights[0]}'"
    )
    assert isinstance(before, int)
    assert before >= 30


def test_the_nights_are_the_last_deliveries(demo: Demo) -> None:
    assert demo.summary.nights == tuple(seasons.nights(3))
    newest = max(path.parent.name for path in (demo.root / "landing").glob("*/*/*"))
    assert newest == demo.summary.nights[-1].isoformat()


@pytest.mark.parametrize("feed", ["shop_orders", "shop_order_lines", "pos_tickets", "pos_ticket_lines"])
def test_a_night_is_not_much_smaller_than_the_deliveries_before_it(demo: Demo, feed: str) -> None:
    for night in demo.summary.nights:
        share = demo.one(
            f"""
            with days as (select delivered_on, count(*) as n from {feed} group by 1),
            before as (select n from days where delivered_on < date '{night}' order by delivered_on desc limit 28)
            select (select n from days where delivered_on = date '{night}') / (select median(n) from before)
            """
        )
        assert isinstance(share, float)
        assert share > 0.5


def test_the_total_of_an_order_is_its_lines_plus_shipping_less_discount_but_for_a_few(demo: Demo) -> None:
    orders, off = demo.con.execute(
        """
        with heads as (
            select distinct order_id, total_amount::decimal(18, 2) - coalesce(shipping_amount::decimal(18, 2), 0)
                + coalesce(discount_amount::decimal(18, 2), 0) as goods
            from shop_orders where try_cast(total_amount as decimal(18, 2)) is not null and order_id <> ''
        ),
        lines as (
            select order_id, sum(amount) as goods from (
                select distinct order_id, line_no, amount::decimal(18, 2) as amount from shop_order_lines
                where try_cast(amount as decimal(18, 2)) is not null and try_cast(line_no as integer) is not null
            ) group by order_id
        )
        select count(*), count(*) filter (heads.goods <> lines.goods) from heads join lines using (order_id)
        """
    ).fetchall()[0]
    assert orders > 1000
    assert off < orders * 0.01


def test_no_ticket_was_printed_while_the_stores_were_closed(demo: Demo) -> None:
    closed = f"between date '{seasons.CLOSED_FROM}' and date '{seasons.CLOSED_UNTIL}'"
    assert demo.one(f"select count(*) from truth_transactions where channel = 'store' and business_on {closed}") == 0
    assert (
        demo.one(
            f"select count(*) from store_hours where delivered_on = date '2020-07-09' and is_open = 'true'"
            f" and day::date {closed}"
        )
        == 0
    )
    assert demo.one(f"select count(*) from truth_transactions where channel = 'online' and business_on {closed}") != 0


def test_truth_names_the_person_behind_every_record_that_bears_one(demo: Demo) -> None:
    unknown = demo.con.execute(
        """
        with delivered as (
            select 'shop_customers' as feed, customer_id as record_id from shop_customers
            union select 'loyalty_members', card_id from loyalty_members
            union select 'shop_orders', order_id from shop_orders
            union select 'pos_tickets', ticket_id from pos_tickets
                where coalesce(loyalty_card_id, email, phone, payment_token, '') <> '' and sold_at not like '32/%'
        )
        select feed, record_id from delivered left join truth_records using (feed, record_id)
        where person_id is null and regexp_matches(record_id, '^[CLWT0-9]')
        """
    ).fetchall()
    assert unknown == []
    assert demo.one("select count(*) - count(distinct (feed, record_id)) from truth_records") == 0
    assert (
        demo.one("select count(*) from truth_records where person_id not in (select person_id from truth_persons)") == 0
    )


def test_truth_counts_every_order_ticket_and_refund_once(demo: Demo) -> None:
    for feed, key in (("shop_orders", "order_id"), ("pos_tickets", "ticket_id"), ("shop_refunds", "refund_id")):
        missing = demo.one(
            f"""
            select count(*) from (select distinct {key} as record_id from {feed} where {key} <> '') as delivered
            anti join (select record_id from truth_transactions where feed = '{feed}') using (record_id)
            """
        )
        assert missing == 0
    assert demo.one("select count(*) - count(distinct (feed, record_id)) from truth_transactions") == 0
    assert (
        demo.one("select count(*) from truth_transactions where counted_amount <> 0 and record_id like 'T-LUCIE%'") == 0
    )


def test_lines_that_never_get_a_ticket_are_few(demo: Demo) -> None:
    share = demo.one(
        "select avg((ticket_id not in (select ticket_id from pos_tickets where ticket_id <> ''))::integer)"
        " from pos_ticket_lines where ticket_id <> ''"
    )
    assert isinstance(share, float)
    assert 0 < share < 0.005


def test_files_are_of_every_format_and_a_few_are_damaged(demo: Demo) -> None:
    files = [path for path in (demo.root / "landing").glob("*/*/*") if path.is_file()]
    forms = {".csv", ".gz", ".parquet", ".part"}
    assert {path.suffix for path in files} == forms
    text = [
        path.read_bytes() if path.suffix == ".csv" else gzip.decompress(path.read_bytes())
        for path in files
        if path.suffix in (".csv", ".gz")
    ]
    assert any(content.startswith(b"\xef\xbb\xbf") for content in text)
    assert any(b"\r\n" in content for content in text)
    assert any("_again" in path.name for path in files)
    cut = demo.root / "landing" / "pos_tickets" / cut_off_on(list(demo.summary.nights)).isoformat()
    assert any(not path.read_bytes().endswith(b"\n") for path in cut.glob("*.csv"))
    with next(iter(sorted((demo.root / "landing" / "pos_tickets" / "2020-07-10").glob("*.csv")))).open(
        encoding="latin-1"
    ) as lines:
        assert "cashier_initials" in next(csv.reader(lines, delimiter=";"))


def test_the_quarter_of_the_tickets_or_more_is_anonymous_but_not_most(demo: Demo) -> None:
    share = demo.one(
        "select avg((coalesce(loyalty_card_id, email, phone, payment_token, '') = '')::integer) from pos_tickets"
        " where ticket_id like 'T0%' and ticket_type = 'sale'"
    )
    assert isinstance(share, float)
    assert 0.35 < share < 0.55


def test_somebody_became_omnichannel_within_the_last_ninety_days(demo: Demo) -> None:
    count = demo.one(
        f"""
        with channels as (
            select person_id, count(distinct channel) filter (business_on < date '{seasons.LAST_NIGHT}' - 90) as before,
                count(distinct channel) filter (business_on >= date '{seasons.LAST_NIGHT}' - 90) as since
            from truth_transactions where counted_amount > 0 group by 1
        )
        select count(*) from channels where before = 1 and since = 2
        """
    )
    assert isinstance(count, int)
    assert count >= 10


def test_progress_is_told_up_to_the_end(demo: Demo) -> None:
    assert list(demo.told) == sorted(demo.told)
    assert demo.told[-1] == 1.0


def test_the_first_night_holds_the_history_and_a_late_header_comes_after_its_lines(demo: Demo) -> None:
    assert demo.one("select min(delivered_on) from pos_tickets") == date(2018, 10, 1)
    late = demo.one(
        """
        with heads as (
            select ticket_id, min(delivered_on) as came_on from pos_tickets where ticket_id <> '' group by 1
        ),
        lines as (select ticket_id, min(delivered_on) as came_on from pos_ticket_lines where ticket_id <> '' group by 1)
        select count(*) from heads join lines using (ticket_id) where heads.came_on > lines.came_on
        """
    )
    assert isinstance(late, int)
    assert late > 0
