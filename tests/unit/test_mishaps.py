"""What the machine does to a run is said in a sentence that says what to do."""

from pathlib import Path

import pytest

from dagster_project.mishaps import explain_mishap, find_lack_of_space
from dagster_project.settings import Settings


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("OSError: [Errno 28] No space left on device", "The disk is full"),
        (
            'IOException: Could not write file "/h/warehouse.duckdb": No space left on device',
            "The disk is full",
        ),
        ("OperationalError: (sqlite3.OperationalError) database or disk is full", "The disk is full"),
        (
            "OutOfMemoryException: Out of Memory Error: failed to offload data block. This limit was set "
            "by the 'max_temp_directory_size' setting",
            "The disk is full",
        ),
        (
            "OutOfMemoryException: Out of Memory Error: could not allocate block of size 256.0 KiB",
            "COCANAL_MEMORY_LIMIT",
        ),
        (
            "PermissionError: Permission denied: '{home}/releases/x'",
            "This user may not write {home}/releases/x",
        ),
        (
            "InvalidInputException: No magic bytes found at end of file '{home}/raw/stores/ab.parquet'",
            "{home}/raw/stores/ab.parquet is damaged or gone: «cocanal rebuild»",
        ),
        (
            "IOException: Corrupt database file: checksum does not match in {home}/releases/2020/a.duckdb",
            "«cocanal doctor --full»",
        ),
        ("DatabaseError: (sqlite3.DatabaseError) file is not a database", "Dagster's storage"),
    ],
)
def test_a_mishap_is_said_with_what_to_do(text: str, words: str, tmp_path: Path) -> None:
    sentence = explain_mishap(text.format(home=tmp_path), Settings(home=tmp_path))
    assert sentence is not None
    assert words.format(home=tmp_path) in sentence


def test_an_error_of_the_pipeline_itself_is_not_taken_for_one() -> None:
    assert explain_mishap("ValueError: the audience names no destination", Settings()) is None
    # A model that names a table that nobody builds.
    assert explain_mishap("Catalog Error: Table with name acounts does not exist!", Settings()) is None


def test_too_little_space_is_said_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(home=tmp_path / "not" / "made" / "yet")
    monkeypatch.setattr("dagster_project.mishaps.free_bytes", lambda settings: 50 * 2**20)
    assert find_lack_of_space(settings) is None
    release = settings.releases / "20200715T003000Z"
    release.mkdir(parents=True)
    with (release / "cocanal.duckdb").open("wb") as out:
        out.truncate(60 * 2**20)
    assert "Only 50 MiB are free" in str(find_lack_of_space(settings))
    assert "a night takes about 60 MiB" in str(find_lack_of_space(settings))
