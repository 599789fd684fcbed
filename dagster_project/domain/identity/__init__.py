"""Identity: which records are one person's, by scored similarity under a reviewable policy.

``resolve`` is the stage. In order: ``records`` (who says what, with ``standard_forms``), ``identifiers`` (which values
may speak for a person), ``blocking`` (which profiles are compared), ``scores`` (how alike they are, by ``model``),
``verdicts`` (what that means), ``clustering`` (what follows when all are taken together), ``edges`` (pairs as rows),
``attribution`` (records to clusters), ``stable_ids`` (clusters to account ids, the only part that knows the last
release), ``households``, ``shared_identifiers``. All that they write is kept (``remembered``), and a night runs them on
what its changes touch (``night``).

What belongs here: who is who. What does not: what is known about an account (the account stage), and any judgement of
the result (the gate).
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import duckdb
from duckdb import DuckDBPyConnection

from dagster_project.domain.identity import night
from dagster_project.domain.identity.attribution import ATTRIBUTED_FROM, attribute
from dagster_project.domain.identity.blocking import find_pairs, link_declared, rules_for
from dagster_project.domain.identity.clustering import cluster, connect_joins, pair_decisions, pairs_inside
from dagster_project.domain.identity.edges import write_edges
from dagster_project.domain.identity.households import name_households
from dagster_project.domain.identity.identifiers import (
    CARRIED,
    count_people,
    count_uses,
    demote,
    read_decisions,
    write_policies,
)
from dagster_project.domain.identity.model import Model, read_model, write_model
from dagster_project.domain.identity.policy import Policy, read_policy
from dagster_project.domain.identity.records import (
    NAMED,
    PROFILE_SPEAKERS,
    SHOWN_CONTACTS,
    build_contacts,
    build_profiles,
    build_records,
    name_contacts,
)
from dagster_project.domain.identity.remembered import (
    close_memory,
    count_rows,
    distrust,
    forget,
    hash_of,
    keep,
    open_memory,
    part,
)
from dagster_project.domain.identity.scores import look_up, score_stamp, start_scores
from dagster_project.domain.identity.shared_identifiers import (
    find_token_carriers,
    find_value_carriers,
    write_shared_identifiers,
)
from dagster_project.domain.identity.stable_ids import (
    is_named_after,
    name_accounts,
    read_history,
    redirect,
    write_history,
)
from dagster_project.domain.identity.verdicts import judge, judge_components

_SHOWN = {
    "records": """
        select feed, record_id, contact_id, seen_at, customer_id, card_id, payment_token from remembered.records
    """,
    "contacts": SHOWN_CONTACTS,
    "cut_blocks": "select * exclude (within) from remembered.cut_blocks",
    "edges": "select * exclude (l, r) from remembered.edges",
    "account_links": """
        select feed, record_id, account_id, rule, confidence, is_person_record from remembered.account_links
    """,
    "account_link_history": "from remembered.account_link_history",
    "account_events": "from remembered.account_events",
    "account_redirects": "from remembered.account_redirects",
    "anchors": "select account_id, anchor_feed, anchor_record_id, anchor_key from remembered.anchors",
    "households": """
        select household_id, account_id, reason from remembered.households join remembered.anchors using (component)
    """,
    "shared_identifiers": 'select * exclude ("value") from remembered.shared_identifiers',
}
"""What is shown of what is remembered, as views of the schema ``identity``: a table that is changed in place is not
written twice."""

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
    announce: Callable[[str], None] | None = None,
) -> IdentitySummary:
    """Write every table of the schema ``identity`` from ``staging.stg_*``; ``previous`` is the last release's database.

    Who is who is a function of the staging tables, the policy, the model and the as-of date alone; only ids, events and
    redirects follow the last release. What is remembered in the database of ``connection`` saves work and changes no
    table. ``announce`` is told each step. Raises duckdb.Error where a staging table is missing or ``previous`` is no
    release.
    """
    policy, model = policy or read_policy(), model or read_model()
    tell = announce or (lambda step: None)
    connection.execute("create schema if not exists identity")
    _drop_working_tables(connection)
    stamps = {"tables": _stamp(model, policy), "scores": score_stamp(model)}
    trusted = open_memory(connection, **stamps)
    read_decisions(connection, as_of)
    write_policies(connection, policy)
    write_model(connection, model, policy.declared_weight)
    tell("reading the records")
    scored = None
    if "tables" not in trusted:
        tell("nothing is remembered that fits: all is resolved anew")
    else:
        try:
            if night.read_changes(connection, tell):
                scored = _resolve_changes(connection, as_of, run_id, previous, policy, model, tell)
        except duckdb.Error as error:
            # A block with a wrong checksum is an error of no class of its own. What is made instead reads none of it.
            if type(error) not in (duckdb.Error, duckdb.IOException):
                raise
            trusted = set()
            tell("what was remembered cannot be read: all is resolved anew")
    if scored is None:
        _drop_working_tables(connection)
        forget(connection, but_scores="scores" in trusted)
        read_decisions(connection, as_of)
        build_people(connection, as_of=as_of, policy=policy, announce=tell)
        scored = _resolve_all(connection, as_of, run_id, previous, policy, model, tell)
    for name, query in _SHOWN.items():
        connection.execute(f"create or replace view identity.{name} as {query}")
    summary = _summarise(connection, scored)
    tell("done")
    _drop_working_tables(connection)
    close_memory(connection, **stamps)
    return summary


def _stamp(model: Model, policy: Policy) -> str:
    """What the tables depend on besides the records: all code and lists of the stage, the model and the policy."""
    sources = sorted(path for path in Path(__file__).parent.rglob("*") if path.suffix in {".py", ".csv"})
    return hash_of([asdict(model), asdict(policy)], sources)


def build_people(
    connection: DuckDBPyConnection, *, as_of: date, policy: Policy, announce: Callable[[str], None]
) -> None:
    """Records, contacts, demoted identifiers, profiles and declared pairs, of everything."""
    distrust(connection)
    build_records(connection)
    announce("standard forms")
    build_contacts(connection, as_of=as_of, policy=policy)
    announce("identifier policy")
    keep(connection, "carried", CARRIED)
    count_people(connection, policy)
    count_uses(connection, policy)
    demote(connection, policy)
    announce("profiles")
    name_contacts(connection)
    named = PROFILE_SPEAKERS.format(named="identity_named", speakers="identity_speakers")
    keep(connection, "profile_speakers", named)
    build_profiles(connection)
    link_declared(connection)


def _resolve_all(
    connection: DuckDBPyConnection,
    as_of: date,
    run_id: str,
    previous: Path | None,
    policy: Policy,
    model: Model,
    tell: Callable[[str], None],
) -> int:
    """Everything that follows from the people; returns how many pairs had to be compared."""
    tell("blocking")
    find_pairs(connection, policy)
    start_scores(connection)
    tell("scoring")
    scored = look_up(connection, model, "identity_pairs")
    judge(connection, model, policy)
    tell("connecting")
    pair_decisions(connection)
    connect_joins(connection)
    pairs_inside(connection, policy)
    scored += look_up(connection, model, "identity_pairs_inside", is_inside=True)
    connection.execute("drop table identity_pairs; drop table identity_pairs_inside; drop table identity_known_scores")
    judge_components(connection, model, policy)
    tell("clustering")
    cluster(connection, policy)
    tell("edges")
    write_edges(connection)
    tell("attribution")
    connection.execute("drop view identity_named")
    attributed_from = ", ".join(ATTRIBUTED_FROM)
    part(connection, "named", f"select {attributed_from} from ({NAMED.format(named='remembered.named')})")
    attribute(connection, policy)
    keep(connection, "decisions", "from identity_decisions_in_force")
    tell("ids")
    read_history(connection, previous)
    write_history(connection)
    name_accounts(connection, as_of=as_of, run_id=run_id)
    redirect(connection, run_id)
    tell("households")
    name_households(connection)
    find_value_carriers(connection)
    connection.execute(
        "create or replace temp view identity_token_names as "
        "select hash(payment_token) as token, payment_token as value from remembered.records "
        "where payment_token is not null"
    )
    find_token_carriers(connection)
    write_shared_identifiers(connection)
    return scored


def _resolve_changes(
    connection: DuckDBPyConnection,
    as_of: date,
    run_id: str,
    previous: Path | None,
    policy: Policy,
    model: Model,
    tell: Callable[[str], None],
) -> int:
    """The same from what the night's changes touch; returns how many pairs had to be compared."""
    is_named = is_named_after(connection, previous)
    before = rules_for(count_rows(connection, "remembered.profiles"))
    night.renew_people(connection, as_of=as_of, policy=policy, tell=tell)
    if rules_for(count_rows(connection, "remembered.profiles")) != before:
        # Other rules find other pairs: the people are known, the rest follows anew.
        night.work_on_all(connection)
        return _resolve_all(connection, as_of, run_id, previous, policy, model, tell)
    scored = night.renew_clusters(connection, policy=policy, model=model, tell=tell)
    night.renew_accounts(
        connection, as_of=as_of, run_id=run_id, previous=previous, is_named=is_named, policy=policy, tell=tell
    )
    return scored


