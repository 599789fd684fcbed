"""What people wrote into the systems: persons as text, web accounts and loyalty cards.

Rows of a feed are made as tables ``feed_<name>`` with the contract's columns, ``delivered_on`` and a unique ``seq``;
``record_truth`` gets who stands behind each. Purchases belong in ``trade``.
"""

import duckdb

from dagster_project.demo import dirt, seasons

_PERSONS = """
create table persons as
with named as (
    select
        *,
        'H' || lpad(household::varchar, 7, '0') as household_id,
        'X' || lpad(person::varchar, 7, '0') as person_id,
        day_date(born) as birth_date,
        case when has_email then
            mail_name(first_name, last_name, mail_pattern, (person * 7 + 11)::varchar) || '@' || domain(mail_domain)
        end as own_email1,
        case when has_email then
            mail_name(first_name, married_name, (mail_pattern + 2) % 6, (person * 7 + 12)::varchar)
            || '@' || domain((mail_domain * 7) % 1)
        end as own_email2,
        case when has_phone then mobile(person * 2) end as own_phone1,
        mobile(person * 2 + 1) as own_phone2,
        case when has_landline then landline(household, postal_code1) end as landline,
        md5('{seed}|' || person::varchar || '|1')[:16] as token1,
        md5('{seed}|' || person::varchar || '|2')[:16] as token2,
    from people
),
givers as (
    select own_phone1 as phone, phone_day, row_number() over (order by phone_day, person) as pair
    from named where phone_day < 400 and has_phone and u(person, 'gives') < 0.2
),
takers as (
    select person, phone_day, row_number() over (order by phone_day, person) as pair
    from named where phone_day between 400 and {days} and has_phone and u(person, 'takes') < 0.12
),
recycled as (
    select takers.person, givers.phone from takers join givers using (pair)
)
select
    named.*,
    case when named.shares_mail then head.own_email1 else named.own_email1 end as email1,
    case when named.shares_mail then head.own_email1 else named.own_email2 end as email2,
    case when named.shares_phone then head.own_phone1 else named.own_phone1 end as phone1,
    case when named.shares_phone then head.own_phone1 else coalesce(recycled.phone, named.own_phone2) end as phone2,
    recycled.phone is not null as has_recycled_phone,
    'tok_' || case when named.shares_bank_card then head.token1 else named.token1 end as bank_card1,
    'tok_' || case when named.shares_bank_card then head.token1 else named.token2 end as bank_card2,
    case when u(named.person, 'company') < {company}
        then 'contact@societe-' || (named.person % 997 % greatest(1, {persons} // 4000))::varchar || '.example'
    end as company_email,
from named
join named as head on head.person = named.head
left join recycled on recycled.person = named.person
order by named.person
"""

# What a person would say of themselves on day `d`; `p` is the person.
AT_DAY = """
        case when {d} >= p.mail_day then p.email2 else p.email1 end as email_now,
        case when {d} >= p.phone_day then p.phone2 else p.phone1 end as phone_now,
        p.first_name as first_name_now,
        case when {d} >= p.married_day then p.married_name else p.last_name end as last_name_now,
        p.birth_date as birth_date_now,
        (case when {d} >= p.moved_day then p.number2 else p.number1 end)::varchar as number_now,
        case when {d} >= p.moved_day then p.address2 else p.address1 end as street_now,
        case when {d} >= p.moved_day then p.postal_code2 else p.postal_code1 end as postal_code_now,
        case when {d} >= p.moved_day then p.city2 else p.city1 end as city_now,
"""

# The same, typed into a form; `k` names the record and its version.
TYPED_NAMES = f"""
    case when u(k, 'swap') < {dirt.NAMES_SWAPPED} then typed_name(last_name_now, k)
        else typed_first_name(first_name_now, k) end as first_name,
    case when u(k, 'swap') < {dirt.NAMES_SWAPPED} then typed_name(first_name_now, k)
        else typed_name(last_name_now, k || 'l') end as last_name,
"""
TYPED_ADDRESS = """
    typed_address(number_now, street_now, k) as address_line1,
    typed_postal_code(postal_code_now, k) as postal_code,
    typed_city(city_now, k) as city,
    typed_country(k) as country,
"""

