"""What the command says when it is used wrongly; what it does when used rightly is tested with the pipeline."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dagster_project.cli import app


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def call(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, words)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, " ".join((result.stdout + result.stderr).split())


def test_every_command_explains_itself() -> None:
    code, text = call("--help")
    assert code == 0
    for command in (
        "run",
        "demo",
        "status",
        "ui",
        "settings",
        "landing",
        "identity",
        "explain",
        "release",
        "doctor",
        "rebuild",
    ):
        assert command in text
        code, own = call(command, "--help")
        assert code == 0
        assert len(own) > 100


def test_an_option_that_does_not_exist_is_wrong_use() -> None:
    assert call("run", "--hurry")[0] == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("run", "--as-of", "yesterday"), "is not a day; write it as YYYY-MM-DD"),
        (("run", "--accept", "landing"), "--accept and --because go together"),
        (("run", "--because", "it is late"), "--accept and --because go together"),
        (("run", "--accept", "landing", "--because", "  "), "--accept and --because go together"),
        (("run", "--accept", "moon", "--because", "it is late"), "There is no gate «moon»"),
        (("release", "rollback", "previous"), "There is no release before the current one."),
        (("release", "rollback", "20200101T000000Z"), "There is no release 20200101T000000Z"),
        (("landing", "import", "spreadsheet", "."), "There is no importer «spreadsheet»"),
    ],
)
def test_wrong_use_ends_with_a_sentence_and_exit_code_2(words: tuple[str, ...], sentence: str) -> None:
    code, text = call(*words)
    assert code == 2
    assert sentence in text
    assert "Traceback" not in text
    assert not Path("var", "releases").exists()


def test_a_wrong_setting_ends_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COCANAL_CURRENCY", "euro")
    for words in (("run",), ("settings",), ("status",)):
        code, text = call(*words)
        assert code == 2
        assert "COCANAL_CURRENCY" in text


def test_the_demo_does_not_run_over_somebody_elses_home(tmp_path: Path) -> None:
    export = tmp_path / "home" / "landing" / "stores" / "2020-07-10" / "stores.csv"
    export.parent.mkdir(parents=True)
    export.write_text("store_id\nS1\n")
    code, text = call("demo", "--home", str(tmp_path / "home"))
    assert code == 2
    assert "holds a deployment that is not the demo's" in text
    assert export.read_text() == "store_id\nS1\n"


def test_a_run_does_not_take_the_demos_home_for_granted(tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "demo.json").write_text("{}")
    code, text = call("run")
    assert code == 2
    assert "is the demo's home" in text
    assert list((tmp_path / "var").iterdir()) == [tmp_path / "var" / "demo.json"]
    code, text = call("landing", "import", "online-retail", ".")
    assert code == 2


def test_a_home_without_deliveries_has_a_status() -> None:
    code, text = call("status")
    assert code == 0
    assert "nothing was ever delivered" in text
    assert "no run is going on" in text
    assert "There is no release yet." in text


def test_secrets_are_not_shown_with_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COCANAL_HOLDOUT_SALT", "a-very-secret-salt")
    monkeypatch.setenv("COCANAL_WEBHOOK_URL", "https://hooks.example/a-very-secret-token")
    code, text = call("settings")
    assert code == 0
    assert "COCANAL_HOLDOUT_SALT" in text
    assert "very-secret" not in text


def test_a_run_in_a_busy_home_says_so(tmp_path: Path) -> None:
    """Another process holds the lock, as a night of the schedule does."""
    lock = tmp_path / "home" / "run.lock"
    lock.parent.mkdir()
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import fcntl, sys; f = open({str(lock)!r}, 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); "
            "sys.stdin.read()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        code, text = call("run", "--home", str(tmp_path / "home"))
    finally:
        holder.communicate()
    assert code == 1
    assert "Another run is working in" in text


def test_a_night_without_any_delivery_says_where_files_belong(tmp_path: Path) -> None:
    code, text = call("run", "--home", str(tmp_path / "home"))
    assert code == 2
    assert "Nothing was ever delivered: put files into" in text


def test_a_supplier_is_told_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    file = tmp_path / "web_events" / "2020-07-10" / "a.csv"
    file.parent.mkdir(parents=True)
    file.write_text("event_id,session_id,event,occurred_at\nW1,V1,visit,2020-07-09T10:00:00Z\nW2,V1,dance,yesterday\n")
    code, text = call("landing", "check", str(file))
    assert code == 3
    assert "1 row refused" in text
    assert "yesterday" not in text
    file.write_text("event_id,session_id,event,occurred_at\nW1,V1,visit,2020-07-09T10:00:00Z\n")
    assert call("landing", "check", str(file))[0] == 0
