"""From proposed pairs to clusters of contacts: connected components, and a guarded union where they would conflict.

What belongs here: the algorithms on contacts and pairs. What does not: why a pair was proposed, and what an account is.

Almost every component is free of conflict, so plain components are found in SQL. Only those that would hold two given
names, two birth dates or a pair that a steward declared different are solved again, pair by pair, strongest first; a
pair that would bring a conflict is refused. For a component without conflict both ways give the same.
"""

from collections.abc import Iterable

import pyarrow as pa
from duckdb import DuckDBPyConnection

Attributes = tuple[str | None, str | None, str | None]
"""Given name, initial and birth date of a contact; null where it does not say."""


def connect(connection: DuckDBPyConnection, pairs: str, into: str) -> None:
    """Write the temp table ``into`` (node, component) for every node of ``pairs`` (l, r); component = smallest node.

    Contraction: every node joins the smallest of its neighbours and itself in an order that changes with each round,
    the pairs are rewritten, until none is left. The order is a hash, so that chains shrink by a constant share a round
    (Bögeholz, Brand and Todor, "In-database connected component analysis", 2020); the result does not depend on it.
    """
    connection.execute(
        f"create or replace temp table contraction_pairs as select distinct l, r from {pairs} where l <> r"
    )
    connection.execute(
        "create or replace temp table contraction as "
        f"select distinct node, node as component from (select l as node from {pairs} union all select r from {pairs})"
    )
    step = 0
    while count_rows(connection, "contraction_pairs"):
        step += 1
        connection.execute(
            f"""
            create or replace temp table contraction_step as
            with neighbours as (
                select l as node, r as neighbour from contraction_pairs
                union all select r, l from contraction_pairs
                union all select l, l from contraction_pairs
                union all select r, r from contraction_pairs
            )
            select node, arg_min(neighbour, struct_pack(h := hash(neighbour, {step}), neighbour)) as target
            from neighbours group by node
            """
        )
        connection.execute(
            """
            create or replace temp table contraction as
            select node, coalesce(target, component) as component
            from contraction left join (select node as component, target from contraction_step) using (component)
            """
        )
        connection.execute(
            """
            create or replace temp table contraction_pairs as
            select distinct least(lefts.target, rights.target) as l, greatest(lefts.target, rights.target) as r
            from contraction_pairs as pairs
            join contraction_step as lefts on pairs.l = lefts.node
            join contraction_step as rights on pairs.r = rights.node
            where lefts.target <> rights.target
            """
        )
    connection.execute(
        f"create or replace temp table {into} as "
        "select node, min(node) over (partition by component) as component from contraction"
    )
    for table in ("contraction", "contraction_step", "contraction_pairs"):
        connection.execute(f"drop table if exists {table}")


def count_rows(connection: DuckDBPyConnection, table: str) -> int:
    """The number of rows of a table."""
    return int(connection.execute(f"select count(*) from {table}").fetchall()[0][0])


def guarded_union(
    attributes: dict[int, Attributes], pairs: Iterable[tuple[int, int, bool]], different: Iterable[tuple[int, int]]
) -> tuple[dict[int, int], list[str | None]]:
    """Clusters of the contacts in ``attributes``, and for each pair the reason of its refusal or null.

    ``pairs`` are (left, right, is_decided) in the order in which they may join, strongest first. A pair joins two
    clusters if neither says something that the other contradicts; a steward's pair joins whatever they say, unless
    another decision parts them. The cluster of a contact is its smallest member.
    """
    parent = {contact: contact for contact in attributes}
    said = {contact: [set() if value is None else {value} for value in attributes[contact]] for contact in attributes}
    enemies: dict[int, set[int]] = {contact: set() for contact in attributes}
    for left, right in different:
        enemies[left].add(right)
        enemies[right].add(left)
    members = {contact: {contact} if enemies[contact] else set() for contact in attributes}

    def root(contact: int) -> int:
        while parent[contact] != contact:
            parent[contact] = parent[parent[contact]]
            contact = parent[contact]
        return contact

    reasons: list[str | None] = []
    for left, right, is_decided in pairs:
        one, other = sorted((root(left), root(right)))
        if one == other:
            reasons.append(None)
            continue
        reason = None
        if enemies[one] & members[other]:
            reason = "declared_different"
        elif not is_decided:
            for name, ours, theirs in zip(
                ("other_given_names", "other_given_names", "other_birth_dates"), said[one], said[other], strict=True
            ):
                # Clusters that a steward joined may say two things; whoever says one of them still fits.
                if not (ours <= theirs or theirs <= ours):
                    reason = name
                    break
        reasons.append(reason)
        if reason is None:
            parent[other] = one
            for ours, theirs in zip(said[one], said[other], strict=True):
                ours |= theirs
            enemies[one] |= enemies[other]
            members[one] |= members[other]
    return {contact: root(contact) for contact in attributes}, reasons


