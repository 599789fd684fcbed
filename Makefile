# Two commands matter: `make demo` runs the main job on a fresh machine, `make test` passes the tests.
# Each brings what it needs: uv (if absent, into .uv/) and every library at the version that uv.lock names.

UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
RUN := $(UV) run --locked --quiet
HOME_OF_RUN := $(if $(COCANAL_HOME),$(COCANAL_HOME),var)

# The linter judges the SQL that dbt compiled. The models stg_*.sql are one macro; problems.sql is written by another.
DBT := --quiet --no-write-json --no-send-anonymous-usage-stats --project-dir dbt --profiles-dir dbt \
	--target-path target/lint --log-path dbt/target/lint
COMPILED := dbt/target/lint/compiled/cocanal/models

.PHONY: demo test test-long quick lint ui bench bench-identity bench-privacy accuracy docs clean

demo: .venv/ready
	@$(RUN) cocanal demo

# Each run that the tests make waits for the disk some thousand times: where 4 GB are free in memory, they work there.
IN_MEMORY := $(shell test -w /dev/shm && test "$$(df --output=avail -k /dev/shm | tail -1)" -gt 4000000 \
	&& echo PYTEST_DEBUG_TEMPROOT=/dev/shm)

# A module stays with one worker: what it builds for all its tests is built once.
test: .venv/ready lint
	@$(IN_MEMORY) $(RUN) pytest -n 2 --dist loadscope --no-loadscope-reorder

# Runs killed at every boundary, and readers during twenty runs: an hour. It prints its figures.
test-long: .venv/ready
	@$(RUN) pytest -q -s -m long tests

# What a developer runs between two edits: seconds.
quick: .venv/ready
	@$(RUN) pytest -q tests/unit tests/cast

lint: .venv/ready
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy
	@COCANAL_WAREHOUSE=:memory: $(RUN) dbt compile $(DBT)
	@$(RUN) sqlfluff lint --nocolor --disable-progress-bar --processes 2 $(COMPILED)/account/*.sql \
		$(COMPILED)/segment/*.sql $(COMPILED)/audience/*.sql $(COMPILED)/staging/[qu]*.sql

ui: .venv/ready
	@$(RUN) cocanal ui

bench: .venv/ready
	@$(RUN) python -m dagster_project.bench

# What a night costs the identity stage at a million people: 25 minutes, 10 GB of disk. BENCH='--persons 100000' is quicker.
bench-identity: .venv/ready
	@$(RUN) python -m dagster_project.identity_bench $(BENCH)

# What erasure, retention and access cost with 200 000 people and seven releases: half an hour, 8 GB of disk.
bench-privacy: .venv/ready
	@$(RUN) python -m dagster_project.privacy_bench $(BENCH)

# ACCURACY='--febrl FILE --fake-1000 FILE --into docs/accuracy.md' measures on files of people too, and fills the page.
accuracy: .venv/ready
	@$(RUN) python -m dagster_project.accuracy $(ACCURACY)

docs: .venv/ready
	@$(RUN) python -m dagster_project.dictionary docs/

.venv/ready: pyproject.toml uv.lock | $(UV)
	@$(UV) sync --locked --quiet
	@touch $@

.uv/bin/uv:
	@python3 -m venv .uv
	@.uv/bin/pip install --quiet uv

clean:
	rm -rf .venv .uv dbt/target
