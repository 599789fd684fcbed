with links as (
    select
        feed,
        record_id,
        account_id
    from {{ source('identity', 'account_links') }}
),

records as (
    select
        feed,
        record_id,
        contact_id,
        seen_at
    from {{ source('identity', 'records') }}
    where contact_id is not null
),

contacts as (
    select
        contact_id,
        email,
        phone,
        first_name,
        last_name,
        birth_date,
        address_line1,
        postal_code,
        city,
        country,
        birth_key,
        email_key
    from {{ source('identity', 'contacts') }}
    where
        coalesce(email, phone, first_name, last_name, address_line1, postal_code, city, country) is not null
        or birth_date is not null
),

demoted_identifiers as (
    select
        type,
        value_hash
    from {{ source('identity', 'demoted_identifiers') }}
),

-- A web account and a card are kept up to date; what stands on an order or a ticket was true on its day.
updates as (
    select
        'shop_customers' as feed,
        customer_id as record_id,
        updated_at
    from {{ ref('stg_shop_customers') }}
    union all
    select
        'loyalty_members' as feed,
        card_id as record_id,
        updated_at
    from {{ ref('stg_loyalty_members') }}
),

-- What a person keeps up to date goes before what was typed with an order, then at a till.
best_records as (
    select
        links.account_id,
        records.contact_id,
        case
            when records.feed in ('shop_customers', 'loyalty_members') then 1
            when records.feed = 'shop_orders' then 2
            else 3
        end as priority,
        coalesce(updates.updated_at, records.seen_at) as stated_at,
        records.feed,
        records.record_id
    from records
    inner join links
        on records.feed = links.feed and records.record_id = links.record_id
    left join updates
        on records.feed = updates.feed and records.record_id = updates.record_id
    where records.contact_id in (select contacts.contact_id from contacts)
    qualify row_number() over (
        partition by links.account_id, records.contact_id
        order by priority, stated_at desc nulls last, records.feed, records.record_id
    ) = 1
),

account_contacts as (
    select
        best_records.account_id,
        best_records.contact_id,
        best_records.feed,
        best_records.record_id,
        best_records.stated_at,
        row_number() over (
            partition by best_records.account_id
            order by
                best_records.priority,
                best_records.stated_at desc nulls last,
                best_records.feed,
                best_records.record_id,
                best_records.contact_id
        ) as preference,
        contacts.email,
        contacts.phone,
        demoted_emails.value_hash is not null as is_email_demoted,
        demoted_phones.value_hash is not null as is_phone_demoted,
        contacts.first_name,
        contacts.last_name,
        contacts.birth_date,
        -- The identity stage gives no key to a date that a form or a clerk wrote where nobody was asked.
        contacts.birth_date is not null and contacts.birth_key is not null as is_birth_date,
        contacts.address_line1,
        contacts.postal_code,
        contacts.city,
        contacts.country,
        {{ postal_address('contacts.address_line1', 'contacts.postal_code') }} as postal_address
    from best_records
    inner join contacts on best_records.contact_id = contacts.contact_id
    left join demoted_identifiers as demoted_emails
        on
            demoted_emails.type = 'email'
            and {{ identifier_hash("'email'", 'contacts.email_key') }} = demoted_emails.value_hash
    left join demoted_identifiers as demoted_phones
        on
            demoted_phones.type = 'phone'
            and {{ identifier_hash("'phone'", 'contacts.phone') }} = demoted_phones.value_hash
)

select * from account_contacts
