"""What a night's clusters and records touch: whose every record is, what accounts are called, who lives together.

What belongs here: which of them are worked out again. What does not: the clusters (``clusters.py``), and how a thing is
worked out.

Every step works on what the last one changed, and on no more: a step that comes to the same result as the night before
ends there. Only who holds a value is worked out for *circles*: clusters that share an e-mail or a phone, directly or by
way of others, so that no value is looked at by halves.
"""

from collections.abc import Callable
from datetime import date
from pathlib import Path

from duckdb import DuckDBPyConnection

from dagster_project.domain.identity import attribution, households
from dagster_project.domain.identity.attribution import ATTRIBUTED_FROM, CLUSTERED_FROM
from dagster_project.domain.identity.clustering import connect
from dagster_project.domain.identity.identifiers import marks
from dagster_project.domain.identity.policy import Policy
from dagster_project.domain.identity.records import FEED_ORDER, NAMED
from dagster_project.domain.identity.remembered import among, count_rows, differing, part, renew, work
from dagster_project.domain.identity.shared_identifiers import (
    find_token_carriers,
    find_value_carriers,
    write_shared_identifiers,
)
from dagster_project.domain.identity.stable_ids import (
    name_accounts,
    name_all_again,
    read_last_accounts,
    redirect,
)

Tell = Callable[[str], None]


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
    """Who every record belongs to that the night touches, and what the accounts are called.

    ``is_named``: the names that are remembered are those of the release ``previous``; else all accounts are named anew.
    """
    tell("attribution")
    _find_circles(connection)
    _renew_holders(connection, policy)
    _renew_households(connection, policy)
    _renew_bare(connection)
    _renew_homes(connection)
    _key_records(connection)
    _use_tokens(connection, policy)
    _settle(connection)
    tell("ids")
    if is_named:
        read_last_accounts(connection, previous)
        work(
            connection,
            "calm_names",
            f"select component, account_id from remembered.anchors where {among('component', 'calm')}",
        )
        name_accounts(connection, as_of=as_of, run_id=run_id, write=part, keeping="identity_calm_names")
        _replace_links(connection)
        renew(connection, "anchors", "component", "component in (select component from identity_old_links)")
    else:
        work(connection, "old_anchors", "from remembered.anchors")
        work(
            connection,
            "attributed",
            f"""
            select * exclude (account_id) from remembered.account_links
            where not {among("component", "stirred")} and not {among("key_mark", "replaced")}
            union all by name from identity_attributed
            """,
        )
        name_all_again(connection, previous, as_of=as_of, run_id=run_id)
        work(connection, "changed_anchors", differing("from identity_old_anchors", "from remembered.anchors"))
    redirect(connection, run_id)
    tell("households")
    _name_households(connection)
    _share(connection)
    connection.execute("create or replace table remembered.decisions as from identity_decisions_in_force")


