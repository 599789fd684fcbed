"""Orders, tickets, refunds and parcels as rows of the feeds, with what each was really worth.

``transaction_truth`` gets one row per order, ticket and refund: who bought, whose key it carries, and what counts.
"""

import duckdb

from dagster_project.demo import dirt, handwriting, seasons
from dagster_project.demo.catalogue import UNKNOWN_PRODUCT, UNKNOWN_STORE
from dagster_project.demo.records import AT_DAY, TYPED_ADDRESS, TYPED_NAMES

_LIMIT = seasons.DAYS * 86_400

# Each status of an order with its moment; of those that one delivery would bring, only the last is told.
_ORDER_CHANGES = " union all ".join(
    f"select n, '{status}' as status, {step} as step, {at} as changed_at from orders where {at} < {_LIMIT}"
    for step, (status, at) in enumerate(
        (("paid", "placed + 90"), ("cancelled", "cancelled_at"), ("shipped", "shipped_at"), 
         ("delivered", "delivered_at"), ("collected", "collected_at"), ("refunded", "refunded_at"))
    )
)  # fmt: skip

_ORDERS = f"""
create table feed_shop_orders as
with said as (
    select o.*, 'W' || lpad((o.n + 1)::varchar, 8, '0') as k, p.* exclude (person), false as says_little,
    {AT_DAY.format(d="o.day")}
    from orders as o join persons as p using (person)
),
{handwriting.written("said", at_till=False)},
contacts as (
    select *,
        case when company_email is not null and u(k, 'c') < {dirt.COMPANY_MAILBOX_USED} then company_email
            when u(k, 'm') < {dirt.ORDER_EMAIL_MISSING} then null
            when account < 0 and u(k, 'guest mail') < {dirt.OTHER_EMAIL_AS_GUEST} then coalesce(other_email, email_now)
            else email_now end as email_said,
        case when u(k, 'p') < {dirt.ORDER_PHONE_MISSING} then null
            when u(k, 'whose phone') < {dirt.RELATIVES_PHONE} then coalesce(relatives_phone, phone_now)
            else phone_now end as phone_said,
    from written
),
orders_said as (
    select
        n, k, account, placed, collects, pickup_store, shows_token, shipping, discount, total,
        case when day >= bank_card_day then bank_card2 else bank_card1 end as token,
        typed_email(email_said, k, {dirt.EMAIL_DOMAIN_WEB}, {dirt.EMAIL_LOCAL_WEB}) as email,
        typed_phone(phone_said, k) as phone,
        {TYPED_NAMES}
        {TYPED_ADDRESS}
    from contacts
),
changes as ({_ORDER_CHANGES}),
dated as (
    select *, delivered((changed_at // 86400)::bigint) as delivered_on from changes
    qualify row_number() over (
        partition by n, delivered((changed_at // 86400)::bigint) order by changed_at desc, step desc
    ) = 1
),
told as (
    select o.*, v.status, v.changed_at, v.delivered_on, store_id
    from dated as v
    join orders_said as o using (n)
    join stores as s on s.store = o.pickup_store
)
select
    k as order_id,
    case when account >= 0 then 'C' || lpad((account + 1)::varchar, 8, '0') end as customer_id,
    email, phone, first_name, last_name, address_line1, postal_code, city, country,
    utc(placed) as ordered_at,
    utc(changed_at) as updated_at,
    status,
    case when collects = 1 then 'click_and_collect' else 'delivery' end as fulfilment,
    case when collects = 1 then store_id end as pickup_store_id,
    case when shows_token = 1 then token end as payment_token,
    case when collects = 1 and n % 3 = 0 then null else cents(shipping) end as shipping_amount,
    case when discount > 0 then cents(discount) end as discount_amount,
    cents(total) + case when u(k, 'off') < {dirt.TOTAL_OFF} then 1.00 else 0.00 end as total_amount,
    delivered_on,
    row_number() over (order by n, changed_at) as seq,
from told
"""

_ORDER_LINES = f"""
create table feed_shop_order_lines as
select
    'W' || lpad((purchase + 1)::varchar, 8, '0') as order_id,
    line_no,
    case when u(seq, 'unknown product') < {dirt.UNKNOWN_PRODUCT} then '{UNKNOWN_PRODUCT}'
        else 'P' || lpad((product + 1)::varchar, 5, '0') end as product_id,
    quantity,
    cents(unit_price) as unit_price,
    cents(quantity * unit_price) as amount,
    delivered(day) as delivered_on,
    seq,
from order_lines
"""

