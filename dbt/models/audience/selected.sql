with screened as (
    select
        screened.audience,
        screened.destination,
        screened.account_id,
        screened.kind,
        screened.cap_value,
        screened.reason,
        audience_destinations.is_for_messages,
        audience_destinations.priority,
        audience_destinations.cap
    from {{ ref('screened') }} as screened
    inner join {{ ref('audience_destinations') }} as audience_destinations
        on
            screened.audience = audience_destinations.audience
            and screened.destination = audience_destinations.destination
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

-- One person gets one message: of the marketing audiences that could write to an account, the first by priority does, at
-- all its destinations. What only finds people again among others writes to nobody.
first_audiences as (
    select
        account_id,
        min(priority) as priority
    from screened
    where reason is null and is_for_messages and kind = 'marketing'
    group by account_id
),

prioritised as (
    select
        screened.audience,
        screened.destination,
        screened.account_id,
        screened.cap_value,
        screened.cap,
        coalesce(
            screened.reason,
            case
                when
                    screened.is_for_messages and screened.kind = 'marketing'
                    and screened.priority > first_audiences.priority
                    then 'lower_priority'
            end
        ) as reason
    from screened
    left join first_audiences on screened.account_id = first_audiences.account_id
),

-- Whom a cap leaves out is drawn by the anchor record where the audience does not say, and where it says and two are equal.
ranked as (
    select
        prioritised.audience,
        prioritised.destination,
        prioritised.account_id,
        row_number() over (
            partition by prioritised.audience, prioritised.destination
            order by
                prioritised.cap_value desc nulls last,
                {{ lottery("builds.holdout_salt || '|cap|' || prioritised.audience || '|' || anchors.anchor_key") }},
                anchors.anchor_key
        ) as position
    from prioritised
    inner join anchors on prioritised.account_id = anchors.account_id
    cross join builds
    where prioritised.reason is null and prioritised.cap is not null
),

selected as (
    select
        prioritised.audience,
        prioritised.destination,
        prioritised.account_id,
        coalesce(
            prioritised.reason,
            case when ranked.position > prioritised.cap then 'over_cap' end
        ) as reason
    from prioritised
    left join ranked
        on
            prioritised.audience = ranked.audience
            and prioritised.destination = ranked.destination
            and prioritised.account_id = ranked.account_id
)

select * from selected
