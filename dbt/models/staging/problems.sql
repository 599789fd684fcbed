{% for feed in contract_names() %}
{{ problem_values(feed) }}
{{ 'union all' if not loop.last }}
{% endfor %}
{% if not execute %}
-- depends_on: {{ source('staging', 'phone_numbers') }}
select 1 as parsed
{% endif %}
