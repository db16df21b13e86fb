"""Counting parameters, and refusing shapes that cannot be."""

import pytest
import torch
import transformers

from masklab.errors import BadInput
from masklab.models.config import Config
from masklab.models.heads import MaskedLMHead, NextSentenceHead, Pooler
from masklab.models.transformer import Model


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_bert_base_and_large():
    base = Config()
    large = Config(layers=24, width=1024, heads=16, feed_forward=4096)
    assert base.parameters(["pooler"]) == 109_482_240
    assert large.parameters(["pooler"]) == 335_141_888
    with torch.device("meta"):
        assert count(transformers.BertModel(transformers.BertConfig())) == base.parameters(["pooler"])
        pretraining = transformers.BertForPreTraining(transformers.BertConfig())
        assert count(pretraining) == base.parameters(["pooler", "masked_lm", "next_sentence"])
        theirs = transformers.BertConfig(
            hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096
        )
        assert count(transformers.BertModel(theirs)) == large.parameters(["pooler"])


def test_the_formula_counts_our_modules(config):
    model = Model(config)
    assert count(model) == config.parameters()
    assert count(MaskedLMHead(config, model.embeddings)) == config.parameters(["masked_lm"]) - config.parameters()
    assert count(Pooler(config)) == config.parameters(["pooler"]) - config.parameters()
    assert count(NextSentenceHead(config)) == config.parameters(["next_sentence"]) - config.parameters()
    assert f"{config.parameters():,}" in config.formula()


@pytest.mark.parametrize("changes", [{"biases": False}, {"biasless": ("norm", "decoder")}, {"biasless": ("mlp",)}])
def test_modernbert_without_biases(changes, make_config):
    config = make_config("modernbert", **changes)
    model = Model(config)
    assert count(model) == config.parameters()
    assert count(MaskedLMHead(config, model.embeddings)) == config.parameters(["masked_lm"]) - config.parameters()


@pytest.mark.parametrize(
    ("values", "cure"),
    [
        ({"width": 100, "heads": 12}, "width=96"),
        ({"family": "mpnet"}, "padding token to 1"),
        ({"family": "mpnet", "pad": 1, "buckets": 16}, "buckets=32"),
        ({"family": "gpt"}, "bert, mpnet, modernbert"),
        ({"family": "modernbert", "width": 9, "heads": 3}, "even"),
        ({"layers": 0}, "at least 1"),
        ({"biases": False}, "biases=True"),
        ({"family": "modernbert", "biasless": ("head",)}, "attention, mlp"),
        ({"pad": 40000}, "vocabulary of 30522"),
        ({"dropout": 1.5}, "below 1"),
    ],
)
def test_contradictions_are_refused_with_the_cure(values, cure):
    with pytest.raises(BadInput, match=cure):
        Config(**values)
