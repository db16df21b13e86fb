"""Parity with transformers and sentence-transformers, in both directions, through folders on disk."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import safetensors.torch
import torch
import transformers
from torch import nn

from masklab.errors import BadInput
from masklab.models import hub
from masklab.models.heads import ClassifyHead, MaskedLMHead, NextSentenceHead, Pooler, ReplacedHead, TagHead
from masklab.models.pattern import Inputs, Layout, visible
from masklab.models.transformer import Model

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
near = partial(torch.testing.assert_close, atol=2e-5, rtol=0.0)

SETS = {
    "bert": [{"pooler"}, {"masked_lm"}, {"masked_lm", "pooler", "next_sentence"}, {"pooler", "next_sentence"}],
    "mpnet": [{"pooler"}, {"masked_lm"}],
    "modernbert": [set(), {"masked_lm"}],
    "electra": [set(), {"masked_lm"}, {"replaced"}],
}
CASES = [(family, heads) for family, sets in SETS.items() for heads in (*sets, {"classify"}, {"tag"})]
NAMES = [f"{family}-{'+'.join(sorted(heads)) or 'trunk'}" for family, heads in CASES]
SPECIAL = {"cls": 2, "sep": 3, "mask": 4}


def build(config, names) -> tuple[Model, nn.ModuleDict]:
    """Weights large enough for every part to matter."""
    model = Model(config)
    makers = {
        "masked_lm": lambda: MaskedLMHead(config, model.embeddings),
        "pooler": lambda: Pooler(config),
        "next_sentence": lambda: NextSentenceHead(config),
        "replaced": lambda: ReplacedHead(config),
        "classify": lambda: ClassifyHead(config, 3),
        "tag": lambda: TagHead(config, 5),
    }
    heads = nn.ModuleDict({name: makers[name]() for name in sorted(names)})
    with torch.no_grad():
        for p in [*model.parameters(), *heads.parameters()]:
            p.add_(0.2 * torch.randn_like(p))
    return model.eval(), heads.eval()


def open_there(folder, name, **options):
    """transformers' own reading, which must be complete."""
    theirs, info = getattr(transformers, name).from_pretrained(folder, output_loading_info=True, **options)
    assert not any(info.values()), info
    return theirs.eval()


def arguments(inputs: Inputs, family: str, *, mask: str) -> dict[str, torch.Tensor]:
    """Our inputs as transformers takes them, with a 2-D padding mask or the whole pattern."""
    real = inputs.document >= 0
    given = {"input_ids": inputs.tokens.long(), "position_ids": inputs.position.long()}
    if mask == "padding":
        given["attention_mask"] = real.long()
    elif mask == "pattern":
        given["attention_mask"] = torch.zeros(visible(inputs, inputs).shape).masked_fill(
            ~visible(inputs, inputs), torch.finfo(torch.float32).min
        )
    if family in ("bert", "electra"):
        given["token_type_ids"] = inputs.segment.long()
    if family == "mpnet":
        given["position_ids"] = given["position_ids"] + 2
    return given


def outputs(model: Model, heads: nn.ModuleDict, inputs: Inputs, layout: Layout) -> dict[str, torch.Tensor]:
    """Everything our side can compute, under transformers' names."""
    states = model(inputs, layout=layout).last
    found = {"last_hidden_state": states}
    if "pooler" in heads:
        found["pooler_output"] = heads["pooler"](states[:, 0])
    if "next_sentence" in heads:
        found["seq_relationship_logits"] = found["logits"] = heads["next_sentence"](found["pooler_output"])
    if "masked_lm" in heads:
        found["prediction_logits"] = found["logits"] = heads["masked_lm"](states)
    if "classify" in heads:
        found["logits"] = heads["classify"](states[:, 0])
    if "replaced" in heads:
        found["logits"] = heads["replaced"](states)
    if "tag" in heads:
        found["logits"] = heads["tag"](states)
    return found


def agree(model, heads, theirs, family, make_rows, pad) -> None:
    """Whole, padded and packed rows; padding's own states are nobody's business."""
    for documents, mask in (([[9], [9]], "none"), ([[9], [6]], "padding"), ([[4, 5], [3, 2]], "pattern")):
        inputs = make_rows(documents, 9, pad=pad)
        real = inputs.document >= 0
        ours = outputs(model, heads, inputs, Layout("bidirectional", full=mask == "none"))
        with torch.no_grad():
            got = theirs(**arguments(inputs, family, mask=mask))
        assert set(got.keys()) <= set(ours)
        for name, expected in got.items():
            here, there = ours[name], expected
            if here.shape[:2] == real.shape:  # a vector or a number for each slot
                here, there = here[real], there[real]
            near(here, there)


