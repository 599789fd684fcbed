"""What people agreed to, refused, asked for and told about themselves: five small feeds keyed by identifiers.

``consent_truth`` says which person made each statement. Who may then be solicited is for the pipeline to work out.
"""

import duckdb

from dagster_project.demo import seasons

_RENEWAL_DAYS = 60
"""In the last two months the retailer asked again those who had agreed: a small steady stream of statements."""

# Purpose, channel, and the share of web accounts and cards that granted and denied it; the rest said nothing.
_QUESTIONS = """
(values
    ('shop_customers', 'prospecting', 'email', 0.46, 0.24),
    ('shop_customers', 'prospecting', 'sms', 0.14, 0.16),
    ('shop_customers', 'prospecting', 'push', 0.05, 0.03),
    ('shop_customers', 'profiling', 'any', 0.30, 0.15),
    ('shop_customers', 'open_tracking', 'any', 0.22, 0.14),
    ('shop_customers', 'ad_match_social', 'any', 0.26, 0.22),
    ('shop_customers', 'ad_match_search', 'any', 0.28, 0.20),
    ('shop_customers', 'partners', 'any', 0.05, 0.30),
    ('loyalty_members', 'prospecting', 'any', 0.18, 0.08),
    ('loyalty_members', 'prospecting', 'email', 0.28, 0.12),
    ('loyalty_members', 'prospecting', 'sms', 0.22, 0.12),
    ('loyalty_members', 'prospecting', 'post', 0.25, 0.06),
    ('loyalty_members', 'prospecting', 'phone', 0.03, 0.10),
    ('loyalty_members', 'ad_match_social', 'any', 0.08, 0.10),
    ('loyalty_members', 'ad_match_search', 'any', 0.08, 0.10)
) as questions(feed, purpose, channel, granted_share, denied_share)
"""

# One row per membership with clean identifiers: what keys a statement can be given with.
_HOLDERS = """
create table holders as
with memberships as (
    select 'shop_customers' as feed, customer_id as id, person, since from account_ids
    union all
    select 'loyalty_members', card_id, person, since from card_ids
)
select m.*, p.person_id,
    case when feed = 'loyalty_members' and p.card_email is not null then p.card_email
        when since >= p.mail_day then p.email2 else p.email1 end as email,
    case when since >= p.phone_day then p.phone2 else p.phone1 end as phone,
    case feed when 'shop_customers' then 'customer_id' else 'card_id' end as id_type,
from memberships as m join persons as p using (person)
"""

_STATEMENTS = f"""
create table statements as
with asked as (
    select h.*, purpose, channel, granted_share, denied_share, h.id || '|' || purpose || '|' || channel as k
    from holders as h join {_QUESTIONS} using (feed)
),
answered as (
    select *,
        case when u(k, 'answer') < granted_share then 'granted'
            when u(k, 'answer') < granted_share + denied_share then 'denied' end as status,
        case when channel = 'sms' and phone is not null and u(k, 'key') < 0.5 then 'phone'
             when channel in ('email', 'any') and email is not null and u(k, 'key') < 0.55 then 'email'
             else id_type end as key_type
    from asked
),
given as (
    select *, at_day(since, id, 'since') + 5 as said_at from answered where status is not null
),
withdrawn as (
    select * replace ('withdrawn' as status,
        said_at + 86400 * (10 + (u(k, 'when') * 500)::bigint) as said_at) from given
    where status = 'granted' and u(k, 'withdraws') < 0.09
),
regretted as (
    select * replace ('granted' as status,
        said_at + 86400 * (5 + (u(k, 'when') * 300)::bigint) as said_at) from given
    where status = 'denied' and u(k, 'changes') < 0.04
),
renewed as (
    select * replace (
        {seasons.DAYS - 1} * 86400 - 3600 - floor(u(k, 'when again') * {_RENEWAL_DAYS} * 86400)::bigint as said_at
    ) from given
    where status = 'granted' and purpose = 'prospecting' and channel in ('email', 'sms') and u(k, 'withdraws') >= 0.09
        and u(k, 'renews') < 0.3 and since < {seasons.DAYS - _RENEWAL_DAYS - 30}
),
said as (
    select * from given
    union all select * from renewed
    union all select * from withdrawn
    union all select * from regretted
)
select *, utc(said_at) as occurred_at, row_number() over (order by said_at, k, status) as seq
from said where said_at < {seasons.DAYS * 86_400}
"""

_CONSENTS = """
create table feed_consents as
select
    'K' || lpad(seq::varchar, 8, '0') as consent_id,
    key_type,
    case key_type when 'email' then case when u(seq, 'upper') < 0.05 then upper(email) else email end
        when 'phone' then typed_phone_readable(phone, seq) else id end as key_value,
    purpose,
    channel,
    status,
    occurred_at,
    case feed when 'shop_customers' then 'web form' else 'store form' end as source,
    case when u(seq, 'proof') < 0.8 then 'form-' || md5(seq::varchar)[:10] end as proof_ref,
    case when occurred_at < timestamp '2019-07-01' then 'v1' else 'v2' end as text_version,
    case when status = 'granted' and channel = 'email' and u(seq, 'double') < 0.6
        then occurred_at + interval 7 minute end as double_opt_in_at,
    case when status = 'granted' and purpose = 'prospecting' and u(seq, 'limit') < 0.1
        then 1 + (seq % 3) end as max_per_week,
    delivered_date(paris(occurred_at)::date) as delivered_on,
    seq,
from statements;
create table consent_truth as
select person_id, 'K' || lpad(seq::varchar, 8, '0') as consent_id, feed, id as record_id,
    key_type, purpose, channel, status, occurred_at
from statements
"""

