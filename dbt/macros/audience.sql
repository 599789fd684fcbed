{#- What audiences and destinations say about themselves, checked; and the lottery that draws the holdout. -#}

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

{#- The metadata of every audience of `vars: audiences`, in that order, from its YAML. Empty while dbt still parses. -#}
{% macro audience_definitions() -%}
    {%- set definitions = [] -%}
    {%- if execute -%}
        {%- set destinations = var('destinations') | map(attribute='name') | list -%}
        {%- set nodes = {} -%}
        {%- for node in graph.nodes.values() if node.resource_type == 'model' and node.name in var('audiences') -%}
            {%- do nodes.update({node.name: node}) -%}
        {%- endfor -%}
        {%- for name in var('audiences') -%}
            {%- set stated = nodes[name].config.meta.get('audience', {}) -%}
            {%- for field in ['description', 'kind', 'owner', 'review_on', 'destinations'] if not stated.get(field) -%}
                {{ exceptions.raise_compiler_error("The audience " ~ name ~ " does not say its " ~ field
                    ~ ": add it under config.meta.audience in models/audience/" ~ name ~ ".yml.") }}
            {%- endfor -%}
            {%- if stated.kind not in ['marketing', 'service'] -%}
                {{ exceptions.raise_compiler_error("The audience " ~ name ~ " is of kind '" ~ stated.kind
                    ~ "'; it must be 'marketing' or 'service'.") }}
            {%- endif -%}
            {%- for destination in stated.destinations if destination not in destinations -%}
                {{ exceptions.raise_compiler_error("The audience " ~ name ~ " names the destination '" ~ destination
                    ~ "', which vars: destinations in dbt_project.yml does not know.") }}
            {%- endfor -%}
            {%- do definitions.append(dict(stated, name=name)) -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return(definitions) }}
{%- endmacro %}

{#- Lets an engine see a text of the metadata as a literal. -#}
{% macro text_literal(text) -%}
    '{{ text | string | replace("'", "''") | replace("\n", " ") | trim }}'
{%- endmacro %}

{#- Which identifiers a destination takes, at most how many of a type. -#}
{% macro destination_identifiers() -%}
    select
        destination,
        purpose,
        channel,
        identifier_type,
        identifier_limit
    from (
        values
        {%- for destination in var('destinations') %}
        {%- set outer = loop %}
        {%- for identifier_type, limit in destination.identifiers.items() %}
        (
            {{ text_literal(destination.name) }}, {{ text_literal(destination.purpose) }},
            {{ text_literal(destination.channel) }}, {{ text_literal(identifier_type) }}, {{ limit }}
        ){{ ',' if not (loop.last and outer.last) }}
        {%- endfor %}
        {%- endfor %}
    ) as destination_identifiers (destination, purpose, channel, identifier_type, identifier_limit)
{%- endmacro %}
