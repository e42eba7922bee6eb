"""The bytes of a `bundle.json` to a manifest that holds together, and back."""

from __future__ import annotations

import msgspec

from sanderling import task_rules
from sanderling.errors import ManifestError
from sanderling.manifest import FORMAT, MAJOR_VERSION, MANIFEST_NAME, MAX_MANIFEST_BYTES, Header, Manifest
from sanderling.schema.answers import ContrastiveOutput, ForecastOutput
from sanderling.schema.preprocessing import Normalize, Rescale, Resize, ResizeFit, ResizeShortest
from sanderling.schema.vectors import EmbeddingOutput, TokenOutput
from sanderling.surroundings import modality

# Names that mean a device on Windows, whatever follows their first dot.
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}


def decode(raw: bytes, where: str) -> Manifest:
    """Decode and check the bytes of a `bundle.json`; `where` names it in errors.

    Raises ManifestError: not JSON, of another format, of a future major version, of wrong types, contradictory.
    """
    if len(raw) > MAX_MANIFEST_BYTES:
        raise ManifestError(
            f"{where} has {len(raw):,} bytes; a manifest has at most {MAX_MANIFEST_BYTES:,}. Export the bundle again."
        )
    try:
        _check_version(read_header(raw, where), where)
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _invalid(where, error) from error
    _check_consistency(manifest, where)
    return manifest


def read_header(raw: bytes, where: str) -> Header:
    """Format and version of a `bundle.json` of any version. Raises ManifestError: not JSON, or of another format."""
    try:
        header = msgspec.json.decode(raw, type=Header)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _invalid(where, error) from error
    if header.format != FORMAT:
        raise ManifestError(f"{where} has the format {header.format[:80]!r}, expected {FORMAT!r}.")
    return header


def _invalid(where: str, error: Exception) -> ManifestError:
    return ManifestError(
        f"{where} is no valid manifest: {error}. Copy the bundle again from where it came from, or export it again."
    )


