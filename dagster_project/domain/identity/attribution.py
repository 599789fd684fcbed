"""Which account every record belongs to, by which rule, and how sure that is.

What belongs here: the way from clusters of profiles to records. What does not: what the account is called
(``stable_ids.py``); here it still goes by its cluster, a number that lives for one build only.

Values that are looked up go by a key, the hash of their type and value (``key_of``): narrow tables are joined quickly.
"""

from duckdb import DuckDBPyConnection

from dagster_project.domain.identity.blocking import RULES
from dagster_project.domain.identity.households import find_households
from dagster_project.domain.identity.policy import Policy
from dagster_project.domain.identity.records import FEED_ORDER, FIRST
from dagster_project.domain.identity.remembered import Write, keep, work
from dagster_project.domain.sql_literal import literal

ATTRIBUTED_FROM = (
    "contact_id", "profile_id", "feed", "feed_rank", "seen_at", "record_id", "customer_id", "email_key", "phone_key",
    "house_number", "street_key", "given_word_forms",
)  # fmt: skip
"""What is read of contacts that are compared."""

CLUSTERED_FROM = (
    "profile_id", "given_name_key", "family_name_key", "email_key", "email_local", "phone_key", "is_mobile",
    "house_number", "street_key", "postal_code", "town_key", "given_name_forms", "given_word_forms",
    "family_name_forms",
)  # fmt: skip
"""What is read of profiles."""

_RULES = [rule.name for rule in RULES]
_ORDER = FEED_ORDER.index("shop_orders")
_SAID = ("feed", "feed_rank", "record_id", "seen_at", "contact_id", "payment_token", "node", "key_mark")


def key_of(type_: str, column: str) -> str:
    """SQL: the key of a card, e-mail or phone; of the last two, that of the blocks that they make."""
    return f"hash({_RULES.index(type_) if type_ in _RULES else len(_RULES)}, {column})"


HOLDINGS = f"""
    select distinct component, block as key from {{keys}} join {{labels}} using (profile_id)
    where rule in ({_RULES.index("email")}, {_RULES.index("phone")})
"""
"""SQL: one row per component and e-mail or phone that its profiles carry (component, key), of block keys and labels."""

HELD = """
    select key from remembered.holders {where}
    union select key from remembered.holdings semi join remembered.founded using (component) {where}
"""
"""SQL: the keys that somebody holds, be it several; ``where`` names some of them."""


def attribute(connection: DuckDBPyConnection, policy: Policy) -> None:
    """Write ``identity_attributed``: one row per record that has an account, and all that leads there.

    Columns: feed, record_id, feed_rank, seen_at, node, component, rule, confidence, is_founder, is_person_record,
    key_mark, token (the hash of the payment token). Web accounts, cards and guest orders found accounts; a ticket, or
    the order of an unknown customer, does so only where nobody else did.

    Order of the keys: a steward's decision; an order's customer number; a ticket's card, its e-mail, its phone;
    last, where a transaction carries none of these, its payment token. A value that several accounts hold gives a
    transaction to nobody, unless they held it one after the other.
    """
    keep(connection, "holdings", HOLDINGS.format(keys="remembered.block_keys", labels="remembered.labels"))
    place_contacts(connection, policy)
    find_presents(connection)
    find_founded(connection)
    work(connection, "card_records", "from remembered.records where feed = 'loyalty_members'")
    find_holders(connection, policy)
    find_households(connection, policy)
    write_bare_keys(connection)
    work(connection, "held", HELD.format(where=""))
    stand_for(connection)
    work(connection, "home_records", "from remembered.records where customer_id is not null")
    find_customer_homes(connection)
    key_records(connection)
    apply_decisions(connection)
    work(
        connection,
        "token_uses",
        "select hash(payment_token) as token, component, seen_at from identity_keyed where payment_token is not null",
    )
    write_usable_tokens(connection, policy)
    work(connection, "token_records", "from remembered.records where contact_id is null and payment_token is not null")
    use_tokens(connection, policy)
    settle(connection)


