with keys as (
    select
        key_type,
        key_value
    from {{ ref('stg_privacy_requests') }}
    union
    select
        key_type,
        key_value
    from {{ ref('stg_sensitivities') }}
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
        keys.key_type,
        keys.key_value,
        holders.feed,
        holders.record_id
    from holders
    inner join keys
        on holders.key_type = keys.key_type and holders.key_value = keys.key_value
),

found as (
    select
        held.key_type,
        held.key_value,
        links.account_id,
        held.feed in ('shop_customers', 'loyalty_members') and held.record_id = held.key_value as is_own_record
    from held
    inner join links
        on held.feed = links.feed and held.record_id = links.record_id
    union all
    select
        keys.key_type,
        keys.key_value,
        identifiers.account_id,
        false as is_own_record
    from keys
    inner join identifiers
        on keys.key_type = identifiers.identifier_type and keys.key_value = identifiers.identifier
),

key_accounts as (
    select
        key_type,
        key_value,
        account_id,
        max(case when is_own_record then 1 else 0 end) = 1 as is_own_record
    from found
    group by key_type, key_value, account_id
)

select * from key_accounts
