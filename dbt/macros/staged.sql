{#-
    The rows of a feed that count: typed, complete, one row per key. Of a key that was delivered more than once, the
    greatest version wins where the feed has one, then the latest delivery, then a hash of the content: never the
    position in a file. Each delivery of a reference feed is the whole table: a key that the last one does not hold is
    gone; a key whose newest row is refused keeps its older row. A line counts only while its header is there.
-#}
{% macro staged(feed, header=none) -%}
    {%- if execute -%}
    {%- set meta = contract_feed(feed).config.meta -%}
    {%- set columns = contract_columns(feed) -%}
    {%- set keys = meta.key -%}
    {%- set names = columns | map(attribute='name') | list -%}
    {%- set others = names | reject('in', keys) | list -%}
    with typed as (
        {{ typed_rows(feed) | indent(8) }}
    ),

    accepted as (
        select
            {%- for column in columns %}
            {{ column.value }} as {{ column.name }},
            {%- endfor %}
            delivered_on,
            file_no,
            line
        from typed
        where
            {%- for column in columns if column.mandatory %}
            {{ 'and ' if not loop.first }}({{ column.value }}) is not null
            {%- endfor %}
            {%- if header %}
            and exists (
                select 1 from {{ header }} as header where header.{{ keys[0] }} = typed.typed_{{ keys[0] }}
            )
            {%- endif %}
            {%- if meta.get('whole_table') %}
            and exists (
                select 1
                from typed as last_delivery
                where
                    last_delivery.delivered_on = (select max(any_delivery.delivered_on) from typed as any_delivery)
                    {%- for key in keys %}
                    and last_delivery.typed_{{ key }} = typed.typed_{{ key }}
                    {%- endfor %}
            )
            {%- endif %}
    ),

    -- Few keys come more than once: only their rows are ranked.
    repeated as (
        select {{ keys | join(', ') }}
        from accepted
        group by {{ keys | join(', ') }}
        having count(*) > 1
    ),

    ranked as (
        select
            accepted.*,
            row_number() over (
                partition by {% for key in keys %}accepted.{{ key }}{{ ', ' if not loop.last }}{% endfor %}
                order by
                    {%- if meta.get('version') %}
                    accepted.{{ meta.version }} desc,
                    {%- endif %}
                    accepted.file_no desc,
                    {{ content_hash(others) }} desc,
                    accepted.line asc
            ) as place
        from accepted
        where exists (
            select 1
            from repeated
            where
                {%- for key in keys %}
                {{ 'and ' if not loop.first }}repeated.{{ key }} = accepted.{{ key }}
                {%- endfor %}
        )
    ),

    counted as (
        select {{ names | join(', ') }}, delivered_on, file_no, line
        from accepted
        where not exists (
            select 1
            from repeated
            where
                {%- for key in keys %}
                {{ 'and ' if not loop.first }}repeated.{{ key }} = accepted.{{ key }}
                {%- endfor %}
        )
        union all
        select {{ names | join(', ') }}, delivered_on, file_no, line
        from ranked
        where place = 1
    )

    select * from counted
    {%- else -%}
    {#- At parse time dbt only needs to see what is read. -#}
    select * from {{ source('landing', feed) }}, {{ source('staging', 'phone_numbers') }}, {{ source('staging', 'country_names') }}
    {%- endif -%}
{%- endmacro %}