_REQUESTS = f"""
create table feed_privacy_requests as
with asked as (
    select *, (200 + u(id, 'request day') * {seasons.DAYS - 201})::bigint as day, u(id, 'request') as r from holders
    where r < 0.006 and since < 200
)
select
    'Q' || lpad((row_number() over (order by day, id))::varchar, 6, '0') as request_id,
    case when r < 0.003 then 'erasure' when r < 0.0045 then 'objection' else 'access' end as kind,
    case when email is not null and u(id, 'request key') < 0.6 then 'email'
         when phone is not null and u(id, 'request key') < 0.75 then 'phone' else id_type end as key_type,
    case when email is not null and u(id, 'request key') < 0.6 then email
         when phone is not null and u(id, 'request key') < 0.75 then phone else id end as key_value,
    utc(at_day(day, id, 'request at')) as received_at,
    delivered(day) as delivered_on,
    row_number() over (order by day, id) as seq,
from asked
"""

_SENSITIVITIES = f"""
create table feed_sensitivities as
with told as (
    select *, (30 + u(id, 'sensitive day') * {seasons.DAYS - 31})::bigint as day, u(id, 'sensitive') as r
    from holders where r < 0.008
)
select
    'N' || lpad((row_number() over (order by day, id))::varchar, 6, '0') as sensitivity_id,
    case when email is not null and u(id, 'sensitive key') < 0.5 then 'email' else id_type end as key_type,
    case when email is not null and u(id, 'sensitive key') < 0.5 then email else id end as key_value,
    ['birth', 'bereavement', 'alcohol'][1 + (floor(u(id, 'topic') * 3))::integer] as topic,
    utc(at_day(day, id, 'sensitive at')) as from_at,
    case when u(id, 'until') < 0.5 then utc(at_day(day + 365, id, 'sensitive at')) end as until_at,
    delivered(day) as delivered_on,
    row_number() over (order by day, id) as seq,
from told
"""

_PREFERENCES = f"""
create table feed_declared_preferences as
with topics as (
    select * from (values
        ('favourite_category', ['Mode femme', 'Mode homme', 'Maison', 'Enfant', 'Beauté', 'Épicerie fine']),
        ('contact_frequency', ['weekly', 'monthly', 'never']),
        ('preferred_store', ['S001', 'S003', 'S007', 'S009', 'web']),
        ('child_birth_year', ['2016', '2017', '2018', '2019', '2020'])
    ) as topics(topic, answers)
),
told as (
    select h.*, topic, answers, h.id || '|' || topic as k,
        greatest(since, 0) + (u(h.id || '|' || topic, 'day') * 300)::bigint as day
    from holders as h cross join topics where u(h.id || '|' || topic, 'answers') < 0.06
),
answers as (
    select * from told where day < {seasons.DAYS}
    union all
    select * replace (day + 90 as day, k || '|again' as k) from told
    where day + 90 < {seasons.DAYS} and u(k, 'again') < 0.2
)
select
    'D' || lpad((row_number() over (order by day, k))::varchar, 7, '0') as preference_id,
    case when email is not null and u(k, 'key') < 0.4 then 'email' else id_type end as key_type,
    case when email is not null and u(k, 'key') < 0.4 then email else id end as key_value,
    topic,
    answers[1 + floor(u(k, 'value') * len(answers))::integer] as value,
    utc(at_day(day, k, 'at')) as declared_at,
    delivered(day) as delivered_on,
    row_number() over (order by day, k) as seq,
from answers
"""

# A steward looked at a few pairs: two accounts of one person, and persons of one household with the same surname.
_DECISIONS = f"""
create table feed_identity_decisions as
with pairs as (
    select 'same' as decision, a.customer_id as left_id, b.customer_id as right_id,
        greatest(a.since, b.since, 0) + 30 as day
    from account_ids as a join account_ids as b on a.person = b.person and a.rank = 0 and b.rank = 1
    where u(a.customer_id, 'steward') < 0.02
    union all
    select 'different', a.customer_id, b.customer_id, greatest(a.since, b.since, 0) + 45
    from account_ids as a join persons as p on p.person = a.person
    join persons as q on q.household = p.household and q.person > p.person
    join account_ids as b on b.person = q.person and b.rank = 0
    where a.rank = 0 and p.scenario in ('twins', 'father_and_son', 'couple') and u(a.customer_id, 'steward') < 0.04
)
select
    'I' || lpad((row_number() over (order by day, left_id, right_id))::varchar, 6, '0') as decision_id,
    'shop_customers' as left_feed,
    left_id,
    'shop_customers' as right_feed,
    right_id,
    decision,
    'steward-' || (1 + length(right_id) % 3)::varchar as decided_by,
    utc(at_day(day, left_id, 'steward at')) as decided_at,
    case when u(left_id, 'why') < 0.8 then 'phone call with the customer' end as reason,
    case when u(left_id, 'revoked') < 0.1 then utc(at_day(day + 20, left_id, 'steward at')) end as revoked_at,
    delivered(day) as delivered_on,
    row_number() over (order by day, left_id, right_id) as seq,
from pairs where day < {seasons.DAYS}
"""


def write_consents(con: duckdb.DuckDBPyConnection) -> None:
    """Make the feeds of consent, privacy, sensitivity, preference and identity decisions."""
    con.execute(
        "create or replace macro typed_phone_readable(n, k) as"
        " case when u(k, 'plus') < 0.3 then '+33' || n[2:] else n end"
    )
    for statement in (_HOLDERS, _STATEMENTS, _CONSENTS, _REQUESTS, _SENSITIVITIES, _PREFERENCES, _DECISIONS):
        con.execute(statement)
