"""The gate out of staging: was too much refused, and is anything lost between a file and its table?"""

from dagster_project.domain.contract import feeds
from dagster_project.quality.statements import Statement, Suite
from dagster_project.quality.suites.landing import JUDGED_DAYS
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


def suite(settings: Settings) -> Suite:
    """The staging gate with the limits of this deployment."""
    reference = ", ".join(f"'{feed.name}'" for feed in feeds().values() if feed.whole_table)
    return Suite(
        stage="staging",
        asset="staging.quarantine",
        statements=(
            Statement(
                "quarantine_is_small",
                f"""
                with refused as (
                    select
                        feed, delivered_on, count(*) as refused_count,
                        mode(coalesce(column_name || ' ', '') || rule) as cause
                    from staging.quarantine
                    where rule <> 'header_missing' and delivered_on in ({JUDGED_DAYS})
                    group by feed, delivered_on
                ),
                delivered as (
                    select feed, delivered_on, sum(row_count) as row_count from landing.files group by all
                )
                select
                    refused.feed || ' of ' || refused.delivered_on || ', mostly ' || refused.cause,
                    refused.refused_count / delivered.row_count
                from refused
                join delivered using (feed, delivered_on)
                where refused.refused_count > {settings.quarantine_stop_rows}
                """,
                "staging.quarantine names file, line and cause; ask the supplier for a corrected file. "
                "«cocanal landing check FILE» shows what is wrong without a run.",
                most=settings.quarantine_stop_share,
            ),
            Statement(
                "no_row_is_lost_or_made_up",
                f"""
                select feed, replaced_row_count
                from staging.row_counts
                where feed not in ({reference}) or replaced_row_count < 0
                """,
                "staging.row_counts does not add up: delivered rows are not current, identical, superseded and refused "
                "ones. Look at the newest change of the staging models.",
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
        ),
    )
