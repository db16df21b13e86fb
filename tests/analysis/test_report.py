"""Pictures and pages of runs: right numbers, nothing loaded from anywhere, colours that follow the page."""

import json
import re

import pytest

from masklab.analysis import curves, report
from masklab.errors import BadInput
from masklab.recipe import load
from masklab.training.run import Run, read_log


@pytest.fixture
def run(tmp_path):
    """The folder of a run that got from 9 to 3 nats in 40 steps."""
    baseline = {"masked": {"loss": 6.5, "accuracy": 0.05, "count": 900}}
    records = [{"kind": "begin", "step": 0, "progress": 0.0, "seconds": 0.0, "baseline": baseline, "parameters": 1234,
                "environment": {"threads": 1, "precision": "fp32"}}]  # fmt: skip
    for step in range(0, 41, 5):
        now = {"step": step, "progress": step / 40, "seconds": step / 2, "tokens": step * 100}
        loss = {"loss": 3 + 6 * (1 - step / 40) ** 2, "accuracy": 0.4, "count": 900}
        records.append({"kind": "step", **now, "terms": {"masked": {"loss": loss["loss"] + 0.1}}})
        if step % 10 == 0:
            records.append({"kind": "held_out", **now, "terms": {"masked": loss}})
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, records)))
    return tmp_path


def test_pictures_are_written_in_the_format_of_their_name(run, tmp_path):
    figure = curves.loss_curves([run, run], ["one", "two"], along="tokens")
    for name, magic in (("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.pdf", b"%PDF")):
        curves.save(figure, tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(magic)


def test_a_picture_shows_the_numbers_of_the_log(run):
    figure = curves.loss_curves([run])
    held_out = next(line for line in figure.axes[0].lines if line.get_label() == "held out")
    assert list(held_out.get_xdata()) == [0, 5, 10, 15, 20]  # type: ignore[arg-type]
    assert held_out.get_ydata()[-1] == 3  # type: ignore[index]
    assert {"unigram 6.50", "3.00"} <= {text.get_text() for text in figure.axes[0].texts}


def test_panels_stand_side_by_side_each_with_its_own_trivial_answer(run):
    figure = curves.loss_panels([curves.Panel(str(n), [run, run], "masked", trivial) for n, trivial in
                                 enumerate(("", "masked", "", ""))])  # fmt: skip
    first, second, *_, fourth, hidden, unused = figure.axes
    assert [len(axes.lines) for axes in (first, second, fourth)] == [4, 4, 4]  # two runs, two dashed lines
    assert list(first.lines[0].get_xdata()) == [0, 5, 10, 15, 20]  # type: ignore[arg-type]
    assert set(first.lines[1].get_ydata()) == {6.5}  # type: ignore[arg-type]
    assert list(second.lines[1].get_ydata()) == list(second.lines[0].get_ydata())  # type: ignore[arg-type]
    assert not hidden.get_visible()
    assert not unused.get_visible()
    with pytest.raises(BadInput, match="no held-out loss called 'next'"):
        curves.loss_panels([curves.Panel("bert", [run], "next")])


def test_score_curves_show_mean_and_deviation():
    figure = curves.score_curve({"a": {16: [0.1, 0.2, 0.3], 50: [0.5]}}, {16: [0.0], 50: [0.1]})
    (line, caps, _), *_ = figure.axes[0].containers  # type: ignore[misc]
    assert list(line.get_ydata()) == pytest.approx([0.2, 0.5])
    assert [caps[k].get_ydata()[0] for k in (0, 1)] == pytest.approx([0.1, 0.3])
    assert curves.spread([0.5]) == 0


def test_an_inline_picture_takes_the_page_s_colours_and_nothing_from_outside(run):
    text = curves.svg(curves.loss_curves([run]), "the loss")
    assert text == curves.svg(curves.loss_curves([run]), "the loss")  # the same log, the same bytes
    assert 'aria-label="the loss"' in text
    assert "var(--series-0, #2a66c8)" in text
    assert not re.search(r'(?:href|src)="(?!#)', text)


def test_a_run_s_page_is_self_contained(run):
    page = report.run_report(Run(load("bert", data="some/corpus"), run, None, read_log(run)))
    assert "3.000" in page
    assert not re.search(r'(?:href|src)="(?!#)|url\((?!#)|@import', page)
    assert page.count("<svg") == 1
    assert "&lt;" in report.text("a < b")


def test_no_log_is_said(tmp_path):
    with pytest.raises(BadInput, match=r"log\.jsonl"):
        curves.loss_curves([tmp_path])
