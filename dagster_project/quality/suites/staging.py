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
    kept = " union all ".join(
        f"select '{feed}' as feed, count(*) as kept_count from staging.stg_{feed}" for feed in feeds()
    )
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
                with kept as ({kept}),
                delivered as (select feed, sum(row_count) as row_count from landing.files group by feed),
                refused as (select feed, count(*) as refused_count from staging.quarantine group by feed)
                select
                    delivered.feed,
                    case
                        when kept.kept_count + coalesce(refused.refused_count, 0) > delivered.row_count
                            then kept.kept_count + coalesce(refused.refused_count, 0) - delivered.row_count
                        when kept.kept_count = 0 and coalesce(refused.refused_count, 0) < delivered.row_count
                            then delivered.row_count - coalesce(refused.refused_count, 0)
                        else 0
                    end
                from delivered
                join kept using (feed)
                left join refused using (feed)
                """,
                "More rows came out of staging than went in, or none did: look at the newest change of the staging "
                "models.",
                most=0,
                is_acceptable=False,
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
