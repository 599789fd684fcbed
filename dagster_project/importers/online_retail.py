"""The invoice lines of UCI Online Retail II (doi 10.24432/C5CG6D) as deliveries of the source contract.

One line of the export becomes one line of a feed. What was decided, and why, stands here and in docs/online-retail.md:

- An invoice is an order (``shop_orders``), delivered, with its lines in ``shop_order_lines``.
- A credit note (number beginning with C) is a refund (``shop_refunds``, ``shop_refund_lines``) of its customer. The
  export does not say which invoice it credits, so ``order_id`` is empty. One credit note is positive; it stays so.
- A bad debt adjustment (A) is a refund too, with that reason: money that was booked as sold and never came.
- An invoice without a customer and with nothing but zero prices is a movement of stock ("damaged", "found", mostly
  without words; all negative quantities are on such invoices). It is an order with the status ``cancelled``: delivered
  and on record, but no sale, and its units count nowhere. Other zero prices are gifts and stay lines of their order.
- A line without a customer belongs to a guest's order; there is nothing that could make two guests one person.
- An invoice has the first of its lines' times as ``ordered_at`` and the last as ``updated_at``, and the customer and
  country of the first of its lines that names one.
- ``amount`` is quantity x price rounded half away from zero to the penny, ``unit_price`` the price rounded likewise;
  a header's total is the sum of its lines. What the rounding takes is in the summary.
- Stock codes are the same in capitals ("85123a" is "85123A"); postage, fees and vouchers are products like others, in
  categories of their own, because a line may not vanish into ``shipping_amount``.
- A customer is delivered with their first document and again when their country changes. The export has no names.
- ``products`` is delivered with each month's last business day, as known by then: the name most often sold under, the
  latest price. A whole table each day would be larger than the sales; one on the first day would know the future.
- Times are British wall time. A day's documents are delivered on the day after.
- A line that stands in two files (the two sheets overlap) is one line, as often as in the file that has it most.
"""

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import duckdb

from dagster_project.domain.contract import feeds
from dagster_project.domain.sql_literal import literal
from dagster_project.settings import SettingsError

FILE_NAME = "online_retail.csv"
FEEDS = ("shop_customers", "shop_orders", "shop_order_lines", "shop_refunds", "shop_refund_lines", "products")
SUFFIXES = (".parquet", ".csv", ".csv.gz")
# The columns of the export, by the names of its two editions.
_COLUMNS = {
    "invoice": ("invoice", "invoiceno"),
    "stock_code": ("stockcode",),
    "description": ("description",),
    "quantity": ("quantity",),
    "invoiced_at": ("invoicedate",),
    "price": ("price", "unitprice"),
    "customer_id": ("customer id", "customerid"),
    "country": ("country",),
}


def _found_files(given: list[Path]) -> list[Path]:
    """The files of the export, in the order of their names; folders are looked into, not below."""
    found: set[Path] = set()
    for path in given:
        inside = path.iterdir() if path.is_dir() else [path]
        found.update(file for file in inside if file.name.endswith(SUFFIXES))
    if not found:
        raise SettingsError(
            f"There is no {', '.join(SUFFIXES)} file in {', '.join(map(str, given))}; "
            "of a workbook, save each sheet as CSV (docs/online-retail.md)."
        )
    return sorted(found, key=lambda file: (file.name, str(file)))


def _number(value: int) -> str:
    return f"{value:,}".replace(",", "\u202f")


def _read(connection: duckdb.DuckDBPyConnection, files: list[Path]) -> None:
    """Read the files as text into ``read_lines``: one row per line of the export, with the file and line it has."""
    selects = []
    for number, file in enumerate(files):
        source = (
            f"read_parquet({literal(file)})"
            if file.suffix == ".parquet"
            else f"read_csv({literal(file)}, all_varchar = true, header = true, delim = ',', quote = '\"')"
        )
        try:
            described = connection.execute(f"describe select * from {source}").fetchall()
        except duckdb.Error as error:
            raise SettingsError(f"{file.name} cannot be read; it must be Parquet, or CSV in UTF-8.") from error
        names = {row[0].strip().lower(): row[0] for row in described}
        values = []
        for column, known_as in _COLUMNS.items():
            name = next((names[known] for known in known_as if known in names), None)
            if name is None:
                raise SettingsError(f"{file.name} has no column {known_as[0]}; it is not a file of Online Retail II.")
            quoted = '"' + name.replace('"', '""') + '"'
            values.append(f"nullif(trim({quoted}::varchar), '') as {column}")
        selects.append(f"select {', '.join(values)}, {number} as file_no, row_number() over () as line from {source}")
    try:
        connection.execute(f"create table read_lines as {' union all '.join(selects)}")
    except duckdb.Error as error:
        raise SettingsError("The files cannot be read to their end; they must be Parquet, or CSV in UTF-8.") from error


