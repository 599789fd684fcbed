{#-
    The days on which a reference feed was delivered, and whether it came whole: a file that was cut off or could not be
    read says nothing of the keys that it does not hold.
-#}
{% macro delivery_days(feed) -%}
    select
        files.delivered_on,
        bool_and(files.status not in ('cut_off', 'unreadable', 'changing')) as is_whole
    from {{ source('landing', 'files') }} as files
    where files.feed = '{{ feed }}'
    group by files.delivered_on
    having sum(files.row_count - files.rejected_row_count) > 0
{%- endmacro %}

{#- The day of the last delivery of a reference feed that came whole. Of a feed that never came whole, its first day. -#}
{% macro last_whole_day(feed) -%}
    (
        select coalesce(max(case when days.is_whole then days.delivered_on end), min(days.delivered_on))
        from (
            {{ delivery_days(feed) | indent(12) }}
        ) as days
    )
{%- endmacro %}

{#-
    Whether the last delivery of a reference feed holds the key of `row`, which is a row of `rows`; `rows` has
    `delivered_on` and the typed key of every delivered row.
-#}
{% macro is_in_last_delivery(feed, rows, row) -%}
    exists (
        select 1
        from {{ rows }} as last_delivery
        where
            last_delivery.delivered_on >= {{ last_whole_day(feed) }}
            {%- for key in contract_feed(feed).config.meta.key %}
            and last_delivery.typed_{{ key }} = {{ row }}.typed_{{ key }}
            {%- endfor %}
    )
{%- endmacro %}

{#-
    The rows of a feed that count: typed, complete, one row per key. Of a key that was delivered more than once, the
    greatest version wins where the feed has one, then the latest delivery, then a hash of the content: never the
    position in a file. Each delivery of a reference feed is the whole table: a key that the last one does not hold is
    gone, unless a file of it was cut off; a key whose newest row is refused keeps its older row. A line counts only while
    its header is there.
-#}
{% macro staged(feed, header=none) -%}
    {%- if execute -%}
    {%- set meta = contract_feed(feed).config.meta -%}
    {%- set columns = contract_columns(feed) -%}
    {%- set keys = meta.key -%}
    {%- set names = columns | map(attribute='name') | list -%}
    {%- set others = names | reject('in', keys) | list -%}
    {%- set amount = amount_column(feed) -%}
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
            {{ 'and ' if not loop.first }}{{ column.is_accepted }}
            {%- endfor %}
            {%- if header %}
            and exists (
                select 1 from {{ header }} as header where header.{{ keys[0] }} = typed.typed_{{ keys[0] }}
            )
            {%- endif %}
            {%- if meta.get('whole_table') %}
            and {{ is_in_last_delivery(feed, 'typed', 'typed') | indent(12) }}
            {%- endif %}
    ),

    -- Few keys come more than once: only their rows are ranked.
    repeated as (
        select {{ keys | join(', ') }}
        from accepted
        group by {{ keys | join(', ') }}
        having count(*) > 1
    ),

    contested as (
        select
            accepted.*,
            {{ content_hash(others) }} as content
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

    ranked as (
        select
            *,
            row_number() over (
                partition by {{ keys | join(', ') }}
                order by
                    {%- if meta.get('version') %}
                    {{ meta.version }} desc,
                    {%- endif %}
                    file_no desc,
                    content desc,
                    line asc
            ) as place,
            count(*) over (partition by {{ keys | join(', ') }}) as key_row_count,
            count(*) over (partition by {{ keys | join(', ') }}, content) as content_row_count,
            {%- if amount %}
            sum({{ amount }}) over (partition by {{ keys | join(', ') }}) as key_amount,
            {%- endif %}
            count(*) over (partition by {{ keys | join(', ') }}, file_no) as file_row_count,
            count(*) over (partition by {{ keys | join(', ') }}, file_no, content) as file_content_row_count
        from contested
    ),

    counted as (
        select
            {{ names | join(', ') }}, delivered_on, file_no, line,
            cast(0 as bigint) as identical_row_count,
            cast(0 as bigint) as superseded_row_count,
            cast(0 as bigint) as conflicting_row_count
            {%- if amount %},
            cast(0 as decimal(38, 2)) as superseded_amount
            {%- endif %}
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
        select
            {{ names | join(', ') }}, delivered_on, file_no, line,
            content_row_count - 1 as identical_row_count,
            key_row_count - content_row_count as superseded_row_count,
            file_row_count - file_content_row_count as conflicting_row_count
            {%- if amount %},
            cast(key_amount - content_row_count * {{ amount }} as decimal(38, 2)) as superseded_amount
            {%- endif %}
        from ranked
        where place = 1
    )

    select * from counted
    {%- else -%}
    {#- At parse time dbt only needs to see what is read. -#}
    select * from {{ source('landing', feed) }}, {{ source('landing', 'files') }}, {{ source('staging', 'phone_numbers') }}, {{ source('staging', 'country_names') }}
    {%- endif -%}
{%- endmacro %}
