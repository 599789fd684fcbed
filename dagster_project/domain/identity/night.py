"""A night on what is remembered: only what new, changed and vanished records touch is worked out again.

What belongs here: what a change touches, step by step. What does not: how anything is worked out; every step is the one
of the full build, on a part.

A part is closed: nothing in it depends on what is outside. Up to the edges the part is made of profiles: those whose
content is new, who shares a block that crosses its limit, and the components that they join or leave. From there on it
is made of whole islands: records that share a value of any kind, directly or by way of others, so that no value is
looked at by halves (``TIES``). What tells of all records at once is counted over all: birth dates, how often values are
used, the sizes of blocks. Where it is unsure whether something is touched, it is: that costs time only.

Cost: reading every staged record once and comparing its hash; then what the night touches, and scans of a few columns.
"""

from collections.abc import Callable
from datetime import date
from pathlib import Path

from duckdb import DuckDBPyConnection

from dagster_project.domain.identity import blocking
from dagster_project.domain.identity.attribution import ATTRIBUTED_FROM, CLUSTERED_FROM, attribute
from dagster_project.domain.identity.clustering import cluster, connect_joins, pair_decisions, pairs_inside
from dagster_project.domain.identity.edges import write_edges
from dagster_project.domain.identity.households import name_households
from dagster_project.domain.identity.identifiers import VALUES, count_people, count_uses, demote
from dagster_project.domain.identity.model import Model
from dagster_project.domain.identity.policy import Policy
from dagster_project.domain.identity.records import (
    FEED_ORDER,
    NAMED_FROM,
    RECORDS,
    SPEAKERS,
    build_contacts,
    build_profiles,
    count_spoken,
    find_gone,
    name_contacts,
    read_blocks,
)
from dagster_project.domain.identity.remembered import count_rows, part, replace_part
from dagster_project.domain.identity.scores import look_up, make_scores
from dagster_project.domain.identity.shared_identifiers import write_shared_identifiers
from dagster_project.domain.identity.stable_ids import (
    name_accounts,
    name_all_again,
    read_last_accounts,
    redirect,
)
from dagster_project.domain.identity.verdicts import judge, judge_components

LARGE_NIGHT = 0.1
"""A night that brings or takes more than this share of the records is worked out as a whole: it costs less."""

Tell = Callable[[str], None]


def _set(connection: DuckDBPyConnection, name: str, query: str) -> None:
    connection.execute(f"create or replace temp table identity_{name} as {query}")


def _among(column: str, name: str) -> str:
    return f"{column} in (from identity_{name})"


def _differing(one: str, other: str) -> str:
    """SQL: the rows that only one of two queries has."""
    return f"(({one} except {other}) union ({other} except {one}))"


def work_on_all(connection: DuckDBPyConnection) -> None:
    """Make ``identity_<name>`` the view of the whole again, of what the people are."""
    for name in ("records", "speakers", "contacts", "named", "profiles", "notable", "uses", "worn_tokens", "demoted"):
        connection.execute(f"drop table if exists identity_{name}")
        connection.execute(f"create or replace temp view identity_{name} as from remembered.{name}")
    _link(connection, "true")
    _set(connection, "known_scores", "from remembered.scores")


