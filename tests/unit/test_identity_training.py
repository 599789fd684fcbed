"""A match model is trained, compared, refused where it is degenerate, and adopted so that the next night follows it."""

import random
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from dagster_project.assets.landing import _settings_of_tables
from dagster_project.domain.fingerprint import fingerprint
from dagster_project.domain.identity import read_model, read_policy
from dagster_project.domain.identity.training import (
    MOST_OF_MATCHES,
    Counts,
    Trained,
    TrainingError,
    _with_proofs,
    check,
    compare_pairs,
    differences,
    estimate,
    named_by_content,
    prepare,
    train_from_accounts,
    train_from_pairs,
    write_model_file,
)
from dagster_project.identity_training import adopt_model, refuse_shops
from dagster_project.run_lock import HomeIsBusy
from dagster_project.settings import load_settings

AS_OF = date(2020, 7, 1)
PEOPLE = 700
RENAMED, MISDATED, MOVED = 0.25, 0.15, 0.3
GIVEN = [
    f"{a}{b}" for a in ("Bal", "Cor", "Del", "Fim", "Gur", "Hov", "Jat", "Kel") for b in ("mino", "tesa", "rudo", "vex")
]
FAMILY = [
    f"{a}{b}{c}"
    for a in ("Zan", "Wok", "Vul", "Tre", "Sip", "Pod", "Nax", "Mib")
    for b in ("bor", "fen", "gis", "lut", "mar", "dax", "hop")
    for c in ("ado", "egi", "ilu", "oce", "uny")
]
TOWNS = ["Amville", "Bemont", "Cibourg", "Dofort", "Esquay", "Fressin", "Gorze", "Hestroff"]
ALL = {comparison: set(levels) for comparison, levels in read_model().levels.items()}


def register() -> list[dict[str, Any]]:
    """Two records of each person, with two e-mails; name, date and address differ as often as said above."""
    draw = random.Random(5)

    def day() -> date:
        return date(draw.randrange(1930, 2005), draw.randrange(1, 13), draw.randrange(2, 29))

    def home() -> dict[str, Any]:
        street = "".join(draw.choice(("ba", "co", "du", "fe", "gi", "lo", "mu", "ra")) for _ in range(5))
        return {
            "address_line1": f"{draw.randrange(1, 200)} rue {street}",
            "city": draw.choice(TOWNS),
            "postal_code": str(draw.randrange(10000, 10040)),
        }

    def mail() -> str:
        return "".join(draw.choice("bcdfghjklmnpqrstvwxz") for _ in range(9)) + "@mail.example"

    records = []
    for number in range(PEOPLE):
        first = {"first_name": draw.choice(GIVEN), "last_name": draw.choice(FAMILY), "birth_date": day(), **home()}
        first["email"] = mail()
        second = dict(first)
        if draw.random() < RENAMED:
            second["first_name"] = draw.choice([name for name in GIVEN if name != first["first_name"]])
        if draw.random() < MISDATED:
            second["birth_date"] = day()
        if draw.random() < MOVED:
            second |= home()
        second["email"] = mail()
        for part, said in enumerate((first, second)):
            records.append({"customer_id": f"C{number:04d}{part}", "created_at": "2019-01-01", **said})
    draw.shuffle(records)
    return [{**record, "updated_at": "2019-01-01"} for record in records]


@pytest.fixture(scope="module")
def records() -> list[dict[str, Any]]:
    return register()


def prepared(staging_database, records):
    connection = staging_database({"shop_customers": records})
    prepare(connection, AS_OF, read_policy())
    return connection


@pytest.fixture(scope="module")
def connection(staging_database, records):
    return prepared(staging_database, records)


@pytest.fixture(scope="module")
def trained(connection) -> Trained:
    return train_from_pairs(connection, read_model(), "identity_pairs", "candidate")


def m(trained: Trained, comparison: str, *levels: str) -> float:
    return sum(trained.model.levels[comparison][level][0] for level in levels)