# The versions of a membership: the first; one after a change in the person's life, if they say so; and the last, of a
# card that another one replaced.
_SAID = f"""
with held as (
    select m.*, p.* exclude (person), m.{{identifier}} as id,
        list_min(list_filter(
            [p.mail_day, p.phone_day, p.moved_day, p.married_day], lambda x: x > m.since
        )) as change_day,
    from {{memberships}} as m join persons as p using (person)
),
versions as (
    select *, 1 as version, since as day from held
    union all
    select *, 2, (change_day + 1 + floor(u(id, 'told') * 12))::bigint from held
    where u(id, 'tells') < 0.55 and change_day + 13 < least(next_since, {seasons.DAYS - 2})
    union all
    select *, 3, next_since + 1 from held where {{is_replaced}} and next_since < {seasons.DAYS - 4}
),
said as (
    select p.*, id || '#' || version::varchar as k,
    {AT_DAY.format(d="p.day")}
    from versions as p
)
"""

_CUSTOMERS = f"""
create table feed_shop_customers as
{_SAID.format(identifier="customer_id", memberships="account_ids", is_replaced="false")}
select
    id as customer_id,
    case when rank = 0 and company_email is not null and u(k, 'c') < 0.5 then company_email
        else typed_email(case when rank % 2 = 1 then email2 else email_now end, k) end as email,
    case when u(k, 'p') >= {dirt.PHONE_MISSING} then typed_phone(phone_now, k) end as phone,
    {TYPED_NAMES}
    typed_birth_date(birth_date_now, k) as birth_date,
    {TYPED_ADDRESS}
    case when u(id, 'attach') < 0.3 and first_card_since <= day then first_card_id end as loyalty_card_id,
    utc(at_day(since, id, 'since')) as created_at,
    case when version = 1 then created_at else utc(at_day(day, id, 'changed') + 86400) end as updated_at,
    delivered_date(paris(updated_at)::date) as delivered_on,
    row_number() over (order by id, version) as seq,
from said left join first_cards using (person)
"""

_CARDS = f"""
create table feed_loyalty_members as
{_SAID.format(identifier="card_id", memberships="card_ids", is_replaced="true")}
select
    id as card_id,
    case when u(id, 'desk') < {dirt.DESK_EMAIL} then 'caisse.' || lower(store_id) || '@cocagne.example'
        when u(id, 'desk') < {dirt.DESK_EMAIL + dirt.NOREPLY_EMAIL} then '{dirt.NOREPLY}'
        when u(id, 'no mail') < {dirt.CARD_EMAIL_MISSING} then null
        else typed_email(email_now, k) end as email,
    case when u(id, 'dummy') < {dirt.PLACEHOLDER_PHONE} then '{dirt.PLACEHOLDER_NUMBER}'
        when u(id, 'land') < {dirt.CARD_LANDLINE} and landline is not null then typed_phone(landline, k)
        when u(id, 'no phone') < {dirt.CARD_PHONE_MISSING} then null
        else typed_phone(phone_now, k) end as phone,
    {TYPED_NAMES}
    typed_birth_date(birth_date_now, k) as birth_date,
    {TYPED_ADDRESS}
    case when u(id, 'online') >= 0.1 then store_id end as enrolled_store_id,
    utc(at_day(since, id, 'since')) as enrolled_at,
    case when version = 1 then enrolled_at else utc(at_day(day, id, 'changed') + 86400) end as updated_at,
    case when version = 3 then 'closed' when u(id, 'status') >= 0.05 then 'active' end as status,
    delivered_date(paris(updated_at)::date) as delivered_on,
    row_number() over (order by id, version) as seq,
from said join stores using (store)
"""

_MEMBERSHIP_TRUTH = """
create table record_truth as
with memberships as (
    select 'shop_customers' as feed, customer_id as record_id, person from account_ids
    union all
    select 'loyalty_members', card_id, person from card_ids
)
select
    feed,
    record_id,
    p.person_id,
    p.household_id,
    case when p.has_recycled_phone then 'recycled_phone' when p.shares_mail then 'shared_mailbox'
        else p.scenario end as scenario,
from memberships join persons as p using (person);
create table person_truth as
select person_id, household_id, scenario, first_name, last_name, married_name, birth_date, sex from persons
"""

_NUMBERS = """
create table account_ids as select *, 'C' || lpad((account + 1)::varchar, 8, '0') as customer_id from accounts;
create table card_ids as select *, '29' || lpad((card + 1)::varchar, 8, '0') as card_id from cards;
create table first_cards as
select person, card_id as first_card_id, since as first_card_since from card_ids where rank = 0
"""


def write_people(con: duckdb.DuckDBPyConnection, seed: int, persons: int) -> None:
    """Make ``persons``, ``feed_shop_customers`` and ``feed_loyalty_members`` from the drawn arrays, and their truth."""
    con.execute(_PERSONS.format(seed=seed, days=seasons.DAYS, company=dirt.COMPANY_MAILBOX, persons=persons))
    for statement in (_NUMBERS, _CUSTOMERS, _CARDS, _MEMBERSHIP_TRUTH):
        con.execute(statement)
