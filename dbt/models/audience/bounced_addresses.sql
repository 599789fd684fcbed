with address_events as (
    select
        identifier_type,
        identifier,
        channel,
        bounced_at,
        reached_at
    from {{ ref('address_events') }}
),

channels as (
    select distinct channel
    from {{ ref('destinations') }}
),

-- An event on a channel that nobody defined may have been on any.
on_channels as (
    select
        address_events.identifier_type,
        address_events.identifier,
        channels.channel,
        max(address_events.bounced_at) as bounced_at,
        max(address_events.reached_at) as reached_at
    from address_events
    inner join channels on address_events.channel in (channels.channel, 'any')
    group by address_events.identifier_type, address_events.identifier, channels.channel
),

bounced_addresses as (
    select
        identifier_type,
        identifier,
        channel
    from on_channels
    where bounced_at is not null and (reached_at is null or bounced_at >= reached_at)
)

select * from bounced_addresses