def test_expectation_maximisation_finds_how_often_one_person_differs(trained):
    """Without a label: the shares that the records were made with, and no other comparison is touched."""
    renamed = m(trained, "given_name", "initial", "alike", "crossed", "unlike", "different")
    assert renamed == pytest.approx(RENAMED, abs=0.04)
    assert m(trained, "birth_date", "other_date", "different") == pytest.approx(MISDATED, abs=0.04)
    assert m(trained, "address", "other_street", "different") == pytest.approx(MOVED, abs=0.04)
    assert m(trained, "email", "different") > 0.95
    assert m(trained, "family_name", "exact") > 0.9
    assert trained.pairs == pytest.approx(PEOPLE, rel=0.1)
    assert trained.filled == {"given_name", "family_name", "birth_date", "email", "address"}
    assert trained.model.levels["phone"] == read_model().levels["phone"]


def test_u_is_what_two_people_share_by_chance_without_the_pairs_of_one_person(trained):
    assert trained.model.levels["given_name"]["exact"][1] == pytest.approx(1 / len(GIVEN), rel=0.15)
    assert trained.model.levels["family_name"]["exact"][1] == pytest.approx(1 / len(FAMILY), rel=0.25)
    # Of the random pairs here that share a date, nine of ten are one person's.
    assert trained.model.levels["birth_date"]["exact"][1] < 1e-4


def test_training_again_on_the_records_in_another_order_gives_the_same_candidate(staging_database, records, trained):
    turned = prepared(staging_database, records[::-1])
    again = train_from_pairs(turned, read_model(), "identity_pairs", "candidate")
    assert named_by_content(again.model, AS_OF) == named_by_content(trained.model, AS_OF)


def test_what_is_common_in_one_person_proves_no_two_people(trained):
    """A quarter of the given names are others: no rule may part them, and a household is told by nothing."""
    assert "given_name" not in {*trained.model.two_people, *trained.model.perhaps_two}
    assert "birth_date" not in {*trained.model.two_people, *trained.model.perhaps_two}
    assert not trained.model.tells_households


def test_what_is_rare_in_one_person_proves_two_people_and_comes_back_to_do_so():
    shipped = read_model()
    softened = replace(shipped, two_people={}, perhaps_two={}, tells_generations=False, tells_households=False)
    again = _with_proofs(softened, set(shipped.levels))
    assert (again.two_people, again.perhaps_two) == (shipped.two_people, shipped.perhaps_two)
    assert again.tells_generations and again.tells_households
    levels = {name: dict(of_name) for name, of_name in shipped.levels.items()}
    levels["birth_date"]["other_date"] = (MOST_OF_MATCHES, 0.38)
    common = _with_proofs(replace(shipped, levels=levels), set(levels))
    assert set(common.two_people) == set(common.perhaps_two) == {"given_name"}
    unfilled = _with_proofs(replace(shipped, levels=levels), set(levels) - {"birth_date"})
    assert unfilled.two_people == shipped.two_people


def test_a_register_trained_by_itself_joins_what_the_shipped_model_refuses(connection, trained):
    changes = compare_pairs(connection, read_model(), trained.model, read_policy())
    assert changes.gained > 100
    assert changes.joined_after == changes.joined_before + changes.gained - changes.lost <= changes.scored
    same = compare_pairs(connection, read_model(), read_model(), read_policy())
    assert (same.gained, same.lost) == (0, 0)


def test_the_accounts_of_a_shop_do_not_make_their_own_guards_stronger(connection):
    """Accounts hold no pair with another given name, for it was refused: that says nothing of how often it happens."""
    connection.execute(
        "create or replace table labels as "
        "select profile_id, left(record_id, 5) as label from identity_profile_speakers"
    )
    connection.execute(
        """
        delete from labels where label in (
            select label from labels join identity_profiles using (profile_id)
            group by label having count(distinct given_name_key) > 1
        )
        """
    )
    with pytest.raises(TrainingError, match="1000 are needed"):
        train_from_accounts(connection, read_model(), "select * from labels", "candidate")
    # Ten people to a label are pairs enough.
    connection.execute("update labels set label = left(label, 4)")
    trained = train_from_accounts(connection, read_model(), "select * from labels", "candidate")
    for comparison, level in (("given_name", "different"), ("given_name", "unlike"), ("birth_date", "different")):
        assert trained.model.levels[comparison][level][0] == pytest.approx(read_model().levels[comparison][level][0])


def test_too_little_is_refused_in_a_sentence(staging_database, records):
    connection = prepared(staging_database, records[:40])
    with pytest.raises(TrainingError, match="Too little is filled in"):
        train_from_pairs(connection, read_model(), "identity_pairs", "candidate")


