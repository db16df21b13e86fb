"""Who watches a run: plain lines without a terminal, lines that stay in place on one, scalars that resume cleanly."""

import io

import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from masklab.training.progress import Board, Screen, both, clock, sparkline

BASELINE = {"masked": {"loss": 7.08, "accuracy": 0.05, "count": 100}}
SCORES = {"masked": {"loss": 3.61, "accuracy": 0.41, "count": 100}}


def begin(step: int = 0) -> dict:
    environment = {"precision": "bf16", "threads": 2}
    return {"kind": "begin", "step": step, "steps": 100, "baseline": BASELINE, "environment": environment,
            "parameters": 1_500_000, "resumed": step > 0, "same_bits": True}  # fmt: skip


def step(number: int, loss: float) -> dict:
    return {"kind": "step", "step": number, "progress": number / 100, "terms": {"masked": {"loss": loss}}, "norm": 1.0,
            "factor": 1.0, "waiting": 0.01, "tokens_per_second": 38123.4, "remaining": 75.0}  # fmt: skip


def records():
    yield begin()
    for number in range(10, 60, 10):
        yield step(number, 7 - number / 20)
    yield {"kind": "held_out", "step": 50, "terms": SCORES, "baseline": BASELINE}
    yield {"kind": "checkpoint", "step": 50}
    yield {"kind": "warning", "text": "a checkpoint was damaged"}


def watched(terminal: bool, width: int, last: dict) -> str:
    out = io.StringIO()
    with Screen(Console(file=out, force_terminal=terminal, width=width)) as screen:
        screen.FRAME = screen.EVERY = 0.0
        for record in [*records(), last]:
            screen(record)
    return out.getvalue()


def test_plain_lines_say_everything():
    text = watched(False, 80, {"kind": "stopped", "step": 50, "signal": 15})
    for words in ("1,500,000 parameters", "100 steps", "step 50 (50%) · loss 5.68 (unigram 7.08) · 38,123 tokens/s",
                  "1% waiting for data · 1:15 left", "step 50: held out 3.61 (unigram 7.08)", "checkpoint saved",
                  "a checkpoint was damaged", "Stopped by SIGTERM at step 50; everything is saved."):  # fmt: skip
        assert words in text, words
    assert "\x1b" not in text


@pytest.mark.parametrize("width", [40, 80, 160])
def test_a_terminal_is_left_as_it_was(width):
    text = watched(True, width, {"kind": "end"})
    assert "━" in text
    assert "█" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor is back


def test_resumed_runs_say_whether_they_are_the_same():
    out = io.StringIO()
    Screen(Console(file=out))(begin(7))
    Screen(Console(file=out))(begin(7) | {"same_bits": False})
    assert "Going on at step 7: bit for bit" in out.getvalue()
    assert "not bit-identical" in out.getvalue()


def test_tensorboard_hides_what_is_made_again(tmp_path):
    for first, losses in ((0, [6.0, 5.0, 4.0]), (20, [3.0])):
        tell = both(Board(tmp_path))
        tell(begin(first))
        for i, loss in enumerate(losses, 1):
            tell(step(first + 10 * i, loss))
        tell({"kind": "held_out", "step": 40, "terms": SCORES, "baseline": BASELINE})
        tell({"kind": "end", "step": 40})
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    losses = [(e.step, e.value) for e in found.Scalars("train/masked/loss")]
    assert losses == [(10, 6.0), (20, 5.0), (30, 3.0)]
    assert found.Scalars("held_out/masked/accuracy")[-1].value == pytest.approx(0.41)


def test_clock_and_sparkline():
    assert [clock(s) for s in (5, 75, 3700)] == ["0:05", "1:15", "1:01:40"]
    assert sparkline([3, 2, 1], 3) == "█▅▁"
    assert len(sparkline(list(range(1000)), 40)) == 40
    assert sparkline([], 5) == ""