def _find_circles(connection: DuckDBPyConnection) -> None:
    """Write ``identity_circle`` (component), old and new, and the parts of what is read of their contacts and profiles.

    Also ``identity_held_before`` and ``remembered.holdings``.
    """
    recarded = marks("identity_demotions where type = 'card'")
    work(connection, "recarded", f"select contact_id from remembered.carried where value in ({recarded})")
    # When a contact was seen says who held a phone after whom: it matters only where its cluster shares a value with
    # another one. Whoever shares one from tonight on is touched himself, and has both in his circle.
    work(
        connection,
        "retimed",
        """
        select contact_id
        from (
            select contact_id, first_at, last_at from identity_now_speakers except
            select contact_id, first_at, last_at from identity_old_speakers
        )
        """,
    )
    work(
        connection,
        "retimed_holdings",
        f"""
        select component, key from remembered.holdings
        where component in (select component from remembered.placed where {among("contact_id", "retimed")})
        """,
    )
    work(
        connection,
        "in_company",
        """
        select distinct component from identity_retimed_holdings
        where key in (
            select key from remembered.holdings
            where key in (select key from identity_retimed_holdings)
            group by key having count(*) > 1
        )
        """,
    )
    work(
        connection,
        "touched_contacts",
        f"""
        from identity_renamed union from identity_recarded
        union select contact_id from remembered.named where {among("profile_id", "relabelled_profiles")}
        union (
            select contact_id from remembered.placed
            where {among("contact_id", "retimed")} and {among("component", "in_company")}
        )
        """,
    )
    work(
        connection,
        "touched_components",
        f"""
        select component from remembered.placed where {among("contact_id", "touched_contacts")}
        union
        select component from remembered.labels
        semi join (select profile_id from remembered.named where {among("contact_id", "touched_contacts")})
            using (profile_id)
        """,
    )
    work(
        connection,
        "touched_labels",
        f"from remembered.labels where {among('component', 'touched_components')}",
    )
    part(
        connection,
        "holdings",
        attribution.HOLDINGS.format(
            keys="(from remembered.block_keys semi join identity_touched_labels using (profile_id))",
            labels="identity_touched_labels",
        ),
    )
    connection.execute(
        """
        create or replace temp view identity_all_holdings as
        from remembered.holdings union all from identity_holdings
        """
    )
    work(connection, "circle", "from identity_touched_components")
    work(connection, "next", "from identity_circle")
    work(connection, "reached_keys", "select 0::ubigint as key limit 0")
    while count_rows(connection, "identity_next"):
        work(
            connection,
            "next_keys",
            f"""
            select distinct key from identity_all_holdings
            where {among("component", "next")} and key not in (from identity_reached_keys)
            """,
        )
        work(
            connection,
            "next",
            f"""
            select distinct component from identity_all_holdings
            where {among("key", "next_keys")} and component not in (from identity_circle)
            """,
        )
        connection.execute(
            """
            insert into identity_reached_keys from identity_next_keys;
            insert into identity_circle from identity_next
            """
        )
    work(connection, "held_before", _held_in_circle())
    renew(connection, "holdings", "component", among("component", "touched_components"))
    part(connection, "labels", f"from remembered.labels where {among('component', 'circle')}")
    part(
        connection,
        "profiles",
        f"select {', '.join(CLUSTERED_FROM)} from remembered.profiles "
        "where profile_id in (select profile_id from identity_labels)",
    )
    work(
        connection, "circle_named", "from remembered.named where profile_id in (select profile_id from identity_labels)"
    )
    for table, columns in {"speakers": "*", "contacts": "contact_id, customer_id"}.items():
        part(
            connection,
            table,
            f"select {columns} from remembered.{table} "
            "where contact_id in (select contact_id from identity_circle_named)",
        )
    part(
        connection, "named", f"select {', '.join(ATTRIBUTED_FROM)} from ({NAMED.format(named='identity_circle_named')})"
    )


def _held_in_circle() -> str:
    return (
        f"select distinct key from remembered.holdings semi join remembered.founded using (component) "
        f"where {among('component', 'circle')}"
    )


def _renew_holders(connection: DuckDBPyConnection, policy: Policy) -> None:
    """Leaves ``identity_changed_placed``, ``identity_changed_presents`` and ``identity_rekeyed`` (key): whose holders
    are others.
    """
    in_circle = among("component", "circle")
    attribution.place_contacts(connection, policy, part)
    renew(connection, "placed", "contact_id", in_circle)
    attribution.find_presents(connection, part)
    renew(connection, "presents", "contact_id", "contact_id in (select contact_id from identity_old_placed)")
    attribution.find_founded(connection, part)
    renew(connection, "founded", "component", in_circle)
    work(
        connection,
        "card_records",
        """
        select card_id, contact_id from remembered.records
        where feed = 'loyalty_members' and contact_id in (select contact_id from identity_named)
        """,
    )
    attribution.find_holders(connection, policy, part)
    renew(connection, "holders", "key", in_circle)
    work(
        connection,
        "rekeyed",
        f"""
        select key from identity_changed_holders
        union from {differing("from identity_held_before", _held_in_circle())}
        """,
    )


def _renew_households(connection: DuckDBPyConnection, policy: Policy) -> None:
    """Leaves ``identity_resettled`` (component): who lived with others before or does now, and whom that may concern;
    ``identity_moved_in`` (component): who did and does not, or the reverse.
    """
    households.list_household_values(connection, part)
    renew(connection, "household_values", "component", among("component", "circle"))
    work(connection, "changed_values", "select distinct value from identity_changed_household_values")
    households.share_households(connection, policy, part, "changed_values")
    renew(connection, "household_shares", "value", among("value", "changed_values"))
    # All who share such a value: one more may tie those whose own rows stay as they were to others.
    work(connection, "reshared", "select distinct value from identity_changed_household_shares")
    work(
        connection,
        "sharers",
        f"""
        select component from identity_household_shares where {among("value", "reshared")}
        union select component from identity_old_household_shares where {among("value", "reshared")}
        """,
    )
    work(
        connection,
        "old_households",
        f"select distinct component from remembered.household_components where {among('node', 'sharers')}",
    )
    work(
        connection,
        "resettled",
        f"""
        from identity_sharers
        union select node from remembered.household_components where {among("component", "old_households")}
        """,
    )
    households.connect_households(connection, part, "resettled")
    renew(connection, "household_components", "node", among("node", "resettled"))
    work(
        connection,
        "moved_in",
        "select node as component from identity_changed_household_components group by node having count(*) = 1",
    )


