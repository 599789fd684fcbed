{#-
    How a delivered text becomes a typed value. The columns and their types are those of the contract
    (models/landing/contract.yml), read from dbt's own graph, so that a feed is declared once. Which rows are kept is
    said in staged.sql, which are refused in refused.sql.
-#}

{% macro contract_feed(feed) %}
    {%- for node in graph.sources.values() if node.source_name == 'landing' and node.name == feed -%}
        {{ return(node) }}
    {%- endfor -%}
{% endmacro %}

{#-
    The largest value either way that a column can rightly hold, by its name or its type (vars: bounds); none = no bound.
-#}
{% macro bound_of(column, type) -%}
    {{ return(var('bounds').get(column, var('bounds').get(type))) }}
{%- endmacro %}

{#-
    The columns of a feed with their types. `value` is the SQL of the typed value with its bounds applied; `is_accepted`
    and `is_refused` say whether there is one, and make the engine read the text once where asking `value` would do it
    twice.
-#}
{% macro contract_columns(feed) %}
    {%- set columns = [] -%}
    {%- for column in contract_feed(feed).columns.values() -%}
        {%- set meta = column.config.meta -%}
        {%- set typed = 'typed_' ~ column.name -%}
        {%- set past = meta.get('past', false) -%}
        {%- set bound = bound_of(column.name, meta.type) -%}
        {%- set conditions = [] -%}
        {%- if past -%}
            {%- do conditions.append(typed ~ ' < past_until_at') -%}
        {%- endif -%}
        {%- if bound -%}
            {%- do conditions.append(typed ~ ' between -' ~ bound ~ ' and ' ~ bound) -%}
        {%- elif meta.type in ('moment', 'date') -%}
            {%- do conditions.append(typed ~ " >= timestamp '" ~ var('earliest_year') ~ "-01-01 00:00:00'") -%}
            {#- The last Paris hour of the calendar: a moment after it is a date that no calendar can write. -#}
            {%- do conditions.append(typed ~ " < timestamp '9999-12-31 23:00:00'") if not past -%}
        {%- endif -%}
        {%- do columns.append({
            'name': column.name,
            'type': meta.type,
            'mandatory': meta.get('mandatory', false),
            'past': past,
            'bound': bound,
            'choices': meta.get('choices', []),
            'value': 'case when ' ~ conditions | join(' and ') ~ ' then ' ~ typed ~ ' end' if conditions else typed,
            'is_accepted': '(' ~ conditions | join(' and ') ~ ') is true' if conditions else typed ~ ' is not null',
            'is_refused': '(' ~ conditions | join(' and ') ~ ') is not true' if conditions else typed ~ ' is null',
        }) -%}
    {%- endfor -%}
    {{ return(columns) }}
{% endmacro %}

{#- The SQL of one column's typed value with its bounds applied. -#}
{% macro accepted_value(feed, name) -%}
    {{ return((contract_columns(feed) | selectattr('name', 'equalto', name) | first).value) }}
{%- endmacro %}

{#- The column of a feed that says how much money its row is about; none where it has none. -#}
{% macro amount_column(feed) -%}
    {%- set names = contract_feed(feed).columns.keys() | list -%}
    {%- set found = ['total_amount', 'amount'] | select('in', names) | list -%}
    {{ return(found[0] if found else none) }}
{%- endmacro %}

{#- What kind of identifier a key_value is: told by key_type, or, of a message's address, by its form. -#}
{% macro key_kind(columns, value) -%}
    {%- if columns | selectattr('name', 'equalto', 'key_type') | list -%}
        delivered.key_type
    {%- else -%}
        case when {{ value }} like '%@%' then 'email' else 'phone' end
    {%- endif -%}
{%- endmacro %}

{#- What a copy from a web page brings along, such as a zero-width blank, would make another address of it. -#}
{% macro parsed_email(value) -%}
    {%- set visible = 'lower(' ~ replaced(value, '\\p{Cf}|^[\\p{Z}\\s]+|[\\p{Z}\\s]+$') ~ ')' -%}
    case
        when {{ matches(visible, '[^@\\s",;:<>()\\[\\]]+@([\\pL\\d-]+[.])+[\\pL\\d-]{2,}') }}
            then {{ visible }}
    end
{%- endmacro %}

{% macro parsed_moment(value) -%}
    case
        when
            {{ matches(value,
                '\\d{4}-\\d{2}-\\d{2}[T ]\\d{2}:\\d{2}(:\\d{2}([.]\\d+)?)?(Z|[+-]\\d{2}(:?\\d{2})?)') }}
            then {{ utc_from_offset_text(value) }}
    end
{%- endmacro %}

{% macro parsed_postal_code(value, columns) -%}
    {#- Four digits are a French postcode whose leading zero a spreadsheet took. -#}
    case
        when
            {{ matches('trim(' ~ value ~ ')', '\\d{4}') }}
            {%- if columns | selectattr('name', 'equalto', 'country') | list %}
            and coalesce(nullif(upper(trim(delivered.country)), ''), 'FR') in ('FR', 'FRANCE')
            {%- endif %}
            then '0' || trim({{ value }})
        else nullif(trim({{ value }}), '')
    end
{%- endmacro %}

{#- The typed value of a delivered text; null where it is missing or cannot be read. -#}
{% macro parsed(column, dialect, columns) -%}
    {%- set value = 'delivered.' ~ column.name -%}
    {%- if column.choices -%}
        case when trim({{ value }}) in ('{{ column.choices | join("', '") }}') then trim({{ value }}) end
    {%- elif column.type == 'email' -%}
        {{ parsed_email(value) }}
    {%- elif column.type == 'phone' -%}
        {{ column.name }}_number.e164
    {%- elif column.type == 'key_value' -%}
        {#- A request that was carried out keeps a keyed hash in place of the identifier. -#}
        case
            when {{ value }} like 'erased:%' then {{ value }}
            when {{ key_kind(columns, value) }} = 'email' then {{ parsed_email(value) }}
            when {{ key_kind(columns, value) }} = 'phone' then {{ column.name }}_number.e164
            else nullif(trim({{ value }}), '')
        end
    {%- elif column.type == 'country' -%}
        {{ column.name }}_name.code
    {%- elif column.type == 'postal_code' -%}
        {{ parsed_postal_code(value, columns) }}
    {%- elif column.type == 'moment' and dialect == 'pos' -%}
        coalesce({{ utc_from_paris(till_local_time(value)) }}, {{ parsed_moment(value) }})
    {%- elif column.type == 'moment' -%}
        {{ parsed_moment(value) }}
    {%- elif column.type == 'date' -%}
        case when {{ matches(value, '\\d{4}-\\d{2}-\\d{2}') }} then try_cast({{ value }} as date) end
    {%- elif column.type == 'time' -%}
        case
            when {{ matches(value, '([01]\\d|2[0-3]):[0-5]\\d(:[0-5]\\d([.]\\d+)?)?') }} then substr({{ value }}, 1, 5)
        end
    {%- elif column.type == 'boolean' -%}
        case lower(trim({{ value }})) when 'true' then true when 'false' then false end
    {%- elif column.type == 'integer' -%}
        {#- A bare try_cast would round 1.5 to 2. -#}
        case when {{ matches(value, '[+-]?\\d{1,18}') }} then try_cast({{ value }} as bigint) end
    {%- elif column.type == 'decimal' -%}
        case
            when {{ matches(value, '[+-]?\\d+([.,]\\d+)?' if dialect == 'pos' else '[+-]?\\d+([.]\\d+)?') }}
                then try_cast(replace({{ value }}, ',', '.') as double)
        end
    {%- elif column.type == 'amount' -%}
        {#- At most two decimals: 1.234 is a thousand with its separator to some, a fraction to others. -#}
        case
            when
                {{ matches(value, '[+-]?\\d{1,16}([.,]\\d{1,2})?' if dialect == 'pos'
                    else '[+-]?\\d{1,16}([.]\\d{1,2})?') }}
                then try_cast(replace({{ value }}, ',', '.') as decimal(18, 2))
        end
    {%- else -%}
        nullif(trim({{ value }}), '')
    {%- endif -%}
{%- endmacro %}

{#-
    The rows of a feed that could be read as rows: `given_<column>` as text beside `typed_<column>`, plus where each came
    from. The text of a value that is missing is null. `only` names the columns where not all are wanted, `among` a relation of
    `file_no` and `line` where not all rows are: no other is typed.
-#}
{% macro typed_rows(feed, only=none, among=none) -%}
    {%- set all_columns = contract_columns(feed) -%}
    {%- set columns = all_columns | selectattr('name', 'in', only) | list if only else all_columns -%}
    {%- set dialect = contract_feed(feed).config.meta.dialect -%}
    select
        {%- for column in columns %}
        delivered.{{ column.name }} as given_{{ column.name }},
        {{ parsed(column, dialect, all_columns) }} as typed_{{ column.name }},
        {%- endfor %}
        delivered.past_until_at,
        delivered.delivered_on,
        delivered.file_no,
        delivered.line
    from {{ source('landing', feed) }} as delivered
    {%- for column in columns if column.type in ('phone', 'key_value') %}
    left join {{ source('staging', 'phone_numbers') }} as {{ column.name }}_number
        on delivered.{{ column.name }} = {{ column.name }}_number.delivered_value
    {%- endfor %}
    {%- for column in columns if column.type == 'country' %}
    left join {{ source('staging', 'country_names') }} as {{ column.name }}_name
        on upper(trim(delivered.{{ column.name }})) = {{ column.name }}_name.name
    {%- endfor %}
    where
        delivered._rule is null
        {%- if among %}
        and exists (
            select 1 from {{ among }} as wanted where wanted.file_no = delivered.file_no and wanted.line = delivered.line
        )
        {%- endif %}
{%- endmacro %}
