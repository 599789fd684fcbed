{%- set dimensions = ['recency', 'frequency', 'monetary'] -%}
with profiling as (
    select account_id
    from {{ ref('profiling') }}
    where is_allowed
),

buyers as (
    select
        cast(behaviours.recency_days as decimal(18, 2)) as recency,
        cast(behaviours.purchase_count as decimal(18, 2)) as frequency,
        behaviours.counted_amount as monetary
    from {{ ref('behaviours') }} as behaviours
    inner join profiling on behaviours.account_id = profiling.account_id
    where behaviours.purchase_count > 0
),

-- Values, not ranks: equal values always fall into the same bucket, whoever else is in the table.
quintiles as (
    {%- for dimension in dimensions %}
    select
        '{{ dimension }}' as dimension,
        {%- for fifth in range(1, 5) %}
        percentile_disc(0.{{ fifth * 2 }}) within group (order by {{ dimension }}) as bound_{{ fifth }},
        {%- endfor %}
        count(*) as buyer_count
    from buyers
    {{ 'union all' if not loop.last }}
    {%- endfor %}
),

cut_points as (
    {%- for bucket in range(1, 6) %}
    select
        'rfm' as scheme,
        dimension,
        -- The best score is 5: the latest purchase, the most purchases, the most spent.
        case when dimension = 'recency' then {{ 6 - bucket }} else {{ bucket }} end as bucket,
        {{ 'cast(null as decimal(18, 2))' if bucket == 1 else 'bound_' ~ (bucket - 1) }} as lower_bound,
        {{ 'cast(null as decimal(18, 2))' if bucket == 5 else 'bound_' ~ bucket }} as upper_bound
    from quintiles
    where bound_1 is not null
    {{ 'union all' if not loop.last }}
    {%- endfor %}
)

select * from cut_points
