with transactions as (
    select * from {{ ref('transactions') }}
),

orders as (
    select order_id
    from {{ ref('stg_shop_orders') }}
),

events as (
    select
        order_id,
        case
            when feed = 'shop_orders' then 'ordered'
            when feed = 'shop_refunds' then 'refunded'
            when kind = 'pickup' then 'picked_up'
            when kind = 'return' then 'returned_in_store'
        end as event,
        transaction_id,
        account_id,
        case when channel = 'store' then store_id end as store_id,
        business_on,
        occurred_at,
        amount
    from transactions
    where order_id is not null
),

-- A till that writes an order's number on an ordinary sale says nothing about the order.
order_events as (
    select
        events.*,
        orders.order_id is not null as is_known_order
    from events
    left join orders on events.order_id = orders.order_id
    where events.event is not null
)

select * from order_events
