with privacy_requests as (
    select
        request_id,
        kind,
        {{ paris_day('received_at') }} as received_on
    from {{ ref('stg_privacy_requests') }}
),

concerned as (
    select
        request_id,
        count(*) as account_count
    from {{ ref('requests') }}
    where is_subject
    group by request_id
),

carried_out as (
    select
        request_id,
        carried_out_on
    from {{ source('landing', 'carried_out_requests') }}
),

dated as (
    select
        privacy_requests.request_id,
        privacy_requests.kind,
        privacy_requests.received_on,
        {{ months_after('privacy_requests.received_on', 1) }} as due_on,
        carried_out.carried_out_on,
        coalesce(concerned.account_count, 0) as account_count
    from privacy_requests
    left join concerned on privacy_requests.request_id = concerned.request_id
    left join carried_out on privacy_requests.request_id = carried_out.request_id
),

request_deadlines as (
    select
        request_id,
        kind,
        received_on,
        due_on,
        {{ days_between(as_of(), 'due_on') }} as days_left,
        account_count,
        carried_out_on,
        case
            when carried_out_on is not null then 'carried out'
            when kind = 'objection' then 'respected'
            when account_count > 1 then 'to be confirmed'
            when due_on < {{ as_of() }} then 'overdue'
            else 'open'
        end as state
    from dated
)

select * from request_deadlines
