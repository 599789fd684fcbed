with privacy_requests as (
    select
        request_id,
        kind,
        key_type,
        key_value,
        received_at
    from {{ ref('stg_privacy_requests') }}
),

key_accounts as (
    select
        key_type,
        key_value,
        account_id,
        is_own_record
    from {{ ref('key_accounts') }}
),

matched as (
    select
        privacy_requests.request_id,
        key_accounts.account_id,
        privacy_requests.kind,
        privacy_requests.key_type,
        key_accounts.is_own_record,
        privacy_requests.received_at,
        {{ paris_day('privacy_requests.received_at') }} as received_on
    from privacy_requests
    inner join key_accounts
        on
            privacy_requests.key_type = key_accounts.key_type
            and privacy_requests.key_value = key_accounts.key_value
),

-- What is done for good concerns the person whose web account or card it is, where the request names one; what is only
-- left undone, such as a solicitation, concerns everybody who may be meant.
requests as (
    select
        request_id,
        account_id,
        kind,
        key_type,
        received_at,
        received_on,
        is_own_record or max(case when is_own_record then 1 else 0 end) over (partition by request_id) = 0
            as is_subject
    from matched
)

select * from requests
