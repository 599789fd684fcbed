{#- The day at which consent, segments and staleness are judged: it comes from the deliveries, never from the clock. -#}
{% macro as_of() -%}
    (select as_of from {{ source('landing', 'builds') }})
{%- endmacro %}
