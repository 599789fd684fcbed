with selected as (
    select distinct
        selected.audience,
        selected.account_id
    from {{ ref('selected') }} as selected
    inner join {{ ref('audiences') }} as audiences on selected.audience = audiences.audience
    where selected.reason is null and audiences.kind = 'marketing'
),

audiences as (
    select
        audience,
        holdout_share,
        stratify_by
    from {{ ref('audiences') }}
),

account_segments as (
    select
        account_id,
        scheme,
        segment
    from {{ ref('account_segments') }}
),

anchors as (
    select
        account_id,
        anchor_key
    from {{ source('identity', 'anchors') }}
),

builds as (
    select
        holdout_salt,
        global_holdout_share
    from {{ source('landing', 'builds') }}
),

-- Drawn by the anchor record and not by the account id, which may change, and without the destination: a person is held
-- out of an audience everywhere or nowhere, and by the global control group out of all of them.
drawn as (
    select
        selected.audience,
        selected.account_id,
        audiences.holdout_share,
        audiences.stratify_by is not null as is_stratified,
        coalesce(account_segments.segment, '') as stratum,
        anchors.anchor_key,
        {{ lottery("builds.holdout_salt || '|global|' || anchors.anchor_key") }} < builds.global_holdout_share
            as is_global,
        {{ lottery("builds.holdout_salt || '|' || selected.audience || '|' || anchors.anchor_key") }} as lot
    from selected
    inner join audiences on selected.audience = audiences.audience
    inner join anchors on selected.account_id = anchors.account_id
    left join account_segments
        on selected.account_id = account_segments.account_id and audiences.stratify_by = account_segments.scheme
    cross join builds
),

-- Within a stratum the share is exact: the lowest lots, as many as the share asks for.
ranked as (
    select
        audience,
        account_id,
        holdout_share,
        is_stratified,
        is_global,
        lot,
        row_number() over (partition by audience, stratum, is_global order by lot, anchor_key) as position,
        count(*) over (partition by audience, stratum, is_global) as stratum_count
    from drawn
),

arms as (
    select
        audience,
        account_id,
        case
            when is_global then 'global'
            when is_stratified and position <= round(holdout_share * stratum_count) then 'audience'
            when not is_stratified and lot < holdout_share then 'audience'
        end as holdout
    from ranked
)

select * from arms
