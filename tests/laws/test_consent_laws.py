"""Nobody is in an audience file without a granted consent, and nobody who asked to be forgotten or objected.

The oracle is written from the source contract alone: it reads the rows that were delivered, and no table or SQL of the
pipeline. The pipeline is asked only which account a line was written for, and which records are that account's.
"""

import csv
import hashlib
import shutil
from collections import defaultdict
from collections.abc import Iterable
from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

PERSONS = 250
DESTINATIONS = {
    # destination: (purpose, channel)
    "email_tool": ("prospecting", "email"),
    "google_customer_match": ("ad_match_search", "any"),
    "meta_custom_audience": ("ad_match_social", "any"),
}
PROFILING = ("vip", "win_back", "best_customers")
Identifier = tuple[str, str]


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def standard(kind: str, value: str | None) -> str | None:
    """An e-mail or phone as it is compared: case and blanks do not matter, nor how the country is written."""
    if value is None:
        return None
    if kind == "email":
        return value.strip().lower()
    digits = value.replace(" ", "")
    return digits if digits.startswith("+") else "+33" + digits[1:]


class Oracle:
    """Who may be sent what, by the contract."""

    def __init__(self, retailer: Any, broken: str) -> None:
        self._as_of: date = retailer.LAST
        self._rows = {
            feed: self._in_force(retailer.deliveries, feed, broken, key)
            for feed, key in (
                ("shop_customers", "customer_id"),
                ("loyalty_members", "card_id"),
                ("shop_orders", "order_id"),
                ("pos_tickets", "ticket_id"),
                ("consents", "consent_id"),
                ("message_events", "event_id"),
                ("privacy_requests", "request_id"),
            )
        }
        self._statements: dict[tuple[Identifier, str], list[tuple[str, str, datetime]]] = defaultdict(list)
        self._listen()
        self.held: dict[int, set[Identifier]] = defaultdict(set)
        for (feed, record), person in retailer.persons.items():
            row = self._rows[feed].get(record, {})
            self.held[person] |= {
                (kind, value) for kind in ("email", "phone") if (value := standard(kind, row.get(kind))) is not None
            }
            if feed in ("shop_customers", "loyalty_members") and row:
                self.held[person].add(self._address(row))
        people = set(retailer.persons.values())
        self.erased = {person for person in people if list(self._requests(person, retailer, "erasure"))}
        self.objected_at = {
            person: max(self._requests(person, retailer, "objection"), default=None) for person in people
        }
        self._born = {
            person: [
                born
                for (feed, record), owner in retailer.persons.items()
                if owner == person and (born := self._rows[feed].get(record, {}).get("birth_date")) is not None
            ]
            for person in people
        }

    def _in_force(self, deliveries: Any, feed: str, broken: str, key: str) -> dict[str, dict[str, Any]]:
        """Of each key, the greatest ``updated_at``, then the latest delivery; a row that cannot be read is none."""
        found: dict[str, tuple[Any, dict[str, Any]]] = {}
        for (name, day), rows in sorted(deliveries.items()):
            for row in rows if name == feed else ():
                if broken in row.values():
                    continue
                rank = (row["updated_at"],) if "updated_at" in row else ()
                if row[key] not in found or found[row[key]][0] <= (*rank, day):
                    found[row[key]] = ((*rank, day), row)
        return {record: row for record, (_, row) in found.items()}

    @staticmethod
    def _address(row: dict[str, Any]) -> Identifier:
        return "post", f"{row['address_line1']} {row['postal_code']}"

    def _reached(self, key_type: str, key_value: str) -> Iterable[Identifier]:
        """The identifiers that a statement keyed like this is about."""
        if key_type in ("email", "phone"):
            yield key_type, standard(key_type, key_value) or ""
            return
        row = self._rows["shop_customers" if key_type == "customer_id" else "loyalty_members"].get(key_value)
        if row is None:
            return
        yield self._address(row)
        for kind in ("email", "phone"):
            if (value := standard(kind, row["" + kind])) is not None:
                yield kind, value

    def _listen(self) -> None:
        for row in self._rows["consents"].values():
            for identifier in self._reached(row["key_type"], row["key_value"]):
                self._statements[identifier, row["purpose"]].append((row["channel"], row["status"], row["occurred_at"]))
        for row in self._rows["message_events"].values():
            if row["event"] in ("unsubscribed", "complained"):
                address = ("email", standard("email", row["address"]) or "")
                self._statements[address, "prospecting"].append((row["channel"], "withdrawn", row["occurred_at"]))

    def permits(self, identifier: Identifier, purpose: str, channel: str, objected_at: datetime | None) -> bool:
        """Unknown is no; the latest statement counts, at one instant the more restrictive; no grant of tomorrow, and
        after an objection only a later one.
        """
        said = [
            (moment, status != "granted")
            for on, status, moment in self._statements[identifier, purpose]
            if on in (channel, "any")
            and (status != "granted" or moment.astimezone(ZoneInfo("Europe/Paris")).date() <= self._as_of)
        ]
        return bool(said) and not max(said)[1] and (objected_at is None or max(said)[0] > objected_at)

    def is_minor(self, person: int) -> bool:
        """Younger than eighteen by any birth date."""
        as_of = self._as_of
        return any(
            (as_of.year - born.year) - ((as_of.month, as_of.day) < (born.month, born.day)) < 18
            for born in self._born[person]
        )

    def refuses_profiling(self, person: int) -> bool:
        for identifier in self.held[person]:
            said = [(moment, status != "granted") for _, status, moment in self._statements[identifier, "profiling"]]
            if said and max(said)[1]:
                return True
        return False

    def _requests(self, person: int, retailer: Any, kind: str) -> Iterable[datetime]:
        records = {
            ("customer_id" if feed == "shop_customers" else "card_id", record)
            for (feed, record), owner in retailer.persons.items()
            if owner == person and feed in ("shop_customers", "loyalty_members")
        }
        for row in self._rows["privacy_requests"].values():
            key = (row["key_type"], row["key_value"])
            if key[0] in ("email", "phone"):
                key = (key[0], standard(*key) or "")
            if row["kind"] == kind and key in records | self.held[person]:
                yield row["received_at"]

    def is_bounced(self, address: str) -> bool:
        return any(
            row["event"] == "bounced" and standard("email", row["address"]) == address
            for row in self._rows["message_events"].values()
        )


