"""Countries as people and exports write them."""

import pytest

from dagster_project.domain.countries import country_names


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("FRANCE", "FR"),
        ("FR", "FR"),
        ("BELGIQUE", "BE"),
        ("BELGIUM", "BE"),
        ("DEUTSCHLAND", "DE"),
        ("ESPAÑA", "ES"),
        ("EIRE", "IE"),
        ("USA", "US"),
        ("ROYAUME-UNI", "GB"),
    ],
)
def test_a_name_in_a_language_of_the_neighbours_has_its_code(name: str, code: str) -> None:
    assert country_names()[name] == code


def test_every_code_is_two_letters_and_no_region_of_the_world_is_a_country() -> None:
    names = country_names()
    assert all(len(code) == 2 and code.isupper() for code in names.values())
    assert not {"EUROPE", "EU", "MONDE", "ZZ"} & set(names)