@pytest.mark.parametrize(("family", "names"), CASES, ids=NAMES)
def test_ours_opens_there(family, names, tmp_path, make_config, make_rows):
    config = make_config(family, **({"inner": 24} if family == "electra" else {}))
    model, heads = build(config, names)
    name = hub.save(tmp_path, config, model, heads, special=SPECIAL)
    theirs = open_there(tmp_path, name)
    agree(model, heads, theirs, family, make_rows, config.pad)
    if "masked_lm" in names:
        assert theirs.get_output_embeddings().weight is theirs.get_input_embeddings().weight


@pytest.mark.parametrize(("family", "names"), CASES, ids=NAMES)
def test_theirs_opens_here(family, names, tmp_path, make_config, make_rows):
    config = make_config(family)
    model, heads = build(config, names)
    name = hub.save(tmp_path / "ours", config, model, heads)
    settings = transformers.AutoConfig.from_pretrained(tmp_path / "ours")
    settings.architectures = None
    torch.manual_seed(1)
    theirs = getattr(transformers, name)(settings).eval()  # random weights of their own
    with torch.no_grad():
        for p in theirs.parameters():
            p.add_(0.2 * torch.randn_like(p))
    theirs.save_pretrained(tmp_path / "theirs")

    loaded = hub.load(tmp_path / "theirs")
    assert (loaded.new, loaded.unused, set(loaded.heads)) == ([], [], names)
    agree(loaded.model.eval(), loaded.heads.eval(), theirs, family, make_rows, config.pad)

    assert hub.save(tmp_path / "again", loaded.config, loaded.model, loaded.heads, labels=loaded.labels) == name
    before = safetensors.torch.load_file(tmp_path / "theirs" / "model.safetensors")
    after = safetensors.torch.load_file(tmp_path / "again" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("changes", [{"biases": False}, {"biasless": ("norm", "classifier")}])
def test_modernbert_without_biases(changes, tmp_path, make_config, make_rows):
    config = make_config("modernbert", dropout=0.0, attention_dropout=0.0, theta=160_000.0, **changes)
    model, heads = build(config, {"masked_lm"})
    agree(model, heads, open_there(tmp_path, hub.save(tmp_path, config, model, heads)), "modernbert", make_rows, 0)
    assert hub.load(tmp_path).config == config


def test_dropout_has_its_usual_value_whatever_training_used(config, tmp_path):
    bare = replace(config, dropout=0.0, attention_dropout=0.0)
    hub.save(tmp_path, bare, *build(bare, {"masked_lm"}))
    usual = 0.0 if config.family == "modernbert" else 0.1
    assert hub.load(tmp_path).config == replace(config, dropout=usual, attention_dropout=usual)
    assert hub.load(tmp_path, dropout=0.3).config == replace(config, dropout=0.3, attention_dropout=0.3)
    settings = json.loads((tmp_path / "config.json").read_text())
    assert (settings["model_type"], settings["vocab_size"], settings["pad_token_id"]) == (config.family, 90, config.pad)


@pytest.mark.parametrize("head", ["classify", "tag"])
def test_dropout_sits_where_the_class_has_it(config, head, tmp_path, make_rows):
    """The same random stream drops the same numbers, so training with dropout compares with transformers'."""
    config = replace(config, dropout=0.1, attention_dropout=0.3)
    model, heads = build(config, {head})
    name = hub.save(tmp_path, config, model, heads)
    settings = json.loads((tmp_path / "config.json").read_text())
    settings |= {name: 0.3 if "attention" in name else 0.1 for name in hub.USUAL[config.family]}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    theirs = open_there(tmp_path, name, attn_implementation="eager").train()
    inputs = make_rows([[9], [9]], 9, pad=config.pad)
    model, heads = Model(config, "plain").train(), heads.train()
    model.load_state_dict(hub.load(tmp_path).model.state_dict())
    torch.manual_seed(5)
    ours = outputs(model, heads, inputs, Layout("bidirectional", True))["logits"]
    torch.manual_seed(5)
    there = theirs(**arguments(inputs, config.family, mask="none")).logits
    near(ours, there)


def test_labels_and_special_tokens(config, tmp_path):
    model, heads = build(config, {"classify"})
    hub.save(tmp_path, config, model, heads, labels=["no", "yes", "naïve"], special=SPECIAL)
    assert hub.load(tmp_path).labels == ["no", "yes", "naïve"]
    theirs = transformers.AutoConfig.from_pretrained(tmp_path)
    assert theirs.id2label == {0: "no", 1: "yes", 2: "naïve"}
    assert (theirs.cls_token_id, theirs.mask_token_id, theirs.pad_token_id) == (2, 4, config.pad)
    assert not (tmp_path / "modules.json").exists()
    with pytest.raises(BadInput, match="2 labels for a head of 3"):
        hub.save(tmp_path, config, model, heads, labels=["no", "yes"])


def test_fine_tuning_starts_from_what_is_there(tmp_path, make_config):
    config = make_config("bert")
    model, heads = build(config, {"classify"})
    hub.save(tmp_path, config, model, heads)
    trunk = hub.load_trunk(tmp_path)
    assert len(trunk.heads) == 0
    assert {name.split(".")[0] for name in trunk.unused} == {"classify"}
    assert torch.equal(trunk.model.embeddings.tokens.weight, model.embeddings.tokens.weight)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["bert", "mpnet", "modernbert"])
