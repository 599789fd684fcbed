"""Who asked to be forgotten is nowhere in the home afterwards, the books stay, and no delivery brings them back.

Looked for here by a search of its own, which knows nothing of the product's: the identifiers come from what was
delivered, and every file is dumped, byte by byte and cell by cell.
"""

import gzip
import hashlib
import shutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dagster_project import privacy
from dagster_project.domain import release
from dagster_project.nightly import run_night
from dagster_project.settings import Settings
from dagster_project.warehouse import Warehouse

NOW = datetime(2020, 7, 12, 9, 0, tzinfo=UTC)
SEED, PERSONS = 1, 150  # those of the home that the tests share


class Truth:
    """What the deliveries say of each person, by the generator's own book of who is who."""

    def __init__(self, retailer: Any, seed: int, persons: int) -> None:
        shop = retailer(seed, persons)
        self.deliveries = shop.deliveries
        self.persons = dict(shop.persons)
        self.held: dict[int, set[str]] = defaultdict(set)
        for (feed, _), rows in shop.deliveries.items():
            for row in rows:
                key = {"shop_customers": "customer_id", "loyalty_members": "card_id"}.get(feed)
                person = (
                    self.persons.get((feed, row[key]))
                    if key
                    else self.persons.get(("shop_customers", row.get("customer_id")))
                    or self.persons.get(("loyalty_members", row.get("loyalty_card_id")))
                )
                if person is not None:
                    self.held[person] |= self._identifiers(row)
        self.numbers: dict[int, set[str]] = defaultdict(set)
        for (_, record), person in self.persons.items():
            self.numbers[person].add(record)

    @staticmethod
    def _identifiers(row: dict[str, Any]) -> set[str]:
        found = {row[name].strip().lower() for name in ("email",) if row.get(name)}
        return found | {"+33" + row["phone"][-9:] for name in ("phone",) if row.get(name)}

    def own(self, people: set[int]) -> set[str]:
        """What only these people hold: e-mails, phones in two spellings, numbers."""
        others = set().union(*(held for person, held in self.held.items() if person not in people))
        own = set().union(*(self.held[person] for person in people)) - others
        phones = {value for value in own if value.startswith("+")}
        return own | {"0" + phone[3:] for phone in phones} | set().union(*(self.numbers[p] for p in people))


def dumped(path: Path, connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    """Everything in a file as text, in lower case."""
    content = path.read_bytes()
    yield content.decode("latin-1").lower()
    if content[:2] == b"\x1f\x8b":
        yield gzip.decompress(content).decode("latin-1").lower()
    if content[:4] == b"PAR1":
        yield str(connection.execute(f"select * from read_parquet('{path}')").fetchall()).lower()
    elif content[8:12] == b"DUCK":
        connection.execute(f"attach '{path}' as looked_at (read_only)")
        for schema, table in connection.execute(
            "select schema_name, table_name from duckdb_tables() where database_name = 'looked_at'"
        ).fetchall():
            yield str(connection.execute(f'select * from looked_at."{schema}"."{table}"').fetchall()).lower()
        connection.execute("detach looked_at")


def places(home: Path, words: set[str]) -> set[str]:
    """The files of a home that hold one of the words, but for what destinations are told and the home's own key."""
    found = set()
    with duckdb.connect() as connection:  # one for all: to open one costs more than to read a file
        for path in sorted(home.rglob("*")):
            name = path.relative_to(home).as_posix()
            if path.is_symlink() or not path.is_file() or "/removals/" in name or name == "run.lock":
                continue
            texts = list(dumped(path, connection))
            if any(word in text for text in texts for word in words):
                found.add(name)
    return found


@pytest.fixture
def settings(home: Path, settings_of: Any) -> Settings:
    return settings_of(home)


@pytest.fixture
def truth(retailer: Any) -> Truth:
    return Truth(retailer, SEED, PERSONS)


def carry_out(settings: Settings, **asked: Any) -> list[Any]:
    return privacy.erase(settings, Warehouse(settings), NOW, **asked)


def books(home: Path) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(home / "releases/current" / release.DATABASES["analysts"]), read_only=True) as connection:
        return connection.execute(
            "select channel, business_on, delivered_amount, counted_amount, excluded_amount"
            " from account.reconciliation order by all"
        ).fetchall()


