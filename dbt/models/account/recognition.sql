{#- What an account was found by, in the words of a shop; every rule of `transactions` belongs to one family. -#}
{%- set families = {
    'customer': ['customer_id'],
    'card': ['card'],
    'contact': ['email', 'phone', 'name_and_address', 'similarity'],
    'payment_card': ['payment_token'],
    'decision': ['decision'],
    'link': ['order_link', 'original_ticket_link', 'refund_customer'],
} -%}

with weekly as (
    select
        cast(date_trunc('week', business_on) as date) as week_on,
        channel,
        case when channel = 'store' then store_id end as store_id,
        count(*) as transaction_count,
        count(account_id) as identified_count,
        {%- for family, rules in families.items() %}
        count(case when rule in ('{{ rules | join("', '") }}') then 1 end) as {{ family }}_count,
        {%- endfor %}
        cast(sum(counted_amount) as decimal(18, 2)) as counted_amount,
        cast(sum(case when account_id is not null then counted_amount else 0 end) as decimal(18, 2))
            as identified_amount
    from {{ ref('transactions') }}
    group by 1, 2, 3
),

recognition as (
    select
        week_on,
        channel,
        store_id,
        transaction_count,
        identified_count,
        cast(identified_count as double) / transaction_count as identified_share,
        {%- for family in families %}
        {{ family }}_count,
        {%- endfor %}
        counted_amount,
        identified_amount
    from weekly
)

select * from recognition
