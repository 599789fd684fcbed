"""What has been kept for its period goes, nothing else does, and what went is written down."""

import json
import os
from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from dagster_project.domain.landing.deliveries import RawDamaged, find, read_register
from dagster_project.domain.landing.intake import Intake, take_in
from dagster_project.domain.retention import is_kept, read_removals, remove_landed, remove_raw
from dagster_project.jobs import tidy_job
from dagster_project.run_lock import HomeIsBusy
from dagster_project.settings import Settings, SettingsError, load_settings
from dagster_project.tidy import say, tidy

AS_OF = date(2020, 7, 10)
AT = datetime(2020, 7, 11, 5, tzinfo=UTC)
PERIOD = {"web_events": 30}
VISITS = "event_id,session_id,event,occurred_at\n{0},V1,visit,2020-05-01T10:00:00Z\n"


def visits(home: Path, day: str, event: str) -> Path:
    path = home / "landing" / "web_events" / day / "part.csv"
    path.parent.mkdir(parents=True)
    path.write_text(VISITS.format(event))
    return path


def intake(
    home: Path,
    keep_days: dict[str, int],
    released: Collection[tuple[str, str]] = (),
    removed: Collection[tuple[str, str]] = (),
) -> Intake:
    return take_in(
        home / "landing",
        home / "raw",
        home / "raw" / "deliveries",
        as_of=AS_OF,
        connect=duckdb.connect,
        workers=1,
        progress=lambda done, of: None,
        released=released,
        removed=removed,
        is_kept=lambda delivery: is_kept(delivery, AS_OF, keep_days),
    )


def raw_files(home: Path) -> int:
    return len(list((home / "raw" / "web_events").glob("*.parquet")))


def released(found: Intake) -> set[tuple[str, str]]:
    return {(delivery.file, delivery.sha256) for delivery in found.deliveries}


def test_a_run_counts_the_same_files_whether_the_old_ones_are_gone_yet_or_not(tmp_path: Path) -> None:
    visits(tmp_path, "2020-06-09", "old")
    visits(tmp_path, "2020-06-10", "on the day")
    assert len(intake(tmp_path, {}).deliveries) == 2
    before = intake(tmp_path, PERIOD)
    register = read_register(tmp_path / "raw" / "deliveries")

    (gone,) = remove_raw(tmp_path / "raw", register.values(), as_of=AS_OF, keep_days=PERIOD, at=AT)
    assert (gone.kind, gone.name) == ("raw file", "web_events/2020-06-09/part.csv")
    assert raw_files(tmp_path) == 1

    after = intake(tmp_path, PERIOD)
    assert [delivery.file for delivery in before.deliveries] == ["web_events/2020-06-10/part.csv"]
    assert after.deliveries == before.deliveries
    assert after.new_files == (), "a file that no longer counts must not be read again each night"
    (line,) = (tmp_path / "raw" / "removals.jsonl").read_text().splitlines()
    said = json.loads(line)
    assert said["sha256"] == register["web_events/2020-06-09/part.csv"].sha256
    assert (said["row_count"], said["removed_at"]) == (1, "2020-07-11T05:00:00+00:00")


def test_a_longer_period_does_not_ask_for_what_the_shorter_one_removed(tmp_path: Path) -> None:
    """Also where landing was emptied: nobody is to fetch from a backup what had to go."""
    old = visits(tmp_path, "2020-06-09", "old")
    visits(tmp_path, "2020-06-10", "on the day")
    used = released(intake(tmp_path, {}))
    register = read_register(tmp_path / "raw" / "deliveries")
    assert list(remove_raw(tmp_path / "raw", register.values(), as_of=AS_OF, keep_days=PERIOD, at=AT))
    removals = tmp_path / "raw" / "removals.jsonl"
    removals.write_text(removals.read_text() + '{"file": "cut o')
    content = old.read_bytes()
    old.unlink()
    found = intake(tmp_path, {}, used, read_removals(tmp_path / "raw"))
    assert [delivery.file for delivery in found.deliveries] == ["web_events/2020-06-10/part.csv"]
    with pytest.raises(RawDamaged, match="is gone or damaged"):
        intake(tmp_path, {}, used)
    old.write_bytes(content)
    assert len(intake(tmp_path, {}, used, read_removals(tmp_path / "raw")).deliveries) == 2, "it came again"


def test_what_a_newer_delivery_holds_too_stays(tmp_path: Path) -> None:
    visits(tmp_path, "2020-05-01", "same")
    visits(tmp_path, "2020-07-01", "same")
    intake(tmp_path, {})
    register = read_register(tmp_path / "raw" / "deliveries")
    assert list(remove_raw(tmp_path / "raw", register.values(), as_of=AS_OF, keep_days=PERIOD, at=AT)) == []
    assert raw_files(tmp_path) == 1


