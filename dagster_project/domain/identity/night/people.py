"""What a night's changes touch among records, contacts, identifiers and profiles.

What belongs here: which of them are worked out again. What does not: pairs of profiles (``pairs.py``).
"""

from collections.abc import Callable
from datetime import date

from duckdb import DuckDBPyConnection

from dagster_project.domain.identity import blocking
from dagster_project.domain.identity.identifiers import (
    CARRIED,
    VALUES,
    count_people,
    count_uses,
    demote,
    find_carriers,
    marks,
)
from dagster_project.domain.identity.policy import Policy
from dagster_project.domain.identity.records import (
    FIRST,
    NAMED_FROM,
    PROFILE_SPEAKERS,
    RECORDS,
    SPEAKERS,
    build_contacts,
    build_profiles,
    count_spoken,
    find_gone,
    name_contacts,
    read_blocks,
)
from dagster_project.domain.identity.remembered import among, count_rows, differing, part, replace_part, work

LARGE_NIGHT = 0.1
"""A night that brings or takes more than this share of the records is worked out as a whole: it costs less."""

Tell = Callable[[str], None]


def read_changes(connection: DuckDBPyConnection, tell: Tell) -> bool:
    """Write ``identity_new_records`` and ``identity_gone_records``; False where they are too many for a night."""
    read_blocks(connection, "remembered.records")
    work(connection, "new_records", RECORDS)
    known, new = (count_rows(connection, table) for table in ("remembered.records", "identity_new_records"))
    work(
        connection,
        "gone_marks",
        "select key_mark from remembered.records semi join identity_new_records using (key_mark)",
    )
    work(
        connection,
        "gone_records",
        f"from remembered.records where {among('key_mark', 'gone_marks')}",
    )
    if known - count_rows(connection, "identity_gone_records") + new != count_spoken(connection):
        find_gone(connection)
    gone = count_rows(connection, "identity_gone_records")
    is_small = new + gone <= LARGE_NIGHT * known
    tell(
        f"of {known} records {gone} changed or are gone, {new} are new or changed: "
        f"{'what they touch' if is_small else 'all'} is resolved"
    )
    return is_small


def renew_people(connection: DuckDBPyConnection, *, as_of: date, policy: Policy, tell: Tell) -> None:
    """Records, contacts, demoted identifiers, profiles and declared pairs.

    Leaves ``identity_new_profiles``, ``identity_gone_profiles``, ``identity_respoken_profiles``, ``identity_relinked``
    (profile_id each), ``identity_renamed`` (contact_id) and ``identity_worn_changes`` (value).
    """
    replace_part(connection, "records", "mark in (select mark from identity_gone_records)", "identity_new_records")
    tell("standard forms")
    _renew_contacts(connection, as_of, policy)
    tell("identifier policy")
    _renew_demotions(connection, policy)
    tell("profiles")
    _renew_profiles(connection)
    _renew_declared(connection)


