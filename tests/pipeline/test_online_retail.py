"""A real shop: every invoice line of Online Retail II has one row of a feed, and the books of the release hold it.

The data is not part of the project. It is looked for in the folder ``online-retail`` of ``COCANAL_TEST_DATA``, or of a
``shared/data`` beside the checkout. The sums it is judged by are made from the source file alone, in whole thousandths.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest

from dagster_project.importers import IMPORTERS
from dagster_project.nightly import run_night
from dagster_project.settings import load_settings

PROJECT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("COCANAL_TEST_DATA") or PROJECT.parent / "shared" / "data") / "online-retail"

pytestmark = pytest.mark.skipif(
    not any(DATA.glob("*.parquet")),
    reason=f"the invoices of Online Retail II are not in {DATA}; name their folder's parent in COCANAL_TEST_DATA",
)

# What the source says, by other means than the importer's: whole thousandths of a pound, then whole pennies.
_SOURCE = """
    create table source as
    with thousandths as (
        select
            "Invoice" as invoice,
            upper(trim("StockCode")) as product_id,
            "Quantity" as quantity,
            "Quantity" * cast(round("Price" * 1000) as bigint) as thousandths,
            "Price" = 0 as is_free,
            "Customer ID" as customer_id,
            "InvoiceDate" as invoiced_at
        from read_parquet({files})
    )

    select *, sign(thousandths)::bigint * ((abs(thousandths) + 5) // 10) as pennies
    from thousandths
"""


def _rows(landing: Path, feed: str, key: str, amount: str, values: str = "") -> str:
    """SQL of what was delivered of a feed: its lines or headers, each with the day that it came."""
    return f"""
        select
            {key} as invoice, ({amount}::decimal(18, 2) * 100)::bigint as pennies, {values} '{feed}' as feed,
            regexp_extract(filename, '([0-9-]{{10}})/[^/]*$', 1)::date as delivered_on
        from read_csv('{landing}/{feed}/*/*.csv', all_varchar = true, filename = true)
    """


@dataclass(frozen=True)
class Shop:
    """An import: the landing folder, and a database with ``source`` and ``delivered``."""

    landing: Path
    books: duckdb.DuckDBPyConnection
    summary: str

    def one(self, query: str) -> tuple:
        return self.books.execute(query).fetchall()[0]


def _imported(files: list[Path], landing: Path) -> Shop:
    summary = IMPORTERS["online-retail"](files, landing, lambda told: None)
    books = duckdb.connect()
    books.execute(_SOURCE.format(files=[str(file) for file in files]))
    line = "line_no::bigint as line_no, product_id, quantity::bigint as quantity,"
    books.execute(
        f"""
        create table delivered as
        {_rows(landing, "shop_order_lines", "order_id", "amount", line)}
        union all
        {_rows(landing, "shop_refund_lines", "refund_id", "amount", line)};
        create table headers as
        {_rows(landing, "shop_orders", "order_id", "total_amount")}
        union all
        {_rows(landing, "shop_refunds", "refund_id", "total_amount")}
        """
    )
    return Shop(landing, books, summary)


@pytest.fixture(scope="module")
def whole_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    shop = _imported(sorted(DATA.glob("*.parquet")), tmp_path_factory.mktemp("whole_shop") / "landing")
    yield shop
    shop.books.close()


@pytest.fixture(scope="module")
def one_month(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """April 2010: British summer time, a bad debt adjustment, credit notes, movements of stock."""
    folder = tmp_path_factory.mktemp("one_month")
    part = folder / "retail.parquet"
    with duckdb.connect() as connection:
        connection.execute(
            f"""
            copy (
                from read_parquet({[str(file) for file in sorted(DATA.glob("*.parquet"))]})
                where "InvoiceDate" >= timestamp '2010-04-01' and "InvoiceDate" < timestamp '2010-05-01'
            ) to '{part}' (format parquet)
            """
        )
    shop = _imported([part], folder / "home" / "landing")
    yield shop
    shop.books.close()


def test_every_line_became_exactly_one_row_of_a_feed(whole_shop: Shop) -> None:
    line = "invoice, product_id, quantity, pennies"
    lost = whole_shop.one(f"select count(*) from (select {line} from source except all select {line} from delivered)")
    added = whole_shop.one(f"select count(*) from (select {line} from delivered except all select {line} from source)")
    assert (lost, added) == ((0,), (0,))
    rows, keys, sources = whole_shop.one(
        "select count(*), count(distinct (invoice, line_no)), (select count(*) from source) from delivered"
    )
    assert rows == keys == sources > 500_000


def test_credit_notes_and_adjustments_are_refunds_and_all_else_is_orders(whole_shop: Shop) -> None:
    (misplaced,) = whole_shop.one(
        "select count(*) from delivered where (feed = 'shop_order_lines') = (invoice[1] in ('C', 'A'))"
    )
    assert misplaced == 0


def test_every_document_comes_on_the_day_after(whole_shop: Shop) -> None:
    (wrong,) = whole_shop.one(
        """
        select count(*)
        from (
            select invoice, delivered_on from delivered union select invoice, delivered_on from headers
        ) as delivered
        full join (select invoice, min(invoiced_at)::date + 1 as due_on from source group by invoice) as due
            using (invoice)
        where delivered.delivered_on is distinct from due.due_on
        """
    )
    assert wrong == 0


def test_every_header_is_the_sum_of_its_lines_to_the_penny(whole_shop: Shop) -> None:
    (wrong, count) = whole_shop.one(
        """
        with sums as (select invoice, sum(pennies) as pennies from source group by invoice)
        select count(*) filter (where headers.pennies is distinct from sums.pennies), count(*)
        from headers full join sums using (invoice)
        """
    )
    (invoices,) = whole_shop.one("select count(distinct invoice) from source")
    assert (wrong, count) == (0, invoices)


def test_the_release_of_a_month_holds_every_line_and_penny(one_month: Shop) -> None:
    settings = load_settings(home=one_month.landing.parent, currency="GBP", default_country="GB")
    night = run_night(settings)
    assert night.outcome == "released", night.sentences
    books = one_month
    books.books.execute(f"attach '{settings.current_release / 'cocanal.duckdb'}' as release (read_only)")

    lines, documents, pennies = books.one("select count(*), count(distinct invoice), sum(pennies) from source")
    held = books.one("select count(*) from release.account.transaction_lines")[0]
    refused = books.one("select count(*) from release.staging.quarantine where feed like 'shop_%_lines'")[0]
    assert held + refused == lines
    assert refused == 0

    booked = books.one(
        """
        select
            sum(delivered_count), (sum(delivered_amount) * 100)::bigint,
            (sum(counted_amount) * 100)::bigint, (sum(excluded_amount) * 100)::bigint
        from release.account.reconciliation
        """
    )
    # What is excluded are the movements of stock: no customer, no price.
    movements, moved = books.one(
        """
        select count(*), coalesce(sum(pennies), 0)
        from (
            select invoice, sum(pennies) as pennies from source
            where invoice[1] not in ('C', 'A')
            group by invoice
            having bool_and(is_free) and count(customer_id) = 0
        )
        """
    )
    assert booked == (documents, pennies, pennies - moved, moved)
    excluded = books.books.execute(
        "select exclusion, count(*) from release.account.transactions where exclusion is not null group by all"
    ).fetchall()
    assert excluded == [("cancelled", movements)]

    by_day = books.one(
        """
        select count(*)
        from (select invoiced_at::date as business_on, sum(pennies) as pennies from source group by all) as source
        full join release.account.reconciliation as books using (business_on)
        where source.pennies is distinct from (books.delivered_amount * 100)::bigint
        """
    )
    assert by_day == (0,)

    (strangers,) = books.one(
        """
        select count(*)
        from (select distinct invoice, customer_id from source where customer_id is not null) as source
        left join release.account.transactions as held
            on source.invoice = held.record_id
        left join release.identity.account_links as links
            on links.feed = 'shop_customers' and links.record_id = source.customer_id::varchar
        where held.account_id is distinct from links.account_id or links.account_id is null
        """
    )
    assert strangers == 0
