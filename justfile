# One word a task; CONTRIBUTING.md has the plain commands.

bin := ".venv/bin"

# List the tasks.
default:
    @just --list

# Make .venv with everything that tests and tools need.
setup:
    python3 -m venv .venv
    {{bin}}/pip install -c constraints.txt -e '.[dev]'

# Run the tests: all, or those that the arguments choose.
test *arguments:
    {{bin}}/python -m pytest {{arguments}}

# Run all tests and say what they do not cover; takes about two thirds longer.
coverage:
    {{bin}}/python -m pytest -n 2 --ignore=tests/reliability --cov=biorerank_plugins --cov-branch --cov-report=term:skip-covered

# Check style and format.
lint:
    {{bin}}/ruff check .
    {{bin}}/ruff format --check .

# Check types.
types:
    {{bin}}/python -m mypy

# Check that every room imports only what lies below it.
layers:
    {{bin}}/lint-imports

# Show the documentation as a site, and follow changes.
docs:
    {{bin}}/mkdocs serve

# Measure speed on this machine.
bench *arguments:
    {{bin}}/biorerank bench {{arguments}}

# Delete what tools left behind.
clean:
    rm -rf build dist site .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
    find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
