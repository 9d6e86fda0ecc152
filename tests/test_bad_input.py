"""Every command line with hostile arguments: one line that says what to do, and nothing half-written."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import boards.__main__ as boards_command
import compiler.__main__ as compiler_command
import hw.verilog as verilog_command
import quant.__main__ as quant_command
import sim.__main__ as sim_command
import sw_driver.__main__ as driver_command
from hw.program_file import ProgramFile, ProgramFileError

ROOT = Path(__file__).parents[1]
COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "quant": quant_command.main,
    "compiler": compiler_command.main,
    "sim": sim_command.main,
    "sw_driver": driver_command.main,
    "boards": boards_command.main,
    "hw.verilog": verilog_command.main,
}


def float_model(
    *, shape: tuple = (1, 3, 8, 8), weight: float = 1.0, operators: tuple = ("Relu",)
) -> onnx.ModelProto:
    """A convolution, some operators, a pool and a fully connected layer."""
    random = np.random.default_rng(3)
    w = random.normal(size=(4, 3, 3, 3)).astype(np.float32)
    w[0, 0, 0, 0] *= weight
    nodes = [helper.make_node("Conv", ["x", "w"], ["t0"], name="conv", pads=[1, 1, 1, 1])]
    for number, operator in enumerate(operators):
        ends = [f"t{number}"], [f"t{number + 1}"]
        nodes.append(helper.make_node(operator, *ends, name=f"{operator}_{number}"))
    nodes += [
        helper.make_node("GlobalAveragePool", [f"t{len(operators)}"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "v"], ["y"], name="fc"),
    ]
    v = random.normal(size=(4, 5)).astype(np.float32)
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [shape[0], 5])],
        [numpy_helper.from_array(w, "w"), numpy_helper.from_array(v, "v")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def with_scale(path: Path, target: Path, scale: float, zero: int = 0) -> None:
    """A copy of a fixed-point file in which the feature map of the convolution has another scale."""
    model = onnx.load(path)
    quantizers = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    node = next(node for node in quantizers if node.input[0] != "x")
    for tensor in model.graph.initializer:
        if tensor.name == node.input[1]:
            tensor.CopyFrom(numpy_helper.from_array(np.float32(scale), tensor.name))
        if tensor.name == node.input[2]:
            kind = numpy_helper.to_array(tensor).dtype
            tensor.CopyFrom(numpy_helper.from_array(np.array(zero, kind), tensor.name))
    onnx.save(model, target)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with good files and bad ones."""
    folder = tmp_path_factory.mktemp("files")
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (6, 8, 8, 3)).astype(np.uint8)
    os.chdir(folder)
    onnx.save(float_model(), "float.onnx")
    np.savez("data.npz", images=images, labels=np.arange(6) % 5)
    np.save("image.npy", images[0])
    command = "calibrate float.onnx --data data.npz -o fixed.onnx --quiet"
    assert quant_command.main(command.split()) == 0
    assert compiler_command.main(["fixed.onnx", "-o", "net.prog", "--quiet"]) == 0
    whole = Path("float.onnx").read_bytes()
    Path("cut.onnx").write_bytes(whole[: len(whole) // 2])
    Path("empty.onnx").write_bytes(b"")
    Path("text.onnx").write_text("this is not a model\n")
    onnx.save(float_model(operators=("Relu", "HardSwish", "Relu", "Elu")), "operators.onnx")
    onnx.save(float_model(shape=("n", 3, "h", "w")), "open.onnx")
    onnx.save(float_model(weight=float("nan")), "nan.onnx")
    with_scale(Path("fixed.onnx"), Path("scale.onnx"), 0.3)
    with_scale(Path("fixed.onnx"), Path("zero.onnx"), 0.25, 3)
    np.savez("none.npz", images=images[:0])
    np.savez("grey.npz", images=images[..., :1])
    np.savez("small.npz", images=images[:, :5])
    np.savez("nan.npz", images=np.where(np.arange(6 * 192).reshape(images.shape) == 777, np.nan, images))
    np.savez("labels.npz", images=images, labels=np.arange(4))
    np.savez("words.npz", images=np.array([["a", "b"]]))
    np.savez("other.npz", pictures=images)
    np.save("small.npy", images[0, :5])
    Path("cut.npz").write_bytes(Path("data.npz").read_bytes()[:300])
    Path("picture.png").write_text("no picture")
    Path("folder").mkdir()
    program = Path("net.prog").read_bytes()
    Path("cut.prog").write_bytes(program[: len(program) // 2])
    with zipfile.ZipFile("zip.prog", "w") as archive:
        archive.writestr("hello.txt", "hello")
    Path("machine.json").write_text('{"lanes": 3}')
    os.chdir(ROOT)
    return folder


@pytest.fixture
def files(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder as the current one; afterwards it must hold what it held before."""
    monkeypatch.chdir(prepared)
    before = {path: path.stat().st_mtime_ns for path in prepared.rglob("*") if path.is_file()}
    yield prepared
    assert {path: path.stat().st_mtime_ns for path in prepared.rglob("*") if path.is_file()} == before


CALIBRATE = "quant calibrate {} --data {} -o out.onnx --quiet"
CASES = [
    # models
    ("quant inspect none.onnx", "none.onnx: no such file"),
    ("quant inspect folder", "a folder, not an ONNX file"),
    ("quant inspect cut.onnx", "not a whole ONNX file"),
    ("quant inspect empty.onnx", "not a whole ONNX file"),
    ("quant inspect text.onnx", "not a whole ONNX file"),
    ("quant inspect net.prog", "not a whole ONNX file"),
    ("quant inspect data.npz", "not a whole ONNX file"),
    ("quant inspect open.onnx", "give it with --input-shape C,H,W"),
    ("quant inspect open.onnx --input-shape 4,8,8", "does not fit"),
    ("quant inspect float.onnx --json no/x.json", "the folder no does not exist"),
    (CALIBRATE.format("none.onnx", "data.npz"), "none.onnx: no such file"),
    (CALIBRATE.format("cut.onnx", "data.npz"), "not a whole ONNX file"),
    (CALIBRATE.format("open.onnx", "data.npz"), "give it with --input-shape C,H,W"),
    (CALIBRATE.format("nan.onnx", "data.npz"), "the tensor w holds 1 values that are not finite"),
    (CALIBRATE.format("fixed.onnx", "data.npz"), "it is a fixed-point model already"),
    (CALIBRATE.format("net.prog", "data.npz"), "not a whole ONNX file"),
    # images
    (CALIBRATE.format("float.onnx", "none"), "none: no such file or folder"),
    (CALIBRATE.format("float.onnx", "folder"), "the folder holds no images"),
    (CALIBRATE.format("float.onnx", "none.npz"), "it holds no images"),
    (CALIBRATE.format("float.onnx", "grey.npz"), "do not have the network's 3 channels"),
    (CALIBRATE.format("float.onnx", "small.npz"), "5x8 pixels, but the network's input is 8x8"),
    (CALIBRATE.format("float.onnx", "nan.npz"), "image 4: holds NaN or infinity"),
    (CALIBRATE.format("float.onnx", "labels.npz"), "6 images need as many integer labels"),
    (CALIBRATE.format("float.onnx", "words.npz"), "images must be numbers"),
    (CALIBRATE.format("float.onnx", "other.npz"), "no array called images, only pictures"),
    (CALIBRATE.format("float.onnx", "cut.npz"), "not a readable NumPy file"),
    (CALIBRATE.format("float.onnx", "picture.png"), "not a readable image"),
    (CALIBRATE.format("float.onnx", "float.onnx"), "images come as an .npz or .npy file"),
    (CALIBRATE.format("float.onnx", "data.npz") + " --weight-bits 1", "2 to 16"),
    (CALIBRATE.format("float.onnx", "data.npz") + " --activation-bits 99", "2 to 16"),
    (CALIBRATE.format("float.onnx", "data.npz") + " --divide 0", "must be finite and not 0"),
    (CALIBRATE.format("float.onnx", "data.npz") + " --divide nan", "must be finite and not 0"),
    (CALIBRATE.format("float.onnx", "data.npz") + " --mean 1,2", "mean has 2 values"),
    (CALIBRATE.format("float.onnx", "data.npz") + " --std 0", "not 0"),
    (CALIBRATE.format("float.onnx", "data.npz") + " --json no/x.json", "the folder no does not exist"),
    ("quant calibrate float.onnx --data data.npz -o no/out.onnx", "the folder no does not exist"),
    ("quant calibrate float.onnx --data data.npz -o folder", "it is a folder"),
    ("quant calibrate float.onnx --data data.npz -o image.npy/x.onnx", "image.npy is not a folder"),
    # evaluation
    ("quant evaluate net.prog --data data.npz", "not a whole ONNX file"),
    ("quant evaluate float.onnx --data data.npz", "calibrate"),
    ("quant evaluate scale.onnx --data data.npz", "is not a power of two"),
    ("quant evaluate zero.onnx --data data.npz", "zero point"),
    ("quant evaluate fixed.onnx --data none.npz", "it holds no images"),
    ("quant evaluate fixed.onnx --data data.npz --json no/x.json", "the folder no does not exist"),
    ("quant evaluate fixed.onnx --data data.npz --float fixed.onnx", "it is a fixed-point model already"),
    ("quant evaluate fixed.onnx --data data.npz --float open.onnx --json folder", "it is a folder"),
    # compiler
    ("compiler none.onnx", "none.onnx: no such file"),
    ("compiler float.onnx", "calibrate"),
    ("compiler operators.onnx", "calibrate"),
    ("compiler cut.onnx", "not a whole ONNX file"),
    ("compiler net.prog -o x.prog", "not a whole ONNX file"),
    ("compiler image.npy", "not a whole ONNX file"),
    ("compiler scale.onnx", "scale 0.3"),
    ("compiler zero.onnx", "its zero point is not 0"),
    ("compiler fit none.onnx --board ecp5", "none.onnx: no such file"),
    ("compiler fit float.onnx --board ecp5", "calibrate"),
    ("compiler fit cut.onnx --board ecp5", "not a whole ONNX file"),
    ("compiler fit fixed.onnx --board nobody", "no board is called nobody"),
    ("compiler fit fixed.onnx --board icebreaker", "area model for ECP5 parts only"),
    ("compiler fit fixed.onnx --board ecp5 -o folder", "it is a folder"),
    ("compiler fit fixed.onnx --board ecp5 --json no/x.json", "the folder no does not exist"),
    ("compiler fit fixed.onnx --board ecp5 --clock nan", "--clock must be 1 to 500 MHz"),
    ("compiler fit fixed.onnx --board ecp5 --backend nobody", "Invalid backend: nobody"),
    ("compiler fixed.onnx -o no/net.prog", "the folder no does not exist"),
    ("compiler fixed.onnx -o folder", "it is a folder"),
    ("compiler fixed.onnx -o x.prog --json no/x.json", "the folder no does not exist"),
    ("compiler fixed.onnx -o x.prog --lanes 0x0", "input_lanes must be"),
    ("compiler fixed.onnx -o x.prog --machine machine.json", "machine.json: not a machine's description"),
    ("compiler fixed.onnx -o x.prog --machine data.npz", "data.npz: not a machine's description"),
    ("compiler fixed.onnx -o x.prog --known-input data.npz", "data.npz: holds several arrays"),
    ("compiler fixed.onnx -o x.prog --known-input picture.png", "picture.png: not a numpy array"),
    ("compiler fixed.onnx -o x.prog --known-input image.npy", "must hold integers of the shape"),
    ("compiler disassemble none.prog", "none.prog: no such file"),
    ("compiler disassemble fixed.onnx", "not a whole program file"),
    ("compiler disassemble cut.prog", "not a whole program file"),
    ("compiler disassemble folder", "not a whole program file"),
    # simulation
    ("sim run none.onnx --data data.npz --output out", "none.onnx: no such file"),
    ("sim run fixed.onnx --data none --output out", "none: no such file or folder"),
    ("sim run fixed.onnx --data none.npz --output out", "it holds no images"),
    ("sim run fixed.onnx --data grey.npz --output out", "do not have the network's 3 channels"),
    ("sim run fixed.onnx --data data.npz --output out --json no/x.json", "the folder no does not exist"),
    ("sim run fixed.onnx --data data.npz --output data.npz/out", "data.npz/out"),
    ("sim run fixed.onnx --data data.npz --output out --lanes 8by8", "lanes are given as INPUTxOUTPUT"),
    ("sim run fixed.onnx --data data.npz --output out --float none.onnx", "none.onnx: no such file"),
    ("sim run scale.onnx --data data.npz --output out", "is not a power of two"),
    ("sim run net.prog --data data.npz --output out", "not a whole ONNX file"),
    ("sim run open.onnx --data data.npz --output out", "give it with --input-shape C,H,W"),
    ("sim run nan.onnx --data data.npz --output out", "not finite"),
    ("sim demo --lanes x --output out", "lanes are given as INPUTxOUTPUT"),
    # driver
    ("sw_driver run none.prog --link sim --input image.npy", "none.prog: no such file"),
    ("sw_driver run fixed.onnx --link sim --input image.npy", "not a whole program file"),
    ("sw_driver run cut.prog --link sim --input image.npy", "not a whole program file"),
    ("sw_driver run zip.prog --link sim --input image.npy", "not a whole program file"),
    ("sw_driver run folder --link sim --input image.npy", "not a whole program file"),
    ("sw_driver run net.prog --link sim --input none.png", "none.png: no such file"),
    ("sw_driver run net.prog --link sim --input folder", "folder"),
    ("sw_driver run net.prog --link sim --input picture.png", "not a readable image"),
    ("sw_driver run net.prog --link sim --input small.npy", "does not fit the network's input"),
    ("sw_driver run net.prog --link sim --input nan.npz", "holds NaN or infinity"),
    ("sw_driver run net.prog --link sim --input words.npz", "it holds no images"),
    ("sw_driver run net.prog --link sim --input cut.npz", "not a readable NumPy file"),
    ("sw_driver run net.prog --link sim --input image.npy --images 0", "--images must be at least 1"),
    ("sw_driver run net.prog --link sim --input image.npy --json no/x.json", "the folder no does not exist"),
    ("sw_driver run net.prog --link nothing --input image.npy", "no such link"),
    ("sw_driver run net.prog --link serial: --input image.npy", "no such link"),
    ("sw_driver run net.prog --link serial:/dev/null --input image.npy", "serial:/dev/null"),
    ("sw_driver run net.prog --link serial:image.npy --input image.npy", "serial:image.npy"),
    ("sw_driver selftest none.prog --link sim", "none.prog: no such file"),
    ("sw_driver selftest net.prog --link serial:/dev/none", "cannot open the port"),
    ("sw_driver info picture.png", "not a whole program file"),
    ("sw_driver info net.prog --json folder", "it is a folder"),
    ("sw_driver counters --link sim", "needs a program"),
    ("sw_driver counters --link serial:/dev/none", "cannot open the port"),
    # boards and Verilog
    ("boards build none", "no board is called none"),
    ("boards build ecp5 --tries 0", "tries must be at least 1"),
    ("boards build ecp5 --machine nonsense", "is not a JSON object of machine fields"),
    ("boards build ecp5 --machine []", "is not a JSON object of machine fields"),
    ("boards build ecp5 --machine data.npz", "is not a JSON object of machine fields"),
    ('boards build ecp5 --machine {"input_lanes":5}', "input_lanes must be"),
    ("boards build ecp5 --quiet --clock 0", "clock"),
    ("boards build ecp5 --quiet --clock nan", "clock"),
    ("boards build ecp5 --quiet --baud 0", "baud"),
    ("boards build ecp5 --output image.npy", "image.npy"),
    ("hw.verilog -o no/core.v", "the folder no does not exist"),
    ("hw.verilog -o folder", "it is a folder"),
    ("hw.verilog -o core.v --input-lanes 5", "input_lanes must be"),
    ("hw.verilog -o core.v --machine none.json", "none.json: not a machine description"),
    ("hw.verilog -o core.v --machine data.npz", "data.npz: not a machine description"),
]


@pytest.mark.parametrize(("line", "words"), CASES, ids=[line for line, _ in CASES])
def test_one_line_and_nothing_written(
    line: str, words: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, *arguments = line.split(" ")
    assert COMMANDS[command](arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1, error
    assert words in error
    assert ".part" not in error


@pytest.mark.parametrize(
    "line",
    [
        *("quant", "quant nonsense", "quant inspect", "quant calibrate float.onnx --data data.npz"),
        *("quant inspect float.onnx --input-shape 3", "quant inspect float.onnx --input-shape a,b,c"),
        "quant calibrate float.onnx --data data.npz -o x.onnx --images 0",
        "quant calibrate float.onnx --data data.npz -o x.onnx --mean a",
        "quant evaluate fixed.onnx --data data.npz --images -1",
        *("compiler", "compiler fixed.onnx --bus-width x", "compiler disassemble"),
        *("sim", "sim run", "sim run fixed.onnx", "sim run fixed.onnx --data data.npz --images 0"),
        *("sim run fixed.onnx --data data.npz --mean a,b", "sim run fixed.onnx --data data.npz --memory x"),
        "sim run fixed.onnx --data data.npz --images many",
        *("sw_driver", "sw_driver run", "sw_driver run net.prog --link sim", "sw_driver nonsense"),
        "sw_driver run net.prog --link sim --input image.npy --images x",
        "sw_driver run net.prog --link sim --input image.npy --link-timeout x",
        *("boards", "boards build", "boards build ecp5 --megabytes x", "boards build ecp5 --seed x"),
        *("hw.verilog", "hw.verilog -o x.v --name", "hw.verilog -o x.v --multiplier none"),
    ],
)
def test_wrong_usage(line: str, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command, *arguments = line.split(" ")
    with pytest.raises(SystemExit) as stop:
        COMMANDS[command](arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("usage: ")
    assert error.splitlines()[-1].startswith("python -m ")
    assert "_" not in error.splitlines()[-1].replace("sw_driver", "")  # no name of a Python function


@pytest.mark.parametrize(
    "line",
    [
        "quant",
        "quant inspect",
        "quant calibrate",
        "quant evaluate",
        "quant compare",
        "quant sweep",
        "compiler",
        "compiler disassemble",
        "sim",
        "sim run",
        "sim demo",
        "sw_driver",
        "sw_driver run",
        "sw_driver selftest",
        "sw_driver info",
        "sw_driver counters",
        "sw_driver calibrate",
        "boards",
        "boards list",
        "boards build",
        "hw.verilog",
    ],
)
def test_every_help_has_an_example(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    command, *arguments = line.split(" ")
    with pytest.raises(SystemExit) as stop:
        COMMANDS[command]([*arguments, "--help"])
    assert stop.value.code == 0
    examples = capsys.readouterr().out.partition("example")[2]
    assert f"python -m {line}" in examples


def test_all_unsupported_operators_at_once(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert quant_command.main(["inspect", "operators.onnx"]) == 1
    printed = capsys.readouterr()
    assert printed.err == "error: operators.onnx: 2 of 8 nodes are refused\n"
    for name in ("HardSwish_1 (HardSwish): ", "Elu_3 (Elu): "):
        assert name in printed.out
    for line in (
        CALIBRATE.format("operators.onnx", "data.npz"),
        "sim run operators.onnx --data data.npz --output out",
    ):
        command, *arguments = line.split(" ")
        assert COMMANDS[command](arguments) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: operators: 2 nodes cannot be imported:\n")
        for name in ("HardSwish_1 (HardSwish): ", "Elu_3 (Elu): "):
            assert name in error


def test_open_shape_can_be_given(prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fixed, report = tmp_path / "open.fixed.onnx", tmp_path / "report.json"
    data = ["--data", str(prepared / "data.npz"), "--quiet"]
    model = str(prepared / "open.onnx")
    arguments = [model, *data, "--input-shape", "3,8,8", "-o", str(fixed)]
    assert quant_command.main(["calibrate", *arguments]) == 0
    # the fixed-point model knows the shape
    assert quant_command.main(["evaluate", str(fixed), "--float", model, *data, "--json", str(report)]) == 0
    assert json.loads(report.read_text())["onnxruntime_equal"] == 1


@pytest.mark.parametrize("name", ["net.prog", "data.npz", "image.npy", "float.onnx", "fixed.onnx"])
def test_damaged_files(name: str, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bits flipped and bytes cut off anywhere: an error of one line, or a file that still can be read."""
    whole = (prepared / name).read_bytes()
    random = np.random.default_rng(5)
    path = tmp_path / name
    commands = {
        ".prog": ["sw_driver", "info", str(path)],
        ".onnx": ["quant", "inspect", str(path)],
    }
    images = ["sw_driver", "run", str(prepared / "net.prog"), "--link", "nothing", "--input", str(path)]
    command, *arguments = commands.get(path.suffix, images)
    for number in range(150):
        content = bytearray(whole)
        if number % 3 == 0:
            del content[int(random.integers(len(whole))) :]
        else:
            for position in random.integers(0, len(whole), 1 + number % 3):
                content[position] ^= 1 << int(random.integers(8))
        path.write_bytes(content)
        code = COMMANDS[command](arguments)
        error = capsys.readouterr().err
        assert code in (0, 1)
        assert error.count("\n") == code, (number, error)
        assert error.startswith("error: ") or code == 0


def test_program_with_flipped_bits_is_refused(prepared: Path, tmp_path: Path) -> None:
    """What a program holds is under checksums: a change is either found or changes nothing."""
    whole = ProgramFile.load(prepared / "net.prog")
    content = (prepared / "net.prog").read_bytes()
    random = np.random.default_rng(6)
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        damaged[int(random.integers(len(content)))] ^= 1 << int(random.integers(8))
        (tmp_path / "damaged.prog").write_bytes(damaged)
        try:
            program = ProgramFile.load(tmp_path / "damaged.prog")
        except ProgramFileError:
            refused += 1
            continue
        assert program.segments == whole.segments
        assert (program.input, program.output, program.layers) == (whole.input, whole.output, whole.layers)
    assert refused > 200


@pytest.mark.parametrize("garbage", [b"", b"hello\r\n", bytes(range(256))])
def test_link_that_is_silent_or_answers_garbage(
    garbage: bytes, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    master, slave = pty.openpty()
    stop = threading.Event()

    def answer() -> None:
        while not stop.wait(0.02):
            if garbage:
                os.write(master, garbage)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        link = ["--link", f"serial:{os.ttyname(slave)}", "--link-timeout", "0.05"]
        assert driver_command.main(["selftest", "net.prog", *link]) == 1
    finally:
        stop.set()
        thread.join()
        os.close(slave)
        os.close(master)
    error = capsys.readouterr().err
    assert error.startswith("error: serial:")
    assert error.count("\n") == 1
    assert "check that" in error or "check the baud rate" in error


@pytest.mark.parametrize(
    ("command", "module", "function"),
    [
        ([*CALIBRATE.format("float.onnx", "data.npz").split()], "quant.calibrate", "calibrate"),
        (["quant", "evaluate", "fixed.onnx", "--data", "data.npz"], "quant.evaluate", "evaluate"),
        (["compiler", "fixed.onnx", "-o", "out.prog"], "compiler.__main__", "compile_passes"),
        (["sim", "run", "fixed.onnx", "--data", "data.npz"], "sim.run_command", "load_images"),
        (["sw_driver", "info", "net.prog"], "sw_driver.__main__", "_write"),
        (["boards", "build", "ecp5", "--output", "out"], "boards.__main__", "build"),
        (["hw.verilog", "-o", "out.v"], "hw.verilog", "verilog_of"),
    ],
)
def test_interrupted(
    command: list[str],
    module: str,
    function: str,
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"{module}.{function}", interrupt)
    extra = ["--json", "out.json"] if command[0] == "sw_driver" else []
    assert COMMANDS[command[0]]([*command[1:], *extra]) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def test_interrupted_while_starting(files: Path, tmp_path: Path) -> None:
    """Control-C while the command still loads its libraries, as a user who saw the typing mistake does."""
    (tmp_path / "onnx.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    done = subprocess.run(
        [sys.executable, "-m", "quant", "calibrate", "float.onnx", "--data", "data.npz", "-o", "out.onnx"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True, text=True, check=False, timeout=60,
    )
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["MODEL=none.onnx", "DATA=data.npz"], "none.onnx: no such file"),
        (["MODEL=fixed.onnx", "DATA=none.npz"], "it holds no images"),
        (["MODEL=fixed.onnx"], "needs images, too: DATA=images.npz"),
        (["MODEL=fixed.onnx", "DATA=data.npz", "IMAGES=0"], "argument --images"),
    ],
)
@pytest.mark.skipif(shutil.which("make") is None, reason="make is missing")
def test_make_sim(settings: list[str], words: str, files: Path) -> None:
    given = [f"{name}={files / value}" if name in ("MODEL", "DATA") else text
             for text in settings for name, _, value in [text.partition("=")]]
    # READY: as if it were installed, with this interpreter
    command = ["make", "-s", "-C", str(ROOT), "sim", *given, f"PY={sys.executable}", "READY="]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr
