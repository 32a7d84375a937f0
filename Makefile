# Each target makes its own virtual environment in .venv when it needs one. PYTHON chooses the interpreter (3.10 or newer).
PYTHON ?= python3
ENV := .venv
OLDEST := .venv-oldest
RUN := $(ENV)/bin/python
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check
export PYTHONDONTWRITEBYTECODE := 1

# What must hold with the oldest libraries as with the newest: models load, a video is the stock pipeline's, templates run in ComfyUI.
SHORT := tests/test_folder_forms.py tests/test_wan_forms.py tests/test_trial.py tests/test_same_video.py tests/test_sampler.py::test_anchor_generate_equals_the_stock_pipeline \
	tests/test_sampler.py::test_each_scheduler_steps_as_diffusers_does \
	tests/test_comfyui.py::test_the_pack_is_imported_without_a_warning_and_no_rank_runs \
	tests/test_comfyui.py::test_a_shipped_workflow_runs_to_its_end tests/test_comfyui.py::test_the_plan_is_shown_without_a_rank

.PHONY: help demo test bench-test test-oldest test-gpu check bench bench-gpu quality faults model model-quality model-wan model-wan-quality clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

demo: $(ENV)/installed ## make 96 frames on two CPU ranks, into demo/
	@echo "demo: two CPU ranks make 96 frames together, from two prompts, with the bundled model"
	@mkdir -p demo
	@$(RUN) -m parallel generate --timeline scripts/demo_timeline.txt --fade 4 --frames 96 --steps 20 --guidance 3 --seed 4 \
		--devices cpu,cpu --output demo/video.mp4 --report demo/report.json
	@$(RUN) -m scripts.contact_sheet demo/video.mp4 --ranks 2 --output demo/contact_sheet.png
	@echo "demo: look at demo/video.mp4 and demo/contact_sheet.png"

test: $(ENV)/installed $(ENV)/comfyui ## run all tests
	@echo "test: all tests, on real gloo ranks and in a real ComfyUI (about ten minutes on two cores)"
	@$(RUN) -m pytest -q --durations=15

bench-test: $(ENV)/installed ## run the tests of what measures: benchmarks, metrics, the pages' writers
	@echo "bench-test: tests of the benchmarks' own code (two minutes on two cores)"
	@$(RUN) -m pytest -q --durations=15 tests/benchmarks

test-gpu: $(ENV)/installed ## run the tests that need a GPU, or two of them; elsewhere say why they are skipped
	@$(RUN) -m pytest -q -rs -m "gpu or gpus"

test-oldest: $(OLDEST)/installed ## run a few tests with the oldest libraries that ComfyUI and requirements.txt allow
	@echo "test-oldest: models, videos and templates with the oldest libraries allowed (a few minutes on two cores)"
	@$(OLDEST)/bin/python -m pytest -q --durations=15 $(SHORT)

check: $(ENV)/installed ## format, lint and types
	@$(ENV)/bin/ruff format --check .
	@$(ENV)/bin/ruff check .
	@$(ENV)/bin/mypy

bench: $(ENV)/installed ## measure speed and memory, into bench/ (about three quarters of an hour on two cores)
	@OMP_NUM_THREADS=1 $(RUN) -m benchmarks

bench-gpu: $(ENV)/installed ## measure a full-size Wan on one GPU, into bench/gpu.json (under two minutes on an H100)
	@$(RUN) -m benchmarks.gpu

quality: $(ENV)/installed ## measure how long videos of both small models hold together, into bench/ (over an hour on two cores)
	@OMP_NUM_THREADS=1 $(RUN) -m benchmarks.coherence
	@OMP_NUM_THREADS=1 $(RUN) -m benchmarks.wan_coherence
	@OMP_NUM_THREADS=1 $(RUN) -m benchmarks.wan_images

faults: $(ENV)/installed $(ENV)/comfyui ## every fault at every point of a job, into bench/faults.json (about half an hour on two cores)
	@$(RUN) -m benchmarks.faults

model: $(ENV)/installed ## train the bundled model again, into build/ (about two hours on two cores)
	@$(RUN) -m scripts.train_moving_shapes --out build/moving-shapes/model

model-quality: $(ENV)/installed ## measure the bundled model: does it show what a caption says?
	@$(RUN) -m benchmarks.model_quality

model-wan: $(ENV)/installed ## train the small Wan models again, into build/ (for a GPU)
	@$(RUN) -m scripts.train_moving_wan --out build/moving-wan/model --out-images build/moving-wan/model-images

model-wan-quality: $(ENV)/installed ## measure the bundled Wan models: do they show what a caption says, and what a picture shows?
	@$(RUN) -m benchmarks.model_quality --model assets/moving-shapes-wan
	@$(RUN) -m benchmarks.wan_images

$(ENV)/installed: requirements.txt requirements-dev.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) was not found: install Python 3.10 or newer, or say make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "error: $(PYTHON) is too old: Python 3.10 or newer is needed"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "error: $(PYTHON) can not make virtual environments: install its venv package (Debian: apt install python3-venv)"; exit 1; }
	@echo "setting up $(ENV) (once; downloads torch, diffusers and transformers)"
	@$(PYTHON) -m venv $(ENV)
	@$(PIP) -r requirements-dev.txt || { echo "error: pip could not install requirements-dev.txt: see its message above; is the package index reachable?"; exit 1; }
	@touch $@

$(ENV)/comfyui: $(ENV)/installed requirements-comfyui.txt
	@echo "adding what a ComfyUI server needs to $(ENV) (once)"
	@$(PIP) -r requirements-comfyui.txt || { echo "error: pip could not install requirements-comfyui.txt: see its message above; is the package index reachable?"; exit 1; }
	@touch $@

$(OLDEST)/installed: requirements-oldest.txt requirements-comfyui.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) was not found: install Python 3.10 or newer, or say make PYTHON=/path/to/python"; exit 1; }
	@echo "setting up $(OLDEST) (once; downloads torch and older libraries)"
	@$(PYTHON) -m venv $(OLDEST)
	@$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-oldest.txt || { echo "error: pip could not install requirements-oldest.txt: see its message above; is the package index reachable?"; exit 1; }
	@touch $@

clean: ## remove what the other targets made
	rm -rf $(ENV) $(OLDEST) demo bench
