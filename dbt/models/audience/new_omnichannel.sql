with behaviours as (
    select
        account_id,
        earlier_online_purchase_count,
        earlier_store_purchase_count,
        recent_online_purchase_count,
        recent_store_purchase_count
    from {{ ref('behaviours') }}
),

new_omnichannel as (
    select
        account_id,
        case when earlier_store_purchase_count > 0 then 'store' else 'online' end as first_channel,
        earlier_online_purchase_count + earlier_store_purchase_count as earlier_purchase_count,
        recent_online_purchase_count,
        recent_store_purchase_count
    from behaviours
    where
        (earlier_online_purchase_count > 0) <> (earlier_store_purchase_count > 0)
        and recent_online_purchase_count > 0
        and recent_store_purchase_count > 0
)

select * from new_omnichannel
