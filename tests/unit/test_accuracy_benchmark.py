"""The accuracy benchmark as a whole, on a retailer of a few hundred people and files of a few."""

import csv
from pathlib import Path

import pytest

from dagster_project.accuracy.__main__ import Asked, measure_files, measure_retailer, report
from dagster_project.accuracy.report import BEGIN, END, NAMES, Measured, write_between_marks

GIVEN = ("Amelie", "Bruno", "Chloe", "Didier", "Elodie", "Fabien", "Gaelle", "Hugo", "Ines", "Jules")
FAMILY = ("Castelnau", "Delmas", "Espinasse", "Fontanel", "Galabert", "Hérail", "Izard", "Jourda", "Lacaze", "Mazel")


def _people() -> list[tuple[str, str, str, int]]:
    """Given name, family name, birth date, number; each person three times, the second time with a slip."""
    found = []
    for number, (given, family) in enumerate((g, f) for g in GIVEN for f in FAMILY):
        born = f"19{50 + number % 45}-{1 + number % 12:02d}-{1 + number % 28:02d}"
        found += [(given, family, born, number), (given[:-1], family, born, number), (given, family, born, number)]
    return found


def _write(path: Path, rows: list[dict[str, object]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    # As Febrl writes it: a space behind each comma.
    path.write_text(path.read_text(encoding="utf-8").replace(",", ", "), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Measured]:
    home = tmp_path_factory.mktemp("accuracy") / "home"
    return measure_retailer(Asked(persons=300, seed=7, home=home, febrl=None, fake_1000=None))


def test_every_method_is_judged_on_the_same_records_and_transactions(measured: dict[str, Measured]) -> None:
    assert list(measured) == list(NAMES)
    sizes = set()
    for each in measured.values():
        people, attribution = each.evaluation.people, each.evaluation.attribution
        assert people and attribution
        assert each.evaluation.missing_records == 0
        sizes.add((people.records, people.persons, people.largest_person, attribution.transactions))
        assert each.seconds > 0
        assert each.peak_mib > 0
    assert len(sizes) == 1


def test_only_splink_has_a_threshold(measured: dict[str, Measured]) -> None:
    assert {name for name, each in measured.items() if each.threshold is not None} == {"splink"}


def test_the_report_has_a_row_per_method_and_says_what_was_left_out(
    measured: dict[str, Measured], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("dagster_project.accuracy.__main__.measure_retailer", lambda asked: measured)
    text = report(Asked(persons=300, seed=7, home=tmp_path, febrl=None, fake_1000=None))
    tables = [[line.count("|") for line in part.splitlines()] for part in text.split("\n\n") if part.startswith("|")]
    assert len(tables) == 4
    assert all(len(set(cells)) == 1 for cells in tables)  # no row is longer or shorter than its header
    people, attribution, cost, scenarios = (len(cells) - 2 for cells in tables)
    assert (people, attribution, cost) == (3, 9, 3)  # a channel is online, store or all
    assert scenarios == len(measured["cocanal"].evaluation.scenarios)
    for option in ("--febrl", "--fake-1000"):
        assert f"no file was named ({option})" in text


def test_files_of_people_are_matched_without_a_look_at_the_truth(tmp_path: Path) -> None:
    febrl = _write(
        tmp_path / "febrl.csv",
        [
            {
                "rec_id": f"rec-{number}-{'org' if place % 3 == 0 else f'dup-{place % 3}'}",
                "given_name": given,
                "surname": family,
                "street_number": 1 + number,
                "address_1": "rue des lices",
                "suburb": "albi",
                "postcode": "81000",
                "date_of_birth": born.replace("-", ""),
                "soc_sec_id": number,
            }
            for place, (given, family, born, number) in enumerate(_people())
        ],
    )
    fake = _write(
        tmp_path / "fake.csv",
        [
            {
                "unique_id": place,
                "first_name": given,
                "surname": family,
                "dob": born,
                "city": "Albi",
                "email": f"{family}{number}@mail.example".lower(),
                "cluster": number,
            }
            for place, (given, family, born, number) in enumerate(_people())
        ],
    )
    found = measure_files(Asked(persons=0, seed=7, home=tmp_path, febrl=febrl, fake_1000=fake))
    methods = {(each.file, each.method.split(",")[0]) for each in found}
    assert methods == {("Febrl", "Cocanal"), ("fake_1000", "Cocanal"), ("fake_1000", "Splink's tutorial")}
    for each in found:
        assert (each.clustering.records, each.clustering.persons) == (300, 100)
        assert each.clustering.pairs.f1.value is not None and each.clustering.pairs.f1.value > 0.9


def test_tables_go_between_the_marks_of_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    write_between_marks(page, "new")
    assert page.read_text(encoding="utf-8") == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    page.write_text("no marks", encoding="utf-8")
    with pytest.raises(ValueError):
        write_between_marks(page, "new")
