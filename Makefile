.PHONY: test slow bench lint fix docs site
test:
	python -m pytest
slow:
	python -m pytest -m slow
bench:
	python -m pytest tests/benchmarks -m benchmark --benchmark-only -n 0 -s
lint:
	ruff check && ruff format --check && mypy
fix:
	ruff check --fix && ruff format
docs:
	sphinx-build -W docs docs/_build/html
site:
	REFSDE_DOCS_EXECUTE=cache sphinx-build -W docs docs/_build/html
