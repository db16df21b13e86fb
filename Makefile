# Two commands: `make demo` runs the main job on text that every machine already has; `make test` runs every check.
# Both first make a virtual environment of their own in .venv and install the locked versions, once.

MINUTES ?= 5
VENV := .venv
PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/installed

.PHONY: demo test clean
.DEFAULT_GOAL := help

help:
	@echo "make demo            pre-train, fine-tune and report in about $(MINUTES) + 5 minutes (make demo MINUTES=1: the short form)"
	@echo "make test            everything that is checked before a change lands"
	@echo "make clean           remove the virtual environment"

demo: $(INSTALLED)
	$(PYTHON) -m masklab demo --minutes $(MINUTES)

test: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright
	$(PYTHON) -m pytest -n 2 --dist loadfile

# The newest Python from 3.11 on that can make virtual environments. An environment that is there and works is kept.
# The stamp is written last, so an installation that was interrupted is taken up again.
$(INSTALLED): constraints.txt pyproject.toml
	@can='import sys; sys.exit(sys.version_info < (3, 11))'; \
	if ! $(PYTHON) -m pip --version >/dev/null 2>&1 || ! $(PYTHON) -c "$$can"; then \
	  chosen=; \
	  for name in python3.13 python3.12 python3.11 python3 python; do \
	    if $$name -c "import ensurepip; $$can" >/dev/null 2>&1; then chosen=$$name; break; fi; \
	  done; \
	  if [ -z "$$chosen" ]; then \
	    echo "masklab needs Python 3.11 or newer with its venv module (on Debian and Ubuntu: apt install python3 python3-venv)." >&2; \
	    exit 1; \
	  fi; \
	  echo "Making $(VENV) with $$($$chosen --version)"; \
	  $$chosen -m venv --clear $(VENV); \
	fi
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV)