def place_contacts(connection: DuckDBPyConnection, policy: Policy, write: Write = keep) -> None:
    """Write ``identity_placed``: one row per contact with a profile: component; a guest order's rule, confidence."""
    confidence = {name: rule.confidence for name, rule in policy.identifiers.items()}
    write(
        connection,
        "placed",
        f"""
        with said as (
            select members.contact_id, members.profile_id, labels.component,
                profiles.email_key, profiles.phone_key,
                profiles.given_name_key is not null and profiles.family_name_key is not null
                    and profiles.street_key is not null
                    and coalesce(profiles.postal_code, profiles.town_key) is not null
                    as has_name_and_address
            from identity_named as members
            join identity_profiles as profiles using (profile_id)
            join identity_labels as labels using (profile_id)
        ),
        profiles as (
            select profile_id, component, email_key, phone_key
            from identity_profiles join identity_labels using (profile_id)
        ),
        ties as (
            select component from profiles group by component having count(*) > 1
        ),
        email_ties as (
            select component, email_key from profiles where email_key is not null group by all having count(*) > 1
        ),
        phone_ties as (
            select component, phone_key from profiles where phone_key is not null group by all having count(*) > 1
        )
        select said.contact_id, said.component,
            case
                when email_ties.component is not null then 'email'
                when phone_ties.component is not null then 'phone'
                when ties.component is not null then 'similarity'
                when said.email_key is not null then 'email'
                when said.phone_key is not null then 'phone'
                when said.has_name_and_address then 'name_and_address'
            end as rule,
            case rule
                when 'email' then {confidence["email"]}
                when 'phone' then {confidence["phone"]}
                when 'similarity' then {policy.similarity_confidence}
                when 'name_and_address' then {policy.name_and_address_confidence}
            end as confidence
        from said
        left join ties on ties.component = said.component
        left join email_ties on email_ties.component = said.component and email_ties.email_key = said.email_key
        left join phone_ties on phone_ties.component = said.component and phone_ties.phone_key = said.phone_key
        """,
    )


def find_presents(connection: DuckDBPyConnection, write: Write = keep) -> None:
    """Write ``identity_presents``: (contact_id, type, component): guest orders that somebody else paid for, and who.

    A present carries the name and address of who gets it and the e-mail or phone of who pays. So: a guest order whose
    e-mail or phone another cluster carries, under other given names and at other addresses, and more often. It belongs
    to who ordered it, and it tells nothing of who holds the e-mail.
    """
    first = ", ".join(f"named.{name}" for name in FIRST)
    write(
        connection,
        "presents",
        f"""
        with said as (
            select named.contact_id, placed.component, placed.rule, named.feed, named.customer_id,
                {first}, named.given_word_forms, named.street_key, named.house_number, type, value
            from identity_named as named
            join identity_placed as placed using (contact_id)
            join (
                select contact_id, 'email' as type, email_key as value from identity_named where email_key is not null
                union all
                select contact_id, 'phone', phone_key from identity_named where phone_key is not null
            ) as vals using (contact_id)
        ),
        own as (
            select distinct component from said where feed <> 'shop_orders' or customer_id is not null
        ),
        candidates as (
            select said.contact_id, said.component, said.type, said.value, given_word_forms, street_key, house_number
            from said left join own using (component)
            where feed = 'shop_orders' and customer_id is null and street_key is not null
                and given_word_forms is not null and (said.rule = 'similarity' or own.component is null)
        ),
        holders as (
            select type, value, component, count(*) as contacts, flatten(list(coalesce(given_word_forms, []))) as forms,
                min(row({", ".join(FIRST)})) as place
            from said semi join candidates using (type, value)
            where rule is distinct from 'similarity'
            group by all
        ),
        homes as (
            select component, list(distinct coalesce(house_number, '') || street_key) as addresses
            from said semi join holders using (component)
            where street_key is not null group by component
        ),
        weights as (
            select type, value, component, count(*) as contacts from candidates group by all
        )
        select candidates.contact_id, candidates.type, holders.component
        from candidates
        join weights using (type, value, component)
        join holders on holders.type = candidates.type and holders.value = candidates.value
            and holders.component <> candidates.component and holders.contacts > weights.contacts
        join homes on homes.component = holders.component
        where not list_contains(homes.addresses, coalesce(house_number, '') || street_key)
            and len(holders.forms) > 0 and not list_has_any(holders.forms, given_word_forms)
        qualify row_number() over (
            partition by contact_id order by candidates.type, holders.contacts desc, holders.place
        ) = 1
        """,
    )


def find_founded(connection: DuckDBPyConnection, write: Write = keep) -> None:
    """Write ``identity_founded`` (component): those of a web account, a card, or a guest order that is no present."""
    write(
        connection,
        "founded",
        """
        select distinct placed.component
        from identity_named as named join identity_placed as placed using (contact_id)
        where named.feed in ('shop_customers', 'loyalty_members')
            or (named.feed = 'shop_orders' and named.customer_id is null and placed.rule is not null
                and named.contact_id not in (select contact_id from identity_presents))
        """,
    )


