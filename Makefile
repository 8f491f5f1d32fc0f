# make demo, test, quick, lint, docs, docs-serve, pages, recipes, dist, endings, newest, gone, matrix, bench,
# pictures: each sets up what it needs in .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test quick lint docs docs-serve pages recipes dist endings newest gone matrix bench pictures clean

# The constraints pin what CI was run with; the project itself only has floors.
.venv/ready: pyproject.toml constraints.txt wbtune/__init__.py
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	$(BIN)/python -m pip install --quiet --group dev --editable . --constraint constraints.txt
	touch $@

demo: .venv/ready
	$(BIN)/python examples/quickstart.py

# Two files at a time, each with a Ray of its own: Ray's waits are the other's work. What fails is shown
# at once, and what hangs ends, so that whoever waits for an hour sees why.
test: .venv/ready
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder \
		--instafail --timeout 900 --session-timeout 3300
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

# What needs no Ray and no server, with fewer examples, for the time between two edits.
quick: .venv/ready
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile \
		--hypothesis-profile quick -m unit

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --strict tests/typing_examples.py

# Not --quiet: with it, --strict counts no warnings.
docs: .venv/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: .venv/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

# The parts of the documentation that are written from the code, or by running it for a minute.
pages: .venv/ready
	for page in $(wildcard tests/*_page.py); do $(BIN)/python $$page || exit 1; done

# RLlib, Lightning, transformers and torch: some gigabytes, if pip does not get torch's build for CPUs.
.venv/recipes/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv/recipes
	.venv/recipes/bin/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	.venv/recipes/bin/python -m pip install --quiet --group recipes --editable . --constraint constraints.txt
	touch $@

# The programs in docs/recipes that need these.
recipes: .venv/recipes/ready
	.venv/recipes/bin/python -m pytest --noconftest tests/recipes.py

.venv/release: .venv/ready
	$(BIN)/python -m pip install --quiet --group release --constraint constraints.txt
	touch $@

# What a release uploads: built, checked, and tried in an environment of its own.
dist: .venv/release
	rm -rf dist
	PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(BIN)/python tests/check_dist.py dist

# The newest pre-releases of Ray and wandb, instead of what the constraints pin.
newest: .venv/ready
	$(BIN)/python -m pip install --quiet --upgrade --pre "ray[tune]" wandb

# What a release without some private name costs; an hour or more. And every way with the oldest and
# the newest releases, in environments of their own.
gone: .venv/ready
	$(BIN)/python tests/gone_table.py --write docs/compatibility.md

matrix: .venv/ready
	$(BIN)/python tests/matrix_table.py --write docs/compatibility.md

# It measures: alone on the machine, please.
endings: .venv/ready
	$(BIN)/python tests/endings_program.py --write docs/endings.md

.venv/bench: .venv/ready
	$(BIN)/python -m pip install --quiet --group bench --constraint constraints.txt
	touch $@

# The same; it ends non-zero when a bound is missed.
bench: .venv/bench
	$(BIN)/python benchmarks/bench.py --json benchmarks/results.json \
		--picture docs/pictures/cost.png --write docs/costs.md

.venv/pictures: .venv/ready
	$(BIN)/python -m pip install --quiet --group pictures --constraint constraints.txt
	touch $@

# The pictures in docs/pictures, except the benchmark's: what a browser and a terminal really show.
pictures: .venv/pictures demo
	$(BIN)/python tests/pictures.py demo-results docs/pictures

clean:
	rm -rf .venv build dist site demo-results examples/tour-results .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis
