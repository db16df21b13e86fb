"""The runner hands out every chunk once, lets the rate fall, and ends in good order whatever happens."""

import _thread
import threading
import time

import numpy as np
import pytest

from masklab.errors import BadInput
from masklab.word_vectors.runner import Chunk, Loss, Schedule, borders_of, run

BORDERS = np.array([0, 30, 60, 100])


def collect(schedule: Schedule, **options):
    seen: list[Chunk] = []

    def work(chunk: Chunk) -> Loss:
        seen.append(chunk)
        return Loss(2.0 * (chunk.end - chunk.begin), chunk.end - chunk.begin)

    return seen, run(work, BORDERS, 200, schedule, **options)


def test_one_thread_takes_the_chunks_in_order_at_a_falling_rate():
    seen, outcome = collect(Schedule(epochs=2, rate=1.0, rate_end=0.0, deterministic=True))
    assert [(c.begin, c.end, c.place) for c in seen] == [
        (0, 30, 0), (30, 60, 30), (60, 100, 60), (0, 30, 100), (30, 60, 130), (60, 100, 160)
    ]  # fmt: skip
    assert [c.rate for c in seen] == pytest.approx([1 - c.place / 200 for c in seen])
    assert [c.rate_end for c in seen] == pytest.approx([c.rate for c in seen[1:]] + [0.0])
    assert (outcome.chunks, outcome.words, outcome.stopped, outcome.loss) == (6, 400, False, 2.0)


def test_threads_share_the_chunks_and_have_numbers_of_their_own():
    both = threading.Barrier(2)
    seen: list[Chunk] = []

    def work(chunk: Chunk) -> Loss:
        seen.append(chunk)
        if len(seen) <= 2:
            both.wait(10)
        return Loss(0, 0)

    outcome = run(work, BORDERS, 200, Schedule(epochs=4, threads=2))
    assert sorted(c.place for c in seen) == sorted(100 * e + b for e in range(4) for b in (0, 30, 60))
    assert {c.thread for c in seen} == {0, 1}
    assert np.isnan(outcome.loss)  # nothing was looked at


def test_a_run_goes_on_where_it_was_stopped():
    schedule = Schedule(epochs=2, deterministic=True)
    whole, _ = collect(schedule)
    rest, outcome = collect(schedule, first=4)
    assert rest == whole[4:]
    assert outcome.chunks == 6


def test_ctrl_c_ends_after_the_chunk_in_hand():
    done = 0

    def work(chunk: Chunk) -> Loss:
        nonlocal done
        done += 1
        if done == 2:
            _thread.interrupt_main()
        time.sleep(0.05)
        return Loss(1, 1)

    outcome = run(work, BORDERS, 200, Schedule(epochs=1000, threads=1))
    assert outcome.stopped
    assert outcome.chunks == done < 3000


def test_stop_is_asked_and_the_watcher_told():
    records = []
    outcome = run(
        lambda chunk: (time.sleep(0.02), Loss(3, 1))[1], BORDERS, 200, Schedule(epochs=1000, threads=2),
        watch=records.append, stop=lambda: len(records) >= 2,
    )  # fmt: skip
    assert outcome.stopped
    assert records[-1]["kind"] == "progress"
    assert records[-1]["loss"] == 3
    assert 0 < records[0]["words"] < records[1]["words"] <= outcome.words
    assert 0 < records[1]["progress"] < 1
    assert records[1]["remaining"] > 0


def test_a_time_budget_takes_as_many_epochs_as_fit_and_the_rate_falls_all_the_way():
    seen: list[Chunk] = []

    def work(chunk: Chunk) -> Loss:
        seen.append(chunk)
        time.sleep(0.002)
        return Loss(1, 1)

    outcome = run(work, BORDERS, 200, Schedule(seconds=0.3, epochs=1, rate=1.0, rate_end=0.0, threads=1))
    assert not outcome.stopped
    assert len(seen) > 3
    rates = [chunk.rate for chunk in seen]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 0.9
    assert rates[-1] < 0.5


def test_an_error_in_a_thread_is_raised_where_the_run_was_called():
    def work(chunk: Chunk) -> Loss:
        if chunk.place == 130:
            raise BadInput("what is wrong")
        return Loss(1, 1)

    with pytest.raises(BadInput, match="what is wrong"):
        run(work, BORDERS, 200, Schedule(epochs=3, threads=2))
    epochs = []

    def check() -> None:
        epochs.append(1)
        if len(epochs) == 2:
            raise BadInput("not finite")

    with pytest.raises(BadInput, match="not finite"):
        collect(Schedule(epochs=5, threads=1), check=check)


def test_an_error_in_the_watcher_ends_the_threads_too():
    def watch(record: object) -> None:
        raise OSError("the screen is gone")

    before = threading.active_count()
    with pytest.raises(OSError, match="gone"):
        run(lambda chunk: (time.sleep(0.02), Loss(1, 1))[1], BORDERS, 1, Schedule(epochs=10**6, threads=2), watch=watch)
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"epochs": 0}, "epochs=0"),
        ({"seconds": 0}, "seconds=0"),
        ({"rate": 0}, "rate=0"),
        ({"rate": 0.1, "rate_end": 0.2}, "rate_end=0.2"),
        ({"rate": float("nan")}, "rate=nan"),
        ({"threads": -1}, "threads=-1"),
        ({"threads": 2, "deterministic": True}, "one thread"),
        ({"seconds": 5, "deterministic": True}, "clock"),
    ],
)
def test_nonsense_is_refused(options, says):
    with pytest.raises(BadInput, match=says):
        Schedule(**options)


def test_chunks_end_where_sentences_do():
    random = np.random.default_rng(0)
    ids = random.integers(-1, 6, 5000)
    borders = borders_of(ids, 200)
    assert borders[0] == 0
    assert borders[-1] == 5000
    assert (ids[borders[1:-1] - 1] == -1).all()
    assert (np.diff(borders)[:-1] >= 200).all()
    assert np.diff(borders).max() < 400
    assert borders_of(np.zeros(1000), 300).tolist() == [0, 300, 600, 900, 1000]  # no sentence ends at all
    assert borders_of(np.zeros(0)).tolist() == [0]
