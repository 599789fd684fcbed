with problems as (
    select * from {{ ref('problems') }}
),

files as (
    select * from {{ source('landing', 'files') }}
),

-- A row is refused once, for the first of its mandatory columns that fails; what was delivered again has left.
refused_values as (
    select
        feed,
        file_no,
        line,
        record_id,
        rule,
        column_name,
        amount,
        delivered_row,
        case rule
            when 'mandatory_missing' then column_name || ' is missing; deliver the row again with it'
            when 'in_the_future'
                then column_name || ' lies after the day of delivery + 1; correct it and deliver the row again'
            when 'out_of_bounds'
                then
                    column_name || ' cannot be right; it must be ' || expected_form
                    || '; correct it and deliver the row again'
            else column_name || ' cannot be read; it must be ' || expected_form
        end as message
    from problems
    where is_refusing and left_because is null
),

unreadable_rows as (
    select
        feed,
        file_no,
        line,
        cast(null as string) as record_id,
        rule,
        cast(null as string) as column_name,
        cast(null as decimal(18, 2)) as amount,
        text as delivered_row,
        case rule
            when 'wrong_column_count'
                then 'the row has more or fewer values than the header has names; look for a separator inside a value'
            when 'broken_quoting' then 'the row has a stray double quote; write it twice inside a quoted value'
            when 'invalid_encoding' then 'the row is not UTF-8; write the file in UTF-8'
            when 'cut_off' then 'the file ends in the middle of this row; deliver the file again'
            else 'the row cannot be read; deliver it again'
        end as message
    from {{ source('landing', 'rejected_rows') }}
),

headerless_lines as (
    {{ lines_without_header('shop_order_lines', ref('stg_shop_orders')) }}
    union all
    {{ lines_without_header('pos_ticket_lines', ref('stg_pos_tickets')) }}
    union all
    {{ lines_without_header('shop_refund_lines', ref('stg_shop_refunds')) }}
),

waiting_lines as (
    select
        headerless_lines.feed,
        headerless_lines.file_no,
        headerless_lines.line,
        headerless_lines.record_id,
        'header_missing' as rule,
        cast(null as string) as column_name,
        headerless_lines.amount,
        headerless_lines.delivered_row,
        'the header of this line has not come; the line counts as soon as it does' as message
    from headerless_lines
    left join refused_values
        on
            headerless_lines.feed = refused_values.feed
            and headerless_lines.file_no = refused_values.file_no
            and headerless_lines.line = refused_values.line
    where refused_values.feed is null
),

refused as (
    select * from refused_values
    union all
    select * from unreadable_rows
    union all
    select * from waiting_lines
),

refused_rows as (
    select
        refused.feed,
        files.file,
        refused.line,
        refused.record_id,
        refused.rule,
        refused.message,
        refused.column_name,
        files.delivered_on,
        refused.amount,
        refused.delivered_row
    from refused
    inner join files on refused.feed = files.feed and refused.file_no = files.file_no
)

select * from refused_rows
