"""The methods that are compared on a retailer's staged tables. Each writes the temp table ``links``.

``links`` is what ``domain.identity.evaluation.evaluate`` takes: feed, record_id, account_id (null: alone, or nobody's)
and is_person_record, besides ``threshold`` (log2 odds; null for a method that has none) and ``seconds``, what the
method took to come to these links.

What belongs here: from staged tables to links. What does not: any look at the truth.
"""

import time
from collections.abc import Callable

import duckdb

from dagster_project.accuracy.plain_splink import SHOPPERS, clusters_at_thresholds
from dagster_project.domain.identity import resolve

THRESHOLDS = tuple(float(weight) for weight in range(0, 30, 2))
"""Match weights (log2 odds) at which Splink's clusters are judged; the best one counts."""

_KEYS = """
    select 'shop_customers' as feed, customer_id as record_id, customer_id, loyalty_card_id as card_id, email, phone
    from staging.stg_shop_customers
    union all
    select 'loyalty_members', card_id, null, card_id, email, phone from staging.stg_loyalty_members
    union all
    select 'shop_orders', order_id, null, null, email, phone from staging.stg_shop_orders where customer_id is null
    union all
    select 'pos_tickets', ticket_id, null, loyalty_card_id, email, phone from staging.stg_pos_tickets
"""
"""Records with their exact keys, as staged. An order of a web account is not among them: it follows the account."""


def cocanal(connection: duckdb.DuckDBPyConnection, seed: int) -> None:
    """The identity stage as it ships, without a release before it and without remembered scores."""
    began = time.monotonic()
    ((as_of,),) = connection.execute("select as_of from landing.builds").fetchall()
    resolve(connection, as_of=as_of, run_id="accuracy", previous=None)
    connection.execute(
        """
        create or replace temp table links as
        select feed, record_id, account_id, is_person_record, null::double as threshold, $1::double as seconds
        from identity.account_links
        """,
        [time.monotonic() - began],
    )


def exact_keys(connection: duckdb.DuckDBPyConnection, seed: int) -> None:
    """Connected components of records that share a web account, a card, an e-mail or a phone: no policy, no guard."""
    began = time.monotonic()
    connection.execute(
        f"""
        create or replace temp table keyed as
        with records as ({_KEYS})
        select feed, record_id, unnest(['customer_id', 'card', 'email', 'phone']) as type,
            unnest([customer_id, card_id, email, phone]) as value
        from records
        """
    )
    connection.execute(
        """
        create or replace temp table said as
        with records as (select feed, record_id, row_number() over () as record from keyed group by all)
        select feed, record_id, record, hash(type, value) as key
        from keyed join records using (feed, record_id)
        where value is not null
        """
    )
    _connect(connection)
    connection.execute(
        """
        create or replace temp table found as
        select feed, record_id, 'component ' || component as account_id, feed <> 'pos_tickets' as is_person_record
        from (select distinct feed, record_id, record from said) join components using (record)
        """
    )
    _write_links(connection, "found", time.monotonic() - began)


def _connect(connection: duckdb.DuckDBPyConnection) -> None:
    """Write ``components`` (record, component): the smallest number that spreads from record to key to record."""
    connection.execute(
        "create or replace temp table components as select record, min(record) as component from said group by record"
    )
    while True:
        connection.execute(
            """
            create or replace temp table spread as
            with of_keys as (
                select key, min(component) as component from said join components using (record) group by key
            )
            select record, min(of_keys.component) as component from said join of_keys using (key) group by record
            """
        )
        ((changed,),) = connection.execute(
            "select count(*) from spread join components using (record) where spread.component < components.component"
        ).fetchall()
        connection.execute("drop table components; alter table spread rename to components")
        if not changed:
            return


