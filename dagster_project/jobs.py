"""The nightly job, its schedule, and what says so when a run fails. Not for the work: assets."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg
import requests
from pydantic import Field
from tenacity import retry, stop_after_attempt, wait_exponential

from dagster_project.assets.landing import SCHEDULED_TAG
from dagster_project.run_lock import HomeIsBusy, hold_run_lock
from dagster_project.settings import Settings
from dagster_project.stages import LANDING
from dagster_project.tidy import say, tidy
from dagster_project.warehouse import Warehouse

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

NIGHTLY = "nightly"


def nightly_job() -> "UnresolvedAssetJobDefinition":
    """Every asset and every gate, in one process: DuckDB lets one process write."""
    return dg.define_asset_job(
        NIGHTLY,
        selection=dg.AssetSelection.all(),
        executor_def=dg.in_process_executor,
        description="From delivered files to a released audience. Publishes nothing where a gate stops it.",
    )


def rebuild_job() -> "UnresolvedAssetJobDefinition":
    """The same from raw alone, even where nothing is new."""
    return dg.define_asset_job(
        "rebuild",
        selection=dg.AssetSelection.all(),
        executor_def=dg.in_process_executor,
        config={"ops": {LANDING: {"config": {"rebuild": True}}}},
        description="Makes everything again from raw, caches too, and releases it. Ids go on from the current release.",
    )


def nightly_schedule(settings: Settings, job: "UnresolvedAssetJobDefinition") -> dg.ScheduleDefinition:
    """The nightly job at 02:30 in Paris unless set otherwise; off until somebody switches it on."""
    return dg.ScheduleDefinition(
        name="every_night",
        job=job,
        cron_schedule=settings.schedule,
        execution_timezone="Europe/Paris",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        tags={SCHEDULED_TAG: "true"},
    )


@retry(stop=stop_after_attempt(4), wait=wait_exponential(max=20), reraise=True)
def _post(address: str, text: str, run_id: str) -> None:
    requests.post(address, json={"text": text, "run_id": run_id}, timeout=10).raise_for_status()


def failure_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """Sensors that say so when a run failed or was stopped: in their own log, and to the webhook if one is set."""

    def tell(context: dg.RunStatusSensorContext, what: str) -> None:
        run = context.dagster_run
        step_errors = [
            event.message for event in context.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        ]
        text = (
            f"Cocanal: the run {run.run_id[:8]} {what}. {' '.join(step_errors[:1])} The last release stays as it was."
        )
        context.log.error(text)
        if settings.webhook_url:
            _post(str(settings.webhook_url), text, run.run_id)

    @dg.run_status_sensor(
        run_status=dg.DagsterRunStatus.FAILURE, name="run_failed", default_status=dg.DefaultSensorStatus.RUNNING
    )
    def run_failed(context: dg.RunStatusSensorContext) -> None:
        """Tells of a run that failed or that a gate stopped."""
        tell(context, "failed")

    @dg.run_status_sensor(
        run_status=dg.DagsterRunStatus.CANCELED, name="run_stopped", default_status=dg.DefaultSensorStatus.RUNNING
    )
    def run_stopped(context: dg.RunStatusSensorContext) -> None:
        """Tells of a run that somebody stopped."""
        tell(context, "was stopped")

    return [run_failed, run_stopped]


def tidy_job(settings: Settings) -> dg.JobDefinition:
    """Removes what has been kept for its period, and says what went."""

    @dg.op
    def remove_what_is_old(context: dg.OpExecutionContext) -> None:
        removed = tidy(settings, context.instance, datetime.now(UTC))
        for sentence in say(removed):
            context.log.info(f"Removed: {sentence}" if removed else sentence)
        context.add_output_metadata(
            {
                "things": len(removed),
                "MiB": dg.MetadataValue.float(round(sum(each.byte_count for each in removed) / 2**20, 1)),
                "removed": dg.MetadataValue.table(
                    [
                        dg.TableRecord({"kind": each.kind, "name": each.name, "bytes": each.byte_count})
                        for each in removed
                    ]
                    or [dg.TableRecord({"kind": "nothing", "name": "", "bytes": 0})]
                ),
            }
        )

    @dg.job(
        name="tidy",
        description="Removes deliveries, releases, run records, pages and left-overs that were kept for their period.",
    )
    def tidy_home() -> None:
        remove_what_is_old()

    return tidy_home


class TrainingConfig(dg.Config):
    """What a person may ask of one training."""

    method: str = Field("accounts", description="accounts (shops) or pairs (registers, files without households).")
    adopt: bool = Field(False, description="Let the nightly run use the candidate from now on.")


def training_job(settings: Settings) -> dg.JobDefinition:
    """What «cocanal identity train» does: a candidate model beside the one in force. Publishes nothing."""

    @dg.op
    def train_identity_model(context: dg.OpExecutionContext, config: TrainingConfig) -> None:
        from dagster_project.domain.identity.evaluation import EvaluationError
        from dagster_project.domain.identity.training import TrainingError
        from dagster_project.identity_training import train

        if config.method not in ("accounts", "pairs"):
            raise dg.Failure("The method is accounts or pairs.")
        try:
            found = train(
                settings,
                method="pairs" if config.method == "pairs" else "accounts",
                adopt=config.adopt,
                announce=context.log.info,
            )
        except (TrainingError, EvaluationError) as error:
            raise dg.Failure(str(error)) from error
        for comparison, level, before, after in found.weights:
            context.log.info(f"{comparison}, {level}: {before:+.1f} before, {after:+.1f} after (bits).")
        pairs, changes = found.pairs, found.changes
        context.log.info(
            f"Trained on {found.trained.trained_on}. Of {pairs.scored} pairs, {pairs.gained} would join and "
            f"{pairs.lost} would no longer; of {found.accounts[0]} accounts, {changes.merged} would be merged and "
            f"{changes.split} be split off. {'In force' if found.adopted else 'Beside the model in force'}: "
            f"{found.adopted or found.candidate}."
        )

    @dg.job(name="identity_training", description="Trains a match model on the last build. Publishes nothing.")
    def identity_training() -> None:
        train_identity_model()

    return identity_training


def privacy_job(settings: Settings) -> dg.JobDefinition:
    """What «cocanal privacy erase --retention» does: every open erasure, and the accounts whose period is over."""

    @dg.op
    def erase_people(context: dg.OpExecutionContext) -> None:
        from dagster_project.domain.privacy.receipt import in_words
        from dagster_project.domain.privacy.tombstones import KeyLost
        from dagster_project.domain.release import ReleaseError
        from dagster_project.privacy import erase

        try:
            hold_run_lock(settings.lock, settings.wait_minutes * 60)
            receipts = erase(
                settings, Warehouse(settings), datetime.now(UTC), with_retention=True, announce=context.log.info
            )
        except (HomeIsBusy, KeyLost, ReleaseError) as error:
            raise dg.Failure(str(error)) from error
        for receipt in receipts:
            for sentence in in_words(receipt):
                context.log.info(sentence)
        context.add_output_metadata(
            {
                "receipts": len(receipts),
                "accounts": sum(receipt.account_count for receipt in receipts),
                "places where something is left": sum(len(receipt.found) for receipt in receipts),
            }
        )
        if any(receipt.found for receipt in receipts):
            raise dg.Failure(
                "Something of the erased is left in the home: their receipts say where («cocanal privacy receipt»). "
                "The next run of this job begins with them."
            )

    @dg.job(
        name="privacy",
        description="Erases everybody who asked for it, and accounts kept for their period, from every file of the "
        "home. The next night publishes without them.",
    )
    def privacy() -> None:
        erase_people()

    return privacy


def weekly_tidy(job: dg.JobDefinition) -> Iterator[dg.ScheduleDefinition]:
    """The tidy job every Sunday; off until somebody switches it on."""
    yield dg.ScheduleDefinition(
        name="every_week",
        job=job,
        cron_schedule="0 5 * * 0",
        execution_timezone="Europe/Paris",
        default_status=dg.DefaultScheduleStatus.STOPPED,
    )
