{%- set exclusions = ['cancelled', 'refunded', 'pickup', 'return_of_online_order', 'refund_of_excluded_order'] -%}

-- What was delivered is summed from staging, what counts from the ledger: a row lost between them shows.
with delivered_rows as (
    select
        'online' as channel,
        ordered_at as occurred_at,
        total_amount as amount
    from {{ ref('stg_shop_orders') }}
    union all
    select
        'online' as channel,
        refunded_at as occurred_at,
        total_amount as amount
    from {{ ref('stg_shop_refunds') }}
    union all
    select
        'store' as channel,
        sold_at as occurred_at,
        total_amount as amount
    from {{ ref('stg_pos_tickets') }}
),

delivered as (
    select
        channel,
        {{ paris_day('occurred_at') }} as business_on,
        sum(amount) as delivered_amount,
        count(*) as delivered_count
    from delivered_rows
    group by 1, 2
),

booked as (
    select
        channel,
        business_on,
        sum(counted_amount) as counted_amount,
        sum(case when exclusion is not null then amount else 0 end) as excluded_amount,
        count(*) as booked_count,
        count(exclusion) as excluded_count,
        sum(case when account_id is not null then counted_amount else 0 end) as identified_amount,
        sum(case when account_id is null then counted_amount else 0 end) as anonymous_amount,
        {%- for exclusion in exclusions %}
        sum(case when exclusion = '{{ exclusion }}' then amount else 0 end) as {{ exclusion }}_amount,
        {%- endfor %}
        count(account_id) as identified_count
    from {{ ref('transactions') }}
    group by channel, business_on
),

reconciliation as (
    select
        coalesce(delivered.channel, booked.channel) as channel,
        coalesce(delivered.business_on, booked.business_on) as business_on,
        cast(coalesce(delivered.delivered_amount, 0) as decimal(18, 2)) as delivered_amount,
        cast(coalesce(booked.counted_amount, 0) as decimal(18, 2)) as counted_amount,
        cast(coalesce(booked.excluded_amount, 0) as decimal(18, 2)) as excluded_amount,
        {%- for exclusion in exclusions %}
        cast(coalesce(booked.{{ exclusion }}_amount, 0) as decimal(18, 2)) as {{ exclusion }}_amount,
        {%- endfor %}
        cast(coalesce(booked.identified_amount, 0) as decimal(18, 2)) as identified_amount,
        cast(coalesce(booked.anonymous_amount, 0) as decimal(18, 2)) as anonymous_amount,
        coalesce(delivered.delivered_count, 0) as delivered_count,
        coalesce(booked.booked_count, 0) - coalesce(booked.excluded_count, 0) as counted_count,
        coalesce(booked.excluded_count, 0) as excluded_count,
        coalesce(booked.identified_count, 0) as identified_count
    from delivered
    full join booked
        on delivered.channel = booked.channel and delivered.business_on = booked.business_on
)

select * from reconciliation
