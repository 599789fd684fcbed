{%- for audience in var('audiences') %}
-- depends_on: {{ ref(audience) }}
{%- endfor %}
{%- set definitions = audience_definitions() %}
with qualified as (
    {%- for audience in definitions %}
    {%- set is_about_a_product = audience.stock_rule == 'in_stock' %}
    select
        '{{ audience.name }}' as audience,
        account_id,
        {{ 'product_id' if is_about_a_product else optional_literal(none) ~ ' as product_id' }},
        {{ 'location_id' if is_about_a_product else optional_literal(none) ~ ' as location_id' }},
        cast({{ audience.cap_by or 'null' }} as double) as cap_value
    from {{ ref(audience.name) }}
    {{ 'union all' if not loop.last }}
    {%- endfor %}
),

audience_destinations as (
    select
        audience,
        destination
    from {{ ref('audience_destinations') }}
),

candidates as (
    select
        qualified.audience,
        audience_destinations.destination,
        qualified.account_id,
        qualified.product_id,
        qualified.location_id,
        qualified.cap_value
    from qualified
    inner join audience_destinations on qualified.audience = audience_destinations.audience
)

select * from candidates
