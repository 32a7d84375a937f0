"""What an exception on a rank means to a user: its kind, and a sentence that ends in what to do.

By class names and texts, without torch: its import may be what failed.
"""

import re

from ..job.errors import JobRefused, OutOfStep, Overflowed, PeerLost
from ..wire.messages import Fault

LESS_MEMORY = (
    "use fewer or smaller frames, more ranks, or less memory (Speed and Memory: branches apart, park_skips always, fewer "
    "frames_at_once; Load Video Model: offload parts)"
)
_WANTED = re.compile(r"tried to allocate [\d.]+ ?\w+")
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


def explain(error: BaseException) -> tuple[Fault, str]:
    """Return the kind of a fault and what to say of the rank that it befell: "ran out of memory ...: use ...".

    What is no rank's own fault, `overflow` and `out_of_step`, is a whole sentence.
    """
    kinds, said = {kind.__name__ for kind in type(error).__mro__}, _one_line(str(error))
    if isinstance(error, PeerLost):
        return "peer", f"could not go on: {said}"
    if isinstance(error, Overflowed):
        return "overflow", said
    if isinstance(error, OutOfStep):
        return "out_of_step", f"{said}: this is a fault of the pack: report it, with the log"
    if isinstance(error, JobRefused):
        return "crash", f"refused its job: {said}"
    if kinds & {"OutOfMemoryError", "MemoryError"} or any(words in said for words in _NO_MEMORY):
        wanted = _WANTED.search(said.replace("Tried", "tried"))
        return "memory", f"ran out of memory ({f'it {wanted[0]}' if wanted else said or 'no number known'}): {LESS_MEMORY}"
    if "AcceleratorError" in kinds or said.startswith(("CUDA error", "HIP error")):
        return "device", f"lost its device ({said}): look at it with nvidia-smi, and leave it out of `devices` if it stays away"
    if "SafetensorError" in kinds or "Unable to load weights" in said:
        return "crash", f"could not read the model's weights ({said}): get the folder again"
    if isinstance(error, ImportError):
        return "crash", f"could not import a package ({said}): install what requirements.txt names, and see the log"
    return "crash", f"failed: {type(error).__name__}: {said}: its traceback is in the log; if it comes again, report it"


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500]
