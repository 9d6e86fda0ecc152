"""The `.prog` file: round trip, feature-map layout, and every kind of damage."""

import json
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.machine import Machine
from hw.program_file import Layer, ProgramFile, ProgramFileError, Segment, TensorPlace


def example() -> ProgramFile:
    place = TensorPlace("image", (3, 4, 5), 8, False, 0, 1024, 4)
    result = TensorPlace("scores", (10, 1, 1), 6, True, 3, 2048)
    return ProgramFile(
        name="example", machine=Machine(), memory_bytes=4096, program_address=64,
        segments=[Segment("program", 64, bytes(range(64))), Segment("weights", 256, b"\xff" * 99)],
        input=place, output=result, output_shape=(10,),
        layers=[Layer(0, "fc", "dense", 600, result, 0x12345678)],
        known_input=np.arange(60).reshape(3, 4, 5), known_output=np.arange(-5, 5).reshape(10, 1, 1),
        preparation={"divide": 255.0}, host_operations=("Softmax",), input_layout="NHWC")


def test_round_trip(tmp_path):
    program = example()
    program.save(tmp_path / "a.prog")
    again = ProgramFile.load(tmp_path / "a.prog")
    assert again.known_input.tolist() == program.known_input.tolist()
    assert again.known_output.tolist() == program.known_output.tolist()
    for name in ("machine", "segments", "input", "output", "output_shape", "layers", "preparation",
                 "host_operations", "input_layout", "memory_bytes", "program_address", "name"):
        assert getattr(again, name) == getattr(program, name), name
    again.save(tmp_path / "b.prog")
    assert (tmp_path / "a.prog").read_bytes() == (tmp_path / "b.prog").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.prog", "b.prog"]


def test_missing_file(tmp_path):
    with pytest.raises(ProgramFileError, match="no such file"):
        ProgramFile.load(tmp_path / "none.prog")


@pytest.mark.parametrize("where", [0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_damage_is_found(tmp_path, where):
    path = tmp_path / "a.prog"
    example().save(path)
    whole = path.read_bytes()
    position = int(where * len(whole))
    path.write_bytes(whole[:position])
    with pytest.raises(ProgramFileError, match="compile the model again"):
        ProgramFile.load(path)


def rewrite(path, change):
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = json.loads(members["program.json"])
    change(header)
    members["program.json"] = json.dumps(header).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(("change", "message"), [
    (lambda h: h.update(format=99), "format 99 is not"),
    (lambda h: h.update(digest="0" * 16), "another version of the instruction set"),
    (lambda h: h["machine"].update(input_lanes=5), "input_lanes must be 4, 8 or 16"),
    (lambda h: h.pop("layers"), "incomplete header"),
    (lambda h: h["input"].pop("fl"), "incomplete header"),
    (lambda h: h["segments"].append({"name": "more", "address": 0}), "not a whole program file"),
])
def test_bad_header(tmp_path, change, message):
    path = tmp_path / "a.prog"
    example().save(path)
    rewrite(path, change)
    with pytest.raises(ProgramFileError, match=message):
        ProgramFile.load(path)


@given(channels=st.integers(1, 40), rows=st.integers(1, 6), columns=st.integers(1, 6),
       signed=st.booleans(), word_bytes=st.sampled_from([4, 8, 16]), pixel_bytes=st.sampled_from([None, 4]),
       seed=st.integers(0, 99))
@settings(deadline=None, max_examples=50)
def test_feature_map_layout(channels, rows, columns, signed, word_bytes, pixel_bytes, seed):
    place = TensorPlace("x", (channels, rows, columns), 8, signed, 0, 0, pixel_bytes)
    low = -128 if signed else 0
    values = np.random.default_rng(seed).integers(low, low + 256, place.shape)
    memory = place.pack(values, word_bytes)
    assert len(memory) == place.byte_count(word_bytes)
    assert (place.unpack(memory, word_bytes) == values).all()
    word_bytes = pixel_bytes or word_bytes
    c, h, w = channels - 1, rows - 1, columns - 1
    position = ((c // word_bytes * rows + h) * columns + w) * word_bytes + c % word_bytes
    assert memory[position] == values[c, h, w] & 255


def test_pack_refuses():
    place = TensorPlace("x", (1, 2, 2), 6, True, 0, 0)
    with pytest.raises(ValueError, match="has the shape"):
        place.pack(np.zeros((1, 2, 3), int), 16)
    with pytest.raises(ValueError, match="x must be -32 to 31"):
        place.pack(np.full((1, 2, 2), 32), 16)
