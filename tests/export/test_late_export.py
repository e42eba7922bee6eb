"""ColBERT checkpoints of random weights, as PyLate and as Stanford's library write them: exported, and compared token
by token with the architecture written out here in torch."""

from __future__ import annotations

import json
import shutil
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file

import sanderling
from sanderling.errors import CheckpointError, ExportError
from sanderling.schema.vectors import TokenOutput
from sanderling.verification import verify
from sanderling_export.pipeline import export

QUERY = "which small bird runs along the sea?"
TEXTS = [
    "low tide",
    "",
    "the small bird, runs! along the edge of the sea and " * 30,
    "ünïcode 三趾鹬 🐦 ...",
    "a. b; c",
]
LENGTHS = {"query": 20, "document": 50}
SIZE = 24


def pylate(base: Path, folder: Path) -> Path:
    """A folder as PyLate saves it: two Dense layers, markers of its own, queries filled up but not attended."""
    shutil.copytree(base, folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["[Q] ", "[D] "])
    tokenizer.save_pretrained(folder)
    modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    for number, (inside, outside) in enumerate(((32, 40), (40, SIZE)), 1):
        place = folder / f"{number}_Dense"
        place.mkdir()
        save_file({"linear.weight": torch.randn(outside, inside)}, place / "model.safetensors")
        config = {
            "in_features": inside,
            "out_features": outside,
            "bias": False,
            "activation_function": "torch.nn.modules.linear.Identity",
        }
        (place / "config.json").write_text(json.dumps(config), "utf-8")
        modules.append({"idx": number, "name": str(number), "path": place.name, "type": "pylate.models.Dense.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules), "utf-8")
    stated = {
        "query_prefix": "[Q] ",
        "document_prefix": "[D] ",
        "query_length": LENGTHS["query"],
        "document_length": LENGTHS["document"],
        "attend_to_expansion_tokens": False,
        "skiplist_words": list(string.punctuation),
    }
    (folder / "config_sentence_transformers.json").write_text(json.dumps(stated), "utf-8")
    return folder


def stanford(base: Path, folder: Path) -> Path:
    """A folder as Stanford's library saves it: the layer among the model's weights, a class of its own, all seen."""
    shutil.copytree(base, folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["[unused0]", "[unused1]"])
    tokenizer.save_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder)
    tensors = {f"bert.{name}": value.contiguous() for name, value in model.state_dict().items()}
    tensors["linear.weight"] = torch.randn(SIZE, 32)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["HF_ColBERT"]}), "utf-8")
    metadata = {
        "query_token_id": "[unused0]",
        "doc_token_id": "[unused1]",
        "query_maxlen": LENGTHS["query"],
        "doc_maxlen": LENGTHS["document"],
        "attend_to_mask_tokens": True,
        "mask_punctuation": True,
    }
    (folder / "artifact.metadata").write_text(json.dumps(metadata), "utf-8")
    return folder


class Reference:
    """ColBERT in plain torch: BERT, the linear layers, and vectors of length 1 (Khattab and Zaharia, 2020)."""

    def __init__(self, folder: Path, *, attended: bool, markers: tuple[str, str]) -> None:
        from safetensors.torch import load_file

        self.bert = transformers.AutoModel.from_pretrained(folder).eval()
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        places = [folder / "1_Dense", folder / "2_Dense"] if (folder / "1_Dense").is_dir() else [folder]
        self.layers = [load_file(place / "model.safetensors")["linear.weight"] for place in places]
        self.markers = dict(
            zip(("query", "document"), self.tokenizer.convert_tokens_to_ids(list(markers)), strict=True)
        )
        self.attended = attended

    def __call__(self, text: str, side: str) -> Any:
        body = self.tokenizer(text, add_special_tokens=False)["input_ids"][: LENGTHS[side] - 3]
        ids = [self.tokenizer.cls_token_id, self.markers[side], *body, self.tokenizer.sep_token_id]
        mask = [1] * len(ids)
        if side == "query":
            missing = LENGTHS[side] - len(ids)
            ids += [self.tokenizer.mask_token_id] * missing
            mask += [int(self.attended)] * missing
        with torch.no_grad():
            rows = self.bert(torch.tensor([ids]), attention_mask=torch.tensor([mask])).last_hidden_state[0]
            for weight in self.layers:
                rows = rows @ weight.T
            rows = rows / rows.norm(dim=1, keepdim=True)
        dropped = set(self.tokenizer.convert_tokens_to_ids(list(string.punctuation))) if side == "document" else set()
        return rows[[place for place, one in enumerate(ids) if one not in dropped]].numpy()


