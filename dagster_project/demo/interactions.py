"""Campaigns, whom they addressed, what became of the messages, and what people did on the web site."""

import duckdb
import numpy as np
import pyarrow as pa

from dagster_project.demo import seasons
from dagster_project.demo.memberships import Memberships
from dagster_project.demo.people import NEVER

MESSAGES_PER_RECIPIENT = 0.13
"""Share of the holders that a campaign of a whole month writes to."""
SESSIONS_PER_ACCOUNT = 2.4

# Two campaigns a month (e-mail and text), sent in waves over the whole month, and a few that no message belongs to.
_CAMPAIGNS = f"""
create table feed_campaigns as
with months as (
    select range::date as month from range(date '{seasons.FIRST_DAY}', date '{seasons.LAST_DAY}', interval 1 month)
),
planned as (
    select 'M' || strftime(month, '%y%m') || '-E' as campaign_id, 'Lettre ' || strftime(month, '%m/%Y') as name,
        'email' as channel, 'owned' as media, 'newsletter' as audience, month,
        850.00 as cost, 'revenue' as kpi, 20000.0 as kpi_target
    from months
    union all
    select 'M' || strftime(month, '%y%m') || '-S', 'SMS ' || strftime(month, '%m/%Y'), 'sms',
        'owned', null, month, 1200.50, 'visits', 1500.0
    from months
    union all
    select 'M' || strftime(month, '%y%m') || '-A', 'Réseaux ' || strftime(month, '%m/%Y'), 'social',
        'paid', 'vip', month, 4300.00, 'buyers', 250.5
    from months where month(month) % 3 = 0
    union all
    select 'M' || strftime(month, '%y%m') || '-P', 'Bouche à oreille ' || strftime(month, '%Y'), 'referral',
        'earned', null, month, null, null, null
    from months where month(month) = 5
)
select
    campaign_id, name, channel, media, audience,
    (month - interval 2 hour)::timestamp as started_at,
    case when month < date '2020-07-01' then (month + interval 1 month - interval 2 hour)::timestamp end as ended_at,
    cost::decimal(18, 2) as cost, kpi, kpi_target::double as kpi_target,
    delivered_date(greatest(month - 1, date '{seasons.FIRST_DAY}')) as delivered_on,
    row_number() over (order by campaign_id) as seq,
from planned
"""

_SENDS = f"""
create table sends as
with recipients as (
    select id, person, since, email, phone, id_type, row_number() over (partition by email order by id) as rank_email,
        row_number() over (partition by phone order by id) as rank_phone
    from holders where feed = 'shop_customers' or u(id, 'writes to cards') < 0.5
),
months as (
    select campaign_id, channel,
        ((started_at + interval 2 hour)::date - date '{seasons.FIRST_DAY}')::bigint as first_day,
        least(30, {seasons.DAYS} - ((started_at + interval 2 hour)::date - date '{seasons.FIRST_DAY}'))::bigint as days
    from feed_campaigns where channel in ('email', 'sms')
),
chosen as (
    select m.*, r.*, campaign_id || '|' || id as k, case channel when 'email' then email else phone end as address
    from months as m join recipients as r
        on r.since < m.first_day and u(m.campaign_id || '|' || r.id, 'chosen')
            < {MESSAGES_PER_RECIPIENT} * days / 30 * case when m.channel = 'sms' then 0.25 else 1.0 end
        and ((m.channel = 'email' and email is not null and rank_email = 1)
            or (m.channel = 'sms' and phone is not null and rank_phone = 1))
)
select *, u(k, 'arm') < 0.1 as is_held_out,
    (first_day + floor(u(k, 'day') * days)) * 86400 + 32400 + floor(u(k, 'sent at') * 30000) as sent_at,
    u(k, 'fate') as fate,
from chosen
"""

_ASSIGNMENTS = """
create table feed_campaign_assignments as
with assigned as (
    select *,
        case when u(k, 'assigned by') < 0.3 then id_type
            when channel = 'email' then 'email' else 'phone' end as key_type,
        delivered(greatest(first_day - 3, 0)) as delivered_on,
    from sends where u(campaign_id, 'tested') < 0.5 and campaign_id <> 'M1809-E' or campaign_id = 'M2006-E'
)
select campaign_id, key_type, case key_type when 'email' then email when 'phone' then phone else id end as key_value,
    case when is_held_out then 'holdout' else 'treated' end as arm,
    utc((greatest(first_day - 3, 0) * 86400 + 43200)::bigint) as assigned_at,
    delivered_on,
    row_number() over (order by campaign_id, id) as seq,
from assigned
"""

