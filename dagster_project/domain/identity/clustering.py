"""From scored pairs to clusters of profiles: connected components, and a guarded union where they are contested.

What belongs here: the algorithms on profiles and pairs. What does not: how a pair is scored
(``model.py``), what a pair means (``verdicts.py``), and what an account is.

Almost every component is free of conflict, so plain components are found in SQL. Inside a component every pair is
scored. A component with a pair in it that contradicts itself is contested, and solved again pair by pair, strongest
first; a union that would bring a conflict is refused, and the refusal is a row.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa
from duckdb import DuckDBPyConnection

from dagster_project.domain.identity.policy import Policy
from dagster_project.domain.identity.records import FIRST
from dagster_project.domain.identity.remembered import Write, count_rows, keep


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


class Pair(NamedTuple):
    """Two profiles (``left`` < ``right``) and what is known of them.

    ``weight``: log2 odds that they are one person. ``joins``: the pair proposes a union. ``conflict``: 0 none,
    1 perhaps two people (another date of one generation; nothing but name and address in common), 2 two people.
    ``pardons``: so much agrees that a 1 is believed to be a slip or a change. ``is_decided``: a steward joined them.
    """

    left: int
    right: int
    weight: float
    joins: bool = False
    conflict: int = 0
    pardons: bool = False
    is_decided: bool = False


def guarded_union(
    profiles: Iterable[int],
    pairs: Iterable[Pair],
    different: Iterable[tuple[int, int]],
    *,
    rival_margin: float,
    bridge_weight: float,
) -> tuple[dict[int, int], dict[tuple[int, int], str]]:
    """Clusters of the profiles, and for each refused pair the reason.

    Pairs that propose a union are taken in the order: a steward's, then by weight, then by number. A union is refused
    if a steward declared two members different (``declared_different``); if two members are two people
    (``conflict_inside``), where a 1 is pardoned by any pair across that agrees in nearly all else;
    if one side fits a rival just as well, within ``rival_margin`` bits, that the other side excludes
    (``could_be_two_people``); if it is the only pair between two clusters of three and more, and lighter than
    ``bridge_weight`` (``weak_bridge``). A steward's pair joins whatever the profiles say, unless another decision parts
    them. The cluster of a profile is its smallest member. Cost: the pairs of the component, times its clusters.
    """
    parent = {profile: profile for profile in profiles}
    members = {profile: {profile} for profile in parent}
    # What speaks against each, always from both sides; most have nothing in them, so that a look must not make a set.
    apart: dict[int, set[int]] = defaultdict(set)
    hard: dict[int, set[int]] = defaultdict(set)
    soft: dict[int, set[int]] = defaultdict(set)
    pardoned: dict[int, set[int]] = defaultdict(set)
    fits: dict[int, dict[int, float]] = defaultdict(dict)
    for left, right in different:
        apart[left].add(right)
        apart[right].add(left)
    proposals = []
    for pair in pairs:
        left, right = pair.left, pair.right
        if pair.conflict and not pair.is_decided:
            against = hard if pair.conflict == 2 else soft
            against[left].add(right)
            against[right].add(left)
        if pair.pardons:
            pardoned[left].add(right)
            pardoned[right].add(left)
        if pair.joins:
            fits[left][right] = fits[right][left] = max(pair.weight, fits[left].get(right, pair.weight))
            proposals.append(pair)
    proposals.sort(key=lambda pair: (not pair.is_decided, -pair.weight, pair.left, pair.right))

    def root(profile: int) -> int:
        while parent[profile] != profile:
            parent[profile] = parent[parent[profile]]
            profile = parent[profile]
        return profile

    def meets(said: Mapping[int, set[int]], one: int, other: int) -> bool:
        """Whether one cluster (by its root) has such a pair with the other."""
        return one in said and not said[one].isdisjoint(members[other])

    def are_two(one: int, other: int) -> bool:
        """Whether two clusters are two people for certain."""
        return meets(apart, one, other) or meets(hard, one, other)

    def excludes(one: int, other: int) -> bool:
        """Whether two clusters cannot be one, as far as is known."""
        return are_two(one, other) or (meets(soft, one, other) and not meets(pardoned, one, other))

    def has_rival(side: int, chosen: int, pair: Pair) -> bool:
        if chosen not in apart and chosen not in hard and chosen not in soft:
            return False  # it excludes nobody
        # Who shares an e-mail with one and a mobile phone with the other shows that the two are one, rather than
        # being torn between them; who shares nothing but name and address with both is torn.
        exclude = are_two if pair.pardons else excludes
        rivals = {root(other) for other, fit in fits[side].items() if fit >= pair.weight - rival_margin}
        return any(
            rival not in (side, chosen) and exclude(rival, chosen) and not excludes(side, rival) for rival in rivals
        )

    refusals: dict[tuple[int, int], str] = {}
    for pair in proposals:
        one, other = sorted((root(pair.left), root(pair.right)))
        if one == other:
            continue
        reason = None
        if meets(apart, one, other):
            reason = "declared_different"
        elif pair.is_decided:
            pass
        elif excludes(one, other):
            reason = "conflict_inside"
        elif has_rival(one, other, pair) or has_rival(other, one, pair):
            reason = "could_be_two_people"
        elif (
            min(len(members[one]), len(members[other])) >= 3
            and pair.weight < bridge_weight
            and sum(mate in members[other] for mate in fits[one]) < 2
        ):
            reason = "weak_bridge"
        if reason is not None:
            refusals[pair.left, pair.right] = reason
            continue
        parent[other] = one
        members[one] |= members[other]
        for said in (apart, hard, soft, pardoned):
            if other in said:
                said[one] |= said[other]
        for mate, fit in fits[other].items():
            fits[one][mate] = max(fit, fits[one].get(mate, fit))
        # A steward's word settles what the two said against each other.
        if pair.is_decided:
            for said in (hard, soft):
                if one in said:
                    said[one] -= members[one]
    return {profile: root(profile) for profile in parent}, refusals


def pair_decisions(connection: DuckDBPyConnection, write: Write = keep) -> None:
    """Write ``identity_decided``: the decisions in force as pairs of profiles (l, r, decision, decision_id)."""
    write(
        connection,
        "decided",
        """
        with profiled as (
            select records.feed, records.record_id, profile_id
            from (
                from remembered.records semi join (
                    select left_feed as feed, left_id as record_id from identity_decisions_in_force union
                    select right_feed, right_id from identity_decisions_in_force
                ) as decided using (feed, record_id)
            ) as records
            join (select contact_id, profile_id from remembered.named) using (contact_id)
        )
        select least(lefts.profile_id, rights.profile_id) as l, greatest(lefts.profile_id, rights.profile_id) as r,
            decision, min(decision_id) as decision_id
        from identity_decisions_in_force as decisions
        join profiled as lefts on lefts.feed = left_feed and lefts.record_id = left_id
        join profiled as rights on rights.feed = right_feed and rights.record_id = right_id
        where lefts.profile_id <> rights.profile_id
        group by all
        """,
    )


def connect_joins(connection: DuckDBPyConnection, write: Write = keep) -> None:
    """Write ``identity_components`` (node, component) of the joining verdicts and the stewards' ``same`` pairs."""
    connection.execute(
        """
        create or replace temp table identity_joins as
        select l, r from identity_verdicts where joins
        union all
        select l, r from identity_decided where decision = 'same'
        """
    )
    connect(connection, "identity_joins", "identity_connected")
    write(connection, "components", "from identity_connected")


