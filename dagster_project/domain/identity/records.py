"""Person-bearing records, the contact blocks they carry, and the profiles that are compared.

What belongs here: which source records speak of a person, what each says, in raw and in standard form. What does not:
any comparison of two of them.

A *contact block* is everything a record says of who it is: the numbers of web account and card, e-mail, phone, name,
birth date, address. Identical blocks are one contact. A *profile* is what contacts say in standard form, without the
numbers: contacts that say the same are one profile, so that a million orders become some thousands of profiles before
anything is compared. The payment token belongs to neither: it says which card paid, not who the person is.

Contacts and profiles are numbered by a hash of what they say (63 bits: of ten million, two share a number once in two
hundred thousand files). So a number means the same on every night, and what is remembered of it stays true. Nothing is
decided by a number: where one goes before the other, the record that knows the person best says so (``FIRST``).
"""

from datetime import date

from duckdb import DuckDBPyConnection

from dagster_project.domain.identity import standard_forms
from dagster_project.domain.identity.policy import Policy
from dagster_project.domain.identity.remembered import Write, count_rows, keep

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

FEED_RANK = f"cast(list_position([{', '.join(repr(feed) for feed in _FEEDS)}], feed) as utinyint)"
"""SQL: the place of a feed in that order."""

FEED = f"([{', '.join(repr(feed) for feed in _FEEDS)}])[feed_rank + 1]"
"""SQL: the feed that has the place ``feed_rank`` in that order."""

FIRST = ("feed_rank", "seen_at", "record_id")
"""The columns by which, of several records, the one that knows the person best goes first."""

PROFILE = (
    "given_name_key",
    "given_initials",
    "family_name_key",
    "birth_key",
    "email_key",
    "phone_key",
    "house_number",
    "street_key",
    "postal_code",
    "town_key",
)
"""What a profile says: the columns that make its content."""

IS_NAMELESS = "coalesce(given_initials, family_name_key, birth_key) is null"
"""SQL: whether a contact says nobody's name."""

NAMES_SOMEBODY = f"""
    (not ({IS_NAMELESS}) or feed in ('shop_customers', 'loyalty_members'))
"""
"""SQL: whether a contact is compared at all."""

IS_THIN = """
    not coalesce(
        email_key is not null
        or phone_key is not null
        or (given_name_key is not null and family_name_key is not null
            and (birth_key is not null or (street_key is not null and house_number is not null))),
        false
    )
"""
"""SQL: whether a contact says too little to be one person's."""

CONTENT = f"""
    {", ".join(PROFILE)}, given_word_forms, given_first, given_word_count, family_name_forms,
    case when {IS_THIN} then contact_id end
"""
"""SQL: what is hashed to tell whether two contacts are one profile; what is too thin to be one person's stays apart."""


_SAID = """given_name_forms, given_word_forms, given_first, given_word_count, is_known_given_name, family_name_forms,
    email_local"""


NAMED_FROM = (
    "contact_id", "given_name_key", "given_initials", "family_name_key",
    "birth_key", "email_key", "phone", "house_number", "street_key", "postal_code", "town_key", "given_name_forms",
    "given_word_forms", "given_first", "given_word_count", "is_known_given_name", "family_name_forms", "email_local",
)  # fmt: skip
"""The columns of a contact that its profile is made of."""


def _number(said: str) -> str:
    """SQL: the number of what is said; never negative, for attribution makes numbers of its own below nought."""
    return f"cast(hash({said}) >> 1 as bigint)"


def _staged() -> str:
    """SQL: the person-bearing records of the four feeds that speak of people, ``staging.stg_*``, and what each says."""
    selects = []
    for rank, (feed, columns) in enumerate(_FEEDS.items()):
        token = "payment_token" if feed in ("shop_orders", "pos_tickets") else "null"
        said = {name: columns.get(name, name) for name in _BLOCK}
        block = ", ".join(
            f"cast({column} as {'date' if name == 'birth_date' else 'varchar'}) as {name}"
            for name, column in said.items()
        )
        marked = ", ".join(
            column for column in (columns["record_id"], columns["seen_at"], token, *said.values()) if column != "null"
        )
        selects.append(
            f"""
            select '{feed}' as feed, {rank} as feed_rank, {columns["record_id"]} as record_id,
                {columns["seen_at"]} as seen_at, cast({token} as varchar) as payment_token, {block},
                hash({rank}, {marked}) as said_mark
            from staging.stg_{feed}
            """
        )
    return f"""
        select * from ({" union all ".join(selects)})
        where feed <> 'pos_tickets' or coalesce(card_id, email, phone, payment_token) is not null
    """


