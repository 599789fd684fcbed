"""Why these records are one account: read from a release, in words and as a page.

What belongs here: reading one account (or one record that has none) out of a release's two databases, the weakest
link, the masking of personal data, the sentences, the page. What does not: any judgement of who is who, which was made
when the release was built, and who may look, which is the command's business.

Every query is filtered by the account's own records: the work grows with the account. DuckDB passes over the columns
that it filters, but no table is brought together with another as a whole.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from itertools import count
from math import cos, inf, log10, pi, sin
from pathlib import Path
from typing import Any

import jinja2
from duckdb import DuckDBPyConnection

from dagster_project.domain.identity.model import COMPARISONS
from dagster_project.domain.identity.policy import read_policy
from dagster_project.domain.identity.records import FEED_ORDER, PROFILE
from dagster_project.domain.release import DATABASES
from dagster_project.domain.report import Formats

_TEMPLATE = Path(__file__).with_name("explanation.html.jinja")
_FORMATS = Formats("EUR")

LISTED_RECORDS = 500
LISTED_PAIRS = 200
DRAWN_RECORDS = 60
DRAWN_PAIRS = 12
_READ_PAIRS = 20_000
_ROUNDS = 5

FEED_WORDS = {
    "shop_customers": ("web account", "web accounts"),
    "loyalty_members": ("loyalty card", "loyalty cards"),
    "shop_orders": ("web order", "web orders"),
    "pos_tickets": ("till ticket", "till tickets"),
}
RULE_WORDS = {
    "customer_id": "by the number of the web account",
    "card": "by the number of the card",
    "email": "by the e-mail",
    "phone": "by the phone",
    "similarity": "by all that agrees, taken together",
    "name_and_address": "by full name and address",
    "payment_token": "by the payment card, which only this account uses",
    "decision": "by a steward's decision",
}
PAIR_WORDS = {
    "customer_id": "one names the other's web account",
    "card": "one names the other's card",
    "email": "one e-mail",
    "phone": "one phone",
    "similarity": "all that agrees, taken together",
    "decision": "a steward's decision",
}
REASON_WORDS = {
    "given_name": "another given name: two people, like twins or a couple",
    "birth_date": "another birth date: two people, like a father and a son",
    "could_be_two_people": "it could be two people: it fits another person as well, or only name and address agree",
    "household_only": "all that agrees is a household's: nothing is the person's own",
    "too_little_evidence": "too little agrees",
    "conflict_inside": "taken together, two records of the two accounts contradict each other",
    "weak_bridge": "one weak pair is all that ties two well-knit groups",
    "declared_different": "a steward declared them different people",
}
DEMOTED_WORDS = {
    "blocked": "the policy blocks it: a placeholder or a desk's own",
    "too_many_people": "too many people use it",
    "over_used": "it is used like a tool of many, such as a till's own card",
}
SHARED_WORDS = {
    "given_anew": "a phone that was given to somebody else",
    "landline": "a landline of several people",
    "household": "shared in a household",
    "payment_card": "a payment card of several people",
    "several_people": "several people carry it",
}
HOUSEHOLD_WORDS = {
    "address_and_name": "one address and one family name",
    "shared_landline": "one landline",
    "shared_email": "one e-mail that merged nobody",
    "shared_phone": "one phone that merged nobody",
}


class ExplanationError(Exception):
    """There is nothing to explain; the message is a sentence for the person who asked."""


@dataclass(frozen=True, order=True)
class Ref:
    """A record by feed and key."""

    feed: str
    record_id: str

    def __str__(self) -> str:
        return f"{self.feed}:{self.record_id}"


@dataclass(frozen=True)
class Said:
    """What a record says of the person; masked unless personal data was asked for."""

    name: str = ""
    email: str = ""
    phone: str = ""
    born: str = ""
    address: str = ""


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
    said: Said
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
    is_in_tree: bool = False

    @property
    def strength(self) -> float:
        return inf if self.weight is None else self.weight

    @property
    def reason_words(self) -> str:
        return REASON_WORDS.get(self.reason or "", (self.reason or "").replace("_", " "))


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
class HouseholdMember:
    """An account of the household, with what it shares."""

    account_id: str
    reason: str


@dataclass(frozen=True)
class AccountExplanation:
    """Everything that a release tells about one account.

    ``pairs``: accepted, strongest first, and hold the account together; ``side_pairs``: accepted, but about somebody
    else, such as who an order is delivered to; ``inside``: refused pairs within the account; ``elsewhere``: records of
    other accounts that speak of this person; ``by_number``: records of persons that no pair ties to the rest;
    ``by_key``: records that found the account though they name nobody, such as tickets with an e-mail that nobody else
    has; ``voices``: how many different things its records of persons say.
    """

    account_id: str
    asked: str
    redirected_from: str | None
    record: Ref | None
    counts: Mapping[tuple[str, str, float], int]
    records: tuple[Record, ...]
    voices: int
    pairs: tuple[Pair, ...]
    side_pairs: tuple[Pair, ...]
    inside: tuple[Pair, ...]
    weakest: WeakestLink | None
    refusals: tuple[Refusal, ...]
    elsewhere: Mapping[Ref, str | None]
    by_number: tuple[Ref, ...]
    by_key: tuple[Ref, ...]
    household_id: str | None
    household: tuple[HouseholdMember, ...]
    events: tuple[Event, ...]
    is_masked: bool

    @property
    def record_count(self) -> int:
        return sum(self.counts.values())

    @property
    def feeds(self) -> dict[str, int]:
        counted: Counter[str] = Counter()
        for (feed, _, _), records in self.counts.items():
            counted[feed] += records
        return {feed: counted[feed] for feed in sorted(counted, key=_feed_rank)}

    @property
    def decided(self) -> tuple[Pair, ...]:
        """What stewards decided about records of the account, as far as the release tells."""
        nearby = (refusal.pair for refusal in self.refusals)
        return tuple(pair for pair in (*self.pairs, *self.side_pairs, *self.inside, *nearby) if pair.rule == "decision")


@dataclass(frozen=True)
class AnonymousExplanation:
    """A record without an account, and why, one sentence each."""

    record: Ref
    seen_at: datetime | None
    reasons: tuple[str, ...]


def attach_release(connection: DuckDBPyConnection, directory: Path) -> None:
    """Attach a release's databases read-only, as ``cocanal`` and ``restricted``."""
    for name, file in (("cocanal", DATABASES["analysts"]), ("restricted", DATABASES["restricted"])):
        path = str(directory / file).replace("'", "''")
        connection.execute(f"attach '{path}' as {name} (read_only)")


