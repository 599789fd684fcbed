"""Person-bearing records, and the contact blocks they carry.

What belongs here: which source records speak of a person, what each says (its contact block), the standardised keys of
that block, and which of its identifiers are usable. What does not: any comparison of two blocks.

A contact block is everything a record says of who it is: the numbers of web account and card, e-mail, phone, name,
birth date, address. Identical blocks are one contact, so that a million tickets become some thousands of contacts
before anything is compared. The payment token is not part of it: it says which card paid, not who the person is.
"""

from datetime import date

from duckdb import DuckDBPyConnection

from dagster_project.domain.identity.policy import Policy

_BLOCK = (
    "customer_id",
    "card_id",
    "email",
    "phone",
    "first_name",
    "last_name",
    "birth_date",
    "address_line1",
    "postal_code",
    "city",
    "country",
)

# Where each feed keeps what a block and a record need; a column that a feed does not have is null.
_FEEDS: dict[str, dict[str, str]] = {
    "shop_customers": {"record_id": "customer_id", "seen_at": "created_at", "card_id": "loyalty_card_id"},
    "loyalty_members": {"record_id": "card_id", "seen_at": "enrolled_at", "customer_id": "null"},
    "shop_orders": {"record_id": "order_id", "seen_at": "ordered_at", "card_id": "null", "birth_date": "null"},
    "pos_tickets": {
        "record_id": "ticket_id",
        "seen_at": "sold_at",
        "customer_id": "null",
        "card_id": "loyalty_card_id",
        **dict.fromkeys(_BLOCK[4:], "null"),
    },
}
FEED_ORDER = tuple(_FEEDS)
"""Feeds by how well they know the person; ties of one instant are broken in this order."""


_STREET_WORDS = {
    "av": "avenue",
    "ave": "avenue",
    "bd": "boulevard",
    "bld": "boulevard",
    "blvd": "boulevard",
    "r": "rue",
    "pl": "place",
    "ch": "chemin",
    "chem": "chemin",
    "rte": "route",
    "imp": "impasse",
    "all": "allee",
    "st": "saint",
    "ste": "sainte",
}


def _letters(column: str) -> str:
    """SQL: a name reduced to its letters (no case, no accent, no ligature, no hyphen)."""
    plain = f"strip_accents(lower({column}))"
    for ligature, letters in (("œ", "oe"), ("æ", "ae"), ("ß", "ss")):
        plain = f"replace({plain}, '{ligature}', '{letters}')"
    return f"nullif(regexp_replace({plain}, '[^\\p{{L}}]', '', 'g'), '')"


def _address_key(column: str) -> str:
    """SQL: an address line reduced to letters and digits, with the usual abbreviations of streets written out."""
    plain = f"' ' || regexp_replace(strip_accents(lower({column})), '[^\\p{{L}}0-9]+', ' ', 'g') || ' '"
    for short, long in _STREET_WORDS.items():
        plain = f"replace({plain}, ' {short} ', ' {long} ')"
    return f"nullif(replace({plain}, ' ', ''), '')"


def build_records(connection: DuckDBPyConnection, *, as_of: date, policy: Policy) -> None:
    """Write ``identity.records`` (one row per person-bearing record) and ``identity.contacts`` (one per block).

    Reads ``staging.stg_*`` of the four feeds that speak of people. A birth date that is a default, lies in the future
    or makes a person older than the policy allows has no key: it neither joins nor separates.
    """
    selects = []
    for rank, (feed, columns) in enumerate(_FEEDS.items()):
        token = "payment_token" if feed in ("shop_orders", "pos_tickets") else "null"
        block = ", ".join(
            f"cast({columns.get(name, name)} as {'date' if name == 'birth_date' else 'varchar'}) as {name}"
            for name in _BLOCK
        )
        selects.append(
            f"""
            select '{feed}' as feed, {rank} as feed_rank, {columns["record_id"]} as record_id,
                {columns["seen_at"]} as seen_at, cast({token} as varchar) as payment_token, {block}
            from staging.stg_{feed}
            """
        )
    block = ", ".join(_BLOCK)
    connection.execute(
        f"""
        create or replace temp table identity_blocks as
        with spoken as ({" union all ".join(selects)})
        select
            *,
            case
                when coalesce(customer_id, card_id, email, phone, last_name, address_line1) is not null
                    then hash({block})
            end as block
        from spoken
        where feed <> 'pos_tickets' or coalesce(card_id, email, phone, payment_token) is not null
        """
    )
    # A contact is numbered by its best-known record: no number depends on how DuckDB hashes or on the order of rows.
    connection.execute(
        """
        create or replace temp table identity_speakers as
        select block, feed, record_id, seen_at,
            row_number() over (order by feed_rank, seen_at, record_id) as contact_id
        from (
            select * from identity_blocks where block is not null
            qualify row_number() over (partition by block order by feed_rank, seen_at, record_id) = 1
        )
        """
    )
    connection.execute(
        """
        create or replace temp table identity_keys as
        select blocks.feed, blocks.feed_rank, blocks.record_id, speakers.contact_id, blocks.seen_at,
            blocks.customer_id, blocks.card_id, blocks.payment_token
        from identity_blocks as blocks left join identity_speakers as speakers using (block)
        """
    )
    connection.execute("create or replace table identity.records as select * exclude (feed_rank) from identity_keys")
    _build_contacts(connection, as_of, policy)


