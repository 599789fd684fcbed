with reopening as (
    select
        store_id,
        reopens_on
    from {{ ref('store_states') }}
    where {{ days_between(as_of(), 'reopens_on') }} between 1 and {{ var('reopening_days') }}
),

places as (
    select
        account_id,
        postal_place
    from {{ ref('places') }}
),

-- The nearest of the stores that reopen.
reopening_near_you as (
    select
        places.account_id,
        reopening.store_id,
        reopening.reopens_on
    from places
    inner join {{ ref('store_reach') }} as store_reach on places.postal_place = store_reach.postal_place
    inner join reopening on store_reach.store_id = reopening.store_id
    qualify row_number() over (partition by places.account_id order by store_reach.nearness) = 1
)

select * from reopening_near_you
