with wanted as (
    select distinct
        postal_place,
        product_id
    from {{ ref('product_interests') }}
),

stock as (
    select
        location_id,
        product_id
    from {{ ref('stg_stock') }}
    where quantity >= {{ var('stock_least') }}
),

store_reach as (
    select
        postal_place,
        store_id,
        nearness
    from {{ ref('store_reach') }}
    where is_trading
),

found as (
    select
        wanted.postal_place,
        wanted.product_id,
        stock.location_id,
        0 as nearness
    from wanted
    inner join stock on wanted.product_id = stock.product_id
    where stock.location_id = 'web'
    union all
    select
        wanted.postal_place,
        wanted.product_id,
        stock.location_id,
        store_reach.nearness
    from wanted
    inner join store_reach on wanted.postal_place = store_reach.postal_place
    inner join stock
        on wanted.product_id = stock.product_id and store_reach.store_id = stock.location_id
),

obtainable_products as (
    select
        postal_place,
        product_id,
        location_id
    from found
    qualify row_number() over (partition by postal_place, product_id order by nearness) = 1
)

select * from obtainable_products
