{#- The schema is the stage's word, the same in DuckDB, dbt and Dagster: no target prefix. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ custom_schema_name or target.schema }}
{%- endmacro %}
