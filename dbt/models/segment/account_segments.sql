with accounts as (
    select account_id
    from {{ ref('accounts') }}
),

profiling as (
    select
        account_id,
        is_allowed
    from {{ ref('profiling') }}
),

days as (
    select
        as_of,
        cast(as_of - interval '{{ var('behaviour_months') }}' month as date) as window_on
    from {{ source('landing', 'builds') }}
),

behaviours as (
    select
        account_id,
        first_purchase_on,
        last_purchase_on,
        last_store_purchase_on,
        recency_days,
        purchase_count,
        online_purchase_count,
        store_purchase_count
    from {{ ref('behaviours') }}
),

rfm_scores as (
    select
        account_id,
        recency_score,
        frequency_score,
        monetary_score
    from {{ ref('rfm_scores') }}
),

closures as (
    select
        first_on,
        last_on
    from {{ ref('closures') }}
),

-- How many days of what a scheme looks at the shops were closed, for those who ever bought in one: since the last
-- purchase (how long someone has been silent), and since they came or the window opened (where they buy).
closed as (
    select
        behaviours.account_id,
        sum(greatest(
            {{ days_between(
                'greatest(closures.first_on, behaviours.last_purchase_on)', 'least(closures.last_on, days.as_of)'
            ) }} + 1, 0
        )) as silent_closed_days,
        sum(greatest(
            {{ days_between(
                'greatest(closures.first_on, behaviours.first_purchase_on, days.window_on)',
                'least(closures.last_on, days.as_of)'
            ) }} + 1, 0
        )) as window_closed_days
    from behaviours
    cross join closures
    cross join days
    where behaviours.last_store_purchase_on is not null
    group by behaviours.account_id
),

described as (
    select
        accounts.account_id,
        case
            {{ unless_profiled('rfm') }}
            when rfm_scores.account_id is null then 'no_purchase'
            when rfm_scores.recency_score >= 4 and rfm_scores.frequency_score >= 4 and rfm_scores.monetary_score >= 4
                then 'champions'
            when rfm_scores.recency_score >= 3 and rfm_scores.frequency_score >= 4 then 'loyal'
            when rfm_scores.recency_score >= 3 and rfm_scores.monetary_score >= 4 then 'big_spenders'
            when rfm_scores.recency_score >= 4 then 'recent'
            when rfm_scores.recency_score = 3 then 'regular'
            when rfm_scores.frequency_score >= 4 or rfm_scores.monetary_score >= 4 then 'slipping'
            else 'dormant'
        end as rfm,
        case
            {{ unless_profiled('lifecycle') }}
            when behaviours.account_id is null then 'prospect'
            when {{ days_between('behaviours.first_purchase_on', 'days.as_of') }} <= {{ var('lifecycle_new_days') }}
                then 'new'
            when behaviours.recency_days <= {{ var('lifecycle_active_days') }} then 'active'
            when behaviours.recency_days <= {{ var('lifecycle_at_risk_days') }} then 'at_risk'
            else 'lapsed'
        end as lifecycle,
        case
            {{ unless_profiled('channel_preference') }}
            when coalesce(behaviours.purchase_count, 0) = 0 then 'none'
            when behaviours.store_purchase_count >= {{ var('channel_preference_share') }} * behaviours.purchase_count
                then 'store'
            when behaviours.online_purchase_count >= {{ var('channel_preference_share') }} * behaviours.purchase_count
                then 'online'
            else 'both'
        end as channel_preference,
        coalesce(closed.silent_closed_days, 0)
        <= {{ var('closed_share') }} * greatest(behaviours.recency_days, 1) as is_silence_trustworthy,
        coalesce(closed.window_closed_days, 0) <= {{ var('closed_share') }} * greatest(
            {{ days_between('greatest(behaviours.first_purchase_on, days.window_on)', 'days.as_of') }}, 1
        ) as is_window_trustworthy
    from accounts
    cross join days
    left join profiling on accounts.account_id = profiling.account_id
    left join behaviours on accounts.account_id = behaviours.account_id
    left join rfm_scores on accounts.account_id = rfm_scores.account_id
    left join closed on accounts.account_id = closed.account_id
),

account_segments as (
    select
        account_id,
        'rfm' as scheme,
        rfm as segment,
        coalesce(is_silence_trustworthy and is_window_trustworthy, true) as is_trustworthy
    from described
    union all
    select
        account_id,
        'lifecycle' as scheme,
        lifecycle as segment,
        coalesce(is_silence_trustworthy, true) as is_trustworthy
    from described
    union all
    select
        account_id,
        'channel_preference' as scheme,
        channel_preference as segment,
        coalesce(is_window_trustworthy, true) as is_trustworthy
    from described
)

select * from account_segments
