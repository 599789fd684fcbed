with candidates as (
    select distinct
        audience_destinations.kind,
        candidates.destination,
        audience_destinations.purpose,
        audience_destinations.channel,
        audience_destinations.is_partner,
        candidates.account_id
    from {{ ref('candidates') }} as candidates
    inner join {{ ref('audience_destinations') }} as audience_destinations
        on
            candidates.audience = audience_destinations.audience
            and candidates.destination = audience_destinations.destination
),

destination_identifiers as (
    {{ destination_identifiers() | indent(4) }}
),

identifiers as (
    select
        account_id,
        identifier_type,
        identifier,
        last_seen_at,
        is_golden
    from {{ ref('identifiers') }}
    where not is_demoted
),

granted as (
    select
        identifier_type,
        identifier,
        purpose,
        channel,
        occurred_at
    from {{ ref('identifier_consents') }}
    where status = 'granted'
),

partner_grants as (
    select
        identifier_type,
        identifier,
        max(occurred_at) as occurred_at
    from {{ ref('identifier_consents') }}
    where status = 'granted' and purpose = 'partners'
    group by identifier_type, identifier
),

bounced_addresses as (
    select
        identifier_type,
        identifier,
        channel
    from {{ ref('bounced_addresses') }}
),

golden_records as (
    select
        account_id,
        coalesce(
            {{ matches('first_name', '(?s).*\\pL.*') }} and {{ matches('last_name', '(?s).*\\pL.*') }}
            and {{ matches('postal_code', '(?s).*[A-Za-z0-9].*') }}, false
        ) as is_whole
    from {{ ref('golden_records') }}
),

account_states as (
    select
        account_id,
        is_erasure_requested,
        objected_at
    from {{ ref('account_states') }}
),

-- An identifier leaves the house only by consents of its own, given after any objection. A service message needs none: it
-- is owed. A postal address travels as the golden record's name and postcode, so only the golden one can, and only whole.
permitted as (
    select
        candidates.kind,
        candidates.destination,
        candidates.account_id,
        identifiers.identifier_type,
        identifiers.identifier,
        destination_identifiers.identifier_limit,
        row_number() over (
            partition by
                candidates.kind, candidates.destination, candidates.account_id, identifiers.identifier_type
            order by identifiers.is_golden desc, identifiers.last_seen_at desc nulls last, identifiers.identifier
        ) as position
    from candidates
    inner join destination_identifiers on candidates.destination = destination_identifiers.destination
    inner join identifiers
        on
            candidates.account_id = identifiers.account_id
            and destination_identifiers.identifier_type = identifiers.identifier_type
    inner join golden_records on candidates.account_id = golden_records.account_id
    inner join account_states on candidates.account_id = account_states.account_id
    left join granted
        on
            identifiers.identifier_type = granted.identifier_type
            and identifiers.identifier = granted.identifier
            and candidates.purpose = granted.purpose
            and candidates.channel = granted.channel
            and granted.occurred_at > coalesce(account_states.objected_at, timestamp '0001-01-01 00:00:00')
    left join partner_grants
        on
            identifiers.identifier_type = partner_grants.identifier_type
            and identifiers.identifier = partner_grants.identifier
            and partner_grants.occurred_at > coalesce(account_states.objected_at, timestamp '0001-01-01 00:00:00')
    left join bounced_addresses
        on
            identifiers.identifier_type = bounced_addresses.identifier_type
            and identifiers.identifier = bounced_addresses.identifier
            and candidates.channel = bounced_addresses.channel
    where
        not account_states.is_erasure_requested
        and (candidates.kind = 'service' or granted.identifier is not null)
        and (candidates.kind = 'service' or not candidates.is_partner or partner_grants.identifier is not null)
        and bounced_addresses.identifier is null
        and (identifiers.identifier_type <> 'post' or (identifiers.is_golden and golden_records.is_whole))
),

contact_points as (
    select
        kind,
        destination,
        account_id,
        identifier_type,
        identifier,
        position
    from permitted
    where position <= identifier_limit
)

select * from contact_points
