"""Laws of erasure over generated people: of who asked, nothing is left in any file; of everybody else, all of it.

A generated home holds deliveries in every format, raw files of them as the intake writes them, two releases with a row
of every published table for every record and identifier, and audience files. Who a row belongs to is the generator's
own knowledge. Whether a file still holds somebody is found by a search that is written here: it reads e-mails, numbers
and hashes out of every text by their form, in whatever spelling, and knows nothing of the product's search.
"""

import gzip
import hashlib
import json
import random
import re
import sqlite3
import tempfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from laws.effort import QUICK

from dagster_project import privacy
from dagster_project.domain.activation import FORMATS
from dagster_project.domain.contract import feeds
from dagster_project.domain.landing.deliveries import add_to_released, read_register
from dagster_project.domain.landing.intake import take_in
from dagster_project.domain.privacy.search import find_left_over
from dagster_project.domain.privacy.subject import Subject, read_subjects, write_subjects
from dagster_project.settings import Settings
from dagster_project.warehouse import Warehouse

ROOT = Path(__file__).parents[2]
DAYS = (date(2020, 7, 9), date(2020, 7, 10))
AS_OF = DAYS[-1]
BEFORE = datetime(2020, 6, 1, 10, tzinfo=UTC)
NOW = datetime(2020, 7, 11, 9, tzinfo=UTC)
LATER = datetime(2020, 7, 20, 9, tzinfo=UTC)  # after everything that was delivered when the erasure was carried out
EMPTY = re.compile(r"^erased:[0-9a-f]{64}$")

# What a row with an amount says of its person; everything else in it is the till's.
SAYS_WHO = {
    "shop_orders": (
        *("customer_id", "email", "phone", "first_name", "last_name", "address_line1"),
        *("postal_code", "city", "country", "payment_token"),
    ),
    "pos_tickets": ("loyalty_card_id", "email", "phone", "payment_token"),
    "shop_refunds": ("customer_id",),
}
FIRST = ("Zoë", "Jean-François", "Hélène", "Anaïs", "Œdipe", "Maël", "Loïc", "Chloé", "Noël", "Gaëlle")
LAST = ("D’Hérouville", "Œuvrard", "Lefèvre", "Müller", "Ruiz", "Peña", "Çelik", "Brûlé", "Saint-Éloi", "Garçon")
ASKED_BY = ("email", "phone", "customer_id", "card_id")
Key = tuple[str, str]


@dataclass
class Person:
    """One generated person; ``keys`` are all (type, value) in standard form that one of the own records ever held."""

    number: int
    first: str
    last: str
    street: str
    emails: list[str]
    phones: list[str]
    customer_id: str | None
    card_id: str | None
    token: str
    has_account: bool
    keys: set[Key] = field(default_factory=set)

    @property
    def account_id(self) -> str:
        return f"A{self.number:06d}"


@dataclass(frozen=True)
class Record:
    """The version of a record that counts, with what it holds in standard form; ``account_id`` is None where nobody was
    found for it. One that is ``is_naming`` bears the number of somebody else.
    """

    feed: str
    record_id: str
    person: Person
    account_id: str | None
    held: dict[str, str | None]
    is_naming: bool = False


@dataclass(frozen=True)
class Row:
    """A delivered row: it goes with its ``owner``, or with all who hold one of its ``keys``; ``named`` is a column in
    which somebody else's row names a person. ``text`` is a line that is no row of the feed.
    """

    feed: str
    cells: dict[str, Any]
    owner: int | None = None
    keys: tuple[Key, ...] = ()
    named: tuple[str, int] | None = None
    text: str | None = None


def email_as_typed(draw: random.Random, email: str) -> str:
    return draw.choice((email, email.upper(), email.title(), f" {email} ", f"\u00a0{email}", f"{email}\t"))


def phone_as_typed(draw: random.Random, phone: str, is_till: bool = False) -> str:
    pairs = ["0" + phone[3], *(phone[at : at + 2] for at in range(4, 12, 2))]
    forms = [phone, "".join(pairs), " ".join(pairs), ".".join(pairs), "-".join(pairs), "00" + phone[1:]]
    forms += [f"+33 (0){phone[3]} {' '.join(pairs[1:])}", f"{phone[:3]} {phone[3]} {' '.join(pairs[1:])}"]
    return draw.choice(forms if is_till else [*forms, "\u202f".join(pairs), "\u00a0".join(pairs)])


