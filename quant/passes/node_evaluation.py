"""What one ONNX node computes on numpy arrays: for constants, and for moving elements around."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, OperatorSetIdProto, helper

__all__ = ["evaluate_node"]


def evaluate_node(node: NodeProto, inputs: Mapping[str, NDArray[Any]],
                  opsets: Sequence[OperatorSetIdProto]) -> list[NDArray[Any]]:
    """The outputs of a node, one array for each of its output names.

    ONNX's own reference implementation is used; operators that it does not have go to onnxruntime.

    Raises
    ------
    ValueError
        If neither can compute the node; the message is the first line of what they say.
    """
    from onnx.reference import ReferenceEvaluator
    names = [name for name in dict.fromkeys(node.input) if name]
    outputs = [name or f"_unused_{position}" for position, name in enumerate(node.output)]
    copy = NodeProto()
    copy.CopyFrom(node)
    del copy.output[:]
    copy.output.extend(outputs)
    function = helper.make_function("", "one_node", names, outputs, [copy], list(opsets))
    try:
        results: Any = ReferenceEvaluator(function).run(None, {name: inputs[name] for name in names},
                                                        attributes={})
    except Exception as reference_error:  # the evaluator raises whatever its numpy code raises
        try:
            results = _run_in_onnxruntime(copy, names, inputs, opsets)
        except Exception:
            reason = (str(reference_error).strip() or type(reference_error).__name__).splitlines()[0]
            raise ValueError(reason) from None
    return [np.asarray(result) for result in results]


def _run_in_onnxruntime(node: NodeProto, names: Sequence[str], inputs: Mapping[str, NDArray[Any]],
                        opsets: Sequence[OperatorSetIdProto]) -> list[Any]:
    import onnxruntime
    graph = helper.make_graph(
        [node], "one_node",
        [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(inputs[name].dtype),
                                       inputs[name].shape) for name in names],
        [helper.make_empty_tensor_value_info(name) for name in node.output])
    model = helper.make_model(graph, opset_imports=list(opsets), ir_version=10)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options,
                                           providers=["CPUExecutionProvider"])
    return list(session.run(None, {name: inputs[name] for name in names}))
