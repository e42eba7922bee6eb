"""What a graph answers, in the manifest: vectors of one kind or another."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from sanderling.schema.basics import BundlePath, Count


class DenseLayer(Struct, frozen=True):
    """A layer behind the pooling: `activation(x @ weight.T + bias)`, in float32.

    `weight` and `bias` name tensors (outputs, inputs) and (outputs) of the file that EmbeddingOutput's `weights` names.
    """

    weight: str
    bias: str | None = None
    activation: Literal["none", "tanh", "relu", "sigmoid"] = "none"


class EmbeddingOutput(Struct, frozen=True, tag_field="type", tag="embedding"):
    """`output` to one vector of `dimension` float32 an input.

    `pooling` works over the tokens that are not padding, and not the prompt's where `include_prompt` is false; `none`
    takes an output that is already pooled. Then come the layers of `dense`, whose tensors are in the safetensors file
    `weights`. `normalize` divides by the Euclidean norm (clamped below at 1e-12, as torch's `normalize`). `same_from`
    is the cosine from which on two sounds are taken for one speaker's; null where nobody said.
    """

    output: str
    pooling: Literal["mean", "cls", "last", "max", "mean_sqrt_len", "weighted_mean", "none"]
    normalize: bool
    dimension: Annotated[int, Meta(ge=1, le=1_000_000)]
    include_prompt: bool = True
    dense: Annotated[tuple[DenseLayer, ...], Meta(max_length=16)] = ()
    weights: BundlePath | None = None
    same_from: Annotated[float, Meta(ge=-1.0, le=1.0)] | None = None


class TokenSide(Struct, frozen=True):
    """How texts of one side, queries or documents, become the tokens of a late-interaction model.

    `max_tokens` are all of a text's, with the special ones and the `marker`, an id that stands behind the first one.
    Where there is an `expansion`, that id fills a text up to as many; the other tokens see it only where it is
    `attended`. Every token has a vector, but not those whose ids are in `skipped`.
    """

    max_tokens: Annotated[int, Meta(ge=4, le=1_000_000)]
    marker: Count | None = None
    expansion: Count | None = None
    attended: bool = False
    skipped: Annotated[tuple[Count, ...], Meta(max_length=10_000)] = ()


class TokenOutput(Struct, frozen=True, tag_field="type", tag="tokens"):
    """`output` (batch, tokens, hidden) to a vector of `dimension` float32 a token, for late interaction (ColBERT).

    It goes through the layers of `dense`, whose tensors are in the safetensors file `weights`, and is normalized or
    not. The prompts "query" and "document" choose the side that says which tokens a text has.
    """

    output: str
    normalize: bool
    dimension: Annotated[int, Meta(ge=1, le=1_000_000)]
    query: TokenSide
    document: TokenSide
    dense: Annotated[tuple[DenseLayer, ...], Meta(max_length=16)] = ()
    weights: BundlePath | None = None


class SparseOutput(Struct, frozen=True, tag_field="type", tag="sparse"):
    """`output`, logits over the vocabulary (batch, tokens, dimension), to one weight a token of the vocabulary.

    The weight of each position is log(1 + max(0, x)), with the activation "log1p_log1p_relu" log(1 + that); the
    `pooling` "max" or "sum" is over the positions that are not padding.
    """

    output: str
    pooling: Literal["max", "sum"]
    activation: Literal["log1p_relu", "log1p_log1p_relu"]
    dimension: Annotated[int, Meta(ge=1, le=1_000_000)]
