"""Account ids that stay: tonight's clusters take the ids of the last release; events and redirects tell the history.

What belongs here: everything that depends on the last release. What does not: anything that decides who is who; the
clusters are a function of tonight's records alone.

An id follows the records. Of all pairs of a new cluster and an old account that share person records, the pair with the
most web accounts and cards in common goes first, then the one with the most person records; each old id is used once.
An id that was ever given is never given to another account.
"""

from datetime import date
from pathlib import Path

import duckdb
from duckdb import DuckDBPyConnection

from dagster_project.domain.identity.remembered import Write, count_rows, keep
from dagster_project.domain.sql_literal import literal

_HISTORY = {
    "account_link_history": (
        "feed varchar, record_id varchar, account_id varchar, until_on date, next_account_id varchar, run_id varchar"
    ),
    "account_links": "feed varchar, record_id varchar, account_id varchar, is_person_record boolean",
    "anchors": "account_id varchar, anchor_key varchar",
    "account_redirects": "old_account_id varchar, account_id varchar",
    "account_events": (
        'account_id varchar, event varchar, other_account_id varchar, "at" date, run_id varchar, cause varchar'
    ),
}
_EVER_GIVEN = (
    ("identity_names", "account_id"),
    ("last_account_links", "account_id"),
    ("last_anchors", "account_id"),
    ("remembered.account_events", "account_id"),
    ("remembered.account_events", "other_account_id"),
    ("remembered.account_redirects", "old_account_id"),
    ("remembered.account_redirects", "account_id"),
)
"""Where an id stands that was ever given: table and column."""
_LATER = frozenset({"account_link_history"})
"""What earlier versions of the code did not write: empty where the last release does not have it."""


def read_history(connection: DuckDBPyConnection, previous: Path | None) -> None:
    """Copy what the last release says of ids into the temp tables ``last_<table>``; all empty without a release.

    ``last_anonymous`` (feed, record_id) are the orders and tickets that had no account in it. Raises duckdb.Error where
    ``previous`` is not a release's database.
    """
    if previous is not None:
        connection.execute(f"attach {literal(previous)} as last_release (read_only)")
    try:
        present = set(
            connection.execute(
                "select schema_name, table_name from duckdb_tables() where database_name = 'last_release'"
            ).fetchall()
        )
        for table, columns in _HISTORY.items():
            connection.execute(f"create or replace temp table last_{table} ({columns})")
            if previous is not None and (("identity", table) in present or table not in _LATER):
                names = ", ".join(column.split()[0] for column in columns.split(", "))
                connection.execute(f"insert into last_{table} select {names} from last_release.identity.{table}")
        connection.execute(
            """
            create or replace temp table last_accounts as select distinct account_id from last_account_links;
            create or replace temp table last_anonymous (feed varchar, record_id varchar)
            """
        )
        if ("account", "transactions") in present:
            connection.execute(
                """
                insert into last_anonymous
                select feed, record_id from last_release.account.transactions
                anti join last_account_links using (feed, record_id)
                where feed in ('shop_orders', 'pos_tickets')
                """
            )
    finally:
        if previous is not None:
            connection.execute("detach last_release")


def write_history(connection: DuckDBPyConnection) -> None:
    """Begin ``remembered.account_events`` and ``account_link_history`` with what the last release says of them."""
    for table in ("account_events", "account_link_history", "account_redirects"):
        keep(connection, table, f"from last_{table}")


def is_named_after(connection: DuckDBPyConnection, previous: Path | None) -> bool:
    """Whether the names and the history that are remembered are those of the release ``previous``: it has the id of the
    run that gave them (``redirect``), and as many rows of each.
    """
    if previous is None:
        return False
    counts = [
        [f"(select count(*) from {place}.{table})" for table in _HISTORY]
        for place in ("remembered", "last_release.identity")
    ]
    connection.execute(f"attach {literal(previous)} as last_release (read_only)")
    try:
        found = connection.execute(
            f"""
            select (select max(run_id) from remembered.named_by), {", ".join(counts[0])}
            union all
            select (select max(release_id) from last_release.release.info), {", ".join(counts[1])}
            """
        ).fetchall()
    except duckdb.CatalogException:
        # No whole release, or one of an earlier version, which did not write them all.
        return False
    finally:
        connection.execute("detach last_release")
    return found[0] == found[1] and found[0][0] is not None


