{#-
    SQL that only one engine knows, each behind a macro of one line. What both DuckDB and Spark know (qualify, try_cast,
    date_trunc, row_number) is written as it is. Not for business rules: those are models.
-#}

{% macro matches(value, pattern) -%}
    {{ return(adapter.dispatch('matches', 'cocanal')(value, pattern)) }}
{%- endmacro %}

{% macro duckdb__matches(value, pattern) -%}
    regexp_full_match({{ value }}, '{{ pattern }}')
{%- endmacro %}

{% macro spark__matches(value, pattern) -%}
    {{ value }} rlike '^(?:{{ pattern | replace("\\", "\\\\") }})$'
{%- endmacro %}

{#- A text with an offset, as a timestamp in UTC. A cast straight to timestamp would ignore the offset in silence. -#}
{% macro utc_from_offset_text(value) -%}
    {{ return(adapter.dispatch('utc_from_offset_text', 'cocanal')(value)) }}
{%- endmacro %}

{% macro duckdb__utc_from_offset_text(value) -%}
    cast(try_cast({{ value }} as timestamptz) as timestamp)
{%- endmacro %}

{% macro spark__utc_from_offset_text(value) -%}
    try_cast({{ value }} as timestamp)
{%- endmacro %}

{% macro till_local_time(value) -%}
    {{ return(adapter.dispatch('till_local_time', 'cocanal')(value)) }}
{%- endmacro %}

{% macro duckdb__till_local_time(value) -%}
    try_strptime({{ value }}, '%d/%m/%Y %H:%M:%S')
{%- endmacro %}

{% macro spark__till_local_time(value) -%}
    try_to_timestamp({{ value }}, 'dd/MM/yyyy HH:mm:ss')
{%- endmacro %}

{#- Paris wall time as UTC. In the repeated hour of autumn the first one is meant. -#}
{% macro utc_from_paris(value) -%}
    {{ return(adapter.dispatch('utc_from_paris', 'cocanal')(value)) }}
{%- endmacro %}

{% macro duckdb__utc_from_paris(value) -%}
    case
        when
            month({{ value }}) = 10 and hour({{ value }}) = 2
            and timezone('Europe/Paris', timezone('Europe/Paris', {{ value }}) - interval 1 hour) = {{ value }}
            then timezone('UTC', timezone('Europe/Paris', {{ value }})) - interval 1 hour
        else timezone('UTC', timezone('Europe/Paris', {{ value }}))
    end
{%- endmacro %}

{% macro spark__utc_from_paris(value) -%}
    to_utc_timestamp({{ value }}, 'Europe/Paris')
{%- endmacro %}

{#- The calendar day in Paris of a timestamp in UTC. -#}
{% macro paris_day(value) -%}
    {{ return(adapter.dispatch('paris_day', 'cocanal')(value)) }}
{%- endmacro %}

{% macro duckdb__paris_day(value) -%}
    cast(timezone('Europe/Paris', timezone('UTC', {{ value }})) as date)
{%- endmacro %}

{% macro spark__paris_day(value) -%}
    cast(from_utc_timestamp({{ value }}, 'Europe/Paris') as date)
{%- endmacro %}

{#- A fingerprint of several columns that does not change with the engine's version, for ranking by content. -#}
{% macro content_hash(columns) -%}
    md5(concat_ws('|', {% for column in columns -%}
        coalesce(cast({{ column }} as string), '∅'){{ ', ' if not loop.last }}
    {%- endfor %}))
{%- endmacro %}

{#- SHA-256 of a text, lower-case hex. -#}
{% macro sha256_hex(value) -%}
    {{ return(adapter.dispatch('sha256_hex', 'cocanal')(value)) }}
{%- endmacro %}

{% macro duckdb__sha256_hex(value) -%}
    sha256({{ value }})
{%- endmacro %}

{% macro spark__sha256_hex(value) -%}
    sha2({{ value }}, 256)
{%- endmacro %}

{#- The text without whatever matches a pattern. -#}
{% macro replaced(value, pattern) -%}
    {{ return(adapter.dispatch('replaced', 'cocanal')(value, pattern)) }}
{%- endmacro %}

{% macro duckdb__replaced(value, pattern) -%}
    regexp_replace({{ value }}, '{{ pattern }}', '', 'g')
{%- endmacro %}

{% macro spark__replaced(value, pattern) -%}
    regexp_replace({{ value }}, '{{ pattern | replace('\\', '\\\\') }}', '')
{%- endmacro %}

{#- The texts of a group as one, in an order, with commas; a null is left out. -#}
{% macro joined_text(value, order) -%}
    {{ return(adapter.dispatch('joined_text', 'cocanal')(value, order)) }}
{%- endmacro %}

{% macro duckdb__joined_text(value, order) -%}
    string_agg({{ value }}, ', ' order by {{ order }})
{%- endmacro %}

{% macro spark__joined_text(value, order) -%}
    array_join(transform(array_sort(collect_list(struct({{ order }}, {{ value }} as text))), item -> item.text), ', ')
{%- endmacro %}
