"""Composition only: the settings and the parts become Dagster's definitions. Nothing is decided here."""

from pathlib import Path

import dagster as dg
import duckdb

from dagster_project.assets.activation import activation_assets
from dagster_project.assets.identity import identity_assets
from dagster_project.assets.landing import landing_assets
from dagster_project.assets.models import model_assets
from dagster_project.assets.release import release_assets
from dagster_project.assets.segment import drift_assets
from dagster_project.assets.staging import dictionary_assets
from dagster_project.domain import release
from dagster_project.jobs import (
    failure_sensors,
    nightly_job,
    nightly_schedule,
    privacy_job,
    rebuild_job,
    tidy_job,
    training_job,
    weekly_tidy,
)
from dagster_project.quality.gate import gate_check
from dagster_project.quality.suites import account, activation, audience, identity, landing, segment, staging
from dagster_project.quality.suites import release as release_suite
from dagster_project.settings import Settings, load_settings
from dagster_project.stages import ACCOUNT, AUDIENCE, SEGMENT, STAGING
from dagster_project.transform import audience_definitions, read_manifest, read_variables
from dagster_project.warehouse import Warehouse


def build_defs(settings: Settings, warehouse: Warehouse | None = None) -> dg.Definitions:
    """The whole pipeline of one home; ``warehouse`` replaces the working database's door, for tests that break in."""
    warehouse = warehouse or Warehouse(settings)
    manifest = read_manifest(settings)
    audiences = audience_definitions(manifest)

    def previous() -> Path | None:
        current = release.current_release(settings.home)
        return current.directory / release.DATABASES["analysts"] if current else None

    def building(connection: duckdb.DuckDBPyConnection) -> Path:
        ((build_id,),) = connection.execute("select build_id from landing.builds").fetchall()
        return release.building_directory(settings.home, build_id)

    nightly = nightly_job()
    tidy = tidy_job(settings)
    return dg.Definitions(
        assets=[
            landing_assets(settings, warehouse, manifest),
            dictionary_assets(settings, warehouse, manifest),
            model_assets(STAGING, settings, warehouse, manifest),
            identity_assets(settings, warehouse, manifest),
            model_assets(ACCOUNT, settings, warehouse, manifest),
            model_assets(SEGMENT, settings, warehouse, manifest),
            drift_assets(settings, warehouse, manifest),
            model_assets(AUDIENCE, settings, warehouse, manifest, audiences),
            activation_assets(settings, warehouse, manifest),
            *release_assets(settings, warehouse, manifest),
        ],
        asset_checks=[
            gate_check(lambda: landing.suite(settings), warehouse, previous=previous),
            gate_check(lambda: staging.suite(settings), warehouse, previous=previous),
            gate_check(lambda: identity.suite(previous() is not None), warehouse, previous=previous),
            gate_check(account.suite, warehouse, previous=previous),
            gate_check(segment.suite, warehouse, previous=previous, also_waits_for=("segment.drift",)),
            gate_check(lambda: audience.suite(previous() is not None, read_variables()), warehouse, previous=previous),
            gate_check(
                activation.suite,
                warehouse,
                previous=previous,
                prepare=lambda connection: activation.reread(connection, building(connection) / "audiences"),
            ),
            gate_check(
                release_suite.suite,
                warehouse,
                previous=previous,
                prepare=lambda connection: release_suite.reread(connection, building(connection)),
            ),
        ],
        jobs=[nightly, rebuild_job(), tidy, training_job(settings), privacy_job(settings)],
        schedules=[nightly_schedule(settings, nightly), *weekly_tidy(tidy)],
        sensors=failure_sensors(settings),
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """What ``workspace.yaml`` loads: the home that the environment names."""
    return build_defs(load_settings())
