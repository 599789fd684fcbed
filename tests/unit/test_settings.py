"""Settings: typed, read in one place, and refused with a sentence."""

from datetime import date
from pathlib import Path

import pytest

from dagster_project.settings import (
    Settings,
    SettingsError,
    environment_of_run,
    is_home_named,
    load_settings,
    parse_day,
)


def test_without_an_environment_everything_has_a_default_and_the_home_is_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    assert settings.home == tmp_path / "var"
    assert (settings.currency, settings.default_country, settings.keep_releases) == ("EUR", "FR", 7)
    assert not is_home_named()


def test_what_is_typed_goes_before_the_environment_and_that_before_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COCANAL_HOME", str(tmp_path / "named"))
    monkeypatch.setenv("COCANAL_CURRENCY", "GBP")
    assert load_settings().home == tmp_path / "named"
    assert load_settings(home=None).currency == "GBP"
    assert load_settings(home=tmp_path / "typed").home == tmp_path / "typed"
    assert is_home_named()


def test_every_folder_of_a_deployment_lies_in_its_home(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    folders = [name for name, value in vars(Settings).items() if isinstance(value, property)]
    assert {"landing", "raw", "warehouse", "releases", "dagster_home", "lock"} <= set(folders)
    for name in folders:
        found = getattr(settings, name)
        if isinstance(found, Path):
            assert found.is_relative_to(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CURRENCY", "euro"),
        ("DEFAULT_COUNTRY", "France"),
        ("HOLDOUT_SHARE", "1.5"),
        ("HOLDOUT_SALT", ""),
        ("KEEP_RELEASES", "0"),
        ("MEMORY_LIMIT", "lots"),
        ("THREADS", "-1"),
        ("QUARANTINE_STOP_SHARE", "twenty"),
        ("WEBHOOK_URL", "not an address"),
        ("UI_PORT", "99999"),
        ("LATE_ACTION", "shout"),
        ("QUARANTINE_STOP_SHARES", "web_events=0.5"),
        ("QUARANTINE_STOP_SHARES", '["web_events"]'),
        ("QUARANTINE_STOP_SHARES", '{"web_events": 50}'),
        ("QUARANTINE_STOP_SHARES", '{"web_event": 0.5}'),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"COCANAL_{name}", value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    (line,) = str(refused.value).splitlines()
    assert line.startswith(f"COCANAL_{name}: ")
    assert len(line) > len(f"COCANAL_{name}: ")


def test_a_feed_may_have_a_share_of_its_own_and_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COCANAL_QUARANTINE_STOP_SHARES", '{"web_events": 0.5}')
    assert load_settings().quarantine_stop_shares == {"web_events": 0.5}
    monkeypatch.setenv("COCANAL_QUARANTINE_STOP_SHARES", '{"web_event": 0.5}')
    with pytest.raises(SettingsError, match="there is no feed «web_event»; the feeds are shop_customers, "):
        load_settings()


def test_every_wrong_setting_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COCANAL_CURRENCY", "euro")
    monkeypatch.setenv("COCANAL_UI_PORT", "0")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert [line.split(":")[0] for line in str(refused.value).splitlines()] == ["COCANAL_CURRENCY", "COCANAL_UI_PORT"]


@pytest.mark.parametrize("home", ["/srv/co*canal", "/srv/cocanal [new]", "/srv/what?"])
def test_a_home_whose_path_stands_for_other_files_is_refused(home: str) -> None:
    with pytest.raises(SettingsError, match=r"COCANAL_HOME: .*the path must not hold"):
        load_settings(home=Path(home))


def test_every_setting_says_what_it_does() -> None:
    assert all((field.description or "").endswith(".") for field in Settings.model_fields.values())


def test_a_run_tells_nobody_outside(tmp_path: Path) -> None:
    told = environment_of_run(Settings(home=tmp_path))
    assert told["DAGSTER_DISABLE_TELEMETRY"] == "1"
    assert told["DBT_SEND_ANONYMOUS_USAGE_STATS"] == "false"


def test_a_day_is_read_in_one_notation_only() -> None:
    assert parse_day("2020-07-15") == date(2020, 7, 15)
    for text in ("15/07/2020", "2020-02-30", "yesterday", ""):
        with pytest.raises(SettingsError, match="YYYY-MM-DD"):
            parse_day(text)
