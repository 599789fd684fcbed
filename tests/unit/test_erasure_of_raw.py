"""What an erasure finds and takes out of raw files, and what a kill or a delivery in between must not change."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dagster_project.domain.landing.deliveries import ERASURES, newest_date, read_erasures, read_versions
from dagster_project.domain.landing.intake import take_in
from dagster_project.domain.privacy.raw_erasure import Eraser, erase_in_raw, erase_landed
from dagster_project.domain.privacy.release_erasure import erase_in_releases
from dagster_project.domain.privacy.resolution import requests_without_account, resolve_subjects
from dagster_project.domain.privacy.subject import Subject
from dagster_project.domain.privacy.tombstones import KeyLost, add_tombstones, read_key, read_tombstones, tombstones_of

DAY = date(2020, 7, 10)
ASKED = datetime(2020, 7, 8, 12)
BEFORE = datetime(2020, 7, 1, 10, tzinfo=UTC)
NOW = datetime(2020, 7, 11, tzinfo=UTC)
LEA = Subject(
    request_id="R1",
    received_at=ASKED,
    until_at=ASKED,
    because="erasure",
    records=frozenset({("shop_customers", "C1"), ("shop_orders", "O1")}),
    emails=frozenset({"lea@mail.example"}),
    customer_ids=frozenset({"C1"}),
)
MONEY = {"status": "paid", "fulfilment": "delivery", "total_amount": Decimal("12.50")}


def customer(number: str, email: str, days: int = 0) -> dict[str, Any]:
    return {"customer_id": number, "email": email, "created_at": BEFORE, "updated_at": BEFORE + timedelta(days=days)}


class Home:
    """Landing and raw of a home, its intake, and an erasure of raw alone."""

    def __init__(self, home: Path, supplier: Any) -> None:
        self.home, self.landing, self.raw = home, home / "landing", home / "raw"
        self.register = self.raw / "deliveries"
        self.deliver = supplier(self.landing).deliver

    def take_in(self) -> None:
        take_in(
            self.landing,
            self.raw,
            self.register,
            as_of=DAY,
            connect=duckdb.connect,
            workers=1,
            progress=lambda done, of: None,
        )

    def erase(self, subject: Subject = LEA) -> None:
        key, page = read_key(self.home / "privacy"), self.home / "privacy" / "tombstones.jsonl"
        add_tombstones(page, tombstones_of(key, subject))
        eraser = Eraser(key, read_tombstones(page), "FR")
        with duckdb.connect() as connection:
            erase_in_raw(connection, self.raw, [subject], eraser, at=NOW, request_hashes=["hash"])

    def rows(self, feed: str, columns: str) -> list[Any]:
        return duckdb.sql(f"select {columns} from read_parquet('{self.raw / feed}/*.parquet') order by all").fetchall()

    def erase_landed(self) -> tuple[list[str], list[str]]:
        versions = read_versions(self.register)
        return erase_landed(self.landing, self.raw, versions, {(each.file, each.sha256) for each in versions})


@pytest.fixture
def home(tmp_path: Path, supplier: Any) -> Home:
    return Home(tmp_path / "home", supplier)


def test_a_kill_before_a_raw_file_is_replaced_loses_no_note_of_it(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the note its delivered file would lie in landing for ever, for the file itself says nothing any more."""
    path = home.deliver("shop_customers", DAY, [customer("C1", "lea@mail.example"), customer("C2", "zoe@mail.example")])
    home.take_in()
    replace = Path.replace

    def die(self: Path, target: Path) -> Path:
        replace(self, target)
        if target.suffix == ".parquet":
            raise KeyboardInterrupt
        return target

    monkeypatch.setattr(Path, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        home.erase()
    monkeypatch.undo()
    home.erase()
    assert home.rows("shop_customers", "customer_id, _rule") == [("C2", None), (None, "erased")]
    assert home.erase_landed() == ([f"shop_customers/{DAY}/part_01.csv"], [])
    assert not path.exists()


def test_what_was_put_into_landing_since_is_not_lost(home: Home) -> None:
    """A supplier writes every night under the same name: the erased file is gone from there, the new one is unread."""
    home.deliver("shop_customers", DAY, [customer("C1", "lea@mail.example")])
    home.take_in()
    home.erase()
    path = home.deliver("shop_customers", DAY, [customer("C2", "zoe@mail.example"), customer("C3", "tom@mail.example")])
    assert home.erase_landed() == ([], [])
    assert path.exists()


def test_the_day_of_a_file_that_left_landing_still_counts(home: Home) -> None:
    home.deliver("shop_customers", DAY - timedelta(days=3), [customer("C2", "zoe@mail.example")])
    home.deliver("shop_customers", DAY, [customer("C1", "lea@mail.example")])
    home.take_in()
    home.erase()
    assert home.erase_landed()[0] == [f"shop_customers/{DAY}/part_01.csv"]
    assert newest_date(home.landing, home.register) == DAY


def test_a_request_by_a_shared_mailbox_keeps_no_mailbox_and_is_emptied_once(home: Home) -> None:
    """The mailbox is another's too, so no tombstone names it: the request is known by its number."""
    request = {"request_id": "R1", "kind": "erasure", "key_type": "email", "key_value": "both@mail.example"}
    home.deliver("privacy_requests", DAY, [{**request, "received_at": BEFORE}])
    order = {**MONEY, "order_id": "O1", "email": "both@mail.example", "ordered_at": BEFORE, "updated_at": BEFORE}
    home.deliver("shop_orders", DAY, [order])
    home.take_in()
    home.erase()
    ((key_value,),) = home.rows("privacy_requests", "key_value")
    assert key_value.startswith("erased:")
    assert home.rows("shop_orders", "order_id, email, total_amount") == [("O1", None, "12.50")]
    told = (home.raw / ERASURES).read_text()
    home.erase()
    assert home.rows("privacy_requests", "key_value") == [(key_value,)]
    assert (home.raw / ERASURES).read_text() == told


def test_a_note_that_was_cut_off_is_passed_over(home: Home) -> None:
    home.deliver("shop_customers", DAY, [customer("C1", "lea@mail.example")])
    home.take_in()
    home.erase()
    known = read_erasures(home.raw)
    with (home.raw / ERASURES).open("a") as out:
        out.write('{"feed": "shop_cus')
    assert len(known) == 1 and read_erasures(home.raw) == known


def test_a_key_that_is_gone_is_not_made_anew(home: Home) -> None:
    home.erase()
    (home.home / "privacy" / "key").unlink()
    with pytest.raises(KeyLost, match="backup"):
        read_key(home.home / "privacy")


def write_release(folder: Path, records: list[tuple[str, str, str]]) -> Path:
    """A release that knows (web account, e-mail, account), each a record of its own; a slip of the domain is mended."""
    folder.mkdir()
    with duckdb.connect(str(folder / "cocanal.duckdb")) as connection:
        connection.execute("create schema identity")
        connection.execute(
            "create table identity.account_links (feed varchar, record_id varchar, account_id varchar, rule varchar)"
        )
        connection.executemany(
            "insert into identity.account_links values ('shop_customers', ?, ?, 'customer_id')",
            [(number, account) for number, _, account in records],
        )
    with duckdb.connect(str(folder / "restricted.duckdb")) as connection:
        connection.execute("create schema identity; create schema account")
        connection.execute(
            "create table account.identifiers (account_id varchar, identifier_type varchar, identifier varchar)"
        )
        connection.execute(
            """
            create table identity.records (feed varchar, record_id varchar, contact_id bigint, seen_at timestamp,
                customer_id varchar, card_id varchar, payment_token varchar)
            """
        )
        connection.execute(
            """
            create table identity.contacts (contact_id bigint, email varchar, email_key varchar, phone varchar,
                address_line1 varchar)
            """
        )
        for place, (number, email, _) in enumerate(records):
            connection.execute(
                "insert into identity.records values ('shop_customers', $1, $2, '2020-07-01', $1, null, null)",
                [number, place],
            )
            connection.execute(
                "insert into identity.contacts values ($1, $2, replace($2, '@mial.', '@mail.'), null, null)",
                [place, email],
            )
    return folder


@pytest.fixture
def resolved(home: Home, tmp_path: Path) -> Callable[..., dict[str, Subject]]:
    def resolve(records: list[tuple[str, str, str]], *asked: tuple[str, str]) -> dict[str, Subject]:
        home.take_in()
        with duckdb.connect() as connection:
            found = resolve_subjects(
                connection,
                write_release(tmp_path / "release", records),
                home.raw,
                [(request, ASKED, (account,)) for request, account in asked],
                because="erasure",
                until_at=datetime(2020, 7, 12),
                country="FR",
            )
        return {subject.request_id: subject for subject in found}

    return resolve


def test_an_e_mail_that_was_given_up_is_the_person_s_too(home: Home, resolved: Any) -> None:
    """Consents and messages are keyed by it still, though no record says it any more."""
    home.deliver("shop_customers", DAY, [customer("C1", "old@mail.example"), customer("C1", "new@mail.example", 2)])
    (lea,) = resolved([("C1", "new@mail.example", "A1")], ("R1", "A1")).values()
    assert lea.emails == {"old@mail.example", "new@mail.example"}


def test_an_e_mail_that_somebody_else_once_had_stays(home: Home, resolved: Any) -> None:
    home.deliver("shop_customers", DAY, [customer("C1", "lea@mail.example")])
    home.deliver(
        "shop_customers",
        DAY,
        [customer("C2", "lea@mail.example"), customer("C2", "tom@mail.example", 2)],
        name="part_02.csv",
    )
    records = [("C1", "lea@mail.example", "A1"), ("C2", "tom@mail.example", "A2")]
    (lea,) = resolved(records, ("R1", "A1")).values()
    assert lea.emails == set() and ("email", "lea@mail.example") in lea.shared


def test_an_e_mail_that_only_an_older_version_holds_may_be_that_account_s(home: Home, tmp_path: Path) -> None:
    """Whoever has the mailbox now may ask, or the one who gave it up: that is for somebody to say."""
    home.deliver("shop_customers", DAY, [customer("C1", "old@mail.example"), customer("C1", "new@mail.example", 2)])
    asked = {"kind": "erasure", "received_at": BEFORE}
    keys = {
        "OLD": ("email", " OLD@mail.example"),
        "NEWS": ("email", "news@mail.example"),
        "TEL": ("phone", "0612345678"),
        "DOT": ("email", "le.a@gmail.com"),
    }
    wrong = {"request_id": "NEWS", **asked, "key_type": "email", "key_value": "typo@mail.example"}
    home.deliver("privacy_requests", DAY - timedelta(days=1), [wrong])
    home.deliver(
        "privacy_requests",
        DAY,
        [{"request_id": name, **asked, "key_type": key[0], "key_value": key[1]} for name, key in keys.items()],
    )
    home.take_in()
    release = write_release(tmp_path / "release", [("C1", "new@mail.example", "A1"), ("C2", "lea+x@gmail.com", "A2")])
    with duckdb.connect(str(release / "cocanal.duckdb")) as connection:
        connection.execute("create schema account; create schema landing")
        connection.execute(
            """
            create table account.request_deadlines as
            select unnest(['OLD', 'NEWS', 'TEL', 'DOT', 'DONE']) as request_id, 'erasure' as kind, 0 as account_count,
                'open' as state
            """
        )
        connection.execute("create table landing.files (feed varchar, file varchar, delivered_on date, sha256 varchar)")
        connection.executemany(
            "insert into landing.files values (?, ?, ?, ?)",
            [(each.feed, each.file, each.delivered_on, each.sha256) for each in read_versions(home.register)],
        )
    with duckdb.connect() as connection:
        found = requests_without_account(connection, release, home.raw, "erasure", ["DONE"], "FR")
    assert {each.request_id: (each.key_value, each.past_account_ids) for each in found} == {
        "OLD": ("old@mail.example", ("A1",)),
        "NEWS": ("news@mail.example", ()),
        "TEL": ("+33612345678", ()),
        "DOT": ("le.a@gmail.com", ("A2",)),
    }


def test_what_two_people_of_one_erasure_share_goes_with_both(home: Home, resolved: Any) -> None:
    home.deliver("shop_customers", DAY, [customer("C1", "both@mail.example"), customer("C2", "both@mail.example")])
    records = [("C1", "both@mail.example", "A1"), ("C2", "both@mail.example", "A2")]
    found = resolved(records, ("R1", "A1"), ("R2", "A2"))
    assert [found[request].emails for request in ("R1", "R2")] == [{"both@mail.example"}] * 2


def test_an_address_that_somebody_s_own_ends_with_or_writes_in_other_letters_is_not_the_person_s_alone(
    home: Home, resolved: Any
) -> None:
    """The search would find it in the other's record after the erasure, again and again."""
    addresses = {
        "C1": "12 rue de la Paix",
        "C2": "Résidence les Lilas, 12 RUE DE LA PAIX",
        "C3": "3 allée des Hêtres",
        "C4": "13 allée des Hêtres",
    }
    home.deliver(
        "shop_customers",
        DAY,
        [{**customer(number, f"{number}@mail.example"), "address_line1": line} for number, line in addresses.items()],
    )
    records = [(number, f"{number.lower()}@mail.example", number.replace("C", "A")) for number in addresses]
    found = resolved(records, ("R1", "A1"), ("R3", "A3"))
    assert found["R1"].addresses == set() and ("address", "12 rue de la Paix") in found["R1"].shared
    assert found["R3"].addresses == {"3 allée des Hêtres"}


def test_an_e_mail_that_somebody_else_gave_with_a_slip_of_the_domain_is_not_the_person_s_alone(
    home: Home, resolved: Any
) -> None:
    """The identity stage mends the slip every night: the address would be back, and stand with the other."""
    home.deliver("shop_customers", DAY, [customer("C1", "lea@mail.example"), customer("C2", "lea@mial.example")])
    records = [("C1", "lea@mail.example", "A1"), ("C2", "lea@mial.example", "A2")]
    (lea,) = resolved(records, ("R1", "A1")).values()
    assert lea.emails == set() and ("email", "lea@mail.example") in lea.shared


def test_a_value_goes_whatever_its_type_is_called(home: Home) -> None:
    """A consent with a type that the contract does not know is refused by staging, and lies in raw all the same."""
    consent = {"purpose": "prospecting", "channel": "email", "status": "granted", "occurred_at": BEFORE}
    keys = [("mail", "Lea@mail.example"), ("mail", "zoe@mail.example"), ("nbr", "C1"), ("phone", "C1")]
    home.deliver(
        "consents",
        DAY,
        [
            {**consent, "consent_id": f"K{number}", "key_type": type_, "key_value": value}
            for number, (type_, value) in enumerate(keys)
        ],
    )
    home.take_in()
    home.erase()
    assert home.rows("consents", "key_value") == [("C1",), ("zoe@mail.example",), (None,), (None,)]


def test_tombstones_that_are_there_already_are_not_added_again(home: Home) -> None:
    key, page = read_key(home.home / "privacy"), home.home / "privacy" / "tombstones.jsonl"
    add_tombstones(page, tombstones_of(key, LEA))
    told = page.read_text()
    assert len(told.splitlines()) == read_tombstones(page).num_rows == 5
    add_tombstones(page, tombstones_of(key, LEA))
    assert page.read_text() == told


def test_tombstones_without_a_moment_s_fraction_are_read(home: Home) -> None:
    """As pages of older versions may hold them."""
    page = home.home / "privacy" / "tombstones.jsonl"
    page.parent.mkdir(parents=True)
    page.write_text(
        '{"because": "erasure", "keyed_hash": "ab", "type": "email", "until_at": "2020-07-08T12:00:00"}\n'
        '{"because": "retention", "keyed_hash": "cd", "type": "phone", "until_at": "2020-07-08T23:59:59.999999"}\n'
    )
    moments = [datetime(2020, 7, 8, 12), datetime(2020, 7, 8, 23, 59, 59, 999999)]
    assert read_tombstones(page).column("until_at").to_pylist() == moments


def test_many_people_are_found_in_the_texts_of_a_release(tmp_path: Path) -> None:
    """A tenth of a retailer at once: a pattern of all their words cannot be made."""
    release = tmp_path / "releases" / "20200710T000000Z"
    release.mkdir(parents=True)
    with duckdb.connect(str(release / "restricted.duckdb")) as connection:
        connection.execute("create schema staging")
        connection.execute(
            """
            create table staging.refused_rows as
            select 'shop_customers' as feed, 'C' || i as record_id, 'C|P' || i || '@mail.example|x' as delivered_row
            from range(30000) as t(i)
            union all
            select 'consents', 'K1|email|' || sha256('p7@mail.example'), null
            """
        )
    manifest = dict.fromkeys(("as_of", "inputs", "fingerprint")) | {"files": [], "tables": []}
    (release / "manifest.json").write_text(json.dumps(manifest))
    many = replace(
        LEA,
        records=frozenset(),
        customer_ids=frozenset(),
        emails=frozenset(f"p{number}@mail.example" for number in range(20_000)),
    )
    with duckdb.connect() as connection:
        (erased,) = erase_in_releases(connection, tmp_path, [many], at=NOW)
    assert erased.blanked_row_count == 20_001
    with duckdb.connect(str(release / "restricted.duckdb"), read_only=True) as connection:
        left = connection.execute(
            "select count(delivered_row), count(*) filter (where feed = 'consents' and record_id is null)"
            " from staging.refused_rows"
        ).fetchall()
    assert left == [(10_000, 1)]


def test_a_card_that_somebody_else_s_web_account_names_goes_from_there_and_the_rest_stays(home: Home) -> None:
    home.deliver("shop_customers", DAY, [{**customer("C2", "zoe@mail.example"), "loyalty_card_id": "29000001"}])
    home.take_in()
    subject = replace(LEA, card_ids=frozenset({"29000001"}), spared=frozenset({("shop_customers", "C2")}))
    home.erase(subject)
    assert home.rows("shop_customers", "customer_id, email, loyalty_card_id") == [("C2", "zoe@mail.example", None)]


def test_a_payment_token_in_a_row_that_could_not_be_read_goes_too(home: Home) -> None:
    """A ticket with cells too many is kept as a text."""
    path = home.landing / "pos_tickets" / str(DAY) / "part_01.csv"
    path.parent.mkdir(parents=True)
    head = "ticket_id;store_id;sold_at;kind;total_amount;payment_token"
    path.write_text(
        f"{head}\nT1;S1;01/07/2020 10:00:00;sale;12,50;tok_1;;;;x\nT2;S1;01/07/2020 10:00:00;sale;9,50;tok_2\n"
    )
    home.take_in()
    assert "tok_1" in str(home.rows("pos_tickets", "_text"))
    home.erase(replace(LEA, payment_tokens=frozenset({"tok_1"})))
    assert "tok_1" not in str(home.rows("pos_tickets", "_text"))
