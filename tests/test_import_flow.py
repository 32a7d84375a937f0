"""The map in parallel/__init__.py as a test: imports flow one way."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Room by room, what each may see beside itself. No file lies loose but the plan and the two that Python wants.
ALLOWED = {
    "job": set(),
    "families": {"job", "maths"},
    "plan": {"job", "families", "maths"},
    "wire": {"job", "families"},  # the inspected model is a part of the work
    "pool": {"job", "families", "wire"},
    "cli": {"job", "families", "plan", "pool", "wire"},
    "maths": set(),
    "comm": {"job"},
    "layers": {"comm", "maths"},
    "models": {"job", "families", "layers", "comm", "maths"},
    "sampler": {"job", "families", "plan", "wire", "models", "layers", "comm", "maths"},
    "rank": {"job", "wire", "sampler", "comm"},
    "__main__": {"cli"},
    "__init__": set(),
}
NODES_SEE = {"job", "families", "plan", "pool", "wire"}
FILES = sorted((ROOT / "parallel").rglob("*.py"))


def imports(file: Path) -> list[tuple[int, str]]:
    """Return (level, dotted name) of every import in a file, wherever it stands."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(node.level, ".".join(filter(None, (node.module, alias.name)))) for alias in node.names]
        elif isinstance(node, ast.Attribute) and ast.unparse(node).startswith("torch.distributed"):
            found.append((0, ast.unparse(node)))
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_flow_one_way(file):
    place = file.relative_to(ROOT / "parallel").with_suffix("").parts
    for level, name in imports(file):
        top = name.split(".")[0]
        assert level > 0 or top not in ("parallel", "nodes", "tests"), (
            f"absolute import of {name}: the folder may bear any name"
        )
        assert top not in ("comfy", "comfy_api", "nodes", "pickle", "ray"), f"{name} has no place in the engine"
        if level == len(place):  # relative to parallel/ itself
            assert top in ALLOWED[place[0]] | {place[0]}, f"{place[0]} may not import {name}"
            assert not (place[0] == "comm" and top == "job") or name.startswith("job.errors"), (
                "of a job it knows the errors alone"
            )
        assert level <= len(place), f"{name} is outside the pack"


def test_the_map_says_what_each_room_may_see():
    said = (ROOT / "parallel" / "__init__.py").read_text()
    rooms = re.findall(r"^    (\w+)(?:/|\.py) +\S[^\[]*\[([\w ]*)", said, re.MULTILINE)
    assert {room: set(seen.split()) for room, seen in rooms} == {
        room: seen for room, seen in ALLOWED.items() if not room.startswith("__")
    }


# What each folder beside the engine may see of the others, and of the engine.
OUTSIDE = {
    "parallel": set(),
    "nodes": set(),
    "scripts": {"parallel"},
    "harness": {"parallel"},
    "benchmarks": {"parallel", "harness", "scripts"},
    "tests": {"parallel", "nodes", "harness", "scripts"},
    "tests/benchmarks": {"parallel", "harness", "scripts", "benchmarks"},
}
AROUND = sorted({file for folder in OUTSIDE for file in (ROOT / folder).rglob("*.py")})


@pytest.mark.parametrize("file", AROUND, ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_but_tests_imports_tests_and_the_engine_nothing_that_is_there_to_measure_it(file):
    parents = [parent.relative_to(ROOT).as_posix() for parent in file.parents if parent.is_relative_to(ROOT)]
    folder = next(parent for parent in parents if parent in OUTSIDE)
    for level, name in imports(file):
        top = name.split(".")[0]
        if level == 0 and top in OUTSIDE:
            assert top in OUTSIDE[folder] | {folder.split("/")[0]}, f"{folder} may not import {name}"
            assert not name.startswith("tests.benchmarks") or folder == "tests/benchmarks", "they are not run by default"


NODES = sorted((ROOT / "nodes").rglob("*.py"))


@pytest.mark.parametrize("file", NODES, ids=lambda file: file.name)
def test_nodes_see_the_host_side_only(file):
    for level, name in imports(file):
        top = name.split(".")[0]
        assert level > 0 or top not in ("parallel", "nodes", "diffusers", "transformers"), f"{file.name} may not import {name}"
        if level == 2:
            part = name.split(".")[1] if name.startswith("parallel.") else ""
            assert not part or part in NODES_SEE, f"{file.name} may not import {name}"
        if level == 0 and top in ("comfy", "folder_paths", "server", "execution"):
            assert file.stem in ("host", "host_folders"), (
                f"only host.py and host_folders.py ask ComfyUI for things, not {file.name}"
            )


def test_the_pack_exports_its_entry_point_alone():
    """And the folder of its help pages. NODE_CLASS_MAPPINGS beside the entry point would win over it."""
    tree = ast.parse((ROOT / "__init__.py").read_text())
    _, web, entry_point = tree.body
    assert (web.targets[0].id, entry_point.name) == ("WEB_DIRECTORY", "comfy_entrypoint")


def test_only_comm_and_the_pools_store_know_torch_distributed():
    for file in FILES:
        users = [name for level, name in imports(file) if level == 0 and name.startswith("torch.distributed")]
        place = file.relative_to(ROOT / "parallel").parts
        assert not users or place[0] == "comm" or (place[0] == "pool" and "is_master=True" in file.read_text()), file


def test_only_the_group_knows_the_backend():
    for file in FILES:
        text = file.read_text().lower()
        code = "\n".join(line for line in text.splitlines() if '"' in line)
        assert file.name in ("group.py",) or not ('"gloo"' in code or '"nccl"' in code), file


def test_nothing_unpickles_evaluates_or_trusts_remote_code():
    banned = {"eval", "exec", "__import__"}
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in banned, file
            if isinstance(node, ast.keyword):
                assert node.arg not in ("trust_remote_code", "shell"), file
            if isinstance(node, ast.Attribute):
                assert (getattr(node.value, "id", ""), node.attr) != ("torch", "load"), file