def _renew_contacts(connection: DuckDBPyConnection, as_of: date, policy: Policy) -> None:
    """Leaves ``identity_new_contacts``, ``identity_respoken``, ``identity_respoken_by_feed``, ``identity_redated``
    (contact_id each), the rows ``identity_gone_contacts`` and, of the new ones, the parts of contacts and speakers.
    """
    work(
        connection,
        "touched",
        """
        select contact_id from identity_new_records where contact_id is not null
        union select contact_id from identity_gone_records where contact_id is not null
        """,
    )
    work(connection, "old_speakers", f"from remembered.speakers where {among('contact_id', 'touched')}")
    work(
        connection,
        "now_speakers",
        SPEAKERS.format(records=f"(from remembered.records where {among('contact_id', 'touched')})"),
    )
    replace_part(connection, "speakers", among("contact_id", "touched"), "identity_now_speakers")
    work(
        connection,
        "new_contacts",
        "select contact_id from identity_now_speakers anti join identity_old_speakers using (contact_id)",
    )
    for name, columns in {"respoken": ", ".join(FIRST), "respoken_by_feed": "feed_rank"}.items():
        work(
            connection,
            name,
            f"""
            select contact_id
            from (
                select contact_id, {columns} from identity_now_speakers except
                select contact_id, {columns} from identity_old_speakers
            )
            semi join identity_old_speakers using (contact_id)
            """,
        )
    work(
        connection,
        "gone_contacts",
        """
        from remembered.contacts semi join (
            from identity_old_speakers anti join identity_now_speakers using (contact_id)
        ) as gone using (contact_id)
        """,
    )
    connection.execute(
        "delete from remembered.contacts where contact_id in (select contact_id from identity_gone_contacts)"
    )
    part(connection, "speakers", f"from identity_now_speakers where {among('contact_id', 'new_contacts')}")
    build_contacts(connection, as_of=as_of, policy=policy, write=part, beside="remembered.contacts")
    replace_part(connection, "contacts", "false")
    work(
        connection,
        "redates",
        f"select birth_date from {differing('from remembered.trusted_dates', 'from identity_trusted_dates')}",
    )
    work(
        connection,
        "redated",
        f"""
        select contact_id from remembered.contacts where {among("birth_date", "redates")}
            and {among("contact_id", "new_contacts")} is not true
        """,
    )
    connection.execute(
        f"""
        update remembered.contacts
        set birth_key = case when birth_date in (select birth_date from identity_trusted_dates)
            then strftime(birth_date, '%Y-%m-%d') end
        where {among("contact_id", "redated")};
        create or replace table remembered.trusted_dates as from identity_trusted_dates
        """
    )


def _renew_demotions(connection: DuckDBPyConnection, policy: Policy) -> None:
    """Leaves ``identity_demotions`` (type, value: demoted now and not before, or the reverse), ``identity_old_demoted``
    and ``identity_worn_changes``.
    """
    part(connection, "carried", CARRIED)
    replace_part(connection, "carried", "false")
    work(
        connection,
        "asked_values",
        f"select distinct value from remembered.carried where {among('contact_id', 'touched')}",
    )
    connection.execute(
        "delete from remembered.carried where contact_id in (select contact_id from identity_gone_contacts)"
    )
    find_carriers(connection, "from identity_asked_values")
    counted = " union ".join(
        f"select '{type_}' as type, {column} as value from contacts where {column} is not null"
        for type_, column in VALUES.items()
    )
    work(
        connection,
        "counted",
        f"with contacts as (from identity_contacts union all by name from identity_gone_contacts) {counted}",
    )
    count_people(connection, policy, part, "identity_counted")
    replace_part(connection, "notable", "(type, value) in (from identity_counted)")
    work(
        connection,
        "used",
        """
        with records as (
            select card_id, payment_token, contact_id from identity_new_records
            where feed in ('shop_orders', 'pos_tickets')
            union all
            select card_id, payment_token, contact_id from identity_gone_records
            where feed in ('shop_orders', 'pos_tickets')
        ),
        contacts as (
            select contact_id, email_key, phone from identity_carriers semi join records using (contact_id)
            union all
            select contact_id, email_key, phone from identity_gone_contacts
        )
        select 'card' as type, card_id as value from records where card_id is not null
        union select 'payment_token', payment_token from records where payment_token is not null
        union select 'email', email_key from contacts semi join records using (contact_id) where email_key is not null
        union select 'phone', phone from contacts semi join records using (contact_id) where phone is not null
        """,
    )
    work(connection, "old_worn", "from remembered.worn_tokens")
    count_uses(connection, policy, part, "identity_used")
    replace_part(connection, "uses", "(type, value) in (from identity_used)")
    replace_part(connection, "worn_tokens", "value in (select value from identity_used where type = 'payment_token')")
    part(connection, "worn_tokens", "from remembered.worn_tokens")
    work(
        connection,
        "worn_changes",
        f"from {differing('from identity_old_worn', 'from identity_worn_tokens')}",
    )
    demote(connection, policy, part)
    work(connection, "old_demoted", "select type, value from remembered.demoted")
    work(
        connection,
        "demotions",
        f"from {differing('from identity_old_demoted', 'select type, value from identity_demoted')}",
    )
    connection.execute("create or replace table remembered.demoted as from identity_demoted")


