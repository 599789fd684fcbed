with days as (
    select
        as_of,
        cast(as_of - interval '{{ var('behaviour_months') }}' month as date) as window_on,
        {{ days_before('as_of', var('new_omnichannel_days')) }} as recent_on
    from {{ source('landing', 'builds') }}
),

transactions as (
    select
        account_id,
        channel,
        kind,
        business_on,
        counted_amount
    from {{ ref('transactions') }}
    where account_id is not null and exclusion is null
),

-- A purchase is a sale that counts. Returns and refunds only lower the amount.
by_account as (
    select
        transactions.account_id,
        min(transactions.business_on) filter (where transactions.kind = 'sale') as first_purchase_on,
        max(transactions.business_on) filter (where transactions.kind = 'sale') as last_purchase_on,
        max(transactions.business_on) filter (
            where transactions.kind = 'sale' and transactions.channel = 'store'
        ) as last_store_purchase_on,
        count(*) filter (
            where transactions.kind = 'sale' and transactions.channel = 'online' and transactions.business_on > days.window_on
        ) as online_purchase_count,
        count(*) filter (
            where transactions.kind = 'sale' and transactions.channel = 'store' and transactions.business_on > days.window_on
        ) as store_purchase_count,
        sum(transactions.counted_amount) filter (where transactions.business_on > days.window_on) as counted_amount,
        count(*) filter (
            where transactions.kind = 'sale' and transactions.channel = 'online' and transactions.business_on <= days.recent_on
        ) as earlier_online_purchase_count,
        count(*) filter (
            where transactions.kind = 'sale' and transactions.channel = 'store' and transactions.business_on <= days.recent_on
        ) as earlier_store_purchase_count,
        count(*) filter (
            where transactions.kind = 'sale' and transactions.channel = 'online' and transactions.business_on > days.recent_on
        ) as recent_online_purchase_count,
        count(*) filter (
            where transactions.kind = 'sale' and transactions.channel = 'store' and transactions.business_on > days.recent_on
        ) as recent_store_purchase_count
    from transactions
    cross join days
    group by transactions.account_id
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
