"""The cast through the whole pipeline: of each audience that something triggers, who is in and who just is not."""

from pathlib import Path
from typing import Any

import duckdb
import pytest

from dagster_project.demo import DemoPlan, generate
from dagster_project.domain import release
from dagster_project.nightly import run_night

IN = {
    "reopening_near_you": ("C-NOEMIE-1", "C-SACHA-1"),
    "back_in_stock": ("C-HUGO-1", "C-ALICE-1"),
    "abandoned_basket": ("C-PAUL-1", "C-YANN-1"),
    "delivery_late": ("C-LINA-1", "C-OSCAR-1"),
    "store_only_silent": ("L-SIMONE-1", "L-ROGER-1"),
    "best_customers": ("C-GERARD-1", "C-HUGO-1"),
}


@pytest.fixture(scope="module")
def analysts(tmp_path_factory: pytest.TempPathFactory, settings_of: Any, outside_environment: Any) -> Any:
    home: Path = tmp_path_factory.mktemp("shipped")
    settings = settings_of(home)
    generate(settings.landing, home / "truth", DemoPlan(persons=60, nights=1, seed=11))
    with outside_environment():
        night = run_night(settings)
    assert night.outcome == "released", night.sentences
    with duckdb.connect(home / "releases" / "current" / release.DATABASES["analysts"], read_only=True) as connection:
        yield connection


def _records_in(analysts: Any, audience: str) -> set[str]:
    rows = analysts.execute(
        f"select record_id from audience.{audience} join identity.account_links using (account_id)"
    ).fetchall()
    return {record for (record,) in rows}


@pytest.mark.parametrize("audience", IN)
def test_of_two_shoppers_who_differ_in_one_thing_one_is_in(analysts: Any, audience: str) -> None:
    within, without = IN[audience]
    found = _records_in(analysts, audience)
    assert within in found
    assert without not in found


def test_a_late_parcel_is_told_to_somebody_who_agreed_to_nothing(analysts: Any) -> None:
    kept = analysts.execute(
        """
        select members.purpose, members.arm
        from audience.members join identity.account_links using (account_id)
        where audience = 'delivery_late' and record_id = 'C-LINA-1'
        """
    ).fetchall()
    assert kept == [("service", "treated")]


def test_who_left_something_sold_out_in_the_basket_is_told_of_something_like_it(analysts: Any) -> None:
    ((carted, suggested, is_there),) = analysts.execute(
        """
        select carted.category, suggested.category, stock.quantity > 0
        from audience.abandoned_basket as basket
        join identity.account_links as links using (account_id)
        join staging.stg_products as suggested using (product_id)
        join staging.stg_products as carted on carted.product_id = 'P00008'
        join staging.stg_stock as stock
            on stock.product_id = basket.product_id and stock.location_id = basket.location_id
        where links.record_id = 'C-ROSE-1' and basket.is_alternative
        """
    ).fetchall()
    assert carted == suggested
    assert is_there
