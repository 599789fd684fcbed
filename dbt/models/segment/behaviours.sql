with days as (
    select
        as_of,
        cast(as_of - interval '{{ var('behaviour_months') }}' month as date) as window_on,
        {{ days_before('as_of', var('new_omnichannel_days')) }} as recent_on
    from {{ source('landing', 'builds') }}
),

-- A purchase is a sale that counts. Returns and refunds only lower the amount.
counted as (
    select
        transactions.account_id,
        transactions.business_on,
        transactions.counted_amount,
        transactions.kind = 'sale' as is_purchase,
        transactions.kind = 'sale' and transactions.channel = 'online' as is_online,
        transactions.kind = 'sale' and transactions.channel = 'store' as is_store,
        transactions.business_on > days.window_on as is_in_window,
        transactions.business_on > days.recent_on as is_recent
    from {{ ref('transactions') }} as transactions
    cross join days
    where transactions.account_id is not null and transactions.exclusion is null
),

by_account as (
    select
        account_id,
        min(business_on) filter (where is_purchase) as first_purchase_on,
        max(business_on) filter (where is_purchase) as last_purchase_on,
        max(business_on) filter (where is_store) as last_store_purchase_on,
        count(*) filter (where is_online and is_in_window) as online_purchase_count,
        count(*) filter (where is_store and is_in_window) as store_purchase_count,
        sum(counted_amount) filter (where is_in_window) as counted_amount,
        count(*) filter (where is_online and not is_recent) as earlier_online_purchase_count,
        count(*) filter (where is_store and not is_recent) as earlier_store_purchase_count,
        count(*) filter (where is_online and is_recent) as recent_online_purchase_count,
        count(*) filter (where is_store and is_recent) as recent_store_purchase_count
    from counted
    group by account_id
),

behaviours as (
    select
        by_account.account_id,
        by_account.first_purchase_on,
        by_account.last_purchase_on,
        by_account.last_store_purchase_on,
        -- A till a day ahead does not make a purchase lie in the future.
        greatest({{ days_between('by_account.last_purchase_on', 'days.as_of') }}, 0) as recency_days,
        by_account.online_purchase_count + by_account.store_purchase_count as purchase_count,
        by_account.online_purchase_count,
        by_account.store_purchase_count,
        cast(coalesce(by_account.counted_amount, 0) as decimal(18, 2)) as counted_amount,
        by_account.earlier_online_purchase_count,
        by_account.earlier_store_purchase_count,
        by_account.recent_online_purchase_count,
        by_account.recent_store_purchase_count
    from by_account
    cross join days
    where by_account.first_purchase_on is not null
)

select * from behaviours
