with golden_records as (
    select
        account_id,
        city,
        {{ french_postal_code('postal_code', 'country') }} as postal_code
    from {{ ref('golden_records') }}
),

postal_places as (
    select
        postal_code,
        town
    from {{ source('staging', 'postal_places') }}
),

towns as (
    {{ towns('postal_places') | indent(4) }}
),

addressed as (
    select
        account_id,
        postal_code,
        {{ department_of('postal_code') }} as department,
        {{ town_key('city') }} as town
    from golden_records
    where postal_code is not null
),

places as (
    select
        addressed.account_id,
        addressed.department,
        coalesce(postal_places.postal_code, towns.postal_code) as postal_place,
        postal_places.postal_code is null as is_by_town
    from addressed
    left join postal_places on addressed.postal_code = postal_places.postal_code
    left join towns
        on
            postal_places.postal_code is null
            and addressed.department = towns.department
            and addressed.town = towns.town
    where coalesce(postal_places.postal_code, towns.postal_code) is not null
)

select * from places