_TICKETS = f"""
create table feed_pos_tickets as
select
    'T' || lpad((t.n + 1)::varchar, 8, '0') as ticket_id,
    case when u(t.n, 'unknown store') < {dirt.UNKNOWN_STORE} then '{UNKNOWN_STORE}' else s.store_id end as store_id,
    case when u(t.n, 'till') < 0.98 then 'R' || (1 + floor(u(t.n, 'register') * 4))::integer end as register_id,
    utc(t.placed) as sold_at,
    ['sale', 'return', 'pickup'][t.kind + 1] as ticket_type,
    case when t.card >= 0 then '29' || lpad((t.card + 1)::varchar, 8, '0') end as loyalty_card_id,
    case when t.shows_email = 1 then
        typed_email(
            coalesce(p.receipt_email, case when t.day >= p.mail_day then p.email2 else p.email1 end),
            'T' || t.n, {dirt.EMAIL_DOMAIN_RECEIPT}, {dirt.EMAIL_LOCAL_RECEIPT}
        ) end as email,
    case when t.shows_phone = 1 then
        typed_phone(case when t.day >= p.phone_day then p.phone2 else p.phone1 end, 'T' || t.n) end as phone,
    case when t.shows_token = 1 then
        case when t.day >= p.bank_card_day then p.bank_card2 else p.bank_card1 end end as payment_token,
    case when t.web_order >= 0 then 'W' || lpad((t.web_order + 1)::varchar, 8, '0') end as web_order_id,
    case when t.original >= 0 then 'T' || lpad((t.original + 1)::varchar, 8, '0') end as original_ticket_id,
    case when t.discount > 0 then cents(t.discount) end as discount_amount,
    cents(t.total) + case when t.kind = 0 and u(t.n, 'off') < {dirt.TOTAL_OFF} then 0.50 else 0.00 end as total_amount,
    case when u(t.n, 'late') < {dirt.HEADER_LATE} and next_delivery(delivered(t.day)) <= date '{seasons.LAST_NIGHT}'
        then next_delivery(delivered(t.day)) else delivered(t.day) end as delivered_on,
    t.n as seq,
from tickets as t
join persons as p on p.person = t.person
join stores as s on s.store = t.store
"""

_TICKET_LINES = f"""
create table feed_pos_ticket_lines as
select
    case when u(seq, 'orphan') < {dirt.ORPHAN_LINES} then 'T9' || lpad(seq::varchar, 9, '0')
        else 'T' || lpad((purchase + 1)::varchar, 8, '0') end as ticket_id,
    line_no,
    case when u(seq, 'unknown product') < {dirt.UNKNOWN_PRODUCT} then '{UNKNOWN_PRODUCT}'
        else 'P' || lpad((product + 1)::varchar, 5, '0') end as product_id,
    quantity,
    cents(unit_price) as unit_price,
    cents(quantity * unit_price) as amount,
    delivered(day) as delivered_on,
    seq,
from ticket_lines
"""

# A partial refund gives back the first line of the order; two in ten give the shipping back, too.
_REFUNDS = f"""
create table refunds as
select
    o.n, o.person, o.refund_row_at as placed, o.account, l.product, l.quantity, l.unit_price,
    l.quantity * l.unit_price + case when u(o.n, 'ship back') < 0.2 then o.shipping else 0 end as total,
    u(o.n, 'no order') < 0.02 and o.returned_at >= {_LIMIT} as has_no_order,
    o.refunded_at < {_LIMIT} or o.cancelled_at < {_LIMIT} as is_void,
    row_number() over (order by o.refund_row_at, o.n) as seq,
from orders as o
join order_lines as l on l.purchase = o.n and l.line_no = 1
where o.refund_row_at < {_LIMIT}
"""

_REFUND_FEEDS = """
create table feed_shop_refunds as
select
    'F' || lpad(seq::varchar, 7, '0') as refund_id,
    case when not has_no_order then 'W' || lpad((n + 1)::varchar, 8, '0') end as order_id,
    case when account >= 0 then 'C' || lpad((account + 1)::varchar, 8, '0') end as customer_id,
    utc(placed) as refunded_at,
    [null, 'taille', 'abîmé', 'erreur de commande'][1 + floor(u(n, 'reason') * 4)::integer] as reason,
    -cents(total) as total_amount,
    delivered(placed // 86400) as delivered_on,
    seq,
from refunds;
create table feed_shop_refund_lines as
select
    'F' || lpad(seq::varchar, 7, '0') as refund_id,
    1::bigint as line_no,
    'P' || lpad((product + 1)::varchar, 5, '0') as product_id,
    -quantity as quantity,
    -cents(quantity * unit_price) as amount,
    delivered(placed // 86400) as delivered_on,
    seq,
from refunds
"""

