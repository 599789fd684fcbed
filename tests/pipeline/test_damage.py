"""What lies damaged in a home: the next run goes on by itself where it can, and else says what to do."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from dagster_project.definitions import build_defs
from dagster_project.domain import release
from dagster_project.nightly import run_night
from dagster_project.run_lock import is_locked
from dagster_project.settings import Settings

GARBAGE = bytes(range(256)) * 64


def flip_bytes(path: Path) -> None:
    """Other bytes in the second half, the size as it was."""
    mode = path.stat().st_mode
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    for place in range(len(content) // 2, len(content), 997):
        content[place] ^= 0xFF
    path.write_bytes(content)
    path.chmod(mode)


def deliver_tonight(home: Path, supplier: Any, retailer: Any) -> None:
    rows = [
        {"event_id": f"N{n}", "session_id": "V1", "event": "visit", "occurred_at": "2020-07-10T09:00:00Z"}
        for n in range(90)
    ]
    supplier(home / "landing").deliver("web_events", retailer.LAST, rows, "part_02.csv")


def test_a_run_makes_anew_whatever_a_run_can_make(
    home: Path,
    base_home: Path,
    supplier: Any,
    retailer: Any,
    run_in: Any,
    differing_tables: Any,
    audience_files: Any,
) -> None:
    """Every working file is damaged at once, and a raw file is gone that landing still has; the release is whole."""
    deliver_tonight(home, supplier, retailer)
    (home / "warehouse.duckdb").write_bytes(GARBAGE)
    (home / "warehouse.duckdb.wal").write_bytes(GARBAGE)
    (home / "dbt" / "partial_parse.msgpack").write_bytes(GARBAGE)
    for path in home.glob("dagster/**/*.db"):
        path.write_bytes(GARBAGE)
    next((home / "raw" / "shop_customers").glob("*.parquet")).unlink()
    for left_over in (".spill", "releases/.building-20200101T000000Z", "raw/.reading-abc"):
        (home / left_over).mkdir(exist_ok=True)
        (home / left_over / "half").write_bytes(GARBAGE)
    (home / "releases" / ".current-20200101T000000Z").symlink_to("20200101T000000Z")

    night = run_in(home)
    assert night.outcome == "released", night.sentences
    (note,) = night.notes
    assert "Dagster's storage is damaged" in note
    assert set(differing_tables(base_home, home)) == {"landing.files", "staging.row_counts"}
    assert audience_files(home) == audience_files(base_home)
    assert not list((home / "releases").glob(".*"))
    assert not list((home / ".spill").iterdir())


def lose_the_releases(home: Path) -> None:
    shutil.rmtree(home / "releases")


def damage_the_ids(home: Path) -> None:
    flip_bytes(home / "releases" / "current" / "cocanal.duckdb")


def damage_the_ledger(home: Path) -> None:
    path = home / "releases" / "current" / "restricted.duckdb"
    os.truncate(path, path.stat().st_size - 4096)


def lose_the_pointer(home: Path) -> None:
    (home / "releases" / "current").unlink()


def put_a_folder_in_the_warehouses_place(home: Path) -> None:
    (home / "warehouse.duckdb").unlink(missing_ok=True)
    (home / "warehouse.duckdb").mkdir()


@pytest.mark.parametrize(
    ("happen", "code", "words"),
    [
        (lose_the_releases, 2, ("holds no release that can be read", "cocanal rebuild --from-nothing")),
        (damage_the_ids, 2, ("is damaged (cocanal.duckdb holds other bytes", "from the backup")),
        (damage_the_ledger, 2, ("is damaged (restricted.duckdb has", "from the backup")),
        (lose_the_pointer, 2, ("is missing", "cocanal release rollback 2")),
        (put_a_folder_in_the_warehouses_place, 1, ("is a folder", "move it away")),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_run_that_would_lose_ids_or_history_stops_with_what_to_do(
    happen: Callable[[Path], None],
    code: int,
    words: tuple[str, ...],
    home: Path,
    instance: dg.DagsterInstance,
    supplier: Any,
    retailer: Any,
    run_in: Any,
    published: Any,
) -> None:
    deliver_tonight(home, supplier, retailer)
    (home / "raw" / "last_release").write_text(f"{os.readlink(home / 'releases' / 'current')}\n")
    happen(home)
    before = published(home) if (home / "releases").exists() else {}
    night = run_in(home)
    assert night.exit_code == code, night.sentences
    (sentence,) = night.sentences
    for part in words:
        assert part in sentence
    assert before == (published(home) if (home / "releases").exists() else {})


def test_a_run_of_dagster_that_waited_in_vain_says_who_works_and_touches_nothing(
    home: Path, instance: dg.DagsterInstance, supplier: Any, retailer: Any, published: Any
) -> None:
    """Another process runs in the home, from the command line."""
    deliver_tonight(home, supplier, retailer)
    settings = Settings(home=home, threads=1, memory_limit="1GB", wait_minutes=0.001)
    program = (
        f"import fcntl, sys; f = open({str(settings.lock)!r}, 'w'); fcntl.flock(f, fcntl.LOCK_EX); "
        "print(1, flush=True); sys.stdin.read()"
    )
    before, warehouse = published(home), settings.warehouse.stat()
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        job = build_defs(settings).resolve_job_def("nightly")
        result = job.execute_in_process(instance=instance, raise_on_error=False)
        holder.kill()
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert failure.step_key == "landing"
    assert failure.step_failure_data.error is not None
    assert "Another run is working in" in failure.step_failure_data.error.to_string()
    assert published(home) == before
    assert settings.warehouse.stat() == warehouse


def test_a_warehouse_that_is_taken_away_while_the_run_works_costs_that_run_only(
    home: Path,
    instance: dg.DagsterInstance,
    supplier: Any,
    retailer: Any,
    run_in: Any,
    settings_of: Any,
    broken_into: Any,
    published: Any,
) -> None:
    deliver_tonight(home, supplier, retailer)
    before = published(home)
    warehouse = broken_into(settings_of(home), "landing gate", lambda _: (home / "warehouse.duckdb").unlink())
    night = run_in(home, warehouse=warehouse)
    assert (night.outcome, night.exit_code) == ("failed", 1)
    assert "run again, it is built anew" in " ".join(night.sentences)
    assert published(home) == before


def test_a_rebuild_gives_the_tables_of_the_release_that_it_replaces(
    home: Path,
    base_home: Path,
    instance: dg.DagsterInstance,
    settings_of: Any,
    differing_tables: Any,
    audience_files: Any,
) -> None:
    """Nothing is new, the caches are believed no more, and a damaged raw file is read again from landing."""
    settings = settings_of(home)
    damaged = max((home / "raw" / "shop_customers").glob("*.parquet"))
    content = damaged.read_bytes()
    damaged.write_bytes(content[:4] + b"\xff" * (len(content) // 2) + content[4 + len(content) // 2 :])
    first = release.current_release(home)
    assert first is not None

    job = build_defs(settings).resolve_job_def("rebuild")
    result = job.execute_in_process(instance=instance, raise_on_error=False)

    assert result.success
    assert not is_locked(settings.lock)
    rebuilt = release.current_release(home)
    assert rebuilt is not None
    assert rebuilt.release_id > first.release_id
    assert rebuilt.manifest()["previous_release_id"] == first.release_id
    assert differing_tables(base_home, home) == {}
    assert audience_files(home) == audience_files(base_home)


def test_what_has_left_landing_counts_on_when_the_releases_are_lost(
    home: Path, settings_of: Callable[[Path], Settings], supplier: Any, retailer: Any
) -> None:
    """Suppliers empty their folders, and tonight's are there again: only those must not be all that is left."""
    with duckdb.connect(str(home / "releases/current/cocanal.duckdb"), read_only=True) as before:
        files = set(before.execute("select file from landing.files").fetchall())
    shutil.rmtree(home / "landing")
    shutil.rmtree(home / "releases")
    deliver_tonight(home, supplier, retailer)
    settings = settings_of(home)
    release.abandon(home, settings.published_mark)
    night = run_night(settings, is_rebuild=True)
    assert night.outcome == "released", night.sentences
    with duckdb.connect(str(home / "releases/current/cocanal.duckdb"), read_only=True) as after:
        assert set(after.execute("select file from landing.files").fetchall()) > files


