"""One run at a time in a home."""

import subprocess
import sys
from pathlib import Path

import pytest

from dagster_project.run_lock import HomeIsBusy, hold_run_lock, is_locked, release_run_lock


def test_a_lock_is_held_until_it_is_let_go_and_holding_it_twice_is_no_error(tmp_path: Path) -> None:
    lock = tmp_path / "home" / "run.lock"
    assert not is_locked(lock)
    hold_run_lock(lock)
    hold_run_lock(lock)
    assert is_locked(lock)
    release_run_lock(lock)
    assert not is_locked(lock)
    release_run_lock(lock)


def test_a_process_that_is_killed_leaves_no_lock(tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    program = (
        "import sys; from pathlib import Path; from dagster_project.run_lock import hold_run_lock; "
        "hold_run_lock(Path(sys.argv[1])); print(1, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert is_locked(lock)
        with pytest.raises(HomeIsBusy, match="Another run is working in"):
            hold_run_lock(lock)
        holder.kill()
    assert not is_locked(lock)
    hold_run_lock(lock)
    release_run_lock(lock)
