"""The benchmark of the identity stage, on a retailer of a few hundred people."""

from pathlib import Path

from dagster_project.identity_bench import measure


def test_a_night_scores_only_new_pairs_and_gives_the_tables_of_a_night_without_memory(tmp_path: Path) -> None:
    measured = measure(tmp_path / "home", persons=300, seed=7)
    assert measured["differences"]["rows"] == 0
    assert measured["first"]["records"] < measured["night"]["records"] == measured["again"]["records"]
    assert measured["again"]["scored"] == measured["again"]["compared"] == measured["night"]["compared"]
    assert 0 < measured["night"]["scored"] < 0.5 * measured["night"]["compared"]
