"""Identity: which records are one person's, by scored similarity under a reviewable policy.

``resolve`` is the stage. In order: ``records`` (who says what, with ``standard_forms``), ``identifiers`` (which values
may speak for a person), ``blocking`` (which profiles are compared), ``scores`` (how alike they are, by ``model``),
``verdicts`` (what that means), ``clustering`` (what follows when all are taken together), ``edges`` (pairs as rows),
``attribution`` (records to clusters), ``stable_ids`` (clusters to account ids, the only part that knows the last
release), ``households``, ``shared_identifiers``.

What belongs here: who is who. What does not: what is known about an account (the account stage), and any judgement of
the result (the gate).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from duckdb import DuckDBPyConnection

from dagster_project.domain.identity.attribution import attribute
from dagster_project.domain.identity.blocking import find_pairs, link_declared
from dagster_project.domain.identity.clustering import cluster, connect_joins, count_rows, pairs_inside
from dagster_project.domain.identity.edges import write_edges
from dagster_project.domain.identity.households import name_households
from dagster_project.domain.identity.identifiers import demote, read_decisions
from dagster_project.domain.identity.model import Model, read_model, write_model
from dagster_project.domain.identity.policy import Policy, read_policy
from dagster_project.domain.identity.records import build_contacts, build_profiles, build_records
from dagster_project.domain.identity.scores import ScoreMemory
from dagster_project.domain.identity.shared_identifiers import write_shared_identifiers
from dagster_project.domain.identity.stable_ids import name_accounts, read_history
from dagster_project.domain.identity.verdicts import judge, judge_components

__all__ = ["IdentitySummary", "Model", "Policy", "read_model", "read_policy", "resolve"]


@dataclass(frozen=True)
class IdentitySummary:
    """What one build of the identity stage found; all counts.

    ``largest_account`` is in person records; ``conflicts`` counts components that were solved pair by pair; the last
    four count the events of this build.
    """

    records: int
    contacts: int
    profiles: int
    compared_pairs: int
    scored_pairs: int
    accounts: int
    linked_records: int
    accepted_edges: int
    refused_edges: int
    demoted_identifiers: int
    conflicts: int
    households: int
    largest_account: int
    created: int
    merged: int
    split: int
    retired: int


def resolve(
    connection: DuckDBPyConnection,
    *,
    as_of: date,
    run_id: str,
    previous: Path | None,
    policy: Policy | None = None,
    model: Model | None = None,
    memory: Path | None = None,
    announce: Callable[[str], None] | None = None,
) -> IdentitySummary:
    """Write every table of the schema ``identity`` from ``staging.stg_*``; ``previous`` is the last release's database.

    Who is who is a function of the staging tables, the policy, the model and the as-of date alone; only ids, events and
    redirects follow the last release. ``memory`` is the file of pair scores, a cache that changes no table.
    ``announce`` is told each step. Raises duckdb.Error where a staging table is missing or ``previous`` is no release.
    """
    policy, model = policy or read_policy(), model or read_model()
    tell = announce or (lambda step: None)
    connection.execute("create schema if not exists identity")
    read_history(connection, previous)
    read_decisions(connection, as_of)
    tell("reading the records")
    build_records(connection)
    tell("standard forms")
    build_contacts(connection, as_of=as_of, policy=policy)
    tell("identifier policy")
    demote(connection, policy)
    tell("profiles")
    build_profiles(connection)
    link_declared(connection)
    tell("blocking")
    find_pairs(connection, policy)
    with ScoreMemory(connection, model, memory) as scores:
        tell("scoring")
        scores.look_up("identity_pairs")
        judge(connection, model, policy)
        tell("connecting")
        connect_joins(connection)
        pairs_inside(connection, policy)
        scores.look_up("identity_pairs_inside")
        scores.tidy()
        judge_components(connection, model, policy)
    compared = count_rows(connection, "identity_scores")
    connection.execute("drop table identity_pairs; drop table identity_pairs_inside; drop table identity_scores")
    tell("clustering")
    contested = cluster(connection, policy)
    tell("edges")
    write_edges(connection)
    write_model(connection, model, policy.declared_weight)
    tell("attribution")
    attribute(connection, policy)
    tell("ids")
    name_accounts(connection, as_of=as_of, run_id=run_id)
    tell("households")
    name_households(connection)
    write_shared_identifiers(connection)
    summary = _summarise(connection, contested, compared, scores.scored)
    tell("done")
    _drop_working_tables(connection)
    return summary


def _summarise(connection: DuckDBPyConnection, conflicts: int, compared: int, scored: int) -> IdentitySummary:
    decisions: dict[str, int] = dict(
        connection.execute("select decision, count(*) from identity.edges group by all").fetchall()
    )
    events: dict[str, int] = dict(
        connection.execute("select event, count(*) from identity_changes group by all").fetchall()
    )
    ((largest,),) = connection.execute(
        """
        select coalesce(max(records), 0)
        from (select count(*) as records from identity.account_links where is_person_record group by account_id)
        """
    ).fetchall()
    return IdentitySummary(
        records=count_rows(connection, "identity.records"),
        contacts=count_rows(connection, "identity.contacts"),
        profiles=count_rows(connection, "identity_profiles"),
        compared_pairs=compared,
        scored_pairs=scored,
        accounts=count_rows(connection, "identity.anchors"),
        linked_records=count_rows(connection, "identity.account_links"),
        accepted_edges=decisions.get("accepted", 0),
        refused_edges=decisions.get("refused", 0),
        demoted_identifiers=count_rows(connection, "identity.demoted_identifiers"),
        conflicts=conflicts,
        households=int(
            connection.execute("select count(distinct household_id) from identity.households").fetchall()[0][0]
        ),
        largest_account=int(largest),
        created=events.get("created", 0),
        merged=events.get("merged", 0),
        split=events.get("split", 0),
        retired=events.get("retired", 0),
    )


def _drop_working_tables(connection: DuckDBPyConnection) -> None:
    working = connection.execute(
        """
        select table_name from duckdb_tables()
        where temporary and regexp_matches(table_name, '^(identity|last|household|open|reference|tf)_')
        order by table_name
        """
    ).fetchall()
    for (table,) in working:
        connection.execute(f'drop table temp."{table}"')
