"""Person-bearing records, the contact blocks they carry, and the profiles that are compared.

What belongs here: which source records speak of a person, what each says, in raw and in standard form. What does not:
any comparison of two of them.

A *contact block* is everything a record says of who it is: the numbers of web account and card, e-mail, phone, name,
birth date, address. Identical blocks are one contact. A *profile* is what contacts say in standard form, without the
numbers: contacts that say the same are one profile, so that a million orders become some thousands of profiles before
anything is compared. The payment token belongs to neither: it says which card paid, not who the person is.
"""

from datetime import date

from duckdb import DuckDBPyConnection

from dagster_project.domain.identity import standard_forms
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

NAMES_SOMEBODY = """
    (coalesce(given_initials, family_name_key, birth_key) is not null or feed in ('shop_customers', 'loyalty_members'))
"""
"""SQL: whether a contact is compared at all."""

CONTENT = f"""
    {", ".join(PROFILE)}, given_word_forms, family_name_forms,
    case when not coalesce(
        email_key is not null
        or phone_key is not null
        or (given_name_key is not null and family_name_key is not null
            and (birth_key is not null or (street_key is not null and house_number is not null))),
        false
    ) then feed || '|' || record_id end
"""
"""SQL: what is hashed to tell whether two contacts are one profile; what is too thin to be one person's stays apart."""


def build_records(connection: DuckDBPyConnection) -> None:
    """Write ``identity.records`` (one row per person-bearing record) and the temp table ``identity_blocks``.

    Reads ``staging.stg_*`` of the four feeds that speak of people, and ``identity_decisions_in_force``: a record that a
    steward declared different from another keeps a block of its own, whatever it says. A ticket never shares its block
    with the card that it shows, of which nothing else may be known.
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
        with spoken as ({" union all ".join(selects)}),
        parted as (
            select left_feed as feed, left_id as record_id from identity_different union
            select right_feed, right_id from identity_different
        )
        select
            spoken.*,
            case
                when coalesce(customer_id, card_id, email, phone, first_name, last_name, address_line1) is not null
                    then hash({block}, feed = 'pos_tickets', parted.feed, parted.record_id)
            end as block
        from spoken
        left join parted using (feed, record_id)
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
            select block,
                unnest(arg_min(
                    struct_pack(feed := feed, record_id := record_id, seen_at := seen_at, feed_rank := feed_rank),
                    struct_pack(feed_rank := feed_rank, seen_at := seen_at, record_id := record_id)
                ))
            from identity_blocks where block is not null group by block
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


def build_contacts(connection: DuckDBPyConnection, *, as_of: date, policy: Policy) -> None:
    """Write ``identity.contacts``: one row per contact block, what it says as typed and in standard form.

    A birth date that is a default, lies in the future or makes a person older or younger than the policy allows (the
    day on which a form was filled in, taken for a birthday) has no key: it neither joins nor separates.
    """
    standard_forms.create_macros(connection)
    block = ", ".join(f"blocks.{name}" for name in _BLOCK)
    connection.execute(
        f"""
        create or replace temp table identity_written as
        with written as (
            select speakers.contact_id, {block}, speakers.feed, speakers.record_id, speakers.seen_at,
                nullif(trim(regexp_replace(
                    blocks.first_name, '(?i)^\\s*({standard_forms.TITLES})[.]?(\\s+|$)', '')), '') as given,
                case when regexp_matches(blocks.last_name, '\\p{{L}}') then
                    nullif(trim(regexp_replace(
                        blocks.last_name, '(?i)^\\s*({standard_forms.TITLES})[.]?(\\s+|$)', '')), '') end as family
            from identity_speakers as speakers join identity_blocks as blocks using (feed, record_id)
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
    connection.execute(
        f"""
        create or replace table identity.contacts as
        with dates as (
            select birth_date, count(*) as names
            from (select distinct birth_date, given_as_read, family_as_read from identity_written
                  where birth_date is not null)
            group by birth_date
        ),
        trusted_dates as (
            select birth_date, strftime(birth_date, '%Y-%m-%d') as birth_key
            from dates
            where coalesce(birth_date not in ({defaults}), true)
                and birth_date between date '{as_of.isoformat()}' - interval {policy.max_age_years} year
                and date '{as_of.isoformat()}' - interval {policy.min_age_years} year
                and not (
                    names >= {policy.over_represented_names}
                    and names > {policy.over_represented_share} * (select sum(names) from dates)
                )
        )
        select
            written.* exclude (given_as_read, family_as_read),
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
        left join trusted_dates on trusted_dates.birth_date = written.birth_date
        """
    )


def build_profiles(connection: DuckDBPyConnection) -> None:
    """Write ``identity_profiles`` (one row per profile) and ``identity_profile_contacts`` (contact_id, profile_id).

    Only contacts that name somebody are compared; a bare e-mail, phone or card is looked up (``attribution.py``). What
    is demoted is not part of the content. Contents too thin to be one person's (a name alone) stay apart, each contact
    its own profile. ``content`` identifies what a profile says; it is the same on every night that it is said.
    """
    content = ", ".join(PROFILE)
    connection.execute(
        f"""
        create or replace temp table identity_named as
        select
            contacts.* exclude (email_key, email_local, postal_code),
            case when demoted_emails.value is null then email_key end as email_key,
            case when demoted_emails.value is null then email_local end as email_local,
            case when demoted_phones.value is null then contacts.phone end as phone_key,
            contacts.postal_code,
        from identity.contacts as contacts
        left join identity_demoted as demoted_emails
            on demoted_emails.type = 'email' and demoted_emails.value = contacts.email_key
        left join identity_demoted as demoted_phones
            on demoted_phones.type = 'phone' and demoted_phones.value = contacts.phone
        where {NAMES_SOMEBODY}
        """
    )
    connection.execute(
        f"""
        create or replace temp table identity_profile_contacts as
        with hashed as (
            select contact_id, hash({CONTENT}, different.feed, different.record_id) as content
            from identity_named
            left join (
                select left_feed as feed, left_id as record_id from identity_different union
                select right_feed, right_id from identity_different
            ) as different using (feed, record_id)
        ),
        numbered as (
            select content, row_number() over (order by min(contact_id)) as profile_id
            from hashed group by content
        )
        select contact_id, profile_id, content, min(contact_id) over (partition by profile_id) as speaker
        from hashed join numbered using (content)
        """
    )
    connection.execute(
        f"""
        create or replace temp table identity_profiles as
        select members.profile_id, members.content,
            named.contact_id, named.feed, named.record_id, {content},
            given_name_forms, given_word_forms, given_first, given_word_count, is_known_given_name, family_name_forms,
            email_local,
            coalesce(regexp_matches(phone_key, '^\\+33[67]'), false) as is_mobile
        from identity_named as named
        join identity_profile_contacts as members using (contact_id)
        where members.speaker = named.contact_id
        """
    )
