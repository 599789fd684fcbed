{#- What the models of the segment and audience stages share: days, and who is not placed by what he is worth. -#}

{#- Whole days from one date to another; negative where the second lies before the first. -#}
{% macro days_between(from_on, to_on) -%}
    {{ return(adapter.dispatch('days_between', 'cocanal')(from_on, to_on)) }}
{%- endmacro %}

{% macro duckdb__days_between(from_on, to_on) -%}
    date_diff('day', {{ from_on }}, {{ to_on }})
{%- endmacro %}

{% macro spark__days_between(from_on, to_on) -%}
    datediff({{ to_on }}, {{ from_on }})
{%- endmacro %}

{#- The date so many days before another. -#}
{% macro days_before(date_on, days) -%}
    cast({{ date_on }} - interval '{{ days }}' day as date)
{%- endmacro %}

{#- The day so many months after another; a shorter month ends it. -#}
{% macro months_after(date_on, months) -%}
    {{ return(adapter.dispatch('months_after', 'cocanal')(date_on, months)) }}
{%- endmacro %}

{% macro duckdb__months_after(date_on, months) -%}
    cast({{ date_on }} + to_months({{ months }}) as date)
{%- endmacro %}

{% macro spark__months_after(date_on, months) -%}
    add_months({{ date_on }}, {{ months }})
{%- endmacro %}

{#- The first branch of a scheme's case: nobody who may not be profiled has a segment of value, intent or affinity. -#}
{% macro unless_profiled(scheme) -%}
    {%- if var('schemes')[scheme] in ('value', 'intent', 'affinity') -%}
    when not coalesce(profiling.is_allowed, false) then 'not_profiled'
    {%- endif -%}
{%- endmacro %}
