"""Identity: which records are one person's, by exact identifiers under a reviewable policy.

``resolve`` is the stage. In order: ``records`` (who says what), ``matching`` (what an identifier value joins and
refuses), ``clustering`` (what follows when all are taken together), ``attribution`` (records to clusters),
``stable_ids`` (clusters to account ids, the only part that knows the last release), ``households``.

What belongs here: who is who. What does not: what is known about an account (the account stage), and any judgement of
the result (the gate).
"""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from duckdb import DuckDBPyConnection

from dagster_project.domain.identity.attribution import attribute
from dagster_project.domain.identity.clustering import cluster, count_rows
from dagster_project.domain.identity.households import build_households
from dagster_project.domain.identity.matching import demote, find_persons, propose_edges, read_decisions
from dagster_project.domain.identity.policy import Policy, read_policy
from dagster_project.domain.identity.records import build_records, build_uses
from dagster_project.domain.identity.stable_ids import name_accounts, read_history

__all__ = ["IdentitySummary", "Policy", "read_policy", "resolve"]


@dataclass(frozen=True)
class IdentitySummary:
    """What one build of the identity stage found; all counts.

    ``largest_account`` is in person records; ``conflicts`` counts components that had to be parted; the last four count
    the events of this build.
    """

    records: int
    contacts: int
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
    connection: DuckDBPyConnection, *, as_of: date, run_id: str, previous: Path | None, policy: Policy | None = None
) -> IdentitySummary:
    """Write every table of the schema ``identity`` from ``staging.stg_*``; ``previous`` is the last release's database.

    Who is who is a function of the staging tables, the policy and the as-of date alone; only ids, events and redirects
    follow the last release. Raises duckdb.Error where a staging table is missing or ``previous`` is no release.
    """
    policy = policy or read_policy()
    connection.execute("create schema if not exists identity")
    read_history(connection, previous)
    build_records(connection, as_of=as_of, policy=policy)
    build_uses(connection)
    find_persons(connection)
    demote(connection, policy)
    propose_edges(connection)
    read_decisions(connection, as_of)
    conflicts = cluster(connection)
    attribute(connection, policy)
    name_accounts(connection, as_of=as_of, run_id=run_id)
    build_households(connection, policy)
    summary = _summarise(connection, conflicts)
    _drop_working_tables(connection)
    return summary


def _summarise(connection: DuckDBPyConnection, conflicts: int) -> IdentitySummary:
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
        where temporary and regexp_matches(table_name, '^(identity|last|household|open)_')
        order by table_name
        """
    ).fetchall()
    for (table,) in working:
        connection.execute(f'drop table temp."{table}"')
