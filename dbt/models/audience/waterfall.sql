with candidates as (
    select
        audience,
        destination,
        account_id
    from {{ ref('candidates') }}
),

eligibility as (
    select
        destination,
        account_id,
        reason,
        reason_order
    from {{ ref('eligibility') }}
    where reason is not null
),

waterfall as (
    select
        candidates.audience,
        candidates.destination,
        candidates.account_id,
        eligibility.reason,
        eligibility.reason_order
    from candidates
    inner join eligibility
        on candidates.destination = eligibility.destination and candidates.account_id = eligibility.account_id
)

select * from waterfall
