with waterfall as (
    select
        audience,
        destination,
        account_id,
        reason,
        reason_order
    from {{ ref('eligibility') }}
    where reason is not null
)

select * from waterfall
