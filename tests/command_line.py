"""What a person types after `python -m parallel`, run in this process on ranks that are warm, or as words for a process of its own."""

import contextlib
import sys

from parallel.cli import arguments
from parallel.cli import generate as cli
from parallel.pool import Pool

SMALL = ("--height", "16", "--width", "16", "--frames", "7", "--steps", "2", "--devices", "cpu,cpu", "--threads", "1")


def words(model, *more) -> list[str]:
    """Return the words that ask for a small video."""
    return ["generate", "--model", str(model), *SMALL, *map(str, more)]


def command(model, *more) -> list[str]:
    """Return the same as a command for a shell."""
    return [sys.executable, "-m", "parallel", *words(model, *more)]


def run(words: list[str], open_pool: cli.OpenPool = Pool) -> int:
    """Run the command line here, but for signals and for what it does to the streams of a process; return its exit code."""
    return cli.run(arguments.build_parser().parse_args(words), lambda: False, open_pool)


def on_warm(pools) -> cli.OpenPool:
    """Return what opens the warm pool of as many ranks as are asked for, and leaves it as it is."""
    return lambda devices, *_, **__: contextlib.nullcontext(pools(len(devices)))


def generate(pools, model, *more) -> int:
    """Make a small video on warm ranks; return the exit code."""
    return run(words(model, "--prompt", "a", *more), on_warm(pools))


def refusal(capsys, model, *more) -> str:
    """Return what is said of a wrong command before any rank starts."""
    assert run(words(model, *more)) == 2
    return capsys.readouterr().err
