"""The gate out of segment: has each account one segment per scheme, and do the segments look like last time's?"""

from dagster_project.quality.statements import Statement, Suite


def suite() -> Suite:
    """The segment gate."""
    return Suite(
        stage="segment",
        asset="segment.account_segments",
        statements=(
            Statement(
                "each_account_has_one_segment_per_scheme",
                """
                with schemes as (select distinct scheme from segment.account_segments),
                wanted as (
                    select schemes.scheme, count(*) as account_count
                    from schemes
                    cross join account.accounts
                    group by schemes.scheme
                ),
                found as (
                    select scheme, count(*) as row_count, count(distinct account_id) as account_count
                    from segment.account_segments
                    where segment is not null
                    group by scheme
                )
                select
                    wanted.scheme,
                    abs(wanted.account_count - coalesce(found.account_count, 0))
                    + coalesce(found.row_count - found.account_count, 0)
                from wanted
                left join found using (scheme)
                """,
                "An account has no segment or two: look at the newest change of the segment models.",
                most=0,
                is_acceptable=False,
            ),
            Statement(
                "shares_stay_near_the_last_release",
                "select scheme, sum(index_part) from segment.drift group by scheme",
                "The shares of a scheme's segments have moved a lot (population stability index above 1): look at "
                "segment.drift before anything is sent.",
                most=1,
            ),
            Statement(
                "shares_hardly_drift",
                "select scheme, sum(index_part) from segment.drift group by scheme",
                "The population stability index is above 0.25, the usual bound of a significant shift: segment.drift "
                "says which segments moved.",
                most=0.25,
                severity="warn",
            ),
            Statement(
                "segments_can_be_trusted",
                """
                select scheme, avg((not is_trustworthy)::integer)
                from segment.account_segments
                group by scheme
                """,
                "Much of what the segments look at lies in days on which the shops were closed.",
                most=0.5,
                severity="warn",
            ),
        ),
    )
