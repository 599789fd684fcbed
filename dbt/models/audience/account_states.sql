with candidates as (
    select distinct account_id
    from {{ ref('candidates') }}
),

requests as (
    select
        account_id,
        count(*) filter (where kind = 'erasure') > 0 as is_erasure_requested,
        max(received_at) filter (where kind = 'objection') as objected_at
    from {{ ref('requests') }}
    where kind in ('erasure', 'objection')
    group by account_id
),

-- Of an account that says two birth dates nobody knows which is right: the younger one decides.
births as (
    select
        account_id,
        max(birth_date) as youngest_birth_date
    from {{ ref('account_contacts') }}
    group by account_id
),

profiling as (
    select
        account_id,
        is_allowed
    from {{ ref('profiling') }}
),

limits as (
    select
        identifiers.account_id,
        min(identifier_consents.max_per_week) as max_per_week
    from {{ ref('identifiers') }} as identifiers
    inner join {{ ref('identifier_consents') }} as identifier_consents
        on
            identifiers.identifier_type = identifier_consents.identifier_type
            and identifiers.identifier = identifier_consents.identifier
    where identifier_consents.purpose = 'prospecting' and identifier_consents.status = 'granted'
    group by identifiers.account_id
),

sent as (
    select
        account_id,
        count(*) filter (where sent_on > {{ days_before(as_of(), 7) }}) as weekly_count,
        count(*) filter (where sent_on > {{ days_before(as_of(), var('pressure_days')) }}) as pressure_count
    from {{ ref('messages_sent') }}
    where is_solicitation
    group by account_id
),

account_states as (
    select
        candidates.account_id,
        coalesce(requests.is_erasure_requested, false) as is_erasure_requested,
        requests.objected_at,
        coalesce(births.youngest_birth_date > {{ years_before(as_of(), var('minimum_age')) }}, false) as is_minor,
        coalesce(profiling.is_allowed, false) as is_profiling_allowed,
        coalesce(coalesce(sent.weekly_count, 0) >= limits.max_per_week, false) as is_at_personal_limit,
        coalesce(sent.pressure_count, 0) >= {{ var('pressure_most') }} as is_under_pressure
    from candidates
    left join requests on candidates.account_id = requests.account_id
    left join births on candidates.account_id = births.account_id
    left join profiling on candidates.account_id = profiling.account_id
    left join limits on candidates.account_id = limits.account_id
    left join sent on candidates.account_id = sent.account_id
)

select * from account_states
