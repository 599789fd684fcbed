{%- set definitions = audience_definitions() %}
with audiences as (
    select
        audience,
        kind,
        is_review_overdue,
        priority,
        cool_down_days,
        cap,
        stratify_by,
        stock_rule,
        is_profiling,
        minimum_size
    from {{ ref('audiences') }}
),

destinations as (
    select
        destination,
        purpose,
        channel,
        is_for_messages,
        is_third_party,
        is_partner
    from {{ ref('destinations') }}
),

named as (
    select
        audience,
        destination
    from (
        values
        {%- for audience in definitions %}
        {%- set outer = loop %}
        {%- for destination in audience.destinations %}
        ('{{ audience.name }}', '{{ destination }}'){{ ',' if not (loop.last and outer.last) }}
        {%- endfor %}
        {%- endfor %}
    ) as named (audience, destination)
),

audience_destinations as (
    select
        audiences.audience,
        destinations.destination,
        audiences.kind,
        case audiences.kind when 'service' then 'service' else destinations.purpose end as purpose,
        destinations.channel,
        destinations.is_for_messages,
        destinations.is_third_party,
        destinations.is_partner,
        audiences.is_review_overdue,
        audiences.priority,
        audiences.cool_down_days,
        audiences.cap,
        audiences.stock_rule,
        audiences.is_profiling,
        case when destinations.is_third_party and audiences.kind = 'marketing' then audiences.minimum_size else 0 end
            as minimum_size
    from named
    inner join audiences on named.audience = audiences.audience
    inner join destinations on named.destination = destinations.destination
)

select * from audience_destinations
