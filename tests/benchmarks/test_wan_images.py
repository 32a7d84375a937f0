"""What is read of videos that images were given for: right of true ones, wrong of those with a known fault."""

import torch

from benchmarks.averaged_windows import WINDOW, starts
from benchmarks.wan_images import GIVEN, LONG, SHOWN, drawn, is_kept, keeps_identity, pictures_of, read_long, share
from scripts.shapes import Scene

SCENE = drawn(Scene("square", "red", "gray", "orbiting clockwise"), seed=3)
OTHER = drawn(Scene("circle", "blue", "gray", "orbiting clockwise"), seed=3)
THREE = GIVEN["start, middle and end"]
TRUE = pictures_of(SCENE, tuple(range(LONG)))


def test_a_true_video_shows_all_that_it_was_given_without_a_seam():
    read = read_long(TRUE, TRUE[list(THREE)], THREE)
    assert read["shown"] == 1 and read["drift"] < 0.5 and read["unclear"] == 0
    assert all(0.8 < read[name][0] < 1.2 and read[name][1] > 0.05 for name in ("seam position", "seam picture"))
    assert 0.8 < read["return"] < 1.2
    assert share([is_kept(TRUE[:33], TRUE[:1], SCENE), keeps_identity(TRUE, SCENE)]) == 1


def test_faults_are_seen():
    jumping = torch.cat([TRUE[:120], TRUE[132:], TRUE[:12]])  # half an orbit is left out
    seam = read_long(jumping, TRUE[list(THREE)], THREE)
    assert seam["seam position"][0] > 3 and seam["shown"] < 1
    back = TRUE.clone()
    back[28::28] = TRUE[0]  # windows that begin with the start image
    assert read_long(back, TRUE[:1], (0,))["return"] < 0.1
    assert read_long(TRUE + torch.linspace(0, 0.1, LONG).view(-1, 1, 1, 1), TRUE[:1], (0,))["drift"] > 15
    ends = torch.cat([TRUE[:200], pictures_of(OTHER, tuple(range(200, LONG)))])
    assert keeps_identity(ends, SCENE) == {"shape": False, "colour": False, "background": True}
    moved = is_kept(TRUE[6:39], TRUE[:1], SCENE)
    assert moved == {"shape": True, "colour": True, "place": False}
    assert share([moved]) == 0 and (TRUE[0] - TRUE[6]).abs().mean() > SHOWN


def test_windows_cover_the_video_and_end_with_it():
    assert starts(61) == [0, 7, 14, 21, 28, 35, 42, 49, 52]
    assert starts(WINDOW) == [0] and starts(5) == [0]
