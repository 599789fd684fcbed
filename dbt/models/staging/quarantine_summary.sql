with quarantine as (
    select * from {{ ref('quarantine') }}
),

ranked as (
    select
        *,
        row_number() over (partition by feed, rule, column_name, file, message order by line) as place
    from quarantine
),

quarantine_summary as (
    select
        feed,
        rule,
        column_name,
        file,
        delivered_on,
        message,
        count(*) as row_count,
        cast(sum(amount) as decimal(38, 2)) as amount,
        {{ joined_text('case when place <= 5 then cast(line as string) end', 'line') }}
        || case when count(*) > 5 then ', ...' else '' end as first_lines
    from ranked
    group by feed, rule, column_name, file, delivered_on, message
)

select * from quarantine_summary
