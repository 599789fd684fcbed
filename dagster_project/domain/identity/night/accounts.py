"""What a night's clusters and records touch: whose every record is, what accounts are called, who lives together.

What belongs here: which of them are worked out again. What does not: the clusters (``clusters.py``).
"""

from collections.abc import Callable
from datetime import date
from pathlib import Path

from duckdb import DuckDBPyConnection

from dagster_project.domain.identity.attribution import ATTRIBUTED_FROM, CLUSTERED_FROM, attribute
from dagster_project.domain.identity.households import name_households
from dagster_project.domain.identity.policy import Policy
from dagster_project.domain.identity.records import NAMED
from dagster_project.domain.identity.remembered import among, count_rows, differing, part, replace_part, work
from dagster_project.domain.identity.shared_identifiers import write_shared_identifiers
from dagster_project.domain.identity.stable_ids import (
    name_accounts,
    name_all_again,
    read_last_accounts,
    redirect,
)

Tell = Callable[[str], None]


def _ties(nodes: str = "") -> str:
    """SQL: one row per record or contact and value by which it may depend on others (node, value).

    ``nodes`` names a table (node): of these only. A value that joins nobody ties nobody: demoted, or worn out.
    """
    among = f"and node in (from {nodes})" if nodes else ""
    contacts = f"(select contact_id as node, * from remembered.contacts where true {among})"
    named = f"(select contact_id as node, profile_id from remembered.named where true {among})"
    return f"""
        select node, hash(1, customer_id) as value from {contacts} where customer_id is not null
        union all
        select node, hash(2, card_id) from {contacts}
        where card_id is not null and card_id not in (select value from remembered.demoted where type = 'card')
        union all
        select node, hash(3, email_key) from {contacts}
        where email_key is not null and email_key not in (select value from remembered.demoted where type = 'email')
        union all
        select node, hash(4, phone) from {contacts}
        where phone is not null and phone not in (select value from remembered.demoted where type = 'phone')
        union all
        select node, hash(5, component) from {named} join remembered.labels using (profile_id)
        union all
        select node, hash(6, house_number, street_key, town, form)
        from (
            select node, house_number, street_key, coalesce(postal_code, town_key) as town,
                unnest(family_name_forms) as form
            from {named} join remembered.profiles using (profile_id)
            where house_number is not null and street_key is not null
        )
        where town is not null
        union all
        select distinct node, hash(7, payment_token) from remembered.records
        where payment_token is not null and payment_token not in (select value from remembered.worn_tokens) {among}
    """


TIES = _ties()


def find_islands(connection: DuckDBPyConnection) -> None:
    """Write ``identity_island`` (node): all that what has changed may touch."""
    work(
        connection,
        "steered_records",
        f"""
        with moved as (
            select feed, record_id from identity_new_records union all select feed, record_id from identity_gone_records
        ),
        changed as (
            (from {differing("from identity_decisions_in_force", "from remembered.decisions")})
            -- Who is decided about together with a record that is gone or says something else is tied to it no more.
            union (
                from identity_decisions_in_force
                semi join moved on moved.feed = left_feed and moved.record_id = left_id
            )
            union (
                from identity_decisions_in_force
                semi join moved on moved.feed = right_feed and moved.record_id = right_id
            )
        )
        select left_feed as feed, left_id as record_id from changed union select right_feed, right_id from changed
        """,
    )
    work(
        connection,
        "seeds",
        f"""
        select node from identity_new_records union select node from identity_gone_records
        union from identity_renamed
        union select contact_id from remembered.named where {among("profile_id", "relabelled_profiles")}
        union select contact_id from remembered.contacts
        where card_id in (select value from identity_demotions where type = 'card')
        union select node from remembered.records where payment_token in (from identity_worn_changes)
        union select node from remembered.records semi join identity_steered_records using (feed, record_id)
        """,
    )
    work(connection, "reached_values", f"select distinct value from remembered.ties where {among('node', 'seeds')}")
    work(connection, "ties", _ties("identity_seeds"))
    replace_part(connection, "ties", among("node", "seeds"))
    # Who is decided about depends on the other side.
    work(
        connection,
        "decision_ties",
        """
        with sides as (
            select left_feed as feed, left_id as record_id, hash(8, decision_id) as value
            from identity_decisions_in_force
            union all select right_feed, right_id, hash(8, decision_id) from identity_decisions_in_force
        )
        select node, value from sides join remembered.records using (feed, record_id)
        """,
    )
    connection.execute(
        "create or replace temp view identity_all_ties as from remembered.ties union all from identity_decision_ties"
    )
    work(connection, "island", "from identity_seeds")
    work(
        connection,
        "next_values",
        f"""
        from identity_reached_values
        union select value from identity_all_ties where {among("node", "seeds")}
        """,
    )
    while count_rows(connection, "identity_next_values"):
        work(
            connection,
            "next",
            f"""
            select distinct node from identity_all_ties
            where {among("value", "next_values")} and node not in (from identity_island)
            """,
        )
        connection.execute(
            """
            insert into identity_island from identity_next;
            insert into identity_reached_values
            from identity_next_values anti join identity_reached_values using (value)
            """
        )
        work(
            connection,
            "next_values",
            f"""
            select distinct value from identity_all_ties
            where {among("node", "next")} and value not in (from identity_reached_values)
            """,
        )


