"""Who lives in the generated world: households, persons, their names, addresses, and how they like to shop.

Numbers are drawn here, one array per trait; what a person writes into a form is made of them in ``records``. Days
count from ``seasons.FIRST_DAY``; ``NEVER`` is a day after the end.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dagster_project.demo import catalogue, dirt, seasons, spelling

NEVER = 99_999

HOUSEHOLDS = (
    "single",
    "couple",
    "family",
    "lone_parent",
    "twins",
    "father_and_son",
    "flatmates",
    "mother_and_daughter",
    "grandmother",
    "siblings",
)
_HOUSEHOLD_SHARES = (0.345, 0.26, 0.205, 0.075, 0.02, 0.02, 0.045, 0.012, 0.008, 0.01)
NAMESAKES = "namesakes"
"""Scenario of persons who live alone and bear the full name of somebody else in their town."""
ORIGINS = ("french", "double", "particle", "maghreb", "portugal", "spain", "asia", "africa")
"""Where a household's names come from: France (plain, double-barrelled, with a particle) or another country."""
_ORIGIN_SHARES = (0.885, 0.02, 0.015, 0.03, 0.016, 0.01, 0.012, 0.012)
_TWO_FAMILY_NAMES = ("portugal", "spain")
_TWO_FAMILY_NAMES_SHARE = 0.4
_COMPOUND_SHARE, _CLOSE_TWINS_SHARE, _NAMESAKE_SHARE = 0.025, 0.3, 0.02

HABITS = (
    "store_only",
    "online_only",
    "both",
    "went_online_2020",
    "silent_2020",
    "new_online",
    "new_store",
    "left_2019",
)
"""How a person shops over time; ``purchases`` says what each means in days and channels."""
_HABIT_SHARES = (0.40, 0.19, 0.20, 0.05, 0.08, 0.025, 0.02, 0.035)


def _pick(rng: np.random.Generator, shares: NDArray[np.float64], size: int) -> NDArray[np.int64]:
    return np.minimum(np.searchsorted(shares, rng.random(size), side="right"), len(shares) - 1)


def _choice(rng: np.random.Generator, shares: tuple[float, ...], size: int) -> NDArray[np.int64]:
    return _pick(rng, np.cumsum(shares) / sum(shares), size)


def _only_where(chosen: NDArray[np.bool_], names: NDArray[np.object_]) -> NDArray[np.object_]:
    """The names of the chosen positions; nothing at the others."""
    kept = np.full(len(names), None, dtype=object)
    kept[chosen] = names[chosen]
    return kept


