"""QDQ files that onnxruntime's quantizer and Brevitas wrote: read, judged, compiled and run unchanged."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from compiler.compile import compile_model
from hw.machine import Machine
from quant.calibrate import calibrate
from quant.data import load_images, prepare
from quant.fixed_model import FixedModel, Preparation
from quant.graph import Add, Concat, Convolution, MaxPool
from quant.onnx_import import import_model
from quant.qdq import write_fixed_model
from quant.qdq_import import QdqError, fixed_model_from_onnx, read_fixed_model
from sim.judge import as_file_input, compare_with_onnxruntime, onnxruntime_tensors, run_session
from sim.program import ProgramSimulator
from sim.reference import run

LENET5 = Path(__file__).parents[2] / "models" / "lenet5.onnx"
BREVITAS = sorted((Path(__file__).parent / "brevitas").glob("*.onnx"))
MACHINE = Machine()


def random_inputs(model: FixedModel, count: int = 2) -> np.ndarray:
    form = model.formats[model.graph.input]
    shape = (count, *model.graph.shapes[model.graph.input])
    return np.random.default_rng(0).integers(form.low, form.high + 1, shape)


def compiled_and_run(model: FixedModel) -> None:
    """The program simulator gives the reference's integers for every layer that stays in memory."""
    inputs = random_inputs(model, 1)
    expected = run(model, inputs)
    program = compile_model(model, MACHINE, inputs[0], expected)
    simulator = ProgramSimulator(MACHINE, program.memory_bytes)
    simulator.load(program)
    np.testing.assert_array_equal(simulator.run(inputs[0]), expected[model.graph.output][0])
    for layer in program.layers:
        np.testing.assert_array_equal(simulator.read(layer.tensor), expected[layer.tensor.name][0])


# onnxruntime


class Images(CalibrationDataReader):
    """Random images for the quantizer."""

    def __init__(self, path: Path) -> None:
        value = onnx.load(path).graph.input[0]
        shape = [max(1, size.dim_value) for size in value.type.tensor_type.shape.dim]
        random = np.random.default_rng(0)
        self.batches = iter([{value.name: random.random(shape, np.float32)} for _ in range(4)])

    def get_next(self):
        return next(self.batches, None)


