"""Why these records are one account, and why a record has none: the facts, read from a release.

What belongs here: reading one account, or one record that has none, out of a release's two databases; the weakest link.
What does not: any judgement of who is who, which was made when the release was built; sentences and the masking of what
is personal (``explanation_words``); drawings (``explanation_page``); who may look, which is the command's business.

Every query is filtered by the account's own records: the work grows with the account. DuckDB passes over the columns
that it filters, but no table is brought together with another as a whole.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import count
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

from duckdb import DuckDBPyConnection

from dagster_project.domain.identity.model import COMPARISONS, GAMMAS
from dagster_project.domain.identity.records import CONTENT, FEED_ORDER, FEED_RANK, NAMES_SOMEBODY, PROFILE
from dagster_project.domain.release import DATABASES
from dagster_project.domain.sql_literal import literal

LISTED_RECORDS = 500
LISTED_REFUSALS = 200
_READ_PAIRS = 20_000
_ROUNDS = 5


class ExplanationError(Exception):
    """There is nothing to explain; the message is a sentence that holds what was asked as it was."""


class Ref(NamedTuple):
    """A record by feed and key."""

    feed: str
    record_id: str

    def __str__(self) -> str:
        return f"{self.feed}:{self.record_id}"


@dataclass(frozen=True)
class Said:
    """What a record says of the person, as written: personal data, for ``explanation_words.say_person`` alone."""

    names: tuple[str, ...]
    birth_date: date | None
    email: str
    phone: str
    street: str
    postal_code: str
    city: str


@dataclass(frozen=True)
class Record:
    """A record of the account. ``voice``: the record that speaks in pairs for all that say the same; None if bare.

    ``parent``: the record of the account whose number, e-mail or phone it carries, or that speaks for it.
    """

    ref: Ref
    seen_at: datetime | None
    rule: str
    confidence: float
    is_person_record: bool
    said: Said = field(repr=False)
    voice: Ref | None
    parent: Ref | None


@dataclass(frozen=True)
class Part:
    """One step from the prior to a pair's weight, in bits."""

    name: str
    words: str
    weight: float


@dataclass(frozen=True)
class Pair:
    """A row of ``identity.edges``. ``weight``: log2 odds; None for a steward's. ``parts`` sum to the weight."""

    left: Ref
    right: Ref
    rule: str
    decision: str
    reason: str | None
    weight: float | None
    evidence: str
    parts: tuple[Part, ...] = ()

    @property
    def strength(self) -> float:
        return inf if self.weight is None else self.weight

    @property
    def ends(self) -> tuple[Ref, Ref]:
        return self.left, self.right


@dataclass(frozen=True)
class Refusal:
    """A pair that was not accepted, of which ``own`` is in the account; ``account_id``: whose ``other`` is."""

    pair: Pair
    own: Ref
    other: Ref
    account_id: str | None


@dataclass(frozen=True)
class WeakestLink:
    """The pair without which, were all pairs as weak as it refused, the account would fall in two.

    ``parted``: the records of persons on the smaller side; ``kept_count``: how many are on the other.
    """

    pair: Pair
    parted: tuple[Ref, ...]
    kept_count: int


@dataclass(frozen=True)
class Event:
    """A change of the account, from ``identity.account_events``."""

    account_id: str
    event: str
    other_account_id: str | None
    at: date
    cause: str | None


@dataclass(frozen=True)
class AccountExplanation:
    """Everything that a release tells about one account.

    ``feeds``: how many records of which; ``pairs``: accepted, strongest first, and hold the account together;
    ``tree``: those that join all, strongest first taken; ``side_pairs``: accepted, but about somebody else, such as who
    an order is delivered to; ``inside``: refused pairs within the account; ``elsewhere``: records of other accounts
    that speak of this person; ``by_number``: records of persons that no pair ties to the rest; ``by_key``: records that
    found the account though they name nobody, such as tickets with an e-mail that nobody else has; ``voices``: how many
    different things its records of persons say; ``household``: the other accounts of it, and what they share;
    ``is_masked``: personal data was not asked for.
    """

    account_id: str
    redirected_from: str | None
    record: Ref | None
    feeds: Mapping[str, int]
    records: tuple[Record, ...]
    voices: int
    pairs: tuple[Pair, ...]
    tree: frozenset[Pair]
    side_pairs: tuple[Pair, ...]
    inside: tuple[Pair, ...]
    weakest: WeakestLink | None
    refusals: tuple[Refusal, ...]
    elsewhere: Mapping[Ref, str | None]
    by_number: tuple[Ref, ...]
    by_key: tuple[Ref, ...]
    household_id: str | None
    household: Mapping[str, str]
    events: tuple[Event, ...]
    is_masked: bool

    @property
    def record_count(self) -> int:
        return sum(self.feeds.values())

    @property
    def decided(self) -> tuple[Pair, ...]:
        """What stewards decided about records of the account, as far as the release tells."""
        nearby = (refusal.pair for refusal in self.refusals)
        return tuple(pair for pair in (*self.pairs, *self.side_pairs, *self.inside, *nearby) if pair.rule == "decision")


