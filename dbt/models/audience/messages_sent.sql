{%- set longest = (audience_definitions() | map(attribute='cool_down_days') | list + [var('pressure_days'), 7]) | max %}
with message_events as (
    select
        event_id,
        campaign_id,
        lower(channel) as channel,
        address,
        case when address like '%@%' then 'email' else 'phone' end as identifier_type,
        {{ paris_day('occurred_at') }} as sent_on
    from {{ ref('stg_message_events') }}
    where event = 'sent' and {{ paris_day('occurred_at') }} > {{ days_before(as_of(), longest) }}
),

identifiers as (
    select
        account_id,
        identifier_type,
        identifier
    from {{ ref('identifiers') }}
),

campaigns as (
    select
        campaign_id,
        audience
    from {{ ref('stg_campaigns') }}
),

audiences as (
    select
        audience,
        kind
    from {{ ref('audiences') }}
),

-- A message to an address that two people share was sent to both. One of which nobody knows the campaign counts: a
-- solicitation is what was not owed.
messages_sent as (
    select
        identifiers.account_id,
        message_events.event_id,
        message_events.channel,
        campaigns.audience,
        coalesce(audiences.kind, 'marketing') = 'marketing' as is_solicitation,
        message_events.sent_on
    from message_events
    inner join identifiers
        on
            message_events.identifier_type = identifiers.identifier_type
            and message_events.address = identifiers.identifier
    left join campaigns on message_events.campaign_id = campaigns.campaign_id
    left join audiences on campaigns.audience = audiences.audience
)

select * from messages_sent
