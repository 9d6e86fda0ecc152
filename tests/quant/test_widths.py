"""Widths by name: what fits, what the last exception does, what is refused."""

import numpy as np
import pytest

from quant.graph import Convolution, Graph, MaxPool
from quant.number_format import FormatError
from quant.widths import WidthError, Widths, is_fully_connected, read_widths


def layer(name, source, output, shape, **more):
    return Convolution(
        name=name, inputs=(source,), output=output, weight=np.ones(shape, np.float32),
        bias=np.zeros(shape[0], np.float32), **more,
    )


GRAPH = Graph(
    "net",
    [
        layer("block1/conv[0]", "x", "a", (4, 1, 3, 3)),
        layer("block1/dw", "a", "b", (4, 1, 3, 3), groups=4),
        MaxPool(name="pool", inputs=("b",), output="c", kernel=(2, 2), stride=(2, 2)),
        layer("head", "c", "d", (6, 4, 2, 2)),
        layer("last", "d", "y", (3, 6, 1, 1)),
    ],
    {"x": (1, 8, 8), "a": (4, 6, 6), "b": (4, 4, 4), "c": (4, 2, 2), "d": (6, 1, 1), "y": (3, 1, 1)},
    "x",
    "y",
    (3,),
)


def test_one_width_for_all():
    assert set(Widths.parse("5").weights_of(GRAPH).values()) == {5}
    assert Widths.parse("5").maps_of(GRAPH) == {**dict.fromkeys("xabcd", 5), "y": 8}
    assert Widths.parse("12").maps_of(GRAPH)["y"] == 12


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8,fc=4", [8, 8, 4, 4]),
        ("8,conv=4", [4, 4, 8, 8]),
        ("6,depthwise=3", [6, 3, 6, 6]),
        ("fc=4", [8, 8, 4, 4]),
        ("8,fc=4,last=6", [8, 8, 4, 6]),
        ("8,last=6,fc=4", [8, 8, 4, 4]),
        ("8,block1/*=2, head=16", [2, 2, 16, 8]),
        ("8,block1/conv[[]0]=3", [3, 8, 8, 8]),
        ("8,d=5", [8, 8, 5, 8]),
    ],
)
def test_exceptions_of_weights(text, expected):
    assert list(Widths.parse(text).weights_of(GRAPH).values()) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8,input=4", [4, 8, 8, 8, 8, 8]),
        ("4,output=4", [4, 4, 4, 4, 4, 4]),
        ("4,last=5", [4, 4, 4, 4, 4, 5]),
        ("4,pool=6", [4, 4, 4, 6, 4, 8]),
        ("4,?=6", [6, 6, 6, 6, 6, 6]),
        ("4,output=16,block*=3", [4, 3, 3, 4, 4, 16]),
    ],
)
def test_exceptions_of_feature_maps(text, expected):
    assert list(Widths.parse(text).maps_of(GRAPH).values()) == expected


@pytest.mark.parametrize("text", ["", "8,", "fc", "8,8", "8,=4", "8,fc=", "8,fc=x", "eight"])
def test_what_is_no_width(text):
    with pytest.raises(WidthError, match="is no width of weights; write 8, or 8,fc=4"):
        Widths.parse(text, "weights")


def test_widths_out_of_range_and_patterns_that_fit_nothing():
    with pytest.raises(FormatError, match="weights must be 2 to 16 bits wide, not 1"):
        Widths.parse("1", "weights")
    with pytest.raises(FormatError, match="weights of fc must be 2 to 16 bits wide, not 17"):
        Widths.parse("8,fc=17", "weights")
    with pytest.raises(FormatError, match="not -4"):
        Widths.parse("-4")
    with pytest.raises(WidthError, match=r"stage\*=4 fits no layer with weights; there are block1/conv"):
        Widths.parse("8,stage*=4").weights_of(GRAPH)
    with pytest.raises(WidthError, match="pool=4 fits no layer with weights"):
        Widths.parse("8,pool=4").weights_of(GRAPH)
    with pytest.raises(WidthError, match="fc=4 fits no feature map"):
        Widths.parse("8,fc=4").maps_of(GRAPH)


def test_fully_connected_is_a_kernel_over_the_whole_map():
    kinds = [is_fully_connected(node, GRAPH) for node in GRAPH.nodes if isinstance(node, Convolution)]
    assert kinds == [False, False, True, True]


def test_file(tmp_path):
    path = tmp_path / "widths.toml"
    path.write_text('[weights]\ndefault = 6\nfc = 4\n"block1/*" = 8\n[activations]\noutput = 12\n')
    weights, maps = read_widths(path)
    assert list(weights.weights_of(GRAPH).values()) == [8, 8, 4, 4]
    assert maps.maps_of(GRAPH)["y"] == 12
    path.write_text("")
    assert read_widths(path) == (Widths(), Widths())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[weights\n", "not a readable TOML file"),
        ("[layers]\n", r"it has layers; the tables are \[weights\] and \[activations\]"),
        ("weights = 8\n", "weights must be a table"),
        ('[weights]\nfc = "4"\n', "fc must be a width in bits, not '4'"),
        ("[activations]\ndefault = true\n", "default must be a width in bits, not True"),
    ],
)
def test_files_that_are_refused(tmp_path, content, message):
    path = tmp_path / "widths.toml"
    path.write_text(content)
    with pytest.raises(WidthError, match=message):
        read_widths(path)


def test_missing_file_and_width_out_of_range(tmp_path):
    with pytest.raises(WidthError, match="not a readable TOML file"):
        read_widths(tmp_path / "none.toml")
    (tmp_path / "w.toml").write_text("[weights]\nfc = 1\n")
    with pytest.raises(FormatError, match="words of fc must be 2 to 16 bits wide, not 1"):
        read_widths(tmp_path / "w.toml")
