{#- What a value of a type looks like in a file, for the sentence that says what to do. -#}
{% macro expected_form(column, dialect) -%}
    {%- if column.choices -%}
        one of {{ column.choices | join(', ') }}
    {%- else -%}
        {{- {
            'moment': 'DD/MM/YYYY HH:MM:SS in Paris time' if dialect == 'pos'
                else 'a timestamp with its offset such as 2024-03-01T18:04:11+01:00',
            'date': 'YYYY-MM-DD',
            'time': 'HH:MM',
            'boolean': 'true or false',
            'integer': 'a whole number',
            'decimal': 'a number',
            'amount': 'an amount such as 12,50 with at most two decimals' if dialect == 'pos'
                else 'an amount such as 12.50 with at most two decimals',
            'email': 'an e-mail address',
            'phone': 'a telephone number',
            'country': 'the name or the ISO 3166 code of a country',
            'key_value': 'the identifier that key_type names',
        }.get(column.type, 'a text') -}}
    {%- endif -%}
{%- endmacro %}

{#- The key of a delivered row as one text, null if a part is missing; a part that names a person is hashed. -#}
{% macro record_id_of(feed) -%}
    {%- set meta = contract_feed(feed) -%}
    {%- for key in meta.config.meta.key -%}
        {%- set part = "nullif(trim(given_" ~ key ~ "), '')" -%}
        {{ sha256_hex('lower(' ~ part ~ ')') if meta.columns[key].config.meta.get('personal') else part }}
        {{- " || '|' || " if not loop.last -}}
    {%- endfor -%}
{%- endmacro %}

{#-
    One row per delivered value of a feed that cannot be accepted. The rows are read once; only those with a problem are
    then taken apart column by column. Values are never shown: they may be somebody's.
-#}
{% macro problem_values(feed) -%}
    {%- if not execute -%}
    {#- At parse time dbt only needs to see what is read. -#}
    {{ return('select * from ' ~ [source('landing', feed), source('staging', 'phone_numbers'), source('staging', 'country_names')] | join(', ')) }}
    {%- endif -%}
    {%- set dialect = contract_feed(feed).config.meta.dialect -%}
    {%- set columns = contract_columns(feed) -%}
    {%- set judged = [] -%}
    {%- for column in columns -%}
        {%- if column.mandatory -%}
            {%- do judged.append((loop.index, column, '(' ~ column.value ~ ') is null')) -%}
        {%- elif column.choices or column.past or column.type not in ('text', 'name', 'address', 'city', 'postal_code') -%}
            {%- do judged.append((
                loop.index, column,
                "(" ~ column.value ~ ") is null and nullif(trim(given_" ~ column.name ~ "), '') is not null"
            )) -%}
        {%- endif -%}
    {%- endfor -%}
    select * from (
        with typed as (
            {{ typed_rows(feed) | indent(12) }}
        ),

        suspects as (
            select
                *,
                {{ record_id_of(feed) }} as record_id,
                concat_ws(
                    '|'{% for column in columns %}, coalesce(given_{{ column.name }}, ''){% endfor %}
                ) as delivered_row
            from typed
            where
                {%- for _, column, is_bad in judged %}
                {{ 'or ' if not loop.first }}({{ is_bad }})
                {%- endfor %}
        )
        {% for position, column, is_bad in judged %}
        select
            '{{ feed }}' as feed,
            file_no,
            line,
            record_id,
            {{ position }} as column_position,
            '{{ column.name }}' as column_name,
            {{ column.mandatory }} as is_mandatory,
            case
                when nullif(trim(given_{{ column.name }}), '') is null then 'mandatory_missing'
                {%- if column.past %}
                when typed_{{ column.name }} is not null then 'in_the_future'
                {%- endif %}
                else '{{ 'unknown_choice' if column.choices else 'unreadable_value' }}'
            end as rule,
            '{{ expected_form(column, dialect) | replace("'", "''") }}' as expected_form,
            delivered_row
        from suspects
        where {{ is_bad }}
        {{ 'union all' if not loop.last }}
        {%- endfor %}
    ) as problems_of_{{ feed }}
{%- endmacro %}

{#- One row per line of a feed whose header has not come. -#}
{% macro lines_without_header(feed, header) -%}
    {%- if not execute -%}
    {{ return('select * from ' ~ [source('landing', feed), source('staging', 'phone_numbers'), source('staging', 'country_names')] | join(', ')) }}
    {%- endif -%}
    {%- set keys = contract_feed(feed).config.meta.key -%}
    select
        '{{ feed }}' as feed,
        typed.file_no,
        typed.line,
        {{ record_id_of(feed) }} as record_id
    from (
        {{ typed_rows(feed) | indent(8) }}
    ) as typed
    where
        typed.typed_{{ keys[0] }} is not null
        and not exists (
            select 1 from {{ header }} as header where header.{{ keys[0] }} = typed.typed_{{ keys[0] }}
        )
{%- endmacro %}