@dataclass(frozen=True)
class Key:
    """A card, e-mail or phone that a record carries. ``standing``: demoted (``people`` use it), shared, or counts."""

    type: str
    standing: str
    reason: str = ""
    people: int = 0


@dataclass(frozen=True)
class TokenUse:
    """How a payment card was used: how often, how often by somebody known, by how many accounts, when."""

    uses: int
    identified: int
    accounts: int
    first_at: datetime | None
    last_at: datetime | None
    is_of_a_household: bool


@dataclass(frozen=True)
class AnonymousExplanation:
    """A record without an account. ``token``: of its payment card, where it carries nothing else."""

    record: Ref
    is_person_bearing: bool = False
    is_named: bool = False
    is_email_unreadable: bool = False
    keys: tuple[Key, ...] = ()
    has_token: bool = False
    token: TokenUse | None = None


def attach_release(connection: DuckDBPyConnection, directory: Path) -> None:
    """Attach a release's databases read-only, as ``cocanal`` and ``restricted``."""
    for name, file in (("cocanal", DATABASES["analysts"]), ("restricted", DATABASES["restricted"])):
        connection.execute(f"attach {literal(directory / file)} as {name} (read_only)")


def explain(
    connection: DuckDBPyConnection, asked: str, *, is_masked: bool = True
) -> AccountExplanation | AnonymousExplanation:
    """Explain an account id of this or an earlier release, or a record (``feed:record id``).

    The connection has a release attached as ``attach_release`` does. Raises ExplanationError for what is not in it.
    """
    asked = asked.strip()
    as_record = re.fullmatch(r"(\w+)[:|](.+)", asked, re.DOTALL)
    if as_record is None:
        account_id, redirected_from = _find_account(connection, asked)
        return _account(connection, account_id, redirected_from, None, is_masked)
    record = Ref(as_record[1], as_record[2])
    owner = _find_owner(connection, record)
    if owner is None:
        return _anonymous(connection, record)
    return _account(connection, owner, None, record, is_masked)


def _find_owner(connection: DuckDBPyConnection, record: Ref) -> str | None:
    """The account of a record; None: the record is anonymous."""
    found = _rows(
        connection,
        """
        select account_id, 1 as place from cocanal.identity.account_links where feed = $1 and record_id = $2 union all
        select null, 2 from restricted.identity.records where feed = $1 and record_id = $2 union all
        select account_id, 3 from cocanal.account.transactions where feed = $1 and record_id = $2
        order by place limit 1
        """,
        record,
    )
    if not found:
        raise ExplanationError(
            f"There is no record «{record}» in this release: write feed:key, such as pos_tickets:T-1. "
            "It may have been refused (staging.quarantine), erased, or delivered since."
        )
    owner: str | None = found[0][0]
    return owner


def _find_account(connection: DuckDBPyConnection, asked: str) -> tuple[str, str | None]:
    """The account, and the old id that led to it."""
    if _rows(connection, "select 1 from cocanal.identity.account_links where account_id = ? limit 1", [asked]):
        return asked, None
    redirects = "select account_id from cocanal.identity.account_redirects where old_account_id = ?"
    for (account_id,) in _rows(connection, redirects, [asked]):
        return account_id, asked
    retired = """
        select max(events.at) from cocanal.identity.account_events as events
        where account_id = ? and event = 'retired' having count(*) > 0
    """
    for (at,) in _rows(connection, retired, [asked]):
        raise ExplanationError(
            f"The account {asked} was retired on {at:%d/%m/%Y}: this release has none of its records, and no other "
            "account took them over."
        )
    raise ExplanationError(
        f"There is no account «{asked}» in this release, and no id of an earlier one leads to it. "
        "For a record write feed:key, such as shop_orders:W-1."
    )


