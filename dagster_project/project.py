"""Where the project's own files are. Not for anything that a deployment writes: that is ``settings.home``."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
# In a checkout ``dbt/`` lies beside the package; in an installed wheel it travels inside it.
DBT_DIRECTORY = next(path for path in (_PACKAGE.parent / "dbt", _PACKAGE / "_dbt") if path.is_dir())