_MODELS = (
    # A line that several files hold is kept as often as in the file that has it most.
    f"""
    create table source_lines as
    select {", ".join(_COLUMNS)}, file_no, line
    from (
        select *, row_number() over (partition by file_no, {", ".join(_COLUMNS)} order by line) as copy_no
        from read_lines
    )
    qualify row_number() over (partition by copy_no, {", ".join(_COLUMNS)} order by file_no) = 1
    """,
    """
    create table lines as
    with typed as (
        select
            invoice,
            case
                when invoice ilike 'C%' then 'credit note'
                when invoice ilike 'A%' then 'bad debt adjustment'
                else 'invoice'
            end as kind,
            row_number() over (partition by invoice order by file_no, line) as line_no,
            upper(stock_code) as product_id,
            case when lower(description) <> 'nan' then description end as description,
            try_cast(regexp_replace(quantity, '\\.0+$', '') as bigint) as quantity,
            try_cast(price as decimal(18, 6)) as price,
            coalesce(try_cast(invoiced_at as timestamp), try_strptime(invoiced_at, '%m/%d/%Y %H:%M')) as invoiced_at,
            regexp_replace(customer_id, '\\.0+$', '') as customer_id,
            case when lower(country) <> 'unspecified' then country end as country
        from source_lines
    )

    select
        *,
        round(price, 2)::decimal(18, 2) as unit_price,
        round(quantity::decimal(18, 0) * price, 2)::decimal(18, 2) as amount
    from typed
    """,
    # A document none of whose times can be read comes with the last delivery, and is refused there on record.
    """
    create table documents as
    with documents as (
        select
            invoice,
            kind,
            min(invoiced_at) as invoiced_at,
            max(invoiced_at) as updated_at,
            arg_min(customer_id, line_no) filter (where customer_id is not null) as customer_id,
            arg_min(country, line_no) filter (where country is not null) as country,
            coalesce(sum(amount), 0)::decimal(18, 2) as total_amount,
            kind = 'invoice' and count(customer_id) = 0 and bool_and(price = 0) as is_stock_movement
        from lines
        group by invoice, kind
    )

    select
        *,
        coalesce(invoiced_at::date, max(invoiced_at::date) over ()) + 1 as delivered_on
    from documents
    """,
    """
    create table shop_orders as
    select
        delivered_on,
        invoice as order_id,
        customer_id,
        country,
        london(invoiced_at) as ordered_at,
        london(updated_at) as updated_at,
        case when is_stock_movement then 'cancelled' else 'delivered' end as status,
        'delivery' as fulfilment,
        total_amount
    from documents
    where kind = 'invoice'
    """,
    """
    create table shop_order_lines as
    select
        documents.delivered_on,
        lines.invoice as order_id,
        lines.line_no,
        lines.product_id,
        lines.quantity,
        lines.unit_price,
        lines.amount
    from lines
    join documents on lines.invoice is not distinct from documents.invoice
    where lines.kind = 'invoice'
    """,
    """
    create table shop_refunds as
    select
        delivered_on,
        invoice as refund_id,
        customer_id,
        london(invoiced_at) as refunded_at,
        kind as reason,
        total_amount
    from documents
    where kind <> 'invoice'
    """,
    """
    create table shop_refund_lines as
    select
        documents.delivered_on,
        lines.invoice as refund_id,
        lines.line_no,
        lines.product_id,
        lines.quantity,
        lines.amount
    from lines
    join documents on lines.invoice = documents.invoice
    where lines.kind <> 'invoice'
    """,
    # Of several documents of one minute the last by number says the country; an empty country changes nothing.
    """
    create table shop_customers as
    with moments as (
        select
            customer_id,
            invoiced_at,
            max(delivered_on) as delivered_on,
            arg_max(country, invoice) filter (where country is not null) as country
        from documents
        where customer_id is not null and invoiced_at is not null
        group by customer_id, invoiced_at
    ),

    compared as (
        select
            *,
            min(invoiced_at) over (partition by customer_id) as created_at,
            last_value(country ignore nulls) over (
                partition by customer_id order by invoiced_at rows between unbounded preceding and 1 preceding
            ) as earlier_country
        from moments
    )

    select
        delivered_on,
        customer_id,
        country,
        london(created_at) as created_at,
        london(invoiced_at) as updated_at
    from compared
    where invoiced_at = created_at or (country is not null and country is distinct from earlier_country)
    """,
    """
    create table products as
    with month_ends as (
        select max(delivered_on) as delivered_on
        from documents
        where invoiced_at is not null
        group by date_trunc('month', invoiced_at)
    ),

    known_lines as (
        select
            month_ends.delivered_on,
            lines.product_id,
            lines.description,
            lines.unit_price,
            lines.invoiced_at,
            lines.invoice,
            lines.line_no,
            lines.price > 0 and lines.quantity > 0 as is_sold
        from month_ends
        join documents on documents.delivered_on <= month_ends.delivered_on
        join lines on documents.invoice = lines.invoice
        where lines.product_id is not null
    ),

    names as (
        select delivered_on, product_id, description
        from known_lines
        where is_sold and description is not null
        group by delivered_on, product_id, description
        qualify row_number() over (
            partition by delivered_on, product_id order by count(*) desc, description
        ) = 1
    ),

    prices as (
        select
            delivered_on,
            product_id,
            arg_max(unit_price, (invoiced_at, invoice, line_no)) filter (where is_sold) as price
        from known_lines
        group by delivered_on, product_id
    )

    select
        prices.delivered_on,
        prices.product_id,
        coalesce(names.description, prices.product_id) as name,
        case
            when prices.product_id in ('POST', 'DOT', 'C2', 'C3') then 'postage'
            when prices.product_id like 'GIFT%' then 'voucher'
            when prices.product_id in ('M', 'D', 'S', 'B', 'BANK CHARGES', 'AMAZONFEE') then 'adjustment'
            when regexp_matches(prices.product_id, '^(ADJUST|TEST)') then 'adjustment'
            else 'goods'
        end as category,
        coalesce(prices.price, 0)::decimal(18, 2) as price
    from prices
    left join names using (delivered_on, product_id)
    """,
)


