"""x / sqrt(2) -> Erf -> + 1 -> * x -> / 2, five nodes, to one Gelu (ONNX opset 20)."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter import pattern

_TOLERANCE = 1e-4


def _halved_last(op: object, x: object, root: object, one: object, half: object) -> object:
    return op.Mul(op.Mul(x, op.Add(op.Erf(op.Div(x, root)), one)), half)  # type: ignore[attr-defined]


def _halved_first(op: object, x: object, root: object, one: object, half: object) -> object:
    return op.Mul(op.Mul(x, half), op.Add(op.Erf(op.Div(x, root)), one))  # type: ignore[attr-defined]


def _halved_between(op: object, x: object, root: object, one: object, half: object) -> object:
    return op.Mul(x, op.Mul(op.Add(op.Erf(op.Div(x, root)), one), half))  # type: ignore[attr-defined]


def _gelu(op: object, x: object, **_: object) -> object:
    return op.Gelu(x)  # type: ignore[attr-defined]


def _is_gelu(_: object, root: ir.Value, one: ir.Value, half: ir.Value, **__: object) -> bool:
    return _is(root, math.sqrt(2)) and _is(one, 1.0) and _is(half, 0.5)


def _is(value: ir.Value, expected: float) -> bool:
    if value.const_value is None:
        return False
    array = value.const_value.numpy()
    return array.size == 1 and bool(np.allclose(array, expected, atol=_TOLERANCE))


_RULES = pattern.RewriteRuleSet(
    [pattern.RewriteRule(form, _gelu, _is_gelu) for form in (_halved_last, _halved_first, _halved_between)],
    commute=True,
)


def rewrite(model: ir.Model) -> int:
    """Replace every Gelu that is written out; their count."""
    return int(_RULES.apply_to_model(model))
