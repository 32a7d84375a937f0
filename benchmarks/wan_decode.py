"""Do two ranks decode a Wan video in half the time of one? `python -m benchmarks.wan_decode`

A video of two clips of 64 latents, decoded by one rank, and by two that each decode their clip: the second runs the latents before its
own as deep as they matter. By time, with the small trained VAE, and with Wan 2.1's of full width at the smallest picture, whose halo
the small one does not have; and by FLOP, counted at 832x480 on tensors without numbers. What travels first is the halo's latents alone.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
import torch.distributed as dist
from diffusers import AutoencoderKLWan
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import two_ranks
from benchmarks.claims import Claim, ratio, report
from parallel.comm.group import Group
from parallel.layers.view import View
from parallel.maths.scope import Span
from parallel.models import wan_vae
from parallel.sampler.decode import with_context

SMALL = Path(__file__).resolve().parents[1] / "assets" / "moving-shapes-wan" / "vae"
CLIP, REPEATS, TARGET = 64, 3, "<= 0.58"
SIDES = {"the small trained VAE": 8, "Wan 2.1's VAE": 2}  # a latent's, in latent pixels
FULL = (60, 104)  # of 832x480


def load(name: str) -> AutoencoderKLWan:
    """Return a VAE to be evaluated only; of full width with seeded random weights."""
    torch.manual_seed(0)
    made = AutoencoderKLWan.from_pretrained(SMALL) if name == "the small trained VAE" else AutoencoderKLWan()
    return made.eval().requires_grad_(False)


def decode_clip(vae: AutoencoderKLWan, latents_BCFHW: torch.Tensor, group: Group) -> None:
    """Decode this rank's clip of a video; each frame is dropped when it is there. Collective."""
    view = View(group, Span(latents_BCFHW.shape[2], 1, 0))
    own = latents_BCFHW[:, :, view.clip.start : view.clip.stop]
    given = with_context(own, view, wan_vae.decode_reach(vae))
    halo = given.shape[2] - len(view.clip)
    for _ in wan_vae.decode(vae, given, halo=halo, from_start=view.clip.start == halo):
        pass


def measure(group: Group, name: str, clip: int, side: int, repeats: int) -> dict[str, list[float]]:
    """Return this rank's seconds: of its clip, `two`, and of the whole video, which the first rank decodes alone, `one`."""
    vae, seconds = load(name), {"one": [], "two": []}
    video = torch.randn(1, vae.config["z_dim"], 2 * clip, side, side, generator=torch.Generator().manual_seed(1))
    alone = Group(0, 1, group.device)
    decode_clip(vae, video[:, :, :2], alone)  # the first call of all is slower
    for _ in range(repeats):
        for way, ranks in (("two", group), ("one", alone)):
            dist.barrier(group.handle)
            began = time.perf_counter()
            if way == "two" or group.rank == 0:
                decode_clip(vae, video, ranks)
            seconds[way].append(time.perf_counter() - began)
    return seconds


def counted(clip: int, size: tuple[int, int] = FULL) -> float:
    """Return the FLOP of the second of two clips over those of the whole video: Wan 2.1's VAE at full size."""
    with torch.device("meta"):
        vae = AutoencoderKLWan().eval().requires_grad_(False)
        video = torch.empty(1, vae.config["z_dim"], 2 * clip, *size)
    reach, flop = wan_vae.decode_reach(vae), []
    halo = min(reach, clip)
    for first, before in ((0, 0), (clip - halo, halo)):
        with FlopCounterMode(display=False) as counter:
            for _ in wan_vae.decode(vae, video[:, :, first:], halo=before, from_start=first == 0):
                pass
        flop.append(counter.get_total_flops())
    whole, second = flop
    return second / whole


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--clip", type=int, default=CLIP, help="latents")
    asked, began = parser.parse_args(), time.perf_counter()
    claims = [Claim("Wan decode, FLOP of a clip over the whole video's, 832x480", counted(asked.clip), TARGET)]
    for name, side in SIDES.items():
        ranks = two_ranks.run(measure, name, asked.clip, side, asked.repeats)
        slower = {way: [max(pair) for pair in zip(*(rank[way] for rank in ranks))] for way in ("one", "two")}
        details = {f"seconds, {way} rank{'s' * (way == 'two')}": statistics.median(each) for way, each in slower.items()}
        claims.append(
            Claim(f"Wan decode, time of two ranks over one's, {name}", ratio(slower["two"], slower["one"]), TARGET, details)
        )
    report("wan_decode", claims, began, clip=asked.clip)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
