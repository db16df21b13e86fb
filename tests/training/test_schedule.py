"""Budgets, progress and learning-rate shapes."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masklab.errors import BadInput
from masklab.training.schedule import THOUSANDTHS, Budget, Progress, Schedule, length_at


def test_a_budget_is_exactly_one_number():
    for make in (Budget, lambda: Budget(1, 5), lambda: Budget(steps=0), lambda: Budget(seconds=-1)):
        with pytest.raises(BadInput):
            make()


def test_counted_budgets_become_steps():
    assert Budget(steps=7).count(100, 0.5) == 7
    assert Budget(tokens=1001).count(100, 0.5) == 11
    assert Budget(words=1001).count(100, 0.5) == 21
    assert Budget(seconds=3).count(100, 0.5) is None


@given(st.lists(st.floats(0.001, 0.7), min_size=10, max_size=200))
def test_the_clock_is_written_down_and_can_be_repeated(durations: list[float]):
    """A run by the clock, and a second one that reads its notes: the same progress at every step, the same end."""
    budget = Budget(seconds=2.0)
    first = Progress(None, budget)
    seen, elapsed = [], 0.0
    for step, seconds in enumerate(itertools.cycle(durations)):
        if first.over(step):
            break
        seen.append(first.at(step))
        elapsed += seconds
        first.note(step + 1, elapsed)
    again = Budget(seconds=2.0, milestones=tuple(first.milestones))
    second = Progress(again.count(1, 1), again)
    assert [second.at(step) for step in range(len(seen))] == seen
    assert second.over(len(seen))
    assert not second.over(len(seen) - 1)
    assert seen == sorted(seen)


def test_the_clock_never_changes_a_step_that_is_already_built():
    progress = Progress(None, Budget(seconds=1.0))
    ahead = [progress.at(step) for step in range(Progress.AHEAD)]
    progress.note(0, 0.9)
    assert [progress.at(step) for step in range(Progress.AHEAD)] == ahead


@given(st.integers(1, 5000), st.floats(0, 1))
def test_stages_begin_where_progress_reaches_them(steps: int, share: float):
    progress = Progress(steps, Budget(steps=steps))
    first = progress.begins(share)
    assert progress.at(first) >= share - 1e-6
    assert first == 0 or progress.at(first - 1) < share


def test_stages_of_a_run_by_the_clock():
    progress = Progress(None, Budget(seconds=1.0), milestones=[10 * (i + 1) for i in range(THOUSANDTHS)])
    assert progress.begins(0.0) == 0
    assert progress.begins(0.8) == 8000
    assert progress.at(8000) == 0.8
    assert progress.at(7999) < 0.8


@pytest.mark.parametrize("shape", ["linear", "cosine", "trapezoid"])
def test_rates_rise_then_fall_to_nothing(shape):
    schedule = Schedule(shape, warmup=0.1, decay=0.3)
    factors = [schedule.factor(p / 1000) for p in range(1001)]
    assert factors[0] == 0.02
    assert max(factors) == pytest.approx(1, abs=1e-9)
    assert factors[-1] == pytest.approx(0, abs=1e-9)
    assert factors[:100] == sorted(factors[:100])
    assert factors[100:] == sorted(factors[100:], reverse=True)
    if shape == "trapezoid":
        assert factors[650] == 1
    if shape == "cosine":
        assert factors[550] == pytest.approx(0.5)


def test_row_lengths_follow_progress():
    lengths = ((0.0, 64), (0.8, 128))
    assert [length_at(lengths, p)[1] for p in (0, 0.79, 0.8, 1)] == [64, 64, 128, 128]
