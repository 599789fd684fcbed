"""The pairs that an engineer or a steward may ask about, as rows: accepted, refused, undecided.

What belongs here: how verdicts become the published tables. What does not: the verdicts.
"""

from duckdb import DuckDBPyConnection

from dagster_project.domain.identity.model import GAMMAS
from dagster_project.domain.identity.records import FIRST
from dagster_project.domain.identity.remembered import Write, keep
from dagster_project.domain.identity.verdicts import EVIDENCE, RULE, SHARES_IDENTIFIER


def write_edges(connection: DuckDBPyConnection, write: Write = keep, of: str = "") -> None:
    """Write ``identity.edges``: one row per accepted, refused or undecided pair of records and rule.

    A profile stands in the edges as its best-known record; records of one profile need no edge. On the left stands the
    record that knows its person better. Refused are the pairs that share an identifier or weigh enough, and yet are not
    joined. Cost grows with the pairs that say something. ``of`` names a table (l, r): these pairs only.
    """
    among = f"(l, r) in (select l, r from {of})" if of else "true"
    lefts, rights = (f"({', '.join(f'{side}.{name}' for name in FIRST)})" for side in ("lefts", "rights"))
    gammas = ", ".join(f"verdicts.{gamma}" for gamma in GAMMAS)
    write(
        connection,
        "edges",
        f"""
        with kept as (
            select verdicts.*,
                case
                    when verdicts.joins and refusals.reason is null then 'accepted'
                    when verdicts.reason = 'too_little_evidence' and not coalesce({SHARES_IDENTIFIER}, false)
                        then 'undecided'
                    else 'refused'
                end as decision,
                coalesce(refusals.reason, verdicts.reason) as refusal
            from remembered.verdicts as verdicts left join remembered.refusals as refusals using (l, r)
            where verdicts.is_telling and {among}
        ),
        pairs as (
            select l, r, {RULE} as rule, decision, refusal as reason, cast(weight as double) as weight,
                {EVIDENCE} as evidence, {gammas}
            from kept as verdicts
            union all
            select l, r, 'decision',
                case when decided.decision = 'same' and ones.component = others.component then 'accepted'
                    else 'refused' end,
                case when decided.decision = 'same' and ones.component = others.component then null
                    else 'declared_different' end,
                null, 'decided by a steward', {", ".join("null" for _ in GAMMAS)}
            from (from remembered.decided where {among}) as decided
            join remembered.labels as ones on ones.profile_id = decided.l
            join remembered.labels as others on others.profile_id = decided.r
        ),
        turned as (
            select pairs.*, lefts.feed as one_feed, lefts.record_id as one_id,
                rights.feed as other_feed, rights.record_id as other_id, {lefts} > {rights} as is_turned
            from pairs
            join remembered.profile_speakers as lefts on lefts.profile_id = pairs.l
            join remembered.profile_speakers as rights on rights.profile_id = pairs.r
        )
        select
            case when is_turned then other_feed else one_feed end as left_feed,
            case when is_turned then other_id else one_id end as left_record_id,
            case when is_turned then one_feed else other_feed end as right_feed,
            case when is_turned then one_id else other_id end as right_record_id,
            * exclude (one_feed, one_id, other_feed, other_id, is_turned)
        from turned
        """,
    )
