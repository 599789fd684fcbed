with behaviours as (
    select
        account_id,
        last_purchase_on,
        recency_days,
        purchase_count,
        counted_amount
    from {{ ref('behaviours') }}
),

rfm_scores as (
    select
        account_id,
        frequency_score,
        monetary_score
    from {{ ref('rfm_scores') }}
),

account_segments as (
    select
        account_id,
        segment,
        is_trustworthy
    from {{ ref('account_segments') }}
    where scheme = 'lifecycle' and segment in ('at_risk', 'lapsed')
),

-- Worth winning back: bought more than once, and more than most.
win_back as (
    select
        behaviours.account_id,
        account_segments.segment as lifecycle,
        behaviours.last_purchase_on,
        behaviours.recency_days,
        behaviours.purchase_count,
        behaviours.counted_amount,
        rfm_scores.frequency_score,
        rfm_scores.monetary_score,
        account_segments.is_trustworthy
    from behaviours
    inner join account_segments on behaviours.account_id = account_segments.account_id
    inner join rfm_scores on behaviours.account_id = rfm_scores.account_id
    where behaviours.purchase_count >= {{ var('win_back_purchases') }} and rfm_scores.monetary_score >= 3
)

select * from win_back
