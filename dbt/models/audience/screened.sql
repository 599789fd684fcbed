{%- set definitions = audience_definitions() %}
with candidates as (
    select
        candidates.audience,
        candidates.destination,
        candidates.account_id,
        candidates.product_id,
        candidates.location_id,
        candidates.cap_value,
        audience_destinations.kind,
        audience_destinations.purpose,
        audience_destinations.channel,
        audience_destinations.is_for_messages,
        audience_destinations.is_partner,
        audience_destinations.is_review_overdue,
        audience_destinations.is_profiling,
        audience_destinations.stock_rule,
        audience_destinations.cool_down_days
    from {{ ref('candidates') }} as candidates
    inner join {{ ref('audience_destinations') }} as audience_destinations
        on
            candidates.audience = audience_destinations.audience
            and candidates.destination = audience_destinations.destination
),

destination_identifiers as (
    {{ destination_identifiers() | indent(4) }}
),

account_states as (
    select *
    from {{ ref('account_states') }}
),

audience_topics as (
    select
        audience,
        topic
    from (
        values
        {%- for audience in definitions %}
        {%- for topic in audience.topics %}
        ('{{ audience.name }}', {{ text_literal(topic | lower) }}),
        {%- endfor %}
        {%- endfor %}
        (cast(null as string), cast(null as string))
    ) as audience_topics (audience, topic)
    where audience is not null
),

product_topics as (
    select
        product_id,
        lower(trim(sensitive_topic)) as topic
    from {{ ref('stg_products') }}
    where sensitive_topic is not null
),

sensitive_topics as (
    select
        account_id,
        topic
    from {{ ref('sensitive_topics') }}
),

-- What the message is about: what the audience says, and the product that it advertises.
hurt as (
    select distinct
        candidates.audience,
        candidates.account_id
    from candidates
    inner join sensitive_topics on candidates.account_id = sensitive_topics.account_id
    left join audience_topics
        on candidates.audience = audience_topics.audience and sensitive_topics.topic = audience_topics.topic
    left join product_topics
        on candidates.product_id = product_topics.product_id and sensitive_topics.topic = product_topics.topic
    where audience_topics.topic is not null or product_topics.topic is not null
),

-- The types of identifiers of a destination that the account holds, and what was agreed to for them.
held as (
    select distinct
        candidates.destination,
        candidates.account_id
    from candidates
    inner join destination_identifiers on candidates.destination = destination_identifiers.destination
    inner join {{ ref('identifiers') }} as identifiers
        on
            candidates.account_id = identifiers.account_id
            and destination_identifiers.identifier_type = identifiers.identifier_type
),

agreements as (
    select
        candidates.destination,
        candidates.account_id,
        count(*) filter (where identifier_consents.status = 'granted') > 0 as is_granted,
        count(*) filter (
            where
            identifier_consents.status = 'granted'
            and (account_states.objected_at is null or identifier_consents.occurred_at > account_states.objected_at)
        ) > 0 as is_granted_since_objection,
        count(*) filter (where identifier_consents.status = 'withdrawn') > 0 as is_withdrawn,
        count(*) filter (where partner_consents.identifier is not null) > 0 as is_granted_for_partners
    from (select distinct destination, purpose, channel, account_id from candidates) as candidates
    inner join account_states on candidates.account_id = account_states.account_id
    inner join destination_identifiers on candidates.destination = destination_identifiers.destination
    inner join {{ ref('identifiers') }} as identifiers
        on
            candidates.account_id = identifiers.account_id
            and destination_identifiers.identifier_type = identifiers.identifier_type
    inner join {{ ref('identifier_consents') }} as identifier_consents
        on
            identifiers.identifier_type = identifier_consents.identifier_type
            and identifiers.identifier = identifier_consents.identifier
            and candidates.purpose = identifier_consents.purpose
            and candidates.channel = identifier_consents.channel
    left join {{ ref('identifier_consents') }} as partner_consents
        on
            identifier_consents.status = 'granted'
            and identifiers.identifier_type = partner_consents.identifier_type
            and identifiers.identifier = partner_consents.identifier
            and partner_consents.purpose = 'partners'
            and partner_consents.status = 'granted'
            and (account_states.objected_at is null or account_states.objected_at < partner_consents.occurred_at)
    group by candidates.destination, candidates.account_id
),

