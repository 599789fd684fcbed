with members as (
    select
        audience,
        destination,
        account_id
    from {{ ref('members') }}
),

waterfall as (
    select
        audience,
        destination,
        account_id,
        reason
    from {{ ref('waterfall') }}
),

last_members as (
    select
        audience,
        destination,
        account_id
    from {{ source('landing', 'last_members') }}
),

last_exclusions as (
    select
        audience,
        destination,
        account_id,
        reason
    from {{ source('landing', 'last_exclusions') }}
),

audience_destinations as (
    select
        audience,
        destination
    from {{ ref('audience_destinations') }}
),

accounts as (
    select account_id
    from {{ ref('accounts') }}
),

redirects as (
    select
        old_account_id,
        account_id
    from {{ source('identity', 'account_redirects') }}
),

inherited as (
    select distinct
        last_members.audience,
        last_members.destination,
        redirects.account_id
    from last_members
    inner join redirects on last_members.account_id = redirects.old_account_id
),

entered as (
    select
        members.audience,
        members.destination,
        members.account_id,
        'entered' as change,
        case
            when inherited.account_id is not null then 'merged'
            when last_exclusions.reason is not null then 'was_' || last_exclusions.reason
            else 'newly_qualifies'
        end as reason
    from members
    left join last_members
        on
            members.audience = last_members.audience
            and members.destination = last_members.destination
            and members.account_id = last_members.account_id
    left join last_exclusions
        on
            members.audience = last_exclusions.audience
            and members.destination = last_exclusions.destination
            and members.account_id = last_exclusions.account_id
    left join inherited
        on
            members.audience = inherited.audience
            and members.destination = inherited.destination
            and members.account_id = inherited.account_id
    where last_members.account_id is null
),

gone as (
    select
        last_members.audience,
        last_members.destination,
        last_members.account_id,
        'left' as change,
        case
            when audience_destinations.audience is null then 'audience_removed'
            when redirects.old_account_id is not null then 'merged'
            when accounts.account_id is null then 'account_gone'
            else coalesce(waterfall.reason, 'no_longer_qualifies')
        end as reason
    from last_members
    left join members
        on
            last_members.audience = members.audience
            and last_members.destination = members.destination
            and last_members.account_id = members.account_id
    left join audience_destinations
        on
            last_members.audience = audience_destinations.audience
            and last_members.destination = audience_destinations.destination
    left join redirects on last_members.account_id = redirects.old_account_id
    left join accounts on last_members.account_id = accounts.account_id
    left join waterfall
        on
            last_members.audience = waterfall.audience
            and last_members.destination = waterfall.destination
            and last_members.account_id = waterfall.account_id
    where members.account_id is null
),

changes as (
    select * from entered
    union all
    select * from gone
)

select * from changes
