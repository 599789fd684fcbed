with rfm_scores as (
    select
        account_id,
        recency_days,
        purchase_count,
        counted_amount,
        recency_score,
        frequency_score,
        monetary_score
    from {{ ref('rfm_scores') }}
),

account_segments as (
    select
        account_id,
        is_trustworthy
    from {{ ref('account_segments') }}
    where scheme = 'rfm' and segment = 'champions'
),

vip as (
    select
        rfm_scores.account_id,
        rfm_scores.recency_days,
        rfm_scores.purchase_count,
        rfm_scores.counted_amount,
        rfm_scores.recency_score,
        rfm_scores.frequency_score,
        rfm_scores.monetary_score,
        account_segments.is_trustworthy
    from rfm_scores
    inner join account_segments on rfm_scores.account_id = account_segments.account_id
    where rfm_scores.frequency_score = 5 and rfm_scores.monetary_score = 5
)

select * from vip
