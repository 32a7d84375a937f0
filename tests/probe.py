"""A stand-in for a rank: it answers each line of its standard input, a Python expression, in JSON, and ends with it."""

import json
import os
import sys

__all__ = ["os", "sys"]  # for the expressions

if __name__ == "__main__":
    while line := sys.stdin.readline():
        print(json.dumps(eval(line)), flush=True)
