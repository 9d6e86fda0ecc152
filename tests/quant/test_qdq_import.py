"""QDQ files: what is written comes back, and what cannot be a fixed-point model is refused by name."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from quant.fixed_model import FixedModel, FixedWeights, Preparation
from quant.graph import Activation, Add, AveragePool, Concat, Convolution, Graph, MaxPool, Select
from quant.number_format import Format
from quant.onnx_import import ModelError
from quant.qdq import WriteError, fixed_model_to_onnx, write_fixed_model
from quant.qdq_import import QdqError, fixed_model_from_onnx, read_fixed_model
from sim.judge import compare_with_onnxruntime


def small_model(weight_bits=8, bits=8, per_channel=False, layout="NCHW", seed=0):
    rng = np.random.default_rng(seed)

    def weights(shape, fl_spread):
        half = 1 << (weight_bits - 1)
        fl = np.full(shape[0], weight_bits - 1) + (np.arange(shape[0]) % 3 if fl_spread else 0)
        return FixedWeights(
            rng.integers(-half, half, shape), weight_bits, fl, rng.integers(-(2**20), 2**20, shape[0])
        )

    def conv(name, inputs, output, shape, **settings_):
        zeros = np.zeros(shape, np.float32)
        return Convolution(
            name=name, inputs=inputs, output=output, weight=zeros, bias=zeros[:, 0, 0, 0], **settings_
        )

    nodes = [
        conv("conv_a", ("x",), "a", (6, 3, 3, 3), pads=(1, 1, 1, 1), activation=Activation(0.0)),
        conv(
            "conv_b", ("a",), "b", (6, 1, 3, 3), pads=(1, 1, 1, 1), groups=6, activation=Activation(0.0, 6.0)
        ),
        Add(name="add", inputs=("a", "b"), output="c", activation=Activation(0.0)),
        Concat(name="concat", inputs=("c", "a"), output="d"),
        MaxPool(name="pool", inputs=("d",), output="e", kernel=(2, 2), stride=(2, 2), pads=(0, 0, 0, 0)),
        Select(
            name="select",
            inputs=("e",),
            output="f",
            start=(1, 0, 0),
            step=(2, 1, 1),
            size=(6, 4, 4),
            pad_channels=(1, 1),
        ),
        conv("fc", ("f",), "y", (10, 8, 4, 4)),
    ]
    shapes = {
        "x": (3, 8, 8),
        "a": (6, 8, 8),
        "b": (6, 8, 8),
        "c": (6, 8, 8),
        "d": (12, 8, 8),
        "e": (12, 4, 4),
        "f": (8, 4, 4),
        "y": (10, 1, 1),
    }
    graph = Graph("small", nodes, shapes, "x", "y", (10,), layout, ("Softmax",))
    formats = {name: Format(bits, name in "xy", 3 + index % 3) for index, name in enumerate(shapes)}
    table = {
        node.name: weights(node.weight.shape, per_channel) for node in nodes if isinstance(node, Convolution)
    }
    preparation = Preparation(255.0, (0.5, 0.25, 0.125), (1.0, 2.0, 3.0), "BGR", 16, True)
    return FixedModel(graph, formats, table, preparation)


def same(first: FixedModel, second: FixedModel):
    """Everything but the float weights, which are only for reference."""
    assert first.formats == second.formats
    assert first.preparation == second.preparation
    a, b = first.graph, second.graph
    assert (
        a.name,
        a.shapes,
        a.input,
        a.output,
        tuple(a.output_shape),
        a.input_layout,
        tuple(a.host_operations),
    ) == (
        b.name,
        b.shapes,
        b.input,
        b.output,
        tuple(b.output_shape),
        b.input_layout,
        tuple(b.host_operations),
    )
    assert len(a.nodes) == len(b.nodes)
    nothing = np.zeros(0, np.float32)
    for x, y in zip(a.nodes, b.nodes):
        if isinstance(x, Convolution):
            assert isinstance(y, Convolution)
            x, y = replace(x, weight=nothing, bias=nothing), replace(y, weight=nothing, bias=nothing)
            assert repr(x) == repr(y)
        elif isinstance(x, Select):  # a step along one element means nothing
            x, y = (replace(n, step=tuple(np.where(np.equal(n.size, 1), 1, n.step).tolist())) for n in (x, y))
            assert x == y
        elif isinstance(x, AveragePool) and not any(x.pads):
            assert replace(x, count_include_pad=False) == replace(y, count_include_pad=False)
        else:
            assert x == y
    assert first.weights.keys() == second.weights.keys()
    for name, expected in first.weights.items():
        found = second.weights[name]
        assert expected.bits == found.bits
        for field in ("values", "fl", "bias"):
            np.testing.assert_array_equal(getattr(expected, field), getattr(found, field))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize(("weight_bits", "bits"), [(8, 8), (4, 8), (3, 5), (6, 7), (16, 16), (2, 2), (12, 9)])
def test_round_trip(tmp_path, weight_bits, bits, per_channel, layout):
    model = small_model(weight_bits, bits, per_channel, layout)
    write_fixed_model(model, tmp_path / "m.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    found = read_fixed_model(tmp_path / "m.onnx")
    same(model, found)
    again = fixed_model_to_onnx(found)
    assert again.SerializeToString() == (tmp_path / "m.onnx").read_bytes()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 8))
def test_random_networks_come_back(random_network, seed, size):
    model = random_network(seed, size)
    same(model, fixed_model_from_onnx(fixed_model_to_onnx(model)))


@pytest.fixture(scope="module")
def random_network():
    import importlib.util
    from pathlib import Path

    path = Path(__file__).parents[1] / "random_network.py"
    spec = importlib.util.spec_from_file_location("random_network_for_qdq", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.random_network


# files of other tools


class Other:
    """A QDQ graph as another tool writes it, node by node."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, name, array, kind=None):
        self.constants.append(
            numpy_helper.from_array(np.asarray(array), name)
            if kind is None
            else helper.make_tensor(name, kind, np.shape(array), np.ravel(array).tolist())
        )
        return name

    def node(self, operator, inputs, output, **attributes):
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def pair(self, tensor, scale, kind=TensorProto.UINT8, zero=0, clip=None, second_scale=None):
        s = self.constant(f"{tensor}_s", np.float32(scale))
        z = self.constant(f"{tensor}_z", zero, kind)
        q = self.node("QuantizeLinear", [tensor, s, z], f"{tensor}_q")
        if clip:
            bounds = [self.constant(f"{tensor}_{end}", value, kind) for end, value in zip(("lo", "hi"), clip)]
            q = self.node("Clip", [q, *bounds], f"{tensor}_c")
        if second_scale is not None:
            s = self.constant(f"{tensor}_s2", np.float32(second_scale))
        return self.node("DequantizeLinear", [q, s, z], f"{tensor}_d")

    def stored(self, name, integers, scale, kind=TensorProto.INT8, axis=None):
        integers = self.constant(f"{name}_q", integers, kind)
        s = self.constant(f"{name}_s", np.asarray(scale, np.float32))
        z = self.constant(f"{name}_z", np.zeros(np.shape(scale), np.int64), kind)
        return self.node(
            "DequantizeLinear", [integers, s, z], f"{name}_d", **({} if axis is None else {"axis": axis})
        )

    def model(self, output, shape_in=(1, 3, 6, 6), shape_out=("N", 4, 6, 6)):
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape_in)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape_out)],
            self.constants,
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        onnx.checker.check_model(proto)
        return proto


