"""BERT-base and BERT-large on one GPU: tokens a second, use of its arithmetic, memory, beside transformers' Trainer.

    python benchmarks/gpu.py STORE                              # alternating rounds: rows of 128, 512 and 2,048
    python benchmarks/gpu.py STORE --learn --seconds 600        # held-out loss of masklab's tuned preset after so long
    python benchmarks/gpu.py STORE --cpu-check                  # tiny models on a CPU: that every line still runs

Both sides: AdamW, bf16, no dropout, torch.compile, 15 % masks, the same vocabulary and number of slots a step. The
Trainer's (BertForMaskedLM, SDPA, fused AdamW, four workers that mask) reads run_mlm.py's rows, in which documents see
each other; masklab keeps them apart. "Of the peak" is the arithmetic of masklab.training.flops done in a second, over
what a large bf16 product reaches on this card: each side's own, so work that masklab saves does not flatter it.
"""

import argparse
import datetime
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from _rounds import ratio

from masklab import recipe as recipes
from masklab.corpus.store import Store
from masklab.models.config import Config
from masklab.objectives.masked_lm import MaskedLM
from masklab.recipe import Batches, Evaluation, Recipe
from masklab.training import precision
from masklab.training.feed import batch_at
from masklab.training.flops import flops, peak
from masklab.training.loop import train
from masklab.training.schedule import Budget, Progress

SIZES = {"base": (12, 768), "large": (24, 1024)}  # layers, width
TINY = {"base": (2, 32), "large": (3, 32)}


class Round(NamedTuple):
    rate: float  # slots a second
    memory: float  # GiB that tensors held at most


