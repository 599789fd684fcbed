{#- What survives together: the name of the group, and its columns. -#}
{%- set groups = {
    'email': ['email'],
    'phone': ['phone'],
    'name': ['first_name', 'last_name'],
    'birth_date': ['birth_date'],
    'address': ['address_line1', 'postal_code', 'city', 'country'],
} -%}

with account_contacts as (
    select *
    from {{ ref('account_contacts') }}
),

anchors as (
    select account_id
    from {{ source('identity', 'anchors') }}
),

-- Which contact block each attribute survives from. What belongs together (both names, the parts of an address) is
-- taken from one block; half of a name or of an address only where no block has the whole.
chosen as (
    select
        account_id,
        min(preference) filter (where email is not null and not is_email_demoted) as email_preference,
        min(preference) filter (where phone is not null and not is_phone_demoted) as phone_preference,
        coalesce(
            min(preference) filter (where first_name is not null and last_name is not null),
            min(preference) filter (where last_name is not null),
            min(preference) filter (where first_name is not null)
        ) as name_preference,
        min(preference) filter (where is_birth_date) as birth_date_preference,
        coalesce(
            min(preference) filter (where postal_address is not null),
            min(preference) filter (where postal_code is not null),
            min(preference) filter (where address_line1 is not null),
            min(preference) filter (where city is not null),
            min(preference) filter (where country is not null)
        ) as address_preference
    from account_contacts
    group by account_id
),

survivors as (
    select
        account_contacts.account_id,
        {%- for group, columns in groups.items() %}
        {%- for column in columns + ['feed', 'record_id'] %}
        max(account_contacts.{{ column }}) filter (
            where account_contacts.preference = chosen.{{ group }}_preference
        ) as {{ column if column in columns else group ~ '_' ~ column }},
        {%- endfor %}
        {%- endfor %}
        count(*) as contact_count
    from account_contacts
    inner join chosen on account_contacts.account_id = chosen.account_id
    group by account_contacts.account_id
),

golden_records as (
    select
        anchors.account_id,
        {%- for group, columns in groups.items() %}
        {%- for column in columns %}
        survivors.{{ column }},
        case when survivors.{{ column }} is not null then survivors.{{ group }}_feed end as {{ column }}_feed,
        case when survivors.{{ column }} is not null then survivors.{{ group }}_record_id end as {{ column }}_record_id,
        {%- endfor %}
        {%- endfor %}
        coalesce(survivors.contact_count, 0) as contact_count
    from anchors
    left join survivors on anchors.account_id = survivors.account_id
)

select * from golden_records
