# Everything a developer or a first-time visitor does here, one word each. `make` alone lists them.

PYTHON ?= python3
TORCH_VERSION ?= 2.14.1
TORCHVISION_VERSION ?= 0.29.1
LABEL_STUDIO_VERSION ?= 1.23.2
LABEL_STUDIO_ML_VERSION ?= 1.0.9
INFERENCE_SDK_VERSION ?= 1.8.3
PIP_AUDIT_VERSION ?= 2.10.1
# Where torch comes from, if not from the default registry; such an index has smaller builds without CUDA.
TORCH_INDEX_URL ?=

BIN := .venv/bin
PIP_WITH_PROGRESS := $(BIN)/python -m pip --disable-pip-version-check
PIP := $(PIP_WITH_PROGRESS) --quiet
CHROMIUM := $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)

.DEFAULT_GOAL := help
.PHONY: help demo demo-doctor demo-stop setup clean test lint format test-containers fuzz audit bench soak nano screenshots
.DELETE_ON_ERROR:

help:  ## Show this list.
	@awk -F ':.*## ' '/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo 'Begin with `make demo`: it installs everything under this folder and needs no GPU and no Docker.'

##@ Try it

demo: .venv/installed .venv-label-studio/installed  ## Start Label Studio, this backend and pictures to click on; DETACH=1 returns when ready.
	@$(BIN)/labelstudio-sam2 demo $(if $(DETACH),--detach)

demo-doctor:  ## Examine the demo, from its settings to one click, and say what to do.
	@if [ -x $(BIN)/labelstudio-sam2 ]; then $(BIN)/labelstudio-sam2 demo --doctor; else echo 'Nothing is installed yet: make demo.'; fi

demo-stop:  ## Stop a demo that was started with DETACH=1.
	@if [ -x $(BIN)/labelstudio-sam2 ]; then $(BIN)/labelstudio-sam2 demo --stop; else echo 'No demo is running.'; fi

##@ Set up

setup: .venv/installed  ## Install this backend into .venv, for a Label Studio of your own or for development.

clean: demo-stop  ## Remove the environments and caches; the demo's data stay in .demo.
	rm -rf .venv .venv-label-studio .venv-label-studio-ml .venv-inference-sdk .venv-audit .prometheus .mypy_cache .pytest_cache .ruff_cache .hypothesis .fuzz .containers

##@ Test

test: lint .venv-label-studio-ml/installed .venv-inference-sdk/installed $(if $(CHROMIUM)$(REQUIRE_BROWSER),.venv-label-studio/installed) $(if $(REQUIRE_PROMETHEUS),.prometheus/installed)  ## Run every check and test; the browser's too where there is a Chromium.
	$(BIN)/pytest
ifeq ($(CHROMIUM),)
	@echo 'The browser tests were left out: there is no Chromium. Install one (Debian, Ubuntu: apt-get install chromium).'
endif

lint: .venv/installed  ## Check format, style and types, and change nothing.
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

format: .venv/installed  ## Format the code, and mend what can be mended.
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

test-containers: .venv/installed  ## Build the image, bring the compose stack up and click in it; needs Docker, or Debian's engine and root.
	$(BIN)/pytest -m containers tests/containers $(ARGS)

# Half of the time for what comes over HTTP and in files, drawn anew in each round; half for brush RLE.
fuzz: .venv/installed  ## Send hostile requests, pictures and brush RLE for 5 minutes; MINUTES=60 for longer.
	@until=$$(($$(date +%s) + 30 * $(or $(MINUTES),5))); while [ $$(date +%s) -lt $$until ]; do \
		$(BIN)/pytest -x -q tests/fuzz/test_requests.py tests/fuzz/test_pictures.py --hypothesis-profile=fuzz || exit 1; done
	@mkdir -p .fuzz/inputs
	$(BIN)/python tests/fuzz/fuzz_brush_rle.py -max_total_time=$$((30 * $(or $(MINUTES),5))) -artifact_prefix=.fuzz/ .fuzz/inputs

audit: .venv/installed .venv-audit/installed  ## Look the installed packages up among published vulnerabilities.
	@$(BIN)/python -m pip --disable-pip-version-check list --format=freeze --exclude-editable | .venv-audit/bin/python .ci/audit.py

##@ Measure

bench: .venv/installed  ## Measure this backend beside the obvious code, for 7 minutes; ARGS=--quick for 2, ARGS=--help for more.
	$(BIN)/python -m benchmarks $(ARGS)

soak: .venv/installed  ## Let annotators work on the real server for 10 minutes, every answer checked; MINUTES=60 for longer.
	$(BIN)/python -m benchmarks.soak --minutes $(or $(MINUTES),10) $(ARGS)

