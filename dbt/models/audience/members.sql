with eligibility as (
    select
        audience,
        destination,
        account_id,
        purpose,
        channel,
        holdout
    from {{ ref('eligibility') }}
    where reason is null
),

members as (
    select
        audience,
        destination,
        account_id,
        purpose,
        channel,
        case when holdout is null then 'treated' else 'holdout' end as arm,
        holdout
    from eligibility
)

select * from members
