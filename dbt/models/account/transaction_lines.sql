with order_lines as (
    select
        'shop_orders' as feed,
        order_id as record_id,
        line_no,
        product_id,
        quantity,
        unit_price,
        amount
    from {{ ref('stg_shop_order_lines') }}
),

ticket_lines as (
    select
        'pos_tickets' as feed,
        ticket_id as record_id,
        line_no,
        product_id,
        quantity,
        unit_price,
        amount
    from {{ ref('stg_pos_ticket_lines') }}
),

-- The contract gives a refund's lines no unit price.
refund_lines as (
    select
        'shop_refunds' as feed,
        refund_id as record_id,
        line_no,
        product_id,
        quantity,
        cast(null as decimal(18, 2)) as unit_price,
        amount
    from {{ ref('stg_shop_refund_lines') }}
),

all_lines as (
    select * from order_lines
    union all
    select * from ticket_lines
    union all
    select * from refund_lines
),

excluded_transactions as (
    select
        feed,
        record_id
    from {{ ref('transactions') }}
    where exclusion is not null
),

returned_tickets as (
    select ticket_id
    from {{ ref('stg_pos_tickets') }}
    where ticket_type = 'return'
),

products as (
    select product_id
    from {{ ref('stg_products') }}
),

-- Excluded transactions and returns are few, so the many lines are joined with them and not with the whole ledger.
transaction_lines as (
    select
        all_lines.feed || ':' || all_lines.record_id as transaction_id,
        all_lines.line_no,
        all_lines.product_id,
        all_lines.quantity,
        all_lines.unit_price,
        all_lines.amount,
        excluded_transactions.record_id is null as is_counted,
        case
            when all_lines.feed = 'shop_refunds' or returned_tickets.ticket_id is not null then all_lines.quantity <= 0
            else all_lines.quantity >= 0
        end as has_usual_sign,
        products.product_id is not null as is_known_product
    from all_lines
    left join excluded_transactions
        on all_lines.feed = excluded_transactions.feed and all_lines.record_id = excluded_transactions.record_id
    left join returned_tickets
        on all_lines.feed = 'pos_tickets' and all_lines.record_id = returned_tickets.ticket_id
    left join products on all_lines.product_id = products.product_id
)

select * from transaction_lines