def float_network(path: Path) -> Path:
    """Two branches, a residual, a concatenation, MaxPool and Gemm; onnxruntime quantizes all of them."""
    random = np.random.default_rng(1)

    def array(name: str, *shape: int):
        return numpy_helper.from_array(random.normal(size=shape).astype(np.float32) * 0.3, name)

    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("MaxPool", ["r1"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p", "w2", "b2"], ["c2"], "conv2", pads=[1, 1, 1, 1], group=8),
        helper.make_node("Add", ["c2", "p"], ["s"], "add"),
        helper.make_node("Relu", ["s"], ["r2"], "relu2"),
        helper.make_node("Conv", ["r2", "w3", "b3"], ["c3"], "conv3"),
        helper.make_node("Relu", ["c3"], ["r3"], "relu3"),
        helper.make_node("Concat", ["r3", "r2"], ["j"], "concat", axis=1),
        helper.make_node("Flatten", ["j"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w4", "b4"], ["y"], "fc", transB=1),
    ]
    shapes = {"w1": (8, 3, 3, 3), "w2": (8, 1, 3, 3), "w3": (4, 8, 1, 1), "w4": (5, 12 * 16)}
    constants = [array(name, *shape) for name, shape in shapes.items()]
    constants += [array(f"b{name[1]}", shape[0]) for name, shape in shapes.items()]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def quantized(source: Path, path: Path, signed: bool, per_channel: bool, overrides=None) -> Path:
    quantize_static(
        source,
        path,
        Images(source),
        quant_format=QuantFormat.QDQ,
        per_channel=per_channel,
        activation_type=QuantType.QInt8 if signed else QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        extra_options={
            "ActivationSymmetric": signed,
            "WeightSymmetric": True,
            **({"TensorQuantOverrides": overrides} if overrides else {}),
        },
    )
    return path


def power_of_two_overrides(path: Path) -> dict[str, list[dict[str, object]]]:
    """Overrides that round every scale of a quantized file up to a power of two, zero points 0.

    A feature map of uint8 whose zero point was not 0 becomes int8.  Biases follow by themselves.
    """
    proto = onnx.load(path)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    overrides: dict[str, list[dict[str, object]]] = {}
    for node in proto.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        stored = node.input[0] in constants
        if stored != (node.op_type == "DequantizeLinear"):
            continue
        scale, zero = constants[node.input[1]], constants[node.input[2]]
        if zero.dtype == np.int32:
            continue
        unsigned = zero.dtype == np.uint8 and not zero.any()
        if zero.any():
            scale = scale * max(int(zero), 255 - int(zero)) / 127
        rounded = np.exp2(np.ceil(np.log2(scale))).astype(np.float32)
        kind = QuantType.QUInt8 if unsigned else QuantType.QInt8
        axis = {"axis": node.attribute[0].i} if scale.ndim and scale.size > 1 else {}
        name = node.input[0].removesuffix("_quantized").removesuffix("_QuantizeLinear_Input")
        overrides[name] = [
            {
                "quant_type": kind,
                "scale": np.array(each, np.float32),
                "zero_point": np.array(0, np.uint8 if unsigned else np.int8),
                **axis,
            }
            for each in rounded.reshape(-1)
        ]
    return overrides


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("per_channel", [False, True], ids=["layer", "channel"])
@pytest.mark.parametrize("signed", [True, False], ids=["int8", "uint8"])
@pytest.mark.parametrize("network", ["small", "lenet5"])
def test_onnxruntimes_quantizer_with_powers_of_two(tmp_path, network, signed, per_channel):
    """The same quantizer with float scales is refused, by the name of a tensor."""
    source = LENET5 if network == "lenet5" else float_network(tmp_path / "float.onnx")
    plain = quantized(source, tmp_path / "plain.onnx", signed, per_channel)
    with pytest.raises(QdqError, match=r"plain.onnx: tensor \S+: its (scale \S+ is not a power|zero point)"):
        read_fixed_model(plain)

    path = quantized(source, tmp_path / "fixed.onnx", signed, per_channel, power_of_two_overrides(plain))
    model = read_fixed_model(path)
    verdict = compare_with_onnxruntime(model, path, random_inputs(model))
    assert verdict.equal, verdict.differences[0]
    assert not verdict.not_counted
    assert len(verdict.compared) == len(model.graph.shapes)
    kinds = {type(node) for node in model.graph.nodes}
    assert kinds >= ({Convolution, MaxPool} if network == "lenet5" else {Convolution, MaxPool, Add, Concat})
    lengths = [set(weights.fl.tolist()) for weights in model.weights.values()]
    assert any(len(each) > 1 for each in lengths) == per_channel
    assert all(weights.bias.any() for weights in model.weights.values())
    assert any(not form.signed for form in model.formats.values()) != signed
    compiled_and_run(model)


# Brevitas


@pytest.mark.parametrize("path", BREVITAS, ids=lambda path: path.stem)
def test_brevitas_exports(path):
    """Files of `brevitas.export.export_onnx_qcdq`, as `tests/quant/brevitas/export_fixtures.py` made them.

    What is special: weights stored behind a Clip to the narrow range, biases of int32, 4-bit feature maps
    as a Clip behind QuantizeLinear, and results of MaxPool and Concat that are not quantized again because
    their inputs are, even where one of two readers quantizes them in another format.
    """
    model = read_fixed_model(path)
    bits = int(path.stem.partition("_w")[2][0])
    assert all(weights.bits == bits for weights in model.weights.values())
    assert all(np.abs(weights.values).max() < 1 << (bits - 1) for weights in model.weights.values())
    lengths = [len(set(weights.fl.tolist())) for weights in model.weights.values()]
    assert (max(lengths) > 1) == path.stem.startswith("channel")
    assert all(weights.bias.any() for weights in model.weights.values()) == ("dynamo" not in path.stem)

    inputs = random_inputs(model, 1)
    expected = run(model, inputs)
    found = onnxruntime_tensors(path, as_file_input(model, inputs))
    # the file has no integers of what MaxPool and Concat pass on: seen in the layers that read it
    assert {type(model.graph.producer(name)) for name in expected.keys() - found.keys()} == {MaxPool, Concat}
    for name, integers in found.items():
        # quantized a second time in the same format: no tensor of its own
        name = name if name in expected else name.removesuffix("/again")
        np.testing.assert_array_equal(integers.reshape(expected[name].shape), expected[name], name)
    compiled_and_run(model)


def quantized_by_hand(nodes: list[onnx.NodeProto], output: str) -> onnx.ModelProto:
    """x (1, 4, 6, 6) → ``nodes`` → ``output``; QDQ nodes are called by scale, ``q0.5`` and ``dq0.5``."""
    constants = [numpy_helper.from_array(np.int8(0), "zero")]
    for node in nodes:
        if node.op_type.lstrip("d").startswith("q0"):
            scale = node.op_type.lstrip("dq")
            if all(tensor.name != scale for tensor in constants):
                constants.append(numpy_helper.from_array(np.float32(scale), scale))
            node.input.extend([scale, "zero"])
            node.op_type = "DequantizeLinear" if node.op_type.startswith("d") else "QuantizeLinear"
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 6, 6])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def pair(source: str, name: str, scale: str) -> list[onnx.NodeProto]:
    """``source`` → ``name`` through a QuantizeLinear and a DequantizeLinear."""
    return [
        helper.make_node(f"q{scale}", [source], [f"{name}_q"]),
        helper.make_node(f"dq{scale}", [f"{name}_q"], [name]),
    ]


def test_one_tensor_in_three_formats():
    """Its own, and one for each of two readers that quantize it anew."""
    nodes = [
        *pair("x", "a", "0.5"),
        helper.make_node("MaxPool", ["a"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        *pair("p", "first", "0.25"),
        *pair("p", "second", "0.125"),
        helper.make_node("Add", ["first", "p"], ["s"], "add"),
        *pair("s", "t", "0.5"),
        helper.make_node("Add", ["t", "second"], ["u"], "last"),
        *pair("u", "y", "0.5"),
    ]
    proto = quantized_by_hand(nodes, "y")
    model = fixed_model_from_onnx(proto)
    lengths = {name: form.fl for name, form in model.formats.items()}
    assert lengths == {"x": 1, "p": 1, "p/again": 2, "p/again/again": 3, "s": 1, "u": 1}
    inputs = random_inputs(model, 1)
    expected = run(model, inputs)
    found = onnxruntime_tensors(proto, as_file_input(model, inputs))
    assert found.keys() == expected.keys() - {"p"}
    for name, integers in found.items():
        np.testing.assert_array_equal(integers, expected[name], name)


def test_a_result_read_around_its_reshaped_quantization_is_refused():
    """The layer would take float numbers: the integers of the other reader are not what it computes with."""
    nodes = [
        *pair("x", "a", "0.5"),
        helper.make_node("AveragePool", ["a"], ["m"], "average", kernel_shape=[2, 2]),
        helper.make_node("Identity", ["m"], ["i"], "identity"),
        *pair("i", "b", "0.25"),
        helper.make_node("Add", ["b", "m"], ["s"], "add"),
        *pair("s", "y", "0.25"),
    ]
    with pytest.raises(QdqError, match="tensor m: add reads it without its quantization"):
        fixed_model_from_onnx(quantized_by_hand(nodes, "y"))


def test_sums_are_not_numbers_of_their_operands():
    """Unlike the result of MaxPool, that of Add needs a format of its own, also behind a reshape."""
    nodes = [
        *pair("x", "a", "0.5"),
        helper.make_node("Add", ["a", "a"], ["s"], "add"),
        helper.make_node("Relu", ["s"], ["r"], "relu"),
        *pair("r", "b", "0.25"),
        helper.make_node("Add", ["b", "r"], ["t"], "last"),
        *pair("t", "y", "0.25"),
    ]
    with pytest.raises(QdqError, match="tensor r: last reads it without its quantization"):
        fixed_model_from_onnx(quantized_by_hand(nodes, "y"))


def test_there_are_brevitas_exports():
    assert {path.stem.partition("_")[0] for path in BREVITAS} == {"tensor", "channel"}
    assert len(BREVITAS) == 5


# tools that read our files


def calibrated_file(path: Path, weight_bits: int = 8, bits: int = 8) -> np.ndarray:
    """Write LeNet-5 as `python -m quant calibrate` does; the images (8, 1, 28, 28) are returned."""
    graph = import_model(LENET5)
    images = load_images(LENET5.parent / "fashion_mnist_calibration.npz").first(8)
    preparation = Preparation(255.0)
    [values] = prepare(images, preparation, graph.shapes[graph.input])
    write_fixed_model(calibrate(graph, [values], weight_bits, bits, preparation)[0], path)
    return values


def scores(path: Path, values: np.ndarray, level: onnxruntime.GraphOptimizationLevel) -> np.ndarray:
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = level
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    return run_session(session, None, values)[0]


@pytest.mark.parametrize(("weight_bits", "bits"), [(8, 8), (4, 8), (8, 6)])
def test_what_calibrate_writes_is_standard_onnx(tmp_path, weight_bits, bits):
    """onnx's checker and shape inference (what Netron shows); onnxruntime's basic optimizations."""
    path = tmp_path / "fixed.onnx"
    values = calibrated_file(path, weight_bits, bits)
    onnx.checker.check_model(path, full_check=True)
    proto = onnx.load(path)
    shown = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    known = {value.name: value.type.tensor_type for value in (*shown.graph.value_info, *shown.graph.output)}
    for name in {output for node in proto.graph.node for output in node.output}:
        assert known[name].elem_type, name
        assert known[name].HasField("shape"), name
        assert all(size.dim_value or size.dim_param for size in known[name].shape.dim), name
    plain = scores(path, values, onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
    basic = scores(path, values, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC)
    assert plain.shape == (8, 10)
    np.testing.assert_array_equal(plain, basic)


def test_what_calibrate_writes_loads_with_all_optimizations(tmp_path):
    path = tmp_path / "fixed.onnx"
    values = calibrated_file(path)
    plain = scores(path, values, onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
    fused = scores(path, values, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL)
    # 8-bit kernels may saturate sums where the processor has no VNNI: close, not equal
    np.testing.assert_allclose(fused, plain, atol=0.1 * np.abs(plain).max())