def ours(store: str, size: tuple[int, int], length: int, args: argparse.Namespace) -> Recipe:
    layers, width = size
    shape = Config("bert", layers=layers, width=width, heads=max(2, width // 64), feed_forward=4 * width,
                   max_length=length, pad=1, dropout=0.0, attention_dropout=0.0)  # fmt: skip
    return replace(
        recipes.load("bert", data=store, preset="paper", next_sentence=False),
        model=shape,
        objective=MaskedLM(),
        budget=Budget(seconds=args.warm_up + args.seconds),
        batches=Batches(tokens=args.slots, lengths=((0.0, length),)),
        evaluation=Evaluation(every=1.0, rows=8),
        precision="bf16",
        compile=not args.cpu_check,
        log_every=1,
    )


def our_round(made: Recipe, warm_up: float) -> Round:
    memory_reset()
    history = train(made).history
    marks = [r["seconds"] for r in history if r["kind"] == "step" and r["seconds"] >= warm_up]
    if len(marks) < 2:
        sys.exit(f"--warm-up {warm_up:g}: nothing was left of the round to measure; more --seconds")
    return Round((len(marks) - 1) * made.batches.tokens / (marks[-1] - marks[0]), memory())


def per_slot(made: Recipe) -> float:
    """Operations that masklab does for a slot, of rows as they come: documents apart, few slots asked."""
    source = made.objective.open(made.data, "train")
    batch = batch_at(made, source, 0, Progress(1, made.budget, []))[0]
    rows, length = batch.inputs.tokens.shape
    document = batch.inputs.document
    seen = (document[:, :, None] == document[:, None, :]).sum(-1).float().mean().item()
    shape = replace(made.model, vocabulary=source.tokenizer.size)
    assert isinstance(shape, Config)
    return sum(flops(shape, rows, length, batch.counts["masked"], seen=seen).values()) / (rows * length)


def their_per_slot(made: Recipe) -> float:
    """And the Trainer: every slot sees the whole row and is asked for a word."""
    assert isinstance(made.model, Config)
    shape = replace(made.model, vocabulary=Store(made.data).tokenizer.size)
    return sum(flops(shape, 1, made.batches.length).values()) / made.batches.length


class Joined(torch.utils.data.Dataset):
    """Rows cut from the tokens in a row, whatever document they come from, as run_mlm.py's group_texts makes them."""

    def __init__(self, store: Store, length: int):
        part = store.part("train")
        self.ids, self.length = part.ids, length - 2
        self.first, self.last = part.tokenizer.cls, part.tokenizer.sep

    def __len__(self) -> int:
        return len(self.ids) // self.length

    def __getitem__(self, i: int) -> dict[str, list[int]]:
        return {"input_ids": [self.first, *self.ids[i * self.length : (i + 1) * self.length].tolist(), self.last]}


def their_round(made: Recipe, seconds: float, warm_up: float, tiny: bool) -> Round:
    from transformers import (
        AutoTokenizer,
        BertConfig,
        BertForMaskedLM,
        DataCollatorForLanguageModeling,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    memory_reset()
    shape, length, store = made.model, made.batches.length, Store(made.data)
    assert isinstance(shape, Config)
    tokenizer = AutoTokenizer.from_pretrained(store.folder)
    config = BertConfig(
        vocab_size=store.tokenizer.size, hidden_size=shape.width, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, intermediate_size=shape.feed_forward, max_position_embeddings=length,
        pad_token_id=store.tokenizer.pad, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    marks: list[float] = []  # when each step past the warm-up ended
    began = time.perf_counter()

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if not tiny:
                torch.cuda.synchronize()
            now = time.perf_counter() - began
            if now >= warm_up:
                marks.append(now)
            control.should_training_stop = now >= warm_up + seconds and len(marks) > 1

    with tempfile.TemporaryDirectory() as out:
        settings: Any = {
            "output_dir": out, "max_steps": 10**7, "report_to": [], "save_strategy": "no", "logging_strategy": "no",
            "disable_tqdm": True, "bf16": True, "use_cpu": tiny, "torch_compile": not tiny,
            "per_device_train_batch_size": made.batches.tokens // length, "optim": "adamw_torch_fused",
            "dataloader_num_workers": 0 if tiny else 4,
        }  # fmt: skip
        Trainer(
            BertForMaskedLM._from_config(config, attn_implementation="sdpa"),
            TrainingArguments(**settings),
            data_collator=DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15),
            train_dataset=Joined(store, length),
            callbacks=[Clock()],
        ).train()
    return Round((len(marks) - 1) * made.batches.tokens / (marks[-1] - marks[0]), memory())


def memory_reset() -> None:
    torch.compiler.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def memory() -> float:
    return torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0


def speed(args: argparse.Namespace) -> None:
    best = peak(precision.device(), "bf16", 1.0)
    print(f"a large bf16 product reaches {best / 1e12:,.4g} TFLOP/s")
    for size in args.sizes:
        for length in args.lengths:
            made = ours(args.store, (TINY if args.cpu_check else SIZES)[size], length, args)
            print(f"{size}, rows of {length}, {args.slots // length} a step", flush=True)
            rounds: dict[str, list[Round]] = {"trainer": [], "masklab": []}
            for number in range(args.rounds):
                for name in list(rounds)[:: -1 if number % 2 else 1]:
                    rounds[name].append(
                        our_round(made, args.warm_up)
                        if name == "masklab"
                        else their_round(made, args.seconds, args.warm_up, args.cpu_check)
                    )
                print("  " + "  ".join(f"{n} {r[-1].rate:,.0f}" for n, r in rounds.items()), "slots/s", flush=True)
            rates = {name: [r.rate for r in found] for name, found in rounds.items()}
            for name, work in (("trainer", their_per_slot(made)), ("masklab", per_slot(made))):
                rate = statistics.median(rates[name])
                print(f"  {name:8} {rate:>12,.0f} slots/s, {rate * work / best:.1%} of the peak, "
                      f"{max(r.memory for r in rounds[name]):.1f} GiB")  # fmt: skip
            print(f"  masklab / trainer: {ratio(rates['masklab'], rates['trainer'])}", flush=True)


def learn(args: argparse.Namespace) -> None:
    """The tuned preset, in the first of the sizes, rows of 128 at the end."""
    layers, width = (TINY if args.cpu_check else SIZES)[args.sizes[0]]
    made = recipes.load(args.recipe, data=args.store, preset="tuned")
    tuned: Any = made.model
    shape = replace(tuned, layers=layers, width=width, heads=max(2, width // 64),
                    feed_forward=tuned.feed_forward * width // tuned.width)  # fmt: skip
    batches = replace(made.batches, tokens=args.slots)
    made = replace(made, model=shape, batches=batches, budget=Budget(seconds=args.seconds), precision="bf16")
    result = train(made).result
    found, trivial = result["held_out"]["masked"], result["baseline"]["masked"]
    print(f"{args.recipe} {layers} x {width}, {result['seconds']:.0f} s, {result['steps']:,} steps, "
          f"{result['tokens']:,} tokens: {found['loss']:.3f} nats, top-1 {found['accuracy']:.3f} "
          f"(unigram: {trivial['loss']:.3f} nats)")  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--lengths", nargs="+", type=int, default=[128, 512, 2048], help="slots a row")
    parser.add_argument("--slots", type=int, default=65_536, help="a step")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15, help="of each round after its warm-up; of --learn in all")
    parser.add_argument("--warm-up", type=float, default=30, help="seconds of each round for the compiler")
    parser.add_argument("--learn", action="store_true", help="a run of masklab's tuned preset and its held-out loss")
    parser.add_argument("--recipe", default="modernbert", help="with --learn")
    parser.add_argument("--cpu-check", action="store_true", help="tiny models, without a GPU; the figures mean nothing")
    args = parser.parse_args(arguments)
    if args.cpu_check:
        args.lengths, args.slots, args.rounds, args.warm_up = [16, 32], 256, 1, 0.0
    elif not torch.cuda.is_available():
        sys.exit("gpu.py: there is no GPU here; --cpu-check tries the script with tiny models on a CPU")
    card = "CPU" if args.cpu_check else torch.cuda.get_device_name()
    print(f"{datetime.date.today()}, {card}, torch {torch.__version__}")
    (learn if args.learn else speed)(args)


if __name__ == "__main__":
    main()
