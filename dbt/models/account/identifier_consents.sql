with consents as (
    select
        key_type,
        key_value,
        purpose,
        channel,
        status,
        occurred_at
    from {{ ref('stg_consents') }}
),

address_events as (
    select
        identifier_type,
        identifier,
        channel,
        withdrawn_at
    from {{ ref('address_events') }}
    where withdrawn_at is not null
),

-- A grant counts from its own day on; a refusal counts as soon as it is delivered.
statements as (
    select
        key_type,
        key_value,
        purpose,
        channel,
        max(occurred_at) filter (where status = 'granted') as granted_at,
        max(occurred_at) filter (where status = 'denied') as denied_at,
        max(occurred_at) filter (where status = 'withdrawn') as withdrawn_at
    from consents
    where status <> 'granted' or {{ paris_day('occurred_at') }} <= {{ as_of() }}
    group by key_type, key_value, purpose, channel
),

-- A statement given with an account or a card covers the e-mail, phone and postal address of that record.
keyed_records as (
    select
        'customer_id' as key_type,
        customer_id as key_value,
        email,
        phone,
        {{ postal_address('address_line1', 'postal_code') }} as postal_address
    from {{ ref('stg_shop_customers') }}
    where customer_id in (select statements.key_value from statements where statements.key_type = 'customer_id')
    union all
    select
        'card_id' as key_type,
        card_id as key_value,
        email,
        phone,
        {{ postal_address('address_line1', 'postal_code') }} as postal_address
    from {{ ref('stg_loyalty_members') }}
    where card_id in (select statements.key_value from statements where statements.key_type = 'card_id')
),

covered as (
    select
        key_type,
        key_value,
        'email' as identifier_type,
        email as identifier
    from keyed_records
    where email is not null
    union all
    select
        key_type,
        key_value,
        'phone' as identifier_type,
        phone as identifier
    from keyed_records
    where phone is not null
    union all
    select
        key_type,
        key_value,
        'post' as identifier_type,
        postal_address as identifier
    from keyed_records
    where postal_address is not null
),

reaching as (
    select
        key_type as identifier_type,
        key_value as identifier,
        purpose,
        channel,
        granted_at,
        denied_at,
        withdrawn_at
    from statements
    where key_type in ('email', 'phone')
    union all
    select
        covered.identifier_type,
        covered.identifier,
        statements.purpose,
        statements.channel,
        statements.granted_at,
        statements.denied_at,
        statements.withdrawn_at
    from statements
    inner join covered
        on statements.key_type = covered.key_type and statements.key_value = covered.key_value
    union all
    select
        identifier_type,
        identifier,
        'prospecting' as purpose,
        channel,
        null as granted_at,
        null as denied_at,
        withdrawn_at
    from address_events
),

scopes as (
    {{ consent_scopes() | indent(4) }}
),

-- `any` stands for every channel. The purposes that know no channel are given with `any`; one that names a channel all
-- the same cannot grant, but does refuse.
resolved as (
    select
        reaching.identifier_type,
        reaching.identifier,
        reaching.purpose,
        scopes.channel,
        max(reaching.granted_at) filter (
            where scopes.channel <> 'any' or reaching.channel = 'any'
        ) as granted_at,
        max(reaching.denied_at) as denied_at,
        max(reaching.withdrawn_at) as withdrawn_at
    from reaching
    inner join scopes
        on
            reaching.identifier_type = scopes.identifier_type
            and reaching.purpose = scopes.purpose
            and (reaching.channel in (scopes.channel, 'any') or scopes.channel = 'any')
    group by reaching.identifier_type, reaching.identifier, reaching.purpose, scopes.channel
),

-- The latest statement counts; at the same instant the more restrictive. Which of two refusals names the state says
-- nothing about what is allowed: the later, then `withdrawn`.
identifier_consents as (
    select
        identifier_type,
        identifier,
        purpose,
        channel,
        case
            when
                granted_at is not null
                and (denied_at is null or granted_at > denied_at)
                and (withdrawn_at is null or granted_at > withdrawn_at)
                then 'granted'
            when withdrawn_at is not null and (denied_at is null or withdrawn_at >= denied_at) then 'withdrawn'
            else 'denied'
        end as status,
        greatest(
            coalesce(granted_at, denied_at, withdrawn_at),
            coalesce(denied_at, granted_at, withdrawn_at),
            coalesce(withdrawn_at, granted_at, denied_at)
        ) as occurred_at
    from resolved
    where granted_at is not null or denied_at is not null or withdrawn_at is not null
)

select * from identifier_consents
