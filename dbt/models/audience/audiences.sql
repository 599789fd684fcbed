{%- for audience in var('audiences') %}
-- depends_on: {{ ref(audience) }}
{%- endfor %}
{%- set definitions = audience_definitions() %}
with audiences as (
    {%- for audience in definitions %}
    select
        {{ text_literal(audience.name) }} as audience,
        {{ text_literal(audience.kind) }} as kind,
        {{ text_literal(audience.owner) }} as owner,
        cast({{ text_literal(audience.review_on) }} as date) as review_on,
        {{ text_literal(audience.description) }} as description,
        {{ text_literal(audience.destinations | join(', ')) }} as destinations,
        cast(coalesce({{ audience.get('holdout_share', 'null') }}, builds.holdout_share) as double) as holdout_share,
        {{ audience.get('minimum_size', 0) }} as minimum_size
    from {{ source('landing', 'builds') }} as builds
    {{ 'union all' if not loop.last }}
    {%- endfor %}
)

select * from audiences