def cluster(connection: DuckDBPyConnection) -> int:
    """Write ``identity_labels`` (contact_id, component) and ``identity.edges``; return the number of conflicts solved.

    Reads ``identity_proposals``, ``identity_decisions_in_force`` and ``identity.contacts``. Contacts that no pair joins
    are their own component.
    """
    connection.execute(
        """
        create or replace temp table identity_pairs as
        select proposals.*, policies.strength
        from identity_proposals as proposals join identity.identifier_policies as policies on policies.type = rule
        union all
        select l, r, 'decision', case decision when 'same' then 'accepted' else 'refused' end,
            case decision when 'different' then 'declared_different' end, 3, 100
        from identity_decisions_in_force
        """
    )
    connection.execute(
        "create or replace temp table identity_joins as select l, r from identity_pairs where decision = 'accepted'"
    )
    connect(connection, "identity_joins", "identity_components")
    connection.execute(
        """
        create or replace temp table identity_conflicts as
        select component
        from identity_components join identity.contacts on contact_id = node
        group by component
        having count(distinct given_name_key) > 1 or count(distinct given_initial) > 1 or count(distinct birth_key) > 1
        union
        select lefts.component
        from identity_decisions_in_force as decisions
        join identity_components as lefts on lefts.node = decisions.l
        join identity_components as rights on rights.node = decisions.r
        where decisions.decision = 'different' and lefts.component = rights.component
        """
    )
    conflict_count = count_rows(connection, "identity_conflicts")
    contacts = connection.execute(
        """
        select contact_id, given_name_key, given_initial, birth_key
        from identity_conflicts join identity_components using (component)
        join identity.contacts on contact_id = node
        order by contact_id
        """
    ).fetchall()
    pairs = connection.execute(
        """
        select l, r, rule
        from identity_pairs
        join identity_components on node = l
        semi join identity_conflicts using (component)
        where decision = 'accepted'
        order by rule = 'decision' desc, agreement desc, strength desc, l, r
        """
    ).fetchall()
    inside = {row[0] for row in contacts}
    different = [
        pair
        for pair in connection.execute(
            "select l, r from identity_decisions_in_force where decision = 'different' order by l, r"
        ).fetchall()
        if pair[0] in inside and pair[1] in inside
    ]
    labels, reasons = guarded_union(
        {row[0]: (row[1], row[2], row[3]) for row in contacts},
        [(left, right, rule == "decision") for left, right, rule in pairs],
        different,
    )
    refusals = [(*pair, reason) for pair, reason in zip(pairs, reasons, strict=True) if reason is not None]
    _load(connection, "identity_relabelled", list(labels.items()), ("int64", "int64"), ("node", "component"))
    _load(
        connection, "identity_refusals", refusals, ("int64", "int64", "string", "string"), ("l", "r", "rule", "reason")
    )
    connection.execute(
        """
        create or replace temp table identity_labels as
        select contact_id, coalesce(relabelled.component, components.component, contact_id) as component
        from identity.contacts
        left join identity_components as components on components.node = contact_id
        left join identity_relabelled as relabelled on relabelled.node = contact_id
        """
    )
    _write_edges(connection)
    return conflict_count


def _load(
    connection: DuckDBPyConnection,
    table: str,
    rows: list[tuple[object, ...]],
    types: tuple[str, ...],
    names: tuple[str, ...],
) -> None:
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    arrow = pa.table({
        name: pa.array(column, type=getattr(pa, kind)())
        for name, column, kind in zip(names, columns, types, strict=True)
    })  # fmt: skip
    connection.register("loaded_rows", arrow)
    connection.execute(f"create or replace temp table {table} as select * from loaded_rows")
    connection.unregister("loaded_rows")


def _write_edges(connection: DuckDBPyConnection) -> None:
    """A contact stands in the edges as its best-known record; records of one contact need no edge."""
    connection.execute(
        """
        create or replace table identity.edges as
        select
            lefts.feed as left_feed, lefts.record_id as left_record_id,
            rights.feed as right_feed, rights.record_id as right_record_id,
            pairs.rule,
            case when refusals.reason is null then pairs.decision else 'refused' end as decision,
            coalesce(refusals.reason, pairs.reason) as reason,
            case
                when pairs.rule = 'decision' then 'decided by a steward'
                when pairs.decision = 'refused' then 'one ' || pairs.rule || ', not one person'
                when pairs.agreement = 2 then 'one ' || pairs.rule || '; given name and birth date agree'
                when pairs.agreement = 1 then 'one ' || pairs.rule || '; given name agrees'
                else 'one ' || pairs.rule || '; nothing contradicts'
            end as evidence
        from identity_pairs as pairs
        join identity.contacts as lefts on lefts.contact_id = pairs.l
        join identity.contacts as rights on rights.contact_id = pairs.r
        left join identity_refusals as refusals using (l, r, rule)
        """
    )
