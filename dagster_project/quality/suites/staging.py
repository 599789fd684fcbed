"""The gate out of staging: was too much refused, and is anything lost between a file and its table?"""

from dagster_project.quality.statements import JUDGED_FEEDS, Statement, Suite, for_each_feed
from dagster_project.quality.suites.freshness import freshness_statements
from dagster_project.quality.suites.landing import JUDGED_DAYS, JUDGED_FILES
from dagster_project.settings import Settings

_HEADERS = {
    # header feed: (line feed, key, what the header adds to its lines)
    "shop_orders": ("shop_order_lines", "order_id", "coalesce(shipping_amount, 0) - coalesce(discount_amount, 0)"),
    "pos_tickets": ("pos_ticket_lines", "ticket_id", "-coalesce(discount_amount, 0)"),
}


def _unbalanced_share(header: str) -> str:
    lines, key, added = _HEADERS[header]
    return f"""
        with tonight as (
            select {key}, total_amount - ({added}) as expected_amount
            from staging.stg_{header}
            where delivered_on in ({JUDGED_DAYS})
        ),
        sums as (
            select {key}, sum(amount) as line_amount
            from staging.stg_{lines}
            where {key} in (select {key} from tonight)
            group by {key}
        )
        select '{header}' as scope, avg(case when sums.line_amount = tonight.expected_amount then 0 else 1 end) as share
        from tonight
        join sums using ({key})
    """


def _refused_share(counts: str, feeds: str = JUDGED_FEEDS) -> str:
    """Per judged feed and day of delivery, the share of rows in quarantine, with its three main causes.

    Of the files that this run must answer for alone: a bad file that comes late is not hidden by its day's good ones.
    ``counts`` is the condition on how many rows were refused.
    """
    return f"""
        with counted as (
            select feed, delivered_on, coalesce(column_name || ' ', '') || rule as cause, count(*) as cause_count
            from staging.quarantine
            where rule <> 'header_missing' and file in ({JUDGED_FILES}) and {feeds}
            group by all
        ),
        causes as (
            select
                *, row_number() over (partition by feed, delivered_on order by cause_count desc, cause) as place
            from counted
        ),
        refused as (
            select
                feed, delivered_on, sum(cause_count) as refused_count,
                string_agg(cause || ' ' || cause_count, ', ' order by place) filter (where place <= 3) as main_causes
            from causes
            group by feed, delivered_on
        ),
        delivered as (
            select feed, delivered_on, sum(row_count) as row_count
            from landing.files
            where file in ({JUDGED_FILES})
            group by all
        )
        select
            refused.feed || ' of ' || refused.delivered_on || ', ' || refused.refused_count || ' rows: '
            || refused.main_causes,
            refused.refused_count / delivered.row_count
        from refused
        join delivered using (feed, delivered_on)
        where refused.refused_count {counts}
    """


def _quarantine_is_small(settings: Settings) -> tuple[Statement, ...]:
    advice = (
        "staging.quarantine_summary names file, cause and first lines; ask the supplier for a corrected file. "
        "«cocanal landing check FILE» shows what is wrong without a run."
    )
    return (
        *for_each_feed(
            Statement(
                "quarantine_is_small",
                _refused_share(f"> {settings.quarantine_stop_rows}"),
                advice,
                most=settings.quarantine_stop_share,
            ),
            settings.quarantine_stop_shares,
        ),
        # Forty consents that are all refused are too few to stop for, and too many to say nothing of.
        Statement(
            "small_deliveries_are_not_refused",
            _refused_share(f"between 2 and {settings.quarantine_stop_rows}", feeds="true"),
            advice,
            most=0.5,
            severity="warn",
        ),
    )


# What became of the delivered rows, and of their money.
_TERMS = ("current", "identical", "superseded", "refused")


def suite(settings: Settings) -> Suite:
    """The staging gate with the limits of this deployment."""
    return Suite(
        stage="staging",
        asset="staging.quarantine",
        statements=(
            *_quarantine_is_small(settings),
            Statement(
                "no_row_is_lost_or_made_up",
                f"""
                select feed, delivered_row_count - erased_row_count
                    - {" - ".join(f"{term}_row_count" for term in _TERMS)}
                from staging.row_counts
                union all
                select feed || ' has no count', 1
                from landing.files
                where feed not in (select feed from staging.row_counts)
                """,
                "staging.row_counts does not add up: delivered rows are not current, identical, superseded, refused "
                "and erased ones. Look at the newest change of the staging models.",
                least=0,
                most=0,
                is_acceptable=False,
            ),
            Statement(
                "no_amount_is_lost_or_made_up",
                f"""
                select feed, delivered_amount - {" - ".join(f"{term}_amount" for term in _TERMS)}
                from staging.row_counts
                where delivered_amount is not null
                """,
                "The amounts in staging.row_counts do not add up: the money in the files is not that of the current, "
                "identical, superseded and refused rows. Look at the newest change of the staging models.",
                least=0,
                most=0,
                is_acceptable=False,
            ),
            Statement(
                "files_do_not_contradict_themselves",
                """
                select feed, conflicting_row_count / nullif(delivered_row_count, 0)
                from staging.row_counts
                """,
                "The same key came twice in one file with different content; one was taken by a hash of the content. "
                "Ask the supplier which is right.",
                most=0.01,
                severity="warn",
            ),
            Statement(
                "few_lines_wait_for_their_header",
                f"""
                with waiting as (
                    select feed, delivered_on, count(*) as waiting_count
                    from staging.quarantine
                    where rule = 'header_missing' and delivered_on in ({JUDGED_DAYS})
                    group by feed, delivered_on
                ),
                delivered as (
                    select feed, delivered_on, sum(row_count) as row_count from landing.files group by all
                )
                select waiting.feed || ' of ' || waiting.delivered_on, waiting.waiting_count / delivered.row_count
                from waiting
                join delivered using (feed, delivered_on)
                """,
                "Lines came without their orders, tickets or refunds; they count as soon as those come.",
                most=0.05,
                severity="warn",
            ),
            Statement(
                "headers_equal_their_lines",
                " union all ".join(f"select * from ({_unbalanced_share(header)}) as {header}" for header in _HEADERS),
                "account.transactions.is_balanced says which; the header's amount is the one that counts.",
                most=0.05,
                severity="warn",
            ),
            *freshness_statements(settings),
        ),
    )
