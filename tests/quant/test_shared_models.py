"""Accuracy on the shared networks: the bars of the benchmark, on held-out images."""

import os
from pathlib import Path

import numpy as np
import pytest

from quant.calibrate import calibrate
from quant.data import load_images, prepare
from quant.evaluate import evaluate
from quant.fixed_model import Preparation
from quant.onnx_import import import_model
from quant.qdq import write_fixed_model
from quant.qdq_import import read_fixed_model
from quant.search import Search
from sim.judge import compare_with_onnxruntime
from sim.reference import prepare_input

SHARED = Path(os.environ.get("POINTSHIFT_SHARED", Path(__file__).parents[2].parent / "shared"))
pytestmark = pytest.mark.skipif(not (SHARED / "models").is_dir(), reason=f"no shared models in {SHARED}")

CIFAR = Preparation(255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PREPARATIONS = {
    "mlperf_resnet8": Preparation(),
    "cifar10_resnet20": CIFAR,
    "mlperf_vww": Preparation(255.0, resize=96, crop=True),
    "squeezenet_v1_0_imagenet": Preparation(1.0, (104.0, 117.0, 123.0), (1.0,), "BGR", crop=True),
}


def calibrated(name, images, **options):
    graph = import_model(SHARED / "models" / f"{name}.onnx")
    preparation = PREPARATIONS[name]
    batches = prepare(images, preparation, graph.shapes[graph.input], graph.input_layout, batch_size=25)
    model, _ = calibrate(graph, batches, preparation=preparation, **options)
    return graph, model


def cifar(name, tmp_path, count, **options):
    """Evaluation of a network on the first images of the evaluation set."""
    images = load_images(SHARED / "data" / "cifar10_jpeg_calibration.npz").spread(200)
    graph, model = calibrated(name, images, **options)
    path = tmp_path / f"{name}.onnx"
    write_fixed_model(model, path)
    held_out = load_images(SHARED / "data" / "cifar10_jpeg_eval.npz").first(count)
    return evaluate(read_fixed_model(path), path, held_out, graph)


@pytest.mark.parametrize(
    ("name", "drop", "agreement"), [("mlperf_resnet8", 0.02, 0.94), ("cifar10_resnet20", 0.007, 0.96)]
)
def test_cifar10_within_the_bar(tmp_path, name, drop, agreement):
    found = cifar(name, tmp_path, 400)
    # 400 images resolve a quarter of a point
    assert found.float_top1 - found.fixed_top1 <= drop + 0.005
    assert found.agreement >= agreement
    assert found.onnxruntime_equal == 1.0
    assert not found.not_exact_in_float


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "drop", "largest_magnitude"),
    [("mlperf_resnet8", 0.02, 0.732), ("cifar10_resnet20", 0.007, 0.810)],
)
def test_cifar10_within_the_bar_on_the_whole_evaluation_set(tmp_path, name, drop, largest_magnitude):
    found = cifar(name, tmp_path, None)
    assert found.images == 2000
    assert found.float_top1 - found.fixed_top1 <= drop
    assert found.fixed_top1 >= largest_magnitude
    assert found.onnxruntime_equal == 1.0
    by_magnitude = cifar(name, tmp_path, None, search=Search.paper("max"))
    assert found.agreement >= by_magnitude.agreement


@pytest.mark.parametrize("name", sorted(PREPARATIONS))
def test_every_tensor_equals_onnxruntime(tmp_path, name):
    """Also the file: what is read back is what was written."""
    small = name in ("mlperf_resnet8", "cifar10_resnet20")
    source = "cifar10_jpeg_calibration.npz" if small else "imagenet_sample"
    images = load_images(SHARED / "data" / source).spread(20 if small else 4)
    _, model = calibrated(name, images)
    path = tmp_path / "fixed.onnx"
    write_fixed_model(model, path)
    found = read_fixed_model(path)
    assert found.formats == model.formats
    assert found.graph.nodes[0].name == model.graph.nodes[0].name
    inputs = np.concatenate(
        list(prepare(images.first(2), model.preparation, model.graph.shapes[model.graph.input]))
    )
    verdict = compare_with_onnxruntime(found, path, prepare_input(found, inputs))
    assert verdict.equal, verdict.differences[0]
    assert len(verdict.compared) == len(model.graph.nodes) + 1


@pytest.mark.slow
def test_squeezenet_agrees_with_float(tmp_path):
    """Every fourth image calibrates, the rest is held out: 80 % is what the largest magnitude gives."""
    images = load_images(SHARED / "data" / "imagenet_sample")
    graph, model = calibrated("squeezenet_v1_0_imagenet", images.take(range(0, 200, 4)))
    path = tmp_path / "fixed.onnx"
    write_fixed_model(model, path)
    rest = images.take([index for index in range(200) if index % 4])
    found = evaluate(model, path, rest, graph)
    assert found.agreement >= 0.85
    assert found.float_top1 - found.fixed_top1 <= 0.03