def convolution_by_another_tool(rng=None, **changes):
    """x → QDQ → Conv → Relu → QDQ, biases as int32."""
    rng = rng or np.random.default_rng(0)
    settings_ = {
        "x_scale": 2.0**-6,
        "w_scale": 2.0**-7,
        "y_scale": 2.0**-4,
        "b_scale": None,
        "zero": 0,
        "float_bias": False,
        "clip": None,
        "second_scale": None,
        **changes,
    }
    net = Other()
    x = net.pair("x", settings_["x_scale"], zero=settings_["zero"], second_scale=settings_["second_scale"])
    w = net.stored("w", rng.integers(-128, 128, (4, 3, 3, 3)), settings_["w_scale"])
    scale = settings_["b_scale"] or settings_["x_scale"] * settings_["w_scale"]
    b = (
        net.constant("b", np.float32([0.3, 1, 2, 3]))
        if settings_["float_bias"]
        else net.stored("b", rng.integers(-4000, 4000, 4), scale, TensorProto.INT32)
    )
    net.node("Conv", [x, w, b], "s", pads=[1, 1, 1, 1])
    net.node("Relu", ["s"], "y")
    net.pair("y", settings_["y_scale"], clip=settings_["clip"])
    return net.model("y_d")


def judged(proto, rng=None):
    rng = rng or np.random.default_rng(0)
    model = fixed_model_from_onnx(proto)
    form = model.formats[model.graph.input]
    inputs = rng.integers(form.low, form.high + 1, (1, *model.graph.shapes[model.graph.input]))
    verdict = compare_with_onnxruntime(model, proto, inputs)
    assert verdict.equal, verdict.differences[0]
    assert not verdict.not_counted
    return model


