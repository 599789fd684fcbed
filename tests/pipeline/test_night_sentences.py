"""A night that cannot begin says why in a sentence, with its exit code: never with the error behind it."""

from pathlib import Path

import pytest

from dagster_project.nightly import run_night
from dagster_project.settings import load_settings


@pytest.mark.parametrize(
    ("is_register_damaged", "exit_code", "words"),
    [
        (False, 2, "The newest delivery is of 2062-07-10, 15341 days after all others"),
        (True, 1, "000001.jsonl is damaged"),
    ],
)
def test_a_mistyped_day_and_a_damaged_register_end_the_night_with_a_sentence(
    tmp_path: Path, is_register_damaged: bool, exit_code: int, words: str
) -> None:
    settings = load_settings(home=tmp_path)
    for day in ("2020-07-09", "2020-07-10" if is_register_damaged else "2062-07-10"):
        folder = settings.landing / "web_events" / day
        folder.mkdir(parents=True)
        (folder / "a.csv").write_text("event_id\na\n")
    if is_register_damaged:
        settings.register.mkdir(parents=True)
        (settings.register / "000001.jsonl").write_text("rubbish\n")
    night = run_night(settings)
    assert night.exit_code == exit_code
    (sentence,) = night.sentences
    assert words in sentence