_MESSAGES = f"""
create table feed_message_events as
with happened as (
    select k, 0 as step, 'sent' as event, sent_at as placed from sends where not is_held_out
    union all
    select k, 1, case when fate < 0.02 then 'bounced' else 'delivered' end, sent_at + 5 + u(k, 'mx') * 300
    from sends where not is_held_out
    union all
    select k, 2, 'opened', sent_at + 600 + u(k, 'opened') * 80000
    from sends where not is_held_out and fate > 0.75 and channel = 'email'
    union all
    select k, 3, 'clicked', sent_at + 700 + u(k, 'opened') * 80000 from sends where not is_held_out and fate > 0.93
    union all
    select k, 4, case when fate < 0.7505 then 'complained' else 'unsubscribed' end,
        sent_at + 900 + u(k, 'opened') * 80000
    from sends where not is_held_out and fate between 0.75 and 0.754
),
events as (
    select * replace (floor(placed)::bigint as placed) from happened
)
select
    'E' || lpad((row_number() over (order by placed, k, step))::varchar, 9, '0') as event_id,
    s.campaign_id,
    s.channel,
    case when u(k, 'upper') < 0.02 then upper(s.address)
        when s.channel = 'sms' then '+33' || s.address[2:] else s.address end as address,
    event,
    utc(placed) as occurred_at,
    delivered(placed // 86400) as delivered_on,
    row_number() over (order by placed, k, step) as seq,
from events join sends as s using (k)
where placed < {seasons.DAYS * 86_400}
"""

_WEB_EVENTS = f"""
create table feed_web_events as
select
    'V' || lpad((seq + 1)::varchar, 9, '0') as event_id,
    'v' || md5(session::varchar || 's')[:12] as session_id,
    case when is_known then 'C' || lpad((account + 1)::varchar, 8, '0') end as customer_id,
    event,
    case when event in ('view', 'cart', 'share', 'review')
        then 'P' || lpad((product + 1)::varchar, 5, '0') end as product_id,
    utc(placed) as occurred_at,
    delivered(placed // 86400) as delivered_on,
    seq,
from web_sessions
where placed < {seasons.DAYS * 86_400}
"""


def draw_sessions(rng: np.random.Generator, accounts: Memberships, products: int) -> pa.Table:
    """One row per event of every visit to the web site, ordered by time; six visits in ten are logged in."""
    since = accounts.since[accounts.since < NEVER]
    weights = np.cumsum(seasons.web_weights())
    visits = rng.poisson(SESSIONS_PER_ACCOUNT * rng.gamma(0.8, 1.25, len(since)))
    account = np.repeat(np.arange(len(since)), visits)
    day = np.searchsorted(weights / weights[-1], rng.random(len(account)), side="right")
    fits = day > since[account]
    account, day = account[fits], np.minimum(day[fits], seasons.DAYS - 1)
    begins = day * 86_400 + 25_000 + rng.integers(0, 58_000, len(account))
    order = np.argsort(begins, kind="stable")
    account, begins = account[order], begins[order]
    known = rng.random(len(account)) < 0.6
    events = 1 + rng.poisson(1.7, len(account))
    session = np.repeat(np.arange(len(account)), events)
    step = np.arange(len(session)) - np.repeat(np.cumsum(events) - events, events)
    kinds = np.array(["view", "cart", "share", "review", "store_locator"], dtype=object)
    drawn = kinds[np.searchsorted([0.72, 0.87, 0.91, 0.95, 1.0], rng.random(len(session)))]
    return pa.table(
        {
            "seq": np.arange(len(session)),
            "session": session,
            "account": account[session],
            "is_known": known[session],
            "event": pa.array(np.where(step == 0, "visit", drawn), pa.string()),
            "product": np.minimum(rng.exponential(70, len(session)).astype(np.int64), products - 1),
            "placed": begins[session] + step * 40 + rng.integers(0, 30, len(session)),
        }
    )


def write_interactions(con: duckdb.DuckDBPyConnection) -> None:
    """Make the feeds of campaigns, assignments, messages and web events (from ``holders`` and ``web_sessions``)."""
    for statement in (_CAMPAIGNS, _SENDS, _ASSIGNMENTS, _MESSAGES, _WEB_EVENTS):
        con.execute(statement)
