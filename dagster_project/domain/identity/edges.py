"""The pairs that an engineer or a steward may ask about, as rows: accepted, refused, undecided.

What belongs here: how verdicts become the published tables. What does not: the verdicts.
"""

from duckdb import DuckDBPyConnection

from dagster_project.domain.identity.model import GAMMAS
from dagster_project.domain.identity.verdicts import EVIDENCE, RULE, SHARES_IDENTIFIER


def write_edges(connection: DuckDBPyConnection) -> None:
    """Write ``identity.edges``: one row per accepted, refused or undecided pair of records and rule.

    A profile stands in the edges as its best-known record; records of one profile need no edge. Refused are the pairs
    that share an identifier or weigh enough, and yet are not joined. Cost grows with the pairs that say something.
    """
    gammas = ", ".join(f"verdicts.{gamma}" for gamma in GAMMAS)
    connection.execute(
        f"""
        create or replace table identity.edges as
        with kept as (
            select verdicts.*,
                case
                    when verdicts.joins and refusals.reason is null then 'accepted'
                    when verdicts.reason = 'too_little_evidence' and not coalesce({SHARES_IDENTIFIER}, false)
                        then 'undecided'
                    else 'refused'
                end as decision,
                coalesce(refusals.reason, verdicts.reason) as refusal
            from identity_verdicts as verdicts left join identity_refusals as refusals using (l, r)
            where verdicts.is_telling
        )
        select
            lefts.feed as left_feed, lefts.record_id as left_record_id,
            rights.feed as right_feed, rights.record_id as right_record_id,
            {RULE} as rule,
            decision, refusal as reason, cast(weight as double) as weight, {EVIDENCE} as evidence, {gammas}
        from kept as verdicts
        join identity_profiles as lefts on lefts.profile_id = verdicts.l
        join identity_profiles as rights on rights.profile_id = verdicts.r
        union all
        select
            lefts.feed, lefts.record_id, rights.feed, rights.record_id, 'decision',
            case when decided.decision = 'same' and ones.component = others.component then 'accepted'
                else 'refused' end,
            case when decided.decision = 'same' and ones.component = others.component then null
                else 'declared_different' end,
            null, 'decided by a steward', {", ".join("null" for _ in GAMMAS)}
        from identity_decided as decided
        join identity_profiles as lefts on lefts.profile_id = decided.l
        join identity_profiles as rights on rights.profile_id = decided.r
        join identity_labels as ones on ones.profile_id = decided.l
        join identity_labels as others on others.profile_id = decided.r
        """
    )