def splink(connection: duckdb.DuckDBPyConnection, seed: int) -> None:
    """Splink by its tutorials over people's records and guest orders, each record a row, at each of ``THRESHOLDS``."""
    began = time.monotonic()
    connection.execute(
        """
        create table splink_people as
        with records as (
            select 'shop_customers' as feed, customer_id as record_id, loyalty_card_id as card_id, birth_date, email,
                phone, first_name, last_name, address_line1, postal_code
            from staging.stg_shop_customers
            union all
            select 'loyalty_members', card_id, card_id, birth_date, email, phone, first_name, last_name, address_line1,
                postal_code
            from staging.stg_loyalty_members
            union all
            select 'shop_orders', order_id, null, null, email, phone, first_name, last_name, address_line1, postal_code
            from staging.stg_shop_orders
            where customer_id is null
        ),
        cleaned as (
            select * replace (
                lower(strip_accents(first_name)) as first_name,
                lower(strip_accents(last_name)) as last_name,
                lower(strip_accents(address_line1)) as address_line1
            )
            from records
        )
        select feed || ' ' || record_id as unique_id, *, first_name || ' ' || last_name as first_and_last_name
        from cleaned
        """
    )
    before = time.monotonic() - began
    for clusters in clusters_at_thresholds(connection, "splink_people", SHOPPERS, THRESHOLDS, seed):
        began = time.monotonic()
        _attribute(connection, clusters.table)
        seconds = before + clusters.seconds + time.monotonic() - began
        _write_links(connection, "found", seconds, clusters.threshold)


def _attribute(connection: duckdb.DuckDBPyConnection, clusters: str) -> None:
    """Write ``found``: the records of the clusters, and the tickets that a card, an e-mail or a phone gives to one.

    A value that several clusters hold stands for the one that holds it most often, one that none holds for itself.
    """
    connection.execute(
        f"""
        create or replace temp table clustered as
        select people.*, cluster_id from splink_people as people join {clusters} using (unique_id);
        create or replace temp table held as
        select type, value, cluster_id
        from (
            select unnest(['card', 'email', 'phone']) as type, unnest([card_id, email, phone]) as value, cluster_id
            from clustered
        )
        where value is not null
        group by type, value, cluster_id
        qualify row_number() over (partition by type, value order by count(*) desc, cluster_id) = 1;
        create or replace temp table found as
        select feed, record_id, cluster_id as account_id, true as is_person_record from clustered
        union all
        select 'pos_tickets', ticket_id,
            coalesce(
                cards.cluster_id, emails.cluster_id, phones.cluster_id,
                'key ' || coalesce(tickets.loyalty_card_id, tickets.email, tickets.phone)
            ),
            false
        from staging.stg_pos_tickets as tickets
        left join held as cards on cards.type = 'card' and cards.value = tickets.loyalty_card_id
        left join held as emails on emails.type = 'email' and emails.value = tickets.email
        left join held as phones on phones.type = 'phone' and phones.value = tickets.phone
        where coalesce(tickets.loyalty_card_id, tickets.email, tickets.phone) is not null
        """
    )


def _write_links(
    connection: duckdb.DuckDBPyConnection, found: str, seconds: float, threshold: float | None = None
) -> None:
    """Add to ``links`` the records of ``found`` and, with their web accounts, the orders of these."""
    connection.execute(
        """
        create temp table if not exists links (
            feed varchar, record_id varchar, account_id varchar, is_person_record boolean, threshold double,
            seconds double
        )
        """
    )
    connection.execute(
        f"""
        insert into links
        with everybody as (
            select feed, record_id, account_id, is_person_record from {found}
            union all
            select 'shop_orders', order_id, account_id, false
            from staging.stg_shop_orders as orders
            join {found} as owners on owners.feed = 'shop_customers' and owners.record_id = orders.customer_id
        )
        select *, $1::double, $2::double from everybody
        """,
        [threshold, seconds],
    )


METHODS: dict[str, Callable[[duckdb.DuckDBPyConnection, int], None]] = {
    "cocanal": cocanal,
    "exact_keys": exact_keys,
    "splink": splink,
}
"""Each takes a connection on a database with the staged tables, which it may write to, and a seed."""
