"""SentencePiece models of single characters, as SpeechT5 has them, as data of a bundle."""

from __future__ import annotations

from pathlib import Path

from sanderling.errors import CheckpointError, MissingExtraError
from sanderling.reasons import first_line
from sanderling.schema.sounds import PhonemesPreprocessing
from sanderling_export.checkpoint import read_json

NAME = "spm_char.model"
# How SentencePiece writes a blank, and the normalizations of which NFKC is the whole, but for signs that nobody types.
_BLANK, _NORMALIZED = "▁", ("nmt_nfkc", "nfkc", "identity")
_CHARACTERS, _ORDINARY = 4, 1


def read(folder: Path, vocabulary: int, most: int) -> PhonemesPreprocessing:
    """What transformers' SpeechT5Tokenizer does, as data, with sentences of `most` characters at most.

    Raises CheckpointError for a model of other pieces than characters, or one whose numbers are written out by
    transformers (normalize).
    """
    path = folder / NAME
    if not path.is_file():
        raise CheckpointError(f"{folder} has no {NAME}, which says the ids of a voice's characters.")
    said = read_json(folder / "tokenizer_config.json")
    if said.get("normalize", False):
        raise CheckpointError(
            f"{folder / 'tokenizer_config.json'}: numbers are written out by transformers first (normalize), which the "
            "runtime does not have. Voices that read texts as they are, are exported."
        )
    try:
        from transformers.convert_slow_tokenizer import import_protobuf

        proto = import_protobuf().ModelProto()
    except ImportError as error:
        raise MissingExtraError("Reading a SentencePiece model", "export", "protobuf") from error
    try:
        proto.ParseFromString(path.read_bytes())
    except Exception as error:
        raise CheckpointError(f"{path} is no SentencePiece model: {first_line(error)}.") from error
    normalizer = proto.normalizer_spec
    if proto.trainer_spec.model_type != _CHARACTERS or normalizer.name not in _NORMALIZED:
        raise CheckpointError(
            f"{path} is a SentencePiece model of other pieces than characters, or of the normalization "
            f"{normalizer.name!r}; characters and {' or '.join(_NORMALIZED)} were expected."
        )
    numbers = {piece.piece: number for number, piece in enumerate(proto.pieces) if piece.type == _ORDINARY}
    ends = [number for number, piece in enumerate(proto.pieces) if piece.piece == "</s>"]
    if len(proto.pieces) > vocabulary or not ends or any(len(piece) != 1 for piece in numbers):
        raise CheckpointError(
            f"{path} has {len(proto.pieces)} pieces; single characters and </s>, {vocabulary} at most, were expected."
        )
    blank = numbers.pop(_BLANK, None)
    ids: dict[str, tuple[int, ...]] = {sign: (number,) for sign, number in numbers.items()}
    begin: tuple[int, ...] = ()
    if blank is not None:
        ids |= dict.fromkeys(" \t\n\r", (blank,))
        begin = (blank,) if normalizer.add_dummy_prefix else ()
    return PhonemesPreprocessing(
        alphabet="characters",
        ids=ids,
        begin=begin,
        end=(ends[0],),
        normalization="none" if normalizer.name == "identity" else "nfkc",
        blanks="single" if normalizer.remove_extra_whitespaces else "kept",
        max_symbols=max(8, min(most, 10_000)),
    )