def _spoken() -> str:
    """SQL: the same, each with a ``mark``.

    ``mark`` is a hash of the record and of all it says: a record with a known mark is not new and has not changed.
    Reads ``identity_different``: a record that a steward declared different from another is ``is_parted``.
    """
    return f"""
        with parted as (
            select left_feed as feed, left_id as record_id from identity_different union
            select right_feed, right_id from identity_different
        )
        select spoken.* exclude (said_mark), parted.feed is not null as is_parted,
            case when parted.feed is null then said_mark else hash(said_mark) end as mark
        from ({_staged()}) as spoken
        left join parted using (feed, record_id)
    """


def read_blocks(connection: DuckDBPyConnection, known: str = "") -> None:
    """Write the temp table ``identity_blocks``: one row per person-bearing record; not of the marks in ``known``.

    A record that is declared different keeps a block of its own, whatever it says. A ticket never shares its block with
    the card that it shows, of which nothing else may be known. ``key_mark`` is a hash of the record alone.
    """
    but = f"anti join {known} using (mark)" if known else ""
    parted = ", ".join(f"case when is_parted then {name} end" for name in ("feed", "record_id"))
    said = ", ".join(_BLOCK)
    connection.execute(
        f"""
        create or replace temp table identity_blocks as
        select * exclude (is_parted),
            case
                when coalesce(customer_id, card_id, email, phone, first_name, last_name, address_line1) is not null
                    then {_number(f"{said}, feed = 'pos_tickets', {parted}")}
            end as contact_id,
            hash(feed_rank, record_id) as key_mark
        from ({_spoken()}) {but}
        """
    )


def count_spoken(connection: DuckDBPyConnection) -> int:
    """How many person-bearing records there are."""
    return count_rows(connection, f"({_staged()})")


def find_gone(connection: DuckDBPyConnection) -> None:
    """Write ``identity_gone_records``: the rows of ``remembered.records`` that no staged record says any more."""
    connection.execute(
        "create or replace temp table identity_gone_records as "
        f"from remembered.records anti join (select mark from ({_spoken()})) using (mark)"
    )


RECORDS = """
    select feed, feed_rank, record_id, contact_id,
        coalesce(contact_id, -1 - cast(key_mark >> 1 as bigint)) as node,
        seen_at, customer_id, card_id, payment_token, key_mark, mark
    from identity_blocks
"""
"""SQL: one row per record. ``node`` is the contact, or the record itself where it has nothing but a payment token."""

SPEAKERS = f"""
    select contact_id, unnest(min(struct_pack({", ".join(f"{name} := {name}" for name in FIRST)}))),
        min(seen_at) as first_at, max(seen_at) as last_at
    from {{records}} where contact_id is not null group by contact_id
"""
"""SQL: one row per contact of ``records``: its best-known record, and when it was seen first and last."""


SHOWN_CONTACTS = f"""
    select contact_id, {", ".join(_BLOCK)}, {FEED} as feed, record_id, seen_at,
        contacts.* exclude (contact_id, {", ".join(_BLOCK)}, name_mark)
    from remembered.contacts join remembered.speakers using (contact_id)
"""
"""SQL: the contacts, each with its best-known record."""


def build_records(connection: DuckDBPyConnection) -> None:
    """Write ``identity.records`` (one row per person-bearing record), ``identity_speakers`` and ``identity_blocks``."""
    read_blocks(connection)
    keep(connection, "records", RECORDS)
    keep(connection, "speakers", SPEAKERS.format(records="identity_records"))