def read_last_accounts(connection: DuckDBPyConnection, previous: Path | None) -> None:
    """The same as ``read_history`` for the accounts in ``identity_old_links``, from what is remembered of the release.

    What is remembered must be of ``previous`` (``is_named_after``).
    """
    connection.execute(
        """
        create or replace temp table last_account_links as
        select feed, record_id, account_id, is_person_record from identity_old_links
        union all
        select feed, record_id, account_id, is_person_record from identity_replaced_links
        semi join identity_calm using (component);
        create or replace temp table last_accounts as select distinct account_id from identity_old_links;
        create or replace temp view last_anchors as select account_id, anchor_key from remembered.anchors;
        create or replace temp table last_anonymous (feed varchar, record_id varchar)
        """
    )
    if previous is None:
        return
    connection.execute(f"attach {literal(previous)} as last_release (read_only)")
    try:
        if connection.execute(
            """
            select 1 from duckdb_tables()
            where database_name = 'last_release' and schema_name = 'account' and table_name = 'transactions'
            """
        ).fetchall():
            connection.execute(
                """
                insert into last_anonymous
                select feed, record_id from last_release.account.transactions
                semi join (from identity_attributed anti join last_account_links using (feed, record_id)) as unlinked
                    using (feed, record_id)
                where feed in ('shop_orders', 'pos_tickets')
                """
            )
    finally:
        connection.execute("detach last_release")


def name_all_again(connection: DuckDBPyConnection, previous: Path | None, *, as_of: date, run_id: str) -> None:
    """Name all accounts of ``identity_attributed`` after the release ``previous``, which is not the one remembered."""
    connection.execute("drop table identity_records; create temp view identity_records as from remembered.records")
    read_history(connection, previous)
    write_history(connection)
    name_accounts(connection, as_of=as_of, run_id=run_id)


def name_accounts(
    connection: DuckDBPyConnection, *, as_of: date, run_id: str, write: Write = keep, keeping: str = ""
) -> None:
    """Write ``identity_anchors`` and ``identity_account_links``; add to the history of links, events and redirects.

    Reads ``identity_attributed``, ``identity_records``, the contacts, the edges and the ``last_*`` tables.
    ``keeping`` names a table (component, account_id) of those that keep their names whatever happens.
    """
    connection.execute(
        """
        create or replace temp table identity_anchored as
        select component, feed as anchor_feed, record_id as anchor_record_id, feed || '|' || record_id as anchor_key,
            is_founder as is_founded
        from identity_attributed
        where is_person_record
        qualify row_number() over (partition by component order by seen_at, feed_rank, record_id) = 1
        """
    )
    connection.execute(
        """
        create or replace temp table identity_overlaps as
        select
            component, last.account_id,
            row_number() over (
                order by
                    count(*) filter (where feed in ('shop_customers', 'loyalty_members')) desc,
                    count(*) desc,
                    any_value(anchored.anchor_key) = any_value(anchors.anchor_key) desc nulls last,
                    any_value(anchored.anchor_key), any_value(anchors.anchor_key)
            ) as priority
        from identity_attributed as records
        join last_account_links as last using (feed, record_id)
        join identity_anchored as anchored using (component)
        left join last_anchors as anchors on anchors.account_id = last.account_id
        where last.is_person_record
        group by component, last.account_id
        """
    )
    _take_over_ids(connection)
    _give_new_ids(connection)
    if keeping:
        connection.execute(f"insert into identity_names from {keeping}")
    write(
        connection,
        "anchors",
        """
        select account_id, anchor_feed, anchor_record_id, anchor_key, component, is_founded
        from identity_anchored join identity_names using (component)
        """,
    )
    write(
        connection,
        "account_links",
        """
        select feed, record_id, account_id, rule, confidence, is_person_record, feed_rank, seen_at, node, component,
            is_founder, key_mark, token
        from identity_attributed join identity_names using (component)
        """,
    )
    _close_links(connection, as_of, run_id)
    _write_events(connection, as_of, run_id)


