"""Why records are one account, why some have none, and that nobody's data is seen who was not asked for."""

import json
import os
import random
import re
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import networkx
import pytest
import yaml
from typer.testing import CliRunner

from dagster_project.cli import app
from dagster_project.domain.identity import explanation as explained
from dagster_project.domain.identity import explanation_page as drawn
from dagster_project.domain.identity import explanation_words as told
from dagster_project.domain.identity import resolve
from dagster_project.project import DBT_DIRECTORY

DOCS = Path(__file__).parents[2] / "docs"
TODAY, BEFORE = "20200702T010000Z", "20200701T010000Z"

CAMILLE = {
    "first_name": "Camille", "last_name": "Moreau", "birth_date": "1986-04-12", "phone": "+33465710001",
    "address_line1": "14 rue des Remparts", "postal_code": "44000", "city": "Nantes", "country": "FR",
}  # fmt: skip
TWIN = {
    "last_name": "Fontaine", "birth_date": "1997-06-21", "phone": "+33199000010",
    "address_line1": "22 quai de la Fosse", "postal_code": "44100", "city": "Rezé",
}  # fmt: skip
TRAP = {"first_name": "<script>alert(1)</script>", "last_name": "Pi\x1b[31mège", "email": "trap@evil.example"}
STRANGER = {"first_name": "Odilon", "last_name": "Vandermeersch", "birth_date": "1950-01-09"}
PERSONAL = {
    str(value)
    for person in (CAMILLE, TWIN, STRANGER, {"first_name": "Emma"}, {"first_name": "Léa"})
    for name, value in person.items()
    if name != "country"
} | {
    "camille.moreau", "c.moreau86", "poste.example", "emma.fontaine", "lea.fontaine", "mail.example", "12/04/1986",
    "21/06/1997", "Remparts", "<script>", "65 71", "Quentin", "Barbier", "desk-of",
}  # fmt: skip


def customer(number: str, **said: Any) -> dict[str, Any]:
    return {"customer_id": number, "created_at": "2019-01-01", "updated_at": "2019-01-01", **said}


def card(number: str, **said: Any) -> dict[str, Any]:
    return {"card_id": number, "enrolled_at": "2019-02-01", "updated_at": "2019-02-01", **said}


def order(number: str, **said: Any) -> dict[str, Any]:
    return {"order_id": number, "ordered_at": "2019-03-01", "updated_at": "2019-03-01", **said}


def ticket(number: str, **said: Any) -> dict[str, Any]:
    return {"ticket_id": number, "sold_at": "2019-04-01", "ticket_type": "sale", **said}


def without(person: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in person.items() if name not in names}