def test_a_full_disk_ends_in_a_sentence_and_the_next_run_goes_on(
    home: Path, supplier: Any, retailer: Any, published: Any, run_in: Any
) -> None:
    """No file may grow beyond 3 MiB, as if the disk were full: the warehouse does not fit."""
    deliver_tonight(home, supplier, retailer)
    before = published(home)
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, 3 << 20)); "
        "sys.argv[0] = 'cocanal'; from dagster_project.cli import app; app()"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, "run", "--home", str(home)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"COCANAL_THREADS": "1", "COCANAL_MEMORY_LIMIT": "1GB"},
    )
    assert run.returncode == 1, run.stderr
    assert "The disk is full" in run.stderr
    assert "free some space" in run.stderr
    assert "Traceback" not in run.stderr
    assert published(home) == before
    assert run_in(home).outcome == "released"


@pytest.mark.long
@pytest.mark.parametrize("free", [1, 4, 8, 12, 16])
def test_a_file_system_without_space_costs_no_release(
    free: int, home: Path, tmp_path: Path, supplier: Any, retailer: Any, published: Any, run_in: Any
) -> None:
    """The home lies on a file system of its own with ``free`` MiB left; then there is room, and the run goes on."""
    deliver_tonight(home, supplier, retailer)
    used = sum(path.stat().st_size for path in home.rglob("*") if path.is_file() and not path.is_symlink())
    place = tmp_path / "small"
    place.mkdir()
    blocks = used + sum(4096 for _ in home.rglob("*"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={blocks + 64 * 2**20}", "tmpfs", str(place)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("only root may mount a file system")
    try:
        small = shutil.copytree(home, place / "home", symlinks=True)
        ballast = place / "ballast"
        with ballast.open("wb") as out:
            out.truncate()
            os.posix_fallocate(out.fileno(), 0, shutil.disk_usage(place).free - free * 2**20)
        before = published(small)
        run = subprocess.run(
            [str(Path(sys.executable).with_name("cocanal")), "run", "--home", str(small)],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"COCANAL_THREADS": "1", "COCANAL_MEMORY_LIMIT": "1GB"},
        )
        assert "Traceback" not in run.stderr
        if run.returncode:
            assert run.returncode == 1, run.stderr
            assert "The disk is full" in run.stderr
            assert published(small) == before
        ballast.unlink()
        night = run_in(small)
        assert night.outcome == ("released" if run.returncode else "nothing_new"), night.sentences
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
