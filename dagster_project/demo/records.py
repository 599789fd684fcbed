"""What people wrote into the systems: persons as text, web accounts and loyalty cards.

Rows of a feed are made as tables ``feed_<name>`` with the contract's columns, ``delivered_on`` and a unique ``seq``;
``record_truth`` gets who stands behind each. Purchases belong in ``trade``.
"""

import duckdb

from dagster_project.demo import dirt, handwriting, seasons, spelling

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
        case when has_email and has_other_mail then
            case when u(person, 'works') < {work}
                then plain(first_name) || '.' || plain(last_name) || '@groupe-' || (person % 431)::varchar || '.example'
                else mail_name(first_name, last_name, (mail_pattern + 4) % 6, (person * 7 + 13)::varchar)
                    || '@' || domain((mail_domain * 13) % 1) end
        end as other_email,
        scenario in ('couple', 'family', 'lone_parent', 'mother_and_daughter', 'siblings')
            and u(household, 'family mail') < {family_mailbox}
            and u(person, 'uses family mail') < {family_mailbox_used} as uses_family_mail,
        first_value(plain(last_name)) over (partition by household order by person) as household_name,
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
),
shared as (
    select household, bool_or(shares_mail) as has_shared_mail, bool_or(shares_bank_card) as has_shared_bank_card,
        bool_or(shares_phone) as has_shared_phone
    from named group by household
),
together as (
    select
        named.*,
        case when named.uses_family_mail
            then 'famille.' || named.household_name || (named.household * 3 + 5)::varchar
                || '@' || domain(u(named.household, 'family domain'))
        end as family_email,
        case when named.shares_mail then head.own_email1 end as heads_email,
        head.own_phone1 as heads_phone,
        head.token1 as heads_token,
        relative.own_phone1 as relatives_phone,
        relative.own_email1 as relatives_email,
        recycled.phone as recycled_phone,
        recycled.phone is not null or exists (select 1 from recycled as r where r.phone = named.own_phone1)
            as has_recycled_phone,
        named.uses_family_mail or named.shares_mail or named.role = 0 and has_shared_mail as is_mail_shared,
        named.shares_bank_card or named.role = 0 and has_shared_bank_card as is_bank_card_shared,
        named.shares_phone or named.role = 0 and has_shared_phone as is_phone_shared,
    from named
    join named as head on head.person = named.head
    join shared on shared.household = named.household
    left join named as relative on relative.household = named.household
        and relative.person = case when named.role = 0 then named.person + 1 else named.head end
        and named.scenario <> 'flatmates'
    left join recycled on recycled.person = named.person
)
select
    *,
    coalesce(family_email, heads_email, own_email1) as email1,
    coalesce(heads_email, own_email2) as email2,
    case when shares_phone then heads_phone else own_phone1 end as phone1,
    case when shares_phone then heads_phone else coalesce(recycled_phone, own_phone2) end as phone2,
    'tok_' || case when shares_bank_card then heads_token else token1 end as bank_card1,
    'tok_' || case when shares_bank_card then heads_token else token2 end as bank_card2,
    case when u(person, 'company') < {company}
        then 'contact@societe-' || (person % 997 % greatest(1, {persons} // 4000))::varchar || '.example'
    end as company_email,
    case when u(person, 'other on card') < {other_on_card} then other_email end as card_email,
    case when u(person, 'other on receipt') < {other_on_receipt} then other_email end as receipt_email,
    case when u(household, 'bis') < 0.04 then ' bis' when u(household, 'bis') < 0.045 then ' ter' else '' end as bis,
    case when u(household, 'flat') < 0.4 then replace({complement}, '{{}}', (household % 47 + 1)::varchar) end
        as complement1,
    case when u(household, 'flat 2') < 0.4 then replace({complement2}, '{{}}', (household % 39 + 1)::varchar) end
        as complement2,
    scenario in ('family', 'lone_parent', 'siblings') as is_in_family,
    case when scenario in ('namesakes', 'twins', 'father_and_son', 'grandmother', 'mother_and_daughter')
            then scenario
        when has_recycled_phone then 'recycled_phone' when married_day < {days} then 'married_name'
        when is_mail_shared then 'shared_mailbox' when is_phone_shared then 'shared_phone'
        else scenario end as record_scenario,
from together
order by person
"""

# What a person would say of themselves on day `d`; `p` is the person. Some go on giving an address that they left.
AT_DAY = f"""
        case when {{d}} >= p.mail_day then p.email2 else p.email1 end as email_now,
        case when {{d}} >= p.phone_day then p.phone2 else p.phone1 end as phone_now,
        p.first_name as first_name_now,
        case when {{d}} >= p.married_day then p.married_name else p.last_name end as last_name_now,
        p.birth_date as birth_date_now,
        {{d}} >= p.moved_day and u(k, 'old address') >= {dirt.ADDRESS_OLD} as has_moved,
        (case when has_moved then p.number2 else p.number1 end)::varchar
            || case when has_moved then '' else p.bis end as number_now,
        case when has_moved then p.address2 else p.address1 end as street_now,
        case when has_moved then p.complement2 else p.complement1 end as complement_now,
        case when has_moved then p.postal_code2 else p.postal_code1 end as postal_code_now,
        case when has_moved then p.city2 else p.city1 end as city_now,
"""

# The columns that a form has filled in.
TYPED_NAMES = """
    typed_first_name as first_name,
    typed_last_name as last_name,
"""
TYPED_ADDRESS = """
    typed_address as address_line1,
    typed_postal_code as postal_code,
    typed_city as city,
    typed_country as country,
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
    {{says_little}} as says_little,
    from versions as p
),
{{written}}
"""

_HAS_COMPANY_EMAIL = f"rank = 0 and company_email is not null and u({{id}}, 'c') < {dirt.COMPANY_MAILBOX_USED}"

_CUSTOMERS = f"""
create table feed_shop_customers as
{
    _SAID.format(
        identifier="customer_id",
        memberships="account_ids",
        is_replaced="false",
        says_little=f"(email_now is null or p.rank % 2 = 1) and u(id, 'p') < {dirt.PHONE_MISSING}",
        written=handwriting.written("said", at_till=False),
    )
},
contacts as (
    select *,
        case when {_HAS_COMPANY_EMAIL.format(id="id")} then company_email when rank % 2 = 1 then email2
            else email_now end as email_said,
        case when u(id, 'p') < {dirt.PHONE_MISSING} then null
            when u(id, 'whose phone') < {dirt.RELATIVES_PHONE} then coalesce(relatives_phone, phone_now)
            else phone_now end as phone_said,
    from written
)
select
    id as customer_id,
    typed_email(email_said, k, {dirt.EMAIL_DOMAIN_WEB}, {dirt.EMAIL_LOCAL_WEB}) as email,
    typed_phone(phone_said, k) as phone,
    {TYPED_NAMES}
    typed_birth_date as birth_date,
    {TYPED_ADDRESS}
    case when u(id, 'attach') < 0.3 and first_card_since <= day then first_card_id end as loyalty_card_id,
    utc(at_day(since, id, 'since')) as created_at,
    case when version = 1 then created_at else utc(at_day(day, id, 'changed') + 86400) end as updated_at,
    delivered_date(paris(updated_at)::date) as delivered_on,
    row_number() over (order by id, version) as seq,
from contacts left join first_cards using (person)
"""

_IS_HELPED = f"scenario = 'grandmother' and role = 0 and u(id, 'helped') < {dirt.HELPER_CONTACT}"

_CARDS = f"""
create table feed_loyalty_members as
{
    _SAID.format(
        identifier="card_id",
        memberships="card_ids",
        is_replaced="true",
        says_little=f"u(id, 'no mail') < {dirt.CARD_EMAIL_MISSING} and u(id, 'no phone') < {dirt.CARD_PHONE_MISSING}",
        written=handwriting.written("said", at_till=True),
    )
},
contacts as (
    select *,
        case when u(id, 'no mail') < {dirt.CARD_EMAIL_MISSING} then null
            when {_IS_HELPED} then relatives_email
            else coalesce(card_email, email_now) end as email_said,
        case when u(id, 'land') < {dirt.CARD_LANDLINE} and landline is not null then landline
            when u(id, 'no phone') < {dirt.CARD_PHONE_MISSING} then null
            when {_IS_HELPED} then relatives_phone
            when u(id, 'whose phone') < {dirt.RELATIVES_PHONE} then coalesce(relatives_phone, phone_now)
            else phone_now end as phone_said,
    from written
)
select
    id as card_id,
    case when u(id, 'desk') < {dirt.DESK_EMAIL} then 'caisse.' || lower(store_id) || '@cocagne.example'
        when u(id, 'desk') < {dirt.DESK_EMAIL + dirt.NOREPLY_EMAIL * 0.6} then '{dirt.NOREPLY}'
        when u(id, 'desk') < {dirt.DESK_EMAIL + dirt.NOREPLY_EMAIL}
            then {dirt.one_of(dirt.NOREPLY_OTHERS, "u(id, 'which noreply')")}
        else typed_email(email_said, k, {dirt.EMAIL_DOMAIN_CARD}, {dirt.EMAIL_LOCAL_CARD}) end as email,
    case when u(id, 'dummy') < {dirt.PLACEHOLDER_PHONE * 0.6} then '{dirt.PLACEHOLDER_NUMBER}'
        when u(id, 'dummy') < {dirt.PLACEHOLDER_PHONE}
            then {dirt.one_of(dirt.PLACEHOLDER_OTHERS, "u(id, 'which dummy')")}
        else typed_phone(phone_said, k) end as phone,
    {TYPED_NAMES}
    typed_birth_date as birth_date,
    {TYPED_ADDRESS}
    case when u(id, 'online') >= 0.1 then store_id end as enrolled_store_id,
    utc(at_day(since, id, 'since')) as enrolled_at,
    case when version = 1 then enrolled_at else utc(at_day(day, id, 'changed') + 86400) end as updated_at,
    case when version = 3 then 'closed' when u(id, 'status') >= 0.05 then 'active' end as status,
    delivered_date(paris(updated_at)::date) as delivered_on,
    row_number() over (order by id, version) as seq,
from contacts join stores using (store)
"""

_MEMBERSHIP_TRUTH = f"""
create table record_truth as
with memberships as (
    select 'shop_customers' as feed, customer_id as record_id, person, rank from account_ids
    union all
    select 'loyalty_members', card_id, person, rank from card_ids
)
select
    feed,
    record_id,
    p.person_id,
    p.household_id,
    case when feed = 'shop_customers' and {_HAS_COMPANY_EMAIL.format(id="record_id")} then 'company_mailbox'
        when feed = 'loyalty_members' and u(record_id, 'desk') < {dirt.DESK_EMAIL} then 'desk_email'
        when feed = 'loyalty_members' and u(record_id, 'desk') < {dirt.DESK_EMAIL + dirt.NOREPLY_EMAIL}
            then 'placeholder_email'
        when feed = 'loyalty_members' and u(record_id, 'dummy') < {dirt.PLACEHOLDER_PHONE} then 'placeholder_phone'
        else p.record_scenario end as scenario,
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
    con.execute(
        _PERSONS.format(
            seed=seed,
            days=seasons.DAYS,
            persons=persons,
            company=dirt.COMPANY_MAILBOX,
            work=dirt.WORK_EMAIL,
            family_mailbox=dirt.FAMILY_MAILBOX,
            family_mailbox_used=dirt.FAMILY_MAILBOX_USED,
            other_on_card=dirt.OTHER_EMAIL_ON_CARD,
            other_on_receipt=dirt.OTHER_EMAIL_ON_RECEIPT,
            complement=dirt.one_of(spelling.COMPLEMENTS, "u(household, 'complement')"),
            complement2=dirt.one_of(spelling.COMPLEMENTS, "u(household, 'complement 2')"),
        )
    )
    for statement in (_NUMBERS, _CUSTOMERS, _CARDS, _MEMBERSHIP_TRUTH):
        con.execute(statement)