##@ Make again what ships

nano: .venv/installed  ## Train nano, the small SAM 2 that ships, from scratch: hours; goes on where it was stopped.
	$(BIN)/python -m training.sources
	$(BIN)/python -m training.train
	$(BIN)/python -m training.export
	$(BIN)/python -m training.evaluate --model .nano/sam2_nano.safetensors=backend/labelstudio_sam2/segmenter/nano/sam2_nano.yaml
	$(BIN)/python -m training.speed

screenshots: .venv/installed .venv-label-studio/installed  ## Take the documents' pictures of the editor and of the status page again.
	SCREENSHOTS=docs/images $(BIN)/pytest tests/e2e/test_demo.py tests/e2e/test_status.py

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version + "; say make PYTHON=...")'
	@echo 'Installing into .venv; torch alone is a download of some gigabytes the first time'
	[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	@$(PIP) install -c constraints.txt setuptools wheel
	@# a torch that works is kept, whatever its version
	@$(BIN)/python -c 'import torch, torchvision' 2>/dev/null || $(PIP_WITH_PROGRESS) install -c constraints.txt \
		$(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL)) torch==$(TORCH_VERSION) torchvision==$(TORCHVISION_VERSION)
	@# without isolation: sam2 is built with the torch that is here, else pip downloads a second one
	@SAM2_BUILD_CUDA=0 $(PIP) install -c constraints.txt --no-build-isolation sam2==1.1.0
	@$(PIP) install -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@

.venv-label-studio/installed:
	@echo 'Installing Label Studio $(LABEL_STUDIO_VERSION) into .venv-label-studio'
	@[ -x .venv-label-studio/bin/python ] || $(PYTHON) -m venv .venv-label-studio
	.venv-label-studio/bin/python -m pip --disable-pip-version-check install label-studio==$(LABEL_STUDIO_VERSION)
	@touch $@

.venv-label-studio-ml/installed: .venv/installed
	@echo 'Installing label-studio-ml $(LABEL_STUDIO_ML_VERSION) into .venv-label-studio-ml'
	@# it pins Flask 1.1.2, so it gets an environment of its own; torch, sam2 and this package come from .venv, searched after it
	@[ -x .venv-label-studio-ml/bin/python ] || $(PYTHON) -m venv .venv-label-studio-ml
	.venv-label-studio-ml/bin/python -m pip --disable-pip-version-check --quiet install \
		label-studio-ml==$(LABEL_STUDIO_ML_VERSION) 'redis<9' 'rq<4'
	$(BIN)/python -c "import sysconfig; print('import site; site.addsitedir(%r)' % sysconfig.get_path('purelib'))" \
		> "$$(.venv-label-studio-ml/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/labelstudio_sam2.pth"
	.venv-label-studio-ml/bin/python -c 'import label_studio_ml.model, labelstudio_sam2'
	@touch $@

.venv-inference-sdk/installed: .venv/installed
	@echo 'Installing inference-sdk $(INFERENCE_SDK_VERSION) into .venv-inference-sdk'
	@# it pins Pillow and OpenCV, and brings supervision; the rest comes from .venv, searched after its own
	@[ -x .venv-inference-sdk/bin/python ] || $(PYTHON) -m venv .venv-inference-sdk
	.venv-inference-sdk/bin/python -m pip --disable-pip-version-check --quiet install \
		inference-sdk==$(INFERENCE_SDK_VERSION)
	$(BIN)/python -c "import sysconfig; print('import site; site.addsitedir(%r)' % sysconfig.get_path('purelib'))" \
		> "$$(.venv-inference-sdk/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/labelstudio_sam2.pth"
	.venv-inference-sdk/bin/python -c 'import inference_sdk, supervision, labelstudio_sam2'
	@touch $@

.venv-audit/installed:
	@echo 'Installing pip-audit $(PIP_AUDIT_VERSION) into .venv-audit'
	@# its dependencies are no concern of what is tested
	@[ -x .venv-audit/bin/python ] || $(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip --disable-pip-version-check --quiet install pip-audit==$(PIP_AUDIT_VERSION)
	@touch $@

.prometheus/installed:
	@echo 'Unpacking Prometheus, as Debian or Ubuntu packages it, into .prometheus; nothing is installed and no service started'
	@rm -rf .prometheus && mkdir .prometheus
	@# newer releases have promtool in a package of its own, which older ones do not know
	cd .prometheus && { apt-get -q download prometheus promtool || apt-get -q download prometheus; }
	cd .prometheus && for package in *.deb; do dpkg -x "$$package" . && rm "$$package"; done
	.prometheus/usr/bin/promtool --version
	@touch $@
