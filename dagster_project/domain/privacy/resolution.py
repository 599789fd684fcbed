"""Who a request is about: the accounts, records and identifiers of one person, from the current release and from raw.

Here belongs the decision what is the person's alone and what somebody else holds too. Not the shape of the answer
(``subject``), nor what is done with it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import duckdb
import pyarrow as pa

from dagster_project.domain.contract import feeds
from dagster_project.domain.phones import standardise, write_standard_phones
from dagster_project.domain.privacy.subject import (
    NUMBERS_OF_TEXT,
    WORDS_OF_TEXT,
    Because,
    Subject,
    mailbox_of,
    standard_email,
)
from dagster_project.domain.privacy.tombstones import ERASED
from dagster_project.domain.privacy.words import Words
from dagster_project.domain.release import DATABASES
from dagster_project.domain.sql_literal import literal

# The records that a person gave, by the column of ``identity.records`` and ``identity.contacts`` that names each.
_IDENTIFIERS = """
    select feed, record_id, 'email' as type, email as value from held where email is not null
    union all
    -- As the identity stage compares it: somebody's «@hotmial.fr» is this person's address too.
    select feed, record_id, 'email', email_key from held where email_key is not null and email_key <> email
    union all
    select feed, record_id, 'phone', phone from held where phone is not null
    union all
    select feed, record_id, 'address', address_line1 from held where address_line1 is not null
    union all
    select feed, record_id, 'customer_id', customer_id from held where customer_id is not null
    union all
    select feed, record_id, 'card_id', card_id from held where card_id is not null
    union all
    select feed, record_id, 'payment_token', payment_token from held where payment_token is not null
