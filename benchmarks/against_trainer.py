"""masklab beside transformers' Trainer: same text, same vocabulary, same shape, same wall clock, same held-out masks.

    python benchmarks/against_trainer.py STORE                          # tokens per second, alternating rounds
    python benchmarks/against_trainer.py STORE --learn --seconds 300    # held-out loss after so long, several seeds

The Trainer's side is run_mlm.py's recipe: BertForMaskedLM, DataCollatorForLanguageModeling, rows of 128 cut from the
same tokens. `default` leaves its settings as they come (fp32, dropout 0.1, batch 8); `best` gives it bfloat16, no
dropout and a batch of 32. Its model is judged by masklab's evaluation: both write the same files.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from masklab import recipe as recipes
from masklab.corpus.store import Store
from masklab.models import hub
from masklab.objectives.masked_lm import MaskedLM
from masklab.training import precision
from masklab.training.evaluation import Pretrainer, evaluate, held_out_batches, total
from masklab.training.loop import train
from masklab.training.schedule import Budget

LENGTH = 128


class Rows(torch.utils.data.Dataset):
    """Rows of 126 tokens in a row, whatever document they come from, as run_mlm.py's group_texts makes them."""

    def __init__(self, store: Store):
        part = store.part("train")
        self.ids, self.first, self.last = part.ids, part.tokenizer.cls, part.tokenizer.sep

    def __len__(self) -> int:
        return len(self.ids) // (LENGTH - 2)

    def __getitem__(self, i: int) -> dict[str, list[int]]:
        ids = self.ids[i * (LENGTH - 2) : (i + 1) * (LENGTH - 2)].tolist()
        return {"input_ids": [self.first, *ids, self.last]}


class Clock(TrainerCallback):
    """Ends a Trainer run by the clock and keeps the rate it reached after a warm-up of ten steps."""

    def __init__(self, seconds: float):
        self.seconds, self.steps, self.rate = seconds, 0, 0.0

    def on_step_end(self, args, state, control, **_):  # type: ignore[override]
        now = time.perf_counter()
        if state.global_step == 10:
            self.began = now
        if state.global_step > 10:
            self.rate = (state.global_step - 10) * args.train_batch_size * LENGTH / (now - self.began)
            control.should_training_stop = now - self.began > self.seconds