def _renew_bare(connection: DuckDBPyConnection) -> None:
    work(
        connection,
        "rebared",
        "from identity_renamed union from identity_recarded union select contact_id from identity_changed_placed",
    )
    part(
        connection,
        "contacts",
        "select contact_id, customer_id, card_id, email_key, phone from remembered.contacts "
        f"where {among('contact_id', 'rebared')}",
    )
    part(
        connection,
        "speakers",
        f"select contact_id, feed_rank from remembered.speakers where {among('contact_id', 'rebared')}",
    )
    attribution.write_bare_keys(connection, part)
    renew(connection, "bare_keys", "contact_id", among("contact_id", "rebared"))
    work(
        connection,
        "asked_keys",
        "select key from identity_changed_bare_keys union from identity_rekeyed",
    )
    part(connection, "bare_keys", f"from remembered.bare_keys where {among('key', 'asked_keys')}")
    work(connection, "held", attribution.HELD.format(where=f"where {among('key', 'asked_keys')}"))
    attribution.stand_for(connection, part)
    renew(connection, "bare", "contact_id", among("key", "asked_keys"))


def _renew_homes(connection: DuckDBPyConnection) -> None:
    work(
        connection,
        "asked_customers",
        """
        select customer_id from identity_new_records where customer_id is not null
        union select customer_id from identity_gone_records where customer_id is not null
        union select customer_id from remembered.records
        where customer_id is not null and contact_id in (select contact_id from identity_changed_placed)
        """,
    )
    work(
        connection,
        "home_records",
        "select feed, record_id, contact_id, seen_at, customer_id from remembered.records "
        f"where {among('customer_id', 'asked_customers')}",
    )
    attribution.find_customer_homes(connection, part)
    renew(connection, "customer_homes", "customer_id", among("customer_id", "asked_customers"))


def _key_records(connection: DuckDBPyConnection) -> None:
    """Write ``identity_records``, those of which something that leads to an account is another, and ``identity_keyed``
    of them.
    """
    work(
        connection,
        "asked_contacts",
        f"""
        select contact_id from identity_changed_placed
        union select contact_id from identity_changed_presents
        union select contact_id from identity_changed_bare
        -- Who holds a phone in turn is looked up by the record's time.
        union select contact_id from remembered.bare where is_in_turn and {among("key", "rekeyed")}
        """,
    )
    work(
        connection,
        "worked",
        f"""
        select key_mark from identity_new_records
        union select key_mark from remembered.records where {among("contact_id", "asked_contacts")}
        union select key_mark from remembered.records
        where feed = 'shop_orders' and customer_id in (select customer_id from identity_changed_customer_homes)
        """,
    )
    _work_on_decided(connection)
    part(connection, "records", f"from remembered.records where {among('key_mark', 'worked')}")
    attribution.key_records(connection)
    attribution.apply_decisions(connection)


def _work_on_decided(connection: DuckDBPyConnection) -> None:
    """Add to ``identity_worked`` the records that a steward tied to others of it, directly or by way of others."""
    ranks = " ".join(f"when '{feed}' then {rank}" for rank, feed in enumerate(FEED_ORDER))
    sides = ", ".join(f"hash(case {side}_feed {ranks} end, {side}_id) as {side[0]}" for side in ("left", "right"))
    for name, source in (("decided_pairs", "identity_decisions_in_force"), ("decided_before", "remembered.decisions")):
        work(connection, name, f"select {sides}, decision, decision_id from {source}")
    work(connection, "decision_pairs", "from identity_decided_pairs union from identity_decided_before")
    if not count_rows(connection, "identity_decision_pairs"):
        return
    connect(connection, "identity_decision_pairs", "identity_decision_groups")
    changed = differing("from identity_decided_pairs", "from identity_decided_before")
    work(
        connection,
        "asked_decisions",
        f"""
        with asked as (
            from identity_worked union select key_mark from identity_gone_records
            union select unnest([l, r]) from {changed}
            -- What a payment token gives, a steward's word may take.
            union select key_mark from remembered.records
            where contact_id is null and key_mark in (select node from identity_decision_groups)
        )
        select distinct component from identity_decision_groups where node in (from asked)
        """,
    )
    connection.execute(
        f"""
        insert into identity_worked
        select key_mark from remembered.records
        where key_mark in (select node from identity_decision_groups where {among("component", "asked_decisions")})
            and key_mark not in (from identity_worked)
        """
    )