def rows(second: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    no_date = without(CAMILLE, "birth_date")
    return {
        "shop_customers": [
            customer("C1", email="camille.moreau@poste.example", **CAMILLE),
            customer("C2", **second),
            customer("C3", email="camille.moreau@poste.example", **no_date),
            customer("E1", first_name="Emma", email="emma.fontaine@mail.example", **TWIN),
            customer("E2", first_name="Léa", email="lea.fontaine@mail.example", **TWIN),
            customer("X1", **TRAP),
            customer("Q1", first_name="Quentin", last_name="Barbier", email="desk-of@quentin.example"),
        ],
        "loyalty_members": [
            card("L1", **CAMILLE),
            card("K1", first_name="Till"),
            card("Q2", first_name="Quentin", last_name="Barbier"),
        ],
        "shop_orders": [
            order("W1", customer_id="C1", email="camille.moreau@poste.example", **no_date),
            order("G1", email="camille.moreau@poste.example", **no_date),
        ],
        "pos_tickets": [
            ticket("TL", loyalty_card_id="L1", payment_token="tok-camille"),
            ticket("TE", email="camille.moreau@poste.example"),
            ticket("TP", payment_token="tok-camille"),
            ticket("TS", phone=TWIN["phone"]),
            ticket("TN", email="nobody-known@mail.example"),
            *(ticket(f"B{n}", loyalty_card_id="K1", sold_at=f"2019-05-{1 + n // 4:02d}") for n in range(40)),
        ],
        "identity_decisions": [
            {
                "decision_id": "D1", "left_feed": "shop_customers", "left_id": "Q1", "right_feed": "loyalty_members",
                "right_id": "Q2", "decision": "same", "decided_by": "steward", "decided_at": "2020-01-01",
            }
        ],
    }  # fmt: skip


def publish(connection: duckdb.DuckDBPyConnection, directory: Path) -> None:
    """What a release keeps of the stage, in the two databases in which it keeps it."""
    directory.mkdir(parents=True)
    source = yaml.safe_load((DBT_DIRECTORY / "models" / "identity" / "identity.yml").read_text(encoding="utf-8"))
    readers = {table["name"]: table["config"]["meta"]["release"] for table in source["sources"][0]["tables"]}
    for reader, file in (("analysts", "cocanal.duckdb"), ("restricted", "restricted.duckdb")):
        connection.execute(f"attach '{directory / file}' as out; create schema out.identity")
        for name in (name for name, read_by in readers.items() if read_by == reader):
            connection.execute(f"create table out.identity.{name} as from identity.{name}")
        if reader == "analysts":
            connection.execute(
                """
                create schema out.account;
                create table out.account.transactions as
                select 'shop_refunds' as feed, 'R1' as record_id, account_id from identity.account_links
                where record_id = 'W1'
                union all select 'pos_tickets', 'T0', null
                """
            )
        connection.execute("detach out")
    (directory / "manifest.json").write_text("{}", encoding="utf-8")


@pytest.fixture(scope="module")
def home(staging_database, tmp_path_factory) -> Path:
    """Two nights; before the second, web account C2 was somebody else's, and was then corrected to Camille."""
    home = tmp_path_factory.mktemp("home")
    previous = None
    for night, second in (
        (BEFORE, {**STRANGER, "email": "odilon@mail.example"}),
        (TODAY, {**CAMILLE, "email": "c.moreau86@mail.example"}),
    ):
        connection = staging_database(rows(second))
        resolve(connection, as_of=date(2020, 7, int(night[7])), run_id=night, previous=previous)
        publish(connection, home / "releases" / night)
        previous = home / "releases" / night / "cocanal.duckdb"
    (home / "releases" / "current").symlink_to(TODAY)
    return home


@pytest.fixture(scope="module")
def release(home):
    with duckdb.connect() as connection:
        explained.attach_release(connection, home / "releases" / TODAY)
        yield connection


@pytest.fixture(scope="module")
def every_account(release) -> list[explained.AccountExplanation]:
    accounts = release.execute("select distinct account_id from cocanal.identity.account_links order by all").fetchall()
    return [explained.explain(release, account_id) for (account_id,) in accounts]


@pytest.fixture(scope="module")
def camille(release) -> explained.AccountExplanation:
    return explained.explain(release, "shop_customers:C1")


def call(home: Path, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["explain", *words, "--home", str(home)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout + result.stderr


def text(output: str) -> str:
    return " ".join(output.split())


def test_the_account_of_camille_is_told_by_records_pairs_and_weakest_link(camille):
    assert camille.feeds == {"shop_customers": 3, "loyalty_members": 1, "shop_orders": 2, "pos_tickets": 2}
    assert told.say_records(camille) == "8 records: 3 web accounts, 1 loyalty card, 2 web orders, 2 till tickets."
    assert camille.pairs and all(pair.decision == "accepted" for pair in camille.pairs)
    assert camille.weakest is not None
    assert camille.weakest.pair in camille.pairs
    assert len(camille.weakest.parted) + camille.weakest.kept_count == 5
    said = " ".join(told.say_together(camille))
    assert "The weakest link is" in said
    assert "need no pair" in said


def test_records_that_say_the_same_need_no_pair(camille):
    voices = {str(record.ref): str(record.voice) for record in camille.records if record.voice}
    assert voices["shop_orders:G1"] == voices["shop_orders:W1"] == voices["shop_customers:C3"] == "shop_customers:C3"
    ends = {str(end) for pair in camille.pairs for end in (pair.left, pair.right)}
    assert ends == set(voices.values())


def test_the_weakest_link_is_the_last_that_gives_way(camille):
    graph = networkx.Graph()
    for pair in camille.pairs:
        graph.add_edge(pair.left, pair.right, weight=pair.weight)
    tree = networkx.maximum_spanning_tree(graph)
    assert camille.weakest.pair.weight == min(weight for *_, weight in tree.edges(data="weight"))
    graph.remove_edges_from(
        [pair for *pair, weight in graph.edges(data="weight") if weight <= camille.weakest.pair.weight]
    )
    assert not networkx.is_connected(graph)


def test_the_tree_is_a_maximum_spanning_forest_of_random_graphs():
    draw = random.Random(7)
    refs = [explained.Ref("shop_orders", f"{n:02d}") for n in range(12)]
    for _ in range(40):
        graph = networkx.Graph()
        graph.add_nodes_from(refs)
        pairs = []
        for _ in range(draw.randrange(0, 30)):
            one, other = sorted(draw.sample(refs, 2))
            if not graph.has_edge(one, other):
                weight = draw.choice((3.0, 7.5, draw.uniform(3, 60)))
                graph.add_edge(one, other, weight=weight)
                pairs.append(explained.Pair(one, other, "email", "accepted", None, weight, ""))
        parts, tree = explained.spanning_tree(refs, pairs)
        best = networkx.maximum_spanning_tree(graph)
        assert sum(pair.weight for pair in tree) == pytest.approx(best.size(weight="weight"))
        assert {frozenset(ref for ref in refs if parts[ref] == part) for part in parts.values()} == {
            frozenset(part) for part in networkx.connected_components(graph)
        }


def test_every_waterfall_ends_at_the_weight_and_only_names_leave_something_over(every_account):
    pairs = [
        pair
        for found in every_account
        for pair in (*found.pairs, *found.side_pairs, *found.inside, *(refusal.pair for refusal in found.refusals))
    ]
    assert any(pair.weight is None for pair in pairs)
    assert {"customer_id", "phone"} <= {pair.rule for pair in pairs}
    for pair in pairs:
        assert bool(pair.parts) == (pair.weight is not None)
        if pair.parts:
            assert sum(part.weight for part in pair.parts) == pytest.approx(pair.weight, abs=0.001)
            names = [part.name for part in pair.parts]
            assert names[0] == "prior"
            assert ("declared" in names) == (pair.rule in ("customer_id", "card"))
            if not {"one given name", "one family name"} & set(pair.evidence.split("; ")):
                assert "rarity" not in names


def test_the_twins_are_two_accounts_and_the_refusal_says_why(release):
    emma, lea = (explained.explain(release, f"shop_customers:{number}") for number in ("E1", "E2"))
    assert emma.account_id != lea.account_id
    (refusal,) = emma.refusals
    assert (refusal.account_id, refusal.pair.reason) == (lea.account_id, "given_name")
    assert str(refusal.other) == "shop_customers:E2"
    assert "another given name" in told.say_reason(refusal.pair)
    assert emma.household_id == lea.household_id is not None
    assert set(emma.household) == {lea.account_id}
    assert emma.weakest is None
    assert told.say_together(emma) == ["One record of a person: no pair was needed."]


def test_a_stewards_decision_is_told_and_is_the_strongest_link(release):
    found = explained.explain(release, "loyalty_members:Q2")
    (decided,) = found.decided
    assert (decided.rule, decided.weight) == ("decision", None)
    assert told.say_decision(decided).endswith("are one person.")
    assert found.weakest.pair.rule == "decision"


def test_a_ticket_with_a_demoted_card_is_anonymous_for_that_reason(release):
    found = explained.explain(release, "pos_tickets:B1")
    assert isinstance(found, explained.AnonymousExplanation)
    (reason,) = told.say_why_anonymous(found)
    assert reason.startswith("Its card is demoted and links nobody: it is used like a tool of many")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("pos_tickets:TS", "Its phone is held by 2 accounts"),
        ("pos_tickets:TP", "the policy asks for 3 times"),
        ("pos_tickets:T0", "It carries no card, e-mail, phone or payment card"),
    ],
)
def test_an_anonymous_record_says_what_its_keys_are_worth(release, record, reason):
    found = explained.explain(release, record)
    assert isinstance(found, explained.AnonymousExplanation)
    assert reason in " ".join(told.say_why_anonymous(found))


def test_a_record_that_names_nobody_may_be_all_that_is_known(release):
    found = explained.explain(release, "pos_tickets:TN")
    assert [str(ref) for ref in found.by_key] == ["pos_tickets:TN"]
    assert "names nobody" in " ".join(told.say_together(found))


def test_a_refund_leads_to_the_account_of_its_order(release, camille):
    assert explained.explain(release, "shop_refunds:R1").account_id == camille.account_id


def test_an_old_id_leads_to_the_account_of_today_and_says_so(home, release, camille):
    ((old, account_id),) = release.execute("from cocanal.identity.account_redirects").fetchall()
    code, output = call(home, old)
    assert code == 0
    assert f"{old} is an id of an earlier release; its records are now in {account_id}." in output
    assert account_id == camille.account_id
    assert any(event.event == "merged" for event in camille.events)
    code, output = call(home, old, "--release", BEFORE)
    assert code == 0
    assert "1 record: 1 web account." in output


@pytest.mark.parametrize("asked", ["A0000", "pos_tickets:NONE", "moon:1", "'; drop table x; --", ""])
def test_what_is_not_there_is_a_sentence_and_exit_code_2(home, asked):
    code, output = call(home, asked)
    assert code == 2
    assert "There is no " in output
    assert "Traceback" not in output


def test_no_release_and_no_reason_are_wrong_use(home, tmp_path):
    assert call(tmp_path, "A1")[0] == 2
    code, output = call(home, "shop_customers:C1", "--html", str(tmp_path / "nowhere" / "page.html"))
    assert code == 2
    assert "page.html cannot be written" in text(output)
    assert call(home, "shop_customers:C1", "--release", "20200101T000000Z")[0] == 2
    for words in (["--show-personal-data"], ["--because", "curious"], ["--show-personal-data", "--because", " "]):
        code, output = call(home, "shop_customers:C1", *words)
        assert code == 2
        assert "go together" in output
        assert "Camille" not in output


def test_no_personal_value_of_the_cast_is_in_the_output_or_the_page(home, every_account):
    for found in every_account:
        code, output = call(home, found.account_id)
        assert code == 0
        page = (home / "explain" / f"{found.account_id}.html").read_text(encoding="utf-8")
        for shown in (output, page):
            seen = [value for value in PERSONAL if value.lower() in shown.lower()]
            assert not seen, found.account_id
    assert not (home / "explain" / "access.log").exists()


@pytest.mark.parametrize(
    ("masked", "expected"),
    [
        (told.mask_name("Camille"), "C•••••"),
        (told.mask_email("camille.moreau@poste.example"), "c•••@p•••"),
        (told.mask_email("not an address"), "•••"),
        (told.mask_phone("+33465710001"), "+33 • •• •• •• 01"),
        (told.mask_phone("+442079460001"), "••••• 01"),
        (told.mask_phone("12"), "••••• ••"),
        (told.mask_address("14 rue des Remparts", "44000 Nantes", "44000"), "•••••, 44•••"),
        (told.mask_address("", "Nantes", ""), "•••"),
    ],
)
def test_masks_keep_little(masked, expected):
    assert masked == expected


def test_the_page_and_its_folder_are_for_the_owner_alone(home, camille, tmp_path):
    old = os.umask(0)
    try:
        call(home, camille.account_id)
        call(home, camille.account_id, "--html", str(tmp_path / "page.html"))
    finally:
        os.umask(old)
    assert (home / "explain").stat().st_mode & 0o777 == 0o700
    for page in (home / "explain" / f"{camille.account_id}.html", tmp_path / "page.html"):
        assert page.stat().st_mode & 0o777 == 0o600


def test_who_looks_at_personal_data_is_written_down_first_and_without_the_data(home, camille, tmp_path):
    words = (
        "shop_customers:C1",
        "--show-personal-data",
        "--because",
        "complaint\n4711",
        "--html",
        str(tmp_path / "p.html"),
    )
    code, output = call(home, *words)
    assert code == 0
    assert "camille.moreau@poste.example" in re.sub(r"\s", "", output)
    assert "14 rue des Remparts" in (tmp_path / "p.html").read_text(encoding="utf-8")
    log = home / "explain" / "access.log"
    assert log.stat().st_mode & 0o777 == 0o600
    (line,) = log.read_text(encoding="utf-8").splitlines()
    entry = json.loads(line)
    assert (entry["account"], entry["because"]) == (camille.account_id, "complaint\n4711")
    assert set(entry) == {"at", "user", "account", "because"}
    log.unlink()


def test_where_the_access_cannot_be_written_down_nothing_is_shown(home, tmp_path):
    blocked = tmp_path / "home"
    blocked.mkdir()
    (blocked / "releases").symlink_to(home / "releases")
    (blocked / "explain").mkdir()
    (blocked / "explain" / "access.log").mkdir()
    code, output = call(blocked, "shop_customers:C1", "--show-personal-data", "--because", "complaint 4711")
    assert code == 2
    assert "cannot be written" in output
    assert "Camille" not in output
    assert not list((blocked / "explain").glob("*.html"))


def test_a_script_in_a_name_is_text(home, release, tmp_path):
    code, output = call(
        home, "shop_customers:X1", "--show-personal-data", "--because", "test", "--html", str(tmp_path / "p.html")
    )
    (home / "explain" / "access.log").unlink()
    assert code == 0
    assert "\x1b[31m" not in output
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)" in page
    assert "<script" not in page
    assert "\x1b" not in page