def _account(
    connection: DuckDBPyConnection, account_id: str, redirected_from: str | None, record: Ref | None, is_masked: bool
) -> AccountExplanation:
    rows = _dicts(connection, _RECORDS, [account_id])
    links = {Ref(row["feed"], row["record_id"]): row for row in rows}
    persons = {ref for ref, row in links.items() if row["is_person_record"]}
    found = _Pairs(connection, links)
    voice_of = _voices(rows, found)
    graph = _Graph({ref: voice for ref, voice in sorted(voice_of.items()) if ref in persons}, links, found)
    pairs, side, inside, refused = [], [], [], []
    for pair in sorted(found.pairs, key=_strongest_first):
        own = [ref for ref in pair.ends if ref in links]
        if pair.decision == "accepted":
            if pair.left in graph.main:
                pairs.append(pair)
            elif own:
                side.append(pair)
        elif len(own) == 2:
            inside.append(pair)
        elif own:
            refused.append((pair, own[0], pair.right if own[0] == pair.left else pair.left))
    refused = refused[:LISTED_REFUSALS]
    outside = {ref for pair in (*pairs, *side) for ref in pair.ends if ref not in links}
    owners = _owners(connection, outside | {other for *_, other in refused})
    household = _rows(
        connection,
        """
        select household_id, account_id, reason from cocanal.identity.households
        where household_id in (select household_id from cocanal.identity.households where account_id = ?)
        order by account_id
        """,
        [account_id],
    )
    events = _rows(
        connection,
        """
        select account_id, event, other_account_id, "at", cause from cocanal.identity.account_events
        where account_id = $1 or other_account_id = $1
        order by "at", account_id, event, other_account_id
        """,
        [account_id],
    )
    feeds = Counter(ref.feed for ref in links)
    return AccountExplanation(
        account_id=account_id,
        redirected_from=redirected_from,
        record=record,
        feeds={feed: feeds[feed] for feed in sorted(feeds, key=_feed_rank)},
        records=tuple(_records(links, voice_of)),
        voices=len(graph.founders),
        pairs=tuple(pairs),
        tree=frozenset(graph.tree),
        side_pairs=tuple(side),
        inside=tuple(inside),
        weakest=graph.weakest(),
        refusals=tuple(Refusal(*each, owners.get(each[-1])) for each in refused),
        elsewhere={ref: owners.get(ref) for ref in sorted(graph.main & outside)},
        by_number=tuple(ref for ref in sorted(persons & set(voice_of)) if voice_of[ref] not in graph.main),
        by_key=tuple(sorted(persons - set(voice_of))),
        household_id=household[0][0] if household else None,
        household={mate: reason for _, mate, reason in household if mate != account_id},
        events=tuple(Event(*row) for row in events),
        is_masked=is_masked,
    )


_DEMOTED = "demoted as (select type || value_hash from restricted.identity.demoted_identifiers)"
# Contacts as ``records.build_profiles`` takes them: what is demoted is not part of what is said.
_SAID = """
    select
        * replace (
            case when 'email' || left(sha256('email|' || email_key), 16) not in (from demoted) then email_key end
            as email_key
        ),
        case when 'phone' || left(sha256('phone|' || phone), 16) not in (from demoted) then phone end as phone_key
    from restricted.identity.contacts
"""
_RECORDS = f"""
    with {_DEMOTED},
    linked as (
        select links.feed, links.record_id, links.rule, links.confidence, links.is_person_record, records.seen_at,
            records.contact_id, records.customer_id as own_customer_id, records.card_id as own_card_id
        from cocanal.identity.account_links as links
        left join restricted.identity.records as records using (feed, record_id)
        where links.account_id = ?
    ),
    contents as (
        select contact_id, hash({CONTENT}) as content
        from ({_SAID} where contact_id in (select contact_id from linked)) where {NAMES_SOMEBODY}
    )
    select linked.*, contents.content, contacts.feed as spoken_feed, contacts.record_id as spoken_id,
        contacts.seen_at as spoken_at,
        contacts.first_name, contacts.last_name, contacts.birth_date, contacts.email, contacts.email_key,
        contacts.phone, contacts.address_line1, contacts.postal_code, contacts.city,
        coalesce(contacts.customer_id, own_customer_id) as customer_id,
        coalesce(contacts.card_id, own_card_id) as card_id
    from linked
    left join restricted.identity.contacts as contacts on contacts.contact_id = linked.contact_id
    left join contents on contents.contact_id = linked.contact_id
"""
# Of contacts that say the same, the first speaks (``records.FIRST``).
_PLACE = f"row({FEED_RANK}, seen_at, record_id)"
# Demoted values may differ: they are no part of what is said.
_SAYS_THE_SAME = " and ".join(
    f"coalesce(others.{column.replace('phone_key', 'phone')} = mine.{column}, mine.{column} is null)"
    if column in ("email_key", "phone_key")
    else f"others.{column} is not distinct from mine.{column}"
    for column in PROFILE
)


