"""A model as a Hugging Face folder: config.json and model.safetensors, under the names that transformers' class
expects.

The tables below are all there is to know per family: what each of our modules is called there, which fields its
config.json has, which class holds which heads. `save` and `load` only walk them.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from masklab.errors import BadInput
from masklab.files import atomic_write
from masklab.models import own
from masklab.models.attention import Kernel
from masklab.models.config import BIASES, Config
from masklab.models.embeddings import MPNET_OFFSET
from masklab.models.generator import Generator
from masklab.models.heads import (
    BoundaryHead,
    ClassifyHead,
    LMHead,
    MaskedLMHead,
    NextSentenceHead,
    Pooler,
    ReplacedHead,
    TagHead,
)
from masklab.models.own import Shape
from masklab.models.transformer import Model

WEIGHTS, INDEX, SETTINGS = "model.safetensors", "model.safetensors.index.json", "config.json"
BESIDE = "heads.safetensors"  # heads for which no class of transformers has a place, under our names
PLACELESS = {"boundary", "generator"}
GENERATOR = "generator"  # the folder, inside the discriminator's, of an ELECTRA's generator
_LAYER = re.compile(r"\blayers\.(\d+)\.")
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.ckpt.index", "tf_model.h5", "flax_model.msgpack")

# The trunk's prefix in every class but the bare *Model, whose file leaves it out.
PREFIX = {"bert": "bert.", "electra": "electra.", "mpnet": "mpnet.", "modernbert": "model.", "t5": ""}

# Our module -> theirs; several of theirs are stacked in ours, top to bottom. {} is a layer's number.
TRUNK: dict[str, dict[str, tuple[str, ...]]] = {
    "bert": {
        "embeddings.tokens": ("embeddings.word_embeddings",),
        "embeddings.positions": ("embeddings.position_embeddings",),
        "embeddings.segments": ("embeddings.token_type_embeddings",),
        "embeddings.norm": ("embeddings.LayerNorm",),
        "layers.{}.attention.qkv": (
            "encoder.layer.{}.attention.self.query",
            "encoder.layer.{}.attention.self.key",
            "encoder.layer.{}.attention.self.value",
        ),
        "layers.{}.attention.out": ("encoder.layer.{}.attention.output.dense",),
        "layers.{}.attention_norm": ("encoder.layer.{}.attention.output.LayerNorm",),
        "layers.{}.feed_forward.wi": ("encoder.layer.{}.intermediate.dense",),
        "layers.{}.feed_forward.wo": ("encoder.layer.{}.output.dense",),
        "layers.{}.feed_forward_norm": ("encoder.layer.{}.output.LayerNorm",),
    },
    "mpnet": {
        "embeddings.tokens": ("embeddings.word_embeddings",),
        "embeddings.positions": ("embeddings.position_embeddings",),
        "embeddings.norm": ("embeddings.LayerNorm",),
        "relative_bias.table": ("encoder.relative_attention_bias",),
        "layers.{}.attention.qkv": (
            "encoder.layer.{}.attention.attn.q",
            "encoder.layer.{}.attention.attn.k",
            "encoder.layer.{}.attention.attn.v",
        ),
        "layers.{}.attention.out": ("encoder.layer.{}.attention.attn.o",),
        "layers.{}.attention_norm": ("encoder.layer.{}.attention.LayerNorm",),
        "layers.{}.feed_forward.wi": ("encoder.layer.{}.intermediate.dense",),
        "layers.{}.feed_forward.wo": ("encoder.layer.{}.output.dense",),
        "layers.{}.feed_forward_norm": ("encoder.layer.{}.output.LayerNorm",),
    },
    "modernbert": {
        "embeddings.tokens": ("embeddings.tok_embeddings",),
        "embeddings.norm": ("embeddings.norm",),
        "layers.{}.attention_norm": ("layers.{}.attn_norm",),
        "layers.{}.attention.qkv": ("layers.{}.attn.Wqkv",),
        "layers.{}.attention.out": ("layers.{}.attn.Wo",),
        "layers.{}.feed_forward_norm": ("layers.{}.mlp_norm",),
        "layers.{}.feed_forward.wi": ("layers.{}.mlp.Wi",),
        "layers.{}.feed_forward.wo": ("layers.{}.mlp.Wo",),
        "final_norm": ("final_norm",),
    },
    "t5": {
        "embeddings.tokens": ("shared",),
        "relative_bias.table": ("encoder.block.0.layer.0.SelfAttention.relative_attention_bias",),
        "layers.{}.attention_norm": ("encoder.block.{}.layer.0.layer_norm",),
        "layers.{}.attention.qkv": (
            "encoder.block.{}.layer.0.SelfAttention.q",
            "encoder.block.{}.layer.0.SelfAttention.k",
            "encoder.block.{}.layer.0.SelfAttention.v",
        ),
        "layers.{}.attention.out": ("encoder.block.{}.layer.0.SelfAttention.o",),
        "layers.{}.feed_forward_norm": ("encoder.block.{}.layer.1.layer_norm",),
        "layers.{}.feed_forward.wi": ("encoder.block.{}.layer.1.DenseReluDense.wi",),
        "layers.{}.feed_forward.wo": ("encoder.block.{}.layer.1.DenseReluDense.wo",),
        "final_norm": ("encoder.final_layer_norm",),
        "decoder.relative_bias.table": ("decoder.block.0.layer.0.SelfAttention.relative_attention_bias",),
        "decoder.layers.{}.attention_norm": ("decoder.block.{}.layer.0.layer_norm",),
        "decoder.layers.{}.attention.qkv": (
            "decoder.block.{}.layer.0.SelfAttention.q",
            "decoder.block.{}.layer.0.SelfAttention.k",
            "decoder.block.{}.layer.0.SelfAttention.v",
        ),
        "decoder.layers.{}.attention.out": ("decoder.block.{}.layer.0.SelfAttention.o",),
        "decoder.layers.{}.cross_norm": ("decoder.block.{}.layer.1.layer_norm",),
        "decoder.layers.{}.cross.q": ("decoder.block.{}.layer.1.EncDecAttention.q",),
        "decoder.layers.{}.cross.kv": (
            "decoder.block.{}.layer.1.EncDecAttention.k",
            "decoder.block.{}.layer.1.EncDecAttention.v",
        ),
        "decoder.layers.{}.cross.out": ("decoder.block.{}.layer.1.EncDecAttention.o",),
        "decoder.layers.{}.feed_forward_norm": ("decoder.block.{}.layer.2.layer_norm",),
        "decoder.layers.{}.feed_forward.wi": ("decoder.block.{}.layer.2.DenseReluDense.wi",),
        "decoder.layers.{}.feed_forward.wo": ("decoder.block.{}.layer.2.DenseReluDense.wo",),
        "decoder.final_norm": ("decoder.final_layer_norm",),
    },
}
TRUNK["electra"] = TRUNK["bert"] | {"embeddings.project": ("embeddings_project",)}

# The same for heads: full names, as every class with such a head has them.
HEADS: dict[str, dict[str, tuple[str, ...]]] = {
    "bert": {
        "pooler.dense": ("bert.pooler.dense",),
        "masked_lm.dense": ("cls.predictions.transform.dense",),
        "masked_lm.norm": ("cls.predictions.transform.LayerNorm",),
        "masked_lm": ("cls.predictions",),
        "next_sentence.out": ("cls.seq_relationship",),
        "classify.ready.dense": ("bert.pooler.dense",),
        "classify.out": ("classifier",),
        "tag.out": ("classifier",),
    },
    "electra": {
        "masked_lm.dense": ("generator_predictions.dense",),
        "masked_lm.norm": ("generator_predictions.LayerNorm",),
        "masked_lm": ("generator_lm_head",),
        "replaced.dense": ("discriminator_predictions.dense",),
        "replaced.out": ("discriminator_predictions.dense_prediction",),
        "classify.ready.dense": ("classifier.dense",),
        "classify.out": ("classifier.out_proj",),
        "tag.out": ("classifier",),
    },
    "mpnet": {
        "pooler.dense": ("mpnet.pooler.dense",),
        "masked_lm.dense": ("lm_head.dense",),
        "masked_lm.norm": ("lm_head.layer_norm",),
        "masked_lm": ("lm_head",),
        "classify.ready.dense": ("classifier.dense",),
        "classify.out": ("classifier.out_proj",),
        "tag.out": ("classifier",),
    },
    "modernbert": {
        "masked_lm.dense": ("head.dense",),
        "masked_lm.norm": ("head.norm",),
        "masked_lm": ("decoder",),
        "classify.ready.dense": ("head.dense",),
        "classify.ready.norm": ("head.norm",),
        "classify.out": ("classifier",),
        "tag.ready.dense": ("head.dense",),
        "tag.ready.norm": ("head.norm",),
        "tag.out": ("classifier",),
    },
    "t5": {"lm.out": ("lm_head",)},
}

# Heads -> the class that holds exactly these.
CLASSES: dict[str, dict[frozenset[str], str]] = {
    "bert": {
        frozenset(): "BertModel",  # transformers then draws a pooler of its own
        frozenset({"pooler"}): "BertModel",
        frozenset({"masked_lm"}): "BertForMaskedLM",
        frozenset({"masked_lm", "pooler", "next_sentence"}): "BertForPreTraining",
        frozenset({"pooler", "next_sentence"}): "BertForNextSentencePrediction",
        frozenset({"classify"}): "BertForSequenceClassification",
        frozenset({"tag"}): "BertForTokenClassification",
    },
    "electra": {
        frozenset(): "ElectraModel",
        frozenset({"masked_lm"}): "ElectraForMaskedLM",
        frozenset({"replaced"}): "ElectraForPreTraining",
        frozenset({"classify"}): "ElectraForSequenceClassification",
        frozenset({"tag"}): "ElectraForTokenClassification",
    },
    "mpnet": {
        frozenset(): "MPNetModel",
        frozenset({"pooler"}): "MPNetModel",
        frozenset({"masked_lm"}): "MPNetForMaskedLM",
        frozenset({"classify"}): "MPNetForSequenceClassification",
        frozenset({"tag"}): "MPNetForTokenClassification",
    },
    "modernbert": {
        frozenset(): "ModernBertModel",
        frozenset({"masked_lm"}): "ModernBertForMaskedLM",
        frozenset({"classify"}): "ModernBertForSequenceClassification",
        frozenset({"tag"}): "ModernBertForTokenClassification",
    },
    "t5": {frozenset(): "T5Model", frozenset({"lm"}): "T5ForConditionalGeneration"},
}

# Names that some files carry a second time: copy -> what it must equal.
COPIES = {
    "bert": {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    "electra": {"generator_lm_head.weight": "electra.embeddings.word_embeddings.weight"},
    "mpnet": {
        "lm_head.decoder.weight": "mpnet.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    },
    "modernbert": {"decoder.weight": "model.embeddings.tok_embeddings.weight"},
    "t5": {"encoder.embed_tokens.weight": "shared.weight", "decoder.embed_tokens.weight": "shared.weight"},
}

# config.json's field -> ours.
FIELDS = {
    "bert": {
        "vocab_size": "vocabulary",
        "num_hidden_layers": "layers",
        "hidden_size": "width",
        "num_attention_heads": "heads",
        "intermediate_size": "feed_forward",
        "max_position_embeddings": "max_length",
        "type_vocab_size": "segments",
        "pad_token_id": "pad",
        "layer_norm_eps": "norm_eps",
        "initializer_range": "std",
        "hidden_dropout_prob": "dropout",
        "attention_probs_dropout_prob": "attention_dropout",
    },
    "mpnet": {
        "vocab_size": "vocabulary",
        "num_hidden_layers": "layers",
        "hidden_size": "width",
        "num_attention_heads": "heads",
        "intermediate_size": "feed_forward",
        "max_position_embeddings": "max_length",
        "relative_attention_num_buckets": "buckets",
        "pad_token_id": "pad",
        "layer_norm_eps": "norm_eps",
        "initializer_range": "std",
        "hidden_dropout_prob": "dropout",
        "attention_probs_dropout_prob": "attention_dropout",
    },
    "modernbert": {
        "vocab_size": "vocabulary",
        "num_hidden_layers": "layers",
        "hidden_size": "width",
        "num_attention_heads": "heads",
        "intermediate_size": "feed_forward",
        "max_position_embeddings": "max_length",
        "pad_token_id": "pad",
        "norm_eps": "norm_eps",
        "initializer_range": "std",
        "mlp_dropout": "dropout",
        "attention_dropout": "attention_dropout",
    },
    "t5": {
        "vocab_size": "vocabulary",
        "num_layers": "layers",
        "num_decoder_layers": "decoder_layers",
        "d_model": "width",
        "d_kv": "key_width",
        "num_heads": "heads",
        "d_ff": "feed_forward",
        "n_positions": "max_length",
        "relative_attention_num_buckets": "buckets",
        "pad_token_id": "pad",
        "layer_norm_epsilon": "norm_eps",
        "dropout_rate": "dropout",
        "tie_word_embeddings": "tied",
    },
}
FIELDS["electra"] = {"embedding_size": "inner"} | FIELDS["bert"]

# What a field is when config.json leaves it out: transformers' own default, where that is not Config's.
ABSENT: dict[str, dict[str, Any]] = {
    "bert": {},
    "electra": {"inner": 128, "width": 256, "heads": 4, "feed_forward": 1024},
    "mpnet": {"vocabulary": 30527, "pad": 1, "max_length": 512},
    "modernbert": {
        "vocabulary": 50368,
        "feed_forward": 1152,
        "layers": 22,
        "max_length": 8192,
        "pad": 50283,
        "norm_eps": 1e-5,
        "dropout": 0.0,
        "attention_dropout": 0.0,
    },
    "t5": {
        "vocabulary": 32128,
        "layers": 6,
        "width": 512,
        "key_width": 64,
        "heads": 8,
        "feed_forward": 2048,
        "norm_eps": 1e-6,
    },
}

# The dropout each class usually has: written whatever training used, so that nobody's fine-tuning silently loses it.
USUAL = {
    "bert": {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
    "electra": {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
    "mpnet": {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
    "modernbert": {"embedding_dropout": 0.0, "mlp_dropout": 0.0, "attention_dropout": 0.0, "classifier_dropout": 0.0},
    "t5": {"dropout_rate": 0.1},
}

# What our modules compute; another value in config.json is another model.
ONLY: dict[str, dict[str, Any]] = {
    "bert": {
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
        "is_decoder": False,
        "add_cross_attention": False,
        "tie_word_embeddings": True,
    },
    "mpnet": {"hidden_act": "gelu", "tie_word_embeddings": True},
    "modernbert": {"hidden_activation": "gelu", "classifier_activation": "gelu", "tie_word_embeddings": True},
    "t5": {"is_encoder_decoder": True, "relative_attention_max_distance": 128},
}
ONLY["electra"] = ONLY["bert"]

BIAS_FIELDS = {part: f"{part}_bias" for part in BIASES}  # modernbert's attention_bias, mlp_bias, ...
BIAS_ABSENT = {"decoder": True}  # the rest are False where config.json leaves them out

SENTENCE_MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]


class Loaded(NamedTuple):
    """A folder, read. new: names of ours that it lacked, drawn at random; unused: its names that we have no use for."""

    config: Config  # or another shape of own.py, with its network
    model: Model
    heads: nn.ModuleDict
    labels: list[str] | None
    new: list[str]
    unused: list[str]
    folder: Path  # where it lies on this machine, with its tokenizer


# Writing


def save(
    folder: str | Path,
    config: Shape,
    model: nn.Module,
    heads: Mapping[str, nn.Module] | nn.ModuleDict | None = None,
    *,
    labels: list[str] | None = None,
    special: Mapping[str, int] | None = None,
) -> str:
    """Write config.json, model.safetensors and, for encoders, sentence-transformers' files; returns the class's name.

    labels: the class names of a "classify" or "tag" head, in order. special: the ids of "pad", "cls", "sep", "mask".
    The tokenizer's files are the caller's to put beside. A network that no class is for is written as own.py says.
    """
    folder, every = Path(folder), dict(heads.items()) if heads else {}
    if not isinstance(config, Config):
        _write(folder, own.tensors_of(model, every), own.settings_of(config, every, labels))
        return own.OPENS
    heads = {name: head for name, head in every.items() if name not in PLACELESS}
    boundary = every["boundary"].state_dict() if "boundary" in every else {}
    beside = {f"boundary.{key}": tensor for key, tensor in boundary.items()}
    name = class_for(config, heads)
    tensors = {}
    bare = name.endswith("Model")
    for key, part in _ours(model, heads).items():
        theirs = _theirs(key, config, bare)
        tensors |= zip(theirs, part.detach().chunk(len(theirs)), strict=True)
    settings = _settings(config, name, heads, labels, special or {})
    if "generator" in every:
        generator: Generator = every["generator"]  # type: ignore[assignment]
        save(folder / GENERATOR, generator.config, *generator.alone(), special=special)
    if beside:
        with atomic_write(folder / BESIDE) as file:
            file.write(safetensors.torch.save({key: tensor.to("cpu").contiguous() for key, tensor in beside.items()}))
    _write(folder, tensors, settings)
    if config.family != "t5" and not {"classify", "tag"} & set(heads):
        _write_json(folder / "modules.json", SENTENCE_MODULES)
        _write_json(folder / "sentence_bert_config.json", {"max_seq_length": config.max_length, "do_lower_case": False})
        pooling = {"word_embedding_dimension": config.width, "pooling_mode_mean_tokens": True}
        _write_json(folder / "1_Pooling" / "config.json", pooling)
    return name


def _write(folder: Path, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> None:
    """model.safetensors, then config.json."""
    apart = {key: tensor.detach().to("cpu").clone().contiguous() for key, tensor in tensors.items()}
    with atomic_write(folder / WEIGHTS) as file:
        file.write(safetensors.torch.save(apart, {"format": "pt"}))
    _write_json(folder / SETTINGS, settings)


def class_for(config: Shape, heads: Mapping[str, nn.Module] | nn.ModuleDict) -> str:
    """The transformers class that holds exactly these heads: class_for(bert, {"masked_lm"}) -> "BertForMaskedLM".

    Heads that no class has (`PLACELESS`) lie in a file of their own beside it.
    """
    if not isinstance(config, Config):
        return own.OPENS
    classes = CLASSES[config.family]
    name = classes.get(frozenset(heads.keys()) - PLACELESS)
    if name is None:
        possible = "; ".join(f"{cls}: {', '.join(sorted(of)) or 'none'}" for of, cls in classes.items())
        raise BadInput(
            f"no {config.family} class of transformers holds the heads {', '.join(sorted(heads.keys()))} ({possible})"
        )
    return name


def _settings(
    config: Config,
    name: str,
    heads: Mapping[str, nn.Module],
    labels: list[str] | None,
    special: Mapping[str, int],
) -> dict[str, Any]:
    """config.json as the class writes it."""
    settings: dict[str, Any] = {"architectures": [name], "model_type": config.family}
    settings |= {theirs: getattr(config, ours) for theirs, ours in FIELDS[config.family].items()}
    settings |= {**ONLY[config.family], **USUAL[config.family], "dtype": "float32"}
    if config.family == "mpnet":
        settings["max_position_embeddings"] += MPNET_OFFSET
    if config.family == "electra":
        settings["embedding_size"] = config.table_width
    if config.family == "t5":
        settings |= {"d_kv": config.head_size, "decoder_start_token_id": config.pad}
        settings["feed_forward_proj"] = "gated-gelu" if config.gated else "relu"
    if config.family == "modernbert":
        settings |= {field: config.bias(part) for part, field in BIAS_FIELDS.items()}
        turn = {"rope_type": "default", "rope_theta": config.theta}
        settings["rope_parameters"] = {"full_attention": turn, "sliding_attention": turn}
        settings["layer_types"] = ["full_attention"] * config.layers
        settings["classifier_pooling"] = "cls"
    for token in ("cls", "sep", "mask"):
        if token in special:
            settings[f"{token}_token_id"] = special[token]
    # transformers' defaults for these are ids of the first published vocabulary: say ours, or that there is none
    settings["bos_token_id"], settings["eos_token_id"] = special.get("cls"), special.get("sep")
    if config.family == "modernbert":
        settings["cls_token_id"], settings["sep_token_id"] = special.get("cls"), special.get("sep")
    if special.get("pad", config.pad) != config.pad:
        raise BadInput(f"the tokenizer pads with {special['pad']}, the model with {config.pad}: make them the same")
    for head in ("classify", "tag"):
        if head in heads:
            classes = int(heads[head].classes)  # type: ignore[arg-type]
            names = labels or [f"LABEL_{index}" for index in range(classes)]
            if len(names) != classes:
                raise BadInput(f"{len(names)} labels for a head of {classes} classes: give one name each")
            settings["id2label"] = {str(index): label for index, label in enumerate(names)}
            settings["label2id"] = {label: index for index, label in enumerate(names)}
    return settings


def _ours(model: nn.Module, heads: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Every parameter of trunk and heads under our names."""
    ours = dict(model.state_dict())
    for head, module in heads.items():
        ours |= {f"{head}.{key}": value for key, value in module.state_dict().items()}
    return ours


