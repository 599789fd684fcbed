with closures as (
    select
        first_on,
        last_on
    from {{ ref('closures') }}
    qualify row_number() over (order by last_on desc) = 1
),

accounts as (
    select
        account_id,
        last_purchase_on,
        last_active_on,
        order_count,
        ticket_count
    from {{ ref('accounts') }}
),

store_only_silent as (
    select
        accounts.account_id,
        accounts.last_purchase_on,
        accounts.ticket_count,
        closures.first_on as closed_from,
        closures.last_on as closed_until
    from accounts
    cross join closures
    where
        accounts.order_count = 0
        and accounts.ticket_count > 0
        and accounts.last_active_on < closures.first_on
        and accounts.last_purchase_on >= cast(closures.first_on - interval '{{ var('behaviour_months') }}' month as date)
)

select * from store_only_silent