def query(home: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(home / "releases/current" / release.DATABASES["analysts"]), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def erased_people(home: Path, truth: Truth) -> set[int]:
    """The persons behind the accounts that the open erasures are about, by the release before."""
    rows = query(
        home,
        """
        select links.feed, links.record_id
        from identity.account_links as links
        join account.requests as requests using (account_id)
        join account.request_deadlines as deadlines using (request_id)
        where requests.kind = 'erasure' and requests.is_subject and deadlines.state in ('open', 'overdue')
        """,
    )
    return {truth.persons[feed, record] for feed, record in rows if (feed, record) in truth.persons}


@dataclass(frozen=True)
class Erased:
    """A copy of the home that the tests share, in which every open erasure was carried out; and what was known before:
    the ``words`` of who had to go, and how many accounts a reader saw who had the release open all the time.
    """

    home: Path
    words: set[str]
    receipts: list[Any]
    seen_before: int
    seen_after: int


@pytest.fixture(scope="module")
def erased(
    base_home: Path, settings_of: Any, retailer: Any, tmp_path_factory: pytest.TempPathFactory, outside_environment: Any
) -> Erased:
    with outside_environment():
        home = shutil.copytree(base_home, tmp_path_factory.mktemp("erased") / "home", symlinks=True)
        truth = Truth(retailer, SEED, PERSONS)
        people = erased_people(home, truth)
        words = truth.own(people)
        assert len(words) > 3 * len(people) > 0
        with duckdb.connect(str(home / "releases/current" / release.DATABASES["analysts"]), read_only=True) as reader:
            ((before,),) = reader.execute("select count(*) from account.accounts").fetchall()
            receipts = carry_out(settings_of(home))
            ((after,),) = reader.execute("select count(*) from account.accounts").fetchall()
        return Erased(home, words, receipts, before, after)


def test_nothing_of_an_erased_person_is_left_and_the_books_stay_to_the_cent(
    erased: Erased, base_home: Path, tmp_path: Path, run_in: Any
) -> None:
    assert places(base_home, erased.words), "the search of this test finds nothing, even before"
    before = books(base_home)
    home = shutil.copytree(erased.home, tmp_path / "home", symlinks=True)
    assert all(receipt.is_finished for receipt in erased.receipts), [receipt.found for receipt in erased.receipts]
    assert places(home, erased.words) == set()
    assert books(home) == before
    assert {verified.is_kept for verified in _verified(home)} == {True}

    assert run_in(home).outcome == "released"
    assert places(home, erased.words) == set()
    assert books(home) == before
    states = dict(query(home, "select request_id, state from account.request_deadlines where kind = 'erasure'"))
    assert {states[receipt.request_id] for receipt in erased.receipts} == {"carried out"}


def test_somebody_without_an_account_is_erased_as_everybody_is(
    erased: Erased, base_home: Path, settings_of: Any
) -> None:
    words = {"news.only@post.example", "06.12.34.56.78", "+33612345678", "(0)6 12 34 56 78", "29nowhere"}
    email, other = "news.only@post.example", "other.news.only@post.example"
    assert {path.split("/")[0] for path in places(base_home, words - {email})} >= {"landing", "raw"}
    home, settings = erased.home, settings_of(erased.home)
    receipts = {receipt.request_id: receipt for receipt in erased.receipts}
    assert {"N1", "N2", "N3"} <= receipts.keys()
    assert all(receipts[request].is_finished for request in ("N1", "N2", "N3")), receipts["N1"].found
    with duckdb.connect() as connection:
        kept = connection.execute(
            f"select consent_id, key_value from read_parquet('{settings.raw}/consents/*.parquet')"
            " where consent_id like 'N%'"
        ).fetchall()
    assert kept == [("NK3", other)]
    assert places(home, words - {email}) | (places(home, {email}) - places(home, {other})) == set()
    with Warehouse(settings).scratch() as connection:
        states = {each.request_id: each.state for each in privacy.requests(connection, settings)}
    assert {states[request] for request in ("N1", "N2", "N3")} == {"carried out"}
    # Who comes back by an old delivery stays out, as everybody does; a second erasure has nothing to do.
    assert carry_out(settings) == []


def test_a_reader_who_had_a_release_open_goes_on_reading(erased: Erased) -> None:
    assert erased.seen_after == erased.seen_before
    gone = sum(receipt.account_count for receipt in erased.receipts)
    assert gone > 0
    assert query(erased.home, "select count(*) from account.accounts") == [(erased.seen_before - gone,)]


def test_without_the_key_of_the_home_tombstones_say_nothing(erased: Erased) -> None:
    privacy_of_home = erased.home / "privacy"
    assert (privacy_of_home / "tombstones.jsonl").stat().st_size > 0
    assert {name for name in places(privacy_of_home, erased.words) if not name.startswith("receipts/")} == set()
    assert (privacy_of_home / "key").stat().st_mode & 0o777 == 0o600


def _verified(home: Path) -> list[release.Verified]:
    with duckdb.connect() as connection:
        return [
            verified
            for folder in sorted((home / "releases").iterdir())
            if not folder.is_symlink() and folder.is_dir()
            for verified in release.verify(connection, folder)
        ]


def test_a_delivery_come_again_does_not_bring_anybody_back_and_a_new_relation_is_welcome(
    erased: Erased, tmp_path: Path, settings_of: Any, truth: Truth, supplier: Any, run_in: Any
) -> None:
    home, words = shutil.copytree(erased.home, tmp_path / "home", symlinks=True), erased.words
    settings = settings_of(home)
    accounts = query(home, "select count(*) from account.accounts")
    # The supplier sends everything again, under other names; and one of them opens a new web account.
    again = supplier(settings.landing)
    for (feed, day), rows in truth.deliveries.items():
        if feed in ("shop_customers", "loyalty_members", "shop_orders", "pos_tickets", "consents", "message_events"):
            again.deliver(feed, day, rows, "again_01.csv")
    email = sorted(word for word in words if "@" in word)[0]
    later = datetime(2020, 7, 14, 12, tzinfo=UTC)
    again.deliver(
        "shop_customers",
        date(2020, 7, 14),
        [{"customer_id": "NEW1", "email": email, "created_at": later, "updated_at": later}],
    )
    night = run_in(home, accept={"landing": "all came again", "staging": "all came again"})
    assert night.outcome == "released", night.sentences
    found = query(home, "select account_id from identity.account_links where record_id = 'NEW1'")
    assert len(found) == 1
    assert query(home, "select count(*) from account.accounts") == [(accounts[0][0] + 1,)]
    # Of the old relation nothing is in raw; what was delivered again lies in landing until the next erasure.
    old = words - {email}
    assert not {name for name in places(home, old) if not name.startswith("landing/")}
    carry_out(settings)
    assert places(home, old) == set()


@pytest.mark.parametrize(
    "steps",
    [
        ("raw", "removals", "search"),
        *(pytest.param((step,), marks=pytest.mark.long) for step in ("raw", "removals", "search")),
    ],
    ids="-".join,
)
def test_an_erasure_that_was_cut_off_is_taken_up_where_it_was(
    steps: tuple[str, ...], home: Path, settings: Settings, truth: Truth, run_in: Any
) -> None:
    """It is cut off, taken up and cut off later, and once more; no night may run before it is at its end."""
    words = truth.own(erased_people(home, truth))
    before = books(home)
    for step in steps:

        def die(at: str, step: str = step) -> None:
            if at == step:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            carry_out(settings, announce=die)
        night = run_in(home)
        assert night.outcome == "unusable"
        assert "cocanal privacy erase" in night.sentences[0]
    receipts = carry_out(settings)
    assert receipts and all(receipt.is_finished for receipt in receipts)
    assert places(home, words) == set()
    assert books(home) == before
    assert {verified.is_kept for verified in _verified(home)} == {True}


@pytest.mark.usefixtures("instance")
def test_who_shares_a_mailbox_is_not_erased_for_the_other(
    home: Path, settings: Settings, supplier: Any, run_in: Any
) -> None:
    """A request by a shared e-mail waits for somebody who knows whom it means, also when the other one has gone."""
    day, moment = date(2020, 7, 11), "2020-07-01T10:00:00Z"
    people = {
        "JEAN": ("Jean-Pierre", "Lefevre", date(1950, 1, 2)),
        "JEANNE": ("Jeanne", "Lefevre", date(1955, 3, 4)),
    }
    shop = supplier(settings.landing)
    shop.deliver(
        "shop_customers",
        day,
        [
            {
                "customer_id": number,
                "email": "les.lefevre@mail.example",
                "first_name": first,
                "last_name": last,
                "birth_date": born,
                "created_at": moment,
                "updated_at": moment,
            }
            for number, (first, last, born) in people.items()
        ],
        "couple.csv",
    )
    request = {"kind": "erasure", "key_type": "email", "key_value": "les.lefevre@mail.example", "received_at": moment}
    by_number = {**request, "key_type": "customer_id", "key_value": "JEAN"}
    asked = [{"request_id": "R1", **request}, {"request_id": "R2", **by_number}]
    shop.deliver("privacy_requests", day, asked, "by_mail.csv")
    assert run_in(home).outcome == "released"
    assert query(home, "select state from account.request_deadlines where request_id = 'R1'") == [("to be confirmed",)]
    assert "R1" not in {plan.request_id for plan in privacy.plan(settings)}
    (both,) = [plan for plan in privacy.plan(settings, confirmed=["R1"]) if plan.request_id == "R1"]
    assert both.account_count == 2
    assert "R2" in {receipt.request_id for receipt in carry_out(settings)}
    assert run_in(home).outcome == "released"
    # Only Jeanne holds the mailbox now, and nobody has said that she is meant.
    assert "R1" not in {receipt.request_id for receipt in carry_out(settings)}
    assert query(home, "select count(*) from identity.account_links where record_id = 'JEANNE'") == [(1,)]
    assert query(home, "select count(*) from identity.account_links where record_id = 'JEAN'") == [(0,)]


@pytest.mark.usefixtures("instance")
def test_an_account_whose_period_is_over_is_erased_and_a_sign_of_life_keeps_the_others(
    home: Path, settings_of: Any, truth: Truth
) -> None:
    settings = settings_of(home).model_copy(update={"inactive_months": 1})
    assert run_night(settings).outcome == "released"
    due = query(home, "select account_id from account.retention where is_due")
    counted = query(home, "select count(*) from account.accounts")
    assert 0 < len(due) < counted[0][0]
    before = books(home)
    (receipt,) = [each for each in carry_out(settings, with_retention=True) if each.because == "retention"]
    assert receipt.account_count == len(due)
    assert not receipt.found
    assert run_night(settings).outcome == "released"
    assert query(home, "select count(*) from account.retention where is_due") == [(0,)]
    assert books(home) == before


@pytest.mark.usefixtures("instance")
def test_who_was_sent_leaves_the_files_and_the_destination_is_told_to_forget(
    home: Path, settings: Settings, truth: Truth, supplier: Any, run_in: Any
) -> None:
    first = (home / "releases/current").resolve()
    with duckdb.connect(str(first / release.DATABASES["restricted"]), read_only=True) as connection:
        connection.execute(f"attach '{first / release.DATABASES['analysts']}' as released (read_only)")
        ((audience, customer, address),) = connection.execute(
            """
            select members.audience, links.record_id, points.identifier
            from released.audience.members as members
            join released.identity.account_links as links using (account_id)
            join audience.contact_points as points using (account_id, destination)
            where members.destination = 'email_tool' and members.arm = 'treated' and points.kind = 'marketing'
                and links.feed = 'shop_customers'
            order by all
            limit 1
            """
        ).fetchall()
    sent = first / "audiences" / audience / "email_tool.csv"
    lines = sent.read_text(encoding="utf-8").count("\n")
    assert address in sent.read_text(encoding="utf-8")
    moment = datetime(2020, 7, 11, 8, tzinfo=UTC)
    request = {"request_id": "GO", "kind": "erasure", "key_type": "customer_id", "key_value": customer}
    supplier(settings.landing).deliver(
        "privacy_requests", date(2020, 7, 11), [{**request, "received_at": moment}], "late.csv"
    )
    assert run_in(home).outcome == "released"
    (receipt,) = [each for each in carry_out(settings) if each.request_id == "GO"]
    assert receipt.is_finished, receipt.found
    assert sent.read_text(encoding="utf-8").count("\n") == lines - 1
    assert address not in sent.read_text(encoding="utf-8")
    assert run_in(home).outcome == "released"
    told = (home / "releases/current/removals/email_tool.csv").read_text(encoding="utf-8").split()
    assert told[0] == "email_sha256"
    assert hashlib.sha256(address.encode()).hexdigest() in told
    assert {verified.is_kept for verified in _verified(home)} == {True}