def _use_tokens(connection: DuckDBPyConnection, policy: Policy) -> None:
    """Write ``identity_tokened``; adds to ``identity_worked`` the records with nothing but a token that changed."""
    work(
        connection,
        "asked_tokens",
        f"""
        select hash(payment_token) as token from identity_records where payment_token is not null
        union select hash(payment_token) from identity_gone_records where payment_token is not null
        union select hash(value) from identity_worn_changes
        union select token from remembered.account_links where token is not null and {among("component", "moved_in")}
        """,
    )
    work(
        connection,
        "token_uses",
        f"""
        select hash(payment_token) as token, component, seen_at from identity_keyed where payment_token is not null
        union all
        select token, component, seen_at from remembered.account_links
        where {among("token", "asked_tokens")} and rule <> 'payment_token'
            and key_mark not in (from identity_worked)
            and key_mark not in (select key_mark from identity_gone_records)
        """,
    )
    attribution.write_usable_tokens(connection, policy, part)
    renew(connection, "usable_tokens", "token", among("token", "asked_tokens"))
    work(
        connection,
        "token_records",
        f"""
        from remembered.records
        where contact_id is null and payment_token is not null and (
            hash(payment_token) in (select token from identity_changed_usable_tokens)
            or {among("key_mark", "worked")}
        )
        """,
    )
    connection.execute(
        """
        insert into identity_worked
        select key_mark from identity_token_records where key_mark not in (from identity_worked)
        """
    )
    attribution.use_tokens(connection, policy)


def _settle(connection: DuckDBPyConnection) -> None:
    """Write ``identity_attributed`` of what is worked out, and ``identity_old_links``: what was in the place of it.

    Most components only win or lose a ticket: they are founded, no record that makes an account comes or goes, so
    it keeps its name, its anchor and its other records. All others, ``identity_stirred``, are worked out whole.
    Leaves ``identity_calm`` (component) and ``identity_replaced_links``, the links of all records that are worked out
    again.
    """
    work(connection, "replaced", "from identity_worked union select key_mark from identity_gone_records")
    work(
        connection,
        "replaced_links",
        "select feed, record_id, account_id, is_person_record, component, key_mark from remembered.account_links "
        f"where {among('key_mark', 'replaced')}",
    )
    work(
        connection,
        "settled",
        """
        select component from identity_replaced_links
        union select component from identity_keyed union select component from identity_tokened
        """,
    )
    work(
        connection,
        "stirred",
        """
        select component from identity_replaced_links where is_person_record
        union select component from identity_keyed where is_founder
        -- Who was one of those that made an account takes its name along.
        union select component from (
            select component, key_mark from identity_keyed union all select component, key_mark from identity_tokened
        ) semi join (select key_mark from identity_replaced_links where is_person_record) as moved using (key_mark)
        union (
            from identity_settled anti join (select component from remembered.anchors where is_founded) as founded
                using (component)
        )
        """,
    )
    work(connection, "calm", "from identity_settled anti join identity_stirred using (component)")
    work(connection, "old_links", f"from remembered.account_links where {among('component', 'stirred')}")
    work(
        connection,
        "kept_links",
        f"select * exclude (account_id) from identity_old_links where not {among('key_mark', 'replaced')}",
    )
    attribution.settle(connection, "identity_kept_links", "identity_calm")


def _replace_links(connection: DuckDBPyConnection) -> None:
    """Most links that were not worked out again are as they were: only the others are written."""
    work(
        connection,
        "same_links",
        f"""
        select key_mark from identity_old_links
        semi join identity_account_links using (key_mark, account_id, is_person_record)
        where not {among("key_mark", "replaced")}
        """,
    )
    connection.execute(
        f"""
        delete from remembered.account_links where {among("key_mark", "replaced")} or key_mark in (
            select key_mark from identity_old_links anti join identity_same_links using (key_mark)
        );
        insert into remembered.account_links by name
        from identity_account_links where not {among("key_mark", "same_links")}
        """
    )


def _name_households(connection: DuckDBPyConnection) -> None:
    work(
        connection,
        "renamed_households",
        """
        select distinct component from remembered.household_components
        where node in (select component from identity_changed_anchors)
        """,
    )
    work(
        connection,
        "renamed_components",
        f"""
        from identity_resettled
        union select node from remembered.household_components where {among("component", "renamed_households")}
        """,
    )
    households.name_households(connection, part, "renamed_components")
    renew(connection, "households", "component", among("component", "renamed_components"))


def _share(connection: DuckDBPyConnection) -> None:
    find_value_carriers(connection, part)
    renew(connection, "value_carriers", "component", among("component", "circle"))
    work(
        connection,
        "token_names",
        """
        select distinct hash(payment_token) as token, payment_token as value
        from (
            select payment_token from identity_records union all select payment_token from identity_token_records
            union all select payment_token from identity_gone_records
        )
        where payment_token is not null
        """,
    )
    work(connection, "shared_tokens", "select token from identity_token_names")
    find_token_carriers(connection, part, "shared_tokens")
    renew(connection, "token_carriers", "token", among("token", "shared_tokens"))
    write_shared_identifiers(connection)