"""
_NAMED = ("email", "phone", "customer_id", "card_id")
_TEXTS_AT_ONCE = 50_000
_FIELDS = {
    "email": "emails",
    "phone": "phones",
    "address": "addresses",
    "customer_id": "customer_ids",
    "card_id": "card_ids",
    "payment_token": "payment_tokens",
}


def open_erasures(
    connection: duckdb.DuckDBPyConnection, release: Path, carried_out: Collection[str]
) -> list[tuple[str, datetime, tuple[str, ...]]]:
    """The erasures that a release knows of and that were not carried out: request, moment (UTC), accounts.

    ``release`` is the release's folder. A request that names an e-mail or a phone of several accounts may mean one of
    several people. In the order of the moments.
    """
    connection.execute(f"attach {literal(release / DATABASES['analysts'])} as released (read_only)")
    try:
        rows = connection.execute(
            """
            select request_id, received_at, list(account_id order by account_id)
            from released.account.requests
            where kind = 'erasure' and is_subject
            group by request_id, received_at
            order by received_at, request_id
            """
        ).fetchall()
    finally:
        connection.execute("detach released")
    return [(request, at, tuple(accounts)) for request, at, accounts in rows if request not in carried_out]


@dataclass(frozen=True)
class Unaccounted:
    """A request that names an e-mail, phone or number that no record of an account holds: ``key_value`` in standard
    form, ``received_at`` in UTC. ``past_account_ids``: accounts of which an older version of a record held it, or that
    hold another address of the mailbox. They may be whom it means, or not.
    """

    request_id: str
    received_at: datetime
    key_type: str
    key_value: str
    past_account_ids: tuple[str, ...]


def requests_without_account(
    connection: duckdb.DuckDBPyConnection,
    release: Path,
    raw: Path,
    kind: Literal["erasure", "access"],
    carried_out: Collection[str],
    country: str,
) -> list[Unaccounted]:
    """The requests of a kind about somebody without an account that a release knows of: accesses, and the erasures that
    were not carried out.

    What they name is read from raw, from the delivery that counts, for releases do not hold it. A request whose
    delivery names two different things under one number is left out. Reads the rows of people in all raw files, if
    there is such a request.
    """
    if not any((raw / "privacy_requests").glob("*.parquet")):
        return []
    connection.execute("set TimeZone = 'UTC'")
    connection.execute(f"attach {literal(release / DATABASES['analysts'])} as released (read_only)")
    connection.execute(f"attach {literal(release / DATABASES['restricted'])} as restricted (read_only)")
    try:
        delivered = connection.execute(
            f"""
            with waiting as (
                select request_id
                from released.account.request_deadlines
                where
                    kind = $1 and account_count = 0 and (kind = 'access' or state <> 'carried out')
                    and request_id not in (select unnest($2::varchar[]))
            ),

            files as (
                select sha256, max((delivered_on, file)) as delivery
                from released.landing.files
                where feed = 'privacy_requests'
                group by sha256
            ),

            delivered as (
                select
                    trim(told.request_id) as request_id,
                    timezone('UTC', try_cast(told.received_at as timestamptz)) as received_at,
                    trim(told.key_type) as key_type,
                    told.key_value,
                    files.delivery
                from read_parquet({literal(raw / "privacy_requests" / "*.parquet")}, filename = true) as told
                join files on files.sha256 = parse_filename(told.filename, true)
                join waiting on waiting.request_id = trim(told.request_id)
                where told._rule is null and told.key_value not like '{ERASED}%'
                qualify rank() over (partition by trim(told.request_id) order by files.delivery desc) = 1
            )

            select distinct
                request_id, received_at, key_type,
                case key_type when 'email' then {standard_email("key_value")} else trim(key_value) end as key_value
            from delivered
            order by received_at, request_id, key_value
            """,
            [kind, list(carried_out)],
        ).fetchall()
        said: dict[str, tuple[datetime, set[tuple[str, str]]]] = {}
        for request_id, received_at, key_type, key_value in delivered:
            standard = standardise(key_value, country) if key_type == "phone" else key_value
            if key_type in _NAMED and standard:
                said.setdefault(request_id, (received_at, set()))[1].add((key_type, standard))
        found = [(request, at, *keys.pop()) for request, (at, keys) in said.items() if len(keys) == 1]
        if not found:
            return []
        _write_requests(connection, [], {request: (type_, value) for request, _, type_, value in found})
        _write_held(connection, datetime.max)
        _write_identifiers(connection, raw, country)
        past: dict[str, list[str]] = {}
        for request_id, account_id in connection.execute(
            f"""
            select distinct named.request_id, held.account_id
            from named
            join identifiers
                on named.type = identifiers.type
                and (
                    named.value = identifiers.value
                    or (named.type = 'email' and {mailbox_of("named.value")} = {mailbox_of("identifiers.value")})
                )
            join held on identifiers.feed = held.feed and identifiers.record_id = held.record_id
            where held.account_id is not null
            order by all
            """
        ).fetchall():
            past.setdefault(request_id, []).append(account_id)
    finally:
        connection.execute("detach released")
        connection.execute("detach restricted")
    return [Unaccounted(*each, tuple(past.get(each[0], ()))) for each in found]


def resolve_subjects(
    connection: duckdb.DuckDBPyConnection,
    release: Path,
    raw: Path,
    requests: Iterable[tuple[str, datetime, Sequence[str]]],
    *,
    because: Because,
    until_at: datetime,
    country: str,
    named: Mapping[str, tuple[str, str]] | None = None,
) -> list[Subject]:
    """The subject of each request (id, moment, accounts).

    ``named`` says of a request without accounts what it names: type and value in standard form.
    Any connection will do; ``country`` is that of numbers without a prefix.
    A record of the accounts counts if it was given up to ``until_at``: what was given between the request and its being
    carried out goes too. An identifier, of whatever version of a record, is the person's own if no record of another
    account holds it; the numbers of the person's own web accounts and cards are always theirs, and other records that
    name one are ``spared`` but for it. What two people of one erasure share is both's. Cost grows with the release and
    with raw; not with the number of requests.
    """
    asked = list(requests)
    if not asked:
        return []
    connection.execute("set TimeZone = 'UTC'")
    connection.execute(f"attach {literal(release / DATABASES['analysts'])} as released (read_only)")
    connection.execute(f"attach {literal(release / DATABASES['restricted'])} as restricted (read_only)")
    try:
        _write_requests(connection, asked, named or {})
        _write_held(connection, until_at)
        _write_identifiers(connection, raw, country)
        _write_own(connection, raw)
        _share_common_addresses(connection, raw)
        _write_spellings(connection, raw, country)
        return [_subject(connection, request_id, at, because, until_at) for request_id, at, _ in asked]
    finally:
        connection.execute("detach released")
        connection.execute("detach restricted")


def _write_requests(
    connection: duckdb.DuckDBPyConnection,
    asked: Sequence[tuple[str, datetime, Sequence[str]]],
    named: Mapping[str, tuple[str, str]],
) -> None:
    """``asked`` (request_id, received_at, account_id), and ``named`` (request_id, type, value)."""
    rows = [(request_id, at, account) for request_id, at, accounts in asked for account in accounts]
    columns = list(zip(*rows, strict=True)) or [()] * 3
    types = (pa.string(), pa.timestamp("us"), pa.string())
    told = pa.table(  # noqa: F841 - read by the SQL
        [pa.array(column, type_) for column, type_ in zip(columns, types, strict=True)],
        names=["request_id", "received_at", "account_id"],
    )
    connection.execute("create or replace temp table asked as select * from told")
    connection.execute("create or replace temp table named (request_id varchar, type varchar, value varchar)")
    for request_id, (type_, value) in named.items():
        connection.execute("insert into named values ($1, $2, $3)", [request_id, type_, value])


def _write_held(connection: duckdb.DuckDBPyConnection, until_at: datetime) -> None:
    """``held``: one row per record with what it holds and, per request, whether it is the person's."""
    connection.execute(
        """
        create or replace temp table held as
        select
            records.feed, records.record_id, records.seen_at, links.account_id,
            contacts.email, contacts.email_key, contacts.phone, contacts.address_line1,
            coalesce(records.customer_id, if(records.feed = 'shop_customers', records.record_id, null)) as customer_id,
            coalesce(records.card_id, if(records.feed = 'loyalty_members', records.record_id, null)) as card_id,
            records.payment_token
        from restricted.identity.records as records
        left join restricted.identity.contacts as contacts using (contact_id)
        left join released.identity.account_links as links
            on records.feed = links.feed and records.record_id = links.record_id
        """
    )
    connection.execute(
        """
        create or replace temp table own_records as
        select asked.request_id, held.feed, held.record_id
        from held
        join asked on held.account_id = asked.account_id
        where held.seen_at is null or held.seen_at <= $1
        union all
        -- The number of an account that was never read as one: it stands in refused rows.
        select request_id, case type when 'customer_id' then 'shop_customers' else 'loyalty_members' end, value
        from named
        where type in ('customer_id', 'card_id')
        """,
        [until_at],
    )