def encode(manifest: Manifest) -> bytes:
    """The bytes of a `bundle.json`: indented JSON, UTF-8, ending in a newline."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def _check_version(header: Header, where: str) -> None:
    major, dot, minor = header.version.partition(".")
    if not (dot and major.isascii() and major.isdigit() and minor.isascii() and minor.isdigit()) or len(major) > 9:
        raise ManifestError(f'{where} has the version {header.version[:80]!r}, expected "MAJOR.MINOR" like "1.0".')
    if int(major) != MAJOR_VERSION:
        raise ManifestError(
            f"{where} has format version {header.version}; this Sanderling reads version {MAJOR_VERSION}.x. "
            + ("Update it: pip install -U sanderling" if int(major) > MAJOR_VERSION else "Export the bundle again.")
        )


def _check_consistency(manifest: Manifest, where: str) -> None:
    folded: dict[str, str] = {}
    for path in manifest.files:
        other = folded.setdefault(path.lower(), path)
        if other != path:
            raise ManifestError(f"{where} lists both {other!r} and {path!r}, one file where case does not count.")
        if any(segment.partition(".")[0] in _DEVICES for segment in path.lower().split("/")):
            raise ManifestError(f"{where} lists {path!r}, which is the name of a device on Windows.")
    if MANIFEST_NAME in folded:
        raise ManifestError(f"{where} lists {folded[MANIFEST_NAME]!r}, itself, among its files.")
    for path, user in _references(manifest):
        if path not in manifest.files:
            raise ManifestError(f"{where}: {user} names the file {path!r}, which is not in its list of files.")
    # Another ending means another format to ONNX Runtime, one that is not checked for what it refers to.
    for component in manifest.components.values():
        for variant in component.variants.values():
            for form in variant.forms.values():
                if not form.graph.endswith(".onnx"):
                    raise ManifestError(f"{where} names the graph {form.graph!r}; a graph's name ends in .onnx.")
                names = [spec.name for spec in form.inputs]
                if len(names) != len(set(names)):
                    raise ManifestError(f"{where}: an input of the graph {form.graph!r} is listed twice.")
    text = manifest.preprocessing.text
    if text is not None and text.default_prompt is not None and text.default_prompt not in text.prompts:
        raise ManifestError(
            f"{where}: the default prompt {text.default_prompt!r} is not among the prompts "
            f"({', '.join(map(repr, text.prompts)) or 'none'})."
        )
    if text is not None and text.long_text is not None and not 0 <= text.long_text.stride < text.max_tokens:
        raise ManifestError(
            f"{where}: windows of {text.max_tokens} tokens cannot share {text.long_text.stride} (long_text.stride)."
        )
    _check_padding(manifest, where)
    if manifest.default_variant not in manifest.variants:
        raise ManifestError(
            f"{where}: the default variant {manifest.default_variant!r} is not among the variants that every "
            f"component has ({', '.join(manifest.variants) or 'none'})."
        )
    _check_steps(manifest, where)
    _check_columns(manifest, where)
    _check_forecast(manifest, where)
    task_rules.check(manifest, where)


def _check_padding(manifest: Manifest, where: str) -> None:
    """A model that sees the padding is never run without it."""
    text = manifest.preprocessing.text
    if text is None or text.padding == "longest":
        return
    for name, component in manifest.components.items():
        for variant in component.variants.values():
            if modality(manifest, name) == "text" and set(variant.forms) & {"exact", "packed"}:
                raise ManifestError(
                    f"{where}: texts are padded to max_tokens, and the component {name!r} has a form without padding."
                )


def _references(manifest: Manifest) -> list[tuple[str, str]]:
    found = [(manifest.golden.samples, "golden"), (manifest.golden.tensors, "golden")]
    if manifest.provenance.license_file:
        found.append((manifest.provenance.license_file, "provenance"))
    head = manifest.postprocessing
    heads = (head.text, head.image) if isinstance(head, ContrastiveOutput) else (head,)
    weights = [part.weights for part in heads if isinstance(part, EmbeddingOutput | TokenOutput)]
    found += [(path, "postprocessing") for path in weights if path is not None]
    if manifest.preprocessing.text:
        found.append((manifest.preprocessing.text.tokenizer, "preprocessing.text"))
    for component_name, component in manifest.components.items():
        for variant_name, variant in component.variants.items():
            for form in variant.forms.values():
                user = f"component {component_name!r}, variant {variant_name!r}"
                found += [(path, user) for path in (form.graph, *form.data)]
    return found


def _check_steps(manifest: Manifest, where: str) -> None:
    image = manifest.preprocessing.image
    reducible = image is not None and isinstance(image.steps[0], Resize | ResizeShortest | ResizeFit)
    if image is not None and image.reduced_decode is not None and not reducible:
        raise ManifestError(f"{where}: reduced_decode goes with steps of which the first is a resize.")
    for component in manifest.components.values():
        for name, variant in component.variants.items():
            if variant.fast_decode is not None and (image is None or image.reduced_decode is None):
                raise ManifestError(f"{where}: the variant {name!r} has a fast_decode, but no image.reduced_decode.")
            if variant.decode == "fast" and variant.fast_decode is None:
                raise ManifestError(f"{where}: the variant {name!r} decodes fast, but its drift then is not stated.")
    if image is None:
        return
    on_floats = False
    for step in image.steps:
        if isinstance(step, Rescale):
            if (step.factor is None) == (step.divisor is None) or step.divisor == 0:
                raise ManifestError(f"{where}: a rescale step takes either a factor or a divisor other than 0.")
            on_floats = True
        elif isinstance(step, Normalize):
            if 0.0 in step.std:
                raise ManifestError(f"{where}: a normalize step has a std of 0.")
            on_floats = True
        elif on_floats:
            raise ManifestError(f"{where}: resize and crop steps stand before rescale and normalize.")


def _check_columns(manifest: Manifest, where: str) -> None:
    table = manifest.preprocessing.tabular
    if table is None:
        return
    seen: set[str] = set()
    for column in table.columns:
        named = f"{where}: the column {column.name!r}"
        if column.name in seen:
            raise ManifestError(f"{named} is there twice.")
        seen.add(column.name)
        if column.kind == "number" and (column.dtype == "string" or column.categories):
            raise ManifestError(f"{named} is a number; it has a dtype of numbers and no categories.")
        if column.kind == "category" and len(set(column.categories)) != len(column.categories):
            raise ManifestError(f"{named} lists a category twice.")
        if (column.missing == "fill") != (column.fill is not None):
            raise ManifestError(f'{named} has a value to fill exactly where its missing values are: "fill".')
        if column.kind == "number" and column.fill is not None and not _is_number(column.fill):
            raise ManifestError(f"{named} is filled with {column.fill!r}; a finite number was expected.")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) < float("inf")


def _check_forecast(manifest: Manifest, where: str) -> None:
    head = manifest.postprocessing
    series = manifest.preprocessing.series
    if series is not None and len(set(series.lags)) != len(series.lags):
        raise ManifestError(f"{where}: preprocessing.series names a lag twice.")
    if not isinstance(head, ForecastOutput):
        return
    for interval in head.intervals:
        if not len(interval.lower) == len(interval.upper) == head.horizon:
            raise ManifestError(f"{where}: an interval needs one offset for each of {head.horizon} steps ahead.")
        if any(not below <= above for below, above in zip(interval.lower, interval.upper, strict=True)):
            raise ManifestError(f"{where}: an interval's upper end is below its lower one.")
