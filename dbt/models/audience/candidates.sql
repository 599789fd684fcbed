{%- for audience in var('audiences') %}
-- depends_on: {{ ref(audience) }}
{%- endfor %}
{%- set definitions = audience_definitions() %}
with qualified as (
    {%- for audience in definitions %}
    select
        '{{ audience.name }}' as audience,
        account_id
    from {{ ref(audience.name) }}
    {{ 'union all' if not loop.last }}
    {%- endfor %}
),

audience_destinations as (
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
    ) as audience_destinations (audience, destination)
),

candidates as (
    select
        qualified.audience,
        audience_destinations.destination,
        qualified.account_id
    from qualified
    inner join audience_destinations on qualified.audience = audience_destinations.audience
)

select * from candidates
