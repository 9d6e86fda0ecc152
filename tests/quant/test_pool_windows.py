"""Pooling geometry as onnxruntime defines it, in every corner of ceil mode, pads and dilation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from quant.graph import Graph
from quant.onnx_import import ModelError, import_model

SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])


def pool_model(
    operator: str, size: tuple[int, int], attributes: dict[str, Any], weight: tuple[int, ...] | None = None
) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", "w"] if weight else ["x"], ["y"], name="pool", **attributes)],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, *size])],
        [helper.make_empty_tensor_value_info("y")],
        [
            helper.make_tensor(
                "w",
                TensorProto.FLOAT,
                weight,
                [0.25 * (i % 7 - 3) for i in range(weight[0] * weight[1] * weight[2] * weight[3])],
            )
        ]
        if weight
        else [],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)


@st.composite
def windows(draw: st.DrawFn, dilation: bool, automatic: bool) -> tuple[tuple[int, int], dict[str, Any]]:
    def pair(low: int, high: int) -> list[int]:
        return [draw(st.integers(low, high)), draw(st.integers(low, high))]

    size = draw(st.integers(3, 11)), draw(st.integers(3, 11))
    kernel = pair(1, 4)
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": pair(1, 4)}
    if dilation:
        attributes["dilations"] = pair(1, 3)
    way = draw(st.sampled_from(["pads", "SAME_UPPER", "SAME_LOWER", "VALID"] if automatic else ["pads"]))
    if way == "pads":
        attributes["pads"] = [draw(st.integers(0, kernel[axis % 2] - 1)) for axis in range(4)]
    else:
        attributes["auto_pad"] = way
        attributes.pop("dilations", None)
        # onnxruntime does not execute pools whose stride jumps over the last pixels with SAME
        assume(
            way == "VALID"
            or all(
                (-(-size[axis] // attributes["strides"][axis]) - 1) * attributes["strides"][axis]
                + kernel[axis]
                >= size[axis]
                for axis in range(2)
            )
        )
    reach = [attributes.get("dilations", [1, 1])[axis] * (kernel[axis] - 1) + 1 for axis in range(2)]
    pads = attributes.get("pads", [0, 0, 0, 0])
    assume(all(reach[axis] <= size[axis] + pads[axis] + pads[axis + 2] for axis in range(2)))
    return size, attributes


@SETTINGS
@given(window=windows(dilation=True, automatic=True), ceil=st.integers(0, 1))
def test_max_pool(
    same_meaning: Callable[..., Graph], window: tuple[tuple[int, int], dict[str, Any]], ceil: int
) -> None:
    size, attributes = window
    model = pool_model("MaxPool", size, {**attributes, "ceil_mode": ceil})
    try:
        same_meaning(model)
    except ModelError as error:
        assert "outside the image" in str(error)  # noqa: PT017 - only this refusal is allowed
        assert max(attributes.get("dilations", [1, 1])) > 1


@SETTINGS
@given(window=windows(dilation=False, automatic=True), ceil=st.integers(0, 1), include=st.integers(0, 1))
def test_average_pool(
    same_meaning: Callable[..., Graph],
    window: tuple[tuple[int, int], dict[str, Any]],
    ceil: int,
    include: int,
) -> None:
    size, attributes = window
    model = pool_model("AveragePool", size, {**attributes, "ceil_mode": ceil, "count_include_pad": include})
    try:
        same_meaning(model)
    except ModelError as error:
        assert "ceil mode and count_include_pad" in str(error)  # noqa: PT017 - only this refusal is allowed
        assert ceil
        assert include


@SETTINGS
@given(window=windows(dilation=True, automatic=False), groups=st.integers(1, 2))
def test_convolution(
    same_meaning: Callable[..., Graph], window: tuple[tuple[int, int], dict[str, Any]], groups: int
) -> None:
    size, attributes = window
    same_meaning(
        pool_model(
            "Conv", size, {**attributes, "group": groups}, (4, 2 // groups, *attributes["kernel_shape"])
        )
    )


def test_average_over_dilated_pixels_is_refused() -> None:
    with pytest.raises(ModelError, match=r"pool \(AveragePool\): its dilation is"):
        import_model(pool_model("AveragePool", (8, 8), {"kernel_shape": [2, 2], "dilations": [2, 2]}))


def test_same_padding_that_would_be_negative_is_refused() -> None:
    with pytest.raises(ModelError, match="auto_pad SAME_UPPER leaves out pixels"):
        import_model(
            pool_model(
                "MaxPool", (3, 3), {"kernel_shape": [1, 1], "strides": [3, 3], "auto_pad": "SAME_UPPER"}
            )
        )


def test_window_larger_than_the_image_is_refused() -> None:
    with pytest.raises(ModelError, match="window of 5 is larger"):
        import_model(pool_model("MaxPool", (4, 4), {"kernel_shape": [5, 5]}))
