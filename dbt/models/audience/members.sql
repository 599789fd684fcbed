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
        purpose,
        channel
    from {{ ref('eligibility') }}
    where reason is null
),

audiences as (
    select
        audience,
        holdout_share
    from {{ ref('audiences') }}
),

anchors as (
    select
        account_id,
        anchor_key
    from {{ source('identity', 'anchors') }}
),

builds as (
    select holdout_salt
    from {{ source('landing', 'builds') }}
),

-- Drawn by the anchor record and not by the account id, which may change, and without the destination: a person is held
-- out of an audience everywhere or nowhere.
members as (
    select
        candidates.audience,
        candidates.destination,
        candidates.account_id,
        eligibility.purpose,
        eligibility.channel,
        case
            when
                {{ lottery("builds.holdout_salt || '|' || candidates.audience || '|' || anchors.anchor_key") }}
                < audiences.holdout_share
                then 'holdout'
            else 'treated'
        end as arm
    from candidates
    inner join eligibility
        on candidates.destination = eligibility.destination and candidates.account_id = eligibility.account_id
    inner join audiences on candidates.audience = audiences.audience
    inner join anchors on candidates.account_id = anchors.account_id
    cross join builds
)

select * from members
