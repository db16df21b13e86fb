"""benchmarks/gpu.py runs through without a GPU, so that it does not rot between two that are lent."""

import runpy
from pathlib import Path

import pytest
import torch

from masklab.corpus.store import Store

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return runpy.run_path(str(FOLDER / "gpu.py"))["main"]


def test_both_sides_of_every_table(main, store: Store, capsys: pytest.CaptureFixture[str]):
    main([str(store.path), "--cpu-check", "--sizes", "large", "--seconds", "0.1"])
    out = capsys.readouterr().out
    assert "CPU" in out.splitlines()[0]
    for length in (16, 32):
        assert f"large, rows of {length}, {256 // length} a step" in out
    assert out.count("of the peak") == 4
    assert out.count("masklab / trainer: ") == 2


def test_the_loss_after_so_long(main, store: Store, capsys: pytest.CaptureFixture[str]):
    main([str(store.path), "--cpu-check", "--learn", "--seconds", "1"])
    assert "unigram" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_it_says_that_there_is_no_gpu(main, store: Store):
    with pytest.raises(SystemExit, match="no GPU here; --cpu-check"):
        main([str(store.path)])