def _renew_profiles(connection: DuckDBPyConnection) -> None:
    work(
        connection,
        "recarried",
        f"""
        select contact_id from remembered.carried
        where value in ({marks("identity_demotions where type in ('email', 'phone')")})
        """,
    )
    work(
        connection,
        "renamed",
        """
        from identity_new_contacts union from identity_respoken union from identity_redated
        union from identity_recarried union select contact_id from identity_gone_contacts
        """,
    )
    work(
        connection,
        "old_named",
        f"from remembered.named where {among('contact_id', 'renamed')}",
    )
    # Whether a contact without a name is compared depends on which feed says it.
    work(
        connection,
        "read_again",
        """
        select contact_id
        from (
            from identity_redated union from identity_recarried
            union (
                from identity_respoken_by_feed
                anti join (select contact_id from identity_old_named where not is_nameless) as named using (contact_id)
            )
        )
        anti join identity_new_contacts using (contact_id)
        """,
    )
    is_any = count_rows(connection, "identity_read_again") > 0
    for table, columns in {"contacts": NAMED_FROM, "speakers": ("contact_id", *FIRST)}.items():
        said = f"select {', '.join(columns)} from"
        again = f"union all {said} remembered.{table} where {among('contact_id', 'read_again')}" if is_any else ""
        part(connection, table, f"{said} identity_{table} {again}")
    name_contacts(connection, part)
    replace_part(
        connection,
        "named",
        "contact_id in (from identity_read_again union all select contact_id from identity_gone_contacts)",
    )
    work(
        connection,
        "reprofiled",
        "select profile_id from identity_old_named union select profile_id from identity_named",
    )
    work(connection, "members", f"from remembered.named where {among('profile_id', 'reprofiled')}")
    work(
        connection,
        "old_profile_speakers",
        f"from remembered.profile_speakers where {among('profile_id', 'reprofiled')}",
    )
    work(
        connection,
        "now_profile_speakers",
        PROFILE_SPEAKERS.format(named="identity_members", speakers="remembered.speakers"),
    )
    for name, one, other in (("new_profiles", "now", "old"), ("gone_profiles", "old", "now")):
        work(
            connection,
            name,
            f"select profile_id from identity_{one}_profile_speakers "
            f"anti join identity_{other}_profile_speakers using (profile_id)",
        )
    work(
        connection,
        "respoken_profiles",
        """
        select profile_id
        from (from identity_now_profile_speakers except from identity_old_profile_speakers)
        semi join identity_old_profile_speakers using (profile_id)
        """,
    )
    replace_part(
        connection,
        "profile_speakers",
        "profile_id in (from identity_gone_profiles union all from identity_respoken_profiles)",
        "(from identity_now_profile_speakers except from identity_old_profile_speakers)",
    )
    part(
        connection,
        "profile_speakers",
        f"from identity_now_profile_speakers where {among('profile_id', 'new_profiles')}",
    )
    build_profiles(connection, part)
    replace_part(connection, "profiles", among("profile_id", "gone_profiles"))


def _renew_declared(connection: DuckDBPyConnection) -> None:
    work(
        connection,
        "numbers",
        f"""
        with contacts as (
            select customer_id, card_id from remembered.contacts where {among("contact_id", "renamed")}
            union all select customer_id, card_id from identity_gone_contacts
        )
        select 'customer_id' as type, customer_id as value from contacts where customer_id is not null
        union select 'card', card_id from contacts where card_id is not null
        union from identity_demotions where type in ('customer_id', 'card')
        """,
    )
    work(
        connection,
        "numbered",
        f"select contact_id from remembered.carried where value in ({marks('identity_numbers')})",
    )
    work(connection, "old_declared", "from remembered.declared where (type, value) in (from identity_numbers)")
    blocking.declare(connection, part, "identity_numbers")
    replace_part(connection, "declared", "(type, value) in (from identity_numbers)")
    work(
        connection,
        "relinked",
        f"""
        with changed as (from {differing("from identity_old_declared", "from identity_declared")})
        select l as profile_id from changed union select r from changed
        """,
    )
