-- A day counts as closed where no shop opened. Sundays and holidays do too, so only runs of days count as a closure.
with store_hours as (
    select
        day as closed_on,
        is_open
    from {{ ref('stg_store_hours') }}
    where day <= {{ as_of() }}
),

closed_days as (
    select closed_on
    from store_hours
    group by closed_on
    having count(*) filter (where is_open) = 0
),

numbered as (
    select
        closed_on,
        {{ days_between("date '2000-01-01'", 'closed_on') }} - row_number() over (order by closed_on) as run
    from closed_days
),

closures as (
    select
        min(closed_on) as first_on,
        max(closed_on) as last_on,
        count(*) as day_count
    from numbered
    group by run
    having count(*) >= {{ var('closure_days') }}
)

select * from closures
