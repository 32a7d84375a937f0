"""Files of weights from anywhere: refused in one line, in bounded memory."""

import tracemalloc

from harness import hostile_weights, wan_files
from parallel.families import folder
from parallel.job.errors import JobRefused
from parallel.job.files import ModelFiles

MOST = 32 << 20  # bytes of Python's own that reading a header may take
NOT_READ = "is cut short or broken"
OTHERWISE = (
    "GGUF of no tensors",
    "GGUF of IQ2",
    "GGUF of a type without a name",
    "a git LFS pointer",
)  # refused in other words


def test_hostile_files_are_refused_in_one_line(tmp_path):
    net = wan_files.net_names(wan_files.net().state_dict())
    readers = {
        "model": lambda file: folder.inspect(str(file)),
        "vae": lambda file: folder.inspect(str(good), files=ModelFiles(vae=str(file))),
        "text_encoder": lambda file: folder.inspect(str(good), files=ModelFiles(text_encoder=str(file))),
        "model_low": lambda file: folder.inspect(str(good), files=ModelFiles(model_low=str(file))),
    }
    good = wan_files.save(net, tmp_path / "good.safetensors")
    (tmp_path / "bad").mkdir()
    wrong = []
    for what, file in hostile_weights.files(net, tmp_path / "bad"):
        for reader, read in readers.items():
            tracemalloc.start()
            try:
                read(file)
                wrong.append(f"{reader}, {what}: was taken")
            except JobRefused as error:
                peak = tracemalloc.get_traced_memory()[1]
                if reader == "model" and what in hostile_weights.BYTES and NOT_READ not in str(error) and what not in OTHERWISE:
                    wrong.append(f"{what}: not seen to be broken: {error}")
                if "\n" in str(error) or len(str(error)) > 500 or peak > MOST:
                    wrong.append(f"{reader}, {what}: {peak} bytes: {error}")
            except Exception as error:
                wrong.append(f"{reader}, {what}: {type(error).__name__}: {error}")
            finally:
                tracemalloc.stop()
    assert not wrong, "\n".join(wrong)