def find_holders(connection: DuckDBPyConnection, policy: Policy, write: Write = keep) -> None:
    """Write ``identity_holders``: (key, type, component, from_at): whom a bare card, e-mail or phone stands for from
    then.

    A card stands for whom it was given to. An e-mail or phone stands for the only account that holds it. A phone that
    several held one after the other, with a pause between them, was given anew: it stands for each in its time.
    Reads ``identity_card_records``: the loyalty members.
    """
    pattern = "|".join(policy.household_mailboxes)
    is_household = f"regexp_matches(email_local, {literal(pattern)})" if pattern else "false"
    # A mailbox that says it is a family's, or that bears another given name than its holder's, may be used by others of
    # the house: what is bought with it alone is nobody's in particular.
    connection.execute(
        f"""
        create or replace temp table identity_mailboxes_of_others as
        with words as (
            select email_key, sound(word) as word
            from (
                select email_key, unnest(string_split_regex(email_local, '[^a-z]+')) as word
                from (select distinct email_key, email_local from identity_profiles where email_key is not null)
            )
            semi join reference_known_given_names as known on known.letters = word
            where length(word) >= 4
        ),
        mailboxes as (
            select component, email_key, email_local,
                list_concat(list_concat(coalesce(given_word_forms, []), coalesce(given_name_forms, [])),
                    coalesce(family_name_forms, [])) as forms
            from identity_profiles join identity_labels using (profile_id)
            where email_key is not null
        ),
        -- A word of the mailbox is the holder's if any of its profiles bears it.
        borne as (
            select component, email_key, word,
                bool_or(list_contains(forms, word)) as is_own, bool_or(len(forms) > 0) as is_known
            from mailboxes join words using (email_key)
            group by component, email_key, word
        )
        select component, email_key as value from borne where is_known and not is_own
        union
        select component, email_key from mailboxes where {is_household}
        """
    )
    write(
        connection,
        "holders",
        f"""
        with held as (
            select type, value, component, min(first_at) as first_at, max(last_at) as last_at
            from (
                select contact_id, 'email' as type, email_key as value from identity_named where email_key is not null
                union all
                select contact_id, 'phone', phone_key from identity_named where phone_key is not null
            ) as vals
            join identity_placed as placed using (contact_id)
            join identity_speakers using (contact_id)
            semi join identity_founded using (component)
            anti join identity_presents as presents on presents.contact_id = vals.contact_id
            group by type, value, component
        ),
        ranked as (
            select *, count(*) over (partition by type, value) as holders,
                max(last_at) over (
                    partition by type, value order by first_at, component
                    rows between unbounded preceding and 1 preceding
                ) as before_at
            from held
        ),
        judged as (
            select *, bool_and(
                before_at is null or before_at < first_at - interval {policy.recycled_after_days} day
            ) over (partition by type, value) as in_turn
            from ranked
        )
        select case type when 'email' then {key_of("email", "value")} else {key_of("phone", "value")} end as key,
            type, component,
            case when before_at is not null then first_at else timestamp '0001-01-01' end as from_at
        from judged
        where (holders = 1 or (type = 'phone' and in_turn))
            and not (
                type = 'email'
                and (component, value) in (select component, value from identity_mailboxes_of_others)
            )
        union all
        select {key_of("card", "keys.card_id")}, 'card', placed.component, timestamp '0001-01-01'
        from identity_card_records as keys
        join identity_placed as placed using (contact_id)
        anti join identity_demoted as demoted on demoted.type = 'card' and demoted.value = keys.card_id
        """,
    )


def write_bare_keys(connection: DuckDBPyConnection, write: Write = keep) -> None:
    """Write ``identity_bare_keys`` (contact_id, type, key): of contacts that name nobody, which of their keys is used.

    An order with a customer number needs none. Reads ``identity_contacts`` and ``identity_speakers`` of one another.
    """
    write(
        connection,
        "bare_keys",
        f"""
        with bare as (
            select contact_id,
                case when demoted_cards.value is null then card_id end as card_id,
                case when demoted_emails.value is null then email_key end as email_key,
                case when demoted_phones.value is null then phone end as phone
            from (
                select contact_id, customer_id, card_id, email_key, phone from identity_contacts
                anti join remembered.placed using (contact_id)
            )
            join (select contact_id, feed_rank from identity_speakers) using (contact_id)
            left join (select value from identity_demoted where type = 'card') as demoted_cards
                on demoted_cards.value = card_id
            left join (select value from identity_demoted where type = 'email') as demoted_emails
                on demoted_emails.value = email_key
            left join (select value from identity_demoted where type = 'phone') as demoted_phones
                on demoted_phones.value = phone
            where not (feed_rank = {_ORDER} and customer_id is not null)
        )
        select contact_id,
            case when card_id is not null then 'card' when email_key is not null then 'email' else 'phone' end as type,
            case type when 'card' then {key_of("card", "card_id")} when 'email' then {key_of("email", "email_key")}
                else {key_of("phone", "phone")} end as key
        from bare
        where coalesce(card_id, email_key, phone) is not null
        """,
    )


