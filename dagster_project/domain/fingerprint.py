"""What a release is a function of, as one hash: the same fingerprint means the same tables.

The deliveries by content, the as-of date, the code, and the settings that reach a table. Not the clock, the machine, or
how the deliveries were spread over nights.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path

from dagster_project.domain.landing.deliveries import Delivery
from dagster_project.project import DBT_DIRECTORY


def code_version() -> str:
    """A hash of the models, the policies, the reference lists and the Python that makes tables."""
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for root, suffixes in ((package, {".py", ".yml", ".json", ".csv", ".jinja"}), (DBT_DIRECTORY, {".sql", ".yml"})):
        for path in sorted(root.rglob("*")):
            inside = path.relative_to(root)
            if path.suffix in suffixes and inside.parts[0] not in ("target", "logs"):
                digest.update(str(inside).encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def fingerprint(deliveries: Iterable[Delivery], as_of: date, settings: Mapping[str, object]) -> str:
    """The fingerprint of a build as lower-case hex."""
    inputs = sorted((each.file, each.sha256, each.row_count) for each in deliveries if each.sha256)
    told = json.dumps(
        {"inputs": inputs, "as_of": as_of.isoformat(), "settings": dict(settings), "code": code_version()},
        sort_keys=True,
        default=str,
    )
    return hashlib.sha256(told.encode()).hexdigest()


def file_stamp(path: Path) -> str | None:
    """A hash of a file that reaches a table, such as a home's own match model; None where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