def test_file_of_another_tool():
    model = judged(convolution_by_another_tool())
    assert model.formats == {"x": Format(8, False, 6), "y": Format(8, False, 4)}
    [node] = model.graph.nodes
    assert node.activation == Activation(0.0)
    assert model.weights[node.name].fl.tolist() == [7] * 4


def test_clip_between_quantize_and_dequantize_is_a_width_or_a_bound():
    assert judged(convolution_by_another_tool(clip=(0, 63))).formats["y"] == Format(6, False, 4)
    model = judged(convolution_by_another_tool(clip=(0, 100)))
    assert model.formats["y"] == Format(7, False, 4)
    assert model.bounds(model.graph.nodes[0]) == (0, 100)


def test_symmetric_narrow_range_and_quantized_float_weights_per_channel():
    """Weights quantized while the network runs, scales along the last axis of a Gemm, range -127 … 127."""
    rng = np.random.default_rng(4)
    net = Other()
    x = net.pair("x", 2.0**-3, TensorProto.INT8, clip=(-127, 127))
    flat = net.node("Flatten", [x], "flat")
    net.constant("w", rng.normal(size=(12, 5)).astype(np.float32))
    scale = net.constant("w_s", np.float32([2.0**-5, 2.0**-6, 2.0**-4, 2.0**-5, 2.0**-7]))
    zero = net.constant("w_z", np.zeros(5, np.int64), TensorProto.INT8)
    net.node("QuantizeLinear", ["w", scale, zero], "w_q", axis=1)
    low, high = net.constant("lo", -127, TensorProto.INT8), net.constant("hi", 127, TensorProto.INT8)
    net.node("Clip", ["w_q", low, high], "w_c")
    net.node("DequantizeLinear", ["w_c", scale, zero], "w_d", axis=1)
    net.node("Gemm", [flat, "w_d"], "y")
    net.pair("y", 2.0**-1, TensorProto.INT8)
    model = judged(net.model("y_d", (1, 3, 2, 2), (1, 5)))
    weights = next(iter(model.weights.values()))
    assert weights.fl.tolist() == [5, 6, 4, 5, 7]
    assert weights.bits == 8
    assert np.abs(weights.values).max() <= 127


def test_narrow_range_of_the_input_itself():
    """-128 comes out of the QuantizeLinear, but only -127 reaches the network."""
    net = Other()
    net.node("Relu", [net.pair("x", 1.0, TensorProto.INT8, clip=(-127, 100))], "y")
    net.pair("y", 0.5)
    proto = net.model("y_d", (1, 2, 9, 10), (1, 2, 9, 10))
    model = fixed_model_from_onnx(proto)
    inputs = np.resize(np.arange(-128, 128), (1, 2, 9, 10))
    inputs[0, 1] = np.resize(np.arange(90, 128), (9, 10))
    verdict = compare_with_onnxruntime(model, proto, inputs)
    assert verdict.equal
    assert len(verdict.compared) == 3
    assert inputs.min() == -128
    assert inputs.max() == 127


def test_two_dequantize_nodes_behind_one_quantize():
    """Exporters give every reader a DequantizeLinear of its own."""
    rng = np.random.default_rng(0)
    net = Other()
    x = net.pair("x", 0.25, TensorProto.INT8)
    for clip, operator in (((-100, 100), "first"), (None, "second")):
        net.node("Conv", [x, net.stored(operator, rng.integers(-9, 9, (3, 3, 1, 1)), 0.25)], f"{operator}_y")
        a = net.pair(f"{operator}_y", 0.125, TensorProto.INT8, clip=clip)
        integers = net.nodes[-1].input[0]
        b = net.node("DequantizeLinear", [integers, f"{operator}_y_s", f"{operator}_y_z"], f"{operator}_y_d2")
        net.node("Add", [a, b], f"{operator}_sum")
        x = net.pair(f"{operator}_sum", 0.5, TensorProto.INT8)
    model = judged(net.model(x, shape_out=("N", 3, 6, 6)))
    assert model.bounds(model.graph.nodes[0]) == (-100, 100)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("signed", [False, True])