def _model(connection: duckdb.DuckDBPyConnection) -> None:
    """Build one table per feed, with ``delivered_on``, from ``read_lines``."""
    connection.execute(
        """
        create macro london(moment) as
            strftime(moment, '%Y-%m-%dT%H:%M:%S')
            || case when timezone('UTC', timezone('Europe/London', moment)) < moment then '+01:00' else '+00:00' end
        """
    )
    for statement in _MODELS:
        connection.execute(statement)
    ((undated,),) = connection.execute("select count(*) from documents where delivered_on is null").fetchall()
    if undated:
        raise SettingsError("No InvoiceDate can be read; write it as YYYY-MM-DD HH:MM:SS, or deliver Parquet.")


def _deliver(connection: duckdb.DuckDBPyConnection, landing: Path) -> Iterator[str]:
    """Write every feed, a file a day, and yield a line about each; a file is there whole or not at all."""
    for name in FEEDS:
        feed = feeds()[name]
        delivered = {row[0] for row in connection.execute(f"describe {name}").fetchall()}
        columns = [column for column in feed.column_names if column in delivered]
        # Sorted once, so that each day's file is read from its own part of the table.
        order = ", ".join(["delivered_on", *feed.key, *([feed.version] if feed.version else [])])
        connection.execute(f"create table sorted_{name} as select * from {name} order by {order}")
        days: list[tuple[date, int]] = connection.execute(
            f"select delivered_on, count(*) from {name} group by delivered_on order by delivered_on"
        ).fetchall()
        for day, _ in days:
            folder = landing / name / day.isoformat()
            folder.mkdir(parents=True, exist_ok=True)
            unfinished = folder / f"{FILE_NAME}.tmp"
            connection.execute(
                f"""
                copy (
                    select {", ".join(columns)} from sorted_{name} where delivered_on = '{day}' order by {order}
                ) to {literal(unfinished)} (format csv, header true, delimiter ',')
                """
            )
            unfinished.replace(folder / FILE_NAME)
        yield f"{name}: rows {_number(sum(count for _, count in days))}, deliveries {_number(len(days))}"


def _summary(connection: duckdb.DuckDBPyConnection) -> str:
    def one(query: str) -> tuple[Any, ...]:
        return connection.execute(query).fetchall()[0]

    def size(table: str) -> str:
        return _number(one(f"select count(*) from {table}")[0])

    (read,) = one("select count(*) from read_lines")
    kept, exact, rounded, rounded_count = one(
        """
        select
            count(*), coalesce(sum(quantity * price), 0), coalesce(sum(amount), 0),
            count(*) filter (where quantity * price <> amount)
        from lines
        """
    )
    movements, movement_lines = one(
        """
        select count(distinct invoice), count(*) from lines
        where invoice in (select invoice from documents where is_stock_movement)
        """
    )
    (strangers,) = one(
        """
        select count(*) from lines join documents using (invoice)
        where lines.customer_id <> documents.customer_id
        """
    )
    repeated = f", {_number(read - kept)} of them in several files and taken once" if kept < read else ""
    sentences = [
        f"{_number(read)} lines read{repeated}.",
        f"They became {size('shop_order_lines')} lines of {size('shop_orders')} orders "
        f"and {size('shop_refund_lines')} lines of {size('shop_refunds')} refunds.",
        f"{_number(movements)} of the orders, with {_number(movement_lines)} lines, are movements of stock "
        "(status cancelled).",
        f"The lines are worth {exact.normalize():f}; rounded to the penny they are delivered as {rounded:f} "
        f"({_number(rounded_count)} lines changed).",
    ]
    if strangers:
        sentences.append(f"{_number(strangers)} lines name another customer than the document they stand in.")
    return "\n".join(sentences)


def import_files(files: list[Path], landing: Path, show: Callable[[str], None]) -> str:
    """Write the deliveries of the export's ``files`` (or of the files in its folders) into ``landing``.

    The same files give the same deliveries, byte for byte; files of an earlier import of the same days are replaced.
    ``show`` is told a line per feed; the summary that is returned accounts for every line and every penny. Raises
    SettingsError where a file is none of the export's.
    """
    found = _found_files(files)
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        _read(connection, found)
        _model(connection)
        for told in _deliver(connection, landing):
            show(told)
        return _summary(connection)