class Shop:
    """A few people and everything that systems delivered about them: a function of its seed."""

    def __init__(self, seed: int, size: int) -> None:
        self.draw = draw = random.Random(seed)
        self.seed = seed
        self.people = [self._person(n) for n in range(size)]
        self.rows: list[tuple[date, Row]] = []
        self.records: list[Record] = []
        self.addresses: dict[Key, set[str]] = defaultdict(set)  # others of the mailbox that was typed
        self.requests: dict[str, tuple[int, Key]] = {}
        self._number = 0
        # The address of the first is part of that of the second.
        asked = {0, *(n for n in range(2, size) if draw.random() < 0.5)}
        for person in self.people:
            self._tell(person)
        self.holders: dict[Key, set[int]] = defaultdict(set)
        for person in self.people:
            for key in person.keys:
                self.holders[key].add(person.number)
        self.erased = {n for n in asked if self._ask(self.people[n])}

    def _person(self, n: int) -> Person:
        draw = self.draw
        house = n // 2 if n % 4 < 2 else None  # two of four live together
        first, last = FIRST[n % 10], draw.choice(LAST)
        # One address is part of another's; one has dots and a tag.
        own = (
            f"anne.p{n - 1}@mail.example" if n % 3 == 1
            else f"p{n}@mail.example" if n % 3 == 0
            else f"jean.pierre{n}+shop@gmail.com"
        )  # fmt: skip
        emails = [own, f"old.{n}@poste.example"]
        phones = [f"+336123456{10 + n}", f"+337654321{10 + n}"]
        if house is not None:
            emails.append(f"famille{house}@maison.example")
            phones.append(f"+335612345{10 + house}")
        draw.shuffle(emails)
        has_account = draw.random() < 0.85
        kind = draw.choice(("both", "both", "web", "card", "guest"))
        return Person(
            n,
            first,
            last,
            f"{n + 3} rue de l’Église" if house is None else f"{90 + house} quai Saint-Éloi",
            emails,
            phones,
            draw.choice((f"CUST-{n:05d}", f"{7000 + n}")) if has_account and kind in ("both", "web") else None,
            draw.choice((f"29000{n:04d}", f"K{n:03d}")) if has_account and kind in ("both", "card") else None,
            f"tok-{seed_hash(self.seed, n)}",
            has_account,
        )

    def _next(self, prefix: str) -> str:
        self._number += 1
        return f"{prefix}{self._number:05d}"

    def _put(self, row: Row) -> None:
        self.rows.append((self.draw.choice(DAYS), row))

    def _contact(self, person: Person, email: str | None, phone: str | None) -> dict[str, Any]:
        typed = {
            "email": email and email_as_typed(self.draw, email),
            "phone": phone and phone_as_typed(self.draw, phone),
            "first_name": person.first,
            "last_name": person.last,
            "address_line1": person.street,
            "postal_code": "31000",
            "city": "Toulouse",
            "country": "FR",
        }
        return typed

    def _record(
        self, person: Person, feed: str, key: str, cells: dict[str, Any], held: dict[str, str | None], is_last: bool
    ) -> None:
        """One version of a record of a person, who holds what it says."""
        self._put(Row(feed, cells, owner=person.number if feed not in SAYS_WHO or person.has_account else None,
                      keys=tuple((type_, value) for type_, value in held.items() if value)))  # fmt: skip
        held = {**held, "address": cells.get("address_line1")}
        person.keys |= {(type_, value) for type_, value in held.items() if value}
        if is_last:
            self.records.append(Record(feed, cells[key], person, person.account_id, held))

    def _tell(self, person: Person) -> None:
        draw = self.draw
        if person.customer_id:
            for version, email in enumerate(person.emails[:2]):
                moment = BEFORE + timedelta(days=version)
                phone = draw.choice(person.phones)
                cells = {
                    **self._contact(person, email, phone),
                    "customer_id": person.customer_id,
                    "loyalty_card_id": person.card_id,
                    "created_at": BEFORE,
                    "updated_at": moment,
                }
                held = {"email": email, "phone": phone, "customer_id": person.customer_id, "card_id": person.card_id}
                self._record(person, "shop_customers", "customer_id", cells, held, version == 1)
        if person.card_id:
            email, phone = draw.choice((*person.emails, None)), draw.choice((*person.phones, None))
            cells = {
                **self._contact(person, email, phone),
                "card_id": person.card_id,
                "enrolled_at": BEFORE,
                "updated_at": BEFORE,
                "status": "active",
            }
            held = {"email": email, "phone": phone, "card_id": person.card_id}
            self._record(person, "loyalty_members", "card_id", cells, held, True)
        for _ in range(2 if person.has_account else 0):
            self._order(person)
            self._ticket(person)
        for _ in range(4):
            self._speak(person)
        key = draw.choice(self._keys(person))
        self._put(Row("consents", {}, keys=(key,), text=f"{self._next('B')},{key[0]},{self._typed(key)},cut off"))

    def _order(self, person: Person) -> None:
        draw = self.draw
        email, phone = draw.choice(person.emails), draw.choice((*person.phones, None))
        cells = {
            **self._contact(person, email, phone),
            "order_id": self._next("O"),
            "customer_id": draw.choice((person.customer_id, None)),
            "ordered_at": BEFORE,
            "updated_at": BEFORE,
            "status": "paid",
            "fulfilment": "delivery",
            "payment_token": person.token,
            "total_amount": Decimal(draw.randrange(100, 9999)) / 100,
        }
        held = {
            "email": email,
            "phone": phone,
            "customer_id": cells["customer_id"],
            "payment_token": person.token,
        }
        self._record(person, "shop_orders", "order_id", cells, held, True)
        if person.customer_id and draw.random() < 0.5:
            refund = {
                "refund_id": self._next("F"),
                "order_id": cells["order_id"],
                "customer_id": person.customer_id,
                "refunded_at": BEFORE,
                "total_amount": Decimal("-1.00"),
            }
            self._put(Row("shop_refunds", refund, owner=person.number))
        givers = [other for other in self.people if other.has_account and other.number != person.number]
        if person.customer_id and givers and draw.random() < 0.4:
            giver = draw.choice(givers)  # ordered while logged in as somebody else
            named = {
                **self._contact(giver, giver.emails[0], None),
                "order_id": self._next("O"),
                "customer_id": person.customer_id,
                "ordered_at": BEFORE,
                "updated_at": BEFORE,
                "status": "paid",
                "fulfilment": "delivery",
                "total_amount": Decimal("3.50"),
            }
            self._put(
                Row("shop_orders", named, giver.number, (("email", giver.emails[0]),), ("customer_id", person.number))
            )
            giver.keys.add(("email", giver.emails[0]))
            giver.keys.add(("address", giver.street))
            held = {"email": giver.emails[0], "customer_id": person.customer_id, "address": giver.street}
            self.records.append(Record("shop_orders", named["order_id"], giver, giver.account_id, held, is_naming=True))

    def _ticket(self, person: Person) -> None:
        draw = self.draw
        email = draw.choice((*person.emails, None))
        cells = {
            "ticket_id": self._next("T"),
            "store_id": "S1",
            "sold_at": BEFORE,
            "ticket_type": "sale",
            "loyalty_card_id": person.card_id,
            "email": email and email_as_typed(draw, email),
            "payment_token": person.token,
            "total_amount": Decimal(draw.randrange(100, 9999)) / 100,
        }
        held = {"card_id": person.card_id, "email": email, "payment_token": person.token}
        self._record(person, "pos_tickets", "ticket_id", cells, held, True)
        known = sorted(value for type_, value in person.keys if type_ == "email")
        if known and draw.random() < 0.5:  # nobody was found for it, but it says an e-mail
            email = draw.choice(known)
            lost = {**cells, "ticket_id": self._next("T"), "loyalty_card_id": None, "payment_token": None}
            self._put(Row("pos_tickets", {**lost, "email": email_as_typed(draw, email)}, keys=(("email", email),)))
            self.records.append(Record("pos_tickets", lost["ticket_id"], person, None, {"email": email}))

    def _typed(self, key: Key) -> str:
        type_, value = key
        if type_ == "email":
            if value.endswith("@gmail.com"):  # the same mailbox
                bare = value.split("+")[0].removesuffix("@gmail.com")
                boxes = (
                    value.removesuffix("@gmail.com"),
                    bare,
                    bare.replace(".", ""),
                    bare.replace("p", ".p") + "+news",
                )
                value = f"{self.draw.choice(boxes)}@gmail.com"
                self.addresses[key].add(value)
            return email_as_typed(self.draw, value)
        return phone_as_typed(self.draw, value) if type_ == "phone" else value

    def _keys(self, person: Person) -> list[Key]:
        keys = [("email", email) for email in person.emails] + [("phone", phone) for phone in person.phones]
        keys += [("customer_id", person.customer_id)] if person.customer_id else []
        keys += [("card_id", person.card_id)] if person.card_id else []
        return keys

    def _speak(self, person: Person) -> None:
        draw = self.draw
        keys = self._keys(person)
        key = draw.choice(keys)
        what = draw.randrange(8)
        named = {"key_type": key[0], "key_value": self._typed(key)} if what < 5 else {}
        if what == 0:
            said = {"purpose": "prospecting", "channel": "any", "status": "granted", "occurred_at": BEFORE}
            self._put(Row("consents", {"consent_id": self._next("N"), **named, **said}, keys=(key,)))
        elif what == 1:
            said = {"topic": "alcohol", "from_at": BEFORE}
            self._put(Row("sensitivities", {"sensitivity_id": self._next("S"), **named, **said}, keys=(key,)))
        elif what == 2:
            said = {"topic": "taste", "value": "salé", "declared_at": BEFORE}
            self._put(Row("declared_preferences", {"preference_id": self._next("V"), **named, **said}, keys=(key,)))
        elif what == 3:
            said = {"campaign_id": self._next("M"), "arm": "treated", "assigned_at": BEFORE}
            self._put(Row("campaign_assignments", {**named, **said}, keys=(key,)))
        elif what == 4:
            said = {"kind": "objection", "received_at": BEFORE}
            self._put(Row("privacy_requests", {"request_id": self._next("Q"), **named, **said}, keys=(key,)))
        elif what == 5 and person.customer_id:
            said = {"session_id": "V1", "customer_id": person.customer_id, "event": "visit", "occurred_at": BEFORE}
            self._put(Row("web_events", {"event_id": self._next("W"), **said}, owner=person.number))
        elif what == 6 and person.customer_id and person.card_id:
            said = {
                "decision_id": self._next("D"),
                "left_feed": "shop_customers",
                "left_id": person.customer_id,
                "right_feed": "loyalty_members",
                "right_id": draw.choice([other.card_id for other in self.people if other.card_id]),
                "decision": "different",
                "decided_by": "a steward",
                "decided_at": BEFORE,
            }
            others = {other.number for other in self.people if other.card_id == said["right_id"]} - {person.number}
            self._put(Row("identity_decisions", said, person.number, named=("right_id", min(others, default=-1))))
        else:
            key = draw.choice([each for each in keys if each[0] in ("email", "phone")])
            said = {"campaign_id": "M1", "channel": "email", "event": "opened", "occurred_at": BEFORE}
            event = {"event_id": self._next("E"), "address": self._typed(key), **said}
            self._put(Row("message_events", event, keys=(key,)))

    def _ask(self, person: Person) -> bool:
        """File an erasure by a key that is the person's alone; whether there is one."""
        if person.has_account:
            keys = [key for key in sorted(person.keys) if self.holders[key] == {person.number} and key[0] in ASKED_BY]
        else:  # nobody's record holds any of it: what is asked for is all that is theirs
            keys = [key for key in self._keys(person) if not self.holders[key]]
        if not keys:
            return False
        key = self.draw.choice(keys)
        person.keys.add(key)
        self.holders[key] = {person.number}
        request = self._next("R")
        typed = email_as_typed(self.draw, key[1]) if key[0] == "email" else self._typed(key)
        asked = {"kind": "erasure", "key_type": key[0], "key_value": typed, "received_at": BEFORE}
        self._put(Row("privacy_requests", {"request_id": request, **asked}, owner=person.number))
        self.requests[request] = person.number, key
        return True

    def is_theirs(self, row: Row) -> bool:
        """Whether a row goes with those who are erased."""
        if row.feed == "identity_decisions":
            return row.owner in self.erased or (row.named is not None and row.named[1] in self.erased)
        return row.owner in self.erased or any(self.is_alone(key) for key in row.keys)

    def is_alone(self, key: Key) -> bool:
        """Whether nobody but the erased holds a key."""
        return bool(self.holders.get(key)) and self.holders[key] <= self.erased

    def goes(self, record: Record) -> bool:
        """Whether a record is one of those who are erased."""
        if record.account_id is None:
            return any(self.is_alone((type_, value)) for type_, value in record.held.items() if value)
        return record.person.number in self.erased

    def words(self) -> set[Key]:
        """Everything that was theirs alone, in standard form."""
        people = [person for person in self.people if person.number in self.erased]
        alone = {key for person in people for key in person.keys if self.is_alone(key)}
        return alone | {("email", address) for key in alone for address in self.addresses[key]}


