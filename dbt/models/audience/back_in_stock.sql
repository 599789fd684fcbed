with interests as (
    select
        product_interests.account_id,
        product_interests.product_id,
        product_interests.postal_place,
        product_interests.looked_at,
        product_interests.looked_on
    from {{ ref('product_interests') }} as product_interests
    where product_interests.looked_on > {{ days_before(as_of(), var('interest_days')) }}
),

stock_history as (
    select
        delivered_on,
        location_id,
        product_id,
        coalesce(quantity, {{ var('stock_least') }}) >= {{ var('stock_least') }} as may_be_there
    from {{ ref('stock_history') }}
),

-- The last count before somebody looked. Where none is recent enough nobody knows what was there.
counts as (
    select
        looks.looked_on,
        max(counted.delivered_on) as counted_on
    from (select distinct looked_on from interests) as looks
    inner join (select distinct delivered_on from stock_history) as counted
        on
            looks.looked_on >= counted.delivered_on
            and {{ days_between('counted.delivered_on', 'looks.looked_on') }} < {{ var('stock_valid_days') }}
    group by looks.looked_on
),

looks as (
    select distinct
        interests.postal_place,
        interests.product_id,
        counts.counted_on
    from interests
    inner join counts on interests.looked_on = counts.looked_on
),

had as (
    select
        looks.postal_place,
        looks.product_id,
        looks.counted_on
    from looks
    inner join stock_history
        on
            looks.counted_on = stock_history.delivered_on
            and looks.product_id = stock_history.product_id
    left join {{ ref('store_reach') }} as store_reach
        on
            looks.postal_place = store_reach.postal_place
            and stock_history.location_id = store_reach.store_id
    where
        stock_history.may_be_there
        and (stock_history.location_id = 'web' or store_reach.store_id is not null)
    group by looks.postal_place, looks.product_id, looks.counted_on
),

obtainable_products as (
    select
        postal_place,
        product_id,
        location_id
    from {{ ref('obtainable_products') }}
),

returned as (
    select
        interests.account_id,
        interests.product_id,
        obtainable_products.location_id,
        interests.looked_at,
        interests.looked_on
    from interests
    inner join counts on interests.looked_on = counts.looked_on
    inner join obtainable_products
        on
            interests.postal_place = obtainable_products.postal_place
            and interests.product_id = obtainable_products.product_id
    left join had
        on
            interests.postal_place = had.postal_place
            and interests.product_id = had.product_id
            and counts.counted_on = had.counted_on
    where had.product_id is null
),

-- The product that was looked for last.
back_in_stock as (
    select
        account_id,
        product_id,
        location_id,
        looked_on
    from returned
    qualify row_number() over (partition by account_id order by looked_at desc, product_id) = 1
)

select * from back_in_stock
