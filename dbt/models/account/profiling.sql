with identifiers as (
    select
        account_id,
        identifier_type,
        identifier
    from {{ ref('identifiers') }}
),

identifier_consents as (
    select
        identifier_type,
        identifier,
        status
    from {{ ref('identifier_consents') }}
    where purpose = 'profiling'
),

consents as (
    select
        key_type,
        key_value,
        max(occurred_at) filter (where status <> 'granted') as refused_at,
        max(occurred_at) filter (where status = 'granted') as granted_at
    from {{ ref('stg_consents') }}
    where
        purpose = 'profiling' and key_type in ('customer_id', 'card_id')
        and (status <> 'granted' or (channel = 'any' and {{ paris_day('occurred_at') }} <= {{ as_of() }}))
    group by key_type, key_value
),

links as (
    select
        case feed when 'shop_customers' then 'customer_id' else 'card_id' end as key_type,
        record_id as key_value,
        account_id
    from {{ source('identity', 'account_links') }}
    where feed in ('shop_customers', 'loyalty_members')
),

-- A card or a web account without e-mail, phone and postal address has nothing that its statement could reach.
unreachable as (
    select
        'customer_id' as key_type,
        customer_id as key_value
    from {{ ref('stg_shop_customers') }}
    where coalesce(email, phone, {{ postal_address('address_line1', 'postal_code') }}) is null
    union all
    select
        'card_id' as key_type,
        card_id as key_value
    from {{ ref('stg_loyalty_members') }}
    where coalesce(email, phone, {{ postal_address('address_line1', 'postal_code') }}) is null
),

anchors as (
    select account_id
    from {{ source('identity', 'anchors') }}
),

answers as (
    select
        identifiers.account_id,
        identifier_consents.status <> 'granted' as is_refusal
    from identifiers
    inner join identifier_consents
        on
            identifiers.identifier_type = identifier_consents.identifier_type
            and identifiers.identifier = identifier_consents.identifier
    union all
    select
        links.account_id,
        consents.refused_at is not null and (consents.granted_at is null or consents.refused_at >= consents.granted_at)
            as is_refusal
    from consents
    inner join unreachable
        on consents.key_type = unreachable.key_type and consents.key_value = unreachable.key_value
    inner join links
        on consents.key_type = links.key_type and consents.key_value = links.key_value
),

said as (
    select
        account_id,
        count(*) filter (where is_refusal) > 0 as is_refused
    from answers
    group by account_id
),

-- Segments are the account's, not an identifier's: one refusal is enough.
profiling as (
    select
        anchors.account_id,
        case
            when said.is_refused then 'refused'
            when not said.is_refused then 'granted'
            else 'unknown'
        end as status,
        coalesce(not said.is_refused, {{ 'true' if var('profiling_unknown') == 'allowed' else 'false' }}) as is_allowed
    from anchors
    left join said on anchors.account_id = said.account_id
)

select * from profiling
