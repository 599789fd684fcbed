with refused_rows as (
    select * from {{ ref('refused_rows') }}
),

quarantine as (
    select
        feed,
        file,
        line,
        record_id,
        rule,
        message,
        column_name,
        delivered_on,
        amount
    from refused_rows
)

select * from quarantine
