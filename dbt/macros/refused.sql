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

{#- What a bounded number looks like, also one that is too large to be read. -#}
{% macro number_form(column, dialect) -%}
    {{- {
        'integer': '[+-]?\\d+',
        'amount': '[+-]?\\d+([.,]\\d{1,2})?' if dialect == 'pos' else '[+-]?\\d+([.]\\d{1,2})?',
        'decimal': '[+-]?\\d+([.,]\\d+)?' if dialect == 'pos' else '[+-]?\\d+([.]\\d+)?',
    }[column.type] -}}
{%- endmacro %}

{#- Whether a value that cannot be accepted can be read, but cannot be right. Null and false are no. -#}
{% macro is_out_of_bounds(column, dialect) -%}
    {%- if column.bound -%}
        (typed_{{ column.name }} is not null or {{ matches('given_' ~ column.name, number_form(column, dialect)) }})
    {%- elif column.type in ('moment', 'date') -%}
        typed_{{ column.name }} is not null
    {%- else -%}
        false
    {%- endif -%}
{%- endmacro %}

{#- Between which values a column is believed, for the same sentence. -#}
{% macro believed_range(column) -%}
    {%- if column.bound -%}
        between -{{ column.bound }} and {{ column.bound }}
    {%- else -%}
        of the year {{ var('earliest_year') }} or later{{ ', and before the year 10000' if not column.past }}
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

    A row is refused for the first of its mandatory values that fails (`is_refusing`). It has left quarantine
    (`left_because`) when it is `outranked`: the row of its key that counts ranks above it, by version where both say one
    and by delivery otherwise, so that it would have lost even if it could be read; or `replaced`: a reference feed's last
    delivery no longer holds its key.
-#}
{% macro problem_values(feed) -%}
    {%- if not execute -%}
    {#- At parse time dbt only needs to see what is read. -#}
    {{ return('select * from ' ~ [
        source('landing', feed), source('landing', 'files'),
        source('staging', 'phone_numbers'), source('staging', 'country_names'), ref('stg_' ~ feed)
    ] | join(', ')) }}
    {%- endif -%}
    {%- set meta = contract_feed(feed).config.meta -%}
    {%- set dialect = meta.dialect -%}
    {%- set keys = meta.key -%}
    {%- set columns = contract_columns(feed) -%}
    {%- set amount = amount_column(feed) -%}
    {%- set judged = [] -%}
    {%- for column in columns -%}
        {%- if column.mandatory -%}
            {%- do judged.append((loop.index, column, column.is_refused)) -%}
        {%- elif column.choices or column.past or column.type not in ('text', 'name', 'address', 'city', 'postal_code') -%}
            {%- do judged.append((
                loop.index, column,
                column.is_refused ~ " and nullif(trim(given_" ~ column.name ~ "), '') is not null"
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
                case
                    {%- for position, column, is_bad in judged if column.mandatory %}
                    when {{ is_bad }} then {{ position }}
                    {%- endfor %}
                end as refusing_position,
                {{ accepted_value(feed, amount) if amount else 'cast(null as decimal(18, 2))' }} as suspect_amount,
                {{ delivered_text(feed) }} as delivered_row
            from typed
            where
                {%- for _, column, is_bad in judged %}
                {{ 'or ' if not loop.first }}({{ is_bad }})
                {%- endfor %}
        ),

        followed as (
            select
                suspects.*,
                case
                    when suspects.refusing_position is null then null
                    {%- if meta.get('version') %}
                    {#- Of a version that cannot be read nothing is known: the later delivery is the correction. -#}
                    {%- set version = accepted_value(feed, meta.version) | replace('typed_', 'suspects.typed_')
                        | replace('past_until_at', 'suspects.past_until_at') %}
                    when
                        current_row.{{ meta.version }} > {{ version }}
                        or (
                            coalesce(current_row.{{ meta.version }} = {{ version }}, true)
                            and current_row.file_no > suspects.file_no
                        )
                        then 'outranked'
                    {%- else %}
                    when current_row.file_no > suspects.file_no then 'outranked'
                    {%- endif %}
                    {%- if meta.get('whole_table') %}
                    when
                        {%- for key in keys %}
                        suspects.typed_{{ key }} is not null and
                        {%- endfor %}
                        not {{ is_in_last_delivery(feed, 'typed', 'suspects') | indent(24) }}
                        then 'replaced'
                    {%- endif %}
                end as left_because
            from suspects
            left join {{ ref('stg_' ~ feed) }} as current_row
                on
                    {%- for key in keys %}
                    {{ 'and ' if not loop.first }}suspects.typed_{{ key }} = current_row.{{ key }}
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
            coalesce(refusing_position = {{ position }}, false) as is_refusing,
            case
                when nullif(trim(given_{{ column.name }}), '') is null then 'mandatory_missing'
                {%- if column.past %}
                when typed_{{ column.name }} >= past_until_at then 'in_the_future'
                {%- endif %}
                when {{ is_out_of_bounds(column, dialect) }} then 'out_of_bounds'
                else '{{ 'unknown_choice' if column.choices else 'unreadable_value' }}'
            end as rule,
            {% if column.bound or column.type in ('moment', 'date') -%}
            case
                when {{ is_out_of_bounds(column, dialect) }} then '{{ believed_range(column) }}'
                else '{{ expected_form(column, dialect) | replace("'", "''") }}'
            end
            {%- else -%}
            '{{ expected_form(column, dialect) | replace("'", "''") }}'
            {%- endif %} as expected_form,
            suspect_amount as amount,
            left_because,
            delivered_row
        from followed
        where {{ is_bad }}
        {{ 'union all' if not loop.last }}
        {%- endfor %}
    ) as problems_of_{{ feed }}
{%- endmacro %}

{#- A delivered row as one text, in the order of the contract. -#}
{% macro delivered_text(feed) -%}
    concat_ws('|'{% for column in contract_columns(feed) %}, coalesce(given_{{ column.name }}, ''){% endfor %})
{%- endmacro %}

{#-
    One row per line of a feed whose header has not come. First which they are, for which the key is enough; then what
    they say, of these few alone.
-#}
{% macro lines_without_header(feed, header) -%}
    {%- if not execute -%}
    {{ return('select * from ' ~ [source('landing', feed), source('staging', 'phone_numbers'), source('staging', 'country_names')] | join(', ')) }}
    {%- endif -%}
    {%- set keys = contract_feed(feed).config.meta.key -%}
    {%- set amount = amount_column(feed) -%}
    select * from (
        with keyed as (
            {{ typed_rows(feed, only=[keys[0]]) | indent(12) }}
        ),

        orphans as (
            select
                keyed.file_no,
                keyed.line
            from keyed
            where
                keyed.typed_{{ keys[0] }} is not null
                and not exists (
                    select 1 from {{ header }} as header where header.{{ keys[0] }} = keyed.typed_{{ keys[0] }}
                )
        ),

        typed as (
            {{ typed_rows(feed, among='orphans') | indent(12) }}
        )

        select
            '{{ feed }}' as feed,
            file_no,
            line,
            {{ record_id_of(feed) }} as record_id,
            {{ accepted_value(feed, amount) }} as amount,
            {{ delivered_text(feed) }} as delivered_row
        from typed
    ) as orphans_of_{{ feed }}
{%- endmacro %}

{#- How many rows of a reference feed have a key that the last delivery of the whole table no longer holds. -#}
{% macro replaced_rows(feed) -%}
    {%- if not execute -%}
    {{ return('select * from ' ~ source('landing', feed)) }}
    {%- endif -%}
    {%- set keys = contract_feed(feed).config.meta.key -%}
    select * from (
        with keyed as (
            {{ typed_rows(feed, only=keys) | indent(12) }}
        )

        select
            '{{ feed }}' as feed,
            count(*) as replaced_row_count
        from keyed
        where
            {%- for key in keys %}
            keyed.typed_{{ key }} is not null and
            {%- endfor %}
            not {{ is_in_last_delivery(feed, 'keyed', 'keyed') | indent(12) }}
    ) as replaced_rows_of_{{ feed }}
{%- endmacro %}

{#- The sum of the amounts of a feed that can be read, over every delivered row, as the files have them. -#}
{% macro delivered_amount(feed) -%}
    {%- if not execute -%}
    {{ return('select * from ' ~ source('landing', feed)) }}
    {%- endif -%}
    {%- set amount = amount_column(feed) -%}
    select
        '{{ feed }}' as feed,
        cast(coalesce(sum({{ accepted_value(feed, amount) }}), 0) as decimal(38, 2)) as delivered_amount
    from (
        {{ typed_rows(feed, only=[amount]) | indent(8) }}
    ) as typed
{%- endmacro %}