def seed_hash(*of: object) -> str:
    return hashlib.sha256(repr(of).encode()).hexdigest()[:10]


# The home, as a run would have made it.

FORMAT_NAMES = ("csv", "csv.gz", "parquet")


def put(supplier: Any, landing: Path, feed: str, day: date, rows: list[Row], name: str) -> str:
    """Deliver rows in the format that the name says; the path under landing."""
    plain = supplier(landing).deliver(
        feed, day, [row.cells for row in rows if row.text is None], name.split(".")[0] + ".csv"
    )
    with plain.open("a", encoding="utf-8") as out:
        out.writelines(f"{row.text}\n" for row in rows if row.text is not None)
    path = plain.with_name(name)
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(plain.read_bytes(), mtime=0))
        plain.unlink()
    elif name.endswith(".parquet"):
        is_till = feeds()[feed].dialect == "pos"
        reading().execute(
            f"copy (select * from read_csv('{plain}', all_varchar = true, delim = '{';' if is_till else ','}',"
            f" encoding = '{'latin-1' if is_till else 'utf-8'}')) to '{path}' (format parquet)"
        )
        plain.unlink()
    return path.relative_to(landing).as_posix()


def published() -> dict[str, dict[str, dict[str, str]]]:
    """Readers -> table -> column -> type of everything that a release holds, from the YAML beside the models."""
    found: dict[str, dict[str, dict[str, str]]] = {"analysts": {}, "restricted": {}}
    for page in sorted((ROOT / "dbt/models").glob("*/*.yml")):
        told = yaml.safe_load(page.read_text(encoding="utf-8"))
        tables = [(page.parent.name, model) for model in told.get("models", [])]
        tables += [(source["name"], table) for source in told.get("sources", []) for table in source["tables"]]
        for schema, table in tables:
            readers = table.get("config", {}).get("meta", {}).get("release")
            if readers:
                columns = {column["name"]: column["data_type"] for column in table["columns"]}
                found[readers][f"{schema}.{table['name']}"] = columns
    return found


