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
        country
    from {{ source('identity', 'contacts') }}
    where
        coalesce(email, phone, first_name, last_name, address_line1, postal_code, city, country) is not null
        or birth_date is not null
),

-- What a person keeps up to date (web account, card) goes before what was typed with an order, then at a till.
best_records as (
    select
        links.account_id,
        records.contact_id,
        case
            when records.feed in ('shop_customers', 'loyalty_members') then 1
            when records.feed = 'shop_orders' then 2
            else 3
        end as priority,
        records.seen_at,
        records.feed,
        records.record_id
    from records
    inner join links
        on records.feed = links.feed and records.record_id = links.record_id
    where records.contact_id in (select contacts.contact_id from contacts)
    qualify row_number() over (
        partition by links.account_id, records.contact_id
        order by priority, records.seen_at desc nulls last, records.feed, records.record_id
    ) = 1
),

account_contacts as (
    select
        best_records.account_id,
        best_records.contact_id,
        best_records.feed,
        best_records.record_id,
        best_records.seen_at,
        row_number() over (
            partition by best_records.account_id
            order by
                best_records.priority,
                best_records.seen_at desc nulls last,
                best_records.feed,
                best_records.record_id,
                best_records.contact_id
        ) as preference,
        contacts.email,
        contacts.phone,
        contacts.first_name,
        contacts.last_name,
        contacts.birth_date,
        contacts.address_line1,
        contacts.postal_code,
        contacts.city,
        contacts.country,
        {{ postal_address('contacts.address_line1', 'contacts.postal_code') }} as postal_address
    from best_records
    inner join contacts on best_records.contact_id = contacts.contact_id
)

select * from account_contacts
