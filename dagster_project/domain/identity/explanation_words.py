"""The facts of an explanation in words, for the terminal and the page alike.

What belongs here: sentences, the words for codes, figures as they are read, the masking of personal data. What does
not: reading a release (``explanation``), layout and drawings (``explanation_page``).
"""

import re
from math import log10

from dagster_project.domain.formats import Formats
from dagster_project.domain.identity.explanation import (
    AccountExplanation,
    AnonymousExplanation,
    Event,
    Key,
    Pair,
    Said,
    TokenUse,
)
from dagster_project.domain.identity.policy import read_policy

FORMATS = Formats("EUR")
_DOTS = "•••••"

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
HOUSEHOLD_WORDS = {
    "address_and_name": "one address and one family name",
    "shared_landline": "one landline",
    "shared_email": "one e-mail that merged nobody",
    "shared_phone": "one phone that merged nobody",
}
_REASON_WORDS = {
    "given_name": "another given name: two people, like twins or a couple",
    "birth_date": "another birth date: two people, like a father and a son",
    "could_be_two_people": "it could be two people: it fits another person as well, or only name and address agree",
    "household_only": "all that agrees is a household's: nothing is the person's own",
    "too_little_evidence": "too little agrees",
    "conflict_inside": "taken together, two records of the two accounts contradict each other",
    "weak_bridge": "one weak pair is all that ties two well-knit groups",
    "declared_different": "a steward declared them different people",
}
_DEMOTED_WORDS = {
    "blocked": "the policy blocks it: a placeholder or a desk's own",
    "too_many_people": "too many people use it",
    "over_used": "it is used like a tool of many, such as a till's own card",
}
_SHARED_WORDS = {
    "given_anew": "a phone that was given to somebody else",
    "landline": "a landline of several people",
    "household": "shared in a household",
    "payment_card": "a payment card of several people",
    "several_people": "several people carry it",
}
_KEY_WORDS = {"card": "card", "email": "e-mail", "phone": "phone"}
_EVENT_WORDS = {"merged": "merged into", "split": "split from"}
_ODDS_WORDS = (
    (20, "as good as certain"), (10, "almost certain"), (5, "very likely"), (3, "likely"), (0, "rather likely"),
    (-3, "rather unlikely"), (-10, "unlikely"),
)  # fmt: skip


def plain(value: object) -> str:
    """A text of others without what could steer a terminal."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(value))


def say_person(said: Said, *, is_masked: bool) -> tuple[str, str, str, str, str]:
    """Name, birth date, e-mail, phone and address."""
    names = [plain(name) for name in said.names]
    postal_code, city, email = plain(said.postal_code), plain(said.city), plain(said.email)
    phone, street, born = plain(said.phone), plain(said.street), said.birth_date
    place = f"{postal_code} {city}".strip()
    if not is_masked:
        address = ", ".join(each for each in (street, place) if each)
        return " ".join(names), FORMATS.day(born) if born else "", email, phone, address
    return (
        " ".join(mask_name(name) for name in names),
        str(born.year) if born else "",
        mask_email(email),
        mask_phone(phone),
        mask_address(street, place, postal_code),
    )


def mask_name(name: str) -> str:
    """``Camille`` -> ``C•••••``, whatever its length."""
    return name.strip()[:1] + _DOTS


def mask_email(email: str) -> str:
    """``camille@poste.example`` -> ``c•••@p•••``."""
    if not email:
        return ""
    local, _, domain = email.strip().rpartition("@")
    return f"{local[:1]}•••@{domain[:1]}•••" if local else "•••"


def mask_phone(phone: str) -> str:
    """``+33465710001`` -> ``+33 • •• •• •• 01``; of another country only the last two digits."""
    digits = re.sub(r"\D", "", phone)
    if not digits:
        return _DOTS if phone else ""
    tail = digits[-2:] if len(digits) > 6 else "••"
    return f"+33 • •• •• •• {tail}" if phone.startswith("+33") else f"{_DOTS} {tail}"


def mask_address(street: str, place: str, postal_code: str) -> str:
    """``14 rue des Remparts``, ``44000 Nantes`` -> ``•••••, 44•••``: the first two signs of the postal code."""
    shown = [_DOTS] if street else []
    if place:
        shown.append(postal_code[:2] + "•••" if len(postal_code) > 3 else "•••")
    return ", ".join(shown)


def bits(weight: float | None) -> str:
    """``25.95`` -> ``25,9 bits``; a steward's word has no weight."""
    return "a steward's word" if weight is None else f"{FORMATS.number(weight, 1)} bits"


