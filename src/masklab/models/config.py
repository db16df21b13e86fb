"""The shape of a model: which family it belongs to and how large it is; nothing here needs torch.

Families: `bert` (Devlin et al. 2018), `mpnet` (the architecture of Song et al. 2020: BERT plus one relative bias that
all layers share, T5's buckets), `modernbert` (Warner et al. 2024: pre-norm, rotary positions, GeGLU; here every layer
sees the whole document), `electra` (Clark et al. 2020: BERT whose tables may be narrower or wider than its layers) and
`t5` (Raffel et al. 2020: an encoder and a decoder, pre-norm without means or biases, a relative bias in each).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from masklab.errors import BadInput

Family = Literal["bert", "mpnet", "modernbert", "electra", "t5"]
BIASES = ("attention", "mlp", "norm", "classifier", "decoder")  # what ModernBert's class can leave without biases


@dataclass(frozen=True)
class Config:
    """The numbers of one trunk. The defaults are BERT-base.

    vocabulary      entries of the tokenizer
    max_length      longest document: learned positions end there (rotary ones do not, but the file says so)
    segments        kinds of segment (sentence A, sentence B); only bert and electra have them
    pad             the token that fills; 1 in mpnet, where the class fixes it
    inner           width of the token, position and segment tables, which a matrix then takes to `width`; 0: the same
                    (only electra, whose small generator shares the tables of the larger discriminator)
    dropout         after embeddings and each sublayer, as the family's class places it
    attention_dropout  on the attention weights (modernbert: on the attention's output too, as its class does)
    decoder_layers  layers of the second stack, which reads what it has written so far and looks back at the first; t5
    key_width       width of a head's queries, keys and values; 0: width / heads, which all but t5 have
    gated           t5: v1.1's feed-forward (GeGLU) instead of v1.0's (ReLU)
    tied            t5: v1.0's output matrix, which is the token table, instead of v1.1's own
    theta           rotary base: larger turns slower, so sees further; only modernbert
    buckets         distances the shared bias tells apart; mpnet, where the class fixes 32, and t5
    biases          whether modernbert's linear layers and norms have biases; t5 never does, the others always
    biasless        parts of modernbert that have none even so, e.g. ("norm", "mlp")
    """

    family: Family = "bert"
    vocabulary: int = 30522
    layers: int = 12
    width: int = 768
    heads: int = 12
    feed_forward: int = 3072
    max_length: int = 512
    segments: int = 2
    pad: int = 0
    inner: int = 0
    decoder_layers: int = 0
    key_width: int = 0
    gated: bool = False
    tied: bool = True
    dropout: float = 0.1
    attention_dropout: float = 0.1
    norm_eps: float = 1e-12
    std: float = 0.02
    theta: float = 1000.0
    buckets: int = 32
    biases: bool = True
    biasless: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "biasless", tuple(self.biasless))  # JSON gives a list
        if self.family not in get_args(Family):
            raise BadInput(f"family={self.family!r} is unknown: choose one of {', '.join(get_args(Family))}")
        for name in ("vocabulary", "layers", "width", "heads", "feed_forward", "max_length", "segments"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name}={getattr(self, name)} must be at least 1")
        if not self.key_width and self.width % self.heads:
            near = max(1, self.width // self.heads) * self.heads
            raise BadInput(
                f"width={self.width} cannot be shared by heads={self.heads}: take a multiple, e.g. width={near}"
            )
        if not 0 <= self.pad < self.vocabulary:
            raise BadInput(f"pad={self.pad} is no token of a vocabulary of {self.vocabulary}")
        if self.inner < 0 or (self.inner and self.family != "electra"):
            raise BadInput(f"inner={self.inner}: only electra has tables of another width; set inner=0")
        for name in ("decoder_layers", "key_width"):
            if getattr(self, name) < 0 or (self.family != "t5" and getattr(self, name)):
                raise BadInput(f"{name}={getattr(self, name)}: only t5 has it, and at least 0; set {name}=0")
        if self.family != "t5" and (self.gated or not self.tied):
            raise BadInput("gated and tied are choices of t5 alone; set gated=False and tied=True")
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise BadInput(f"{name}={getattr(self, name)} must be at least 0 and below 1")
        if self.family == "mpnet" and self.pad != 1:
            raise BadInput(
                f"pad={self.pad}: MPNet's class fixes the padding token to 1; vocabularies trained here have it there"
            )
        if self.family == "mpnet" and self.buckets != 32:
            raise BadInput(f"buckets={self.buckets}: MPNet's class always computes 32; set buckets=32")
        if self.family == "modernbert" and self.width // self.heads % 2:
            raise BadInput(
                f"width={self.width} / heads={self.heads} is odd, but rotary positions turn pairs: make it even"
            )
        if self.family != "modernbert" and (self.biasless or not self.biases):
            raise BadInput(f"whether {self.family} has biases is fixed: set biases=True and biasless=()")
        for name in self.biasless:
            if name not in BIASES:
                raise BadInput(f"biasless={name!r} is unknown: choose from {', '.join(BIASES)}")

    @property
    def table_width(self) -> int:
        return self.inner or self.width

    @property
    def head_size(self) -> int:
        return self.key_width or self.width // self.heads

    @property
    def pre_norm(self) -> bool:
        return self.family in ("modernbert", "t5")

    @property
    def gates(self) -> bool:
        """Whether one half of the feed-forward opens and closes the other."""
        return self.gated or self.family == "modernbert"

    def bias(self, part: str) -> bool:
        """Whether a part (one of BIASES) has biases."""
        return self.biases and self.family != "t5" and part not in self.biasless

    def terms(self, heads: Iterable[str] = ()) -> dict[str, tuple[str, int]]:
        """Each part's parameters: name -> (how to count them, how many). Heads: those of pre-training, see heads.py."""
        if self.family == "t5":
            return self._t5_terms(heads)
        V, L, D, F, S = self.vocabulary, self.layers, self.width, self.feed_forward, self.segments
        attention, mlp, norm = (int(self.bias(part)) for part in ("attention", "mlp", "norm"))
        N = D * (1 + norm)  # one layer norm
        E = self.table_width
        norm_text = "2 D" if norm else "D"
        terms: dict[str, tuple[str, int]] = {"tokens": ("V E" if E != D else "V D", V * E)}
        if self.family in ("bert", "electra"):
            terms["positions"] = ("T E" if E != D else "T D", self.max_length * E)
            terms["segments"] = ("S E" if E != D else "S D", S * E)
        elif self.family == "mpnet":
            terms["positions"] = ("(T + 2) D", (self.max_length + 2) * D)
            terms["relative bias"] = ("32 H", self.buckets * self.heads)
        terms["embedding norm"] = (norm_text.replace("D", "E") if E != D else norm_text, N // D * E)
        if E != D:
            terms["embedding matrix"] = ("E D + D", E * D + D)
        weights = 4 * D * D + attention * 4 * D
        terms["attention"] = ("L (4 D² + 4 D)" if attention else "L 4 D²", L * weights)
        if self.pre_norm:
            terms["feed-forward (GeGLU)"] = (
                "L (3 D F + 2 F + D)" if mlp else "L 3 D F",
                L * (3 * D * F + mlp * (2 * F + D)),
            )
            # layer 0 has no attention norm, and one norm follows the last layer
            terms["norms"] = (f"2 L ({norm_text})", 2 * L * N)
        else:
            terms["feed-forward"] = ("L (2 D F + F + D)", L * (2 * D * F + F + D))
            terms["norms"] = (f"2 L ({norm_text})", 2 * L * N)
        dense = D * D + (D if self.bias("classifier") else 0)
        optional = {
            "pooler": ("D² + D", D * D + D),
            "next_sentence": ("2 D + 2", 2 * D + 2),
            "masked_lm": (
                f"D² + {'D + ' if self.bias('classifier') else ''}{norm_text}{' + V' if self.bias('decoder') else ''}",
                dense + N + (V if self.bias("decoder") else 0),
            ),
        }
        optional["replaced"] = ("D² + 2 D + 1", D * D + 2 * D + 1)
        optional["boundary"] = ("64 D + 4 D² + 6 D + V", 64 * D + 4 * D * D + 6 * D + V)
        for head in heads:
            terms[head] = optional[head]
        return terms

    def _t5_terms(self, heads: Iterable[str]) -> dict[str, tuple[str, int]]:
        """The same for two stacks without biases; the second one's layers have a third part, the look back."""
        V, L, M, D, F = self.vocabulary, self.layers, self.decoder_layers, self.width, self.feed_forward
        A = self.heads * self.head_size
        mlp = 3 if self.gates else 2
        terms = {
            "tokens": ("V D", V * D),
            "relative biases": ("2 x 32 H", (2 if M else 1) * self.buckets * self.heads),
            "attention": ("(L + 2 M) 4 D A", (L + 2 * M) * 4 * D * A),
            "feed-forward": (f"(L + M) {mlp} D F", (L + M) * mlp * D * F),
            "norms": ("(2 L + 3 M + 2) D", (2 * L + 3 * M + (2 if M else 1)) * D),
        }
        for head in heads:
            terms[head] = ("0 (tied)", 0) if self.tied else ("V D", V * D)
        return terms

    def parameters(self, heads: Iterable[str] = ()) -> int:
        """How many numbers the trunk (and the heads asked for) learn. BERT-base with its pooler -> 109482240."""
        return sum(count for _, count in self.terms(heads).values())

    def formula(self, heads: Iterable[str] = ()) -> str:
        """The same count as a person reads it, one part a line."""
        lines = [f"{name:22} {text:24} {count:>14,}" for name, (text, count) in self.terms(heads).items()]
        letters = (
            f"V={self.vocabulary} D={self.width} L={self.layers} H={self.heads} F={self.feed_forward} "
            f"T={self.max_length} S={self.segments}" + (f" E={E}" if (E := self.table_width) != self.width else "")
        )
        return "\n".join([*lines, f"{'together':22} {'':24} {self.parameters(heads):>14,}", letters])
