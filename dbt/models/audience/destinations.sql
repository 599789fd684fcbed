with destinations as (
    {%- for destination in var('destinations') %}
    select
        {{ text_literal(destination.name) }} as destination,
        {{ text_literal(destination.purpose) }} as purpose,
        {{ text_literal(destination.channel) }} as channel,
        {{ text_literal(destination.identifiers.keys() | join(', ')) }} as identifier_types,
        {{ text_literal(destination.description) }} as description
    {{ 'union all' if not loop.last }}
    {%- endfor %}
)

select * from destinations