def _build_contacts(connection: DuckDBPyConnection, as_of: date, policy: Policy) -> None:
    block = ", ".join(f"blocks.{name}" for name in _BLOCK)
    defaults = ", ".join(f"date '{day.isoformat()}'" for day in policy.default_birth_dates)
    connection.execute(
        f"""
        create or replace table identity.contacts as
        with blocks as (
            select speakers.contact_id, {block}, speakers.feed, speakers.record_id, speakers.seen_at
            from identity_speakers as speakers join identity_blocks as blocks using (feed, record_id)
        ),
        -- Names and addresses are standardised once per distinct value.
        given_names as (
            select
                first_name, {_letters("first_name")} as letters,
                -- `J.`, `J-P` and `J P` are initials, whatever stands between the letters.
                regexp_matches(first_name, '^[^\\p{{L}}]*\\p{{L}}([^\\p{{L}}]+\\p{{L}})*[^\\p{{L}}]*$') as is_initials
            from (select distinct first_name from blocks where first_name is not null)
        ),
        family_names as (
            select last_name, {_letters("last_name")} as family_name_key
            from (select distinct last_name from blocks where last_name is not null)
        ),
        addresses as (
            select address_line1, {_address_key("address_line1")} as address_key
            from (select distinct address_line1 from blocks where address_line1 is not null)
        ),
        dates as (
            select birth_date, count(*) as names
            from (select distinct birth_date, first_name, last_name from blocks where birth_date is not null)
            group by birth_date
        ),
        trusted_dates as (
            select
                birth_date,
                -- Day and month are often swapped: both ways of writing have one key.
                case
                    when day(birth_date) <= 12 then strftime(birth_date, '%Y-') || printf(
                        '%02d-%02d',
                        least(day(birth_date), month(birth_date)), greatest(day(birth_date), month(birth_date))
                    )
                    else strftime(birth_date, '%Y-%m-%d')
                end as birth_key
            from dates
            where birth_date not in ({defaults})
                and birth_date between date '{as_of.isoformat()}' - interval {policy.max_age_years} year
                and date '{as_of.isoformat()}'
                and not (
                    names >= {policy.over_represented_names}
                    and names > {policy.over_represented_share} * (select sum(names) from dates)
                )
        )
        select
            blocks.*,
            case when not given_names.is_initials then given_names.letters end as given_name_key,
            left(given_names.letters, 1) as given_initial,
            family_names.family_name_key, trusted_dates.birth_key, addresses.address_key
        from blocks
        left join given_names using (first_name)
        left join family_names using (last_name)
        left join addresses using (address_line1)
        left join trusted_dates using (birth_date)
        """
    )


def build_uses(connection: DuckDBPyConnection) -> None:
    """Write the working tables ``identity_values`` (one row per identifier value) and ``identity_uses``.

    ``identity_uses`` has one row per contact and value it carries. ``is_owner`` marks the contact whose own number the
    value is: the web account's of a customer number, the card's of a card number.
    """
    uses = " union all ".join(
        f"select '{type_}' as type, {column} as value, contact_id, feed = '{owner}' as is_owner, "
        f"given_name_key, given_initial, birth_key from identity.contacts where {column} is not null"
        for type_, column, owner in (
            ("customer_id", "customer_id", "shop_customers"),
            ("card", "card_id", "loyalty_members"),
            ("email", "email", ""),
            ("phone", "phone", ""),
        )
    )
    # A value whose contacts contradict each other in nothing is one person's: the few others are looked at closely.
    connection.execute(
        f"""
        create or replace temp table identity_values as
        select
            row_number() over () as value_id, type, value, count(*) as contact_count,
            coalesce(min(given_name_key) = max(given_name_key), true)
            and coalesce(min(given_initial) = max(given_initial), true)
            and coalesce(min(birth_key) = max(birth_key), true) as is_simple
        from ({uses})
        group by type, value
        """
    )
    connection.execute(
        f"""
        create or replace temp table identity_uses as
        select vals.value_id, vals.contact_count, vals.is_simple, uses.* exclude (value)
        from ({uses}) as uses join identity_values as vals using (type, value)
        """
    )
