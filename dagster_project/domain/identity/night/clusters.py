"""What a night's pairs touch: scores, verdicts, components, clusters and edges.

What belongs here: which of them are worked out again. What does not: which pairs there are (``pairs.py``).
"""

from collections.abc import Callable

from duckdb import DuckDBPyConnection

from dagster_project.domain.identity.clustering import cluster, connect_joins, pair_decisions, pairs_inside
from dagster_project.domain.identity.edges import write_edges
from dagster_project.domain.identity.model import Model
from dagster_project.domain.identity.night.pairs import link, renew_pairs
from dagster_project.domain.identity.policy import Policy
from dagster_project.domain.identity.remembered import among, differing, of_either, part, replace_part, work
from dagster_project.domain.identity.scores import compare, make_scores
from dagster_project.domain.identity.verdicts import judge, judge_components

Tell = Callable[[str], None]


def work_on_all(connection: DuckDBPyConnection) -> None:
    """Make ``identity_<name>`` the view of the whole again, of what the people are."""
    for name in ("records", "speakers", "contacts", "named", "profiles", "notable", "uses", "worn_tokens", "demoted"):
        connection.execute(f"drop table if exists identity_{name}")
        connection.execute(f"create or replace temp view identity_{name} as from remembered.{name}")
    link(connection, "true")
    work(connection, "known_scores", "from remembered.scores")


def renew_clusters(connection: DuckDBPyConnection, *, policy: Policy, model: Model, tell: Tell) -> int:
    """Blocks, scores, verdicts, clusters and edges; returns how many pairs had to be compared.

    Leaves ``identity_relabelled_profiles``: those whose component is another.
    """
    tell("blocking")
    renew_pairs(connection, policy)
    tell("scoring")
    scored = _renew_scores(connection, policy, model)
    tell("connecting")
    scored += _renew_components(connection, policy, model)
    tell("clustering")
    _renew_labels(connection, policy)
    tell("edges")
    _renew_edges(connection)
    return scored


def _renew_scores(connection: DuckDBPyConnection, policy: Policy, model: Model) -> int:
    """The pairs that blocks bring together, and their verdicts. A pair that is still one keeps its rows.

    Leaves ``identity_new_pairs``, ``identity_changed_pairs``: gone, or declared in another way, and
    ``identity_new_edges``: those with a verdict of tonight (l, r each).
    """
    work(connection, "rescored", "from identity_paired union from identity_gone_profiles")
    work(connection, "old_scores", of_either("rowid as place, l, r, is_inside", "remembered.scores", "rescored"))
    # A pair that no block brings together any more may still be one within its component: that is seen there.
    work(
        connection,
        "dropped_scores",
        f"""
        select place, l, r from identity_old_scores anti join identity_pairs using (l, r)
        where not is_inside or {among("l", "gone_profiles")} or {among("r", "gone_profiles")}
        """,
    )
    work(
        connection,
        "redeclared_scores",
        f"""
        select place, l, r from identity_old_scores semi join identity_pairs using (l, r)
        where {among("l", "relinked")} and {among("r", "relinked")}
        """,
    )
    work(connection, "new_pairs", "from identity_pairs anti join identity_old_scores using (l, r)")
    make_scores(connection)
    connection.execute(
        """
        insert into identity_scores
        from remembered.scores where rowid in (select place from identity_redeclared_scores);
        delete from remembered.scores where rowid in (select place from identity_dropped_scores);
        update remembered.scores set is_inside = false where is_inside and (l, r) in (from identity_pairs)
        """
    )
    scored = compare(connection, model, "identity_new_pairs", "identity_scores")
    replace_part(connection, "scores", "false", "(from identity_scores semi join identity_new_pairs using (l, r))")
    judge(connection, model, policy, part)
    work(
        connection,
        "changed_pairs",
        "select l, r from identity_dropped_scores union all select l, r from identity_redeclared_scores",
    )
    replace_part(connection, "verdicts", "(l, r) in (from identity_changed_pairs)")
    work(connection, "new_edges", "select l, r from identity_verdicts")
    return scored


