"""Person-bearing records, and the contact blocks they carry.

What belongs here: which source records speak of a person, what each says (its contact block), the standardised keys of
that block, and which of its identifiers are usable. What does not: any comparison of two blocks.

A contact block is everything a record says of who it is: the numbers of web account and card, e-mail, phone, name,
birth date, address. Identical blocks are one contact, so that a million tickets become some thousands of contacts before
anything is compared. The payment token is not part of it: it says which card paid, not who the person is.
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


def _letters(column: str) -> str:
    """SQL: a name reduced to its letters (no case, no accent, no ligature, no hyphen)."""
    plain = f"strip_accents(lower({column}))"
    for ligature, letters in (("œ", "oe"), ("æ", "ae"), ("ß", "ss")):
        plain = f"replace({plain}, '{ligature}', '{letters}')"
    return f"nullif(regexp_replace({plain}, '[^\\p{{L}}]', '', 'g'), '')"


def _address_key(column: str) -> str:
    """SQL: an address line reduced to letters and digits, with the usual abbreviations of streets written out."""
    plain = f"' ' || regexp_replace(strip_accents(lower({column})), '[^\\p{{L}}0-9]+', ' ', 'g') || ' '"
    for short, long in (
        ("av|ave", "avenue"),
        ("bd|bld|boul|blvd", "boulevard"),
        ("r", "rue"),
        ("pl", "place"),
        ("chem|che|ch", "chemin"),
        ("rte", "route"),
        ("imp", "impasse"),
        ("all", "allee"),
        ("st", "saint"),
        ("ste", "sainte"),
    ):
        plain = f"regexp_replace({plain}, ' ({short}) ', ' {long} ', 'g')"
    return f"nullif(replace({plain}, ' ', ''), '')"


def build_records(connection: DuckDBPyConnection, *, as_of: date, policy: Policy) -> None:
    """Write ``identity.records`` (one row per person-bearing record) and ``identity.contacts`` (one per block).

    Reads ``staging.stg_*`` of the four feeds that speak of people. A birth date that is a default, lies in the future or
    makes a person older than the policy allows has no key: it neither joins nor separates.
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
    said = ", ".join(f"coalesce(cast({name} as varchar), '')" for name in _BLOCK)
    connection.execute(
        f"""
        create or replace temp table identity_blocks as
        with spoken as ({" union all ".join(selects)})
        select
            *,
            case
                when coalesce(customer_id, card_id, email, phone, last_name, address_line1) is not null
                    then md5_number_lower(concat_ws(chr(31), {said}))
            end as contact_id
        from spoken
        where feed <> 'pos_tickets' or coalesce(card_id, email, phone, payment_token) is not null
        """
    )
    connection.execute(
        """
        create or replace table identity.records as
        select feed, record_id, contact_id, seen_at, customer_id, card_id, payment_token from identity_blocks
        """
    )
    _build_contacts(connection, as_of, policy)


def _build_contacts(connection: DuckDBPyConnection, as_of: date, policy: Policy) -> None:
    first_values = ", ".join(f"any_value({name}) as {name}" for name in _BLOCK)
    defaults = ", ".join(f"date '{day.isoformat()}'" for day in policy.default_birth_dates)
    connection.execute(
        f"""
        create or replace table identity.contacts as
        with blocks as (
            select
                contact_id, {first_values},
                bool_or(feed = 'shop_customers') as is_web_account,
                bool_or(feed = 'loyalty_members') as is_card,
                bool_or(feed = 'shop_orders' and customer_id is null) as is_guest,
                min(struct_pack(feed_rank, seen_at, feed, record_id)) as speaker,
                count(*) as record_count,
            from identity_blocks
            where contact_id is not null
            group by contact_id
        ),
        named as (
            select
                *,
                {_letters("first_name")} as given_letters,
                {_letters("last_name")} as family_name_key,
                {_address_key("address_line1")} as address_key,
                -- `J.`, `J-P` and `J P` are initials, whatever stands between the letters.
                regexp_matches(lower(strip_accents(first_name)), '^[^\\p{{L}}]*\\p{{L}}([^\\p{{L}}]+\\p{{L}})*[^\\p{{L}}]*$')
                    as is_initials
            from blocks
        ),
        dates as (
            select birth_date, count(distinct (given_letters, family_name_key)) as names
            from named where birth_date is not null group by birth_date
        ),
        trusted_dates as (
            select birth_date from dates
            where birth_date not in ({defaults})
                and birth_date between date '{as_of.isoformat()}' - interval {policy.max_age_years} year
                and date '{as_of.isoformat()}'
                and not (
                    names >= {policy.over_represented_names}
                    and names > {policy.over_represented_share} * (select sum(names) from dates)
                )
        )
        select
            named.* exclude (given_letters, is_initials, speaker),
            case when not is_initials then given_letters end as given_name_key,
            left(given_letters, 1) as given_initial,
            -- Day and month are often swapped: both ways of writing have one key.
            case
                when trusted_dates.birth_date is null then null
                when day(named.birth_date) <= 12 then
                    strftime(named.birth_date, '%Y-') || printf('%02d-%02d',
                        least(day(named.birth_date), month(named.birth_date)),
                        greatest(day(named.birth_date), month(named.birth_date)))
                else strftime(named.birth_date, '%Y-%m-%d')
            end as birth_key,
            speaker.feed as feed, speaker.record_id as record_id, speaker.seen_at as seen_at
        from named
        left join trusted_dates on named.birth_date = trusted_dates.birth_date
        """
    )


def build_uses(connection: DuckDBPyConnection) -> None:
    """Write the working table ``identity_uses``: one row per contact and identifier value it carries.

    ``is_owner`` marks the contact whose own number the value is: the web account's of a customer number, the card's of
    a card number.
    """
    connection.execute(
        """
        create or replace temp table identity_uses as
        with named as (
            select 'customer_id' as type, customer_id as value, is_web_account as is_owner, contact_id,
                given_name_key, given_initial, birth_key, seen_at, record_id, record_count
            from identity.contacts where customer_id is not null
            union all
            select 'card', card_id, is_card, contact_id,
                given_name_key, given_initial, birth_key, seen_at, record_id, record_count
            from identity.contacts where card_id is not null
            union all
            select 'email', email, false, contact_id,
                given_name_key, given_initial, birth_key, seen_at, record_id, record_count
            from identity.contacts where email is not null
            union all
            select 'phone', phone, false, contact_id,
                given_name_key, given_initial, birth_key, seen_at, record_id, record_count
            from identity.contacts where phone is not null
        )
        select * from named
        """
    )
