with candidates as (
    select distinct
        destination,
        account_id
    from {{ ref('candidates') }}
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

identifier_consents as (
    select
        identifier_type,
        identifier,
        purpose,
        channel
    from {{ ref('identifier_consents') }}
    where status = 'granted'
),

address_events as (
    select
        identifier_type,
        identifier,
        channel
    from {{ ref('address_events') }}
    where bounced_at is not null and (reached_at is null or bounced_at >= reached_at)
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

refusing_accounts as (
    select distinct account_id
    from {{ ref('requests') }}
    where kind in ('erasure', 'objection')
),

-- An identifier leaves the house only by a consent of its own. A postal address travels as the golden record's name and
-- postcode, so only the golden one can, and only whole.
permitted as (
    select
        candidates.destination,
        candidates.account_id,
        identifiers.identifier_type,
        identifiers.identifier,
        destination_identifiers.identifier_limit,
        row_number() over (
            partition by candidates.destination, candidates.account_id, identifiers.identifier_type
            order by identifiers.is_golden desc, identifiers.last_seen_at desc nulls last, identifiers.identifier
        ) as position
    from candidates
    inner join destination_identifiers on candidates.destination = destination_identifiers.destination
    inner join identifiers
        on
            candidates.account_id = identifiers.account_id
            and destination_identifiers.identifier_type = identifiers.identifier_type
    inner join identifier_consents
        on
            identifiers.identifier_type = identifier_consents.identifier_type
            and identifiers.identifier = identifier_consents.identifier
            and destination_identifiers.purpose = identifier_consents.purpose
            and destination_identifiers.channel = identifier_consents.channel
    inner join golden_records on candidates.account_id = golden_records.account_id
    left join address_events
        on
            identifiers.identifier_type = address_events.identifier_type
            and identifiers.identifier = address_events.identifier
            and destination_identifiers.channel = address_events.channel
    left join refusing_accounts on candidates.account_id = refusing_accounts.account_id
    where
        refusing_accounts.account_id is null
        and address_events.identifier is null
        and (identifiers.identifier_type <> 'post' or (identifiers.is_golden and golden_records.is_whole))
),

contact_points as (
    select
        destination,
        account_id,
        identifier_type,
        identifier,
        position
    from permitted
    where position <= identifier_limit
)

select * from contact_points