def test_file_of_onnxruntimes_quantizer(tmp_path, per_channel, signed):
    """onnxruntime's static quantizer chooses any scales: refused; with powers of two it is taken."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    rng = np.random.default_rng(0)
    float_path, path = tmp_path / "float.onnx", tmp_path / "quantized.onnx"
    save_residual_network(rng, float_path)

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.batches = iter([{"x": rng.uniform(0, 1, (1, 3, 8, 8)).astype(np.float32)} for _ in range(4)])

        def get_next(self):
            return next(self.batches, None)

    quantize_static(
        float_path,
        path,
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=per_channel,
        activation_type=QuantType.QInt8 if signed else QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True},
    )
    with pytest.raises(QdqError, match=r"is not a power of two|zero point is not 0"):
        read_fixed_model(path)
    if not signed:
        return  # symmetric unsigned feature maps have the zero point 128
    proto = onnx.load(path)
    scales = {}
    for tensor in proto.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.name.endswith("_scale") and "bias" not in tensor.name:
            scales[tensor.name] = np.exp2(np.ceil(np.log2(values))).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(scales[tensor.name], tensor.name))
    makers = {node.output[0]: node for node in proto.graph.node}
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            data, weight, bias = (makers[name] for name in node.input)
            product = scales[data.input[1]] * scales[weight.input[1]]
            scale = constants[bias.input[1]]
            scale.CopyFrom(numpy_helper.from_array(np.broadcast_to(product, scale.dims).copy(), scale.name))
    model = judged(proto)
    assert {type(node) for node in model.graph.nodes} >= {Convolution, Add, MaxPool, AveragePool}


def save_residual_network(rng, path):
    def array(name, *shape):
        return numpy_helper.from_array(rng.normal(size=shape).astype(np.float32) * 0.3, name)

    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("MaxPool", ["r1"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p", "w2", "b2"], ["c2"], "conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "p"], ["s"], "add"),
        helper.make_node("Relu", ["s"], ["r2"], "relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["g"], "average"),
        helper.make_node("Flatten", ["g"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], "fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        [
            array("w1", 8, 3, 3, 3),
            array("b1", 8),
            array("w2", 8, 8, 3, 3),
            array("b2", 8),
            array("w3", 5, 8),
            array("b3", 5),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def test_matmul_and_add_with_transposed_weights():
    rng = np.random.default_rng(5)
    net = Other()
    flat = net.node("Flatten", [net.pair("x", 0.5)], "flat")
    w = net.node(
        "Transpose",
        [net.stored("w", rng.integers(-100, 100, (5, 12)), [0.25, 0.5, 0.25, 1.0, 2.0], axis=0)],
        "w_t",
        perm=[1, 0],
    )
    net.node("MatMul", [flat, w], "s")
    net.node("Add", ["s", net.constant("b", np.float32([1, 2, 3, 4, 5]))], "y")
    net.pair("y", 256.0, TensorProto.INT8)
    model = judged(net.model("y_d", (1, 3, 2, 2), (1, 5)))
    weights = next(iter(model.weights.values()))
    assert weights.fl.tolist() == [2, 1, 2, 0, -1]
    assert weights.bias.tolist() == [8, 8, 24, 8, 5]


def test_relu_between_two_pairs_and_two_pairs_in_a_row():
    net = Other()
    net.node("Relu", [net.pair("x", 0.25, TensorProto.INT8)], "y")
    net.pair("y", 0.5)
    net.pair("y_d", 1.0)
    model = judged(net.model("y_d_d", (1, 2, 5, 6), (1, 2, 5, 6)))
    assert [type(node) for node in model.graph.nodes] == [Select, Select]
    assert [form.fl for form in model.formats.values()] == [2, 1, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_scale": 0.01}, r"tensor x_q: its scale 0.00999999978 is not a power of two; calibrate"),
        ({"w_scale": 0.3}, r"tensor w_d: its scale 0.30.* is not a power of two"),
        ({"y_scale": -0.5}, r"tensor y_q: its scale -0.5 is not a power of two"),
        ({"zero": 3}, r"tensor x_q: its zero point is not 0; quantize symmetrically"),
        ({"float_bias": True}, r"the bias of channel 0 is no multiple of 2\^-13"),
        ({"b_scale": 2.0**-16}, r"the bias of channel \d is no multiple of 2\^-13"),
        ({"second_scale": 0.5}, r"tensor x_q: QuantizeLinear and DequantizeLinear have different scales"),
    ],
)
def test_refused(changes, message):
    with pytest.raises(QdqError, match=message):
        fixed_model_from_onnx(convolution_by_another_tool(**changes))


def test_tensor_without_a_format_is_named():
    net = Other()
    w = net.stored("w", np.ones((4, 3, 1, 1), np.int64), 0.5)
    net.node("Conv", [net.pair("x", 0.5), w], "s")
    net.node("MaxPool", ["s"], "y", kernel_shape=[2, 2])
    net.pair("y", 0.5)
    with pytest.raises(QdqError, match="tensor s has no format; put a QuantizeLinear"):
        fixed_model_from_onnx(net.model("y_d"))


def test_weights_without_a_format_are_named():
    net = Other()
    net.node("Conv", [net.pair("x", 0.5), net.constant("w", np.ones((4, 3, 1, 1), np.float32))], "y")
    net.pair("y", 0.5)
    with pytest.raises(QdqError, match="its weights are not quantized"):
        fixed_model_from_onnx(net.model("y_d"))


def test_reader_around_the_quantization_is_refused():
    net = Other()
    net.pair("x", 0.5)
    net.node("Add", ["x", "x_d"], "y")
    net.pair("y", 0.5)
    with pytest.raises(QdqError, match="tensor x: Add reads it without its quantization"):
        fixed_model_from_onnx(net.model("y_d"))


def test_one_tensor_in_two_formats_is_refused():
    net = Other()
    a = net.pair("x", 0.5)
    for name, value, kind in (("s", np.float32(0.25), None), ("z", 0, TensorProto.UINT8)):
        net.constant(name, value, kind)
    net.node("DequantizeLinear", [net.node("QuantizeLinear", ["x", "s", "z"], "x_q2"), "s", "z"], "x_d2")
    net.node("Add", [a, "x_d2"], "y")
    net.pair("y", 0.5)
    with pytest.raises(QdqError, match=r"tensor x: it is quantized in two formats, u8.1 and u8.2"):
        fixed_model_from_onnx(net.model("y_d"))


def test_float_model_and_damaged_files(tmp_path):
    net = Other()
    net.node("Relu", ["x"], "y")
    with pytest.raises(
        QdqError, match="it is not a fixed-point model; make one with `python -m quant calibrate`"
    ):
        fixed_model_from_onnx(net.model("y"))
    write_fixed_model(small_model(), tmp_path / "whole.onnx")
    content = (tmp_path / "whole.onnx").read_bytes()
    (tmp_path / "half.onnx").write_bytes(content[: len(content) // 2])
    for name in ("half.onnx", "missing.onnx"):
        with pytest.raises(ModelError, match=name):
            read_fixed_model(tmp_path / name)
    proto = onnx.load(tmp_path / "whole.onnx")
    proto.metadata_props[0].value = '{"divide": 1}'
    with pytest.raises(QdqError, match=r"pointshift.preparation is damaged .*; calibrate the model again"):
        fixed_model_from_onnx(proto)


def test_width_without_its_clip_is_refused():
    proto = fixed_model_to_onnx(small_model(bits=5))
    clip = next(node for node in proto.graph.node if node.op_type == "Clip" and "clipped" in node.output[0])
    bound = next(tensor for tensor in proto.graph.initializer if tensor.name == clip.input[2])
    bound.CopyFrom(numpy_helper.from_array(np.float32(99), bound.name))
    with pytest.raises(QdqError, match="its metadata says 5 bits, but no Clip to that width"):
        fixed_model_from_onnx(proto)


# writer


def test_model_without_a_format_or_with_too_large_integers_is_not_written(tmp_path):
    path = tmp_path / "m.onnx"
    for break_it, message in (
        (lambda model: model.formats.pop("c"), "tensor c has no format"),
        (lambda model: model.weights.pop("fc"), "fc has no fixed-point weights"),
        (
            lambda model: model.weights["fc"].values.__setitem__((0, 0, 0, 0), 128),
            "weights of fc do not fit 8 bits",
        ),
        (lambda model: model.weights["fc"].bias.__setitem__(0, 2**31), "biases of fc do not fit 32 bits"),
        (
            lambda model: model.formats.update(c=Format(20, True, 0)),
            "tensor c must be 2 to 16 bits wide, not 20",
        ),
    ):
        model = small_model()
        break_it(model)
        with pytest.raises(ValueError, match=message):
            write_fixed_model(model, path)
    assert not list(tmp_path.iterdir())
    assert issubclass(WriteError, ValueError)


def test_types_and_metadata_in_the_file():
    proto = fixed_model_to_onnx(small_model(4, 6, True))
    kinds = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    assert kinds["fc/weight/quantized"] == TensorProto.INT4
    assert kinds["fc/bias/quantized"] == TensorProto.INT32
    assert kinds["x/zero_point"] == TensorProto.INT8
    assert kinds["a/zero_point"] == TensorProto.UINT8
    widths = [
        entry.value
        for node in proto.graph.node
        if node.op_type == "QuantizeLinear"
        for entry in node.metadata_props
        if entry.key == "pointshift.bits"
    ]
    assert widths == ["6"] * 8
    assert proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value == 10
    assert proto.graph.node[-1].op_type == "Softmax"
