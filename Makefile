# Every command of this project. Each target builds what it needs: the first one typed in a clean
# clone works, with Python 3.11 or newer (venv and pip included) and make.

PYTHON_IN_VENV := .venv/bin/python
.DEFAULT_GOAL := help
.PHONY: help demo run test test-slow lint format bench mutants test-realpds fuzz clean

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/.built ## Watch a whole relay on a simulated network; SECONDS=20 ends by itself
	@$(PYTHON_IN_VENV) -m tests.demo $(if $(SECONDS),--seconds $(SECONDS))

run: .venv/.built ## Start the relay in the foreground; docs/settings.md has the settings
	@exec $(PYTHON_IN_VENV) -m common.command run

test: .venv/.built ## Run every test but the slow ones; ARGS="tests/persist -x" to choose
	@$(PYTHON_IN_VENV) -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: .venv/.built ## Run the tests that take minutes of real time each
	@$(PYTHON_IN_VENV) -m pytest -q -m slow $(ARGS)

lint: .venv/.built ## Check style and types
	@$(PYTHON_IN_VENV) -m ruff check .
	@$(PYTHON_IN_VENV) -m ruff format --check .
	@$(PYTHON_IN_VENV) -m mypy --strict

format: .venv/.built ## Bring all code into the one format
	@$(PYTHON_IN_VENV) -m ruff format .

bench: .venv/.built ## Print the cost of an event by stage, beside the floor of the same run
	@$(PYTHON_IN_VENV) -m tests.bench $(ARGS)

mutants: .venv/.built ## Put small bugs into a copy, one at a time: does a test see each?
	@$(PYTHON_IN_VENV) -m tests.mutants $(ARGS)

test-realpds: .venv/.built ## Run real PDSes and a real directory against the relay; needs npm
	@$(PYTHON_IN_VENV) -m tests.realpds.live $(ARGS)

fuzz: .venv/.built ## Hunt every parser; SECONDS=600 for each, two at a time; ARGS="node judge" to choose
	@nice $(PYTHON_IN_VENV) -m tests.fuzz $(if $(SECONDS),--seconds $(SECONDS)) $(ARGS)

clean: ## Remove .venv and caches; never data
	rm -rf .venv .mypy_cache .ruff_cache .hypothesis *.egg-info

.venv/.built: requirements.lock pyproject.toml .ci/venv
	@sh .ci/venv
