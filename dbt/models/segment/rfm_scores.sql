{%- set dimensions = {'recency': 'recency_days', 'frequency': 'purchase_count', 'monetary': 'counted_amount'} -%}
with profiling as (
    select account_id
    from {{ ref('profiling') }}
    where is_allowed
),

buyers as (
    select
        behaviours.account_id,
        behaviours.recency_days,
        behaviours.purchase_count,
        behaviours.counted_amount
    from {{ ref('behaviours') }} as behaviours
    inner join profiling on behaviours.account_id = profiling.account_id
    where behaviours.purchase_count > 0
),

cut_points as (
    select
        dimension,
        bucket,
        lower_bound,
        upper_bound
    from {{ ref('cut_points') }}
    where scheme = 'rfm'
),

rfm_scores as (
    select
        buyers.account_id,
        buyers.recency_days,
        buyers.purchase_count,
        buyers.counted_amount,
        {%- for dimension in dimensions %}
        {{ dimension }}_cuts.bucket as {{ dimension }}_score{{ ',' if not loop.last }}
        {%- endfor %}
    from buyers
    {%- for dimension, column in dimensions.items() %}
    inner join cut_points as {{ dimension }}_cuts
        on
            {{ dimension }}_cuts.dimension = '{{ dimension }}'
            and (buyers.{{ column }} > {{ dimension }}_cuts.lower_bound or {{ dimension }}_cuts.lower_bound is null)
            and (buyers.{{ column }} <= {{ dimension }}_cuts.upper_bound or {{ dimension }}_cuts.upper_bound is null)
    {%- endfor %}
)

select * from rfm_scores