@dataclass
class Written:
    """What a table of a release was given: its rows, which of them go, and what then takes the place of a value."""

    columns: list[str]
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    kept: list[tuple[Any, ...]] = field(default_factory=list)

    def add(self, values: dict[str, Any], goes: bool, stays_with: dict[str, Any] | None = None) -> None:
        """A row; where it ``goes`` all of it goes, or it stays with these values."""
        row = tuple(values[name] for name in self.columns)
        self.rows.append(row)
        if not goes:
            self.kept.append(row)
        elif stays_with is not None:
            self.kept.append(tuple(stays_with.get(name, values[name]) for name in self.columns))


def filler(column: str, type_: str, number: int) -> Any:
    type_ = type_.lower()
    if type_.endswith("[]"):
        return []
    if type_.startswith("decimal"):
        return Decimal(number % 100)
    fixed = {"date": AS_OF, "timestamp": BEFORE.replace(tzinfo=None), "boolean": True, "double": 0.5, "bigint": number}
    return fixed.get(type_, f"{column} {number}" if type_ == "varchar" else None)


def hash_of(type_: str, value: str) -> str:
    return hashlib.sha256(f"{type_}|{value}".encode()).hexdigest()[:16]


def sent_hash(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


def rows_of(shop: Shop, table: str, columns: dict[str, str], release_id: str) -> Written:
    """A row of a table for everybody whom it may be about."""
    written = Written(list(columns))
    names = set(columns)

    def full(**values: Any) -> dict[str, Any]:
        number = len(written.rows)
        return {
            name: values[name] if name in values
            else values["account_id"] if name.endswith("account_id") and "account_id" in values
            else values["feed"] if name.endswith("_feed") and "feed" in values
            else values["record_id"] if name.endswith("record_id") and "record_id" in values
            else filler(name, type_, number)
            for name, type_ in columns.items()
        }  # fmt: skip

    accounts = sorted({record.person.number for record in shop.records if record.account_id})
    people = [shop.people[n] for n in accounts]
    own = {n: sorted(key for key in shop.people[n].keys if key[0] in ("email", "phone")) for n in accounts}
    if names & {"delivered_row", "text"}:
        for record in shop.records:
            held = [(type_, value) for type_, value in record.held.items() if value]
            text = "|".join(value for _, value in held)
            has_word = any(shop.is_alone(key) for key in held)
            goes = has_word or (shop.goes(record) and "record_id" in names)
            is_person = record.feed in ("shop_customers", "loyalty_members")
            gone = {"delivered_row": None, "text": None} | ({"record_id": None} if is_person else {})
            values = full(feed=record.feed, record_id=record.record_id, delivered_row=text, text=text)
            written.add(values, goes, gone)
    elif table == "activation.ledger":
        for person in people:
            sent_now = True
            for type_, value in own[person.number]:
                sent = {"audience": "vip", "destination": "email_tool", "identifier_type": type_}
                values = full(account_id=person.account_id, identifier_hash=sent_hash(value), **sent)
                last = release_id if sent_now and type_ == "email" else "20200601T040000Z"
                sent_now = sent_now and type_ != "email"
                written.add({**values, "last_release_id": last}, person.number in shop.erased)
    elif "identifier" in names:
        for n in accounts:
            for type_, value in own[n]:
                values = full(account_id=shop.people[n].account_id, identifier_type=type_, identifier=value)
                if "account_id" in names:
                    written.add(values, n in shop.erased)
                elif n == min(shop.holders[type_, value]):
                    written.add(values, shop.is_alone((type_, value)))
    elif "value_hash" in names:
        for type_, value in sorted({key for keys in own.values() for key in keys}):
            written.add(full(type=type_, value_hash=hash_of(type_, value)), shop.is_alone((type_, value)))
    elif "key_value" in names:
        for person in people:
            for type_, value in sorted(person.keys):
                if type_ in ASKED_BY:
                    values = full(account_id=person.account_id, key_type=type_, key_value=value)
                    written.add(values, person.number in shop.erased or shop.is_alone((type_, value)))
    elif table == "account.requests":
        for request, (n, (type_, value)) in shop.requests.items():
            if is_current(shop, n, (type_, value)):
                values = {"request_id": request, "kind": "erasure", "key_type": type_, "is_subject": True}
                written.add(full(account_id=shop.people[n].account_id, **values), True)
    elif table == "account.request_deadlines":
        for request, (n, key) in shop.requests.items():
            values = {"request_id": request, "kind": "erasure", "state": "open", "carried_out_on": None}
            written.add(full(account_count=int(is_current(shop, n, key)), **values), False)
    elif names & {"feed", "left_feed"} and names & {"record_id", "left_record_id"}:
        for number, record in enumerate(shop.records):
            if record.account_id is None and "account_id" in names and table != "identity.account_links":
                continue
            held = {type_: record.held.get(type_) for type_ in (*ASKED_BY, "payment_token")}
            held |= {"loyalty_card_id": held["card_id"], "address_line1": record.held.get("address")}
            held |= {"email_key": held["email"], "account_id": record.account_id, "contact_id": number}
            values = full(feed=record.feed, record_id=record.record_id, **held)
            is_naming = record.is_naming and not shop.goes(record)
            is_named_gone = is_naming and shop.is_alone(("customer_id", str(record.held["customer_id"])))
            if "transaction_id" in names:
                nothing = dict.fromkeys(("account_id", "rule", "confidence", "household_id"))
                if record.feed in SAYS_WHO and record.account_id:
                    written.add(values, shop.goes(record), nothing)
            elif is_named_gone and "customer_id" in names:
                written.add(values, True, {"customer_id": None})
            elif table == "staging.quarantine":
                gone = {"record_id": None} if record.feed in ("shop_customers", "loyalty_members") else {}
                written.add(values, shop.goes(record), gone)
            else:
                written.add(values, shop.goes(record))
    elif "account_id" in names:
        for person in people:
            nothing = dict.fromkeys(("account_id", "rule", "confidence", "household_id"))
            email = next((value for type_, value in own[person.number] if type_ == "email"), None)
            held = {
                "email": email,
                "first_name": person.first,
                "address_line1": person.street,
                "record_id": f"O-{person.number}",
                "feed": "x",
            }
            values = full(account_id=person.account_id, **held)
            written.add(values, person.number in shop.erased, nothing if "transaction_id" in names else None)
    else:
        written.add(full(), False)
    return written


def is_current(shop: Shop, n: int, key: Key) -> bool:
    """Whether a record that counts holds a key: else only an older version of one did."""
    return any(each.account_id and each.person.number == n and each.held.get(key[0]) == key[1] for each in shop.records)


def write_release(
    shop: Shop, home: Path, release_id: str, files: list[tuple[Any, ...]], tables: dict[str, dict[str, dict[str, str]]]
) -> dict[tuple[str, str], Written]:
    """A release as publishing leaves it; what each table (readers, name) was given."""
    folder = home / "releases" / release_id
    folder.mkdir(parents=True)
    found: dict[tuple[str, str], Written] = {}
    for readers, database in (("analysts", "cocanal.duckdb"), ("restricted", "restricted.duckdb")):
        with duckdb.connect(str(folder / database)) as connection:
            connection.execute("set TimeZone = 'UTC'")
            for table, columns in tables[readers].items():
                schema, name = table.split(".")
                written = found[readers, table] = rows_of(shop, table, columns, release_id)
                if table == "landing.files":
                    written = found[readers, table] = Written(list(columns))
                    for number, (feed, file, day, sha256) in enumerate(files):
                        known = {"feed": feed, "file": file, "delivered_on": day, "sha256": sha256}
                        written.add({c: known.get(c, filler(c, t, number)) for c, t in columns.items()}, False)
                listed = ", ".join(f'"{column}" {type_}' for column, type_ in columns.items())
                connection.execute(
                    f'create schema if not exists "{schema}"; create table "{schema}"."{name}" ({listed})'
                )
                if written.rows:
                    marks = ", ".join("(" + ", ".join("?" * len(columns)) + ")" for _ in written.rows)
                    values = [value for row in written.rows for value in row]
                    connection.execute(f'insert into "{schema}"."{name}" values {marks}', values)
    audience = folder / "audiences" / "vip"
    audience.mkdir(parents=True)
    (audience / "email_tool.csv").write_text("".join(audience_lines(shop)), encoding="utf-8")
    manifest = {
        "release_id": release_id,
        "as_of": AS_OF.isoformat(),
        "fingerprint": "law",
        "inputs": [],
        "tables": [
            {"database": f"{readers}", "table": table, "row_count": len(written.rows)}
            for (readers, table), written in found.items()
        ],
        "files": [
            {
                "path": path.relative_to(folder).as_posix(),
                "bytes": path.stat().st_size,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        ],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return found


def audience_lines(shop: Shop, *, is_after: bool = False) -> list[str]:
    """The file of the e-mail tool: a line per account that has an e-mail."""
    lines = [",".join(column.header for column in FORMATS["email_tool"]) + "\n"]
    for person in shop.people:
        email = next((value for type_, value in sorted(person.keys) if type_ == "email"), None)
        has_account = any(record.account_id == person.account_id for record in shop.records)
        if email and has_account and not (is_after and person.number in shop.erased):
            lines.append(f"{email},{person.first},vip\n")
    return lines


# The search of this file.

EMAIL = re.compile(r"[\w.+%-]+@[\w-]+(?:\.[\w-]+)+")
PHONE = re.compile(r"(?:\+|00)?[\d(][\d().\-\s\u00a0\u202f/_]{7,}\d")
HASH = re.compile(r"(?<![0-9a-f])(?:[0-9a-f]{16}|[0-9a-f]{64})(?![0-9a-f])")
CUT = re.compile(r"[\s,;\"|]+")


def texts(path: Path) -> Iterator[str]:
    """Every cell or text of a file, in lower case; what is packed in it too."""
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    if content[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(path) as archive:
            content = b"\n".join(archive.read(name) for name in archive.namelist())
    if content[:4] == b"PAR1":
        yield from cells(f"read_parquet('{path}')")
    elif content[8:12] == b"DUCK":
        connection = reading()
        connection.execute(f"attach '{path}' as looked_at (read_only)")
        tables = connection.execute(
            "select schema_name, table_name from duckdb_tables() where database_name = 'looked_at'"
        ).fetchall()
        found = [cells(f'looked_at."{schema}"."{table}"') for schema, table in tables]
        connection.execute("detach looked_at")
        for each in found:
            yield from each
    elif content[:6] == b"SQLite":
        with closing(sqlite3.connect(path)) as database:
            for (table,) in database.execute("select name from sqlite_master where type = 'table'").fetchall():
                yield from (str(cell).lower() for row in database.execute(f"select * from {table}") for cell in row)
    else:
        yield content.decode("utf-8", "replace").lower()
        yield content.decode("latin-1").lower()


@cache
def reading() -> duckdb.DuckDBPyConnection:
    """One for all files: to open one costs more than to read a file. Files are rewritten: nothing of them is kept."""
    return duckdb.connect(config={"enable_external_file_cache": False})


def cells(relation: str) -> set[str]:
    """The different texts of a table, in lower case."""
    rows = reading().execute(f"select * from {relation}").fetchall()
    return {cell.lower() for row in rows for cell in row if isinstance(cell, str)}


def told_by(path: Path, streets: set[str]) -> set[Key]:
    """Every identifier that a file tells, in standard form, and every hash."""
    found: set[Key] = set()
    for text in texts(path):
        found |= {("email", email) for email in EMAIL.findall(text)}
        for number in PHONE.findall(text):
            digits = re.sub(r"\D", "", number.replace("(0)", ""))
            found.add(("phone", "+33" + re.sub(r"^(00)?(33)?0?", "", digits)))
        found |= {("hash", each) for each in HASH.findall(text)}
        found |= {("word", word) for word in CUT.split(text)}
        found |= {("address", street) for street in streets if street.lower() in text}
    return found


def forms_of(key: Key) -> set[Key]:
    """How a file may tell an identifier."""
    type_, value = key
    if type_ == "email":
        return {key, ("hash", sent_hash(value)), ("hash", hash_of(type_, value))}
    if type_ == "phone":
        return {key, ("hash", sent_hash(value)), ("hash", sent_hash(value[1:])), ("hash", hash_of(type_, value))}
    return {key} if type_ == "address" else {("word", value.lower())}


def is_strong(key: Key) -> bool:
    """Whether the product looks for an identifier in any text, and not only in columns of such numbers."""
    return key[0] in ("email", "phone", "address") or (len(key[1]) >= 8 and not key[1].isdigit())


def where(path: Path, words: set[Key]) -> list[str]:
    """For the message of a law that fails: the tables of a database that hold one of the words."""
    if path.suffix != ".duckdb":
        return []
    with duckdb.connect(str(path), read_only=True) as connection:
        tables = connection.execute("select schema_name || '.' || table_name from duckdb_tables()").fetchall()
        values = {value.lower() for _, value in words} | {value for word in words for _, value in forms_of(word)}
        return [
            f"{table}.{name}"
            for (table,) in tables
            for row in [connection.execute(f"select * from {table}")]
            for names in [[column[0] for column in row.description]]
            for cells in row.fetchall()
            for name, cell in zip(names, cells, strict=True)
            if isinstance(cell, str) and any(value in cell.lower() for value in values)
        ]


class Counted:
    """How much the law has looked at, over all its retailers."""

    def __init__(self) -> None:
        self.decisions = self.rows = self.people = self.planted = 0
        self.read: dict[str, set[Key]] = {}  # what files tell that were read once, by their content


def looked_for(home: Path, words: set[Key], streets: set[str], counted: Counted) -> dict[str, set[Key]]:
    """The files of a home, without its key and what destinations are told to forget, and the words they tell."""
    found = {}
    forms = {word: forms_of(word) for word in words}
    read = counted.read
    for path in sorted(home.rglob("*")):
        name = path.relative_to(home).as_posix()
        if path.is_symlink() or not path.is_file() or name.startswith("privacy/") or name == "run.lock":
            continue
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        if content not in read:
            read[content] = told_by(path, streets)
        told = read[content]
        counted.decisions += sum(map(len, forms.values()))
        here = {word for word, shapes in forms.items() if shapes & told}
        if here:
            found[name] = here
    return found


RawRows = dict[tuple[str, str], dict[int, dict[str, Any]]]


def raw_rows(raw: Path) -> RawRows:
    """(feed, hash) -> line -> cells of every raw file."""
    found = {}
    for path in sorted(raw.glob("*/*.parquet")):
        result = reading().execute(f"select * from read_parquet('{path}')")
        names = [column[0] for column in result.description]
        rows = [dict(zip(names, row, strict=True)) for row in result.fetchall()]
        found[path.parent.name, path.stem] = {row["line"]: row for row in rows}
    return found


def without(shop: Shop, row: Row, cells: dict[str, Any]) -> dict[str, Any]:
    """What a raw row must be after the erasure."""
    if not shop.is_theirs(row):
        if row.feed == "shop_orders" and row.named and row.named[1] in shop.erased:
            return {**cells, row.named[0]: None}
        return cells
    if row.feed == "privacy_requests":
        return {**cells, "key_value": "erased"}
    if row.feed in SAYS_WHO:
        return cells | dict.fromkeys(SAYS_WHO[row.feed])
    return dict.fromkeys(cells) | {"line": cells["line"], "_rule": "erased"}


def with_mark(cells: dict[str, Any]) -> dict[str, Any]:
    is_hash = EMPTY.match(str(cells.get("key_value")))
    return {**cells, "key_value": "erased"} if is_hash else cells


def bytes_of(home: Path) -> dict[str, bytes]:
    return {
        path.relative_to(home).as_posix(): path.read_bytes()
        for path in sorted(home.rglob("*"))
        if path.is_file() and not path.is_symlink() and path.name != "run.lock"
    }


class Home:
    """A generated home, and the law's steps over it."""

    def __init__(self, home: Path, shop: Shop, supplier: Any, tables: Any, counted: Counted) -> None:
        self.settings = Settings(home=home, threads=1, memory_limit="1GB")
        self.home, self.shop, self.supplier, self.counted = home, shop, supplier, counted
        self.draw = random.Random(shop.seed + 1)
        self.delivered: dict[str, list[Row]] = {}
        self.words = shop.words()
        counted.read.clear()
        self.streets = {person.street for person in shop.people}
        for feed in sorted({row.feed for _, row in shop.rows}):
            for day in DAYS:
                rows = [row for on, row in shop.rows if on == day and row.feed == feed]
                if rows:
                    names = FORMAT_NAMES[:2] if feed == "consents" else FORMAT_NAMES  # no lines that are no rows
                    self._put(feed, day, rows, f"part.{self.draw.choice(names)}")
        self.take_in(AS_OF)
        versions = read_register(self.settings.register).values()
        files = [(each.feed, each.file, each.delivered_on, each.sha256) for each in versions]
        # Of the many tables by account a few, others each time; the older release had fewer.
        told = {"account_links", "requests", "request_deadlines", "files", "transactions", "quarantine"}
        of_analysts = {name: columns for name, columns in tables["analysts"].items() if name.split(".")[1] in told}
        for name in self.draw.sample(sorted(tables["analysts"].keys() - of_analysts), 5):
            of_analysts[name] = tables["analysts"][name]
        told = {"records", "contacts", "identifiers", "ledger", "golden_records"}
        of_restricted = {name: columns for name, columns in tables["restricted"].items() if name.split(".")[1] in told}
        fewer = {"analysts": {"identity.account_links": of_analysts["identity.account_links"]}}
        tables = {**tables, "analysts": of_analysts}
        fewer["restricted"] = of_restricted
        self.releases = {
            release_id: write_release(shop, home, release_id, files, of)
            for release_id, of in (("20200709T040000Z", fewer), ("20200710T040000Z", tables))
        }
        (home / "releases" / "current").symlink_to("20200710T040000Z")
        add_to_released(self.settings.released_files, {(each.file, each.sha256) for each in versions})

    def _put(self, feed: str, day: date, rows: list[Row], name: str) -> None:
        rows.sort(key=lambda row: row.text is not None)
        self.delivered[put(self.supplier, self.settings.landing, feed, day, rows, name)] = rows

    def take_in(self, as_of: date, **how: Any) -> None:
        take_in(
            self.settings.landing,
            self.settings.raw,
            self.settings.register,
            as_of=as_of,
            connect=duckdb.connect,
            workers=1,
            progress=lambda done, of: None,
            **how,
        )

    def look(self) -> dict[str, set[Key]]:
        return looked_for(self.home, self.words, self.streets, self.counted)

    def look_as_the_product(self, subjects: list[Subject]) -> set[str]:
        with duckdb.connect() as connection:
            ignored = [self.settings.privacy, self.settings.lock]
            return {each.file for each in find_left_over(connection, self.home, subjects, ignored=ignored).found}

    def erase(self, announce: Any = lambda step: None) -> list[Any]:
        return privacy.erase(
            self.settings, Warehouse(self.settings), NOW, confirmed=list(self.shop.requests), announce=announce
        )

    def hashes(self) -> dict[str, str]:
        return {each.file: each.sha256 for each in read_register(self.settings.register).values()}


def check(shop: Shop, supplier: Any, tables: Any, counted: Counted, folder: Path) -> None:
    """Every law on one retailer."""
    home = Home(folder, shop, supplier, tables, counted)
    before, landed = raw_rows(home.settings.raw), bytes_of(home.settings.landing)
    known: list[Subject] = []
    seen: list[Any] = []

    def look_before(step: str) -> None:
        if step == "tombstones":
            known.extend(read_subjects(home.settings.privacy / "open" / "subjects.jsonl"))
            seen.extend((home.look(), home.look_as_the_product(known)))

    receipts = home.erase(look_before)
    assert {each.request_id for each in receipts} == shop.requests.keys()
    every, by_product = seen
    strong = {name for name, words in every.items() if any(map(is_strong, words))}
    assert strong <= by_product, "the product's search overlooks what the law's finds"
    assert by_product <= every.keys(), "the product's search finds what is not there"

    # Of those who asked nothing is left, and the product says so.
    left = home.look()
    assert left == {}, {name: (words, where(home.home / name, words)) for name, words in left.items()}
    assert [each.found for each in receipts if not each.is_finished] == []

    # Everybody else's rows are what they were, and every row is where it was.
    after = raw_rows(home.settings.raw)
    hashes = home.hashes()
    assert after.keys() == before.keys()
    changed = set()
    for file, rows in home.delivered.items():
        feed = file.split("/")[0]
        of_file = before[feed, hashes[file]]
        expected = {line: without(shop, row, of_file[line]) for line, row in enumerate(rows, start=1)}
        found = {line: with_mark(cells) for line, cells in after[feed, hashes[file]].items()}
        counted.rows += len(rows)
        assert found == expected, feed
        changed |= {file} if expected != of_file else set()
    assert bytes_of(home.settings.landing) == {file: told for file, told in landed.items() if file not in changed}
    check_releases(home)

    # Carried out twice is carried out once: also where the end of it was not written down.
    assert home.erase() == []
    whole = bytes_of(home.home)
    write_subjects(home.settings.privacy / "open" / "subjects.jsonl", known)
    again = home.erase()
    assert [each.found for each in again] == [()] * len(known)
    afterwards = bytes_of(home.home)
    differ = {name for name in whole.keys() | afterwards.keys() if whole.get(name) != afterwards.get(name)}
    told = {name for name in whole if name.startswith(("privacy/receipts/", "privacy/carried_out."))}
    assert differ <= told, differ - told

    check_come_again(home, before, hashes)
    check_planted(home, known)
    counted.people += len(shop.erased)


def as_text(row: tuple[Any, ...]) -> str:
    return repr([str(cell.normalize()) if isinstance(cell, Decimal) else cell for cell in row])


def check_releases(home: Home) -> None:
    for release_id, tables in home.releases.items():
        folder = home.home / "releases" / release_id
        with duckdb.connect() as connection:
            connection.execute("set TimeZone = 'UTC'")
            connection.execute(f"attach '{folder}/cocanal.duckdb' as analysts (read_only)")
            connection.execute(f"attach '{folder}/restricted.duckdb' as restricted (read_only)")
            for (readers, table), written in tables.items():
                found = Counter(map(as_text, connection.execute(f"select * from {readers}.{table}").fetchall()))
                home.counted.rows += len(written.rows)
                kept = Counter(map(as_text, written.kept))
                assert found == kept, f"{release_id} {table}: too much {found - kept}, missing {kept - found}"
        lines = (folder / "audiences/vip/email_tool.csv").read_text(encoding="utf-8")
        assert lines == "".join(audience_lines(home.shop, is_after=True))


def check_come_again(
    home: Home, before: dict[tuple[str, str], dict[int, dict[str, Any]]], hashes: dict[str, str]
) -> None:
    """A supplier sends everything once more, shuffled and in one file: who was erased stays out. A new relation of one
    of them, by the same e-mail, is welcome.
    """
    original = {
        id(row): before[file.split("/")[0], hashes[file]][line]
        for file, rows in home.delivered.items()
        for line, row in enumerate(rows, start=1)
    }
    by_feed: dict[str, list[Row]] = defaultdict(list)
    for rows in home.delivered.values():
        for row in rows:
            by_feed[row.feed].append(row)
    emails = sorted(value for type_, value in home.words if type_ == "email")
    fresh = {"customer_id": "FRESH", "created_at": LATER, "updated_at": LATER, "email": emails[0] if emails else None}
    files = {}
    for feed, rows in by_feed.items():
        home.draw.shuffle(rows)
        rows.sort(key=lambda row: row.text is not None)
        name = f"again.{home.draw.choice(FORMAT_NAMES[:2] if feed == 'consents' else FORMAT_NAMES)}"
        told = [*rows, Row(feed, fresh)] if feed == "shop_customers" else rows
        files[put(home.supplier, home.settings.landing, feed, LATER.date(), told, name)] = rows
    home.take_in(LATER.date() + timedelta(days=1), erase=privacy.erase_again(home.settings))
    raw, now = raw_rows(home.settings.raw), home.hashes()
    for file, rows in files.items():
        feed = file.split("/")[0]
        found = {line: with_mark(cells) for line, cells in raw[feed, now[file]].items()}
        if feed == "shop_customers":
            assert found.pop(len(rows) + 1)["customer_id"] == "FRESH"
        expected = {
            line: {**without(home.shop, row, original[id(row)]), "line": line} for line, row in enumerate(rows, start=1)
        }
        home.counted.rows += len(rows)
        assert found == expected, f"{feed} come again"
    # Its delivered files go with the next erasure.
    add_to_released(home.settings.released_files, {(file, now[file]) for file in files})
    home.erase()
    left = {name: words - {("email", fresh["email"])} for name, words in home.look().items()}
    assert {name: words for name, words in left.items() if words} == {}


def check_planted(home: Home, known: list[Subject]) -> None:
    """What is put back by hand is found, whatever file it lies in."""
    kinds = {
        "quarantine/kept.csv": lambda path, word: path.write_text(f"a;{word};b\n", encoding="utf-8"),
        "backup/kept.csv.gz": lambda path, word: path.write_bytes(gzip.compress(f"a,{word}\n".encode())),
        "report/kept.html": lambda path, word: path.write_text(
            f"<td>{word}</td>", encoding="latin-1", errors="replace"
        ),
        "raw/shop_orders/kept.parquet": plant_parquet,
        "identity/kept.duckdb": plant_duckdb,
        "cache/kept.sqlite": plant_sqlite,
        "backup/kept.zip": plant_zip,
    }
    strong = sorted(word for word in home.words if is_strong(word))
    for name, plant in kinds.items():
        for key in home.draw.sample(strong, min(2, len(strong))):
            path = home.home / name
            path.parent.mkdir(exist_ok=True, parents=True)
            shape = home.draw.choice(sorted(forms_of(key)))[1]
            word = home.draw.choice((shape, shape.upper(), shape.title())) if key[0] != "phone" else shape
            if name.endswith("html") and "’" in word:
                continue  # no letter of latin-1
            plant(path, word)
            home.counted.planted += 1
            with duckdb.connect() as connection:
                ignored = [each for each in home.home.rglob("*") if each.is_file() and each != path]
                found = find_left_over(connection, home.home, known, ignored=ignored).found
            assert {each.file for each in found} == {name}, (name, key[0])
            path.unlink()


def plant_parquet(path: Path, word: str) -> None:
    reading().execute(f"copy (select $1 as delivered, 1 as line) to '{path}' (format parquet)", [word])


def plant_duckdb(path: Path, word: str) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("create table kept as select range as number, $1 as told from range(5)", [f"said: {word}"])


def plant_sqlite(path: Path, word: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("create table kept (told text)")
        database.execute("insert into kept values (?)", [word])
        database.commit()


def plant_zip(path: Path, word: str) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("kept.txt", f"{word}\n" * 3)


def every_law_holds(examples: int, supplier: Any, size: int) -> Counted:
    counted, tables = Counted(), published()

    @settings(QUICK, max_examples=examples)
    @given(seed=st.integers(0, 2**32))
    def holds(seed: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            check(Shop(seed, size), supplier, tables, counted, Path(folder) / "home")

    holds()
    return counted


def test_erasure_leaves_nothing_of_the_person_and_everything_of_the_others(supplier: Any) -> None:
    counted = every_law_holds(6, supplier, size=10)
    assert counted.decisions > 20_000
    assert counted.rows > 5_000
    assert counted.people >= 15
    assert counted.planted >= 40


@pytest.mark.long
def test_erasure_leaves_nothing_in_many_retailers(supplier: Any) -> None:
    every_law_holds(300, supplier, size=14)