def _theirs(key: str, config: Config, bare: bool) -> list[str]:
    """Our parameter's name -> theirs, several where ours stacks them."""
    module, leaf = key.rsplit(".", 1)
    found = _LAYER.search(module)
    number = found[1] if found else ""
    pattern = _LAYER.sub("layers.{}.", module, count=1)
    prefix = PREFIX[config.family]
    if pattern in TRUNK[config.family]:
        names = [prefix + name.format(number) for name in TRUNK[config.family][pattern]]
        if config.gated and pattern.endswith("feed_forward.wi"):  # T5 v1.1
            names = [f"{names[0]}_0", f"{names[0]}_1"]
    else:
        names = list(HEADS[config.family][pattern])
    return [f"{name.removeprefix(prefix) if bare else name}.{leaf}" for name in names]


def _write_json(path: Path, content: Any) -> None:
    with atomic_write(path, "w") as file:
        file.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


# Reading


def load(source: str | Path, *, kernel: Kernel = "auto", dropout: float | None = None) -> Loaded:
    """Read a folder, or fetch one from the hub by its name: the trunk and every head of ours that it holds.

    A trunk that lacks anything is refused; a head that does is completed at random, and `new` says so. dropout:
    another rate than config.json's, for training on.
    """
    folder = find(source)
    settings = read_settings(folder)
    if own.is_own(settings):
        config, model, heads = own.build(settings, folder / SETTINGS, dropout)
        own.fill(folder, model, heads, dict(_read(folder)))
        return Loaded(config, model, heads, settings.get("labels"), [], [], folder)
    config = config_from(settings, folder / SETTINGS, dropout)
    prefix = PREFIX[config.family]
    tensors = {_modern(name): tensor for name, tensor in _read(folder)}
    if prefix and not any(name.startswith(prefix) for name in tensors):
        tensors = {prefix + name: tensor for name, tensor in tensors.items()}  # the bare *Model
    _merge_copies(tensors, config, folder)

    model = Model(config, kernel)
    labels = _labels(settings)
    heads = _heads(config, model, settings, tensors, len(labels or ()))
    new, used = [], set()
    for key, target in _ours(model, dict(heads.items())).items():
        names = _theirs(key, config, bare=False)
        missing = [name for name in names if name not in tensors]
        if missing and key.split(".")[0] not in heads:
            raise BadInput(f"{folder}: the weights lack {', '.join(missing)}; fetch or save the model again")
        if missing:
            new.append(key)
            continue
        piece = torch.cat([tensors[name] for name in names]) if len(names) > 1 else tensors[names[0]]
        if piece.shape != target.shape:
            raise BadInput(
                f"{folder}: {names[0]} is {tuple(piece.shape)}, but config.json makes it {tuple(target.shape)}; "
                "config.json and the weights are of two models"
            )
        with torch.no_grad():
            target.copy_(piece)  # state_dict's tensors are the parameters' own memory
        used.update(names)
    if (folder / GENERATOR / SETTINGS).exists():
        heads["generator"] = _load_generator(folder / GENERATOR, model)
    if (folder / BESIDE).exists():
        _load_beside(folder / BESIDE, config, model, heads)
    has_labels = "classify" in heads or "tag" in heads
    return Loaded(config, model, heads, labels if has_labels else None, new, sorted(set(tensors) - used), folder)