# feed: its key, and where it keeps the numbers that a person shows
_SPEAKERS = {
    "shop_customers": {"record": "customer_id", "customer_id": "customer_id", "card_id": "loyalty_card_id"},
    "loyalty_members": {"record": "card_id", "card_id": "card_id"},
    "shop_orders": {"record": "order_id", "customer_id": "customer_id", "payment_token": "payment_token"},
    "pos_tickets": {"record": "ticket_id", "card_id": "loyalty_card_id", "payment_token": "payment_token"},
}


def _write_identifiers(connection: duckdb.DuckDBPyConnection, raw: Path, country: str) -> None:
    """``identifiers`` (feed, record_id, type, value): what each record holds, and what its older versions in raw held,
    as far as it is said of the people concerned: an e-mail given up last year stands in consents and messages still.

    Reads the rows of people in all raw files, twice.
    """
    connection.execute(f"create or replace temp table identifiers as {_IDENTIFIERS}")
    present = {feed: raw / feed / "*.parquet" for feed in _SPEAKERS if any((raw / feed).glob("*.parquet"))}
    if not present:
        return
    numbers = " union ".join(f"select phone as value from read_parquet({literal(path)})" for path in present.values())
    write_standard_phones(connection, numbers, "standard_phones", country, is_temporary=True)

    def said(feed: str, values: dict[str, str], where: str) -> str:
        record = f"trim({_SPEAKERS[feed]['record']})"
        return " union all ".join(
            f"""
            select '{feed}' as feed, {record} as record_id, '{type_}' as type, {value} as value
            from read_parquet({literal(present[feed])})
            left join standard_phones on delivered_value = phone
            where
                _rule is null and {value} is not null
                and {where.format(record=record, feed=feed, value=value, type=type_)}
            """
            for type_, value in values.items()
        )

    def columns(feed: str) -> dict[str, str]:
        held = {type_: f"nullif(trim({name}), '')" for type_, name in _SPEAKERS[feed].items() if type_ != "record"}
        address = (
            {"address": "nullif(trim(address_line1), '')"} if "address_line1" in feeds()[feed].column_names else {}
        )
        email = standard_email("email")
        return {"email": email, "phone": "e164"} | held | address

    # Twice: what their own records ever said, then who else ever said just that.
    for where in (
        "{record} in (select record_id from own_records where feed = '{feed}')",
        "{value} in (select value from their_values where type = '{type}')",
    ):
        connection.execute(
            """
            create or replace temp table their_values as
            select distinct type, value from identifiers join own_records using (feed, record_id)
            union
            select type, value from named
            """
        )
        everything = " union all ".join(said(feed, columns(feed), where) for feed in present)
        connection.execute(f"create or replace temp table heard as select distinct * from ({everything})")
        connection.execute(
            "insert into identifiers select * from heard anti join identifiers using (feed, record_id, type, value)"
        )