def _voices(rows: Sequence[Mapping[str, Any]], found: "_Pairs") -> dict[Ref, Ref]:
    """The record that speaks in the pairs for each record that names somebody: of those that say the same, the first.

    Records that a steward declared different stay apart.
    """
    groups: dict[tuple[int, Ref | None], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["content"] is not None:
            speaker = Ref(row["spoken_feed"], row["spoken_id"])
            groups[row["content"], speaker if speaker in found.parted else None].append(row)
    voices = {}
    for group in groups.values():
        first = min(
            group, key=lambda row: (_feed_rank(row["spoken_feed"]), row["spoken_at"] or datetime.max, row["spoken_id"])
        )
        speaker = Ref(first["spoken_feed"], first["spoken_id"])
        # The first of all that say the same may be in another account: an order that somebody else paid.
        if len(groups) > 1 and speaker not in found.ends:
            speaker = found.speaker_elsewhere(first["contact_id"]) or speaker
        for row in group:
            voices[Ref(row["feed"], row["record_id"])] = speaker
    return voices


class _Pairs:
    """The pairs of ``identity.edges`` that were read so far: those with a record of the account, and more on demand."""

    def __init__(self, connection: DuckDBPyConnection, refs: Iterable[Ref]) -> None:
        self._connection = connection
        levels = _rows(connection, "select comparison, gamma, weight, words from cocanal.identity.model_levels")
        self._levels = {(comparison, gamma): (words, weight) for comparison, gamma, weight, words in levels}
        self.pairs: set[Pair] = set()
        self.ends: set[Ref] = set()
        self.asked: set[Ref] = set()
        self.read(refs)
        decided = [pair for pair in self.pairs if pair.rule == "decision" and pair.decision == "refused"]
        self.parted = {end for pair in decided for end in pair.ends}

    def read(self, refs: Iterable[Ref]) -> None:
        wanted = sorted(set(refs) - self.asked)
        self.asked.update(wanted)
        for row in _rows(
            self._connection,
            f"""
            with asked as (select unnest(?::varchar[]) as feed, unnest(?::varchar[]) as record_id),
            near as (
                select * from restricted.identity.edges
                semi join asked on asked.feed = left_feed and asked.record_id = left_record_id
                union
                select * from restricted.identity.edges
                semi join asked on asked.feed = right_feed and asked.record_id = right_record_id
            )
            select left_feed, left_record_id, right_feed, right_record_id, rule, decision, reason, weight, evidence,
                {", ".join(GAMMAS)}
            from near
            order by decision, weight desc nulls first, left_feed, left_record_id, right_feed, right_record_id, rule
            limit {_READ_PAIRS}
            """,
            _columns(wanted),
        ):
            rule, decision, reason, weight, evidence, *gammas = row[4:]
            parts = self._waterfall(rule, weight, gammas)
            pair = Pair(Ref(*row[:2]), Ref(*row[2:4]), rule, decision, reason, weight, evidence, parts)
            self.pairs.add(pair)
            self.ends.update(pair.ends)

    def _waterfall(self, rule: str, total: float | None, gammas: Sequence[int | None]) -> tuple[Part, ...]:
        """The steps from the prior to the pair's weight; none for a steward's pair, which has no weight.

        The last step is what is left over: how rare the names are that agree, which the model adds to a level's weight.
        """
        if total is None:
            return ()
        parts = [Part("prior", *self._levels["prior", None])]
        for comparison, gamma in zip(COMPARISONS, gammas, strict=True):
            if gamma is not None and gamma >= 0:
                parts.append(Part(comparison.name, *self._levels[comparison.name, gamma]))
        if rule in ("customer_id", "card"):
            parts.append(Part("declared", *self._levels["declared", None]))
        rest = total - sum(part.weight for part in parts)
        # The stage keeps weights in single precision.
        if abs(rest) >= 0.001:
            parts.append(Part("rarity", "rarity of the names" if rest > 0 else "names that many bear", rest))
        return tuple(parts)

    def speaker_elsewhere(self, contact_id: int) -> Ref | None:
        """An earlier record, of another account, that says the same and speaks for it."""
        rows = _rows(
            self._connection,
            f"""
            with {_DEMOTED}, mine as (select *, {_PLACE} as place from ({_SAID} where contact_id = ?)),
            others as (select *, {_PLACE} as place from restricted.identity.contacts)
            select others.feed, others.record_id
            from others join mine on others.place < mine.place and {_SAYS_THE_SAME}
            order by others.place limit 20
            """,
            [contact_id],
        )
        candidates = [Ref(*row) for row in rows]
        self.read(candidates)
        return next((ref for ref in candidates if ref in self.ends), None)


class _Graph:
    """The voices of an account and the accepted pairs between them.

    ``main``: the part that holds most of the account's records of persons. ``tree``: its maximum spanning tree, without
    branches that lead to no record of a person. A steward's pair is the strongest.
    """

    def __init__(self, voice_of: Mapping[Ref, Ref], own: Iterable[Ref], found: _Pairs) -> None:
        self._members: dict[Ref, list[Ref]] = defaultdict(list)
        for ref, voice in voice_of.items():
            self._members[voice].append(ref)
        self.founders = set(self._members)
        self.main, tree = self._grow(set(own), found)
        self.tree = self._pruned({pair for pair in tree if pair.left in self.main})

    def _grow(self, own: set[Ref], found: _Pairs) -> tuple[set[Ref], list[Pair]]:
        """Read on through records of other accounts while the records of persons do not hang together."""
        for turn in count():
            parts, tree = spanning_tree(self.founders, found.pairs)
            sizes: Counter[Ref] = Counter()
            for voice, refs in self._members.items():
                sizes[parts[voice]] += len(refs)
            best = max(sorted(sizes), key=lambda part: (sizes[part], part in own), default=None)
            main = {ref for ref, part in parts.items() if part == best}
            outside = set(parts) - own - found.asked
            if self.founders <= main or not outside or turn == _ROUNDS:
                break
            found.read(outside)
        return main, tree

    def _pruned(self, tree: set[Pair]) -> set[Pair]:
        while True:
            degrees = Counter(end for pair in tree for end in pair.ends)
            loose = {end for end, degree in degrees.items() if degree == 1 and end not in self.founders}
            if not loose:
                return tree
            tree = {pair for pair in tree if not loose & set(pair.ends)}

    def weakest(self) -> WeakestLink | None:
        """The lightest pair of the tree, and what it parts."""
        if not self.tree:
            return None
        lightest = min(self.tree, key=lambda pair: (pair.strength, *pair.ends))
        parts, _ = spanning_tree(lightest.ends, self.tree - {lightest})
        sides = [
            sorted(ref for voice in self.founders if parts.get(voice) == parts[end] for ref in self._members[voice])
            for end in lightest.ends
        ]
        smaller, larger = sorted(sides, key=lambda side: (len(side), side))
        return WeakestLink(lightest, tuple(smaller), len(larger))


def spanning_tree(refs: Iterable[Ref], pairs: Iterable[Pair]) -> tuple[dict[Ref, Ref], list[Pair]]:
    """The part (its smallest record) of every record, and a maximum spanning forest of the accepted pairs (Kruskal)."""
    parent: dict[Ref, Ref] = {ref: ref for ref in refs}

    def root(ref: Ref) -> Ref:
        while parent.setdefault(ref, ref) != ref:
            parent[ref] = parent[parent[ref]]
            ref = parent[ref]
        return ref

    tree = []
    for pair in sorted((pair for pair in pairs if pair.decision == "accepted"), key=_strongest_first):
        one, other = sorted((root(pair.left), root(pair.right)))
        if one != other:
            parent[other] = one
            tree.append(pair)
    return {ref: root(ref) for ref in parent}, tree


def _strongest_first(pair: Pair) -> tuple[float, Ref, Ref]:
    return -pair.strength, *pair.ends


def _feed_rank(feed: str) -> tuple[int, str]:
    return (FEED_ORDER.index(feed) if feed in FEED_ORDER else len(FEED_ORDER), feed)


def _records(links: Mapping[Ref, Mapping[str, Any]], voice_of: Mapping[Ref, Ref]) -> list[Record]:
    def best_known_first(ref: Ref) -> tuple[Any, ...]:
        link = links[ref]
        return not link["is_person_record"], _feed_rank(ref.feed), link["seen_at"] or datetime.min, ref

    order = sorted(links, key=best_known_first)
    holders: dict[str, Ref] = {}
    for ref in order:
        for value in (links[ref]["email_key"], links[ref]["phone"]):
            if ref in voice_of and value:
                holders.setdefault(value, voice_of[ref])
    records = []
    for ref in order[:LISTED_RECORDS]:
        link, voice = links[ref], voice_of.get(ref)
        numbers = (Ref("loyalty_members", link["card_id"]), Ref("shop_customers", link["customer_id"]))
        keys = (holders.get(link["email_key"]), holders.get(link["phone"]))
        owners = (*numbers, *keys) if voice is None else (voice,)
        written = ("email", "phone", "address_line1", "postal_code", "city")
        names = tuple(link[column] for column in ("first_name", "last_name") if link[column])
        records.append(
            Record(
                ref=ref,
                seen_at=link["seen_at"],
                rule=link["rule"],
                confidence=link["confidence"],
                is_person_record=link["is_person_record"],
                said=Said(names, link["birth_date"], *(link[column] or "" for column in written)),
                voice=voice,
                parent=next((owner for owner in owners if owner in links and owner != ref), None),
            )
        )
    return records


def _owners(connection: DuckDBPyConnection, refs: Iterable[Ref]) -> dict[Ref, str]:
    rows = _rows(
        connection,
        """
        with asked as (select unnest(?::varchar[]) as feed, unnest(?::varchar[]) as record_id)
        select feed, record_id, account_id from cocanal.identity.account_links semi join asked using (feed, record_id)
        """,
        _columns(sorted(refs)),
    )
    return {Ref(feed, record_id): account_id for feed, record_id, account_id in rows}


def _anonymous(connection: DuckDBPyConnection, record: Ref) -> AnonymousExplanation:
    rows = _dicts(
        connection,
        """
        select records.contact_id, records.payment_token, contacts.card_id as card, contacts.email_key as email,
            contacts.phone, contacts.email is not null and contacts.email_key is null as is_email_unreadable,
            coalesce(contacts.given_initials, contacts.family_name_key, contacts.birth_key) is not null as is_named
        from restricted.identity.records as records
        left join restricted.identity.contacts as contacts using (contact_id)
        where records.feed = ? and records.record_id = ?
        """,
        record,
    )
    if not rows:
        return AnonymousExplanation(record)
    (row,) = rows
    keys = [_key(connection, type_, row[type_]) for type_ in ("card", "email", "phone") if row[type_] is not None]
    has_token = row["payment_token"] is not None
    token = _token_use(connection, row["payment_token"]) if has_token and row["contact_id"] is None else None
    return AnonymousExplanation(
        record, True, row["is_named"], row["is_email_unreadable"], tuple(keys), has_token, token
    )


def _key(connection: DuckDBPyConnection, type_: str, value: str) -> Key:
    hashed = "left(sha256($1::varchar || '|' || $2::varchar), 16)"
    found = _rows(
        connection,
        f"""
        select 'demoted' as standing, reason, person_count from restricted.identity.demoted_identifiers
        where type = $1 and value_hash = {hashed}
        union all
        select 'shared', reason, account_count from restricted.identity.shared_identifiers
        where type = $1 and value_hash = {hashed} and account_count > 1
        order by standing
        """,
        [type_, value],
    )
    return Key(type_, *(found[0] if found else ("counts",)))


def _token_use(connection: DuckDBPyConnection, token: str) -> TokenUse:
    (use,) = _rows(
        connection,
        """
        with uses as (select feed, record_id, seen_at from restricted.identity.records where payment_token = ?)
        select count(*), count(account_id), count(distinct account_id),
            min(seen_at) filter (where account_id is not null), max(seen_at) filter (where account_id is not null),
            min(account_id) in (select account_id from cocanal.identity.households)
        from uses
        left join cocanal.identity.account_links as links
            on links.feed = uses.feed and links.record_id = uses.record_id and links.rule <> 'payment_token'
        """,
        [token],
    )
    return TokenUse(*use)


def _rows(connection: DuckDBPyConnection, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    return connection.execute(query, list(values)).fetchall()


def _dicts(connection: DuckDBPyConnection, query: str, values: Sequence[Any]) -> list[dict[str, Any]]:
    result = connection.execute(query, list(values))
    names = [column[0] for column in result.description]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def _columns(refs: Sequence[Ref]) -> list[list[str]]:
    return [[ref.feed for ref in refs], [ref.record_id for ref in refs]]