def pairs_inside(connection: DuckDBPyConnection, policy: Policy) -> None:
    """Write ``identity_pairs_inside`` (l, r): the pairs within components that no block has brought together.

    Components of more than ``max_component_profiles`` are judged by the pairs that blocking found: bounded.
    """
    connection.execute(
        f"""
        create or replace temp table identity_pairs_inside as
        with small as (
            select node, component from identity_components
            qualify count(*) over (partition by component) between 3 and {policy.max_component_profiles}
        )
        select lefts.node as l, rights.node as r
        from small as lefts join small as rights using (component)
        where lefts.node < rights.node
        """
    )
    connection.execute(
        """
        create or replace temp table identity_pairs_inside as
        select * from identity_pairs_inside anti join identity_scores using (l, r)
        """
    )


def cluster(connection: DuckDBPyConnection, policy: Policy, write: Write = keep) -> None:
    """Write ``identity_labels`` (profile_id, component), ``identity_refusals`` and ``identity_contested`` (component).

    Reads ``identity_components``, ``identity_verdicts``, ``identity_decided`` and of ``identity_profiles`` the number.
    A profile that nothing joins is its own component.
    """
    write(
        connection,
        "contested",
        f"""
        with sizes as (
            select component, count(*) as profiles from identity_components group by component
        )
        select lefts.component
        from identity_verdicts as verdicts
        join identity_components as lefts on lefts.node = verdicts.l
        join identity_components as rights on rights.node = verdicts.r and rights.component = lefts.component
        where verdicts.conflict > 0
        union
        select component from sizes where profiles > {policy.max_component_profiles}
        union
        select lefts.component
        from identity_decided as decided
        join identity_components as lefts on lefts.node = decided.l
        join identity_components as rights on rights.node = decided.r and rights.component = lefts.component
        where decided.decision = 'different'
        union
        -- Two dense parts that one pair holds together: only components of six and more can be such.
        select component
        from sizes
        join identity_components using (component)
        join identity_verdicts as verdicts on verdicts.l = node
        where profiles >= 6 and verdicts.joins
        group by component, profiles
        having count(*) < profiles * (profiles - 1) / 4
        """,
    )
    connection.execute(
        f"""
        -- Which of two pairs is taken first, where both weigh the same, is said by the records, not by a hash.
        create or replace temp table identity_inside as
        select node, component, row_number() over (order by {", ".join(FIRST)}) as place
        from identity_components
        semi join identity_contested using (component)
        join remembered.profile_speakers on profile_id = node
        """
    )
    nodes = dict(connection.execute("select place, node from identity_inside order by place").fetchall())
    sides = "least(lefts.place, rights.place) as l, greatest(lefts.place, rights.place) as r"
    inside = """
        join identity_inside as lefts on lefts.node = pairs.l
        join identity_inside as rights on rights.node = pairs.r and rights.component = lefts.component
    """
    rows = connection.execute(
        f"""
        select {sides}, weight, joins, conflict, pardons, false
        from identity_verdicts as pairs {inside}
        where joins or conflict > 0 or pardons
        union all
        select {sides}, 1000.0, true, 0, false, true
        from identity_decided as pairs {inside}
        where decision = 'same'
        order by all
        """
    ).fetchall()
    different = connection.execute(
        f"select {sides} from identity_decided as pairs {inside} where decision = 'different' order by all"
    ).fetchall()
    labels, reasons = guarded_union(
        nodes,
        map(Pair._make, rows),
        different,
        rival_margin=policy.rival_margin,
        bridge_weight=policy.bridge_weight,
    )
    relabelled = [(nodes[place], nodes[label]) for place, label in labels.items()]
    _load(connection, "identity_relabelled", relabelled, ("int64", "int64"), ("node", "component"))
    refusals = [(*sorted((nodes[one], nodes[other])), reason) for (one, other), reason in reasons.items()]
    _load(connection, "identity_refused", refusals, ("int64", "int64", "string"), ("l", "r", "reason"))
    write(connection, "refusals", "from identity_refused")
    write(
        connection,
        "labels",
        """
        select profile_id, coalesce(relabelled.component, components.component, profile_id) as component
        from identity_profiles
        left join identity_components as components on components.node = profile_id
        left join identity_relabelled as relabelled on relabelled.node = profile_id
        """,
    )


def _load(
    connection: DuckDBPyConnection,
    table: str,
    rows: Sequence[tuple[object, ...]],
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
