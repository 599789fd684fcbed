with destinations as (
    {%- for destination in var('destinations') %}
    select
        {{ text_literal(destination.name) }} as destination,
        {{ text_literal(destination.purpose) }} as purpose,
        {{ text_literal(destination.channel) }} as channel,
        {{ text_literal(destination.channel) }} in {{ message_channels() }} as is_for_messages,
        {{ 'true' if destination.is_third_party else 'false' }} as is_third_party,
        {{ 'true' if destination.get('is_partner') else 'false' }} as is_partner,
        {{ text_literal(destination.identifiers.keys() | join(', ')) }} as identifier_types,
        {{ text_literal(destination.description) }} as description
    {{ 'union all' if not loop.last }}
    {%- endfor %}
)

select * from destinations
