{%- set definitions = audience_definitions() %}
with audiences as (
    {%- for audience in definitions %}
    select
        {{ text_literal(audience.name) }} as audience,
        {{ text_literal(audience.kind) }} as kind,
        {{ text_literal(audience.owner) }} as owner,
        cast({{ text_literal(audience.review_on) }} as date) as review_on,
        cast({{ text_literal(audience.review_on) }} as date) < builds.as_of as is_review_overdue,
        {{ text_literal(audience.purpose) }} as purpose,
        {{ text_literal(audience.destinations | join(', ')) }} as destinations,
        {{ audience.priority }} as priority,
        {{ audience.cool_down_days }} as cool_down_days,
        {{ optional_number(audience.cap, 'integer') }} as cap,
        {{ optional_literal(audience.cap_by) }} as cap_by,
        {%- if audience.kind == 'service' %}
        cast(0 as double) as holdout_share,
        {%- elif audience.holdout_share is none %}
        builds.holdout_share,
        {%- else %}
        cast({{ audience.holdout_share }} as double) as holdout_share,
        {%- endif %}
        {{ optional_literal(audience.stratify_by) }} as stratify_by,
        {{ text_literal(audience.kpi) }} as kpi,
        cast({{ audience.kpi_target }} as double) as kpi_target,
        {{ text_literal(audience.stock_rule) }} as stock_rule,
        {{ optional_literal(audience.topics | join(', ')) }} as topics,
        {{ optional_literal(audience.schemes | join(', ')) }} as schemes,
        {{ 'true' if audience.is_profiling else 'false' }} as is_profiling,
        {{ audience.minimum_size }} as minimum_size
    from {{ source('landing', 'builds') }} as builds
    {{ 'union all' if not loop.last }}
    {%- endfor %}
)

select * from audiences
