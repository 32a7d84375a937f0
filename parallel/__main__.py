"""`python -m parallel`: the engine without ComfyUI."""

import sys

from .cli.generate import main

if __name__ == "__main__":
    sys.exit(main())
