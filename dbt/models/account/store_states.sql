with days as (
    select
        as_of,
        {{ days_before('as_of', var('closure_days')) }} as closed_from
    from {{ source('landing', 'builds') }}
),

postal_places as (
    select
        postal_code,
        town,
        latitude,
        longitude
    from {{ source('staging', 'postal_places') }}
),

towns as (
    {{ towns('postal_places') | indent(4) }}
),

stores as (
    select
        store_id,
        latitude,
        longitude,
        opened_on,
        closed_on,
        {{ french_postal_code('postal_code', "'FR'") }} as postal_code,
        {{ town_key('city') }} as town
    from {{ ref('stg_stores') }}
),

-- A day of which nothing is said is not known to be closed.
hours as (
    select
        store_hours.store_id,
        min(store_hours.day) filter (where store_hours.is_open and store_hours.day > days.as_of) as next_open_on,
        count(*) filter (
            where
            not store_hours.is_open and store_hours.day > days.closed_from and store_hours.day <= days.as_of
        ) as closed_day_count
    from {{ ref('stg_store_hours') }} as store_hours
    cross join days
    where store_hours.day > days.closed_from
    group by store_hours.store_id
),

located as (
    select
        stores.store_id,
        stores.opened_on,
        stores.closed_on,
        case when stores.latitude is not null and stores.longitude is not null then stores.latitude
        else coalesce(by_code.latitude, by_town.latitude) end as latitude,
        case when stores.latitude is not null and stores.longitude is not null then stores.longitude
        else coalesce(by_code.longitude, by_town.longitude) end as longitude
    from stores
    left join postal_places as by_code on stores.postal_code = by_code.postal_code
    left join towns
        on {{ department_of('stores.postal_code') }} = towns.department and stores.town = towns.town
    left join postal_places as by_town on towns.postal_code = by_town.postal_code
),

store_states as (
    select
        located.store_id,
        located.latitude,
        located.longitude,
        case
            when located.closed_on < days.as_of then 'closed_for_good'
            when located.opened_on > days.as_of then 'not_yet_open'
            when hours.closed_day_count >= {{ var('closure_days') }} then 'closed'
            else 'trading'
        end as state,
        case
            when
                hours.closed_day_count >= {{ var('closure_days') }}
                and (located.closed_on is null or located.closed_on >= hours.next_open_on)
                and (located.opened_on is null or located.opened_on <= days.as_of)
                then hours.next_open_on
        end as reopens_on
    from located
    cross join days
    left join hours on located.store_id = hours.store_id
)

select * from store_states