def stand_for(connection: DuckDBPyConnection, write: Write = keep) -> None:
    """Write ``identity_bare`` (contact_id, type, key, is_in_turn, component): whom a contact's key stands for.

    A key that nobody holds stands for itself; one that several hold stands for nobody, unless they did so in turn. In
    ``identity_bare_keys`` every key is whole; ``identity_held`` has those of them that are held.
    """
    write(
        connection,
        "bare",
        """
        with holders as (
            select key, min(component) as component, count(*) as holder_count
            from remembered.holders semi join identity_bare_keys using (key)
            group by key
        )
        select bare.*, coalesce(holder_count > 1, false) as is_in_turn,
            case when held.key is null then -min(contact_id) over (partition by bare.key)
                else holders.component end as component
        from identity_bare_keys as bare left join identity_held as held using (key) left join holders using (key)
        """,
    )


def find_customer_homes(connection: DuckDBPyConnection, write: Write = keep) -> None:
    """Write ``identity_customer_homes`` (customer_id, component): whom a customer number stands for.

    Of an unknown customer's recipients the first does. In ``identity_home_records`` every number is whole.
    """
    write(
        connection,
        "customer_homes",
        """
        with homes as (
            select feed, record_id, contact_id, seen_at, customer_id, component
            from identity_home_records left join remembered.placed using (contact_id)
        ),
        owners as (
            select customer_id, component from homes where feed = 'shop_customers' and component is not null
        ),
        unknown as (
            select customer_id, arg_min(coalesce(component, -contact_id), (seen_at, record_id)) as component
            from homes anti join owners using (customer_id)
            where feed = 'shop_orders'
            group by customer_id
        )
        from owners union all from unknown
        """,
    )


def key_records(connection: DuckDBPyConnection) -> None:
    """Write ``identity_keyed``: each of ``identity_records`` that a key of its own gives to a component."""
    said = ", ".join(f"keys.{name}" for name in _SAID)
    connection.execute(
        f"""
        create or replace temp table identity_looked_up as
        with bare as (
            select keys.*, type, key, is_in_turn, component
            from identity_records as keys join remembered.bare using (contact_id)
        ),
        in_turn as (
            select bare.* exclude (component), holders.component
            from (from bare where is_in_turn) as bare
            left join remembered.holders as holders on bare.key = holders.key and bare.seen_at >= holders.from_at
            qualify row_number() over (partition by feed, record_id order by from_at desc) = 1
        )
        select {", ".join(_SAID)}, type as rule, component from bare where not is_in_turn
        union all
        select {", ".join(_SAID)}, type, component from in_turn
        """
    )
    connection.execute(
        f"""
        create or replace temp table identity_keyed as
        select {said}, case keys.feed when 'shop_customers' then 'customer_id' else 'card' end as rule,
            cast(1.0 as double) as confidence, placed.component, true as is_founder
        from identity_records as keys join remembered.placed as placed using (contact_id)
        where keys.feed in ('shop_customers', 'loyalty_members')
        union all
        select {said}, 'customer_id', policies.confidence, homes.component, false
        from identity_records as keys
        join remembered.customer_homes as homes using (customer_id)
        join identity.identifier_policies as policies on policies.type = 'customer_id'
        where keys.feed = 'shop_orders'
        union all
        select {said}, coalesce(payers.type, placed.rule), coalesce(policies.confidence, placed.confidence),
            coalesce(payers.component, placed.component), payers.component is null
        from identity_records as keys
        join remembered.placed as placed using (contact_id)
        left join remembered.presents as payers using (contact_id)
        left join identity.identifier_policies as policies on policies.type = payers.type
        where keys.feed = 'shop_orders' and keys.customer_id is null and placed.rule is not null
        union all
        select {said}, rule, policies.confidence, component, feed = 'shop_orders'
        from identity_looked_up as keys join identity.identifier_policies as policies on policies.type = rule
        where component is not null
        """
    )


