-- A sensitivity without an end holds until one is delivered, and what begins tomorrow is respected today.
with sensitivities as (
    select
        key_type,
        key_value,
        lower(trim(topic)) as topic
    from {{ ref('stg_sensitivities') }}
    where until_at is null or {{ paris_day('until_at') }} >= {{ as_of() }}
),

key_accounts as (
    select
        key_type,
        key_value,
        account_id
    from {{ ref('key_accounts') }}
),

sensitive_topics as (
    select distinct
        key_accounts.account_id,
        sensitivities.topic
    from sensitivities
    inner join key_accounts
        on sensitivities.key_type = key_accounts.key_type and sensitivities.key_value = key_accounts.key_value
)

select * from sensitive_topics