def _replace_links(connection: DuckDBPyConnection) -> None:
    """Most links of an island are as they were: only the others are written."""
    connection.execute(
        """
        create or replace temp table identity_link_marks as
        select hash(links) as mark from identity_account_links as links;
        delete from remembered.account_links
        where rowid in (select place from identity_old_links anti join identity_link_marks using (mark));
        insert into remembered.account_links by name
        select * from identity_account_links as links where hash(links) not in (select mark from identity_old_links)
        """
    )


def renew_accounts(
    connection: DuckDBPyConnection,
    *,
    as_of: date,
    run_id: str,
    previous: Path | None,
    is_named: bool,
    policy: Policy,
    tell: Tell,
) -> None:
    """Who every record of the islands belongs to, and what the accounts are called.

    ``is_named``: the names that are remembered are those of the release ``previous``; else all accounts are named anew.
    """
    tell("attribution")
    find_islands(connection)
    part(connection, "records", "from remembered.records semi join identity_island using (node)")
    # Only what attribution reads: most of the time goes into the width of these tables.
    for table in ("contacts", "speakers"):
        part(
            connection,
            table,
            f"select {', '.join(ATTRIBUTED_FROM[table])} from remembered.{table} where {among('contact_id', 'island')}",
        )
    work(connection, "island_named", f"from remembered.named where {among('contact_id', 'island')}")
    work(connection, "island_profiles", "select distinct profile_id from identity_island_named")
    for table, columns in CLUSTERED_FROM.items():
        part(
            connection,
            table,
            f"select {', '.join(columns)} from remembered.{table} where {among('profile_id', 'island_profiles')}",
        )
    named = NAMED.format(named="identity_island_named")
    part(connection, "named", f"select {', '.join(ATTRIBUTED_FROM['named'])} from ({named})")
    attribute(connection, policy)
    tell("ids")
    in_island = among("node", "island")
    work(
        connection,
        "old_links",
        f"""
        select rowid as place, hash(links) as mark, feed, record_id, account_id, is_person_record, component
        from remembered.account_links as links where {in_island}
        """,
    )
    if is_named:
        connection.execute(
            """
            drop table identity_edges;
            create temp view identity_edges as
            from remembered.edges where l in (select profile_id from identity_profiles)
            """
        )
        read_last_accounts(connection, previous)
        name_accounts(connection, as_of=as_of, run_id=run_id, write=part)
        _replace_links(connection)
        replace_part(connection, "anchors", "account_id in (select account_id from identity_old_links)")
    else:
        work(
            connection,
            "attributed",
            f"""
            select * exclude (account_id) from remembered.account_links where not {in_island}
            union all by name from identity_attributed
            """,
        )
        name_all_again(connection, previous, as_of=as_of, run_id=run_id)
    redirect(connection, run_id)
    tell("households")
    name_households(connection, part)
    replace_part(connection, "households", "component in (select component from identity_old_links)")
    work(
        connection,
        "shown",
        """
        with contacts as (
            select email_key, phone from identity_contacts
            union all select email_key, phone from identity_gone_contacts
        )
        select 'email' as type, email_key as value from contacts where email_key is not null
        union select 'phone', phone from contacts where phone is not null
        union select 'payment_token', payment_token from identity_records where payment_token is not null
        union select 'payment_token', payment_token from identity_gone_records where payment_token is not null
        union from identity_old_demoted union select type, value from identity_demoted
        union select 'payment_token', value from identity_old_worn
        union select 'payment_token', value from identity_worn_tokens
        """,
    )
    write_shared_identifiers(connection, part)
    replace_part(
        connection,
        "shared_identifiers",
        "(type, value) in (from identity_shown)",
        "(from identity_shared_identifiers semi join identity_shown using (type, value))",
    )
    connection.execute("create or replace table remembered.decisions as from identity_decisions_in_force")
