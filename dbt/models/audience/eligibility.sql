{#- Every rule in the order in which it is asked: the first that fails is the reason. -#}
{%- set reasons = [
    'review_overdue', 'erasure_requested', 'objection_received', 'minor', 'sensitive_topic', 'profiling_refused',
    'no_identifier', 'consent_unknown', 'consent_denied', 'consent_withdrawn', 'partner_consent_missing',
    'address_bounced', 'identifier_unusable', 'out_of_stock', 'cooling_down', 'personal_limit', 'pressure',
    'lower_priority', 'over_cap', 'audience_too_small',
] -%}
with selected as (
    select
        audience,
        destination,
        account_id,
        reason
    from {{ ref('selected') }}
),

audience_destinations as (
    select
        audience,
        destination,
        purpose,
        channel,
        minimum_size
    from {{ ref('audience_destinations') }}
),

arms as (
    select
        audience,
        account_id,
        holdout
    from {{ ref('arms') }}
),

-- What a third party gets must not single anybody out: too few people, and nobody of the audience goes there.
sized as (
    select
        selected.audience,
        selected.destination,
        count(*) filter (where selected.reason is null and arms.holdout is null) as treated_count
    from selected
    left join arms on selected.audience = arms.audience and selected.account_id = arms.account_id
    group by selected.audience, selected.destination
),

judged as (
    select
        selected.audience,
        selected.destination,
        selected.account_id,
        audience_destinations.purpose,
        audience_destinations.channel,
        arms.holdout,
        coalesce(
            selected.reason,
            case when sized.treated_count < audience_destinations.minimum_size then 'audience_too_small' end
        ) as reason
    from selected
    inner join audience_destinations
        on
            selected.audience = audience_destinations.audience
            and selected.destination = audience_destinations.destination
    inner join sized
        on selected.audience = sized.audience and selected.destination = sized.destination
    left join arms on selected.audience = arms.audience and selected.account_id = arms.account_id
),

eligibility as (
    select
        audience,
        destination,
        account_id,
        purpose,
        channel,
        reason,
        case reason
            {%- for reason in reasons %}
            when '{{ reason }}' then {{ loop.index }}
            {%- endfor %}
        end as reason_order,
        case when reason is null then holdout end as holdout
    from judged
)

select * from eligibility
