{#- The rules in the order in which they are asked: the first that fails is the reason. -#}
{%- set reasons = [
    'erasure_requested', 'objection_received', 'no_identifier',
    'consent_unknown', 'consent_denied', 'consent_withdrawn',
    'address_bounced', 'identifier_unusable',
] -%}
with candidates as (
    select distinct
        destination,
        account_id
    from {{ ref('candidates') }}
),

destination_identifiers as (
    {{ destination_identifiers() | indent(4) }}
),

destinations as (
    select
        destination,
        purpose,
        channel
    from {{ ref('destinations') }}
),

requests as (
    select
        account_id,
        max(case when kind = 'erasure' then 1 else 0 end) = 1 as is_erasure,
        max(case when kind = 'objection' then 1 else 0 end) = 1 as is_objection
    from {{ ref('requests') }}
    where kind in ('erasure', 'objection')
    group by account_id
),

held as (
    select distinct
        candidates.destination,
        candidates.account_id
    from candidates
    inner join destination_identifiers on candidates.destination = destination_identifiers.destination
    inner join {{ ref('identifiers') }} as identifiers
        on
            candidates.account_id = identifiers.account_id
            and destination_identifiers.identifier_type = identifiers.identifier_type
),

consents as (
    select
        account_id,
        purpose,
        channel,
        status
    from {{ ref('consents') }}
),

reachable as (
    select distinct
        destination,
        account_id
    from {{ ref('contact_points') }}
),

bounced as (
    select distinct
        identifiers.account_id,
        address_events.channel
    from {{ ref('identifiers') }} as identifiers
    inner join {{ ref('address_events') }} as address_events
        on
            identifiers.identifier_type = address_events.identifier_type
            and identifiers.identifier = address_events.identifier
    where
        address_events.bounced_at is not null
        and (address_events.reached_at is null or address_events.bounced_at >= address_events.reached_at)
),

judged as (
    select
        candidates.destination,
        candidates.account_id,
        destinations.purpose,
        destinations.channel,
        case
            when requests.is_erasure then 'erasure_requested'
            when requests.is_objection then 'objection_received'
            when held.account_id is null then 'no_identifier'
            when consents.status is null then 'consent_unknown'
            when consents.status = 'denied' then 'consent_denied'
            when consents.status = 'withdrawn' then 'consent_withdrawn'
            when reachable.account_id is not null then null
            when bounced.account_id is not null then 'address_bounced'
            else 'identifier_unusable'
        end as reason
    from candidates
    inner join destinations on candidates.destination = destinations.destination
    left join requests on candidates.account_id = requests.account_id
    left join held
        on candidates.destination = held.destination and candidates.account_id = held.account_id
    left join consents
        on
            candidates.account_id = consents.account_id
            and destinations.purpose = consents.purpose
            and destinations.channel = consents.channel
    left join reachable
        on candidates.destination = reachable.destination and candidates.account_id = reachable.account_id
    left join bounced
        on candidates.account_id = bounced.account_id and destinations.channel = bounced.channel
),

eligibility as (
    select
        destination,
        account_id,
        purpose,
        channel,
        reason,
        case reason
            {%- for reason in reasons %}
            when '{{ reason }}' then {{ loop.index }}
            {%- endfor %}
        end as reason_order
    from judged
)

select * from eligibility
