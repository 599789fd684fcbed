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
from dagster_project.domain.identity.remembered import among, differing, part, replace_part, work
from dagster_project.domain.identity.scores import look_up, make_scores
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
    work(connection, "rescored", "from identity_paired union from identity_gone_profiles")
    of_rescored = f"({among('l', 'rescored')} or {among('r', 'rescored')})"
    work(connection, "known_scores", f"from remembered.scores where {of_rescored}")
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
    part(connection, "profiles", f"from remembered.profiles where {among('profile_id', 'nodes')}")
    cluster(connection, policy, part)
    replace_part(connection, "contested", among("component", "old_components"))
    replace_part(
        connection,
        "refusals",
        " or ".join(among(side, name) for side in ("l", "r") for name in ("nodes", "gone_profiles")),
    )
    work(
        connection,
        "relabelled_profiles",
        "select profile_id from identity_labels anti join remembered.labels using (profile_id, component)",
    )
    replace_part(connection, "labels", f"{among('profile_id', 'nodes')} or {among('profile_id', 'gone_profiles')}")
    tell("edges")
    work(
        connection,
        "edged",
        "from identity_nodes union from identity_gone_profiles union from identity_respoken_profiles",
    )
    write_edges(connection, part, "identity_edged")
    replace_part(connection, "edges", f"{among('l', 'edged')} or {among('r', 'edged')}")
    return scored


def _renew_components(connection: DuckDBPyConnection, policy: Policy, model: Model) -> int:
    pair_decisions(connection, part)
    work(
        connection,
        "movers",
        f"""
        with redecided as (from {differing("from remembered.decided", "from identity_decided")})
        select profile_id as node from identity_rescored
        -- Of two pairs that weigh the same, the one goes first whose records know their people better.
        union from identity_respoken_profiles
        union select l from redecided union select r from redecided
        """,
    )
    connection.execute("create or replace table remembered.decided as from identity_decided")
    work(
        connection,
        "reached",
        f"""
        with joins as (
            select l, r from remembered.verdicts where joins and ({among("l", "movers")} or {among("r", "movers")})
            union all
            select l, r from identity_decided
            where decision = 'same' and ({among("l", "movers")} or {among("r", "movers")})
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
    connection.execute(
        f"""
        insert into identity_known_scores
        from remembered.scores anti join identity_known_scores using (l, r) where is_inside and {inside};
        delete from remembered.scores where is_inside and {inside}
        """
    )
    part(connection, "scores", f"from remembered.scores where {inside}")
    link(connection, inside)
    judge(connection, model, policy, part)
    part(connection, "decided", f"from identity_decided where {inside}")
    connect_joins(connection, part)
    replace_part(connection, "components", f"{among('node', 'nodes')} or {among('node', 'gone_profiles')}")
    pairs_inside(connection, policy)
    scored = look_up(connection, model, "identity_pairs_inside", "identity_scores", is_inside=True)
    replace_part(connection, "scores", "false", "(from identity_scores where is_inside)")
    judge_components(connection, model, policy, "identity_verdicts")
    replace_part(connection, "verdicts", inside)
    return scored