def apply_decisions(connection: DuckDBPyConnection) -> None:
    """A steward's word about a record that names nobody, such as a ticket: it goes with the other record, or not.

    Both records of a pair that touches ``identity_records`` are in it.
    """
    said = ", ".join(f"keys.{name}" for name in _SAID)
    connection.execute(
        f"""
        create or replace temp table identity_steered as
        with sides as (
            select left_feed as feed, left_id as record_id, right_feed as other_feed, right_id as other_id, decision,
                decision_id
            from identity_decisions_in_force
            union all
            select right_feed, right_id, left_feed, left_id, decision, decision_id from identity_decisions_in_force
        )
        select {said}, sides.decision, others.component
        from sides
        join identity_records as keys using (feed, record_id)
        join identity_keyed as others on others.feed = sides.other_feed and others.record_id = sides.other_id
        left join remembered.placed as placed on placed.contact_id = keys.contact_id
        where placed.contact_id is null or (keys.feed = 'shop_orders' and keys.customer_id is not null)
        qualify row_number() over (
            partition by keys.feed, keys.record_id, sides.decision order by sides.decision_id desc
        ) = 1
        """
    )
    connection.execute(
        f"""
        create or replace temp table identity_keyed as
        select keyed.*
        from identity_keyed as keyed
        left join identity_steered as same on same.key_mark = keyed.key_mark and same.decision = 'same'
        left join identity_steered as parted on parted.key_mark = keyed.key_mark and parted.decision = 'different'
            and parted.component = keyed.component
        where same.key_mark is null and parted.key_mark is null
        union all
        select {", ".join(_SAID)}, 'decision', 1.0, component, false from identity_steered where decision = 'same'
        """
    )


def write_usable_tokens(connection: DuckDBPyConnection, policy: Policy, write: Write = keep) -> None:
    """Write ``identity_usable_tokens`` (token, component, from_at, until_at): those that are one account's, and when.

    In ``identity_token_uses`` (token, component, seen_at) every token is whole.
    """
    write(
        connection,
        "usable_tokens",
        f"""
        select token, min(component) as component,
            min(seen_at) - interval {policy.token_margin_days} day as from_at,
            max(seen_at) + interval {policy.token_margin_days} day as until_at
        from identity_token_uses
        where token not in (select hash(value) from identity_worn_tokens)
        group by token
        having count(*) >= {policy.token_min_uses} and count(distinct component) = 1
            -- Who lives with others may share the card with one of them, of whom no ticket says so.
            and min(component) not in (select node from remembered.household_components)
        """,
    )


def use_tokens(connection: DuckDBPyConnection, policy: Policy) -> None:
    """Write ``identity_tokened``: each of ``identity_token_records`` that its payment token gives to a component.

    A steward's word goes before it.
    """
    said = ", ".join(f"keys.{name}" for name in _SAID)
    connection.execute(
        f"""
        create or replace temp table identity_tokened as
        select {said}, 'payment_token' as rule, cast({policy.token_confidence} as double) as confidence,
            tokens.component, false as is_founder
        from identity_token_records as keys
        join remembered.usable_tokens as tokens on tokens.token = hash(keys.payment_token)
            and keys.seen_at between tokens.from_at and tokens.until_at
        anti join identity_steered as steered on steered.key_mark = keys.key_mark
            and (steered.decision = 'same' or steered.component = tokens.component)
        """
    )


def settle(connection: DuckDBPyConnection, kept: str = "", calm: str = "") -> None:
    """Write ``identity_attributed`` from ``identity_keyed`` and ``identity_tokened``.

    ``kept`` names a table of other rows like its own, so that every component is whole, but those in the table ``calm``
    (component), which are founded by records that are not among them.
    """
    others = f"union all by name select * exclude (is_person_record) from {kept}" if kept else ""
    connection.execute(
        f"""
        create or replace temp table identity_attributed as
        with found as (
            select * exclude (payment_token, contact_id),
                case when payment_token is not null then hash(payment_token) end as token
            from (from identity_keyed union all from identity_tokened)
            {others}
        ),
        founded as (
            select component, bool_or(is_founder) as has_founder
            from found where rule <> 'payment_token' {f"and component not in (from {calm})" if calm else ""}
            group by component
            {f"union all select component, true from {calm}" if calm else ""}
        )
        select found.*, rule <> 'payment_token' and (is_founder or not has_founder) as is_person_record
        from found join founded using (component)
        """
    )