def _write_own(connection: duckdb.DuckDBPyConnection, raw: Path) -> None:
    """``judged`` (request_id, type, value, is_shared), and ``spared`` (request_id, feed, record_id)."""
    connection.execute(
        """
        create or replace temp table numbers as
        select request_id, if(feed = 'shop_customers', 'customer_id', 'card_id') as type, record_id as value
        from own_records
        where feed in ('shop_customers', 'loyalty_members')
        """
    )
    # A record without an account is nobody else's: what it holds of the person goes with the person.
    connection.execute(
        """
        create or replace temp table judged as
        with theirs as (
            select own_records.request_id, identifiers.type, identifiers.value
            from identifiers
            join own_records using (feed, record_id)
            group by all
            union
            select request_id, type, value from named
        ),
        others as (
            select distinct theirs.request_id, theirs.type, theirs.value
            from theirs
            join identifiers on theirs.type = identifiers.type and theirs.value = identifiers.value
            join held on identifiers.feed = held.feed and identifiers.record_id = held.record_id
            -- What two people of one erasure share is nobody's afterwards.
            left join (select distinct feed, record_id from own_records) as erased
                on erased.feed = identifiers.feed and erased.record_id = identifiers.record_id
            where erased.record_id is null and held.account_id is not null
        )
        select theirs.*, others.request_id is not null and numbers.request_id is null as is_shared
        from theirs
        left join others using (request_id, type, value)
        left join numbers using (request_id, type, value)
        """
    )
    _add_addresses_of_their_mailboxes(connection, raw)
    # A ticket that nobody was found for, and that says the person's e-mail, is the person's.
    connection.execute(
        """
        insert into own_records
        select distinct judged.request_id, identifiers.feed, identifiers.record_id
        from identifiers
        join judged on judged.type = identifiers.type and judged.value = identifiers.value
        join held on identifiers.feed = held.feed and identifiers.record_id = held.record_id
        where held.account_id is null and not judged.is_shared
        """
    )
    connection.execute(
        """
        create or replace temp table spared as
        select distinct numbers.request_id, identifiers.feed, identifiers.record_id
        from numbers
        join identifiers on numbers.type = identifiers.type and numbers.value = identifiers.value
        join held on identifiers.feed = held.feed and identifiers.record_id = held.record_id
        left join own_records
            on own_records.request_id = numbers.request_id
            and own_records.feed = identifiers.feed and own_records.record_id = identifiers.record_id
        where own_records.record_id is null and held.account_id is not null
        """
    )


def _share_common_addresses(connection: duckdb.DuckDBPyConnection, raw: Path) -> None:
    """An address that stands in somebody else's, in whatever letters, is not the person's alone: «12 rue de la Paix» in
    «Résidence les Lilas, 12 RUE DE LA PAIX». Reads the addresses of all raw files and of the release.
    """
    own = connection.execute(
        "select distinct lower(value) from judged where type = 'address' and not is_shared"
    ).fetchall()
    if not own:
        return
    texts = [
        f"""
        select address_line1 as text from read_parquet({literal(raw / feed / "*.parquet")}) as told
        anti join own_records
            on own_records.feed = '{feed}' and own_records.record_id = trim(told.{speaker["record"]})
        """
        for feed, speaker in _SPEAKERS.items()
        if "address_line1" in feeds()[feed].column_names and any((raw / feed).glob("*.parquet"))
    ]
    texts.append(
        """
        select identifier from restricted.account.identifiers anti join asked using (account_id)
        where identifier_type = 'post'
        """
    )
    words = Words([value for (value,) in own])
    common: set[str] = set()
    others = connection.sql(f"select distinct lower(text) as text from ({' union all '.join(texts)}) as told(text)")
    for batch in others.to_arrow_reader(_TEXTS_AT_ONCE):
        common |= words.in_cells(batch.column(0))[2]
    connection.execute(
        "update judged set is_shared = true where type = 'address' and lower(value) in (select unnest($1::varchar[]))",
        [sorted(common)],
    )


