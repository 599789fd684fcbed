with links as (
    select
        feed,
        record_id,
        account_id,
        rule,
        confidence
    from {{ source('identity', 'account_links') }}
),

orders as (
    select
        order_id,
        ordered_at,
        status,
        fulfilment,
        pickup_store_id,
        coalesce(shipping_amount, 0) as shipping_amount,
        coalesce(discount_amount, 0) as discount_amount,
        total_amount
    from {{ ref('stg_shop_orders') }}
),

tickets as (
    select
        ticket_id,
        store_id,
        sold_at,
        ticket_type,
        web_order_id,
        original_ticket_id,
        coalesce(discount_amount, 0) as discount_amount,
        total_amount
    from {{ ref('stg_pos_tickets') }}
),

refunds as (
    select
        refund_id,
        order_id,
        customer_id,
        refunded_at,
        total_amount
    from {{ ref('stg_shop_refunds') }}
),

order_line_sums as (
    select
        order_id,
        sum(amount) as line_amount
    from {{ ref('stg_shop_order_lines') }}
    group by order_id
),

ticket_line_sums as (
    select
        ticket_id,
        sum(amount) as line_amount
    from {{ ref('stg_pos_ticket_lines') }}
    group by ticket_id
),

refund_line_sums as (
    select
        refund_id,
        sum(amount) as line_amount
    from {{ ref('stg_shop_refund_lines') }}
    group by refund_id
),

stores as (
    select store_id
    from {{ ref('stg_stores') }}
),

order_transactions as (
    select
        'shop_orders' as feed,
        orders.order_id as record_id,
        links.account_id,
        links.rule,
        links.confidence,
        'online' as channel,
        'sale' as kind,
        orders.ordered_at as occurred_at,
        orders.pickup_store_id as store_id,
        orders.order_id,
        orders.status,
        orders.fulfilment,
        orders.total_amount as amount,
        case when orders.status in ('cancelled', 'refunded') then orders.status end as exclusion,
        coalesce(order_line_sums.line_amount, 0) as line_amount,
        orders.shipping_amount,
        orders.discount_amount
    from orders
    left join order_line_sums on orders.order_id = order_line_sums.order_id
    left join links on links.feed = 'shop_orders' and orders.order_id = links.record_id
),

-- A ticket of an online order is an event of that order: it counts nothing of its own, whatever its total says.
ticket_transactions as (
    select
        'pos_tickets' as feed,
        tickets.ticket_id as record_id,
        coalesce(links.account_id, order_links.account_id, original_links.account_id) as account_id,
        case
            when links.account_id is not null then links.rule
            when order_links.account_id is not null then 'order_link'
            when original_links.account_id is not null then 'original_ticket_link'
        end as rule,
        case
            when links.account_id is not null then links.confidence
            when order_links.account_id is not null then order_links.confidence
            else original_links.confidence
        end as confidence,
        'store' as channel,
        tickets.ticket_type as kind,
        tickets.sold_at as occurred_at,
        tickets.store_id,
        tickets.web_order_id as order_id,
        cast(null as string) as status,
        cast(null as string) as fulfilment,
        tickets.total_amount as amount,
        case
            when tickets.ticket_type = 'pickup' then 'pickup'
            when tickets.ticket_type = 'return' and tickets.web_order_id is not null then 'return_of_online_order'
        end as exclusion,
        coalesce(ticket_line_sums.line_amount, 0) as line_amount,
        cast(0 as decimal(18, 2)) as shipping_amount,
        tickets.discount_amount
    from tickets
    left join ticket_line_sums on tickets.ticket_id = ticket_line_sums.ticket_id
    left join links on links.feed = 'pos_tickets' and tickets.ticket_id = links.record_id
    left join links as order_links
        on
            order_links.feed = 'shop_orders'
            and tickets.ticket_type in ('pickup', 'return')
            and tickets.web_order_id = order_links.record_id
    left join links as original_links
        on
            original_links.feed = 'pos_tickets'
            and tickets.ticket_type = 'return'
            and tickets.original_ticket_id = original_links.record_id
),

refund_transactions as (
    select
        'shop_refunds' as feed,
        refunds.refund_id as record_id,
        coalesce(order_links.account_id, customer_links.account_id) as account_id,
        case
            when order_links.account_id is not null then 'order_link'
            when customer_links.account_id is not null then 'refund_customer'
        end as rule,
        case
            when order_links.account_id is not null then order_links.confidence
            else customer_links.confidence
        end as confidence,
        'online' as channel,
        'refund' as kind,
        refunds.refunded_at as occurred_at,
        cast(null as string) as store_id,
        refunds.order_id,
        cast(null as string) as status,
        cast(null as string) as fulfilment,
        refunds.total_amount as amount,
        case when orders.status in ('cancelled', 'refunded') then 'refund_of_excluded_order' end as exclusion,
        coalesce(refund_line_sums.line_amount, 0) as line_amount,
        cast(0 as decimal(18, 2)) as shipping_amount,
        cast(0 as decimal(18, 2)) as discount_amount
    from refunds
    left join orders on refunds.order_id = orders.order_id
    left join refund_line_sums on refunds.refund_id = refund_line_sums.refund_id
    left join links as order_links
        on order_links.feed = 'shop_orders' and refunds.order_id = order_links.record_id
    left join links as customer_links
        on customer_links.feed = 'shop_customers' and refunds.customer_id = customer_links.record_id
),

all_transactions as (
    select * from order_transactions
    union all
    select * from ticket_transactions
    union all
    select * from refund_transactions
),

explained as (
    select
        *,
        amount - line_amount - shipping_amount + discount_amount as gap_amount
    from all_transactions
),

transactions as (
    select
        explained.feed || ':' || explained.record_id as transaction_id,
        explained.feed,
        explained.record_id,
        explained.account_id,
        explained.rule,
        explained.confidence,
        explained.channel,
        explained.kind,
        {{ paris_day('explained.occurred_at') }} as business_on,
        explained.occurred_at,
        explained.store_id,
        explained.order_id,
        explained.status,
        explained.fulfilment,
        explained.amount,
        cast(
            case when explained.exclusion is null then explained.amount else 0 end as decimal(18, 2)
        ) as counted_amount,
        explained.exclusion,
        cast(explained.line_amount as decimal(18, 2)) as line_amount,
        cast(explained.shipping_amount as decimal(18, 2)) as shipping_amount,
        cast(explained.discount_amount as decimal(18, 2)) as discount_amount,
        -- A pickup paid at the counter may keep its lines at nought; shipping given back is in no line of a refund.
        case
            when explained.kind = 'pickup'
                then explained.gap_amount = 0 or explained.line_amount = 0
            when explained.kind = 'refund' then explained.gap_amount <= 0
            else explained.gap_amount = 0
        end as is_balanced,
        cast(explained.gap_amount as decimal(18, 2)) as gap_amount,
        case
            when explained.kind in ('return', 'refund') then explained.amount <= 0
            else explained.amount >= 0
        end as has_usual_sign,
        case when explained.store_id is not null then stores.store_id is not null end as is_known_store
    from explained
    left join stores on explained.store_id = stores.store_id
)

select * from transactions
