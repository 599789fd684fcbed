with anchors as (
    select
        account_id,
        anchor_feed,
        anchor_record_id
    from {{ source('identity', 'anchors') }}
),

links as (
    select
        feed,
        record_id,
        account_id
    from {{ source('identity', 'account_links') }}
    where feed in ('shop_customers', 'loyalty_members')
),

golden_records as (
    select
        account_id,
        email,
        phone,
        birth_date,
        postal_code,
        country,
        {{ postal_address('address_line1', 'postal_code') }} as postal_address
    from {{ ref('golden_records') }}
),

web_visits as (
    select
        customer_id,
        max(occurred_at) as visited_at
    from {{ ref('stg_web_events') }}
    where customer_id is not null
    group by customer_id
),

web_accounts as (
    select
        links.account_id,
        count(*) as web_account_count,
        min(customers.created_at) as first_at,
        max(greatest(customers.created_at, coalesce(web_visits.visited_at, customers.created_at))) as last_at
    from {{ ref('stg_shop_customers') }} as customers
    inner join links on links.feed = 'shop_customers' and customers.customer_id = links.record_id
    left join web_visits on customers.customer_id = web_visits.customer_id
    group by links.account_id
),

cards as (
    select
        links.account_id,
        count(*) as card_count,
        count(members.enrolled_store_id) as store_card_count,
        min(members.enrolled_at) as first_at,
        max(members.enrolled_at) as last_at
    from {{ ref('stg_loyalty_members') }} as members
    inner join links on links.feed = 'loyalty_members' and members.card_id = links.record_id
    group by links.account_id
),

activity as (
    select
        account_id,
        min(business_on) as first_on,
        max(business_on) as last_on,
        min(case when kind = 'sale' and exclusion is null then business_on end) as first_purchase_on,
        max(case when kind = 'sale' and exclusion is null then business_on end) as last_purchase_on,
        sum(case when feed = 'shop_orders' then 1 else 0 end) as delivered_order_count,
        sum(case when feed = 'pos_tickets' then 1 else 0 end) as delivered_ticket_count,
        sum(case when feed = 'shop_orders' and exclusion is null then 1 else 0 end) as order_count,
        sum(case when feed = 'pos_tickets' and kind = 'sale' and exclusion is null then 1 else 0 end) as ticket_count,
        sum(counted_amount) as counted_amount
    from {{ ref('transactions') }}
    where account_id is not null
    group by account_id
),

dated as (
    select
        anchors.account_id,
        anchors.anchor_feed,
        anchors.anchor_record_id,
        {{ paris_day('web_accounts.first_at') }} as web_first_on,
        {{ paris_day('web_accounts.last_at') }} as web_last_on,
        {{ paris_day('cards.first_at') }} as card_first_on,
        {{ paris_day('cards.last_at') }} as card_last_on,
        activity.first_on,
        activity.last_on,
        activity.first_purchase_on,
        activity.last_purchase_on,
        coalesce(web_accounts.web_account_count, 0) as web_account_count,
        coalesce(cards.card_count, 0) as card_count,
        coalesce(cards.store_card_count, 0) as store_card_count,
        cast(coalesce(activity.delivered_order_count, 0) as bigint) as delivered_order_count,
        cast(coalesce(activity.delivered_ticket_count, 0) as bigint) as delivered_ticket_count,
        cast(coalesce(activity.order_count, 0) as bigint) as order_count,
        cast(coalesce(activity.ticket_count, 0) as bigint) as ticket_count,
        cast(coalesce(activity.counted_amount, 0) as decimal(18, 2)) as counted_amount
    from anchors
    left join web_accounts on anchors.account_id = web_accounts.account_id
    left join cards on anchors.account_id = cards.account_id
    left join activity on anchors.account_id = activity.account_id
),

accounts as (
    select
        dated.account_id,
        dated.anchor_feed,
        dated.anchor_record_id,
        least(dated.web_first_on, dated.card_first_on, dated.first_on) as first_seen_on,
        greatest(dated.web_last_on, dated.card_last_on, dated.last_on) as last_active_on,
        dated.first_purchase_on,
        dated.last_purchase_on,
        dated.web_account_count > 0 or dated.delivered_order_count > 0 as is_online,
        dated.store_card_count > 0 or dated.delivered_ticket_count > 0 as is_store,
        dated.web_account_count,
        dated.card_count,
        golden_records.email is not null as has_email,
        golden_records.phone is not null as has_phone,
        golden_records.postal_address is not null as has_postal_address,
        cast(extract(year from golden_records.birth_date) as integer) as birth_year,
        case
            when
                coalesce(golden_records.country, 'FR') <> 'FR'
                or length(golden_records.postal_code) <> 5
                or try_cast(golden_records.postal_code as integer) is null
                then null
            else {{ department_of('golden_records.postal_code') }}
        end as department,
        golden_records.country,
        dated.order_count,
        dated.ticket_count,
        dated.counted_amount
    from dated
    left join golden_records on dated.account_id = golden_records.account_id
)

select * from accounts