def redirect(connection: DuckDBPyConnection, run_id: str) -> None:
    """Add tonight's merges to ``remembered.account_redirects``; the names that are remembered now are the run's."""
    connection.execute("create or replace table remembered.named_by as select ? as run_id", [run_id])
    connection.execute(
        """
        create or replace table remembered.account_redirects as
        with merges as (
            select account_id as old_account_id, other_account_id as account_id
            from identity_changes
            where event = 'merged'
        ),
        resolved as (
            select last.old_account_id, coalesce(merges.account_id, last.account_id) as account_id
            from remembered.account_redirects as last
            left join merges on merges.old_account_id = last.account_id
            union all
            select * from merges
        )
        -- A redirect to an account that is retired leads nowhere; the events keep the history.
        select resolved.* from resolved semi join remembered.anchors using (account_id)
        """
    )


def _close_links(connection: DuckDBPyConnection, as_of: date, run_id: str) -> None:
    """One row per record and period in an account that has ended: it grows with what changes, not with the history.

    A period ends where the record goes to another account, be it by a merge, or has none any more. A record that was
    known without an account and now has one ends a period of its own, with no account in it. A record's first account
    begins with the record and needs no row.
    """
    connection.execute(
        f"""
        insert into remembered.account_link_history
        with ended as (
            select last.feed, last.record_id, last.account_id, links.account_id as next_account_id
            from last_account_links as last left join identity_account_links as links using (feed, record_id)
            where links.account_id is distinct from last.account_id
            union all
            select links.feed, links.record_id, null, links.account_id
            from (from identity_account_links anti join last_account_links using (feed, record_id)) as links
            semi join (
                select feed, record_id from last_anonymous
                union select feed, record_id from remembered.account_link_history
            ) as known using (feed, record_id)
        )
        select feed, record_id, account_id, date '{as_of.isoformat()}', next_account_id, ? from ended
        """,
        [run_id],
    )


def _take_over_ids(connection: DuckDBPyConnection) -> None:
    """Each round keeps the pairs that are first for both sides, until none is left: greedy matching, in few rounds."""
    connection.execute("create or replace temp table identity_names (component bigint, account_id varchar)")
    connection.execute("create or replace temp table open_overlaps as select * from identity_overlaps")
    while count_rows(connection, "open_overlaps"):
        connection.execute(
            """
            insert into identity_names
            select component, account_id from open_overlaps
            qualify priority = min(priority) over (partition by component)
                and priority = min(priority) over (partition by account_id)
            """
        )
        connection.execute(
            """
            delete from open_overlaps
            where component in (select component from identity_names)
                or account_id in (select account_id from identity_names)
            """
        )


def _give_new_ids(connection: DuckDBPyConnection) -> None:
    """A new id is a hash of the anchor record; a taken one is hashed again with the number of the try."""
    connection.execute(
        """
        create or replace temp table identity_unnamed as
        select component, anchor_key from identity_anchored anti join identity_names using (component)
        """
    )
    attempt = 0
    while count_rows(connection, "identity_unnamed"):
        connection.execute(
            f"""
            create or replace temp table identity_wanted as
            select component, anchor_key, 'A' || upper(left(sha256(anchor_key || '|{attempt}'), 16)) as account_id
            from identity_unnamed
            """
        )
        # Read for the few ids that are wanted, not for all that were ever given.
        taken = " union all ".join(
            f"select {column} from {table} where {column} in (select account_id from identity_wanted)"
            for table, column in _EVER_GIVEN
        )
        connection.execute(
            f"""
            create or replace temp table identity_given as
            select component, account_id
            from identity_wanted
            where account_id not in ({taken})
            qualify row_number() over (partition by account_id order by anchor_key) = 1
            """
        )
        connection.execute("insert into identity_names select * from identity_given")
        connection.execute("delete from identity_unnamed where component in (select component from identity_given)")
        attempt += 1