def test_sentence_transformers(family, tmp_path, make_config):
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    words = [
        "[CLS]",
        "[PAD]",
        "[SEP]",
        "[UNK]",
        "[MASK]",
        *["a", "small", "model", "reads", "two", "short", "lines", "of", "text"],
    ]
    tokenizer = Tokenizer(WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()  # type: ignore[assignment]
    tokenizer.post_processor = TemplateProcessing(  # type: ignore[assignment]
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 2)]
    )
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("cls", "pad", "sep", "unk", "mask")}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    fast.save_pretrained(tmp_path)
    config = make_config(family, pad=1)
    model, heads = build(config, {"masked_lm"})
    hub.save(tmp_path, config, model, heads, special={"pad": 1, "cls": 0, "sep": 2, "mask": 4})

    texts = ["a small model reads text", "two lines"]
    encoder = SentenceTransformer(str(tmp_path), device="cpu")
    assert encoder.max_seq_length == config.max_length
    for text, vector in zip(texts, encoder.encode(texts, convert_to_tensor=True), strict=True):
        ids = torch.tensor([tokenizer.encode(text).ids])
        zero = torch.zeros_like(ids)
        inputs = Inputs(ids, torch.arange(ids.shape[1])[None], zero, zero, zero, zero)
        states = model(inputs, layout=Layout("bidirectional", True)).last
        near(states[0].mean(0), vector)


# Reading what is not as it should be


@pytest.fixture
def saved(tmp_path, make_config) -> Path:
    config = make_config("bert")
    hub.save(tmp_path, config, *build(config, {"masked_lm"}))
    return tmp_path


def change(folder: Path, **fields) -> None:
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | fields))


def retensor(folder: Path, edit) -> None:
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    edit(tensors)
    safetensors.torch.save_file(tensors, folder / "model.safetensors")


def refused(folder, *words: str) -> None:
    with pytest.raises(BadInput) as caught:
        hub.load(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_missing_and_broken_files(saved):
    (saved / "config.json").rename(saved / "aside")
    refused(saved, "config.json", "missing")
    (saved / "config.json").write_text("{")
    refused(saved, "config.json", "not JSON")
    (saved / "config.json").write_text("[]")
    refused(saved, "config.json", "not a JSON object")
    (saved / "aside").replace(saved / "config.json")
    whole = (saved / "model.safetensors").read_bytes()
    for cut in (0, 5, 100, len(whole) // 2):
        (saved / "model.safetensors").write_bytes(whole[:cut])
        refused(saved, "model.safetensors", "not a whole safetensors file")
    (saved / "model.safetensors").unlink()
    refused(saved, "model.safetensors", "missing")
    (saved / "pytorch_model.bin").write_bytes(b"pickle")
    refused(saved, "pytorch_model.bin", "run code", "save_pretrained")
    refused(saved / "nowhere", "no such folder")


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"model_type": "gpt2"}, "gpt2"),
        ({"hidden_act": "relu"}, "hidden_act='relu'"),
        ({"is_decoder": True}, "is_decoder"),
        ({"position_embedding_type": "relative_key"}, "relative_key"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings"),
        ({"num_attention_heads": 5}, "heads=5"),
        ({"hidden_size": 64}, "two models"),
        ({"num_hidden_layers": 3}, "encoder.layer.2.attention.self.query.weight"),
        ({"num_hidden_layers": "two"}, "config.json"),
    ],
)
def test_settings_that_are_another_model(saved, fields, word):
    change(saved, **fields)
    refused(saved, word)


