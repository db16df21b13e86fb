"""What many tests share: a small prepared corpus of real text, made once a session."""

import os
import signal
from pathlib import Path
from pydoc_data.topics import topics

import pytest
import torch

from masklab.corpus.prepare import prepare
from masklab.corpus.store import Store

# Of several test processes (pytest -n) each has a core of its own, and so have the commands that it starts: two that
# share their cores wait for each other's threads.
if "PYTEST_XDIST_WORKER" in os.environ and hasattr(os, "sched_setaffinity"):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw")) % len(cores)]})
torch.set_num_threads(1)
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell runs in the background


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Forty topics of the Python documentation, 600 word pieces, three documents held out."""
    texts = [topics[name] for name in sorted(topics)[:40]]
    return prepare(texts, tmp_path_factory.mktemp("corpus") / "store", 600, held_out=0.08)


@pytest.fixture(scope="session")
def store_path(store: Store) -> Path:
    return store.path