_PARCELS = f"""
create table feed_deliveries as
with parcels as (
    select *, 1::bigint as parcel_no from orders where shipped_at < {_LIMIT}
    union all
    select *, 2::bigint from orders where shipped_at < {_LIMIT} and u(n, 'parcels') < 0.05
),
stages as (
    select *, shipped_at as told_at, false as arrived from parcels
    union all
    select *, delivered_at, true from parcels where delivered_at < {_LIMIT}
),
dated as (
    select *, delivered((told_at // 86400)::bigint) as delivered_on from stages
    qualify row_number() over (
        partition by n, parcel_no, delivered((told_at // 86400)::bigint) order by told_at desc, arrived desc
    ) = 1
)
select
    'W' || lpad((n + 1)::varchar, 8, '0') as order_id,
    parcel_no,
    case when u(n, 'carrier') < 0.97
        then ['Colis Vert', 'Relais Plus', 'Express 24'][1 + (n % 3)::integer] end as carrier,
    utc(promised_at) as promised_at,
    utc(shipped_at) as shipped_at,
    case when arrived then utc(delivered_at) end as delivered_at,
    delivered_on,
    row_number() over (order by n, parcel_no, told_at) as seq,
from dated
"""

_TRUTH = f"""
insert into record_truth
select 'shop_orders', 'W' || lpad((n + 1)::varchar, 8, '0') as id, p.person_id, p.household_id,
    case when company_email is not null and u(id, 'c') < {dirt.COMPANY_MAILBOX_USED} then 'company_mailbox'
        when o.account < 0 and p.record_scenario = p.scenario and p.scenario in ('single', 'couple', 'family',
            'lone_parent', 'flatmates', 'siblings') then 'guest_order'
        else p.record_scenario end
from orders as o join persons as p using (person);
insert into record_truth
select 'pos_tickets', f.ticket_id, p.person_id, p.household_id,
    case when t.borrowed = 1 then 'clerk_card' when t.owner <> t.person then 'borrowed_card'
        when f.email is not null
            and u('T' || t.n, 'mail slip') < {dirt.EMAIL_DOMAIN_RECEIPT + dirt.EMAIL_LOCAL_RECEIPT} then 'ereceipt_typo'
        when p.is_bank_card_shared and f.loyalty_card_id is null and f.email is null and f.phone is null
            then 'shared_bank_card'
        else p.record_scenario end
from feed_pos_tickets as f join tickets as t on t.n = f.seq join persons as p on p.person = t.owner
where coalesce(f.loyalty_card_id, f.email, f.phone, f.payment_token) is not null;
create table transaction_truth as
select 'shop_orders' as feed, f.order_id as record_id, p.person_id, null::varchar as key_owner_person_id,
    case when f.status in ('cancelled', 'refunded') then 0.00 else f.total_amount end::decimal(18, 2) as counted_amount,
    'online' as channel, day_date(o.day) as business_on
from feed_shop_orders as f join orders as o on 'W' || lpad((o.n + 1)::varchar, 8, '0') = f.order_id
join persons as p using (person)
qualify row_number() over (partition by f.order_id order by f.updated_at desc, f.seq desc) = 1
union all
select 'pos_tickets', f.ticket_id, p.person_id, case when t.owner <> t.person then w.person_id end,
    case when f.web_order_id is not null then 0.00 else f.total_amount end, 'store', day_date(t.day)
from feed_pos_tickets as f join tickets as t on t.n = f.seq
join persons as p on p.person = t.person join persons as w on w.person = t.owner
union all
select 'shop_refunds', f.refund_id, p.person_id, null, case when r.is_void then 0.00 else f.total_amount end, 'online',
    day_date(r.placed // 86400)
from feed_shop_refunds as f join refunds as r using (seq) join persons as p using (person)
"""


def write_trade(con: duckdb.DuckDBPyConnection) -> None:
    """Make the seven transactional feeds from ``orders``, ``tickets`` and their lines, and what is true of them."""
    con.execute("create or replace macro cents(c) as (c::decimal(18, 0) * 0.01)::decimal(18, 2)")
    for statement in (_ORDERS, _ORDER_LINES, _TICKETS, _TICKET_LINES, _REFUNDS, _REFUND_FEEDS, _PARCELS, _TRUTH):
        con.execute(statement)