def _load_generator(folder: Path, model: Model) -> Generator:
    """The generator kept in a discriminator's folder, on the discriminator's tables, which must be its own too."""
    alone = load(folder)
    generator = Generator(alone.config, model.embeddings)
    tables = {k: x for k, x in alone.model.state_dict().items() if k.startswith("embeddings.") and "project" not in k}
    own = model.state_dict()
    if any(not torch.equal(x, own[k]) for k, x in tables.items()):
        raise BadInput(f"{folder}: its tables are not those of the discriminator around it; save both again")
    generator.model.load_state_dict({k: x for k, x in alone.model.state_dict().items() if k not in tables})
    generator.masked_lm.load_state_dict(alone.heads["masked_lm"].state_dict())
    return generator


def _load_beside(path: Path, config: Config, model: Model, heads: nn.ModuleDict) -> None:
    """Add the heads of heads.safetensors."""
    tensors = dict(_tensors(path))
    try:
        if "boundary.place.weight" in tensors:
            heads["boundary"] = BoundaryHead(config, model.embeddings, len(tensors["boundary.place.weight"]))
        for name in {"boundary"} & set(heads.keys()):
            own = {key.removeprefix(f"{name}."): t for key, t in tensors.items() if key.startswith(f"{name}.")}
            heads[name].load_state_dict(own)
    except RuntimeError as error:
        raise BadInput(f"{path}: not of this model ({str(error).splitlines()[-1].strip()}); save it again") from None


