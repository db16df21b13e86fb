"""transformers' Trainer as a peer: run_mlm.py's recipe on the tokens of a prepared corpus, by the clock or by steps.

`run(store, folder, setting, ...)` trains the class that `folder`'s config.json names and says how fast it went and what
it learned; the model is judged by masklab's evaluation, under the same fixed masks: both write the same files.
"""

import functools
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch

from masklab.corpus.store import Store
from masklab.models import hub
from masklab.objectives.masked_lm import MaskedLM
from masklab.objectives.rows import plain_row
from masklab.training import precision
from masklab.training.batches import Batch
from masklab.training.evaluation import Pretrainer, Score, evaluate, held_out_batches, total
from masklab.training.schedule import Schedule

LENGTH = 128
Documents = Literal["joined", "isolated", "single"]


@dataclass(frozen=True)
class Setting:
    """How the Trainer is set. The defaults are its own, or those of its classes.

    rows       a step
    dropout    None: what the class has
    sparse     logits at masked positions only, where the class can (ModernBert's sparse_prediction)
    documents  joined: rows cut from one stream, as run_mlm.py does, so that documents see each other; isolated:
               masklab's packed rows, kept apart by a 4-D mask; single: one document (or stretch of one) a row, padded
               to the longest of the batch
    grouped    rows of like length in one batch (its group_by_length), which saves padding
    """

    rows: int = 8
    lr: float = 5e-5
    bf16: bool = False
    dropout: float | None = None
    sparse: bool = False
    documents: Documents = "isolated"
    grouped: bool = False


class Result(NamedTuple):
    rate: float  # tokens read a second (no padding), after the warm-up
    tokens: int  # read in all
    steps: int
    seconds: float
    optimizer: str
    curve: list[tuple[int, int, float, float]]  # steps, tokens, nats, top-1 on held-out text


class Rows(torch.utils.data.Dataset):
    """The training part as the Trainer's data set: lists of numbers."""

    def __init__(self, store: Store, documents: Documents):
        self.part = store.part("train")
        self.documents = documents
        self.first, self.last = self.part.tokenizer.cls, self.part.tokenizer.sep
        self.packing = self.part.rows(LENGTH, 2, packed=documents == "isolated") if documents != "joined" else None

    def __len__(self) -> int:
        return len(self.part.ids) // (LENGTH - 2) if self.packing is None else len(self.packing)

    def __getitem__(self, i: int) -> dict[str, Any]:
        if self.documents == "isolated":
            row = plain_row(self.part, i, LENGTH)
            return {
                "input_ids": row.inputs.tokens.tolist(),
                "special_tokens_mask": (~row.text).astype(int).tolist(),
                "position_ids": row.inputs.position.tolist(),
                "document": row.inputs.document.tolist(),
            }
        start, end = (i * (LENGTH - 2), (i + 1) * (LENGTH - 2)) if self.packing is None else self.packing[i][0]
        ids = self.part.ids[start:end].tolist()
        return {"input_ids": [self.first, *ids, self.last], "special_tokens_mask": [1, *[0] * len(ids), 1]}


class Collate:
    """DataCollatorForLanguageModeling, and where documents share a row, who sees whom; counts the tokens."""

    def __init__(self, tokenizer: Any, additive: bool, first_position: int):
        from transformers import DataCollatorForLanguageModeling

        self.hide = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
        self.additive, self.first_position = additive, first_position
        self.tokens = 0

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = dict(self.hide(examples))
        document = batch.pop("document", None)
        if document is None:
            self.tokens += int(batch["attention_mask"].sum())
            return batch
        self.tokens += int((document >= 0).sum())
        seen = (document[:, None, :, None] == document[:, None, None, :])  # fmt: skip  # (B, 1, T, T)
        # The fused kernel takes True and False, the class that adds the mask itself takes numbers.
        batch["attention_mask"] = torch.zeros(seen.shape).masked_fill_(~seen, -torch.inf) if self.additive else seen
        batch["position_ids"] = batch["position_ids"] + self.first_position
        return batch


class Clock:
    """How far a run is, of its seconds or of its steps; the learning rate follows it, so that both end together."""

    def __init__(self, seconds: float | None, steps: int | None):
        self.seconds, self.steps = seconds, steps
        self.began: float | None = None
        self.step = 0

    @property
    def elapsed(self) -> float:
        return 0.0 if self.began is None else time.perf_counter() - self.began

    @property
    def progress(self) -> float:
        done = self.step / self.steps if self.steps else self.elapsed / (self.seconds or 1)
        return min(1.0, done)


