"""Which model folders ComfyUI offers, and under which names: a bad one hides no other, and none hides the nodes."""

import os
import tempfile
from pathlib import Path

import pytest

from harness.places import BUNDLED
from nodes import folders
from tests.test_comfyui import NODES, shipped


def model(place: Path, mark: str = "model_index.json") -> Path:
    (place / mark).parent.mkdir(parents=True)
    (place / mark).write_text("{}")
    return place


def listed(root: Path) -> dict[str, Path]:
    return {name: Path(place).relative_to(root) for name, place in folders.named(str(root)).items()}


def test_names_are_those_of_folders_of_groups_and_of_a_hubs_repositories(tmp_path):
    for place in ("b", "a", "group/c", "group/deep/d"):
        model(tmp_path / place)
    model(tmp_path / "unet alone", "config.json")
    model(tmp_path / "group" / "no index", "unet/config.json")
    model(tmp_path / "group" / "no index of Wan", "transformer/config.json")
    model(tmp_path / "group" / "no model", "config.json")
    snapshots = tmp_path / "models--org--zeroscope--v2" / "snapshots"
    model(snapshots / "0123456789abcdef")
    named = listed(tmp_path)
    assert list(named) == [
        "a",
        "b",
        "group/c",
        "group/deep/d",
        "group/no index",
        "group/no index of Wan",
        "org/zeroscope--v2",
        "unet alone",
    ]
    assert named["org/zeroscope--v2"] == Path("models--org--zeroscope--v2/snapshots/0123456789abcdef")


def test_a_models_own_parts_are_no_models(tmp_path):
    for part in ("unet", "vae"):
        model(tmp_path / "m" / part, "config.json")
    model(tmp_path / "m" / "older")
    (tmp_path / "m" / "model_index.json").write_text("{}")
    assert list(listed(tmp_path)) == ["m"]
    assert list(listed(tmp_path / "m")) == ["m"], "a path that the user gave may itself be a model"


def test_of_a_hubs_revisions_the_main_one_has_the_plain_name(tmp_path):
    repository = tmp_path / "hub" / "models--org--name"
    for revision in ("aaaaaaaaaaaa", "bbbbbbbbbbbb"):
        model(repository / "snapshots" / revision, "config.json")
    assert list(listed(tmp_path)) == ["hub/org/name", "hub/org/name@bbbbbbbb"]
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("bbbbbbbbbbbb")
    assert list(listed(tmp_path)) == ["hub/org/name@aaaaaaaa", "hub/org/name"]
    for inside in (repository, repository / "snapshots"):
        assert list(listed(inside)) == ["org/name@aaaaaaaa", "org/name"], "a path that the user gave may lie in the cache"


def test_what_can_not_be_read_is_left_out(tmp_path):
    model(tmp_path / "good")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "up").symlink_to(tmp_path)
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "file").write_text("")
    (tmp_path / ".hidden").mkdir()
    model(tmp_path / ".hidden" / "cache")
    assert list(listed(tmp_path)) == ["good"]
    assert listed(tmp_path / "nowhere") == listed(tmp_path / "file") == listed(tmp_path / "loop") == {}


def test_a_folder_of_another_user_is_left_out():
    """As `lost+found`. Root reads all, so that root gives up its rights meanwhile."""
    with tempfile.TemporaryDirectory() as work:
        root = Path(work)
        root.chmod(0o755)
        model(root / "lost+found")
        model(root / "good")
        (root / "lost+found").chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            with pytest.raises(PermissionError):
                os.listdir(root / "lost+found")
            assert list(listed(root)) == ["good"]
        finally:
            os.seteuid(user)
            (root / "lost+found").chmod(0o755)


def test_comfyui_offers_them_and_keeps_its_nodes(server):
    place = server.base / "models" / "diffusers"
    place.mkdir(parents=True, exist_ok=True)
    revision = place / "models--us--shapes" / "snapshots" / "0123456789"
    revision.parent.mkdir(parents=True)
    revision.symlink_to(BUNDLED)
    (place / "lost+found").symlink_to("lost+found")
    (place / "group").mkdir()
    (place / "group" / "shapes").symlink_to(BUNDLED)
    known = server.get("/object_info")
    assert [node for node in NODES if node not in known] == []
    options = known["VideoInfinityLoadVideoModel"]["input"]["required"]["model"][1]["options"]
    bundled = [f"{name} (bundled)" for name in ("moving-shapes", "moving-shapes-wan", "moving-shapes-wan-images")]
    assert options == [*bundled, "group/shapes", "us/shapes"]
    prompt = shipped("plan_only")
    (loader,) = [node for node in prompt.values() if node["class_type"] == "VideoInfinityLoadVideoModel"]
    for name in options:
        loader["inputs"]["model"] = name
        assert server.post("/prompt", {"prompt": prompt})[0] == 200
