"""Public files of people of whom the truth is known, and what is compared on them.

Febrl's generated Australians (Christen, «Febrl: a freely available record linkage system», 2008) and the made-up people
of Splink's tutorials. Neither comes with the project: a file is an argument.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from duckdb import DuckDBPyConnection

from dagster_project.accuracy.plain_splink import FAKE_PEOPLE, clusters_at_thresholds
from dagster_project.accuracy.staged import Row, real_date, stage_people
from dagster_project.domain.identity import Model, read_model, read_policy, resolve
from dagster_project.domain.identity.evaluation import Clustering, evaluate
from dagster_project.domain.identity.training import check, prepare, train_from_pairs
from dagster_project.warehouse import Warehouse


@dataclass(frozen=True)
class Found:
    """How well one method found the people of a file, and the seconds it took."""

    clustering: Clustering
    seconds: float


@dataclass(frozen=True)
class TrainedOn:
    """A model that was trained on a file without its labels, and the seconds that it took."""

    model: Model
    seconds: float


@dataclass(frozen=True)
class Shape:
    """What a line of a file is: ``customer``, as columns of ``shop_customers``; ``person``, whose it is in truth."""

    customer: Callable[[Row], dict[str, object]]
    person: Callable[[Row], str]


def _febrl_customer(row: Row) -> dict[str, object]:
    street = [row[name] for name in ("street_number", "address_1", "address_2") if name in row]
    return {
        "first_name": row.get("given_name"),
        "last_name": row.get("surname"),
        "birth_date": real_date(row.get("date_of_birth"), "%Y%m%d"),
        "address_line1": " ".join(street) or None,
        "postal_code": row.get("postcode"),
        "city": row.get("suburb"),
        "country": "AU",
    }


def _fake_customer(row: Row) -> dict[str, object]:
    return {
        "first_name": row.get("first_name"),
        "last_name": row.get("surname"),
        "birth_date": real_date(row.get("dob"), "%Y-%m-%d"),
        "email": row["email"].lower() if "email" in row else None,
        "city": row.get("city"),
    }


FEBRL_FILE = Shape(customer=_febrl_customer, person=lambda row: row["rec_id"].split("-")[1])
"""Febrl's data sets. The social insurance number is left out; the truth is N of ``rec-N-org`` and ``rec-N-dup-K``."""

FAKE_PEOPLE_FILE = Shape(customer=_fake_customer, person=lambda row: row["cluster"])

_FAKE_THRESHOLDS = tuple(float(weight) for weight in range(-10, 21))
"""Match weights (log2 odds) at which the tutorial's clusters are judged; the best one counts."""


def cocanal_on(warehouse: Warehouse, rows: list[Row], shape: Shape, seed: int, model: Model | None = None) -> Found:
    """The identity stage on a file of people, with the shipped model or another."""
    with warehouse.scratch() as connection:
        people = stage_people(connection, rows, customer=shape.customer, person=shape.person, seed=seed)
        began = time.monotonic()
        resolve(connection, as_of=people.as_of, run_id="accuracy", previous=None, model=model)
        seconds = time.monotonic() - began
        return Found(_judged(connection, "identity.account_links"), seconds)


def train_on(warehouse: Warehouse, rows: list[Row], shape: Shape, seed: int) -> TrainedOn:
    """A model from the records of a file, never from its truth. Raises TrainingError where they are too few."""
    with warehouse.scratch() as connection:
        people = stage_people(connection, rows, customer=shape.customer, person=shape.person, seed=seed)
        began = time.monotonic()
        prepare(connection, people.as_of, read_policy())
        trained = train_from_pairs(connection, read_model(), "identity_pairs", version="trained on the file")
        check(trained)
        return TrainedOn(trained.model, time.monotonic() - began)


def splink_on_fake_people(warehouse: Warehouse, rows: list[Row], seed: int) -> tuple[Found, float]:
    """Splink's tutorial on its ``fake_1000``, at the threshold (returned with it) that the truth likes best."""
    with warehouse.scratch() as connection:
        stage_people(connection, rows, customer=FAKE_PEOPLE_FILE.customer, person=FAKE_PEOPLE_FILE.person, seed=seed)
        connection.execute(
            """
            create table people as
            select customer_id as unique_id, first_name, last_name as surname, strftime(birth_date, '%Y-%m-%d') as dob,
                city, email
            from staging.stg_shop_customers
            """
        )
        found = []
        for clusters in clusters_at_thresholds(connection, "people", FAKE_PEOPLE, _FAKE_THRESHOLDS, seed):
            links = (
                "select 'shop_customers' as feed, unique_id as record_id, cluster_id as account_id "
                f"from {clusters.table}"
            )
            found.append((Found(_judged(connection, links), clusters.seconds), clusters.threshold))
        return max(found, key=lambda each: each[0].clustering.pairs.f1.value or 0)


def _judged(connection: DuckDBPyConnection, links: str) -> Clustering:
    people = evaluate(connection, links=links, truth="truth").people
    assert people is not None  # every record of the file has its person
    return people