@pytest.fixture(scope="module", params=["pylate", "stanford"])
def made(
    request: pytest.FixtureRequest,
    checkpoint: Callable[[str], Path],
    lines: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """The reference, and the bundle exported from the same folder, loaded."""
    folder = tmp_path_factory.mktemp("late")
    torch.manual_seed(11)
    if request.param == "pylate":
        source = pylate(checkpoint("bert"), folder / "checkpoint")
        reference = Reference(source, attended=False, markers=("[Q] ", "[D] "))
    else:
        source = stanford(checkpoint("bert"), folder / "checkpoint")
        reference = Reference(source, attended=True, markers=("[unused0]", "[unused1]"))
    variants: Any = ["fp32", "int8-dynamic"] if request.param == "pylate" else ["fp32"]
    bundle = export(source, folder / "bundle", data=lines, variants=variants)
    with sanderling.load(bundle, variant="fp32") as loaded:
        yield reference, loaded, bundle


def test_every_token_is_that_of_the_architecture(made: Any) -> None:
    reference, model, bundle = made
    assert verify(bundle).held
    assert isinstance(model, sanderling.LateInteractionModel)
    head = model.bundle.manifest.postprocessing
    assert isinstance(head, TokenOutput)
    assert (model.dimension, head.query.max_tokens, head.document.max_tokens) == (SIZE, 20, 50)
    for side in ("query", "document"):
        wanted = [reference(text, side) for text in [QUERY, *TEXTS]]
        for answers in (model([QUERY, *TEXTS], prompt=side), [model(t, prompt=side) for t in [QUERY, *TEXTS]]):
            for found, expected in zip(answers, wanted, strict=True):
                assert found.embeddings.shape == expected.shape
                assert (found.embeddings * expected).sum(axis=1).min() >= 0.99999
    # Other texts have other vectors, and what was cut is told.
    assert float((wanted[0][0] * wanted[1][0]).sum()) < 0.99999
    assert model(TEXTS, prompt="document").tokens_lost[2] > 0
    assert "." not in model(TEXTS[3], prompt="document").tokens


def test_scores_are_those_of_the_architecture(made: Any) -> None:
    reference, model, _ = made
    asked = reference(QUERY, "query")
    wanted = [float((asked @ reference(text, "document").T).max(axis=1).sum()) for text in TEXTS]
    np.testing.assert_allclose(model.scores(QUERY, TEXTS), wanted, rtol=1e-4)
    assert model.rank(QUERY, TEXTS).indices == tuple(np.argsort(-np.array(wanted), kind="stable"))


def test_variants_state_their_drift(made: Any) -> None:
    _, model, _ = made
    (component,) = model.bundle.manifest.components.values()
    for name, variant in component.variants.items():
        assert set(variant.forms) == {"padded"}
        assert variant.drift is not None
        assert variant.drift.cosine.mean >= (0.9999 if name == "fp32" else 0.95)
        assert variant.invariance is not None
        assert variant.invariance.batch >= (0.9999 if name == "fp32" else 0.9)


def test_what_is_no_late_interaction_is_refused(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no linear layer over tokens"):
        export(checkpoint("bert"), tmp_path / "bundle", pooling="colbert", task="feature-extraction")
    source = pylate(checkpoint("bert"), tmp_path / "checkpoint")
    with pytest.raises(ExportError, match="Documents are to have 500 tokens, but the model takes 130"):
        export(source, tmp_path / "bundle", max_tokens=500)
    with pytest.raises(ExportError, match="are not searched"):
        export(source, tmp_path / "bundle", variants="auto")
    config = json.loads((source / "1_Dense" / "config.json").read_text("utf-8"))
    (source / "1_Dense" / "config.json").write_text(json.dumps({**config, "use_residual": True}), "utf-8")
    with pytest.raises(CheckpointError, match="is a layer with a residual"):
        export(source, tmp_path / "bundle")
    shutil.copy(checkpoint("bert") / "tokenizer.json", source / "tokenizer.json")
    for file in ("added_tokens.json", "tokenizer_config.json"):
        (source / file).unlink(missing_ok=True)
    shutil.copy(checkpoint("bert") / "tokenizer_config.json", source / "tokenizer_config.json")
    (source / "1_Dense" / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(CheckpointError, match="which its tokenizer does not have"):
        export(source, tmp_path / "bundle")