def _add_addresses_of_their_mailboxes(connection: duckdb.DuckDBPyConnection, raw: Path) -> None:
    """Add to ``judged`` other addresses of mailboxes that are the person's alone, wherever raw holds them, unless a
    record of another account does. Reads the e-mails of all raw files, if such a mailbox is anybody's.
    """
    connection.execute(
        f"""
        create or replace temp table mailboxes as
        select request_id, {mailbox_of("value")} as mailbox from judged where type = 'email' and not is_shared
        """
    )
    parts = [
        f"select {name} as value from read_parquet({literal(raw / feed.name / '*.parquet')})"
        f" where _rule is null and {name} like '%@%'"
        for feed in feeds().values()
        for name in (column.name for column in feed.columns if column.type in ("email", "key_value"))
        if any((raw / feed.name).glob("*.parquet"))
    ]
    parts += [
        f"select word as value from (select unnest({WORDS_OF_TEXT}) as word from read_parquet("
        f"{literal(raw / feed.name / '*.parquet')}) where _text is not null) where word like '%@%'"
        for feed in feeds().values()
        if any((raw / feed.name).glob("*.parquet"))
    ]
    if not parts:
        return
    connection.execute(
        f"""
        insert into judged by name
        with delivered as (
            select distinct {standard_email("value")} as value
            from ({" union ".join(parts)})
        ),

        others as (
            select distinct held.email
            from held
            left join own_records on held.feed = own_records.feed and held.record_id = own_records.record_id
            where held.account_id is not null and own_records.record_id is null
        ),

        theirs as (
            select distinct mailboxes.request_id, 'email' as type, delivered.value, false as is_shared
            from delivered
            join mailboxes on mailboxes.mailbox = {mailbox_of("delivered.value")}
            where delivered.value not in (select email from others where email is not null)
        )

        select theirs.* from theirs anti join judged using (request_id, type, value)
        """
    )


def _write_spellings(connection: duckdb.DuckDBPyConnection, raw: Path, country: str) -> None:
    """``spellings`` (request_id, value): how the own e-mails and phones stand in raw, where not in standard form."""
    connection.execute("create or replace temp table spellings (request_id varchar, value varchar)")
    for feed in feeds().values():
        paths = raw / feed.name / "*.parquet"
        columns = [column.name for column in feed.columns if column.type in ("email", "phone", "key_value")]
        if not columns or not any((raw / feed.name).glob("*.parquet")):
            continue
        delivered = " union ".join(
            f"select distinct {value} as value from read_parquet({literal(paths)})"
            for value in (*columns, f"unnest({NUMBERS_OF_TEXT})", f"unnest({WORDS_OF_TEXT})")
        )
        connection.execute(
            rf"""
            insert into spellings
            with delivered as ({delivered}),
            emails as (
                select value, {standard_email("value")} as standard
                from delivered where value like '%@%'
            )
            select judged.request_id, emails.value
            from emails
            join judged on judged.type = 'email' and judged.value = emails.standard
            where not judged.is_shared and emails.value <> emails.standard
            """
        )
        # The last nine digits find the few that the library then reads.
        candidates = connection.execute(
            rf"""
            with delivered as ({delivered})
            select distinct judged.request_id, delivered.value, judged.value
            from delivered
            join judged
                on judged.type = 'phone'
                and right(regexp_replace(delivered.value, '\D', '', 'g'), 9) = right(judged.value, 9)
            where not judged.is_shared and delivered.value <> judged.value and delivered.value not like '%@%'
            """
        ).fetchall()
        for request_id, value, phone in candidates:
            if standardise(value, country) == phone:
                connection.execute("insert into spellings values ($1, $2)", [request_id, value])


def _subject(
    connection: duckdb.DuckDBPyConnection, request_id: str, at: datetime, because: Because, until_at: datetime
) -> Subject:
    def rows(query: str) -> list[tuple[str, ...]]:
        return connection.execute(query, [request_id]).fetchall()

    own: dict[str, set[str]] = {field: set() for field in _FIELDS.values()}
    for type_, value in rows("select type, value from judged where request_id = $1 and not is_shared"):
        own[_FIELDS[type_]].add(value)
    return Subject(
        request_id,
        at,
        because,
        until_at,
        account_ids=frozenset(account for (account,) in rows("select account_id from asked where request_id = $1")),
        records=frozenset(
            (feed, record)
            for feed, record in rows("select distinct feed, record_id from own_records where request_id = $1")
        ),
        spellings=frozenset(value for (value,) in rows("select value from spellings where request_id = $1")),
        shared=frozenset(
            (type_, value)
            for type_, value in rows("select type, value from judged where request_id = $1 and is_shared")
        ),
        spared=frozenset(
            (feed, record) for feed, record in rows("select feed, record_id from spared where request_id = $1")
        ),
        **{field: frozenset(values) for field, values in own.items()},
    )