def test_keys_and_reasons_of_others_are_escaped_too(camille):
    evil = explained.Ref("shop_orders", '"><img src=x onerror=alert(1)>')
    pair = replace(camille.pairs[0], right=evil, evidence="<b>bold</b>", decision="refused", reason="<i>")
    refusal = explained.Refusal(pair, camille.pairs[0].left, evil, "<u>")
    record = replace(camille.records[0], ref=evil)
    page = drawn.render_page(replace(camille, refusals=(refusal,), records=(record,), pairs=(pair,)), release_id="<s>")
    assert not re.search(r"<(img|b|i|u|s)>|<img", page)


def test_a_page_is_small_and_asks_nobody(every_account):
    for found in every_account:
        page = drawn.render_page(found, release_id=TODAY)
        assert len(page) < 100_000
        assert not re.search(r"https?:|<script|<link|@import|url\(|src=", page)
        assert page.count("<figure><svg") == sum(pair.weight is not None for pair in found.pairs[: drawn.DRAWN_PAIRS])


def test_of_a_large_account_some_records_are_drawn_and_the_rest_counted(camille):
    tickets = [
        replace(camille.records[-1], ref=explained.Ref("pos_tickets", f"N{n}"), parent=camille.records[n % 3].ref)
        for n in range(400)
    ]
    page = drawn.render_page(
        replace(camille, records=(*camille.records, *tickets), feeds={"pos_tickets": 408}),
        release_id=TODAY,
    )
    assert page.count("<circle") == drawn.DRAWN_RECORDS
    assert "348 more records are not drawn" in page


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        (None, "decided by a person"),
        (3.0, "likely, 8 to 1"),
        (3.32, "likely, 10 to 1"),
        (11.0, "almost certain, 2\u202f000 to 1"),
        (25.95, "as good as certain, 65 million to 1"),
        (60.2, "as good as certain, over a trillion to 1"),
        (-2.0, "rather unlikely, 1 to 4"),
    ],
)
def test_a_weight_is_also_said_as_odds(weight, words):
    assert told.odds(weight) == words


def test_the_sql_of_the_page_runs_and_agrees_with_the_command(home, every_account, monkeypatch):
    page = (DOCS / "identity-explained.md").read_text(encoding="utf-8")
    monkeypatch.chdir(home / "releases" / "current")
    with duckdb.connect() as connection:
        for snippet in re.findall(r"```sql\n(.*?)```", page, re.DOTALL):
            connection.execute(snippet)
        for found in every_account:
            ((records,),) = connection.execute(
                "select count(*) from explained_records where account_id = ?", [found.account_id]
            ).fetchall()
            assert records == found.record_count
            ((pairs,),) = connection.execute(
                "select count(*) from explained_pairs where account_id = ?", [found.account_id]
            ).fetchall()
            assert pairs == len(found.pairs)
            weakest = connection.execute("select weight from weakest_link(?)", [found.account_id]).fetchall()
            expected = (
                []
                if found.weakest is None
                else [(1000.0 if found.weakest.pair.weight is None else found.weakest.pair.weight,)]
            )
            assert weakest == expected
            ((refusals,),) = connection.execute(
                "select count(*) from explained_refusals where ? in (account_id, other_account_id)", [found.account_id]
            ).fetchall()
            assert refusals == len(found.refusals)
