"""Real networks on the whole path: accuracy of the formats, every tensor, the RTL with every memory."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from compiler.compile import compile_model
from compiler.error import CompileError
from hw.machine import Machine
from quant.calibrate import calibrate
from quant.data import load_images, prepare
from quant.fixed_model import FixedModel, Preparation
from quant.float_run import run_float
from quant.graph import Graph
from quant.input_gain import with_input_gain
from quant.onnx_import import import_model
from quant.qdq import write_fixed_model
from quant.qdq_import import read_fixed_model
from quant.search import Search
from quant.widths import Widths
from sim import reference
from sim.judge import compare_with_onnxruntime
from sim.run import simulate

SHARED = Path(os.environ.get("POINTSHIFT_SHARED", Path(__file__).parents[2] / "shared"))
MODELS = Path(__file__).parents[1] / "models"
MEMORIES = ("ideal", "stalling", "ulx3s", "random")

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} (models and images) is missing")

CIFAR = Preparation(divide=255.0, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
CAFFE = Preparation(mean=(104.0, 117.0, 123.0), channel_order="BGR", crop=True)
WAKE_WORDS = Preparation(divide=255.0, resize=96, crop=True)
CALIBRATION = SHARED / "data" / "cifar10_jpeg_calibration.npz"
EVALUATION = SHARED / "data" / "cifar10_jpeg_eval.npz"
RESIDUAL_NETWORKS = [("mlperf_resnet8", Preparation()), ("cifar10_resnet20", CIFAR)]


def calibrated(path: Path, data: Path, preparation: Preparation, folder: Path, images: int,
               weight_bits: int | Widths = 8, map_bits: int | Widths = 8,
               **options: object) -> tuple[Graph, FixedModel, Path]:
    """The float graph, for inputs as the fixed-point model takes them, and that as it is read back."""
    graph = import_model(path)
    batches = list(prepare(load_images(data).spread(images), preparation, graph.shapes[graph.input],
                           graph.input_layout))
    model, _ = calibrate(graph, batches, weight_bits, map_bits, preparation, **options)
    file = folder / f"{path.stem}.fixed.onnx"
    write_fixed_model(model, file)
    return with_input_gain(graph, model.preparation.gain), read_fixed_model(file), file


def evaluation_inputs(graph: Graph, data: Path, preparation: Preparation, images: int | None):
    chosen = load_images(data).first(images)
    batches = prepare(chosen, preparation, graph.shapes[graph.input], graph.input_layout)
    return np.concatenate(list(batches)), chosen.labels


def top1(graph: Graph, model: FixedModel, images: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Shares of right answers: float, fixed point."""
    right = np.zeros(2)
    for first in range(0, len(images), 100):
        batch, wanted = images[first:first + 100], labels[first:first + 100]
        exact = run_float(graph, torch.from_numpy(batch))[graph.output].numpy().reshape(len(batch), -1)
        fixed = reference.run(model, reference.prepare_input(model, batch), keep={graph.output})[graph.output]
        right += [(scores.reshape(len(batch), -1).argmax(1) == wanted).sum() for scores in (exact, fixed)]
    return tuple(right / len(images))


def check_rtl(model: FixedModel, images: np.ndarray, memories: tuple[str, ...],
              machine: Machine | None = None) -> dict[str, float]:
    """Run images through the RTL; the mean cycles of an image with each memory."""
    machine = machine or Machine()
    integers = reference.prepare_input(model, images)
    known = reference.run(model, integers[:1])
    program = compile_model(model, machine, integers[0], known)
    cycles = {}
    for memory in memories:
        outcome = simulate(program, model, integers, memory=memory, seed=1)
        assert outcome.bit_exact, f"{memory}: {outcome.problem}"
        assert outcome.images == len(images)
        cycles[memory] = float(np.mean(outcome.cycles))
    return cycles


def check_judge(model: FixedModel, file: Path, images: np.ndarray) -> None:
    verdict = compare_with_onnxruntime(model, file, reference.prepare_input(model, images))
    assert verdict.equal, str(verdict.differences[0])
    assert set(verdict.compared) | set(verdict.not_counted) == set(model.graph.shapes)


def test_bundled_network(tmp_path):
    preparation = Preparation(divide=255.0, channel_order="L")
    graph, model, file = calibrated(MODELS / "lenet5.onnx", MODELS / "fashion_mnist_calibration.npz",
                                    preparation, tmp_path, 200)
    images, labels = evaluation_inputs(graph, MODELS / "fashion_mnist_test.npz", model.preparation, None)
    exact, fixed = top1(graph, model, images, labels)
    assert exact > 0.92
    assert fixed >= exact - 0.005
    check_judge(model, file, images[:8])
    check_rtl(model, images[:2], MEMORIES)


