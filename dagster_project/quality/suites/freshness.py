"""Statements about what did not come: shops that have gone silent. Part of the staging gate, which sees tickets typed.

A shop is judged against its own history, on days on which it opens. Whether a feed came at all, and how much of it, is
judged in ``landing``.
"""

from dagster_project.quality.statements import Statement
from dagster_project.settings import Settings

# So many weeks say what a shop usually sells on a weekday; after as many without a ticket it is taken for closed.
_HISTORY_DAYS = 56


def _missed_tickets() -> str:
    """Per shop that sold something in the last weeks: how many tickets it usually sells on the days since its last one.

    Days that count are complete (before the as-of date), the chain's other shops sold on them (at least half of those
    of the week before), and the shop was open: by ``store_hours`` where they tell, and not after its ``closed_on``.
    What is usual on a weekday is the median over such days of the eight weeks up to the last ticket, days without a
    ticket among them; so a shop that rests on Sundays misses nothing then.
    """
    return f"""
        with sold as (
            select
                store_id, timezone('Europe/Paris', timezone('UTC', sold_at))::date as business_on,
                count(*) as ticket_count
            from staging.stg_pos_tickets
            where sold_at > (select as_of from landing.builds) - {2 * _HISTORY_DAYS + 1}
            group by all
        ),
        days as (
            select business_on, count(*) as store_count
            from sold
            where business_on < (select as_of from landing.builds)
            group by business_on
        ),
        chain_days as (
            select days.business_on
            from days
            where 2 * store_count >= (
                select count(distinct store_id)
                from sold
                where sold.business_on between days.business_on - 7 and days.business_on - 1
            )
        ),
        shops as (
            select sold.store_id, max(business_on) as last_on, any_value(stores.closed_on) as closed_on
            from sold
            left join staging.stg_stores as stores using (store_id)
            group by sold.store_id
            having max(business_on) >= (select as_of from landing.builds) - {_HISTORY_DAYS}
        ),
        open_days as (
            select
                shops.store_id, shops.last_on, chain_days.business_on, coalesce(sold.ticket_count, 0) as ticket_count
            from shops
            cross join chain_days
            left join staging.stg_store_hours as hours
                on hours.store_id = shops.store_id and hours.day = chain_days.business_on
            left join sold on sold.store_id = shops.store_id and sold.business_on = chain_days.business_on
            where
                chain_days.business_on > shops.last_on - {_HISTORY_DAYS}
                and (shops.closed_on is null or chain_days.business_on <= shops.closed_on)
                and (hours.is_open or hours.is_open is null or sold.ticket_count > 0)
        ),
        usual as (
            select
                store_id, dayofweek(business_on) as weekday, median(ticket_count) as ticket_count,
                count(*) as day_count
            from open_days
            where business_on <= last_on
            group by all
        )
        select
            'shop ' || open_days.store_id || ', last ticket on ' || open_days.last_on || ', usually '
            || round(sum(usual.ticket_count))::bigint || ' since',
            sum(usual.ticket_count)
        from open_days
        join usual on usual.store_id = open_days.store_id and usual.weekday = dayofweek(open_days.business_on)
        where open_days.business_on > open_days.last_on and usual.day_count >= 3
        group by open_days.store_id, open_days.last_on
    """


def freshness_statements(settings: Settings) -> tuple[Statement, ...]:
    """What the staging gate says about silence, with the limits of this deployment."""
    return (
        Statement(
            "no_shop_has_gone_silent",
            _missed_tickets(),
            "The number is how many tickets such a shop usually sells on the days since its last one. Ask the shop, or "
            "who collects its tills; if it is closed, deliver that in store_hours or in closed_on of stores.",
            most=settings.silence_most_tickets,
            severity=settings.silence_action,
        ),
    )
