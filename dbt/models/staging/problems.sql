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

with problem_values as (
    {%- for feed in feeds %}
    {{ problem_values(feed) }}
    {{ 'union all' if not loop.last }}
    {%- endfor %}
)

select * from problem_values