def build_contacts(
    connection: DuckDBPyConnection, *, as_of: date, policy: Policy, write: Write = keep, beside: str = ""
) -> None:
    """Write ``identity_contacts``: one row per contact block, what it says as typed and in standard form.

    Which record says it best is no part of it (``SPEAKERS``): that changes more often, and costs less to write. Reads
    ``identity_blocks`` and ``identity_speakers``; ``beside`` is the table of the contacts that are known already.

    A birth date that is a default, lies in the future or makes a person older or younger than the policy allows (the
    day on which a form was filled in, taken for a birthday) has no key: it neither joins nor separates.
    """
    standard_forms.create_macros(connection)
    block = ", ".join(f"blocks.{name}" for name in _BLOCK)
    connection.execute(
        f"""
        create or replace temp table identity_written as
        with written as (
            select contact_id, {block},
                nullif(trim(regexp_replace(
                    blocks.first_name, '(?i)^\\s*({standard_forms.TITLES})[.]?(\\s+|$)', '')), '') as given,
                case when regexp_matches(blocks.last_name, '\\p{{L}}') then
                    nullif(trim(regexp_replace(
                        blocks.last_name, '(?i)^\\s*({standard_forms.TITLES})[.]?(\\s+|$)', '')), '') end as family
            from identity_blocks as blocks join identity_speakers using (contact_id, feed_rank, record_id)
        )
        -- The whole name in one field: of the first field the last word is the family name, of the last field the first
        -- word is the given name.
        select * exclude (given, family),
            case
                when family is null and regexp_matches(given, '\\S\\s+\\S')
                    then regexp_extract(given, '^(.*\\S)\\s+\\S+$', 1)
                when given is null and regexp_matches(family, '\\S\\s+\\S')
                    and (last_name is distinct from family or first_name is not null)
                    then regexp_extract(family, '^(\\S+)\\s', 1)
                else given
            end as given_as_read,
            case
                when family is null and regexp_matches(given, '\\S\\s+\\S')
                    then regexp_extract(given, '\\s(\\S+)$', 1)
                when given is null and regexp_matches(family, '\\S\\s+\\S')
                    and (last_name is distinct from family or first_name is not null)
                    then regexp_extract(family, '\\s(.*)$', 1)
                else family
            end as family_as_read
        from written
        """
    )
    standard_forms.write_given_names(connection, "(select given_as_read as first_name from identity_written)")
    standard_forms.write_family_names(connection, "(select family_as_read as last_name from identity_written)")
    standard_forms.write_emails(connection, "identity_written")
    standard_forms.write_addresses(connection, "identity_written")
    standard_forms.write_towns(connection, "identity_written")
    defaults = ", ".join(f"date '{day.isoformat()}'" for day in policy.default_birth_dates) or "null"
    known = f"union select birth_date, name_mark from {beside} where birth_date is not null" if beside else ""
    write(
        connection,
        "trusted_dates",
        f"""
        with dates as (
            select birth_date, count(*) as names
            from (
                select birth_date, hash(given_as_read, family_as_read) as name_mark from identity_written
                where birth_date is not null
                {known or "group by all"}
            )
            group by birth_date
        )
        select birth_date, strftime(birth_date, '%Y-%m-%d') as birth_key
        from dates
        where coalesce(birth_date not in ({defaults}), true)
            and birth_date between date '{as_of.isoformat()}' - interval {policy.max_age_years} year
            and date '{as_of.isoformat()}' - interval {policy.min_age_years} year
            and not (
                names >= {policy.over_represented_names}
                and names > {policy.over_represented_share} * (select sum(names) from dates)
            )
        """,
    )
    write(
        connection,
        "contacts",
        """
        select
            written.* exclude (given_as_read, family_as_read),
            hash(given_as_read, family_as_read) as name_mark,
            given.given_name_key, given.given_name_forms, given.given_word_forms, given.given_first,
            given.given_word_count, given.given_initials, given.is_known_given_name,
            family.family_name_key, family.family_name_forms,
            trusted_dates.birth_key, emails.email_key, emails.email_local,
            addresses.house_number, addresses.street_key, towns.town_key
        from identity_written as written
        left join identity_given_names as given on given.first_name = written.given_as_read
        left join identity_family_names as family on family.last_name = written.family_as_read
        left join identity_emails as emails on emails.email = written.email
        left join identity_addresses as addresses on addresses.address_line1 = written.address_line1
        left join identity_towns as towns on towns.city = written.city
        left join identity_trusted_dates as trusted_dates on trusted_dates.birth_date = written.birth_date
        """,
    )
    # The widest tables of the stage: nobody asks for them again, and the memory is wanted.
    for table in ("blocks", "written", "given_names", "family_names", "emails", "addresses", "towns"):
        connection.execute(f"drop table identity_{table}")


