with privacy_requests as (
    select
        request_id,
        kind,
        key_type,
        key_value,
        received_at
    from {{ ref('stg_privacy_requests') }}
),

identifiers as (
    select
        account_id,
        identifier_type,
        identifier
    from {{ ref('identifiers') }}
),

links as (
    select
        feed,
        record_id,
        account_id
    from {{ source('identity', 'account_links') }}
),

-- Every record that holds a key, whether or not the key linked it: an over-used card still names its owner.
holders as (
    select
        'customer_id' as key_type,
        customer_id as key_value,
        'shop_customers' as feed,
        customer_id as record_id
    from {{ ref('stg_shop_customers') }}
    union all
    select
        'customer_id' as key_type,
        customer_id as key_value,
        'shop_orders' as feed,
        order_id as record_id
    from {{ ref('stg_shop_orders') }}
    union all
    select
        'card_id' as key_type,
        card_id as key_value,
        'loyalty_members' as feed,
        card_id as record_id
    from {{ ref('stg_loyalty_members') }}
    union all
    select
        'card_id' as key_type,
        loyalty_card_id as key_value,
        'shop_customers' as feed,
        customer_id as record_id
    from {{ ref('stg_shop_customers') }}
    union all
    select
        'card_id' as key_type,
        loyalty_card_id as key_value,
        'pos_tickets' as feed,
        ticket_id as record_id
    from {{ ref('stg_pos_tickets') }}
),

held as (
    select
        privacy_requests.request_id,
        holders.feed,
        holders.record_id
    from holders
    inner join privacy_requests
        on holders.key_type = privacy_requests.key_type and holders.key_value = privacy_requests.key_value
),

concerned as (
    select
        held.request_id,
        links.account_id
    from held
    inner join links
        on held.feed = links.feed and held.record_id = links.record_id
    union
    select
        privacy_requests.request_id,
        identifiers.account_id
    from privacy_requests
    inner join identifiers
        on
            privacy_requests.key_type = identifiers.identifier_type
            and privacy_requests.key_value = identifiers.identifier
),

requests as (
    select
        privacy_requests.request_id,
        concerned.account_id,
        privacy_requests.kind,
        {{ paris_day('privacy_requests.received_at') }} as received_on
    from privacy_requests
    inner join concerned on privacy_requests.request_id = concerned.request_id
)

select * from requests