@pytest.mark.parametrize(
    ("weight_bits", "map_bits"),
    [("4", "4"), ("2,node_linear_1=7", "6"), ("8,fc=3", "8,node_conv2d_1=2,input=5")],
)
def test_narrow_and_mixed_widths_in_rtl(tmp_path, weight_bits, map_bits):
    """Every width up to 8 bits runs on the machine, and wider ones are refused by name."""
    preparation = Preparation(divide=255.0, channel_order="L")
    graph, model, file = calibrated(
        MODELS / "lenet5.onnx", MODELS / "fashion_mnist_calibration.npz", preparation, tmp_path, 50,
        Widths.parse(weight_bits), Widths.parse(map_bits),
    )
    images, _ = evaluation_inputs(graph, MODELS / "fashion_mnist_test.npz", model.preparation, 2)
    check_judge(model, file, images)
    check_rtl(model, images[:1], ("ideal",))


def test_widths_beyond_the_machine_are_refused_by_name(tmp_path):
    _, model, _ = calibrated(
        MODELS / "lenet5.onnx", MODELS / "fashion_mnist_calibration.npz",
        Preparation(divide=255.0, channel_order="L"), tmp_path, 5,
        Widths.parse("8,node_conv2d_1=9"), Widths.parse("8,scores=12"),
    )
    image = np.zeros((1, 28, 28), np.int64)
    with pytest.raises(CompileError) as refusal:
        compile_model(model, Machine(), image, reference.run(model, image[None]))
    assert "node_conv2d_1: weights of 9 bits, the machine has 8" in str(refusal.value)
    assert "scores: activations of 12 bits, the machine has 8" in str(refusal.value)


@needs_shared
@pytest.mark.parametrize(("name", "preparation"), RESIDUAL_NETWORKS)
def test_residual_networks(tmp_path, name, preparation):
    path = SHARED / "models" / f"{name}.onnx"
    graph, model, file = calibrated(path, CALIBRATION, preparation, tmp_path, 100)
    images, _ = evaluation_inputs(graph, EVALUATION, model.preparation, 100)
    exact = run_float(graph, torch.from_numpy(images))[graph.output].numpy().reshape(len(images), -1)
    integers = reference.prepare_input(model, images)
    fixed = reference.run(model, integers, keep={graph.output})[graph.output].reshape(len(images), -1)
    assert (exact.argmax(1) == fixed.argmax(1)).mean() >= 0.93
    check_judge(model, file, images[:2])
    check_rtl(model, images[:1], MEMORIES)


@needs_shared
@pytest.mark.slow
@pytest.mark.parametrize(("name", "preparation", "drop"), [
    (*case, drop) for case, drop in zip(RESIDUAL_NETWORKS, (0.02, 0.007))])
def test_accuracy_on_all_images(tmp_path, name, preparation, drop):
    path = SHARED / "models" / f"{name}.onnx"
    graph, model, _ = calibrated(path, CALIBRATION, preparation, tmp_path, 200)
    images, labels = evaluation_inputs(graph, EVALUATION, model.preparation, None)
    exact, fixed = top1(graph, model, images, labels)
    assert fixed >= exact - drop
    _, plain, _ = calibrated(path, CALIBRATION, preparation, tmp_path, 200, search=Search.paper("max"))
    assert fixed >= top1(graph, plain, images, labels)[1]


@needs_shared
@pytest.mark.slow
@pytest.mark.parametrize(("name", "preparation"), RESIDUAL_NETWORKS)
def test_sixteen_images_with_every_memory(tmp_path, name, preparation):
    graph, model, _ = calibrated(SHARED / "models" / f"{name}.onnx", CALIBRATION, preparation, tmp_path, 200)
    images, _ = evaluation_inputs(graph, EVALUATION, model.preparation, 16)
    check_rtl(model, images, MEMORIES)


@needs_shared
@pytest.mark.slow
@pytest.mark.parametrize(("name", "preparation"), [("squeezenet_v1_0_imagenet", CAFFE),
                                                   ("mlperf_vww", WAKE_WORDS)])
def test_image_folder_networks(tmp_path, name, preparation):
    graph, model, file = calibrated(SHARED / "models" / f"{name}.onnx", SHARED / "data" / "imagenet_sample",
                                    preparation, tmp_path, 24)
    images, _ = evaluation_inputs(graph, SHARED / "data" / "imagenet_sample", model.preparation, 1)
    check_judge(model, file, images)
    check_rtl(model, images, ("ideal",))
