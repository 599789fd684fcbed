with message_events as (
    select
        address,
        case when address like '%@%' then 'email' else 'phone' end as identifier_type,
        lower(channel) as channel,
        event,
        occurred_at
    from {{ ref('stg_message_events') }}
    where event not in ('sent')
),

address_events as (
    select
        identifier_type,
        address as identifier,
        -- An event on a channel that nobody defined still says what the person wants: it is about every channel.
        case when channel in ('email', 'sms', 'phone', 'post', 'push') then channel else 'any' end as channel,
        max(occurred_at) filter (where event in ('unsubscribed', 'complained')) as withdrawn_at,
        max(occurred_at) filter (where event = 'bounced') as bounced_at,
        max(occurred_at) filter (where event in ('delivered', 'opened', 'clicked')) as reached_at,
        max(occurred_at) filter (where event = 'clicked') as clicked_at
    from message_events
    group by 1, 2, 3
)

select * from address_events
