"""Who asks what is held on them reads all of it, in their own words and in ours, and nothing of anybody else."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pipeline.test_erasure import PERSONS, SEED, Truth
from typer.testing import CliRunner

from dagster_project.cli import app
from dagster_project.domain.release import DATABASES, ReleaseError
from dagster_project.privacy import give_access, requests
from dagster_project.settings import Settings, SettingsError
from dagster_project.warehouse import Warehouse

NOW = datetime(2020, 7, 12, 9, 0, tzinfo=UTC)


def query(home: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(home / "releases/current" / DATABASES["analysts"]), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def requests_of(home: Path, kind: str) -> list[tuple[str, str]]:
    """The requests of a kind that are about one account."""
    return query(
        home,
        f"""
        select request_id, any_value(account_id) from account.requests
        where kind = '{kind}' and is_subject group by request_id having count(*) = 1 order by 1
        """,
    )


@pytest.fixture
def settings(home: Path, settings_of: Any) -> Settings:
    found: Settings = settings_of(home)
    return found


def test_an_access_holds_all_of_the_person_and_nothing_of_anybody_else(
    home: Path, settings: Settings, retailer: Any
) -> None:
    truth = Truth(retailer, SEED, PERSONS)
    asked = requests_of(home, "access")
    assert asked
    for request, account in asked:
        page, data = give_access(settings, request, NOW, "letter of 01/07/2020")
        told = {path: path.read_text(encoding="utf-8") for path in (page, data)}
        records = query(home, f"select feed, record_id from identity.account_links where account_id = '{account}'")
        people = {truth.persons[record] for record in records if record in truth.persons}
        own = set().union(*(truth.held[person] for person in people))
        others = set().union(*(held for person, held in truth.held.items() if person not in people)) - own
        numbers = {number for person, each in truth.numbers.items() if person not in people for number in each}
        assert own and others
        for path, text in told.items():
            small = text.lower()
            compact = small.replace(" ", "")
            for word in own:
                assert word in small or "0" + word[3:] in compact, path
            assert not [word for word in others if word in small or ("0" + word[3:] in compact and word[0] == "+")]
            assert numbers.isdisjoint(re.findall(r"\w+", text)), path
            assert {record for _, record in records} <= set(re.findall(r"[\w|]+", text)), path
            assert path.stat().st_mode & 0o777 == 0o600
        gathered = json.loads(told[data])
        purchases = query(home, f"select count(*) from account.transactions where account_id = '{account}'")
        (section,) = [each for each in gathered["sections"] if each["table"] == "account.transactions"]
        assert len(section["rows"]) == purchases[0][0]
        for feed in gathered["delivered"].values():
            assert all(row["file"] and row["line"] and row["delivered on"] for row in feed["rows"])
        log = (home / "explain/access.log").read_text(encoding="utf-8")
        assert request in log and "letter of 01/07/2020" in log
        assert not [word for word in own if word in log]


def test_an_access_counts_as_carried_out_at_once_and_at_the_next_night(
    home: Path, settings: Settings, run_in: Any
) -> None:
    (request, _), *_ = requests_of(home, "access")
    shown = CliRunner().invoke(app, ["privacy", "access", request, "--because", "asked", "--home", str(home)])
    assert shown.exit_code == 0, shown.output
    listed = CliRunner().invoke(app, ["privacy", "list", "--home", str(home)])
    (line,) = [line for line in listed.output.splitlines() if request in line]
    assert "carried out" in line
    assert run_in(home).outcome == "released"
    state = query(home, f"select state from account.request_deadlines where request_id = '{request}'")
    assert state == [("carried out",)]


def test_an_erasure_is_not_carried_out_by_an_access(home: Path, settings: Settings) -> None:
    """It would count as carried out, and nobody would ever be erased."""
    for kind in ("erasure", "objection"):
        (request, _), *_ = requests_of(home, kind)
        with pytest.raises(ReleaseError, match=f"is a request for {kind}"):
            give_access(settings, request, NOW, "asked")
    assert not (home / "privacy" / "access").exists()


def test_an_access_needs_a_reason_and_one_person(home: Path, settings: Settings) -> None:
    (request, _), *_ = requests_of(home, "access")
    with pytest.raises(SettingsError, match="Say why"):
        give_access(settings, request, NOW, "  ")
    with pytest.raises(ReleaseError, match="knows nobody"):
        give_access(settings, "NOBODY", NOW, "asked")
    assert not (home / "explain" / "access.log").exists()


def test_a_reader_of_the_newsletter_without_an_account_is_told_what_is_held(home: Path, settings: Settings) -> None:
    page, data = give_access(settings, "RQ1", NOW, "asked")
    gathered = json.loads(data.read_text(encoding="utf-8"))
    delivered = {feed: [row[key] for row in gathered["delivered"].pop(feed)["rows"]] for feed, key in (
        ("consents", "consent_id"), ("message_events", "event_id"), ("privacy_requests", "request_id"),
    )}  # fmt: skip
    assert delivered == {"consents": ["RK1"], "message_events": ["RE1"], "privacy_requests": ["RQ1"]}
    assert gathered["delivered"] == {}
    assert not [section["table"] for section in gathered["sections"] if section["rows"]]
    text = page.read_text(encoding="utf-8").lower()
    assert "curious.reader@post.example" in text
    assert "news.only@post.example" not in text
    with Warehouse(settings).scratch() as connection:
        states = {each.request_id: each.state for each in requests(connection, settings)}
    assert states["RQ1"] == "carried out"
