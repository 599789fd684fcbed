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
        account_id
    from {{ ref('key_accounts') }}
),

requests as (
    select
        privacy_requests.request_id,
        key_accounts.account_id,
        privacy_requests.kind,
        privacy_requests.received_at,
        {{ paris_day('privacy_requests.received_at') }} as received_on
    from privacy_requests
    inner join key_accounts
        on
            privacy_requests.key_type = key_accounts.key_type
            and privacy_requests.key_value = key_accounts.key_value
)

select * from requests