def explain(
    connection: DuckDBPyConnection, asked: str, *, is_masked: bool = True
) -> AccountExplanation | AnonymousExplanation:
    """Explain an account id of this or an earlier release, or a record (``feed:record id``).

    The connection has a release attached as ``attach_release`` does. Raises ExplanationError for what is not in it.
    """
    account_id, redirected_from, record = _find(connection, asked.strip())
    if account_id is None:
        assert record is not None
        return _anonymous(connection, record)
    return _account(connection, account_id, asked.strip(), redirected_from, record, is_masked)


def _find(connection: DuckDBPyConnection, asked: str) -> tuple[str | None, str | None, Ref | None]:
    """The account, the old id that led to it, the record that was asked for. No account: the record is anonymous."""
    as_record = re.fullmatch(r"(\w+)[:|](.+)", asked, re.DOTALL)
    if as_record:
        record = Ref(as_record[1], as_record[2])
        for (account_id,) in _rows(
            connection, "select account_id from cocanal.identity.account_links where feed = ? and record_id = ?", record
        ):
            return account_id, None, record
        if _rows(connection, "select 1 from restricted.identity.records where feed = ? and record_id = ?", record):
            return None, None, record
        if _has_table(connection, "cocanal", "account", "transactions"):
            for (account_id,) in _rows(
                connection,
                "select account_id from cocanal.account.transactions where feed = ? and record_id = ?",
                record,
            ):
                return account_id, None, record
        raise ExplanationError(
            f"There is no record «{plain(str(record))}» in this release: write feed:key, such as pos_tickets:T-1. "
            "It may have been refused (staging.quarantine), erased, or delivered since."
        )
    if _rows(connection, "select 1 from cocanal.identity.account_links where account_id = ? limit 1", [asked]):
        return asked, None, None
    for (account_id,) in _rows(
        connection, "select account_id from cocanal.identity.account_redirects where old_account_id = ?", [asked]
    ):
        return account_id, asked, None
    for (at,) in _rows(
        connection,
        """
        select max(events.at) from cocanal.identity.account_events as events
        where account_id = ? and event = 'retired' having count(*) > 0
        """,
        [asked],
    ):
        raise ExplanationError(
            f"The account {plain(asked)} was retired on {_FORMATS.day(at)}: this release has none of its records, and "
            "no other account took them over."
        )
    raise ExplanationError(
        f"There is no account «{plain(asked)}» in this release, and no id of an earlier one leads to it. "
        "For a record write feed:key, such as shop_orders:W-1."
    )


def _account(
    connection: DuckDBPyConnection,
    account_id: str,
    asked: str,
    redirected_from: str | None,
    record: Ref | None,
    is_masked: bool,
) -> AccountExplanation:
    rows = _dicts(connection, _RECORDS, [account_id])
    links = {Ref(row["feed"], row["record_id"]): row for row in rows}
    found = _Pairs(connection, links)
    voice_of = _voices(rows, found)
    graph = _Graph(connection, links, voice_of, found)
    records = _records(links, voice_of, is_masked)
    weakest = graph.weakest()
    levels = _levels(connection)

    def told(pair: Pair) -> Pair:
        return replace(pair, parts=waterfall(pair, found.gammas[pair], levels), is_in_tree=pair in graph.tree)

    pairs, side, inside, refusals = [], [], [], []
    for pair in sorted(found.pairs, key=lambda pair: (-pair.strength, pair.left, pair.right)):
        own = [ref for ref in (pair.left, pair.right) if ref in links]
        if pair.decision == "accepted":
            if pair.left in graph.main:
                pairs.append(told(pair))
            elif own:
                side.append(told(pair))
        elif len(own) == 2:
            inside.append(told(pair))
        elif own:
            other = pair.right if own[0] == pair.left else pair.left
            refusals.append(Refusal(told(pair), own[0], other, None))
    refusals = refusals[:LISTED_PAIRS]
    outside = {refusal.other for refusal in refusals} | {
        ref for pair in (*pairs, *side) for ref in (pair.left, pair.right) if ref not in links
    }
    owners = _owners(connection, outside)
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
        where account_id = ? or other_account_id = ?
        order by "at", account_id, event, other_account_id
        """,
        [account_id, account_id],
    )
    return AccountExplanation(
        account_id=account_id,
        asked=asked,
        redirected_from=redirected_from,
        record=record,
        counts=Counter((row["feed"], row["rule"], row["confidence"]) for row in rows),
        records=tuple(records),
        voices=len(graph.founders),
        pairs=tuple(pairs),
        side_pairs=tuple(side),
        inside=tuple(inside),
        weakest=weakest and replace(weakest, pair=told(weakest.pair)),
        refusals=tuple(replace(refusal, account_id=owners.get(refusal.other)) for refusal in refusals),
        elsewhere={ref: owners.get(ref) for ref in sorted(graph.main - set(links)) if ref in outside},
        by_number=tuple(
            ref for ref, voice in sorted(voice_of.items()) if links[ref]["is_person_record"] and voice not in graph.main
        ),
        by_key=tuple(ref for ref in sorted(links) if links[ref]["is_person_record"] and ref not in voice_of),
        household_id=household[0][0] if household else None,
        household=tuple(HouseholdMember(row[1], row[2]) for row in household),
        events=tuple(Event(*row) for row in events),
        is_masked=is_masked,
    )


# What a profile says, as ``records.build_profiles`` takes it; the name of its column in the contacts.
_SAYS = {column: {"phone_key": "phone"}.get(column, column) for column in PROFILE}

_RECORDS = f"""
    with links as (
        select feed, record_id, rule, confidence, is_person_record
        from cocanal.identity.account_links where account_id = ?
    ),
    demoted as (select type || value_hash as name from restricted.identity.demoted_identifiers)
    select links.*, records.seen_at, records.contact_id,
        contacts.feed as spoken_feed, contacts.record_id as spoken_id,
        contacts.first_name, contacts.last_name, contacts.email, contacts.phone as phone_written, contacts.birth_date,
        contacts.address_line1, contacts.city, contacts.postal_code as postal_code_written,
        coalesce(contacts.customer_id, records.customer_id) as customer_id, coalesce(contacts.card_id, records.card_id)
            as card_id,
        'email' || left(sha256('email|' || contacts.email_key), 16) in (from demoted) as is_email_demoted,
        'phone' || left(sha256('phone|' || contacts.phone), 16) in (from demoted) as is_phone_demoted,
        {", ".join(f"contacts.{column} as says_{name}" for name, column in _SAYS.items())}
    from links
    left join restricted.identity.records as records using (feed, record_id)
    left join restricted.identity.contacts as contacts on contacts.contact_id = records.contact_id
