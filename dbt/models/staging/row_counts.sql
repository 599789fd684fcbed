{#- Every feed of the contract; dbt must see the names when it parses. -#}
{% set feeds = [
    'shop_customers',
    'loyalty_members',
    'consents',
    'privacy_requests',
    'sensitivities',
    'declared_preferences',
    'identity_decisions',
    'shop_orders',
    'shop_order_lines',
    'pos_tickets',
    'pos_ticket_lines',
    'shop_refunds',
    'shop_refund_lines',
    'deliveries',
    'campaign_assignments',
    'campaigns',
    'message_events',
    'web_events',
    'stores',
    'store_hours',
    'products',
    'stock',
] %}

with files as (
    select
        feed,
        sum(row_count) as delivered_row_count
    from {{ source('landing', 'files') }}
    group by feed
),

quarantine as (
    select
        feed,
        count(*) as refused_row_count
    from {{ ref('quarantine') }}
    group by feed
),

current_rows as (
    {%- for feed in feeds %}
    select
        '{{ feed }}' as feed,
        count(*) as current_row_count,
        coalesce(sum(identical_row_count), 0) as identical_row_count,
        coalesce(sum(superseded_row_count), 0) as superseded_row_count,
        coalesce(sum(conflicting_row_count), 0) as conflicting_row_count
    from {{ ref('stg_' ~ feed) }}
    {{ 'union all' if not loop.last }}
    {%- endfor %}
),

-- Of a reference feed, what the last delivery no longer holds has been replaced: that is all that can be left over.
row_counts as (
    select
        files.feed,
        cast(files.delivered_row_count as bigint) as delivered_row_count,
        current_rows.current_row_count,
        cast(current_rows.identical_row_count as bigint) as identical_row_count,
        cast(current_rows.superseded_row_count as bigint) as superseded_row_count,
        cast(current_rows.conflicting_row_count as bigint) as conflicting_row_count,
        coalesce(quarantine.refused_row_count, 0) as refused_row_count,
        cast(
            files.delivered_row_count - current_rows.current_row_count - current_rows.identical_row_count
            - current_rows.superseded_row_count - coalesce(quarantine.refused_row_count, 0)
            as bigint
        ) as replaced_row_count
    from files
    inner join current_rows on files.feed = current_rows.feed
    left join quarantine on files.feed = quarantine.feed
)

select * from row_counts
