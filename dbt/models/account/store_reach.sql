with inhabited as (
    select distinct postal_place
    from {{ ref('places') }}
),

postal_places as (
    select
        inhabited.postal_place,
        places.latitude,
        places.longitude
    from inhabited
    inner join {{ source('staging', 'postal_places') }} as places on inhabited.postal_place = places.postal_code
),

stores as (
    select
        store_id,
        latitude,
        longitude,
        state = 'trading' as is_trading
    from {{ ref('store_states') }}
    where latitude is not null and state <> 'closed_for_good'
),

-- A degree of latitude is 111 km: what lies further north or south needs no trigonometry.
distances as (
    select
        postal_places.postal_place,
        stores.store_id,
        stores.is_trading,
        {{ distance_km('postal_places.latitude', 'postal_places.longitude', 'stores.latitude', 'stores.longitude') }}
            as distance_km
    from postal_places
    inner join stores
        on stores.latitude between postal_places.latitude - {{ var('reach_km') }} / 110.0
        and postal_places.latitude + {{ var('reach_km') }} / 110.0
),

store_reach as (
    select
        postal_place,
        store_id,
        is_trading,
        distance_km,
        row_number() over (partition by postal_place order by distance_km, store_id) as nearness
    from distances
    where distance_km <= {{ var('reach_km') }}
)

select * from store_reach
