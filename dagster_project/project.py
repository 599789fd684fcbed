"""Where the project's own files are. Not for anything that a deployment writes: that is ``settings.home``."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _beside_or_inside(name: str, inside: str) -> Path:
    """In a checkout ``name`` lies beside the package; in an installed wheel it travels inside it."""
    beside = _PACKAGE.parent / name
    return beside if beside.exists() else _PACKAGE / inside


DBT_DIRECTORY = _beside_or_inside("dbt", "_dbt")
WORKSPACE = _beside_or_inside("workspace.yaml", "_workspace.yaml")
