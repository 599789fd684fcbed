with days as (
    select
        as_of,
        {{ days_before('as_of', var('interest_days') + var('stock_valid_days')) }} as window_on
    from {{ source('landing', 'builds') }}
),

wanted as (
    select distinct web_events.product_id
    from {{ ref('stg_web_events') }} as web_events
    cross join days
    where
        web_events.customer_id is not null
        and web_events.event in ('view', 'cart')
        and {{ paris_day('web_events.occurred_at') }} > days.window_on
),

whole_days as (
    select delivery_days.delivered_on
    from (
        {{ delivery_days('stock') | indent(8) }}
    ) as delivery_days
    cross join days
    where delivery_days.is_whole and delivery_days.delivered_on > days.window_on
),

typed as (
    {% if execute %}{{ typed_rows('stock', only=['location_id', 'product_id', 'quantity']) | indent(4) }}
    {%- else %}select * from {{ source('landing', 'stock') }}{% endif %}
),

counted as (
    select
        typed.delivered_on,
        typed.typed_location_id as location_id,
        typed.typed_product_id as product_id,
        {% if execute %}{{ accepted_value('stock', 'quantity') }}{% else %}null{% endif %} as quantity,
        typed.file_no
    from typed
    inner join whole_days on typed.delivered_on = whole_days.delivered_on
    inner join wanted on typed.typed_product_id = wanted.product_id
    where typed.typed_location_id is not null
),

-- What a day says more than once: the last file counts, and in it the greatest quantity.
stock_history as (
    select
        delivered_on,
        location_id,
        product_id,
        quantity
    from counted
    qualify row_number() over (
        partition by delivered_on, location_id, product_id
        order by file_no desc, quantity desc nulls first
    ) = 1
)

select * from stock_history
