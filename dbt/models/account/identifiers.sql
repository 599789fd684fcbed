with account_contacts as (
    select
        account_id,
        stated_at,
        email,
        phone,
        is_email_demoted,
        is_phone_demoted,
        postal_address
    from {{ ref('account_contacts') }}
),

golden_records as (
    select
        account_id,
        email,
        phone,
        {{ postal_address('address_line1', 'postal_code') }} as postal_address
    from {{ ref('golden_records') }}
),

held as (
    select
        account_id,
        'email' as identifier_type,
        email as identifier,
        is_email_demoted as is_demoted,
        stated_at
    from account_contacts
    where email is not null
    union all
    select
        account_id,
        'phone' as identifier_type,
        phone as identifier,
        is_phone_demoted as is_demoted,
        stated_at
    from account_contacts
    where phone is not null
    union all
    select
        account_id,
        'post' as identifier_type,
        postal_address as identifier,
        false as is_demoted,
        stated_at
    from account_contacts
    where postal_address is not null
),

distinct_identifiers as (
    select
        account_id,
        identifier_type,
        identifier,
        is_demoted,
        max(stated_at) as last_seen_at
    from held
    group by account_id, identifier_type, identifier, is_demoted
),

identifiers as (
    select
        distinct_identifiers.account_id,
        distinct_identifiers.identifier_type,
        distinct_identifiers.identifier,
        distinct_identifiers.last_seen_at,
        distinct_identifiers.is_demoted,
        coalesce(
            distinct_identifiers.identifier = case distinct_identifiers.identifier_type
                when 'email' then golden_records.email
                when 'phone' then golden_records.phone
                else golden_records.postal_address
            end,
            false
        ) as is_golden
    from distinct_identifiers
    left join golden_records on distinct_identifiers.account_id = golden_records.account_id
)

select * from identifiers
