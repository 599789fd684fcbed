with consents as (
    select
        key_type,
        key_value,
        purpose,
        channel,
        status,
        occurred_at,
        max_per_week
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
counting as (
    select
        *,
        occurred_at = max(occurred_at) over (partition by key_type, key_value, purpose, channel, status) as is_latest
    from consents
    where status <> 'granted' or {{ paris_day('occurred_at') }} <= {{ as_of() }}
),

statements as (
    select
        key_type,
        key_value,
        purpose,
        channel,
        max(occurred_at) filter (where status = 'granted') as granted_at,
        max(occurred_at) filter (where status = 'denied') as denied_at,
        max(occurred_at) filter (where status = 'withdrawn') as withdrawn_at,
        min(max_per_week) filter (where status = 'granted' and is_latest) as max_per_week
    from counting
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
        withdrawn_at,
        max_per_week
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
        statements.withdrawn_at,
        statements.max_per_week
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
        withdrawn_at,
        null as max_per_week
    from address_events
),

scopes as (
    {{ consent_scopes() | indent(4) }}
),

-- `any` stands for every channel. The purposes that know no channel are given with `any`; one that names a channel all
-- the same cannot grant, but does refuse.
in_scope as (
    select
        reaching.identifier_type,
        reaching.identifier,
        reaching.purpose,
        scopes.channel,
        case when scopes.channel <> 'any' or reaching.channel = 'any' then reaching.granted_at end as granted_at,
        reaching.denied_at,
        reaching.withdrawn_at,
        reaching.max_per_week
    from reaching
    inner join scopes
        on
            reaching.identifier_type = scopes.identifier_type
            and reaching.purpose = scopes.purpose
            and (reaching.channel in (scopes.channel, 'any') or scopes.channel = 'any')
),

ranked as (
    select
        *,
        granted_at = max(granted_at) over (partition by identifier_type, identifier, purpose, channel) as is_latest
    from in_scope
),

resolved as (
    select
        identifier_type,
        identifier,
        purpose,
        channel,
        max(granted_at) as granted_at,
        max(denied_at) as denied_at,
        max(withdrawn_at) as withdrawn_at,
        min(max_per_week) filter (where is_latest) as max_per_week
    from ranked
    group by identifier_type, identifier, purpose, channel
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
        ) as occurred_at,
        max_per_week
    from resolved
    where granted_at is not null or denied_at is not null or withdrawn_at is not null
)

select * from identifier_consents
