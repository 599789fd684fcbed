{#- What the models of the audience stage share: the metadata of audiences, and the lottery that draws the holdouts. -#}

{#-
    A number from 0 (inclusive) to 1 (exclusive) that looks random and is always the same for the same text: the first
    32 bits of its MD5.
-#}
{% macro lottery(text) -%}
    {{ return(adapter.dispatch('lottery', 'cocanal')(text)) }}
{%- endmacro %}

{% macro duckdb__lottery(text) -%}
    cast('0x' || substr(md5({{ text }}), 1, 8) as bigint) / 4294967296.0
{%- endmacro %}

{% macro spark__lottery(text) -%}
    cast(conv(substr(md5({{ text }}), 1, 8), 16, 10) as bigint) / 4294967296.0
{%- endmacro %}

{#-
    The metadata of every audience of `vars: audiences`, in that order, from its YAML, with what it leaves unsaid. Empty
    while dbt still parses. What may be said is checked in Python, before dbt runs (`domain/audiences.py`).
-#}
{% macro audience_definitions() -%}
    {%- set unsaid = {
        'cool_down_days': 0, 'cap': none, 'cap_by': none, 'holdout_share': none, 'stratify_by': none,
        'stock_rule': 'none', 'topics': [], 'schemes': [], 'is_profiling': false,
    } -%}
    {%- set definitions = [] -%}
    {%- if execute -%}
        {%- for node in graph.nodes.values() if node.resource_type == 'model' and node.name in var('audiences') -%}
            {%- do definitions.append(dict(unsaid, name=node.name, **node.config.meta['audience'])) -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return(definitions | sort(attribute='name')) }}
{%- endmacro %}

{#- Lets an engine see a text of the metadata as a literal. -#}
{% macro text_literal(text) -%}
    '{{ text | string | replace("'", "''") | replace("\n", " ") | trim }}'
{%- endmacro %}

{#- The same where there may be none. -#}
{% macro optional_literal(text) -%}
    cast({{ 'null' if text is none or text == '' else text_literal(text) }} as string)
{%- endmacro %}

{#- A number of the metadata where there may be none. -#}
{% macro optional_number(number, type) -%}
    cast({{ 'null' if number is none else number }} as {{ type }})
{%- endmacro %}

{#- Which identifiers a destination takes, at most how many of a type. -#}
{% macro destination_identifiers() -%}
    select
        destination,
        identifier_type,
        identifier_limit
    from (
        values
        {%- for destination in var('destinations') %}
        {%- set outer = loop %}
        {%- for identifier_type, limit in destination.identifiers.items() %}
        ({{ text_literal(destination.name) }}, {{ text_literal(identifier_type) }}, {{ limit }})
        {{- ',' if not (loop.last and outer.last) }}
        {%- endfor %}
        {%- endfor %}
    ) as destination_identifiers (destination, identifier_type, identifier_limit)
{%- endmacro %}

{#- The channels on which somebody receives something, rather than being found again among others. -#}
{% macro message_channels() -%}
    ('email', 'sms', 'phone', 'post', 'push')
{%- endmacro %}

{#- The date so many years before another. -#}
{% macro years_before(date_on, years) -%}
    cast({{ date_on }} - interval '{{ years }}' year as date)
{%- endmacro %}
