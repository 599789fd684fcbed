with order_events as (
    select * from {{ ref('order_events') }}
),

settled_orders as (
    select order_id
    from {{ ref('stg_shop_orders') }}
    where status in ('cancelled', 'refunded')
),

refunds as (
    select
        order_id,
        -sum(amount) as refunded_amount
    from order_events
    where event = 'refunded'
    group by order_id
),

returns as (
    select
        *,
        -amount as returned_amount,
        sum(-amount) over (
            partition by order_id
            order by occurred_at, transaction_id
            rows between unbounded preceding and current row
        ) as returned_so_far_amount
    from order_events
    where event = 'returned_in_store' and amount < 0
),

-- What an order was refunded goes to its oldest returns first: of each, what the rest does not reach is outstanding.
allocated as (
    select
        returns.store_id,
        returns.order_id,
        returns.transaction_id,
        substr(returns.transaction_id, length('pos_tickets:') + 1) as ticket_id,
        returns.account_id,
        returns.business_on,
        returns.returned_amount,
        least(
            returns.returned_amount,
            greatest(returns.returned_so_far_amount - coalesce(refunds.refunded_amount, 0), 0)
        ) as outstanding_amount,
        {{ days_between('returns.business_on', as_of()) }} as days_open,
        returns.is_known_order
    from returns
    left join refunds on returns.order_id = refunds.order_id
    where not exists (select 1 from settled_orders where settled_orders.order_id = returns.order_id)
),

unrefunded_returns as (
    select
        store_id,
        order_id,
        ticket_id,
        transaction_id,
        account_id,
        business_on,
        cast(returned_amount as decimal(18, 2)) as returned_amount,
        cast(outstanding_amount as decimal(18, 2)) as outstanding_amount,
        days_open,
        is_known_order
    from allocated
    where outstanding_amount > 0 and days_open >= {{ var('refund_due_days') }}
)

select * from unrefunded_returns
