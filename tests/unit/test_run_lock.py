"""One run at a time in a home."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dagster_project.run_lock import HomeIsBusy, HomeIsUnusable, hold_run_lock, is_locked, release_run_lock, run_lock
from dagster_project.settings import Settings
from dagster_project.warehouse import Warehouse


def test_a_lock_is_held_until_it_is_let_go_and_holding_it_twice_is_no_error(tmp_path: Path) -> None:
    lock = tmp_path / "home" / "run.lock"
    assert not is_locked(lock)
    hold_run_lock(lock)
    hold_run_lock(lock)
    assert is_locked(lock)
    release_run_lock(lock)
    assert not is_locked(lock)
    release_run_lock(lock)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """Another process that holds the lock of a home."""
    lock = tmp_path / "run.lock"
    program = (
        "import sys; from pathlib import Path; from dagster_project.run_lock import hold_run_lock; "
        "hold_run_lock(Path(sys.argv[1])); print(1, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield lock, process
        process.kill()


def test_a_process_that_is_killed_leaves_no_lock(holder: tuple[Path, subprocess.Popen[bytes]]) -> None:
    lock, process = holder
    assert is_locked(lock)
    with pytest.raises(HomeIsBusy, match="Another run is working in"):
        hold_run_lock(lock)
    process.kill()
    process.wait()
    assert not is_locked(lock)
    hold_run_lock(lock)
    release_run_lock(lock)


def test_who_waits_begins_when_the_other_run_has_ended(holder: tuple[Path, subprocess.Popen[bytes]]) -> None:
    lock, process = holder
    with pytest.raises(HomeIsBusy, match="It was waited for"):
        hold_run_lock(lock, wait_seconds=0.1)
    threading.Timer(0.2, process.kill).start()
    hold_run_lock(lock, wait_seconds=600)
    release_run_lock(lock)


def test_a_step_that_is_run_by_hand_does_not_open_the_warehouse_of_a_run(
    holder: tuple[Path, subprocess.Popen[bytes]],
) -> None:
    lock, _ = holder
    warehouse = Warehouse(Settings(home=lock.parent))
    with pytest.raises(HomeIsBusy), warehouse.session("identity"):
        pass
    assert not warehouse.path.exists()


def test_a_session_lets_the_lock_go_unless_the_run_holds_it(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    warehouse = Warehouse(settings)
    with warehouse.session("identity"):
        assert is_locked(settings.lock)
    assert not is_locked(settings.lock)
    hold_run_lock(settings.lock)
    with warehouse.session("identity"), run_lock(settings.lock):
        pass
    assert is_locked(settings.lock)
    release_run_lock(settings.lock)


def test_a_lock_that_cannot_be_made_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "run.lock").mkdir()
    with pytest.raises(HomeIsUnusable, match=r"run\.lock cannot be opened .* must be a file"):
        hold_run_lock(tmp_path / "run.lock")
    assert not is_locked(tmp_path / "run.lock")
