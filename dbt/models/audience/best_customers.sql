with rfm_scores as (
    select
        account_id,
        purchase_count,
        counted_amount,
        frequency_score,
        monetary_score
    from {{ ref('rfm_scores') }}
),

best_customers as (
    select
        account_id,
        purchase_count,
        counted_amount,
        frequency_score,
        monetary_score
    from rfm_scores
    where monetary_score = 5 and frequency_score >= 4
)

select * from best_customers
