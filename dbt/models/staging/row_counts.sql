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

{#- Those whose rows are about money, and those whose every delivery is the whole table. -#}
{% set amount_feeds = [
    'shop_orders', 'shop_order_lines', 'pos_tickets', 'pos_ticket_lines', 'shop_refunds', 'shop_refund_lines'
] %}
{% set reference_feeds = ['stores', 'store_hours', 'products', 'stock'] %}

-- Each term is counted by itself, none is what the others leave over: a row that is lost shows as a difference.
with files as (
    select
        feed,
        sum(row_count) as delivered_row_count
    from {{ source('landing', 'files') }}
    group by feed
),

delivered_amounts as (
    {%- for feed in amount_feeds %}
    {{ delivered_amount(feed) }}
    {{ 'union all' if not loop.last }}
    {%- endfor %}
),

replaced_rows as (
    {%- for feed in reference_feeds %}
    {{ replaced_rows(feed) }}
    {{ 'union all' if not loop.last }}
    {%- endfor %}
),

erased_rows as (
    {%- for feed in feeds %}
    select
        '{{ feed }}' as feed,
        count(*) as erased_row_count
    from {{ source('landing', feed) }}
    where _rule = 'erased'
    {{ 'union all' if not loop.last }}
    {%- endfor %}
),

quarantine as (
    select
        feed,
        count(*) as refused_row_count,
        sum(amount) as refused_amount
    from {{ ref('quarantine') }}
    group by feed
),

-- Refused once, and delivered again since.
outranked as (
    select
        feed,
        count(*) as outranked_row_count,
        sum(amount) as outranked_amount
    from {{ ref('problems') }}
    where is_refusing and left_because = 'outranked'
    group by feed
),

current_rows as (
    {%- for feed in feeds %}
    select
        '{{ feed }}' as feed,
        count(*) as current_row_count,
        coalesce(sum(identical_row_count), 0) as identical_row_count,
        coalesce(sum(superseded_row_count), 0) as superseded_row_count,
        coalesce(sum(conflicting_row_count), 0) as conflicting_row_count,
        {%- if feed in amount_feeds %}
        coalesce(sum({{ 'amount' if feed.endswith('_lines') else 'total_amount' }}), 0) as current_amount,
        coalesce(
            sum(identical_row_count * {{ 'amount' if feed.endswith('_lines') else 'total_amount' }}), 0
        ) as identical_amount,
        coalesce(sum(superseded_amount), 0) as superseded_amount
        {%- else %}
        cast(null as decimal(38, 2)) as current_amount,
        cast(null as decimal(38, 2)) as identical_amount,
        cast(null as decimal(38, 2)) as superseded_amount
        {%- endif %}
    from {{ ref('stg_' ~ feed) }}
    {{ 'union all' if not loop.last }}
    {%- endfor %}
),

row_counts as (
    select
        files.feed,
        cast(files.delivered_row_count as bigint) as delivered_row_count,
        current_rows.current_row_count,
        cast(current_rows.identical_row_count as bigint) as identical_row_count,
        cast(
            current_rows.superseded_row_count + coalesce(outranked.outranked_row_count, 0)
            + coalesce(replaced_rows.replaced_row_count, 0) as bigint
        ) as superseded_row_count,
        cast(current_rows.conflicting_row_count as bigint) as conflicting_row_count,
        coalesce(quarantine.refused_row_count, 0) as refused_row_count,
        erased_rows.erased_row_count,
        coalesce(replaced_rows.replaced_row_count, 0) as replaced_row_count,
        coalesce(outranked.outranked_row_count, 0) as outranked_row_count,
        delivered_amounts.delivered_amount,
        cast(current_rows.current_amount as decimal(38, 2)) as current_amount,
        cast(current_rows.identical_amount as decimal(38, 2)) as identical_amount,
        cast(
            current_rows.superseded_amount + coalesce(outranked.outranked_amount, 0) as decimal(38, 2)
        ) as superseded_amount,
        cast(
            case
                when delivered_amounts.delivered_amount is not null then coalesce(quarantine.refused_amount, 0)
            end as decimal(38, 2)
        ) as refused_amount
    from files
    inner join current_rows on files.feed = current_rows.feed
    inner join erased_rows on files.feed = erased_rows.feed
    left join delivered_amounts on files.feed = delivered_amounts.feed
    left join replaced_rows on files.feed = replaced_rows.feed
    left join quarantine on files.feed = quarantine.feed
    left join outranked on files.feed = outranked.feed
)

select * from row_counts