def _renew_components(connection: DuckDBPyConnection, policy: Policy, model: Model) -> int:
    """Adds to ``identity_changed_pairs`` those that are decided in another way, or not within one component any more.

    Leaves ``identity_nodes`` (profile_id): of all components that may be others, and what these were,
    ``identity_old_components``.
    """
    pair_decisions(connection, part)
    work(connection, "redecided", f"select l, r from {differing('from remembered.decided', 'from identity_decided')}")
    connection.execute(
        """
        create or replace table remembered.decided as from identity_decided;
        insert into identity_changed_pairs from identity_redecided
        """
    )
    work(
        connection,
        "movers",
        f"""
        from identity_new_profiles union from identity_gone_profiles
        -- Of two pairs that weigh the same, the one goes first whose records know their people better.
        union from identity_respoken_profiles
        -- Whom a pair joins or joined is found from either side, and what it says otherwise counts in one component.
        union select l from (from identity_changed_pairs union all from identity_new_pairs)
        where not {among("l", "new_profiles")} and not {among("r", "new_profiles")}
            and not {among("l", "gone_profiles")} and not {among("r", "gone_profiles")}
        union select r from identity_redecided
        """,
    )
    work(
        connection,
        "reached",
        f"""
        with joins as (
            select l, r from ({of_either("l, r, joins", "remembered.verdicts", "movers")}) where joins
            union all
            {of_either("l, r", "(from identity_decided where decision = 'same')", "movers")}
        )
        from identity_movers union select l from joins union select r from joins
        """,
    )
    work(
        connection,
        "old_components",
        f"select distinct component from remembered.components where {among('node', 'reached')}",
    )
    work(
        connection,
        "nodes",
        f"""
        select profile_id
        from (
            select node as profile_id from remembered.components where {among("component", "old_components")}
            union from identity_reached
        )
        semi join remembered.profiles using (profile_id)
        """,
    )
    inside = f"{among('l', 'nodes')} and {among('r', 'nodes')}"
    work(connection, "old_scores", f"select rowid as place, l, r, is_inside from remembered.scores where {inside}")
    work(
        connection,
        "old_verdicts",
        f"""
        select l, r, weight, joins, conflict, pardons, is_telling, is_inside
        from (select l, r, weight, joins, conflict, pardons, is_telling from remembered.verdicts where {inside})
        join identity_old_scores using (l, r)
        """,
    )
    # What only its component has brought together must not be what holds the component together.
    part(connection, "verdicts", "from identity_old_verdicts where is_telling and not is_inside")
    part(connection, "decided", f"from identity_decided where {inside}")
    connect_joins(connection, part)
    part(connection, "scores", "from identity_old_scores where not is_inside")
    pairs_inside(connection, policy)
    work(
        connection,
        "stale_pairs",
        "select l, r from identity_old_scores anti join identity_pairs_inside using (l, r) where is_inside",
    )
    work(
        connection,
        "parted_pairs",
        """
        from identity_stale_pairs
        union (
            select l, r from identity_old_verdicts as verdicts
            left join identity_components as lefts on lefts.node = l
            left join identity_components as rights on rights.node = r
            where not is_telling and lefts.component is distinct from rights.component
        )
        """,
    )
    part(connection, "verdicts", "from identity_old_verdicts anti join identity_parted_pairs using (l, r)")
    # Of what is scored, that which says nothing and yet is within one component now. Nothing was written to the file
    # since these places were read: they may be others after that.
    work(
        connection,
        "asked_places",
        """
        select place
        from identity_old_scores as scores anti join identity_old_verdicts using (l, r)
        join identity_components as lefts on lefts.node = scores.l
        join identity_components as rights on rights.node = scores.r and rights.component = lefts.component
        where not is_inside
        """,
    )
    make_scores(connection)
    connection.execute(
        f"""
        insert into identity_scores from remembered.scores where {among("rowid", "asked_places")};
        delete from remembered.scores where is_inside and (l, r) in (from identity_stale_pairs);
        delete from remembered.verdicts where (l, r) in (from identity_parted_pairs);
        insert into identity_changed_pairs from identity_parted_pairs
        """
    )
    work(connection, "resettled", "from identity_nodes union all from identity_gone_profiles")
    replace_part(connection, "components", among("node", "resettled"))
    scored = compare(
        connection,
        model,
        "identity_pairs_inside anti join identity_old_scores using (l, r)",
        "identity_scores",
        is_inside=True,
    )
    replace_part(connection, "scores", "false", "(from identity_scores where is_inside)")
    link(connection, "(l, r) in (select l, r from identity_scores)")
    work(connection, "judged", "from remembered.verdicts limit 0")
    judge_components(connection, model, policy, "identity_judged")
    replace_part(connection, "verdicts", "false", "identity_judged")
    connection.execute(
        """
        insert into identity_verdicts
        select l, r, weight, joins, conflict, pardons, is_telling, true from identity_judged;
        insert into identity_changed_pairs select l, r from identity_judged
        """
    )
    return scored


def _renew_labels(connection: DuckDBPyConnection, policy: Policy) -> None:
    """Adds to ``identity_changed_pairs`` those that are refused now and were not, or the reverse."""
    part(connection, "profiles", "from identity_nodes")
    cluster(connection, policy, part)
    replace_part(connection, "contested", among("component", "old_components"))
    work(
        connection,
        "old_refusals",
        of_either("l, r, reason", "remembered.refusals", "resettled"),
    )
    connection.execute(
        f"""
        insert into identity_changed_pairs
        select l, r from {differing("from identity_old_refusals", "select l, r, reason from identity_refusals")}
        """
    )
    replace_part(connection, "refusals", "(l, r) in (select l, r from identity_old_refusals)")
    work(
        connection,
        "relabelled_profiles",
        "select profile_id from identity_labels anti join remembered.labels using (profile_id, component)",
    )
    replace_part(connection, "labels", among("profile_id", "resettled"))


def _renew_edges(connection: DuckDBPyConnection) -> None:
    """The edges of what changed: pairs, the records that profiles stand in as, and whether a decision is followed."""
    work(
        connection,
        "edged",
        f"""
        from identity_changed_pairs union select l, r from identity_decided
        union ({of_either("l, r", "remembered.verdicts", "respoken_profiles")})
        union ({of_either("l, r", "remembered.decided", "respoken_profiles")})
        """,
    )
    connection.execute("delete from remembered.edges where (l, r) in (from identity_edged)")
    connection.execute("insert into identity_edged from identity_new_edges anti join identity_edged using (l, r)")
    write_edges(connection, part, "identity_edged")
    replace_part(connection, "edges", "false")