def test_sliding_attention(tmp_path, make_config, make_rows):
    """Windows that reach over the whole row are no windows; shorter ones are refused."""
    config = make_config("modernbert", dropout=0.0, attention_dropout=0.0)
    model, heads = build(config, {"masked_lm"})
    name = hub.save(tmp_path, config, model, heads)
    change(tmp_path, layer_types=["full_attention", "sliding_attention"], local_attention=80)
    agree(hub.load(tmp_path).model.eval(), heads, open_there(tmp_path, name), "modernbert", make_rows, 0)
    change(tmp_path, local_attention=16)
    refused(tmp_path, "sliding_attention", "full_attention")
    turn = {"rope_type": "default", "rope_theta": 1e4}
    change(tmp_path, local_attention=80, rope_parameters={"full_attention": turn | {"rope_theta": 1e5}})
    refused(tmp_path, "rope_theta 10000 beside 100000")
    change(tmp_path, rope_parameters={"full_attention": turn | {"rope_type": "yarn"}})
    refused(tmp_path, "yarn")


def test_new_and_unused_are_told(saved):
    def edit(tensors):
        del tensors["cls.predictions.transform.dense.bias"]
        tensors["cls.seq_relationship.extra"] = torch.zeros(2)

    retensor(saved, edit)
    loaded = hub.load(saved)
    assert loaded.new == ["masked_lm.dense.bias"]
    assert loaded.unused == ["cls.seq_relationship.extra"]


def test_old_files(saved):
    """TensorFlow's names of norms, copies of tied tables, a position buffer, shards, heads the class does not name."""
    expected = hub.load(saved)

    def edit(tensors):
        for name in [name for name in tensors if "LayerNorm" in name]:
            old = name.replace(".weight", ".gamma").replace(".bias", ".beta")
            tensors[old] = tensors.pop(name)
        tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].clone()
        tensors["bert.embeddings.position_ids"] = torch.arange(40)[None]
        tensors["bert.pooler.dense.weight"], tensors["bert.pooler.dense.bias"] = torch.eye(32), torch.ones(32)

    retensor(saved, edit)
    tensors = safetensors.torch.load_file(saved / "model.safetensors")
    names, shards = sorted(tensors), ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    for number, shard in enumerate(shards):
        safetensors.torch.save_file({name: tensors[name] for name in names[number::2]}, saved / shard)
    (saved / "model.safetensors").unlink()
    weight_map = {name: shards[index % 2] for index, name in enumerate(names)}
    (saved / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    loaded = hub.load(saved)
    assert (loaded.new, loaded.unused, set(loaded.heads)) == ([], [], {"masked_lm", "pooler"})
    assert torch.equal(loaded.heads["pooler"].get_parameter("dense.weight"), torch.eye(32))
    for name, tensor in expected.model.state_dict().items():
        assert torch.equal(tensor, loaded.model.state_dict()[name])
    (saved / shards[1]).unlink()
    refused(saved, shards[1], "missing")


def test_untied_tables_are_refused(saved):
    retensor(saved, lambda tensors: tensors.update({"cls.predictions.decoder.weight": torch.zeros(90, 32)}))
    refused(saved, "cls.predictions.decoder.weight", "tie")


def test_heads_without_a_class(tmp_path, make_config):
    config = make_config("mpnet")
    model, _ = build(config, set())
    with pytest.raises(BadInput, match="MPNetForMaskedLM"):
        hub.save(tmp_path, config, model, {"next_sentence": NextSentenceHead(config), "pooler": Pooler(config)})


def test_names_of_the_hub_need_the_network_only_if_no_folder(tmp_path, monkeypatch):
    import huggingface_hub

    asked = []

    def nowhere(name, **_):
        asked.append(name)
        raise OSError("no network\nand a long story")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", nowhere)
    monkeypatch.chdir(tmp_path)
    refused("someone/some-model", "someone/some-model", "no network")
    refused("./someone", "no such folder")
    refused("a/b/c", "no such folder")
    assert asked == ["someone/some-model"]
    shutil.rmtree(tmp_path, ignore_errors=True)