def _write_events(connection: DuckDBPyConnection, as_of: date, run_id: str) -> None:
    """``merged``: an old account whose records went to another. ``retired``: one of which no record is left.

    ``split``: a new account whose records were another's. ``created``: all other new accounts. A merge names the
    strongest accepted pair that bridges the two, or two of their records that now say the same; a split the strongest
    refused pair, where there is one. A steward's pair goes before all.
    """
    connection.execute(
        """
        create or replace temp table identity_changes as
        with successors as (
            select shared.account_id as old_account_id, names.account_id
            from identity_overlaps as shared join identity_names as names using (component)
            qualify row_number() over (partition by shared.account_id order by priority) = 1
        ),
        origins as (
            select names.account_id, shared.account_id as old_account_id
            from identity_overlaps as shared join identity_names as names using (component)
            qualify row_number() over (partition by component order by priority) = 1
        ),
        gone as (
            select account_id from last_accounts anti join identity_anchors using (account_id)
        ),
        fresh as (
            select account_id, anchor_key from identity_anchors anti join last_accounts using (account_id)
        )
        select gone.account_id, case when successors.account_id is null then 'retired' else 'merged' end as event,
            successors.account_id as other_account_id
        from gone left join successors on successors.old_account_id = gone.account_id
        union all
        select fresh.account_id, case when origins.old_account_id is null then 'created' else 'split' end,
            origins.old_account_id
        from fresh left join origins on origins.account_id = fresh.account_id
        """
    )
    connection.execute(
        """
        create or replace temp table identity_moved as
        with moved as (
            select account_id from identity_changes where event in ('merged', 'split')
            union select other_account_id from identity_changes where event in ('merged', 'split')
        ),
        accounts as (
            -- Two accounts meet where a record was (a new one: is) in the one and another in the other; they part where
            -- their records are now.
            select 'accepted' as decision, feed, record_id, account_id from last_account_links semi join moved
                using (account_id)
            union all
            select 'accepted', feed, record_id, account_id from identity_account_links semi join moved
                using (account_id) anti join last_account_links using (feed, record_id)
            union all
            select 'refused', feed, record_id, account_id from identity_account_links semi join moved using (account_id)
        ),
        nodes as (
            select feed, record_id, node from identity_account_links semi join accounts using (feed, record_id)
            union select feed, record_id, node from identity_records semi join accounts using (feed, record_id)
        )
        select accounts.*, profile_id
        from accounts
        left join nodes using (feed, record_id)
        left join (
            select contact_id as node, profile_id from remembered.named where contact_id in (select node from nodes)
        ) using (node)
        """
    )
    connection.execute(
        f"""
        insert into remembered.account_events
        with said as (
            select profile_id, account_id, unnest(min(struct_pack(feed := feed, record_id := record_id)))
            from identity_moved where decision = 'accepted' and profile_id is not null
            group by profile_id, account_id
        ),
        edges as (
            from remembered.edges
            where l in (select profile_id from identity_moved) and r in (select profile_id from identity_moved)
        ),
        bridges as (
            select edges.decision, lefts.account_id as l, rights.account_id as r,
                (edges.rule = 'decision', coalesce(edges.weight, 0), left_record_id, right_record_id) as strength,
                rule || coalesce(': ' || reason, '') || ', ' || left_feed || '|' || left_record_id
                    || ' - ' || right_feed || '|' || right_record_id as cause
            from edges
            join identity_moved as lefts
                on lefts.feed = left_feed and lefts.record_id = left_record_id and lefts.decision = edges.decision
            join identity_moved as rights
                on rights.feed = right_feed and rights.record_id = right_record_id and rights.decision = edges.decision
            where lefts.account_id <> rights.account_id
            union all
            -- Records that now say the same in standard form are one profile: there is no pair of them.
            select 'accepted', lefts.account_id, rights.account_id, (false, -1, lefts.record_id, rights.record_id),
                'same content, ' || lefts.feed || '|' || lefts.record_id || ' - '
                    || rights.feed || '|' || rights.record_id
            from said as lefts join said as rights using (profile_id)
            where lefts.account_id < rights.account_id
        ),
        causes as (
            select decision, one, other, arg_max(cause, strength) as cause
            from (select decision, l as one, r as other, strength, cause from bridges
                  union all select decision, r, l, strength, cause from bridges)
            group by decision, one, other
        )
        select
            changes.account_id, changes.event, changes.other_account_id, date '{as_of.isoformat()}' as "at",
            ? as run_id,
            coalesce(causes.cause, case changes.event
                when 'created' then 'records not seen before'
                when 'merged' then 'its records joined the other account'
                when 'split' then 'nothing joins its records to the other account any more'
                else 'none of its records is left'
            end) as cause
        from identity_changes as changes
        left join causes
            on causes.one = changes.account_id and causes.other = changes.other_account_id
            and causes.decision = case changes.event when 'merged' then 'accepted' else 'refused' end
        """,
        [run_id],
    )