def _summarise(connection: DuckDBPyConnection, scored: int) -> IdentitySummary:
    decisions: dict[str, int] = dict(
        connection.execute("select decision, count(*) from identity.edges group by all").fetchall()
    )
    events: dict[str, int] = dict(
        connection.execute("select event, count(*) from identity_changes group by all").fetchall()
    )
    ((largest,),) = connection.execute(
        """
        select coalesce(max(records), 0)
        from (select count(*) as records from remembered.account_links where is_person_record group by component)
        """
    ).fetchall()
    return IdentitySummary(
        records=count_rows(connection, "identity.records"),
        contacts=count_rows(connection, "remembered.contacts"),
        profiles=count_rows(connection, "remembered.profiles"),
        compared_pairs=count_rows(connection, "remembered.scores"),
        scored_pairs=scored,
        accounts=count_rows(connection, "identity.anchors"),
        linked_records=count_rows(connection, "identity.account_links"),
        accepted_edges=decisions.get("accepted", 0),
        refused_edges=decisions.get("refused", 0),
        demoted_identifiers=count_rows(connection, "identity.demoted_identifiers"),
        conflicts=count_rows(connection, "remembered.contested"),
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
        select kind, name
        from (
            select 'view' as kind, view_name as name from duckdb_views() where temporary
            union all select 'table', table_name from duckdb_tables() where temporary
        )
        where regexp_matches(name, '^(identity|last|household|open|reference|tf)_')
        order by all
        """
    ).fetchall()
    for kind, name in working:
        connection.execute(f'drop {kind} temp."{name}"')
