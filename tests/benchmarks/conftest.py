"""Ranks that make what the study compares; every other fixture is that of all tests."""

import pytest

from harness.ranks import Ranks


@pytest.fixture(scope="session")
def ranks():
    with_ranks = Ranks("tests.benchmarks.on_ranks")
    yield with_ranks
    with_ranks.close()
