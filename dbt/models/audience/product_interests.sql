with days as (
    select
        as_of,
        {{ days_before('as_of', [var('interest_days'), var('basket_days')] | max) }} as window_on
    from {{ source('landing', 'builds') }}
),

links as (
    select
        record_id as customer_id,
        account_id
    from {{ source('identity', 'account_links') }}
    where feed = 'shop_customers'
),

-- Nobody is reminded of a product that hurts some people.
products as (
    select product_id
    from {{ ref('stg_products') }}
    where sensitive_topic is null
),

looks as (
    select
        links.account_id,
        web_events.product_id,
        max(web_events.occurred_at) as looked_at,
        max(web_events.occurred_at) filter (where web_events.event = 'cart') as carted_at
    from {{ ref('stg_web_events') }} as web_events
    inner join links on web_events.customer_id = links.customer_id
    inner join products on web_events.product_id = products.product_id
    cross join days
    where
        web_events.event in ('view', 'cart')
        and {{ paris_day('web_events.occurred_at') }} > days.window_on
        and {{ paris_day('web_events.occurred_at') }} <= days.as_of
    group by links.account_id, web_events.product_id
),

purchases as (
    select
        transactions.account_id,
        lines.product_id,
        max(transactions.occurred_at) as bought_at
    from {{ ref('transactions') }} as transactions
    inner join {{ ref('transaction_lines') }} as lines on transactions.transaction_id = lines.transaction_id
    cross join days
    where
        transactions.kind = 'sale'
        and transactions.exclusion is null
        and transactions.account_id is not null
        and transactions.business_on > days.window_on
    group by transactions.account_id, lines.product_id
),

places as (
    select
        account_id,
        postal_place
    from {{ ref('places') }}
),

product_interests as (
    select
        looks.account_id,
        looks.product_id,
        coalesce(places.postal_place, '') as postal_place,
        looks.looked_at,
        {{ paris_day('looks.looked_at') }} as looked_on,
        looks.carted_at,
        {{ paris_day('looks.carted_at') }} as carted_on
    from looks
    left join places on looks.account_id = places.account_id
    left join purchases
        on looks.account_id = purchases.account_id and looks.product_id = purchases.product_id
    where purchases.bought_at is null or purchases.bought_at < looks.looked_at
)

select * from product_interests