"""


def _says(row: Mapping[str, Any]) -> dict[str, Any]:
    said = {name: row[f"says_{name}"] for name in PROFILE}
    if row["is_email_demoted"]:
        said["email_key"] = None
    if row["is_phone_demoted"]:
        said["phone_key"] = None
    return said


def _voices(rows: Sequence[Mapping[str, Any]], found: "_Pairs") -> dict[Ref, Ref]:
    """The record that speaks in the pairs for each record that names somebody: of those that say the same, the first.

    The same reading as ``records.build_profiles``: contents too thin to be one person's stay apart, and so do records
    that a steward declared different.
    """
    groups: dict[tuple[object, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["contact_id"] is None:
            continue
        said, speaker = _says(row), Ref(row["spoken_feed"], row["spoken_id"])
        names_somebody = any(said[name] is not None for name in ("given_initials", "family_name_key", "birth_key"))
        if not names_somebody and speaker.feed not in ("shop_customers", "loyalty_members"):
            continue
        has_names = said["given_name_key"] is not None and said["family_name_key"] is not None
        has_home = said["street_key"] is not None and said["house_number"] is not None
        is_thick = (
            said["email_key"] is not None
            or said["phone_key"] is not None
            or (has_names and (said["birth_key"] is not None or has_home))
        )
        content = (*said.values(), None if is_thick and speaker not in found.parted else speaker)
        groups[content].append(row)
    voices = {}
    for group in groups.values():
        first = min(group, key=lambda row: row["contact_id"])
        speaker = Ref(first["spoken_feed"], first["spoken_id"])
        # The first of all that say the same may be in another account: an order that somebody else paid.
        if len(groups) > 1 and speaker not in found.ends:
            speaker = found.speaker_elsewhere(_says(first), first["contact_id"]) or speaker
        for row in group:
            voices[Ref(row["feed"], row["record_id"])] = speaker
    return voices


class _Pairs:
    """The pairs of ``identity.edges`` that were read so far: those with a record of the account, and more on demand."""

    def __init__(self, connection: DuckDBPyConnection, refs: Iterable[Ref]) -> None:
        self._connection = connection
        self.pairs: set[Pair] = set()
        self.gammas: dict[Pair, dict[str, int | None]] = {}
        self.ends: set[Ref] = set()
        self.asked: set[Ref] = set()
        self.read(refs)
        self.parted = {
            end
            for pair in self.pairs
            if pair.rule == "decision" and pair.decision == "refused"
            for end in (pair.left, pair.right)
        }

    def read(self, refs: Iterable[Ref]) -> None:
        wanted = sorted(set(refs) - self.asked)
        self.asked.update(wanted)
        gammas = [f"gamma_{comparison.name}" for comparison in COMPARISONS]
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
                {", ".join(gammas)}
            from near
            order by decision, weight desc nulls first, left_feed, left_record_id, right_feed, right_record_id, rule
            limit {_READ_PAIRS}
            """,
            [[ref.feed for ref in wanted], [ref.record_id for ref in wanted]],
        ):
            pair = Pair(Ref(row[0], row[1]), Ref(row[2], row[3]), *row[4:9])
            self.pairs.add(pair)
            self.gammas[pair] = dict(zip((comparison.name for comparison in COMPARISONS), row[9:], strict=True))
            self.ends |= {pair.left, pair.right}

    def speaker_elsewhere(self, said: Mapping[str, Any], before: int) -> Ref | None:
        """An earlier record, of another account, that says the same and speaks for it."""
        known = [name for name in PROFILE if said[name] is not None]
        # Demoted values are no part of what is said, and may differ.
        others = [name for name in PROFILE if said[name] is None and name not in ("email_key", "phone_key")]
        conditions = [f"{_SAYS[name]} = ?" for name in known] + [f"{_SAYS[name]} is null" for name in others]
        rows = _rows(
            self._connection,
            "select feed, record_id from restricted.identity.contacts "
            f"where contact_id < ? and {' and '.join(conditions)} order by contact_id limit 20",
            [before, *(said[name] for name in known)],
        )
        candidates = [Ref(*row) for row in rows]
        self.read(candidates)
        return next((ref for ref in candidates if ref in self.ends), None)


