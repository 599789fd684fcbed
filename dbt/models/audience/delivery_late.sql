with orders as (
    select
        order_id,
        account_id,
        amount
    from {{ ref('transactions') }}
    where
        feed = 'shop_orders'
        and account_id is not null
        and exclusion is null
        and status in ('paid', 'shipped')
),

refunds as (
    select
        order_id,
        sum(amount) as refunded_amount
    from {{ ref('transactions') }}
    where feed = 'shop_refunds' and order_id is not null
    group by order_id
),

parcels as (
    select
        order_id,
        parcel_no,
        promised_at,
        {{ paris_day('promised_at') }} as promised_on
    from {{ ref('stg_deliveries') }}
    where delivered_at is null
),

late as (
    select
        orders.account_id,
        parcels.order_id,
        parcels.parcel_no,
        parcels.promised_at,
        parcels.promised_on,
        {{ days_between('parcels.promised_on', as_of()) }} as late_days
    from parcels
    inner join orders on parcels.order_id = orders.order_id
    left join refunds on orders.order_id = refunds.order_id
    where
        {{ days_between('parcels.promised_on', as_of()) }} between 1 and {{ var('late_days') }}
        and orders.amount + coalesce(refunds.refunded_amount, 0) > 0
),

-- The parcel that is late for longest.
delivery_late as (
    select
        account_id,
        order_id,
        parcel_no,
        promised_on,
        late_days
    from late
    qualify row_number() over (partition by account_id order by promised_at, order_id, parcel_no) = 1
)

select * from delivery_late