def odds(weight: float | None) -> str:
    """The weight as odds in words: ``as good as certain, 65 million to 1``."""
    if weight is None:
        return "decided by a person"
    word = next((word for least, word in _ODDS_WORDS if weight >= least), "as good as excluded")
    size = _spoken(2 ** min(abs(weight), 60))
    return f"{word}, {size} to 1" if weight >= 0 else f"{word}, 1 to {size}"


def _spoken(size: float) -> str:
    """A number from 1 on, with two significant digits."""
    if size >= 1e12:
        return "over a trillion"
    least, word = next(step for step in ((1e9, " billion"), (1e6, " million"), (1, "")) if size >= step[0])
    rounded = round(size / least, 1 - int(log10(size / least)))
    return FORMATS.number(rounded, 1 if rounded < 10 and rounded % 1 else 0) + word


def many(amount: int, one: str, more: str) -> str:
    return f"{FORMATS.number(amount)} {one if amount == 1 else more}"


def say_reason(pair: Pair) -> str:
    """Why a pair was not accepted."""
    return _REASON_WORDS.get(pair.reason or "", (pair.reason or "").replace("_", " "))


def say_records(found: AccountExplanation) -> str:
    """``12 records: 3 web accounts, 1 loyalty card, …``"""
    feeds = ", ".join(many(n, *FEED_WORDS.get(feed, (feed, feed))) for feed, n in found.feeds.items())
    return f"{many(found.record_count, 'record', 'records')}: {feeds}."


def say_way(found: AccountExplanation) -> str | None:
    """How the question led to the account, where it was not its id."""
    old = found.redirected_from
    if old:
        return f"{plain(old)} is an id of an earlier release; its records are now in {found.account_id}."
    return f"The record {plain(found.record)} belongs to {found.account_id}." if found.record else None


def say_together(found: AccountExplanation) -> list[str]:
    """What holds the account together, in sentences."""
    sentences = []
    pairs, by_key = len(found.pairs), len(found.by_key)
    if by_key:
        rules = sorted({record.rule for record in found.records if record.ref in found.by_key})
        what = " and ".join(_KEY_WORDS.get(rule, rule) for rule in rules)
        sentences.append(
            f"{many(by_key, 'record names nobody; its', 'records name nobody; their')} {what}, which no account with a "
            "name holds, stands for somebody who is not known otherwise."
        )
    if found.voices > 1:
        tied = f"{many(pairs, 'accepted pair ties', 'accepted pairs tie')} them together"
        sentences.append(
            f"Its records of persons say {FORMATS.number(found.voices)} different things. "
            f"{tied if pairs else 'No pair ties them'}. Records that say the same in standard form need no pair: the "
            "best-known of them speaks for all."
        )
    elif found.voices == 1:
        named = sum(record.is_person_record for record in found.records) - by_key
        sentences.append(
            "One record of a person: no pair was needed."
            if named <= 1
            else "Its records of persons all say the same in standard form: no pair was needed."
        )
        if pairs:
            sentences.append(
                f"{many(pairs, 'pair ties', 'pairs tie')} it to records that name somebody in other words; these "
                "belong to the account by their number or e-mail anyway."
            )
    if found.weakest:
        pair, parted = found.weakest.pair, [plain(ref) for ref in found.weakest.parted]
        apart = " and ".join(parted if len(parted) <= 2 else [parted[0], f"{FORMATS.number(len(parted) - 1)} more"])
        sentences.append(
            f"The weakest link is {plain(pair.left)} – {plain(pair.right)}, {bits(pair.weight)} ({odds(pair.weight)}; "
            f"{pair.evidence}). Without pairs as weak as this one, {apart} would stand apart from the other "
            f"{many(found.weakest.kept_count, 'record of a person', 'records of persons')}."
        )
        if any(other.strength < pair.strength for other in found.pairs):
            sentences.append("Pairs that are lighter still tie only what stronger pairs, taken together, tie anyway.")
    counted = (
        (
            found.by_number, "record", "records",
            "of a person no pair ties to the rest: the number that they carry does, or a record that this page does "
            "not know.",
        ),
        (
            found.elsewhere, "record", "records",
            "of other accounts also speak of this person, such as an order that somebody else placed; they stay where "
            "their number or e-mail says.",
        ),
        (
            found.side_pairs, "accepted pair is", "accepted pairs are",
            "about somebody else, such as the person an order is delivered to; they hold nothing together here.",
        ),
        (
            found.inside, "pair", "pairs",
            "within the account would not have been enough alone; other pairs tie these records.",
        ),
    )  # fmt: skip
    return sentences + [f"{many(len(things), one, more)} {rest}" for things, one, more, rest in counted if things]


