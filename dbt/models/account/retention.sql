with anchors as (
    select account_id
    from {{ source('identity', 'anchors') }}
),

links as (
    select
        feed,
        record_id,
        account_id
    from {{ source('identity', 'account_links') }}
),

identifiers as (
    select
        account_id,
        identifier_type,
        identifier
    from {{ ref('identifiers') }}
),

builds as (
    select
        as_of,
        inactive_months
    from {{ source('landing', 'builds') }}
),

-- What the person did themselves. A message that was sent, delivered or opened is none of it: a preview opens too.
contacts as (
    select
        account_id,
        business_on as contact_on
    from {{ ref('transactions') }}
    where account_id is not null
    union all
    select
        links.account_id,
        {{ paris_day('customers.created_at') }} as contact_on
    from {{ ref('stg_shop_customers') }} as customers
    inner join links on links.feed = 'shop_customers' and customers.customer_id = links.record_id
    union all
    select
        links.account_id,
        {{ paris_day('members.enrolled_at') }} as contact_on
    from {{ ref('stg_loyalty_members') }} as members
    inner join links on links.feed = 'loyalty_members' and members.card_id = links.record_id
    union all
    select
        links.account_id,
        {{ paris_day('web_events.occurred_at') }} as contact_on
    from {{ ref('stg_web_events') }} as web_events
    inner join links on links.feed = 'shop_customers' and web_events.customer_id = links.record_id
    union all
    select
        identifiers.account_id,
        {{ paris_day('address_events.clicked_at') }} as contact_on
    from {{ ref('address_events') }} as address_events
    inner join identifiers
        on
            address_events.identifier_type = identifiers.identifier_type
            and address_events.identifier = identifiers.identifier
    where address_events.clicked_at is not null
    union all
    select
        identifiers.account_id,
        {{ paris_day('identifier_consents.occurred_at') }} as contact_on
    from {{ ref('identifier_consents') }} as identifier_consents
    inner join identifiers
        on
            identifier_consents.identifier_type = identifiers.identifier_type
            and identifier_consents.identifier = identifiers.identifier
    union all
    select
        account_id,
        received_on as contact_on
    from {{ ref('requests') }}
),

last_contacts as (
    select
        account_id,
        max(contact_on) as last_contact_on
    from contacts
    group by account_id
),

-- Who waits for money or for an answer is not erased by the calendar.
waiting as (
    select account_id
    from {{ ref('unrefunded_returns') }}
    where account_id is not null
    union
    select requests.account_id
    from {{ ref('requests') }} as requests
    inner join {{ ref('request_deadlines') }} as request_deadlines
        on requests.request_id = request_deadlines.request_id
    where request_deadlines.state in ('open', 'overdue')
),

counted_down as (
    select
        anchors.account_id,
        last_contacts.last_contact_on,
        {{ months_after('last_contacts.last_contact_on', 'builds.inactive_months') }} as erase_on,
        waiting.account_id is not null as is_waiting,
        builds.as_of
    from anchors
    cross join builds
    left join last_contacts on anchors.account_id = last_contacts.account_id
    left join waiting on anchors.account_id = waiting.account_id
),

retention as (
    select
        account_id,
        last_contact_on,
        erase_on,
        {{ days_between('as_of', 'erase_on') }} as days_left,
        coalesce(erase_on <= as_of and not is_waiting, false) as is_due
    from counted_down
)

select * from retention