def test_nobody_is_in_a_file_without_consent_or_against_their_will(
    tmp_path: Path, retailer: Any, supplier: Any, walk: Any, broken_value: str
) -> None:
    lines_seen: dict[str, int] = defaultdict(int)

    # Each example is a retailer of its own with some hundred people, for three destinations: thousands of decisions.
    @settings(
        max_examples=6,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],  # a smaller seed is not a smaller retailer
        suppress_health_check=list(HealthCheck),
    )
    @given(seed=st.integers(0, 2**32))
    def holds(seed: int) -> None:
        home = tmp_path / "home"
        shutil.rmtree(home, ignore_errors=True)
        shop = retailer(seed, PERSONS)
        supplier(home / "landing").deliver_all(shop.deliveries)
        oracle = Oracle(shop, broken_value)
        with walk(home, shop.LAST, minimum_size=0) as connection:
            for destination in DESTINATIONS:
                lines_seen[destination] += _judge(connection, home, shop, oracle, destination)
            _nobody_is_left_out(connection, shop, oracle)

    holds()
    assert all(lines_seen[destination] > 50 for destination in DESTINATIONS), "the law was hardly put to the test"


def _people(connection: Any, shop: Any) -> dict[str, set[int]]:
    people: dict[str, set[int]] = defaultdict(set)
    for account, feed, record in connection.execute(
        "select account_id, feed, record_id from identity.account_links"
    ).fetchall():
        if (feed, record) in shop.persons:
            people[account].add(shop.persons[feed, record])
    return people


def _judge(connection: Any, home: Path, shop: Any, oracle: Oracle, destination: str) -> int:
    """Every line of every file of a destination; returns how many there are."""
    purpose, channel = DESTINATIONS[destination]
    people = _people(connection, shop)
    written = []
    for path in sorted((home / "audiences").glob(f"*/{destination}.csv")):
        with path.open(encoding="utf-8", newline="") as lines:
            header, *rows = csv.reader(lines)
        written += [(path.parent.name, tuple(row)) for row in rows]
    accounts = connection.execute(
        "select account_id, audience, cells from activation.file_rows where destination = $1", [destination]
    ).fetchall()
    assert sorted(written) == sorted((audience, tuple(cell or "" for cell in cells)) for _, audience, cells in accounts)
    for account, audience, cells in accounts:
        assert people[account], "a line for nobody"
        assert not people[account] & oracle.erased, "someone who asked for erasure is in a file"
        assert not any(oracle.is_minor(person) for person in people[account]), "a minor is in a file"
        if audience in PROFILING:
            assert not any(oracle.refuses_profiling(person) for person in people[account]), "someone refused profiling"
        held = set().union(*(oracle.held[person] for person in people[account]))
        objected_at = max((at for person in people[account] if (at := oracle.objected_at[person])), default=None)
        allowed = {identifier for identifier in held if oracle.permits(identifier, purpose, channel, objected_at)}
        named = {name: [] for name in header}
        for name, cell in zip(header, cells, strict=True):
            named[name] += [cell] if cell else []
        emails = {value for kind, value in allowed if kind == "email"}
        phones = {value for kind, value in allowed if kind == "phone"}
        if destination == "email_tool":
            assert set(named["email"]) <= emails
            assert len(named["email"]) == 1
            continue
        email, phone, name = ("Email", "Phone", "First Name") if "Email" in named else ("email", "phone", "fn")
        plus = "+" if email == "Email" else ""
        assert set(named[email]) <= {sha256(value) for value in emails}
        assert set(named[phone]) <= {sha256(plus + value[1:]) for value in phones}
        if named[name] or named.get("Zip") or named.get("zip"):
            assert any(kind == "post" for kind, _ in allowed), "a name and postcode without the consent of an address"
        assert named[email] or named[phone] or named[name]
    return len(accounts)


def _nobody_is_left_out(connection: Any, shop: Any, oracle: Oracle) -> None:
    """The other side: who qualified, consented by e-mail and refused nothing is a member, treated or held out, unless
    another audience writes to them.
    """
    people = _people(connection, shop)
    members = set(
        connection.execute("select account_id from audience.members where destination = 'email_tool'").fetchall()
    )
    for audience, account in connection.execute(
        """
        select audience, account_id
        from audience.candidates
        join audience.audiences using (audience)
        anti join audience.messages_sent using (account_id)
        where destination = 'email_tool' and kind = 'marketing'
        """
    ).fetchall():
        held = set().union(*(oracle.held[person] for person in people[account]))
        addresses = {value for kind, value in held if kind == "email" and not oracle.is_bounced(value)}
        objected_at = max((at for person in people[account] if (at := oracle.objected_at[person])), default=None)
        is_permitted = any(oracle.permits(("email", value), "prospecting", "email", objected_at) for value in addresses)
        is_barred = people[account] & oracle.erased or any(oracle.is_minor(person) for person in people[account])
        if audience in PROFILING:
            is_barred = is_barred or any(oracle.refuses_profiling(person) for person in people[account])
        if is_permitted and not is_barred:
            assert (account,) in members