class _Graph:
    """The voices of an account and the accepted pairs between them.

    ``main``: the part that holds most of the account's records of persons. ``tree``: its maximum spanning tree, without
    branches that lead to no record of a person. A steward's pair is the strongest.
    """

    def __init__(
        self,
        connection: DuckDBPyConnection,
        links: Mapping[Ref, Mapping[str, Any]],
        voice_of: Mapping[Ref, Ref],
        found: _Pairs,
    ) -> None:
        self._members: dict[Ref, list[Ref]] = defaultdict(list)
        for ref, voice in sorted(voice_of.items()):
            if links[ref]["is_person_record"]:
                self._members[voice].append(ref)
        self.founders = set(self._members)
        self._grow(found, links)
        self.tree = self._pruned()

    def _grow(self, found: _Pairs, links: Mapping[Ref, Mapping[str, Any]]) -> None:
        """Read on through records of other accounts while the records of persons do not hang together."""
        for turn in count():
            parts, self._spanning = spanning_tree(self.founders, found.pairs)
            best = max(
                sorted({parts[voice] for voice in self.founders}),
                key=lambda part: (
                    sum(len(refs) for voice, refs in self._members.items() if parts[voice] == part),
                    part in links,
                ),
                default=None,
            )
            self.main = {ref for ref, part in parts.items() if part == best}
            outside = {ref for ref in parts if ref not in links} - found.asked
            if self.founders <= self.main or not outside or turn == _ROUNDS:
                return
            found.read(outside)

    def _pruned(self) -> set[Pair]:
        tree = {pair for pair in self._spanning if pair.left in self.main}
        while True:
            degrees = Counter(end for pair in tree for end in (pair.left, pair.right))
            loose = {end for end, degree in degrees.items() if degree == 1 and end not in self.founders}
            if not loose:
                return tree
            tree = {pair for pair in tree if not loose & {pair.left, pair.right}}

    def weakest(self) -> WeakestLink | None:
        """The lightest pair of the tree, and what it parts."""
        if not self.tree:
            return None
        lightest = min(self.tree, key=lambda pair: (pair.strength, pair.left, pair.right))
        parts, _ = spanning_tree({lightest.left, lightest.right}, self.tree - {lightest})
        sides = [
            [ref for voice in self.founders if parts.get(voice) == parts[end] for ref in self._members[voice]]
            for end in (lightest.left, lightest.right)
        ]
        smaller, larger = sorted(sides, key=lambda side: (len(side), sorted(side)))
        return WeakestLink(lightest, tuple(sorted(smaller)), len(larger))


def spanning_tree(refs: Iterable[Ref], pairs: Iterable[Pair]) -> tuple[dict[Ref, Ref], list[Pair]]:
    """The part (its smallest record) of every record, and a maximum spanning forest of the accepted pairs (Kruskal)."""
    parent: dict[Ref, Ref] = {ref: ref for ref in refs}

    def root(ref: Ref) -> Ref:
        while parent.setdefault(ref, ref) != ref:
            parent[ref] = parent[parent[ref]]
            ref = parent[ref]
        return ref

    tree = []
    accepted = (pair for pair in pairs if pair.decision == "accepted")
    for pair in sorted(accepted, key=lambda pair: (-pair.strength, pair.left, pair.right)):
        one, other = sorted((root(pair.left), root(pair.right)))
        if one != other:
            parent[other] = one
            tree.append(pair)
    return {ref: root(ref) for ref in parent}, tree


def _records(links: Mapping[Ref, Mapping[str, Any]], voice_of: Mapping[Ref, Ref], is_masked: bool) -> list[Record]:
    by_email: dict[str, Ref] = {}
    by_phone: dict[str, Ref] = {}
    order = sorted(links, key=lambda ref: (not links[ref]["is_person_record"], _feed_rank(ref.feed),
                                           links[ref]["seen_at"] or datetime.min, ref))  # fmt: skip
    for ref in order:
        if ref in voice_of:
            by_email.setdefault(links[ref]["says_email_key"], voice_of[ref])
            by_phone.setdefault(links[ref]["says_phone_key"], voice_of[ref])
    records = []
    for ref in order[:LISTED_RECORDS]:
        link = links[ref]
        voice = voice_of.get(ref)
        owners = (
            voice if voice != ref else None,
            Ref("loyalty_members", link["card_id"]) if link["card_id"] and voice is None else None,
            Ref("shop_customers", link["customer_id"]) if link["customer_id"] and voice is None else None,
            by_email.get(link["says_email_key"]) if link["says_email_key"] and voice is None else None,
            by_phone.get(link["says_phone_key"]) if link["says_phone_key"] and voice is None else None,
        )
        records.append(
            Record(
                ref=ref,
                seen_at=link["seen_at"],
                rule=link["rule"],
                confidence=link["confidence"],
                is_person_record=link["is_person_record"],
                said=_said(link, is_masked),
                voice=voice,
                parent=next((owner for owner in owners if owner is not None and owner in links), None),
            )
        )
    return records


def _levels(connection: DuckDBPyConnection) -> dict[tuple[str, int | None], tuple[float, str]]:
    rows = _rows(connection, "select comparison, gamma, weight, words from cocanal.identity.model_levels")
    return {(comparison, gamma): (weight, words) for comparison, gamma, weight, words in rows}