def run(
    store_path: str,
    folder: str,
    setting: Setting,
    *,
    seconds: float | None = None,
    steps: int | None = None,
    warm_up: float = 0.0,
    seed: int = 0,
    threads: int = 0,
    judged_at: Sequence[float] = (),
    started: bool = False,
    prepare: Callable[[Any], None] | None = None,
) -> Result:
    """One run, in this process, of so many seconds or steps.

    warm_up: seconds that the rate leaves out. judged_at: parts of the run after which it is judged, such as (0.5, 1).
    started: begin with the folder's weights instead of the class's random ones. prepare: called with the model first.
    """
    from transformers import (
        AutoConfig,
        AutoModelForMaskedLM,
        AutoTokenizer,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )
    from transformers.trainer_callback import PrinterCallback
    from transformers.training_args import OptimizerNames
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()

    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    torch.manual_seed(seed)
    store = Store(store_path)
    config = AutoConfig.from_pretrained(folder)
    if setting.dropout is not None:
        for field in vars(config):
            if field in ("embedding_dropout", "mlp_dropout", "attention_dropout") or field.endswith("dropout_prob"):
                setattr(config, field, setting.dropout)
    if setting.sparse and hasattr(config, "sparse_prediction"):
        config.sparse_prediction = True
    kind = AutoModelForMaskedLM
    model = kind.from_pretrained(folder, config=config) if started else kind.from_config(config)
    if prepare:
        prepare(model)
    first_position = config.pad_token_id + 1 if config.model_type == "mpnet" else 0
    additive = model.config._attn_implementation == "eager"
    collate = Collate(AutoTokenizer.from_pretrained(store.folder), additive, first_position)
    clock = Clock(seconds, steps)
    curve: list[tuple[int, int, float, float]] = []
    waiting = sorted(judged_at)
    marks: list[tuple[float, int]] = []  # (seconds, tokens) after each step past the warm-up

    class Timed(Trainer):
        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            factor = Schedule("linear", warmup=0.03).factor
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer or self.optimizer,  # type: ignore[arg-type]
                lambda _: factor(clock.progress),
            )
            return self.lr_scheduler

    class Watch(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            clock.began = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            clock.step = state.global_step
            if clock.elapsed >= warm_up and clock.step > 1:
                marks.append((clock.elapsed, collate.tokens))
            control.should_training_stop = clock.progress >= 1 and len(marks) > 1
            while waiting and clock.progress >= waiting[0] < 1:
                waiting.pop(0)
                began = time.perf_counter()
                curve.append((clock.step, collate.tokens, *judge(store_path, model)))
                assert clock.began is not None
                clock.began += time.perf_counter() - began

    with tempfile.TemporaryDirectory() as out:
        settings: Any = {
            "output_dir": out, "max_steps": steps or 10**7, "learning_rate": setting.lr, "report_to": [], "seed": seed,
            "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True, "bf16": setting.bf16,
            "use_cpu": not torch.cuda.is_available(), "per_device_train_batch_size": setting.rows,
            "remove_unused_columns": False,
        }  # fmt: skip
        if setting.grouped:
            settings["train_sampling_strategy"] = "group_by_length"
        rows: Any = Rows(store, setting.documents)
        trainer = Timed(
            model, TrainingArguments(**settings), data_collator=collate, train_dataset=rows, callbacks=[Watch()]
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    if waiting:
        curve.append((clock.step, collate.tokens, *judge(store_path, model)))
    (began, before), (ended, after) = marks[0], marks[-1]
    return Result(
        (after - before) / (ended - began),
        collate.tokens,
        clock.step,
        ended,
        OptimizerNames(trainer.args.optim).value,
        curve,
    )


@functools.cache
def _judging(store_path: str, rows: int) -> list[Batch]:
    return held_out_batches(MaskedLM(), Store(store_path).part("held_out"), LENGTH, rows, 4096)


def judge(store_path: str, model: Any, rows: int = 512) -> tuple[float, float]:
    """Nats and top-1 of a transformers model on the held-out rows that judge masklab's runs."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        loaded = hub.load(folder)
    pretrainer = Pretrainer(loaded.model, loaded.heads, MaskedLM())
    where = precision.device()
    found = evaluate(pretrainer.to(where), _judging(store_path, rows), precision.autocast("bf16", where), where)
    return found["masked"].loss, found["masked"].accuracy or 0.0


def unigram(store_path: str, rows: int = 512) -> Score:
    """What knowing only how frequent each token is scores on the same rows."""
    part = Store(store_path).part("held_out")
    return total(MaskedLM().baseline(part, batch) for batch in _judging(store_path, rows))["masked"]