def trainer(
    store: Store, shape: dict[str, int], best: bool, seconds: float, steps: int, lr: float, seed: int, batch: int = 0
):
    """One run of the Trainer; its rate in tokens per second and the model."""
    tokenizer = AutoTokenizer.from_pretrained(store.folder)
    torch.manual_seed(seed)
    dropout = 0.0 if best else 0.1
    config = BertConfig(
        vocab_size=store.tokenizer.size,
        hidden_size=shape["width"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        intermediate_size=4 * shape["width"],
        max_position_embeddings=LENGTH,
        pad_token_id=store.tokenizer.pad,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    clock = Clock(seconds)
    with tempfile.TemporaryDirectory() as folder:
        settings: Any = {
            "output_dir": folder, "max_steps": steps, "learning_rate": lr, "report_to": [], "save_strategy": "no",
            "logging_strategy": "no", "disable_tqdm": True, "bf16": best, "use_cpu": True, "seed": seed,
            "per_device_train_batch_size": batch or (32 if best else 8), "warmup_steps": 0.03,
        }  # fmt: skip
        run = Trainer(
            BertForMaskedLM(config),
            TrainingArguments(**settings),
            data_collator=DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15),
            train_dataset=Rows(store),
            callbacks=[clock],
        )
        run.train()
    return clock.rate, run.model


def judge(store: Store, model: Any, rows: int) -> dict[str, Any]:
    """The held-out score of a transformers model, by masklab's evaluation under its fixed masks."""
    objective = MaskedLM()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        loaded = hub.load(folder)
    batches = held_out_batches(objective, store.part("held_out"), LENGTH, rows, 4096)
    pretrainer = Pretrainer(loaded.model, loaded.heads, objective)
    return evaluate(pretrainer, batches, precision.autocast("bf16", torch.device("cpu")))


def ours(
    store: Store, name: str, shape: dict[str, int], budget: Budget, seed: int, plain: bool = False, rows: int = 512
):
    """The recipe's tuned preset in the same shape; `plain`: rows of 128 and 15 % masks, like the Trainer."""
    recipe = recipes.load(name, data=str(store.path), preset="tuned")
    model: Any = recipe.model
    recipe = replace(
        recipe,
        model=replace(model, **shape, feed_forward=model.feed_forward * shape["width"] // model.width),
        budget=budget,
        seed=seed,
        evaluation=replace(recipe.evaluation, every=1.0, rows=rows),
    )
    if plain:
        batches = replace(recipe.batches, tokens=4096, lengths=((0.0, LENGTH),))
        recipe = replace(recipe, objective=replace(recipe.objective, start_rate=None, rate=0.15), batches=batches)
    return train(recipe)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--recipe", default="bert", help="which of masklab's recipes")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=15, help="of each round, or of each run with --learn")
    parser.add_argument("--learn", action="store_true", help="compare held-out losses instead of rates")
    parser.add_argument("--lr", type=float, nargs="+", default=[1e-3], help="the Trainer's rates to try (with --learn)")
    parser.add_argument("--peers", nargs="+", default=["default", "best"], choices=["default", "best"])
    parser.add_argument("--alone", action="store_true", help="with --learn: run the Trainer's side only")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    store = Store(args.store)
    shape = {"layers": args.layers, "width": args.width, "heads": args.heads}
    precision.settle(args.threads)
    torch.use_deterministic_algorithms(False)  # the Trainer's side runs as its users run it
    print(f"{args.recipe} {args.layers} x {args.width}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    (learn if args.learn else speed)(args, store, shape)


def speed(args: argparse.Namespace, store: Store, shape: dict[str, int]) -> None:
    rates: dict[str, list[float]] = {"trainer default": [], "trainer best": [], "masklab": []}
    for _ in range(args.rounds):
        for best in (False, True):
            rate, _ = trainer(store, shape, best, args.seconds, 10**6, 1e-3, 0)
            rates["trainer best" if best else "trainer default"].append(rate)
        run = ours(store, args.recipe, shape, Budget(seconds=args.seconds), 0, plain=True, rows=32)
        rates["masklab"].append(run.result["steps"] * run.recipe.batches.tokens / run.result["seconds"])
        print("  ".join(f"{name} {values[-1]:,.0f}" for name, values in rates.items()), "tokens/s", flush=True)
    for name in ("trainer default", "trainer best"):
        ratios = sorted(a / b for a, b in zip(rates["masklab"], rates[name], strict=True))
        medians = statistics.median(rates["masklab"]) / statistics.median(rates[name])
        print(f"masklab / {name}: {medians:.2f}x (medians; rounds {ratios[0]:.2f} to {ratios[-1]:.2f})")


def learn(args: argparse.Namespace, store: Store, shape: dict[str, int]) -> None:
    results: dict[str, list[tuple[float, float]]] = {}
    for seed in range(args.seeds):
        if not args.alone:
            run = ours(store, args.recipe, shape, Budget(seconds=args.seconds), seed, rows=512)
            score = run.result["held_out"]["masked"]
            results.setdefault(f"masklab {args.recipe} tuned", []).append((score["loss"], score["accuracy"]))
        for lr, peer in itertools.product(args.lr, args.peers):
            best = peer == "best"
            rate, _ = trainer(store, shape, best, 5, 10**6, lr, seed)  # how many steps fit, for its schedule
            steps = int(rate * args.seconds / (LENGTH * (32 if best else 8)))
            _, model = trainer(store, shape, best, args.seconds, steps, lr, seed)
            found = judge(store, model, 512)["masked"]
            results.setdefault(f"trainer {peer} lr {lr:g}", []).append((found.loss, found.accuracy))
        for name, values in results.items():
            print(f"seed {seed}, {name}: {values[-1][0]:.3f} nats, top-1 {values[-1][1]:.3f}", flush=True)
    objective = MaskedLM()
    held_out = store.part("held_out")
    batches = held_out_batches(objective, held_out, LENGTH, 512, 4096)
    unigram = total(objective.baseline(held_out, batch) for batch in batches)["masked"]
    print(f"unigram: {unigram.loss:.3f} nats, top-1 {unigram.accuracy:.3f}")
    for name, values in results.items():
        losses = [loss for loss, _ in values]
        deviation = np.std(losses, ddof=1) if len(losses) > 1 else float("nan")
        print(f"{name}: {np.mean(losses):.3f} nats, deviation {deviation:.3f}")


if __name__ == "__main__":
    main()