def say_event(event: Event, account_id: str) -> str:
    """One change of the account in words, with its cause."""
    cause = f": {plain(event.cause)}" if event.cause else ""
    said = event.event
    if event.account_id != account_id:
        into_this = {"merged": "was merged into this account", "split": "was split from this account"}
        said = f"{event.account_id} {into_this.get(said, said)}"
    elif said in _EVENT_WORDS:
        said = f"{_EVENT_WORDS[said]} {event.other_account_id}"
    return f"{FORMATS.day(event.at)}  {said}{cause}"


def say_decision(pair: Pair) -> str:
    """A steward's decision in words."""
    word = "one person" if pair.decision == "accepted" else "two people"
    return f"{plain(pair.left)} and {plain(pair.right)} are {word}."


def say_why_anonymous(found: AnonymousExplanation) -> list[str]:
    """Why a record has no account, in sentences."""
    if not found.is_person_bearing:
        what = "order, card" if found.record.feed == "shop_refunds" else "card"
        return [f"It carries no {what}, e-mail, phone or payment card of somebody who is known."]
    reasons = []
    if found.record.feed == "shop_orders" and found.is_named:
        reasons.append("It names somebody, but with neither a usable e-mail or phone nor full name and address.")
    # The first key that counts decides: the others are not looked at.
    deciding = next((key for key in found.keys if key.standing != "demoted"), None)
    told = found.keys if deciding is None else found.keys[: found.keys.index(deciding) + 1]
    reasons += [_say_key(key) for key in told]
    if found.is_email_unreadable:
        reasons.append("What stands in its e-mail field is no e-mail.")
    if found.token:
        reasons.append(f"It carries nothing but a payment card{_say_token(found.token)}")
    elif found.has_token:
        reasons.append("Its payment card is not asked: that is done only where a record carries nothing else.")
    return reasons or ["It carries no key that counts."]


def _say_key(key: Key) -> str:
    word = _KEY_WORDS[key.type]
    if key.standing == "demoted":
        more = f" ({key.people} people found)" if key.people > 1 else ""
        return f"Its {word} is demoted and links nobody: {_DEMOTED_WORDS.get(key.reason, key.reason)}{more}."
    if key.standing == "shared":
        how = _SHARED_WORDS.get(key.reason, key.reason)
        return f"Its {word} is held by {key.people} accounts ({how}): it speaks for none of them."
    house = " others of a house may use it, such as a family's mailbox, or" if key.type == "email" else ""
    return f"Its {word} counts, and yet says nobody in particular:{house} a steward parted the record from it."


def _say_token(use: TokenUse) -> str:
    policy = read_policy()
    if use.identified == 0:
        return f", and nobody who used that card is known ({use.uses} uses)."
    if use.uses > policy.token_max_uses:
        return f" that is used too often to be one person's ({use.uses} uses)."
    if use.accounts > 1:
        return f" that {use.accounts} accounts used: it speaks for none of them."
    if use.identified < policy.token_min_uses:
        return (
            f" of which the user is known {use.identified} of {use.uses} times: the policy asks for "
            f"{policy.token_min_uses} times, for only time tells a couple's card."
        )
    if use.is_of_a_household:
        return " of somebody who lives with others: they may share the card."
    return (
        f" that one account used from {FORMATS.day(use.first_at)} to {FORMATS.day(use.last_at)}; this use is more than "
        f"{policy.token_margin_days} days away from these."
    )
