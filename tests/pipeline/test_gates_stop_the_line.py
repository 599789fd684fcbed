"""One corruption per stage: exactly that gate stops the run, nothing after it is built, the release does not move."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from dagster_project.domain import release
from dagster_project.stages import STAGES

TONIGHT = date(2020, 7, 11)


def web_events(count: int, occurred_at: str = "2020-07-10T12:00:00Z") -> list[dict[str, Any]]:
    return [
        {"event_id": f"WN{n}", "session_id": "V1", "event": "visit", "occurred_at": occurred_at} for n in range(count)
    ]


def sql(statement: str) -> Callable[[duckdb.DuckDBPyConnection, Path], object]:
    return lambda connection, home: connection.execute(statement)


def add_a_stranger_to_a_file(connection: duckdb.DuckDBPyConnection, home: Path) -> None:
    (path,) = home.glob("releases/.building-*/audiences/new_omnichannel/email_tool.csv")
    with path.open("a", encoding="utf-8") as out:
        out.write("stranger@mail.example,Stranger,new_omnichannel\n")


def cut_the_database(connection: duckdb.DuckDBPyConnection, home: Path) -> None:
    (path,) = home.glob("releases/.building-*/cocanal.duckdb")
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-4096])


@dataclass(frozen=True)
class Corruption:
    """What is wrong, on which seam, and which statement must say so; ``tonight`` are the rows of the night's file."""

    stage: str
    statement: str
    names: str
    tonight: list[dict[str, Any]]
    happen: Callable[[duckdb.DuckDBPyConnection, Path], object] = lambda connection, home: None


CORRUPTIONS = [
    Corruption("landing", "volume_is_not_a_fraction_of_the_usual", "web_events of 2020-07-11", web_events(9)),
    Corruption(
        "staging",
        "quarantine_is_small",
        "web_events of 2020-07-11, 60 rows: occurred_at unreadable_value 60",
        [*web_events(60, "31/02/2020 25:61"), *[dict(row, event_id=f"G{n}") for n, row in enumerate(web_events(60))]],
    ),
    Corruption(
        "identity",
        "each_record_has_one_account",
        "shop_customers",
        web_events(100),
        sql(
            """
            insert into remembered.account_links by name
            select * replace ((select max(account_id) from identity.account_links) as account_id)
            from identity.account_links where feed = 'shop_customers' order by record_id limit 1
            """
        ),
    ),
    Corruption(
        "account",
        "the_books_balance",
        "online 20",
        web_events(100),
        sql(
            """
            update account.reconciliation set delivered_amount = delivered_amount + 0.01
            where channel = 'online'
                and business_on = (select max(business_on) from account.reconciliation where channel = 'online')
            """
        ),
    ),
    Corruption(
        "segment",
        "each_account_has_one_segment_per_scheme",
        "lifecycle",
        web_events(100),
        sql(
            """
            delete from segment.account_segments
            where scheme = 'lifecycle' and account_id = (select min(account_id) from segment.account_segments)
            """
        ),
    ),
    Corruption(
        "audience",
        "nobody_is_contacted_without_consent",
        "email_tool",
        web_events(100),
        sql(
            """
            insert into audience.contact_points (kind, destination, account_id, identifier_type, identifier, position)
            select 'marketing', 'email_tool', account_id, 'email', 'nobody.asked@mail.example', 9
            from audience.members where destination = 'email_tool' order by account_id limit 1
            """
        ),
    ),
    Corruption(
        "activation",
        "each_file_holds_its_members",
        "new_omnichannel/email_tool.csv",
        web_events(100),
        add_a_stranger_to_a_file,
    ),
    Corruption("release", "every_file_is_as_written", "cocanal.duckdb", web_events(100), cut_the_database),
]


def stages_built(instance: dg.DagsterInstance) -> set[str]:
    (run,) = instance.get_runs()
    events = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    return {entry.asset_materialization.asset_key.to_user_string() for entry in events if entry.asset_materialization}


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda corruption: corruption.stage)
def test_exactly_the_gate_behind_the_corruption_stops_the_run(
    corruption: Corruption,
    home: Path,
    instance: dg.DagsterInstance,
    supplier: Any,
    broken_into: Any,
    settings_of: Any,
    run_in: Any,
    published: Any,
) -> None:
    supplier(home / "landing").deliver("web_events", TONIGHT, corruption.tonight)
    before = published(home)
    warehouse = broken_into(
        settings_of(home), f"{corruption.stage} gate", lambda connection: corruption.happen(connection, home)
    )

    # To ask for it does not help where people's rights or a file's integrity are at stake.
    accept = {"audience": "a colleague said so"} if corruption.stage == "audience" else {}
    night = run_in(home, warehouse=warehouse, accept=accept)

    assert (night.outcome, night.exit_code) == ("stopped", 3)
    assert {sentence.split(".")[0] for sentence in night.sentences} == {corruption.stage}
    (sentence,) = [
        words for words in night.sentences if words.startswith(f"{corruption.stage}.{corruption.statement}:")
    ]
    assert corruption.names in sentence
    assert "@" not in sentence

    walked = STAGES[: STAGES.index(corruption.stage) + 1]
    built = stages_built(instance)
    assert {name.split("/")[0] for name in built} == set(walked)
    assert "release/current" not in built
    with duckdb.connect(str(home / "warehouse.duckdb"), read_only=True) as connection:
        judged = connection.execute(
            "select gate, bool_and(is_passed or severity = 'warn') from release.gate_results group by gate"
        ).fetchall()
    assert dict(judged) == {stage: stage != corruption.stage for stage in walked}
    assert published(home) == before


def test_the_command_says_in_words_which_gate_stopped_and_what_to_do(home: Path, supplier: Any, published: Any) -> None:
    supplier(home / "landing").deliver("web_events", TONIGHT, web_events(9))
    before = published(home)
    told = subprocess.run(
        [str(Path(sys.executable).with_name("cocanal")), "run", "--home", str(home)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 3
    assert "A gate stopped the run; the last release stays as it was." in told.stderr
    assert "landing.volume_is_not_a_fraction_of_the_usual: found 0.09, expected at least 0.1" in told.stderr
    assert "web_events of 2020-07-11" in told.stderr
    assert "--accept landing --because" in told.stderr
    assert "Traceback" not in told.stderr
    assert published(home) == before


def test_an_accepted_gate_lets_one_night_pass_and_the_reason_is_kept(
    home: Path, instance: dg.DagsterInstance, supplier: Any, run_in: Any
) -> None:
    supplier(home / "landing").deliver("web_events", TONIGHT, web_events(9))
    night = run_in(home, accept={"landing": "the website was down"})
    assert night.outcome == "released"
    current = release.current_release(home)
    assert current is not None
    manifest = current.manifest()
    assert manifest["accepted_gates"] == [{"gate": "landing", "reason": "the website was down"}]
    accepted = [gate for gate in manifest["gates"] if gate["accepted_because"] and gate["severity"] == "stop"]
    assert [(gate["gate"], gate["statement"]) for gate in accepted] == [
        ("landing", "volume_is_not_a_fraction_of_the_usual")
    ]
    # Only once: the next small night has to be accepted again.
    supplier(home / "landing").deliver("web_events", TONIGHT + timedelta(days=1), web_events(9))
    assert run_in(home).outcome == "stopped"
