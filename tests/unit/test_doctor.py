"""What the doctor finds in a home, and that looking changes nothing."""

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner

from dagster_project import doctor
from dagster_project.cli import app
from dagster_project.domain import release
from dagster_project.domain.landing.deliveries import Delivery, add_to_register, add_to_released, find
from dagster_project.run_lock import hold_run_lock, release_run_lock
from dagster_project.settings import Settings

NOW = datetime(2020, 7, 15, 3, tzinfo=UTC)
FIRST, SECOND = "20200714T003000Z", "20200715T003000Z"


def make_release(home: Path, release_id: str, as_of: str, inputs: list[Delivery]) -> None:
    directory = home / "releases" / release_id
    directory.mkdir(parents=True)
    (directory / "cocanal.duckdb").write_bytes(b"eight of")
    files = [{"path": "cocanal.duckdb", "sha256": release._sha256(directory / "cocanal.duckdb"), "bytes": 8}]
    content = {
        "as_of": as_of,
        "files": files,
        "tables": [],
        "inputs": [{"file": one.file, "sha256": one.sha256} for one in inputs],
        "fingerprint": "f",
    }
    (directory / "manifest.json").write_text(json.dumps(content))
    release.rollback(home, release_id)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home as it is after a good night: two releases, one delivery that is in raw and in the release."""
    home = tmp_path / "home"
    home.mkdir(mode=0o750)
    file = home / "landing" / "stores" / "2020-07-14" / "a.csv"
    file.parent.mkdir(parents=True)
    file.write_text("store_id\nS1\n")
    (delivery,) = find(home / "landing")[0]
    delivery = Delivery(**{**vars(delivery), "sha256": "ab", "row_count": 1})
    (home / "raw" / "stores").mkdir(parents=True)
    with duckdb.connect() as connection:
        connection.execute(f"copy (select 'S1' as store_id) to '{home}/raw/stores/ab.parquet'")
    add_to_register(home / "raw" / "deliveries", [delivery])
    add_to_released(home / "raw" / "released", [(delivery.file, delivery.sha256)])
    make_release(home, FIRST, "2020-07-13", [])
    make_release(home, SECOND, "2020-07-14", [delivery])
    release.remember_release(home / "raw" / "last_release", SECOND)
    return home


def state_of(home: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(home)): (path.lstat().st_mtime_ns, path.lstat().st_mode, path.lstat().st_size)
        for path in home.rglob("*")
    }


def examine(home: Path, **asked: Any) -> list[doctor.Finding]:
    return doctor.examine(Settings(home=home, memory_limit="1GB"), now=NOW, **asked)


def test_a_good_home_is_well_and_is_left_as_it_was(home: Path) -> None:
    before = state_of(home)
    for is_full in (False, True):
        findings = examine(home, is_full=is_full)
        assert doctor.is_well(findings), findings
    assert {f.subject for f in findings} >= {"home", "disk", "run", "releases", "raw", "landing", "warehouse"}
    assert state_of(home) == before


def unlink(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 3)


def turn(path: Path) -> None:
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))


def damage_values(path: Path) -> None:
    """The values of a Parquet file, between its beginning and its footer."""
    content = bytearray(path.read_bytes())
    content[4:30] = b"\xff" * 26
    path.write_bytes(content)


WRONG: list[tuple[str, Callable[[Path], object], str, bool]] = [
    ("releases", lambda home: unlink(home / "releases/current"), f"cocanal release rollback {SECOND}", False),
    ("releases", lambda home: unlink(home / "releases" / FIRST / "manifest.json"), "manifest.json is missing", False),
    ("releases", lambda home: cut(home / "releases" / SECOND / "cocanal.duckdb"), "has 5 bytes instead of 8", False),
    ("releases", lambda home: turn(home / "releases" / FIRST / "cocanal.duckdb"), "other bytes", True),
    ("raw", lambda home: damage_values(home / "raw/stores/ab.parquet"), "cocanal rebuild", True),
    ("raw", lambda home: cut(home / "raw/deliveries/000001.jsonl"), "register", False),
    ("raw", lambda home: cut(home / "raw/released/000001.jsonl"), "which files releases were made from", False),
    ("warehouse", lambda home: (home / "warehouse.duckdb").mkdir(), "move it away", False),
    ("run", lambda home: (home / "run.lock").mkdir(), "move it away", False),
    ("home", lambda home: [home.chmod(0o755), (home / "raw").chmod(0o755)], "chmod -R o-rwx", False),
]


@pytest.mark.parametrize(("subject", "happen", "words", "is_full"), WRONG, ids=lambda value: str(value)[:24])
def test_what_is_wrong_is_found_with_what_to_do(
    subject: str, happen: Callable[[Path], object], words: str, is_full: bool, home: Path
) -> None:
    happen(home)
    findings = examine(home, is_full=is_full)
    assert not doctor.is_well(findings)
    assert [f for f in findings if f.state == "wrong" and f.subject == subject and words in f.sentence], findings


def test_a_raw_file_that_is_gone_is_wrong_only_where_nothing_brings_it_back(home: Path) -> None:
    cut(home / "raw/stores/ab.parquet")
    assert doctor.is_well(examine(home))
    (home / "raw/stores/ab.parquet").unlink()
    assert any("the next run reads them again" in f.sentence for f in examine(home))
    (home / "landing/stores/2020-07-14/a.csv").unlink()
    (wrong,) = [f for f in examine(home) if f.state == "wrong"]
    assert "from the backup" in wrong.sentence


def test_what_a_killed_run_left_is_a_note_and_nothing_of_a_run_that_goes_on(home: Path) -> None:
    (home / "releases" / ".building-20200716T003000Z").mkdir()
    (home / ".spill").mkdir()
    (home / ".spill" / "duckdb_temp_storage-0.tmp").touch()
    (note,) = [f for f in examine(home) if f.subject == "run"]
    assert note.state == "note"
    assert "did not come to its end" in note.sentence
    (home / "warehouse.duckdb").write_bytes(b"what a run is writing")
    hold_run_lock(home / "run.lock")
    try:
        findings = examine(home, is_full=True)
    finally:
        release_run_lock(home / "run.lock")
    assert [f.sentence for f in findings if f.subject == "run"] == ["A run is going on."]
    assert [f.state for f in findings if f.subject == "warehouse"] == ["ok"]


def test_files_that_wait_strangers_and_unfinished_files_are_named(home: Path) -> None:
    folder = home / "landing/stores/2020-07-14"
    (folder / "b.csv").write_text("store_id\nS2\n")
    (folder / "c.csv.part").write_text("store_id\n")
    old = (NOW - timedelta(days=2)).timestamp()
    os.utime(folder / "c.csv.part", (old, old))
    (home / "landing/stories").symlink_to("/etc")
    told = " ".join(f.sentence for f in examine(home) if f.subject == "landing")
    assert "1 files are in no release yet (1 of them not read yet), the oldest of 2020-07-14" in told
    assert "stories" in told
    assert "stores/2020-07-14/c.csv.part" in told


def test_a_release_that_grows_old_is_wrong_but_not_in_the_demo(home: Path) -> None:
    later = NOW + timedelta(days=9)
    settings = Settings(home=home, memory_limit="1GB")
    (wrong,) = [f for f in doctor.examine(settings, now=later) if f.state == "wrong"]
    assert "is as of 2020-07-14, 10 days ago" in wrong.sentence
    settings.demo_mark.write_text("{}")
    assert doctor.is_well(doctor.examine(settings, now=later))


def test_settings_that_cannot_be_meant_are_named_without_their_values(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COCANAL_WEBHOK_URL", "https://hooks.example/secret")
    findings = doctor.examine(Settings(home=home, memory_limit="900TB", volume_warn_share=0.01), now=NOW)
    told = " ".join(f.sentence for f in findings if f.state == "wrong")
    assert "COCANAL_WEBHOK_URL is set, but there is no such setting" in told
    assert "COCANAL_MEMORY_LIMIT=900TB is more than this machine has" in told
    assert "COCANAL_VOLUME_WARN_SHARE is below" in told
    assert "secret" not in told


def test_the_command_ends_with_3_where_something_is_wrong_and_speaks_json(home: Path, tmp_path: Path) -> None:
    (home / "releases" / "current").unlink()
    result = CliRunner().invoke(app, ["doctor", "--home", str(home), "--json"])
    assert result.exit_code == 3
    told = json.loads(result.stdout)
    assert told["is_well"] is False
    assert {"state", "subject", "sentence"} == told["findings"][0].keys()
    result = CliRunner().invoke(app, ["doctor", "--home", str(tmp_path / "nowhere")])
    assert result.exit_code == 0
    assert "the first run makes it" in " ".join(result.stdout.split())
