"""Trying another policy, and following a steward, on a built home."""

import csv
import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from typer.testing import CliRunner

from dagster_project.cli import app
from dagster_project.domain import release
from dagster_project.domain.identity import read_model
from dagster_project.identity_diff import dry_run
from dagster_project.run_lock import HomeIsBusy, hold_run_lock, release_run_lock


def everything(home: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file of a home: mode, time of change, content."""
    found = {}
    for path in sorted(home.rglob("*")):
        stat = path.lstat()
        content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[path.relative_to(home).as_posix()] = (stat.st_mode, stat.st_mtime_ns, content)
    return found


def test_the_same_policy_changes_nothing_and_another_threshold_says_what_it_would_move(
    home: Path, settings_of: Any, tmp_path: Path
) -> None:
    settings = settings_of(home)
    before = everything(home)
    told: list[str] = []

    same = dry_run(settings, announce=lambda step, seconds: told.append(step))
    assert same.differences.is_none
    assert same.broken_promises == ()
    assert same.differences.accounts_before == same.differences.accounts_after > 100
    assert same.differences.revenue.amount > 0
    assert all(each.before == each.after == each.both for each in same.differences.audiences)
    assert {"account", "segment", "audience", "comparison", "identity: clustering"} <= set(told)
    assert everything(home) == before

    strict = dry_run(settings, threshold=100.0)
    changes = strict.differences
    assert changes.split > 10
    assert changes.accounts_after >= changes.accounts_before + changes.split
    assert sum(each.moved for each in changes.records) > 10
    assert changes.revenue.moved_transactions + changes.revenue.anonymous_transactions > 10
    assert changes.revenue.moved_amount + changes.revenue.anonymous_amount > 0
    assert everything(home) == before

    # The same model in a file of its own is the same; the command says so and writes every figure.
    model = tmp_path / "model.json"
    model.write_text(json.dumps(asdict(read_model())))
    figures = tmp_path / "diff.json"
    told_by = CliRunner().invoke(
        app, ["identity", "diff", "--home", str(home), "--model", str(model), "--json", str(figures)]
    )
    assert told_by.exit_code == 0, told_by.stderr
    assert "Nothing would change." in told_by.stdout
    content = json.loads(figures.read_text())
    assert content["is_none"] is True
    assert content["differences"]["revenue"]["amount"] == pytest.approx(float(same.differences.revenue.amount))
    assert everything(home) == before


def test_a_dry_run_refuses_what_it_cannot_compare_and_leaves_nothing_behind(
    home: Path, settings_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(home)
    before = everything(home)

    hold_run_lock(settings.lock)
    with pytest.raises(HomeIsBusy, match="A run is writing"):
        dry_run(settings)
    release_run_lock(settings.lock)

    def broken(*_: object) -> list[str]:
        raise RuntimeError("a power cut")

    with monkeypatch.context() as patched:
        patched.setattr("dagster_project.identity_diff._build", broken)
        with pytest.raises(RuntimeError, match="a power cut"):
            dry_run(settings)
    assert everything(home) == before

    (tmp_path / "policy.yml").write_text("identifiers: {}\n")
    wrong = CliRunner().invoke(app, ["identity", "diff", "--home", str(home), "--policy", str(tmp_path / "policy.yml")])
    assert wrong.exit_code == 2
    assert "is no identifier policy" in " ".join(wrong.stderr.split())

    with duckdb.connect(str(settings.warehouse)) as connection:
        connection.execute("update landing.builds set build_id = '20200101T000000Z'")
    with pytest.raises(release.ReleaseError, match="is of the build 20200101T000000Z"):
        dry_run(settings)
    settings.warehouse.unlink()
    with pytest.raises(release.ReleaseError, match="has no working database"):
        dry_run(settings)
    assert not list(home.glob(".diff-*"))


def accounts_of(home: Path, *records: tuple[str, str]) -> list[str]:
    with duckdb.connect(str(home / "releases" / "current" / "cocanal.duckdb"), read_only=True) as connection:
        found = {
            (feed, record): account
            for feed, record, account in connection.execute(
                "select feed, record_id, account_id from identity.account_links"
            ).fetchall()
        }
    return [found[record] for record in records]


def strict_model(home: Path) -> None:
    """A model of the home's own, for which the weakest pairs that were joined are now just undecided."""
    with duckdb.connect(str(home / "releases" / "current" / "restricted.duckdb"), read_only=True) as connection:
        ((weight,),) = connection.execute(
            "select quantile_disc(weight, 0.5) from identity.edges where decision = 'accepted'"
        ).fetchall()
    path = home / "identity" / "model.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(asdict(replace(read_model(), accept_weight=weight + 0.5))))


def test_a_stewards_same_joins_two_accounts_in_the_next_night_and_taking_it_back_parts_them(
    home: Path, instance: dg.DagsterInstance, retailer: Any, supplier: Any, run_in: Any
) -> None:
    strict_model(home)
    visit = {"event_id": "N1", "session_id": "V1", "event": "visit", "occurred_at": "2020-07-10T09:00:00Z"}
    supplier(home / "landing").deliver("web_events", retailer.LAST, [visit], "part_02.csv")
    accepted = {"identity": "another model", "segment": "another model", "audience": "another model"}
    night = run_in(home, accept=accepted)
    assert night.outcome == "released", night.sentences

    def cocanal(*words: str) -> str:
        told = CliRunner().invoke(app, ["identity", *words, "--home", str(home)])
        assert told.exit_code == 0, told.stderr
        return " ".join(told.stdout.split())

    assert "holds personal data" in cocanal("review", "--most", "5")
    (sheet,) = (home / "identity").glob("review_*.csv")
    with sheet.open(encoding="utf-8-sig", newline="") as source:
        rows = list(csv.DictReader(source))
    assert len(rows) == 5
    chosen = rows[0]
    pair = ((chosen["left_feed"], chosen["left_id"]), (chosen["right_feed"], chosen["right_id"]))
    one, other = accounts_of(home, *pair)
    assert one != other
    assert {one, other} == {chosen["left_account_id"], chosen["right_account_id"]}

    with sheet.open("w", encoding="utf-8-sig", newline="") as out:
        writer = csv.DictWriter(out, chosen)
        writer.writeheader()
        writer.writerows([{**chosen, "decision": "same"}, *rows[1:]])
    assert "4 rows without a decision stay open." in cocanal("decide", str(sheet), "--by", "steward-1")
    (delivered,) = (home / "landing" / "identity_decisions" / retailer.LAST.isoformat()).glob("steward_*.csv")
    assert chosen["left_name"] not in delivered.read_text()
    assert "delivered before" in cocanal("decide", str(sheet), "--by", "steward-1")

    night = run_in(home, accept=accepted)
    assert night.outcome == "released", night.sentences
    assert len(set(accounts_of(home, *pair))) == 1
    with duckdb.connect(str(home / "releases" / "current" / "cocanal.duckdb"), read_only=True) as connection:
        ((refused,),) = connection.execute(
            "select count(*) from staging.quarantine where feed = 'identity_decisions'"
        ).fetchall()
    assert refused == 0

    cocanal("revoke", chosen["decision_id"])
    night = run_in(home, accept=accepted)
    assert night.outcome == "released", night.sentences
    parted = accounts_of(home, *pair)
    assert len(set(parted)) == 2
    assert set(parted) & {one, other}