def waterfall(
    pair: Pair, gammas: Mapping[str, int | None], levels: Mapping[tuple[str, int | None], tuple[float, str]]
) -> tuple[Part, ...]:
    """The steps from the prior to the pair's weight; none for a steward's pair, which has no weight.

    The last step is what is left over: how rare the names are that agree, which the model adds to the level's weight.
    """
    if pair.weight is None:
        return ()
    parts = [Part("prior", levels["prior", None][1], levels["prior", None][0])]
    for comparison, gamma in gammas.items():
        if gamma is not None and gamma >= 0:
            weight, words = levels[comparison, gamma]
            parts.append(Part(comparison, words, weight))
    if pair.rule in ("customer_id", "card"):
        weight, words = levels["declared", None]
        parts.append(Part("declared", words, weight))
    rest = pair.weight - sum(part.weight for part in parts)
    # The stage keeps weights in single precision.
    if abs(rest) >= 0.001:
        parts.append(Part("rarity", "rarity of the names" if rest > 0 else "names that many bear", rest))
    return tuple(parts)


def _owners(connection: DuckDBPyConnection, refs: Iterable[Ref]) -> dict[Ref, str]:
    wanted = sorted(refs)
    rows = _rows(
        connection,
        """
        with asked as (select unnest(?::varchar[]) as feed, unnest(?::varchar[]) as record_id)
        select feed, record_id, account_id from cocanal.identity.account_links semi join asked using (feed, record_id)
        """,
        [[ref.feed for ref in wanted], [ref.record_id for ref in wanted]],
    )
    return {Ref(feed, record_id): account_id for feed, record_id, account_id in rows}


def _anonymous(connection: DuckDBPyConnection, record: Ref) -> AnonymousExplanation:
    rows = _dicts(
        connection,
        """
        select records.seen_at, records.contact_id, records.payment_token, contacts.feed as spoken_feed,
            contacts.card_id, contacts.email_key as email, contacts.phone, contacts.email as email_written,
            coalesce(contacts.given_initials, contacts.family_name_key, contacts.birth_key) is not null as is_named
        from restricted.identity.records as records
        left join restricted.identity.contacts as contacts using (contact_id)
        where records.feed = ? and records.record_id = ?
        """,
        record,
    )
    if not rows:
        what = "order, card, e-mail, phone or payment card" if record.feed == "shop_refunds" else (
            "card, e-mail, phone or payment card"
        )  # fmt: skip
        return AnonymousExplanation(record, None, (f"It carries no {what} of somebody who is known.",))
    (row,) = rows
    reasons: list[str] = []
    if record.feed == "shop_orders" and row["is_named"]:
        reasons.append("It names somebody, but with neither a usable e-mail or phone nor full name and address.")
    keys = [(type_, row[column]) for type_, column in (("card", "card_id"), ("email", "email"), ("phone", "phone"))]
    has_key = False
    for type_, value in keys:
        if value is None:
            continue
        word = {"card": "card", "email": "e-mail", "phone": "phone"}[type_]
        demoted, shared = _standing(connection, type_, value)
        if demoted:
            reason, people = demoted
            more = f" ({people} people found)" if people > 1 else ""
            reasons.append(f"Its {word} is demoted and links nobody: {DEMOTED_WORDS.get(reason, reason)}{more}.")
            continue
        # The first key that counts decides: the others are not looked at.
        has_key = True
        if shared:
            reason, accounts = shared
            reasons.append(
                f"Its {word} is held by {accounts} accounts ({SHARED_WORDS.get(reason, reason)}): "
                "it speaks for none of them."
            )
        else:
            house = " others of a house may use it, such as a family's mailbox, or" if type_ == "email" else ""
            reasons.append(
                f"Its {word} counts, and yet says nobody in particular:{house} a steward parted the record from it."
            )
        break
    if row["email_written"] is not None and row["email"] is None:
        reasons.append("What stands in its e-mail field is no e-mail.")
    if row["payment_token"] is not None:
        if row["contact_id"] is None:
            reasons.append(_token_reason(connection, row["payment_token"], row["seen_at"]))
        else:
            reasons.append("Its payment card is not asked: that is done only where a record carries nothing else.")
    elif not has_key and not reasons:
        reasons.append("It carries no key that counts.")
    return AnonymousExplanation(record, row["seen_at"], tuple(reasons))


def _standing(
    connection: DuckDBPyConnection, type_: str, value: str
) -> tuple[tuple[str, int] | None, tuple[str, int] | None]:
    """Whether a value is demoted (reason, people) and whether several accounts hold it (reason, accounts)."""
    hashed = "left(sha256(?::varchar || '|' || ?::varchar), 16)"
    demoted = _rows(
        connection,
        "select reason, person_count from restricted.identity.demoted_identifiers "
        f"where type = ? and value_hash = {hashed}",
        [type_, type_, value],
    )
    shared = _rows(
        connection,
        "select reason, account_count from restricted.identity.shared_identifiers "
        f"where type = ? and value_hash = {hashed} and account_count > 1",
        [type_, type_, value],
    )
    return (demoted[0] if demoted else None), (shared[0] if shared else None)