def _compared() -> str:
    """SQL: one row per contact that is compared, what it says in standard form, and its profile.

    Only contacts that name somebody are compared; a bare e-mail, phone or card is looked up (``attribution.py``). What
    is demoted is not part of the content. Contents too thin to be one person's (a name alone) stay apart, each contact
    its own profile.
    """
    return f"""
        with contacts as (
            select * replace (
                    case when demoted_emails.value is null then email_key end as email_key,
                    case when demoted_emails.value is null then email_local end as email_local
                ),
                case when demoted_phones.value is null then phone end as phone_key,
                {FEED} as feed
            from identity_contacts join identity_speakers using (contact_id)
            left join (select value from identity_demoted where type = 'email') as demoted_emails
                on demoted_emails.value = email_key
            left join (select value from identity_demoted where type = 'phone') as demoted_phones
                on demoted_phones.value = phone
            where {NAMES_SOMEBODY}
        )
        select contact_id, {_number(f"{CONTENT}, different.feed, different.record_id")} as profile_id,
            {IS_NAMELESS} as is_nameless, {", ".join(PROFILE)}, {_SAID}
        from contacts
        left join (
            select left_feed as feed, left_id as record_id from identity_different union
            select right_feed, right_id from identity_different
        ) as different using (feed, record_id)
    """


def name_contacts(connection: DuckDBPyConnection, write: Write = keep) -> None:
    """Write ``identity_named``: one row per contact that is compared (contact_id, profile_id, is_nameless)."""
    write(connection, "named", f"select contact_id, profile_id, is_nameless from ({_compared()})")


PROFILE_SPEAKERS = f"""
    select *, {FEED} as feed
    from (
        select profile_id, unnest(min(struct_pack({", ".join(f"{name} := {name}" for name in (*FIRST, "contact_id"))})))
        from {{named}} join {{speakers}} using (contact_id) group by profile_id
    )
"""
"""SQL: one row per profile of ``named``: the record of ``FIRST`` among its own, as which it stands in the pairs."""


def build_profiles(connection: DuckDBPyConnection, write: Write = keep) -> None:
    """Write ``identity_profiles``: one row per profile of ``identity_profile_speakers``, what it says.

    Nothing else is told of it here, so it is the same as long as the profile exists. Read from ``identity_contacts``.
    """
    write(
        connection,
        "profiles",
        f"""
        select profile_id, {", ".join(PROFILE)}, {_SAID},
            coalesce(regexp_matches(phone_key, '^\\+33[67]'), false) as is_mobile
        from ({_compared()}) semi join identity_profile_speakers using (contact_id)
        """,
    )


NAMED = f"""
    select named.contact_id, profile_id, {FEED} as feed, feed_rank, seen_at, record_id, customer_id, email_key,
        phone_key, house_number, street_key, postal_code, town_key, given_word_forms, family_name_forms
    from {{named}} as named
    join (select contact_id, feed_rank, seen_at, record_id from identity_speakers) using (contact_id)
    join (select contact_id, customer_id from identity_contacts) using (contact_id)
    join (
        select profile_id, email_key, phone_key, house_number, street_key, postal_code, town_key, given_word_forms,
            family_name_forms
        from identity_profiles
    ) using (profile_id)
"""
"""SQL: one row per contact of ``named`` (contact_id, profile_id): who says it, and what its profile says."""