reachable as (
    select distinct
        kind,
        destination,
        account_id
    from {{ ref('contact_points') }}
),

bounced as (
    select distinct
        identifiers.account_id,
        bounced_addresses.channel
    from {{ ref('identifiers') }} as identifiers
    inner join {{ ref('bounced_addresses') }} as bounced_addresses
        on
            identifiers.identifier_type = bounced_addresses.identifier_type
            and identifiers.identifier = bounced_addresses.identifier
),

in_stock as (
    select
        location_id,
        product_id
    from {{ ref('stg_stock') }}
    where quantity >= {{ var('stock_least') }}
),

last_sent as (
    select
        account_id,
        audience,
        max(sent_on) as sent_on
    from {{ ref('messages_sent') }}
    group by account_id, audience
),

screened as (
    select
        candidates.audience,
        candidates.destination,
        candidates.account_id,
        candidates.kind,
        candidates.purpose,
        candidates.channel,
        candidates.cap_value,
        {#- Each rule in the order in which it is asked; a service message passes over what only solicitations must heed. #}
        case
            when candidates.is_review_overdue then 'review_overdue'
            when account_states.is_erasure_requested then 'erasure_requested'
            when
                candidates.kind = 'marketing' and account_states.objected_at is not null
                and not coalesce(agreements.is_granted_since_objection, false)
                then 'objection_received'
            when candidates.kind = 'marketing' and account_states.is_minor then 'minor'
            when candidates.kind = 'marketing' and hurt.account_id is not null then 'sensitive_topic'
            when
                candidates.kind = 'marketing' and candidates.is_profiling and not account_states.is_profiling_allowed
                then 'profiling_refused'
            when held.account_id is null then 'no_identifier'
            when candidates.kind = 'marketing' and agreements.account_id is null then 'consent_unknown'
            when candidates.kind = 'marketing' and not agreements.is_granted
                then case when agreements.is_withdrawn then 'consent_withdrawn' else 'consent_denied' end
            when
                candidates.kind = 'marketing' and candidates.is_partner and not agreements.is_granted_for_partners
                then 'partner_consent_missing'
            when reachable.account_id is null and bounced.account_id is not null then 'address_bounced'
            when reachable.account_id is null then 'identifier_unusable'
            when candidates.stock_rule = 'in_stock' and in_stock.product_id is null then 'out_of_stock'
            when
                candidates.is_for_messages and candidates.cool_down_days > 0
                and {{ days_between('last_sent.sent_on', as_of()) }} < candidates.cool_down_days
                then 'cooling_down'
            when
                candidates.kind = 'marketing' and candidates.is_for_messages and account_states.is_at_personal_limit
                then 'personal_limit'
            when candidates.kind = 'marketing' and candidates.is_for_messages and account_states.is_under_pressure
                then 'pressure'
        end as reason
    from candidates
    inner join account_states on candidates.account_id = account_states.account_id
    left join hurt on candidates.audience = hurt.audience and candidates.account_id = hurt.account_id
    left join held
        on candidates.destination = held.destination and candidates.account_id = held.account_id
    left join agreements
        on candidates.destination = agreements.destination and candidates.account_id = agreements.account_id
    left join reachable
        on
            candidates.kind = reachable.kind
            and candidates.destination = reachable.destination
            and candidates.account_id = reachable.account_id
    left join bounced
        on candidates.account_id = bounced.account_id and candidates.channel = bounced.channel
    left join in_stock
        on candidates.product_id = in_stock.product_id and candidates.location_id = in_stock.location_id
    left join last_sent
        on candidates.account_id = last_sent.account_id and candidates.audience = last_sent.audience
)

select * from screened