def _token_reason(connection: DuckDBPyConnection, token: str, seen_at: datetime) -> str:
    policy = read_policy()
    ((uses, identified, accounts, first_at, last_at, is_shared_home),) = _rows(
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
    if identified == 0:
        return f"It carries nothing but a payment card, and nobody who used that card is known ({uses} uses)."
    if uses > policy.token_max_uses:
        return f"It carries nothing but a payment card that is used too often to be one person's ({uses} uses)."
    if accounts > 1:
        return f"It carries nothing but a payment card that {accounts} accounts used: it speaks for none of them."
    if identified < policy.token_min_uses:
        return (
            f"It carries nothing but a payment card of which the user is known {identified} of {uses} times: "
            f"the policy asks for {policy.token_min_uses} times, for only time tells a couple's card."
        )
    if is_shared_home:
        return "It carries nothing but a payment card of somebody who lives with others: they may share the card."
    return (
        f"It carries nothing but a payment card that one account used from {_FORMATS.day(first_at)} to "
        f"{_FORMATS.day(last_at)}; this use is more than {policy.token_margin_days} days away from these."
    )


# Masking --------------------------------------------------------------------------------------------------------------

_DOTS = "•••••"


def plain(text: str) -> str:
    """A text of others without what could steer a terminal."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _said(row: Mapping[str, Any], is_masked: bool) -> Said:
    names = [plain(row[column]) for column in ("first_name", "last_name") if row[column]]
    postcode, city = plain(row["postal_code_written"] or ""), plain(row["city"] or "")
    place = f"{postcode} {city}".strip()
    born, email = row["birth_date"], plain(row["email"] or "")
    phone, street = plain(row["phone_written"] or ""), plain(row["address_line1"] or "")
    if not is_masked:
        address = ", ".join(each for each in (street, place) if each)
        return Said(" ".join(names), email, phone, _FORMATS.day(born) if born else "", address)
    return Said(
        name=" ".join(mask_name(name) for name in names),
        email=mask_email(email),
        phone=mask_phone(phone),
        born=str(born.year) if born else "",
        address=mask_address(street, place, postcode),
    )


def mask_name(name: str) -> str:
    """``Camille`` -> ``C•••••``, whatever its length."""
    return name.strip()[:1] + _DOTS


def mask_email(email: str) -> str:
    """``camille@poste.example`` -> ``c•••@p•••``."""
    local, _, domain = email.strip().rpartition("@")
    if not email:
        return ""
    return f"{local[:1]}•••@{domain[:1]}•••" if local else "•••"


def mask_phone(phone: str) -> str:
    """``+33465710001`` -> ``+33 • •• •• •• 01``; of another country only the last two digits."""
    digits = re.sub(r"\D", "", phone)
    if not digits:
        return _DOTS if phone else ""
    tail = digits[-2:] if len(digits) > 6 else "••"
    return f"+33 • •• •• •• {tail}" if phone.startswith("+33") else f"{_DOTS} {tail}"


def mask_address(street: str, place: str, postcode: str) -> str:
    """``14 rue des Remparts``, ``44000 Nantes`` -> ``•••••, 44•••``: the first two signs of the postcode."""
    shown = [_DOTS] if street else []
    if place:
        shown.append(postcode[:2] + "•••" if len(postcode) > 3 else "•••")
    return ", ".join(shown)


# Words ----------------------------------------------------------------------------------------------------------------


def number(value: float, decimals: int = 0) -> str:
    """``1234.5`` as the French write it."""
    return _FORMATS.number(value, decimals)


def bits(weight: float | None) -> str:
    """``25.95`` -> ``25,9 bits``; a steward's word has no weight."""
    return "a steward's word" if weight is None else f"{number(weight, 1)} bits"


def odds(weight: float | None) -> str:
    """The weight as odds in words: ``as good as certain, 65 million to 1``."""
    if weight is None:
        return "decided by a person"
    steps = (
        (20, "as good as certain"), (10, "almost certain"), (5, "very likely"), (3, "likely"), (0, "rather likely"),
        (-3, "rather unlikely"), (-10, "unlikely"),
    )  # fmt: skip
    word = next((word for least, word in steps if weight >= least), "as good as excluded")
    size = _spoken(2 ** min(abs(weight), 60))
    return f"{word}, {size} to 1" if weight >= 0 else f"{word}, 1 to {size}"


def _spoken(size: float) -> str:
    if size >= 1e12:
        return "over a trillion"
    for least, word in ((1e9, " billion"), (1e6, " million"), (1, "")):
        if size >= least:
            value = size / least
            # Two significant digits.
            rounded = round(value, 1 - int(log10(value)))
            return number(rounded, 1 if rounded < 10 and rounded % 1 else 0) + word
    return "1"


def many(amount: int, one: str, more: str) -> str:
    return f"{number(amount)} {one if amount == 1 else more}"


def _feed_rank(feed: str) -> tuple[int, str]:
    return (FEED_ORDER.index(feed) if feed in FEED_ORDER else len(FEED_ORDER), feed)


def say_records(found: AccountExplanation) -> str:
    """``12 records: 3 web accounts, 1 loyalty card, …``"""
    feeds = ", ".join(many(n, *FEED_WORDS.get(feed, (feed, feed))) for feed, n in found.feeds.items())
    return f"{many(found.record_count, 'record', 'records')}: {feeds}."


def say_way(found: AccountExplanation) -> str | None:
    """How the question led to the account, where it was not its id."""
    if found.redirected_from:
        return (
            f"{plain(found.redirected_from)} is an id of an earlier release; its records are now in {found.account_id}."
        )
    if found.record:
        return f"The record {plain(str(found.record))} belongs to {found.account_id}."
    return None


def say_together(found: AccountExplanation) -> list[str]:
    """What holds the account together, in sentences."""
    sentences = []
    persons = sum(record.is_person_record for record in found.records)
    if found.by_key:
        rules = sorted({record.rule for record in found.records if record.ref in set(found.by_key)})
        what = " and ".join({"card": "card", "email": "e-mail", "phone": "phone"}.get(rule, rule) for rule in rules)
        sentences.append(
            f"{many(len(found.by_key), 'record names nobody; its', 'records name nobody; their')} {what}, which no "
            "account with a name holds, stands for somebody who is not known otherwise."
        )
    if found.voices > 1:
        ties = f"{many(len(found.pairs), 'accepted pair ties', 'accepted pairs tie')} " if found.pairs else ""
        sentences.append(
            f"Its records of persons say {number(found.voices)} different things. {ties}"
            f"{'them together' if found.pairs else 'No pair ties them'}. Records that say the same in standard form "
            "need no pair: the best-known of them speaks for all."
        )
    elif found.voices == 1:
        sentences.append(
            "One record of a person: no pair was needed."
            if persons - len(found.by_key) <= 1
            else "Its records of persons all say the same in standard form: no pair was needed."
        )
        if found.pairs:
            sentences.append(
                f"{many(len(found.pairs), 'pair ties', 'pairs tie')} it to records that name somebody in other words; "
                "these belong to the account by their number or e-mail anyway."
            )
    if found.weakest:
        pair, parted = found.weakest.pair, found.weakest.parted
        names = [plain(str(ref)) for ref in parted]
        apart = " and ".join(names) if len(names) <= 2 else f"{names[0]} and {number(len(names) - 1)} more"
        sentences.append(
            f"The weakest link is {plain(str(pair.left))} – {plain(str(pair.right))}, {bits(pair.weight)} "
            f"({odds(pair.weight)}; {pair.evidence}). Without pairs as weak as this one, {apart} would stand apart "
            f"from the other {many(found.weakest.kept_count, 'record of a person', 'records of persons')}."
        )
        if any(other.strength < pair.strength for other in found.pairs):
            sentences.append("Pairs that are lighter still tie only what stronger pairs, taken together, tie anyway.")
    if found.by_number:
        sentences.append(
            f"{many(len(found.by_number), 'record', 'records')} of a person no pair ties to the rest: the number that "
            "they carry does, or a record that this page does not know."
        )
    if found.elsewhere:
        sentences.append(
            f"{many(len(found.elsewhere), 'record', 'records')} of other accounts also speak of this person, such as "
            "an order that somebody else placed; they stay where their number or e-mail says."
        )
    if found.side_pairs:
        sentences.append(
            f"{many(len(found.side_pairs), 'accepted pair is', 'accepted pairs are')} about somebody else, such as the "
            "person an order is delivered to; they hold nothing together here."
        )
    if found.inside:
        sentences.append(
            f"{many(len(found.inside), 'pair', 'pairs')} within the account would not have been enough alone; other "
            "pairs tie these records."
        )
    return sentences


def say_event(event: Event, account_id: str) -> str:
    """One change of the account in words, with its cause."""
    day, other = _FORMATS.day(event.at), event.other_account_id
    cause = f": {plain(event.cause)}" if event.cause else ""
    if event.account_id != account_id:
        said = {"merged": "was merged into this account", "split": "was split from this account"}.get(
            event.event, event.event
        )
        return f"{day}  {event.account_id} {said}{cause}"
    said = {
        "created": "created",
        "merged": f"merged into {other}",
        "split": f"split from {other}",
        "retired": "retired",
    }.get(event.event, event.event)
    return f"{day}  {said}{cause}"


def say_decision(pair: Pair) -> str:
    """A steward's decision in words."""
    word = "one person" if pair.decision == "accepted" else "two people"
    return f"{plain(str(pair.left))} and {plain(str(pair.right))} are {word}."


# The page -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Node:
    """A record as drawn; ``number`` is its line in the table, None for a record of another account."""

    ref: Ref
    number: int | None
    x: float
    y: float
    is_voice: bool
    anchor: str = "middle"
    label_x: float = 0
    label_y: float = 0


@dataclass(frozen=True)
class _Line:
    one: _Node
    other: _Node
    weight: float | None
    kind: str
    """``tree``, ``weakest``, ``pair`` or ``leaf``."""


@dataclass(frozen=True)
class _Drawing:
    top: float
    width: int
    height: float
    nodes: list[_Node] = field(default_factory=list)
    lines: list[_Line] = field(default_factory=list)
    left_out: int = 0


def _draw(found: AccountExplanation) -> _Drawing:
    """Records that speak on a ring, those that follow them outside of it."""
    numbers = {record.ref: place for place, record in enumerate(found.records, 1)}
    ends = {end for pair in found.pairs for end in (pair.left, pair.right)}
    heads = [record.ref for record in found.records if record.parent is None]
    heads += [ref for ref in sorted(ends) if ref not in heads]
    heads = _along_the_tree(heads, found.pairs)[:DRAWN_RECORDS]
    leaves: dict[Ref, list[Ref]] = defaultdict(list)
    room = DRAWN_RECORDS - len(heads)
    for record in found.records:
        if record.parent in heads and record.ref not in heads and room > 0:
            leaves[record.parent].append(record.ref)
            room -= 1
    shares = [1 + len(leaves[ref]) * 0.42 for ref in heads]
    is_alone = len(heads) == 1
    ring = 0.0 if is_alone else min(150.0, 74 + 9 * len(heads))
    width = 860
    nodes: dict[Ref, _Node] = {}
    spent = 0.0
    lines = []
    for ref, share in zip(heads, shares, strict=True):
        middle = -pi / 2 + 2 * pi * (spent + share / 2) / sum(shares)
        spent += share
        x, y = width / 2 + 1.5 * ring * cos(middle), ring * sin(middle)
        side = 0.0 if is_alone else cos(middle)
        # Beside the record; where others hang on it, towards the middle.
        anchor = "middle" if leaves[ref] else "start" if side > 0.12 else "end" if side < -0.12 else "middle"
        shift = 18 if anchor == "start" else -18 if anchor == "end" else 0
        is_below = is_alone or (sin(middle) > 0) != bool(leaves[ref])
        below = 4 if shift else 28 if is_below else -19
        node = _Node(ref, numbers.get(ref), x, y, True, anchor, x + shift, y + below)
        nodes[ref] = node
        span = 2 * pi if is_alone else min(2 * pi * share / sum(shares) * 1.1, pi * 0.9)
        for place, leaf in enumerate(leaves[ref]):
            turn = middle - span / 2 + span * (place + 0.5) / len(leaves[ref])
            reach = 66 + 16 * (place % 2 if len(leaves[ref]) > 7 else 0)
            nodes[leaf] = _Node(leaf, numbers.get(leaf), x + 1.35 * reach * cos(turn), y + reach * sin(turn), False)
            lines.append(_Line(node, nodes[leaf], None, "leaf"))
    for pair in found.pairs:
        if pair.left in nodes and pair.right in nodes:
            is_weakest = found.weakest is not None and pair == found.weakest.pair
            kind = "weakest" if is_weakest else "tree" if pair.is_in_tree else "pair"
            lines.append(_Line(nodes[pair.left], nodes[pair.right], pair.weight, kind))
    lines.sort(key=lambda line: ("leaf", "pair", "tree", "weakest").index(line.kind))
    drawn = sum(node.number is not None for node in nodes.values())
    top = min((node.y for node in nodes.values()), default=0) - 42
    height = max((node.y for node in nodes.values()), default=0) + 42 - top
    return _Drawing(top, width, height, list(nodes.values()), lines, found.record_count - drawn)


def _along_the_tree(refs: Sequence[Ref], pairs: Sequence[Pair]) -> list[Ref]:
    """The records in an order in which neighbours of the tree stand together."""
    mates: dict[Ref, list[Ref]] = defaultdict(list)
    for pair in pairs:
        if pair.is_in_tree:
            mates[pair.left].append(pair.right)
            mates[pair.right].append(pair.left)
    order: dict[Ref, None] = {}
    for start in refs:
        waiting = [start]
        while waiting:
            ref = waiting.pop()
            if ref in refs and ref not in order:
                order[ref] = None
                waiting += reversed(mates[ref])
    return list(order)


@dataclass(frozen=True)
class _Bar:
    """A step of a waterfall: from ``x`` over ``width``, in the units of the drawing."""

    words: str
    value: float
    x: float
    width: float
    end: float


@dataclass(frozen=True)
class _Waterfall:
    pair: Pair
    bars: list[_Bar]
    zero: float
    height: int
    total: _Bar


_WATERFALL_LEFT, _WATERFALL_WIDTH = 238, 184


def _waterfalls(pairs: Sequence[Pair]) -> list[_Waterfall]:
    """One scale for all, so that they can be compared."""
    runs = []
    for pair in pairs:
        steps = [0.0]
        for part in pair.parts:
            steps.append(steps[-1] + part.weight)
        runs.append(steps)
    low = min((min(steps) for steps in runs), default=0)
    high = max((max(steps) for steps in runs), default=1)

    def at(value: float) -> float:
        return _WATERFALL_LEFT + _WATERFALL_WIDTH * (value - low) / (high - low)

    drawn = []
    for pair, steps in zip(pairs, runs, strict=True):
        bars = [
            _Bar(part.words, part.weight, min(at(start), at(end)), max(abs(at(end) - at(start)), 1), at(end))
            for part, start, end in zip(pair.parts, steps, steps[1:], strict=False)
        ]
        weight = pair.strength
        total = _Bar("in all", weight, min(at(0), at(weight)), max(abs(at(weight) - at(0)), 1), at(weight))
        drawn.append(_Waterfall(pair, bars, at(0), 22 * (len(bars) + 1) + 8, total))
    return drawn


def render_page(found: AccountExplanation, *, release_id: str) -> str:
    """The explanation as one HTML page that needs no network and no script."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {
        "number": number,
        "bits": bits,
        "odds": odds,
        "plain": lambda value: plain(str(value)),
        "day": _FORMATS.day,
        "moment": _FORMATS.moment,
        "signed": lambda value: ("+" if value >= 0 else "") + number(value, 1),
        "event": lambda event: say_event(event, found.account_id),
        "decision": say_decision,
    }
    weighed = sorted(
        (pair for pair in found.pairs if pair.weight is not None),
        key=lambda pair: (pair.strength, pair.left, pair.right),
    )
    if found.weakest and found.weakest.pair in weighed:
        weighed.remove(found.weakest.pair)
        weighed.insert(0, found.weakest.pair)
    shown = weighed[:DRAWN_PAIRS]
    others = [pair for pair in sorted(found.pairs, key=lambda pair: pair.strength) if pair not in shown]
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        found=found,
        release_id=release_id,
        way=say_way(found),
        records_said=say_records(found),
        together=say_together(found),
        drawing=_draw(found),
        waterfalls=_waterfalls(shown),
        others=others[:LISTED_PAIRS],
        others_left_out=max(len(others) - LISTED_PAIRS, 0),
        numbers={record.ref: place for place, record in enumerate(found.records, 1)},
        feed_words=FEED_WORDS,
        rule_words=RULE_WORDS,
        pair_words=PAIR_WORDS,
        household_words=HOUSEHOLD_WORDS,
        mates=[member for member in found.household if member.account_id != found.account_id],
    )


def _rows(connection: DuckDBPyConnection, query: str, values: Ref | Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    parameters = [values.feed, values.record_id] if isinstance(values, Ref) else list(values)
    return connection.execute(query, parameters).fetchall()


def _dicts(connection: DuckDBPyConnection, query: str, values: Ref | Sequence[Any] = ()) -> list[dict[str, Any]]:
    parameters = [values.feed, values.record_id] if isinstance(values, Ref) else list(values)
    result = connection.execute(query, parameters)
    names = [column[0] for column in result.description]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def _has_table(connection: DuckDBPyConnection, database: str, schema: str, table: str) -> bool:
    return bool(
        _rows(
            connection,
            "select 1 from duckdb_tables() where database_name = ? and schema_name = ? and table_name = ?",
            [database, schema, table],
        )
    )