def load_trunk(source: str | Path, *, kernel: Kernel = "auto", dropout: float | None = None) -> Loaded:
    """`load`, for training on with a new task head: without the "classify" or "tag" head the folder may end in.

    Give its heads to ClassifyHead(..., trained=heads) and TagHead(..., trained=heads): they borrow what pre-training
    made.
    """
    loaded = load(source, kernel=kernel, dropout=dropout)
    kept = nn.ModuleDict({name: head for name, head in loaded.heads.items() if name not in ("classify", "tag")})
    left = [
        key
        for name, head in loaded.heads.items()
        if name not in kept
        for key in (f"{name}.{k}" for k in head.state_dict())
    ]
    return loaded._replace(heads=kept, labels=None, unused=[*loaded.unused, *left])


def find(source: str | Path) -> Path:
    """A folder as it is; anything else that looks like NAME or OWNER/NAME is fetched from the Hugging Face hub."""
    folder = Path(source)
    if folder.is_dir():
        return folder
    text = str(source)
    if folder.exists() or text.startswith((".", "/", "~")) or text.count("/") > 1 or "\\" in text:
        raise BadInput(f"{text}: no such folder; give the folder that holds {SETTINGS} and {WEIGHTS}")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise BadInput(
            f"{text}: no such folder, and fetching from the hub needs huggingface_hub: pip install 'masklab[hub]'"
        ) from None
    try:
        return Path(snapshot_download(text, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"]))
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadInput(f"{text}: no such folder, and the hub did not give it ({reason})") from None


def read_settings(folder: Path) -> dict[str, Any]:
    """config.json as a dictionary."""
    path = folder / SETTINGS
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path}: missing; give a folder that holds {SETTINGS} and {WEIGHTS}") from None
    except ValueError as error:
        raise BadInput(f"{path}: not JSON ({error}); fetch or save the model again") from None
    if not isinstance(settings, dict):
        raise BadInput(f"{path}: not a JSON object; fetch or save the model again")
    return settings


def config_from(settings: Mapping[str, Any], path: Path, dropout: float | None = None) -> Config:
    """config.json -> Config; what our modules do not compute is refused by its name."""
    family = settings.get("model_type")
    if family not in FIELDS:
        raise BadInput(f"{path}: model_type {family!r} is not one of {', '.join(FIELDS)}")
    for field, only in ONLY[family].items():
        if settings.get(field, only) != only:
            raise BadInput(f"{path}: {field}={settings[field]!r} is not supported, only {only!r}; choose another model")
    values: dict[str, Any] = {"family": family, **ABSENT[family]}
    values |= {ours: settings[theirs] for theirs, ours in FIELDS[family].items() if settings.get(theirs) is not None}
    if family == "mpnet":
        values["max_length"] -= MPNET_OFFSET
    if family == "t5":
        values |= _t5(settings, path, values)
    if family == "electra" and values["inner"] == values["width"]:
        values["inner"] = 0
    if family == "modernbert":
        values |= _modernbert(settings, path, values)
    if dropout is not None:
        values |= {"dropout": dropout, "attention_dropout": dropout}
    try:
        return Config(**values)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None
    except TypeError as error:
        raise BadInput(f"{path}: a number is not a number ({error})") from None


def _t5(settings: Mapping[str, Any], path: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """What T5's config.json has beyond plain fields."""
    form = settings.get("feed_forward_proj", "relu")
    if form not in ("relu", "gated-gelu"):
        raise BadInput(f"{path}: feed_forward_proj={form!r} is not supported, only 'relu' and 'gated-gelu'")
    if settings.get("decoder_start_token_id", values.get("pad", 0)) != values.get("pad", 0):
        raise BadInput(f"{path}: decoder_start_token_id must be pad_token_id, as in every published T5; mend it")
    return {
        "gated": form == "gated-gelu",
        # transformers 5 says "tied" of all, and by another name whether states are scaled as a tied table needs
        "tied": settings.get("scale_decoder_outputs", settings.get("tie_word_embeddings", True)),
        "attention_dropout": values.get("dropout", 0.1),
        "decoder_layers": values.get("decoder_layers") or values["layers"],
        "key_width": 0 if values["key_width"] * values["heads"] == values["width"] else values["key_width"],
    }


def _modernbert(settings: Mapping[str, Any], path: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """What ModernBert's config.json has beyond plain fields: biases, rotary bases, kinds of layers."""
    has = {part: settings.get(field, BIAS_ABSENT.get(part, False)) for part, field in BIAS_FIELDS.items()}
    found: dict[str, Any] = {"biases": any(has.values())}
    found["biasless"] = tuple(part for part in BIASES if found["biases"] and not has[part])
    ropes = settings.get("rope_parameters") or {}
    bases = {}
    for kind, old, usual in (
        ("full_attention", "global_rope_theta", 160_000.0),
        ("sliding_attention", "local_rope_theta", 10_000.0),
    ):
        rope = ropes.get(kind) or {}
        if rope.get("rope_type", "default") != "default":
            raise BadInput(
                f"{path}: rope_type={rope['rope_type']!r} is not supported, only 'default'; choose another model"
            )
        bases[kind] = float(rope.get("rope_theta", settings.get(old) or usual))
    found["theta"] = bases["full_attention"]
    every = settings.get("global_attn_every_n_layers", 3)
    kinds = settings.get("layer_types") or [
        "sliding_attention" if index % every else "full_attention" for index in range(values["layers"])
    ]
    if "sliding_attention" in kinds:
        window = settings.get("local_attention", 128) // 2
        longest = values["max_length"]
        if window + 1 < longest or bases["full_attention"] != bases["sliding_attention"]:
            raise BadInput(
                f"{path}: layer_types has sliding_attention ({window} tokens each way, rows to {longest}, rope_theta "
                f"{bases['sliding_attention']:g} beside {bases['full_attention']:g}), which is not supported; "
                "choose a model whose layers are all full_attention"
            )
    if settings.get("classifier_pooling", "cls") != "cls" and "SequenceClassification" in _architecture(settings):
        raise BadInput(f"{path}: classifier_pooling={settings['classifier_pooling']!r} is not supported, only 'cls'")
    return found


def _read(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the folder's safetensors, as float32."""
    if (folder / WEIGHTS).exists():
        paths = [folder / WEIGHTS]
    elif (folder / INDEX).exists():
        names = set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values())
        paths = [folder / name for name in sorted(names)]
    else:
        pickles = [name for name in PICKLES if (folder / name).exists()]
        if pickles:
            raise BadInput(
                f"{folder / pickles[0]}: pickled weights can run code and are not read; convert them once: "
                "AutoModelForPreTraining.from_pretrained(folder).save_pretrained(folder)"
            )
        raise BadInput(f"{folder / WEIGHTS}: missing; give a folder that holds {SETTINGS} and {WEIGHTS}")
    for path in paths:
        yield from _tensors(path)


def _tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of one file, as float32."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 (no mapping)
                yield name, file.get_tensor(name).float()
    except FileNotFoundError:
        raise BadInput(f"{path}: missing, though {INDEX} names it; fetch the model again") from None
    except safetensors.SafetensorError as error:
        raise BadInput(f"{path}: not a whole safetensors file ({error}); fetch or save the model again") from None


def _modern(name: str) -> str:
    """The norms of BERT's first files are called as in TensorFlow."""
    for old, now in ((".gamma", ".weight"), (".beta", ".bias")):
        if name.endswith(old):
            return name.removesuffix(old) + now
    return name


def _merge_copies(tensors: dict[str, Tensor], config: Config, folder: Path) -> None:
    """Take out second copies of tied tensors, and the buffers that old files carry."""
    tensors.pop(f"{PREFIX[config.family]}embeddings.position_ids", None)
    if config.family == "t5":  # an unused table of the first files
        tensors.pop("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight", None)
    tied = {"lm_head.weight": "shared.weight"} if config.family == "t5" and config.tied else {}
    for copy, original in (COPIES[config.family] | tied).items():
        if copy not in tensors:
            continue
        tensor = tensors.pop(copy)
        if not torch.equal(tensors.setdefault(original, tensor), tensor):
            raise BadInput(f"{folder}: {copy} differs from {original}; only models that tie them are supported")


def opened_by(folder: Path) -> str:
    """A sentence on who opens this folder."""
    settings = read_settings(folder)
    if own.is_own(settings):
        return "No class of transformers exists for this network; masklab opens it: `masklab.models.hub.load(folder)`."
    others = " and `sentence_transformers.SentenceTransformer(folder)`" if (folder / "modules.json").exists() else ""
    return f"`transformers.{_architecture(settings)}.from_pretrained(folder)`{others} can open it."


def _architecture(settings: Mapping[str, Any]) -> str:
    return (settings.get("architectures") or [""])[0]


def _labels(settings: Mapping[str, Any]) -> list[str] | None:
    names = settings.get("id2label")
    return None if not names else [names[key] for key in sorted(names, key=int)]


def _heads(
    config: Config, model: Model, settings: Mapping[str, Any], tensors: Mapping[str, Tensor], classes: int
) -> nn.ModuleDict:
    """The heads that the folder's class has, and others whose weights it carries along."""
    architecture = _architecture(settings)
    of_class = next((of for of, name in CLASSES[config.family].items() if of and name == architecture), frozenset())
    if architecture.endswith("Model"):
        of_class = frozenset()  # has a pooler or not: its weights tell
    heads = nn.ModuleDict()
    makers: dict[str, Callable[[], nn.Module]] = {
        "lm": lambda: LMHead(config, model.embeddings),
        "masked_lm": lambda: MaskedLMHead(config, model.embeddings),
        "pooler": lambda: Pooler(config),
        "next_sentence": lambda: NextSentenceHead(config),
        "replaced": lambda: ReplacedHead(config),
        "classify": lambda: ClassifyHead(config, classes or 2),
        "tag": lambda: TagHead(config, classes or 2),
    }
    task = of_class & {"classify", "tag"}
    for name, make in makers.items():
        dense = HEADS[config.family].get(f"{name}.dense") or HEADS[config.family].get(f"{name}.out")
        carried = dense is not None and f"{dense[0]}.weight" in tensors and name not in ("classify", "tag") and not task
        if name in of_class or carried:
            heads[name] = make()
    return heads