def test_a_rehearsal_names_what_would_go_and_removes_nothing(tmp_path: Path) -> None:
    visits(tmp_path, "2020-05-01", "old")
    intake(tmp_path, {})
    register = read_register(tmp_path / "raw" / "deliveries")
    would = list(
        remove_raw(tmp_path / "raw", register.values(), as_of=AS_OF, keep_days=PERIOD, at=AT, is_rehearsal=True)
    )
    assert [each.name for each in would] == ["web_events/2020-05-01/part.csv"]
    assert raw_files(tmp_path) == 1
    assert not (tmp_path / "raw" / "removals.jsonl").exists()


def test_landing_keeps_what_no_release_was_made_from_and_what_has_changed(tmp_path: Path) -> None:
    used = visits(tmp_path, "2020-05-01", "used")
    changed = visits(tmp_path, "2020-05-02", "changed")
    stopped = visits(tmp_path, "2020-05-03", "stopped by a gate")
    young = visits(tmp_path, "2020-07-09", "young")
    found = intake(tmp_path, {})
    changed.write_text(VISITS.format("corrected by the supplier"))
    gone = remove_landed(
        tmp_path / "landing",
        find(tmp_path / "landing", AS_OF)[0],
        read_register(tmp_path / "raw" / "deliveries"),
        {pair for pair in released(found) if "2020-05-03" not in pair[0]},
        before=AS_OF - timedelta(days=30),
    )
    assert [each.name for each in gone] == ["landing/web_events/2020-05-01/part.csv"]
    assert not used.parent.exists()
    assert changed.exists() and stopped.exists() and young.exists()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with an old explanation, an old sheet, a young one, and what a killed dry run left behind."""
    for name, days in {
        "explain/A1.html": 40,
        "identity/review_20200601T000000Z.csv": 40,
        "privacy/access/Q1.html": 40,
        "quarantine/shop_orders.csv": 2,
        "privacy/receipts/Q2.json": 400,
        "explain/access.log": 400,
        "identity/model.json": 400,
        ".diff-abc/warehouse.duckdb": 3,
        "raw/web_events/abc.damaged": 3,
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
        moment = (AT - timedelta(days=days)).timestamp()
        os.utime(path, (moment, moment))
        os.utime(path.parent, (moment, moment))
    return tmp_path


def test_pages_with_personal_data_and_left_overs_go_and_the_access_log_stays(home: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        removed = tidy(Settings(home=home), instance, AT)
    assert {each.name for each in removed} == {
        "explain/A1.html",
        "identity/review_20200601T000000Z.csv",
        "privacy/access/Q1.html",
        ".diff-abc",
        "raw/web_events/abc.damaged",
    }
    assert not (home / "raw" / "web_events" / "abc.damaged").exists()
    assert (home / "explain" / "access.log").exists()
    assert (home / "privacy" / "receipts" / "Q2.json").exists()
    assert (home / "identity" / "model.json").exists()
    assert (home / "quarantine" / "shop_orders.csv").exists()
    assert any(sentence.startswith("3 pages") for sentence in say(removed))


def test_what_a_delivery_replaced_goes_with_its_period_too(tmp_path: Path) -> None:
    """The register names the newest content of a path alone; the older one has personal data in raw all the same."""
    path = visits(tmp_path, "2020-05-01", "first")
    intake(tmp_path, {})
    path.write_text(VISITS.format("corrected"))
    intake(tmp_path, {})
    assert raw_files(tmp_path) == 2
    directory = tmp_path / "releases" / "20200710T003000Z"
    directory.mkdir(parents=True)
    manifest = {"as_of": AS_OF.isoformat(), "files": [], "tables": [], "inputs": [], "fingerprint": "f"}
    (directory / "manifest.json").write_text(json.dumps(manifest))
    (directory.parent / "current").symlink_to(directory.name)
    with dg.DagsterInstance.ephemeral() as instance:
        tidy(Settings(home=tmp_path, keep_raw_days=PERIOD), instance, AT)
    assert raw_files(tmp_path) == 0


def test_the_job_says_in_its_run_what_it_removed(home: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = tidy_job(Settings(home=home)).execute_in_process(instance=instance)
        said = [entry.user_message for entry in instance.all_logs(result.run_id)]
    assert result.success
    assert any("Removed: 2 left-overs" in message and ".diff-abc" in message for message in said)


def test_nothing_is_tidied_while_a_run_works(home: Path, tmp_path: Path, monkeypatch: Any) -> None:
    def busy(path: Path) -> None:
        raise HomeIsBusy("Another run is working.")

    monkeypatch.setattr("dagster_project.tidy.hold_run_lock", busy)
    with dg.DagsterInstance.ephemeral() as instance, pytest.raises(HomeIsBusy):
        tidy(Settings(home=home), instance, AT)
    assert (home / "explain" / "A1.html").exists()


def test_a_period_for_a_feed_that_does_not_exist_is_refused_with_a_sentence(monkeypatch: Any) -> None:
    monkeypatch.setenv("COCANAL_KEEP_RAW_DAYS", '{"web_event": 60}')
    with pytest.raises(SettingsError, match=r"COCANAL_KEEP_RAW_DAYS: .*there is no feed «web_event»"):
        load_settings()
