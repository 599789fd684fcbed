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
        purpose,
        channel,
        status,
        occurred_at
    from {{ ref('identifier_consents') }}
),

by_account as (
    select
        identifiers.account_id,
        identifier_consents.purpose,
        identifier_consents.channel,
        max(identifier_consents.occurred_at) filter (where identifier_consents.status = 'granted') as granted_at,
        max(identifier_consents.occurred_at) filter (where identifier_consents.status = 'withdrawn') as withdrawn_at,
        max(identifier_consents.occurred_at) filter (where identifier_consents.status = 'denied') as denied_at
    from identifiers
    inner join identifier_consents
        on
            identifiers.identifier_type = identifier_consents.identifier_type
            and identifiers.identifier = identifier_consents.identifier
    group by identifiers.account_id, identifier_consents.purpose, identifier_consents.channel
),

-- The account is granted where one of its identifiers is; who may be written to is decided per identifier.
consents as (
    select
        account_id,
        purpose,
        channel,
        granted_at is not null as is_granted,
        case
            when granted_at is not null then 'granted'
            when withdrawn_at is not null then 'withdrawn'
            else 'denied'
        end as status,
        coalesce(granted_at, withdrawn_at, denied_at) as occurred_at
    from by_account
)

select * from consents