def sound(**changes) -> Trained:
    given = {"model": read_model(), "pairs": 5000, "records": 5000, "filled": frozenset(ALL), "trained_on": "a test"}
    return Trained(**{**given, **changes})


def with_levels(comparison: str, **levels: tuple[float, float]) -> Any:
    model = read_model()
    return replace(model, levels={**model.levels, comparison: {**model.levels[comparison], **levels}})


def test_a_sound_candidate_passes():
    check(sound())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"pairs": 999}, "only 999 pairs"),
        ({"records": 499}, "499 records"),
        ({"model": with_levels("email", exact=(0.6, 0.7), different=(0.4, 0.3))}, "«one e-mail» weighs less"),
        ({"model": with_levels("family_name", exact=(0.3, 0.0001), different=(0.6, 0.99))}, "agree in 38 % only"),
    ],
    ids=["pairs", "records", "weights turned round", "hardly ever the same"],
)
def test_a_degenerate_candidate_is_refused(changes, sentence):
    with pytest.raises(TrainingError, match="not fit to be used") as refused:
        check(sound(**changes))
    assert sentence in str(refused.value)


def test_a_comparison_that_is_never_filled_need_not_agree():
    check(sound(model=with_levels("phone", mobile=(0.1, 1e-7), different=(0.87, 0.99)), filled=frozenset({"email"})))


def test_a_candidate_is_read_back_as_it_was_written(tmp_path, trained):
    candidate = named_by_content(trained.model, AS_OF)
    path = tmp_path / "candidate.json"
    write_model_file(candidate, path, "a test")
    assert read_model(path) == candidate
    assert candidate.version.startswith("2020-07-01-")
    assert path.stat().st_mode & 0o077 == 0
    assert all(before == after for _, _, before, after in differences(candidate, read_model(path)))


def test_what_was_rarely_seen_keeps_its_weight():
    nothing = Counts(0, {comparison: dict.fromkeys(levels, 0) for comparison, levels in ALL.items()})
    candidate = estimate(read_model(), nothing, nothing, "candidate")
    for _, _, before, after in differences(read_model(), candidate):
        assert after == pytest.approx(before, abs=0.01)


def a_home_with_a_candidate(tmp_path, version="candidate"):
    settings = load_settings(home=tmp_path)
    settings.identity_model.parent.mkdir(exist_ok=True)
    path = settings.identity_model.with_name(f"candidate-{version}.json")
    write_model_file(replace(read_model(), version=version, accept_weight=6.0), path, "a test")
    return settings, path


def test_adopting_a_model_publishes_anew_and_going_back_does_too(tmp_path):
    settings, path = a_home_with_a_candidate(tmp_path, "first")

    def tonight() -> str:
        return fingerprint([], AS_OF, _settings_of_tables(settings))

    shipped = tonight()
    assert adopt_model(settings, path) is None
    assert read_model(settings.identity_model).version == "first"
    first = tonight()
    _, path = a_home_with_a_candidate(tmp_path, "second")
    kept = adopt_model(settings, path)
    second = tonight()
    assert len({shipped, first, second}) == 3
    assert not path.exists()
    assert kept == settings.identity_model.with_name("model-first.json")
    kept.replace(settings.identity_model)
    assert tonight() == first
    settings.identity_model.unlink()
    assert tonight() == shipped


def test_a_shop_does_not_adopt_a_model_that_takes_households_for_people(staging_database, records, connection):
    refuse_shops(connection)
    shop = staging_database({"shop_customers": records[:2], "pos_tickets": [
        {"ticket_id": "T1", "sold_at": "2019-04-01", "ticket_type": "sale", "loyalty_card_id": "K1"}
    ]})  # fmt: skip
    prepare(shop, AS_OF, read_policy())
    with pytest.raises(TrainingError, match="households for people"):
        refuse_shops(shop)


def test_no_model_is_adopted_while_a_run_is_under_way(tmp_path):
    import fcntl
    import os

    settings, path = a_home_with_a_candidate(tmp_path)
    run = os.open(settings.lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(run, fcntl.LOCK_EX)
    try:
        with pytest.raises(HomeIsBusy):
            adopt_model(settings, path)
    finally:
        os.close(run)
    assert path.is_file() and not settings.identity_model.exists()