def _given_names(
    rng: np.random.Generator, female: NDArray[np.bool_], birth_year: NDArray[np.int64]
) -> NDArray[np.object_]:
    names = np.empty(len(female), dtype=object)
    decade = np.clip((birth_year - 1) // 10 * 10 + 1, 1921, 2001)
    for (sex, year), (choices, shares) in catalogue.reference().given_names.items():
        wanted = np.flatnonzero((decade == year) & (female == (sex == "f")))
        names[wanted] = choices[_pick(rng, shares, len(wanted))]
    return names


def _other_names(
    rng: np.random.Generator, origin: NDArray[np.object_], kind: NDArray[np.object_]
) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
    """Names of other origins (empty where there is no such list), and one other way of writing each, or nothing."""
    names = np.full(len(origin), "", dtype=object)
    also = np.full(len(origin), None, dtype=object)
    draw = rng.random(len(origin))
    for (wanted_origin, wanted_kind), (choices, variants, shares) in catalogue.reference().other_names.items():
        wanted = np.flatnonzero((origin == wanted_origin) & (kind == wanted_kind))
        picked = _pick(rng, shares, len(wanted))
        names[wanted] = choices[picked]
        for position, choice in zip(wanted, picked, strict=True):
            if variants[choice]:
                also[position] = variants[choice][int(draw[position] * len(variants[choice]))]
    return names, also


def _family_names(rng: np.random.Generator, origin: NDArray[np.object_]) -> dict[str, NDArray[np.object_]]:
    """A family name of each origin: the name, how else it is written, and its two parts where it has two."""
    places, size = catalogue.reference(), len(origin)
    family = np.full(size, "family", dtype=object)
    french = places.surnames[_pick(rng, places.surname_weights, size)]
    second = places.surnames[_pick(rng, places.surname_weights, size)]
    others, also = _other_names(rng, origin, family)
    other_second, _ = _other_names(rng, origin, family)
    has_two = np.isin(origin, _TWO_FAMILY_NAMES) & (rng.random(size) < _TWO_FAMILY_NAMES_SHARE)
    double = (origin == "double") & (french != second)
    has_two &= others != other_second
    first_part = _only_where(double | has_two, np.where(double, french, others))
    second_part = _only_where(double | has_two, np.where(double, second, other_second))
    name = np.where(others == "", french, others)
    name = np.where(double, french + "-" + second, np.where(has_two, others + " " + other_second, name))
    return {
        "last_name": name,
        "last_name_also": _only_where(~has_two, also),
        "last_part1": first_part,
        "last_part2": second_part,
    }


def _close_twins(
    rng: np.random.Generator, twin: NDArray[np.bool_], role: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Second twins whose given name is a letter or two from the first one's, and which pair of names it is."""
    close = np.flatnonzero(twin & (role == 1) & (rng.random(len(twin)) < _CLOSE_TWINS_SHARE))
    return close, rng.integers(0, len(spelling.CLOSE_NAMES), len(close))


def _namesakes(
    rng: np.random.Generator,
    alone: NDArray[np.bool_],
    commune: NDArray[np.int64],
    female: NDArray[np.bool_],
    born: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of persons who live alone in one town, of one sex and not born in one year: they will bear one name."""
    singles = np.flatnonzero(alone)
    singles = singles[np.lexsort((singles, female[singles], commune[singles]))]
    first, second = singles[:-1:2], singles[1::2]
    fit = (commune[first] == commune[second]) & (female[first] == female[second])
    fit &= (np.abs(born[first] - born[second]) > 400) & (rng.random(len(first)) < _NAMESAKE_SHARE * 2)
    return first[fit], second[fit]


def _nearest_store(commune: NDArray[np.int64]) -> NDArray[np.int64]:
    places, at = catalogue.reference(), catalogue.store_communes()
    north = places.latitudes[:, None] - places.latitudes[at][None, :]
    east = (places.longitudes[:, None] - places.longitudes[at][None, :]) * 0.69
    nearest: NDArray[np.int64] = np.argmin(north**2 + east**2, axis=1)
    return nearest[commune]


def _address(rng: np.random.Generator, size: int) -> tuple[NDArray[np.int64], NDArray[np.object_], NDArray[np.int64]]:
    """House number, street and commune of ``size`` homes; six in ten live in a town with a store."""
    places, at = catalogue.reference(), catalogue.store_communes()
    town = at[_pick(rng, np.cumsum(places.populations[at]) / places.populations[at].sum(), size)]
    anywhere = _pick(rng, np.cumsum(places.populations) / places.populations.sum(), size)
    commune = np.where(rng.random(size) < 0.6, town, anywhere)
    number = np.maximum(1, rng.gamma(1.1, 32.0, size).astype(np.int64))
    return number, places.streets[_pick(rng, places.street_weights, size)], commune


def _households(
    rng: np.random.Generator, persons: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Household number, household kind and role (0 = head) of each of exactly ``persons`` persons."""
    kind = _choice(rng, _HOUSEHOLD_SHARES, persons)
    sizes = np.select(
        [kind == k for k in range(len(HOUSEHOLDS))],
        [
            1,
            2,
            2 + rng.integers(1, 4, persons),
            1 + rng.integers(1, 3, persons),
            2,
            3,
            rng.integers(2, 5, persons),
            2,
            2,
            rng.integers(2, 4, persons),
        ],
    )
    count = int(np.searchsorted(np.cumsum(sizes), persons)) + 1
    kind, sizes = kind[:count], sizes[:count]
    household = np.repeat(np.arange(count), sizes)[:persons]
    role = (np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes))[:persons]
    return household, kind[household], role


def draw_people(rng: np.random.Generator, persons: int) -> pa.Table:
    """One row per person, ordered by number; every household's persons stand together, its head first."""
    places = catalogue.reference()
    household, kind, role = _households(rng, persons)
    head = np.flatnonzero(role == 0)[household]
    is_kind = {name: kind == k for k, name in enumerate(HOUSEHOLDS)}
    daughter = is_kind["mother_and_daughter"] & (role == 1)
    child = (is_kind["family"] & (role >= 2)) | (is_kind["lone_parent"] & (role >= 1)) | daughter
    son = is_kind["father_and_son"] & (role == 2)
    grandchild = is_kind["grandmother"] & (role == 1)
    sibling = is_kind["siblings"] & (role > 0)
    partner = ((is_kind["couple"] | is_kind["family"]) & (role == 1)) | (is_kind["father_and_son"] & (role == 1))
    twin = is_kind["twins"]

    age = np.clip(rng.gamma(7.0, 6.2, persons) + 17, 18, 92)
    is_parent = is_kind["family"] | is_kind["lone_parent"] | is_kind["father_and_son"] | is_kind["mother_and_daughter"]
    age = np.where(is_parent & (age < 42), rng.uniform(42, 62, persons), age)
    age = np.where(is_kind["flatmates"], rng.uniform(19, 33, persons), age)
    age = np.where(is_kind["grandmother"], rng.uniform(68, 91, persons), age)
    age_of_head = age[head]
    age = np.where(partner, np.clip(age_of_head + rng.normal(-1.0, 3.5, persons), 19, 92), age)
    of_child = np.maximum(age_of_head - rng.uniform(22, 34, persons), 16)
    age = np.where(child, np.where(of_child > 40, rng.uniform(32, 44, persons), of_child), age)
    age = np.where(son, np.clip(age_of_head - rng.uniform(24, 30, persons), 16, 50), age)
    age = np.where(grandchild, np.clip(age_of_head - rng.uniform(44, 60, persons), 16, 35), age)
    age = np.where(sibling, np.clip(age_of_head + rng.uniform(1, 5, persons) * role, 18, 94), age)
    age = np.where(twin, age_of_head, age + rng.random(persons))
    born = np.round(seasons.DAYS - age * 365.25).astype(np.int64)
    birth_year = 2020 - age.astype(np.int64)

    female = rng.random(persons) < 0.62
    female = np.where(partner, ~female[head] ^ (rng.random(persons) < 0.05), female)
    female = np.where(is_kind["father_and_son"], role == 1, female)
    female |= is_kind["mother_and_daughter"] | (is_kind["grandmother"] & (role == 0))

    origin = np.asarray(ORIGINS, dtype=object)[_choice(rng, _ORIGIN_SHARES, persons)][head]
    origin = np.where(np.isin(origin, ("double", "particle")) & (role > 0), "french", origin)
    sex = np.where(female, "f", "m").astype(object)
    first_name = _given_names(rng, female, birth_year)
    for _ in range(3):  # Twins and siblings do not share a given name.
        again = np.flatnonzero((twin | child | sibling) & (first_name == np.roll(first_name, 1)) & (role > 0))
        first_name[again] = _given_names(rng, female[again], birth_year[again])
    compound = (origin == "french") & (rng.random(persons) < _COMPOUND_SHARE) & ~twin
    others, first_name_also = _other_names(rng, np.where(compound, "compound", origin), sex)
    foreign = (others != "") & ~((child | grandchild) & (rng.random(persons) < 0.5))
    first_name = np.where(foreign, others, first_name)
    first_name_also = _only_where(foreign, first_name_also)
    close, pairs = _close_twins(rng, twin, role)
    for position, pair in zip(close, pairs, strict=True):
        for who, (name, of_sex) in zip((head[position], position), spelling.CLOSE_NAMES[pair], strict=True):
            first_name[who], first_name_also[who], female[who] = name, None, of_sex == "f"
    first_name = np.where(son, first_name[head], first_name)
    first_name_also = np.where(son, first_name_also[head], first_name_also)
    second_name = _given_names(rng, female, birth_year - 20)

    own_names = _family_names(rng, origin)
    surname = own_names["last_name"]
    as_head = child | son | sibling | (twin & (role > 0)) | (grandchild & (rng.random(persons) < 0.5))
    married = partner & (rng.random(persons) < 0.72)
    takes_name = married & (rng.random(persons) < 0.8)
    bearer = np.where(as_head | takes_name, head, np.arange(persons))
    birth_name = _only_where(takes_name & female & (surname != surname[head]), surname)

    number, street, commune = _address(rng, persons)
    new_number, new_street, new_commune = _address(rng, persons)
    moves_together = (rng.random(persons) < 0.11)[head]
    moves_alone = (child | is_kind["flatmates"]) & (rng.random(persons) < 0.12)
    alone = is_kind["single"] & (origin == "french")
    one, other = _namesakes(rng, alone, commune, female, born)
    first_name[other], first_name_also[other], bearer[other] = first_name[one], first_name_also[one], one
    is_namesake = np.isin(np.arange(persons), np.r_[one, other])
    family_name = surname[bearer]
    weds = female & ~married & ~child & ~is_namesake & (rng.random(persons) < 0.035) & (age < 75)
    married_name = np.where(
        weds, _family_names(rng, np.full(persons, "french", dtype=object))["last_name"], family_name
    )
    birth_name = np.where(weds, family_name, birth_name)

    moved_day = np.where(moves_together, rng.integers(20, seasons.DAYS - 20, persons)[head], NEVER)
    moved_day = np.where(moves_alone, rng.integers(20, seasons.DAYS - 20, persons), moved_day)
    with_head = np.where(moves_alone, np.arange(persons), head)
    stays_near = rng.random(persons) < 0.65
    second_commune = np.where(stays_near[with_head], commune[head], new_commune[with_head])

    def never_unless(share: float) -> NDArray[np.int64]:
        return np.where(rng.random(persons) < share, rng.integers(15, seasons.DAYS - 15, persons), NEVER)

    shares_mail = (
        (role > 0)
        & (role < 3)
        & ~is_kind["flatmates"]
        & (rng.random(persons) < np.where(is_kind["mother_and_daughter"], 0.8, 0.17))
    )
    shares_phone = (role > 0) & ~is_kind["flatmates"] & (rng.random(persons) < 0.06)
    shares_bank_card = (partner | (child & (age < 20))) & (rng.random(persons) < 0.25)
    return pa.table(
        {
            "person": np.arange(persons, dtype=np.int32),
            "household": household.astype(np.int32),
            "head": head.astype(np.int32),
            "role": role.astype(np.int32),
            "scenario": pa.array(
                np.where(is_namesake, NAMESAKES, np.array(HOUSEHOLDS, dtype=object)[kind]), pa.string()
            ),
            "habit": _choice(rng, _HABIT_SHARES, persons).astype(np.int32),
            "activity": rng.gamma(1.1, 1 / 1.1, persons),
            "sex": pa.array(np.where(female, "f", "m"), pa.string()),
            "born": born,
            "first_name": pa.array(first_name, pa.string()),
            "first_name_also": pa.array(first_name_also, pa.string()),
            "first_name_short": pa.array([spelling.DIMINUTIVES.get(name) for name in first_name], pa.string()),
            "second_name": pa.array(_only_where(second_name != first_name, second_name), pa.string()),
            "is_family_first": origin == "asia",
            "has_particle": (origin == "particle")[bearer],
            "last_name": pa.array(family_name, pa.string()),
            "last_name_also": pa.array(own_names["last_name_also"][bearer], pa.string()),
            "last_part1": pa.array(own_names["last_part1"][bearer], pa.string()),
            "last_part2": pa.array(own_names["last_part2"][bearer], pa.string()),
            "birth_name": pa.array(birth_name, pa.string()),
            "married_name": pa.array(married_name, pa.string()),
            "married_day": np.where(weds, rng.integers(30, seasons.DAYS - 30, persons), NEVER),
            "address1": pa.array(street[head], pa.string()),
            "number1": number[head],
            "postal_code1": pa.array(places.postal_codes[commune[head]], pa.string()),
            "city1": pa.array(places.cities[commune[head]], pa.string()),
            "address2": pa.array(new_street[with_head], pa.string()),
            "number2": new_number[with_head],
            "postal_code2": pa.array(places.postal_codes[second_commune], pa.string()),
            "city2": pa.array(places.cities[second_commune], pa.string()),
            "moved_day": moved_day,
            "has_email": rng.random(persons) < np.where(age > 70, 0.6, 0.93),
            "shares_mail": shares_mail,
            "mail_pattern": rng.integers(0, 6, persons),
            "mail_domain": rng.random(persons),
            "mail_day": never_unless(0.12),
            "has_other_mail": rng.random(persons) < dirt.OTHER_EMAIL,
            "has_phone": rng.random(persons) < 0.9,
            "shares_phone": shares_phone,
            "phone_day": never_unless(0.07),
            "has_landline": (rng.random(persons) < np.where(age > 55, 0.6, 0.2))[head],
            "shares_bank_card": shares_bank_card,
            "bank_card_day": never_unless(0.35),
            "store": _nearest_store(commune[head]).astype(np.int32),
        }
    )
