with identifiers as (
    select
        account_id,
        identifier_type,
        identifier
    from {{ ref('identifiers') }}
),

identifier_consents as (
    select
        identifier_type,
        identifier,
        status
    from {{ ref('identifier_consents') }}
    where purpose = 'profiling'
),

anchors as (
    select account_id
    from {{ source('identity', 'anchors') }}
),

said as (
    select
        identifiers.account_id,
        count(*) filter (where identifier_consents.status <> 'granted') > 0 as is_refused
    from identifiers
    inner join identifier_consents
        on
            identifiers.identifier_type = identifier_consents.identifier_type
            and identifiers.identifier = identifier_consents.identifier
    group by identifiers.account_id
),

-- Segments are the account's, not an identifier's: one refusal is enough.
profiling as (
    select
        anchors.account_id,
        case
            when said.is_refused then 'refused'
            when not said.is_refused then 'granted'
            else 'unknown'
        end as status,
        coalesce(not said.is_refused, {{ 'true' if var('profiling_unknown') == 'allowed' else 'false' }}) as is_allowed
    from anchors
    left join said on anchors.account_id = said.account_id
)

select * from profiling