def read_changes(connection: DuckDBPyConnection, tell: Tell) -> bool:
    """Write ``identity_new_records`` and ``identity_gone_records``; False where they are too many for a night."""
    read_blocks(connection, "remembered.records")
    _set(connection, "new_records", RECORDS)
    known, new = (count_rows(connection, table) for table in ("remembered.records", "identity_new_records"))
    _set(
        connection,
        "gone_records",
        "from remembered.records semi join identity_new_records using (key_mark)",
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
    _set(
        connection,
        "renamed",
        """
        from identity_new_contacts union from identity_respoken union from identity_redated
        union select contact_id from identity_gone_contacts
        union select contact_id from remembered.contacts
        where email_key in (select value from identity_demotions where type = 'email')
        union select contact_id from remembered.contacts
        where phone in (select value from identity_demotions where type = 'phone')
        """,
    )
    _set(
        connection,
        "old_named",
        f"select distinct profile_id from remembered.named where {_among('contact_id', 'renamed')}",
    )
    part(
        connection,
        "contacts",
        f"select {', '.join(NAMED_FROM)} from remembered.contacts where {_among('contact_id', 'renamed')}",
    )
    name_contacts(connection, part)
    replace_part(connection, "named", _among("contact_id", "renamed"))
    _set(
        connection,
        "reprofiled",
        "from identity_old_named union select profile_id from identity_named",
    )
    _set(connection, "old_profiles", f"from remembered.profiles where {_among('profile_id', 'reprofiled')}")
    part(connection, "named", f"from remembered.named where {_among('profile_id', 'reprofiled')}")
    build_profiles(connection, part)
    replace_part(connection, "profiles", _among("profile_id", "reprofiled"))
    _set(
        connection,
        "new_profiles",
        "select profile_id from identity_profiles anti join identity_old_profiles using (profile_id)",
    )
    _set(
        connection,
        "gone_profiles",
        "select profile_id from identity_old_profiles anti join identity_profiles using (profile_id)",
    )
    _set(
        connection,
        "respoken_profiles",
        """
        select profile_id from identity_profiles as now join identity_old_profiles as old using (profile_id)
        where (now.feed, now.record_id, now.seen_at, now.contact_id)
            is distinct from (old.feed, old.record_id, old.seen_at, old.contact_id)
        """,
    )
    _renew_declared(connection)


def _renew_contacts(connection: DuckDBPyConnection, as_of: date, policy: Policy) -> None:
    """Leaves ``identity_new_contacts``, ``identity_respoken``, ``identity_redated`` (contact_id each) and the rows
    ``identity_gone_contacts``.
    """
    _set(
        connection,
        "touched",
        """
        select contact_id from identity_new_records where contact_id is not null
        union select contact_id from identity_gone_records where contact_id is not null
        """,
    )
    _set(connection, "old_speakers", f"from remembered.speakers where {_among('contact_id', 'touched')}")
    _set(
        connection,
        "now_speakers",
        SPEAKERS.format(records=f"(from remembered.records where {_among('contact_id', 'touched')})"),
    )
    replace_part(connection, "speakers", _among("contact_id", "touched"), "identity_now_speakers")
    _set(
        connection,
        "new_contacts",
        "select contact_id from identity_now_speakers anti join identity_old_speakers using (contact_id)",
    )
    feeds = ", ".join(f"'{feed}'" for feed in FEED_ORDER)
    _set(
        connection,
        "respoken_as",
        f"""
        select now.contact_id, ([{feeds}])[now.feed_rank + 1] as feed, now.record_id, now.seen_at
        from identity_now_speakers as now join identity_old_speakers as old using (contact_id)
        where (now.feed_rank, now.seen_at, now.record_id) is distinct from (old.feed_rank, old.seen_at, old.record_id)
        """,
    )
    _set(connection, "respoken", "select contact_id from identity_respoken_as")
    _set(
        connection,
        "gone_contacts",
        """
        from remembered.contacts semi join (
            from identity_old_speakers anti join identity_now_speakers using (contact_id)
        ) as gone using (contact_id)
        """,
    )
    _set(
        connection,
        "respoken_contacts",
        """
        select contacts.* replace (spoken.feed as feed, spoken.record_id as record_id, spoken.seen_at as seen_at)
        from remembered.contacts as contacts join identity_respoken_as as spoken using (contact_id)
        """,
    )
    replace_part(
        connection,
        "contacts",
        "contact_id in (select contact_id from identity_gone_contacts union all from identity_respoken)",
        "identity_respoken_contacts",
    )
    part(connection, "speakers", f"from identity_now_speakers where {_among('contact_id', 'new_contacts')}")
    build_contacts(connection, as_of=as_of, policy=policy, write=part, beside="remembered.contacts")
    replace_part(connection, "contacts", "false")
    _set(
        connection,
        "redates",
        f"select birth_date from {_differing('from remembered.trusted_dates', 'from identity_trusted_dates')}",
    )
    _set(
        connection,
        "redated",
        f"""
        select contact_id from remembered.contacts where {_among("birth_date", "redates")}
            and {_among("contact_id", "new_contacts")} is not true
        """,
    )
    connection.execute(
        f"""
        update remembered.contacts
        set birth_key = case when birth_date in (select birth_date from identity_trusted_dates)
            then strftime(birth_date, '%Y-%m-%d') end
        where {_among("contact_id", "redated")};
        create or replace table remembered.trusted_dates as from identity_trusted_dates
        """
    )


def _renew_demotions(connection: DuckDBPyConnection, policy: Policy) -> None:
    """Leaves ``identity_demotions`` (type, value: demoted now and not before, or the reverse), ``identity_old_demoted``
    and ``identity_worn_changes``.
    """
    carried = " union ".join(
        f"select '{type_}' as type, {column} as value from contacts where {column} is not null"
        for type_, column in VALUES.items()
    )
    _set(
        connection,
        "counted",
        f"with contacts as (from identity_contacts union all by name from identity_gone_contacts) {carried}",
    )
    count_people(connection, policy, part, "identity_counted")
    replace_part(connection, "notable", "(type, value) in (from identity_counted)")
    _set(
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
            select contact_id, email_key, phone from remembered.contacts semi join records using (contact_id)
            union all
            select contact_id, email_key, phone from identity_gone_contacts
        )
        select 'card' as type, card_id as value from records where card_id is not null
        union select 'payment_token', payment_token from records where payment_token is not null
        union select 'email', email_key from contacts semi join records using (contact_id) where email_key is not null
        union select 'phone', phone from contacts semi join records using (contact_id) where phone is not null
        """,
    )
    _set(connection, "old_worn", "from remembered.worn_tokens")
    count_uses(connection, policy, part, "identity_used")
    replace_part(connection, "uses", "(type, value) in (from identity_used)")
    replace_part(connection, "worn_tokens", "value in (select value from identity_used where type = 'payment_token')")
    part(connection, "worn_tokens", "from remembered.worn_tokens")
    _set(
        connection,
        "worn_changes",
        f"from {_differing('from identity_old_worn', 'from identity_worn_tokens')}",
    )
    demote(connection, policy, part)
    _set(connection, "old_demoted", "select type, value from remembered.demoted")
    _set(
        connection,
        "demotions",
        f"from {_differing('from identity_old_demoted', 'select type, value from identity_demoted')}",
    )
    connection.execute("create or replace table remembered.demoted as from identity_demoted")


def _renew_declared(connection: DuckDBPyConnection) -> None:
    _set(
        connection,
        "numbers",
        f"""
        with contacts as (
            select customer_id, card_id from remembered.contacts where {_among("contact_id", "renamed")}
            union all select customer_id, card_id from identity_gone_contacts
        )
        select 'customer_id' as type, customer_id as value from contacts where customer_id is not null
        union select 'card', card_id from contacts where card_id is not null
        union from identity_demotions where type in ('customer_id', 'card')
        """,
    )
    _set(connection, "old_declared", "from remembered.declared where (type, value) in (from identity_numbers)")
    blocking.declare(connection, part, "identity_numbers")
    replace_part(connection, "declared", "(type, value) in (from identity_numbers)")
    _set(
        connection,
        "relinked",
        f"""
        with changed as (from {_differing("from identity_old_declared", "from identity_declared")})
        select l as profile_id from changed union select r from changed
        """,
    )


def renew_clusters(connection: DuckDBPyConnection, *, policy: Policy, model: Model, tell: Tell) -> int:
    """Blocks, scores, verdicts, clusters and edges; returns how many pairs had to be compared.

    Leaves ``identity_relabelled_profiles``: those whose component is another.
    """
    tell("blocking")
    _renew_pairs(connection, policy)
    tell("scoring")
    _set(connection, "rescored", "from identity_paired union from identity_gone_profiles")
    of_rescored = f"({_among('l', 'rescored')} or {_among('r', 'rescored')})"
    _set(connection, "known_scores", f"from remembered.scores where {of_rescored}")
    make_scores(connection)
    scored = look_up(connection, model, "identity_pairs", "identity_scores")
    connection.execute(
        """
        insert into identity_scores
        select * from identity_known_scores anti join identity_pairs using (l, r)
        where is_inside and l not in (from identity_gone_profiles) and r not in (from identity_gone_profiles)
        """
    )
    replace_part(connection, "scores", of_rescored)
    judge(connection, model, policy, part)
    replace_part(connection, "verdicts", of_rescored)
    tell("connecting")
    scored += _renew_components(connection, policy, model)
    tell("clustering")
    part(connection, "profiles", f"from remembered.profiles where {_among('profile_id', 'nodes')}")
    cluster(connection, policy, part)
    replace_part(connection, "contested", _among("component", "old_components"))
    replace_part(
        connection,
        "refusals",
        " or ".join(_among(side, name) for side in ("l", "r") for name in ("nodes", "gone_profiles")),
    )
    _set(
        connection,
        "relabelled_profiles",
        "select profile_id from identity_labels anti join remembered.labels using (profile_id, component)",
    )
    replace_part(connection, "labels", f"{_among('profile_id', 'nodes')} or {_among('profile_id', 'gone_profiles')}")
    tell("edges")
    _set(
        connection,
        "edged",
        "from identity_nodes union from identity_gone_profiles union from identity_respoken_profiles",
    )
    write_edges(connection, part, "identity_edged")
    replace_part(connection, "edges", f"{_among('l', 'edged')} or {_among('r', 'edged')}")
    return scored


def _renew_pairs(connection: DuckDBPyConnection, policy: Policy) -> None:
    """Write ``identity_pairs`` of ``identity_paired``: the profiles that may meet others than before.

    These are the new ones, those of a block or a piece of one that has crossed its limit, and who is declared anew.
    """
    rules = blocking.rules_for(count_rows(connection, "remembered.profiles"))
    part(connection, "profiles", f"from remembered.profiles where {_among('profile_id', 'new_profiles')}")
    blocking.write_keys(connection, rules, part)
    _set(connection, "gone_keys", f"from remembered.block_keys where {_among('profile_id', 'gone_profiles')}")
    replace_part(connection, "block_keys", _among("profile_id", "gone_profiles"))
    _set(connection, "blocks", "select block from identity_block_keys union select block from identity_gone_keys")
    limits = blocking.block_limits(rules, policy)
    _set(
        connection,
        "block_changes",
        f"""
        with now as (
            select block, rule, count(*) as members from remembered.block_keys
            where {_among("block", "blocks")} group by all
        ),
        fresh as (select block, rule, count(*) as members from identity_block_keys group by all),
        gone as (select block, rule, count(*) as members from identity_gone_keys group by all)
        select block, rule, coalesce(now.members, 0) > {limits} as is_large,
            coalesce(now.members, 0) - coalesce(fresh.members, 0) + coalesce(gone.members, 0) > {limits} as was_large
        from now full join fresh using (block, rule) full join gone using (block, rule)
        """,
    )
    # Of a block that was cut and still is, the pieces that changed.
    finer = blocking.finer_key(rules)
    cut = f"(from identity_block_changes where is_large and was_large and rule < {len(blocking.RULES)})"
    _set(
        connection,
        "piece_changes",
        f"""
        with fresh as (
            select {finer} as piece, count(*) as members
            from (from identity_block_keys semi join {cut} as cut using (block))
            join identity_profiles using (profile_id)
            group by piece
        ),
        gone as (
            select {finer} as piece, count(*) as members
            from (from identity_gone_keys semi join {cut} as cut using (block))
            join identity_old_profiles using (profile_id)
            group by piece
        ),
        members as (
            select profile_id, {finer} as piece
            from (from remembered.block_keys semi join {cut} as cut using (block))
            join remembered.profiles using (profile_id)
        ),
        touched as (
            select profile_id, piece, count(*) over (partition by piece) as now
            from members semi join (select piece from fresh union select piece from gone) as changed using (piece)
        )
        select distinct profile_id
        from touched left join fresh using (piece) left join gone using (piece)
        where (now > {policy.max_block_profiles})
            <> (now - coalesce(fresh.members, 0) + coalesce(gone.members, 0) > {policy.max_block_profiles})
        """,
    )
    _set(
        connection,
        "paired",
        """
        with crossed as (select block from identity_block_changes where is_large <> was_large)
        from identity_new_profiles
        union from identity_piece_changes
        union select profile_id from remembered.block_keys where block in (from crossed)
        union select profile_id from identity_relinked semi join remembered.profiles using (profile_id)
        """,
    )
    _set(
        connection,
        "asked_blocks",
        f"from identity_blocks union select block from remembered.block_keys where {_among('profile_id', 'paired')}",
    )
    _set(connection, "asked_keys", f"from remembered.block_keys where {_among('block', 'asked_blocks')}")
    blocking.cut_blocks(connection, rules, policy, "identity_asked_keys", part)
    replace_part(connection, "cut_blocks", _among("within", "asked_blocks"))
    _link(connection, f"{_among('l', 'paired')} or {_among('r', 'paired')}")
    blocking.find_pairs_of(connection, "identity_paired")


def _link(connection: DuckDBPyConnection, where: str) -> None:
    _set(connection, "links", blocking.LINKS.format(where=f"where {where}"))


def _renew_components(connection: DuckDBPyConnection, policy: Policy, model: Model) -> int:
    pair_decisions(connection, part)
    _set(
        connection,
        "movers",
        f"""
        with redecided as (from {_differing("from remembered.decided", "from identity_decided")})
        select profile_id as node from identity_rescored
        -- Of two pairs that weigh the same, the one goes first whose records know their people better.
        union from identity_respoken_profiles
        union select l from redecided union select r from redecided
        """,
    )
    connection.execute("create or replace table remembered.decided as from identity_decided")
    _set(
        connection,
        "reached",
        f"""
        with joins as (
            select l, r from remembered.verdicts where joins and ({_among("l", "movers")} or {_among("r", "movers")})
            union all
            select l, r from identity_decided
            where decision = 'same' and ({_among("l", "movers")} or {_among("r", "movers")})
        )
        from identity_movers union select l from joins union select r from joins
        """,
    )
    _set(
        connection,
        "old_components",
        f"select distinct component from remembered.components where {_among('node', 'reached')}",
    )
    _set(
        connection,
        "nodes",
        f"""
        select profile_id
        from (
            select node as profile_id from remembered.components where {_among("component", "old_components")}
            union from identity_reached
        )
        semi join remembered.profiles using (profile_id)
        """,
    )
    inside = f"{_among('l', 'nodes')} and {_among('r', 'nodes')}"
    connection.execute(
        f"""
        insert into identity_known_scores
        from remembered.scores anti join identity_known_scores using (l, r) where is_inside and {inside};
        delete from remembered.scores where is_inside and {inside}
        """
    )
    part(connection, "scores", f"from remembered.scores where {inside}")
    _link(connection, inside)
    judge(connection, model, policy, part)
    part(connection, "decided", f"from identity_decided where {inside}")
    connect_joins(connection, part)
    replace_part(connection, "components", f"{_among('node', 'nodes')} or {_among('node', 'gone_profiles')}")
    pairs_inside(connection, policy)
    scored = look_up(connection, model, "identity_pairs_inside", "identity_scores", is_inside=True)
    replace_part(connection, "scores", "false", "(from identity_scores where is_inside)")
    judge_components(connection, model, policy, "identity_verdicts")
    replace_part(connection, "verdicts", inside)
    return scored


def _ties(nodes: str = "") -> str:
    """SQL: one row per record or contact and value by which it may depend on others (node, value).

    ``nodes`` names a table (node): of these only. A value that joins nobody ties nobody: demoted, or worn out.
    """
    among = f"and node in (from {nodes})" if nodes else ""
    contacts = f"(select contact_id as node, * from remembered.contacts where true {among})"
    named = f"(select contact_id as node, * from remembered.named where true {among})"
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
            from {named} where house_number is not null and street_key is not null
        )
        where town is not null
        union all
        select distinct node, hash(7, payment_token) from remembered.records
        where payment_token is not null and payment_token not in (select value from remembered.worn_tokens) {among}
    """


TIES = _ties()


def find_islands(connection: DuckDBPyConnection) -> None:
    """Write ``identity_island`` (node): all that what has changed may touch."""
    _set(
        connection,
        "steered_records",
        f"""
        with moved as (
            select feed, record_id from identity_new_records union all select feed, record_id from identity_gone_records
        ),
        changed as (
            (from {_differing("from identity_decisions_in_force", "from remembered.decisions")})
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
    _set(
        connection,
        "seeds",
        f"""
        select node from identity_new_records union select node from identity_gone_records
        union from identity_renamed
        union select contact_id from remembered.named where {_among("profile_id", "relabelled_profiles")}
        union select contact_id from remembered.contacts
        where card_id in (select value from identity_demotions where type = 'card')
        union select node from remembered.records where payment_token in (from identity_worn_changes)
        union select node from remembered.records semi join identity_steered_records using (feed, record_id)
        """,
    )
    _set(connection, "reached_values", f"select distinct value from remembered.ties where {_among('node', 'seeds')}")
    _set(connection, "ties", _ties("identity_seeds"))
    replace_part(connection, "ties", _among("node", "seeds"))
    # Who is decided about depends on the other side.
    _set(
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
    _set(connection, "island", "from identity_seeds")
    _set(
        connection,
        "next_values",
        f"""
        from identity_reached_values
        union select value from identity_all_ties where {_among("node", "seeds")}
        """,
    )
    while count_rows(connection, "identity_next_values"):
        _set(
            connection,
            "next",
            f"""
            select distinct node from identity_all_ties
            where {_among("value", "next_values")} and node not in (from identity_island)
            """,
        )
        connection.execute(
            """
            insert into identity_island from identity_next;
            insert into identity_reached_values
            from identity_next_values anti join identity_reached_values using (value)
            """
        )
        _set(
            connection,
            "next_values",
            f"""
            select distinct value from identity_all_ties
            where {_among("node", "next")} and value not in (from identity_reached_values)
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
    for table, columns in ATTRIBUTED_FROM.items():
        part(
            connection,
            table,
            f"select {', '.join(columns)} from remembered.{table} where {_among('contact_id', 'island')}",
        )
    _set(connection, "island_profiles", "select distinct profile_id from identity_named")
    for table, columns in CLUSTERED_FROM.items():
        part(
            connection,
            table,
            f"select {', '.join(columns)} from remembered.{table} where {_among('profile_id', 'island_profiles')}",
        )
    attribute(connection, policy)
    tell("ids")
    in_island = _among("node", "island")
    _set(
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
        _set(
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
    _set(
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
