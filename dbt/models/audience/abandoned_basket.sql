with baskets as (
    select
        account_id,
        product_id,
        postal_place,
        carted_at,
        carted_on
    from {{ ref('product_interests') }}
    where carted_on > {{ days_before(as_of(), var('basket_days')) }}
),

obtainable_products as (
    select
        postal_place,
        product_id,
        location_id
    from {{ ref('obtainable_products') }}
),

products as (
    select
        product_id,
        category,
        price
    from {{ ref('stg_products') }}
    where sensitive_topic is null
),

stock as (
    select
        stock.location_id,
        products.product_id,
        products.category,
        products.price
    from {{ ref('stg_stock') }} as stock
    inner join products on stock.product_id = products.product_id
    where stock.quantity >= {{ var('stock_least') }}
),

store_reach as (
    select
        postal_place,
        store_id,
        nearness
    from {{ ref('store_reach') }}
    where is_trading
),

-- Per postcode and product, not per account: what is sold out is sold out for everybody there.
missing as (
    select distinct
        baskets.postal_place,
        baskets.product_id,
        products.category,
        products.price
    from baskets
    inner join products on baskets.product_id = products.product_id
    left join obtainable_products
        on
            baskets.postal_place = obtainable_products.postal_place
            and baskets.product_id = obtainable_products.product_id
    where obtainable_products.product_id is null
),

offers as (
    select
        missing.postal_place,
        missing.product_id,
        stock.product_id as alternative_id,
        stock.location_id,
        0 as nearness,
        abs(stock.price - missing.price) as price_gap
    from missing
    inner join stock on missing.category = stock.category
    where stock.location_id = 'web'
    union all
    select
        missing.postal_place,
        missing.product_id,
        stock.product_id as alternative_id,
        stock.location_id,
        store_reach.nearness,
        abs(stock.price - missing.price) as price_gap
    from missing
    inner join store_reach on missing.postal_place = store_reach.postal_place
    inner join stock on missing.category = stock.category and store_reach.store_id = stock.location_id
),

alternatives as (
    select
        postal_place,
        product_id,
        alternative_id,
        location_id
    from offers
    qualify row_number() over (
        partition by postal_place, product_id order by price_gap, nearness, alternative_id
    ) = 1
),

suggested as (
    select
        baskets.account_id,
        baskets.carted_at,
        baskets.carted_on,
        baskets.product_id as carted_product_id,
        coalesce(obtainable_products.product_id, alternatives.alternative_id) as product_id,
        coalesce(obtainable_products.location_id, alternatives.location_id) as location_id,
        obtainable_products.product_id is null as is_alternative
    from baskets
    left join obtainable_products
        on
            baskets.postal_place = obtainable_products.postal_place
            and baskets.product_id = obtainable_products.product_id
    left join alternatives
        on
            baskets.postal_place = alternatives.postal_place
            and baskets.product_id = alternatives.product_id
),

-- What is there goes before what is like it, then what was put into the basket last.
abandoned_basket as (
    select
        account_id,
        product_id,
        location_id,
        is_alternative,
        carted_on
    from suggested
    where product_id is not null
    qualify row_number() over (
        partition by account_id order by is_alternative, carted_at desc, carted_product_id
    ) = 1
)

select * from abandoned_basket
