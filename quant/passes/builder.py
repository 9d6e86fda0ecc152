"""The graph while it is being made from ONNX nodes, and the values that flow between them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, OperatorSetIdProto, helper

from quant.graph import Activation, Convolution, Graph, Node, Pads, Select, Shape
from quant.passes.element_order import LOWEST, ZERO, View, Window, find_window, is_complete, order_of
from quant.refusal import RefusedError

__all__ = ["ORDER_ADVICE", "Builder", "Constant", "OnnxNode", "Value", "constant_of", "view_of"]


#: What to do about a feature map that is in neither of the layouts.
ORDER_ADVICE = "remove the Transpose, Reshape or Gather in front of it"


@dataclass(frozen=True, eq=False)
class Constant:
    """An ONNX tensor whose value is known; ``name`` is the tensor to name in messages."""

    name: str
    array: NDArray[Any]


Value = View | Constant


@dataclass(frozen=True, eq=False)
class OnnxNode:
    """One node of the model: its proto, a unique name and its attributes as Python values."""

    name: str
    proto: NodeProto
    attributes: dict[str, Any]
    opsets: tuple[OperatorSetIdProto, ...]

    @property
    def operator(self) -> str:
        """Its operator, with the domain where that is not ONNX's own."""
        return f"{self.proto.domain}.{self.proto.op_type}" if self.proto.domain else self.proto.op_type

    @property
    def output(self) -> str:
        """Name of its first output tensor."""
        return self.proto.output[0]

    @classmethod
    def of(cls, proto: NodeProto, name: str, opsets: tuple[OperatorSetIdProto, ...]) -> OnnxNode:
        """The node with its attributes decoded."""
        attributes = {}
        for attribute in proto.attribute:
            value = helper.get_attribute_value(attribute)
            attributes[attribute.name] = value.decode(errors="replace") if isinstance(value, bytes) else value
        return cls(name, proto, attributes, opsets)


def constant_of(value: Value | None, what: str) -> Constant:
    """The constant that an input must be.

    Raises
    ------
    RefusedError
        If the input is computed from the image.
    """
    if not isinstance(value, Constant):
        raise RefusedError(f"its {what} is not a constant", "only feature maps may depend on the image")
    return value


def view_of(value: Value | None) -> View:
    """The feature map that an input must be.

    Raises
    ------
    RefusedError
        If the input is a constant or left out.
    """
    if not isinstance(value, View):
        raise RefusedError("its input is a constant", "this operator works on feature maps only")
    return value


@dataclass
class Builder:
    """Nodes, shapes and names of the graph so far.

    Attributes
    ----------
    protected : set
        Tensors that must stay tensors of the graph.
    aliases : dict
        ONNX tensors that only rearrange a graph tensor, with that tensor's name.
    origin : dict
        For each node of the graph the ONNX node that it was made for.
    reserved : set
        Names of the model's tensors.
    current : str
        The ONNX node that is being translated.
    makers : dict
        For each ONNX tensor the ONNX node that computes it.
    """

    nodes: list[Node] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    protected: set[str] = field(default_factory=set)
    aliases: dict[str, str] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    reserved: set[str] = field(default_factory=set)
    current: str = ""
    makers: dict[str, str] = field(default_factory=dict)
    _node_names: set[str] = field(default_factory=set)
    _regular: dict[str, tuple[str, Pads, int]] = field(default_factory=dict)

    def input(self, name: str, shape: Shape, onnx_shape: tuple[int, ...], channels_last: bool) -> View:
        """Start with the graph's only input."""
        self.shapes[name] = shape
        index = order_of(math.prod(shape))
        if channels_last:
            channels, rows, columns = shape
            index = index.reshape(channels, rows, columns).transpose(1, 2, 0)
        return View(name, name, index.reshape(onnx_shape))

    def node_name(self, wanted: str) -> str:
        """A name that no node of the graph has yet."""
        name, count = wanted, 1
        while name in self._node_names:
            count += 1
            name = f"{wanted}_{count}"
        self._node_names.add(name)
        return name

    def tensor_name(self, wanted: str) -> str:
        """A name that no tensor of the model or of the graph has yet."""
        name, count = wanted, 1
        while name in self.shapes or name in self.reserved:
            count += 1
            name = f"{wanted}_{count}"
        return name

    def emit(self, node: Node, shape: Shape, maker: str | None = None) -> None:
        """Append a node whose output has ``shape``, made for the ONNX node ``maker`` or the current one."""
        self.nodes.append(node)
        self.shapes[node.output] = shape
        self.origin[node.name] = maker or self.current

    def view(self, tensor: str, onnx_shape: tuple[int, ...]) -> View:
        """A whole graph tensor, in its own order, with the shape it has in the model."""
        return View(tensor, tensor, order_of(math.prod(self.shapes[tensor])).reshape(onnx_shape))

    def select(self, tensor: str, output: str, name: str, activation: Activation) -> None:
        """Append a Select that takes everything and applies an activation, for the ONNX node ``name``."""
        shape = self.shapes[tensor]
        self.emit(Select(name=self.node_name(name), inputs=(tensor,), output=output, size=shape,
                         activation=activation), shape, name)

    def scale(self, tensor: str, output: str, name: str, scale: NDArray[Any], shift: NDArray[Any],
              pads: Pads = (0, 0, 0, 0)) -> None:
        """Append ``scale * x + shift`` per channel, as a depthwise convolution with one tap.

        ``name`` is that of the ONNX node that it stands for.
        With ``pads`` it also surrounds the result with zeros (the shift must be zero then).
        """
        channels, rows, columns = self.shapes[tensor]
        weight = np.asarray(scale, np.float32).reshape(channels, 1, 1, 1)
        shape = (channels, rows + pads[0] + pads[2], columns + pads[1] + pads[3])
        self.emit(Convolution(name=self.node_name(name), inputs=(tensor,), output=output, weight=weight,
                              bias=np.asarray(shift, np.float32), groups=channels, pads=pads), shape, name)

    def regular(self, view: View) -> tuple[str, Pads, int]:
        """The (C, H, W) tensor that a (1, C, H, W) view is, the padding around it, and its filling.

        Where the view leaves elements out or adds channels, a Select is appended (once).

        Raises
        ------
        RefusedError
            If the elements are in another order.
        """
        if view.index.ndim != 4 or view.index.shape[0] != 1:
            raise RefusedError(f"its input has the shape {list(view.index.shape)}",
                               "two-dimensional maps of shape [1, C, H, W] are supported")
        return self._regular_of(view, view.index[0])

    def _regular_of(self, view: View, index: NDArray[np.int32]) -> tuple[str, Pads, int]:
        if (index < 0).all():
            raise RefusedError(f"{view.name} holds padding only", "remove the layers that read it")
        window = find_window(index, self.shapes[view.tensor])
        if window is None:
            permuted = self._permuted_channels(view, index)
            if permuted is None:
                raise RefusedError(f"the elements of {view.name} are in an order that no layer can read",
                                   ORDER_ADVICE)
            return permuted
        if window.takes_all_of(self.shapes[view.tensor]):
            return view.tensor, window.pads, window.fill
        if view.name not in self._regular:
            if window.fill == LOWEST and window.channels_before + window.channels_after:
                raise RefusedError("it pads channels with minus infinity", "pad channels with zeros")
            self._regular[view.name] = self._select_window(view, window), window.pads, window.fill
        return self._regular[view.name]

    def _select_window(self, view: View, window: Window) -> str:
        own_name = view.name not in self.shapes and not any(window.pads)
        output = view.name if own_name else self.tensor_name(f"{view.name}/select")
        channels = window.size[0] + window.channels_before + window.channels_after
        maker = self.makers.get(view.name, self.current)
        self.emit(Select(name=self.node_name(maker), inputs=(view.tensor,), output=output,
                         start=window.start, step=window.step, size=window.size,
                         pad_channels=(window.channels_before, window.channels_after)),
                  (channels, *window.size[1:]), maker)
        return output

    def _permuted_channels(self, view: View, index: NDArray[np.int32]) -> tuple[str, Pads, int] | None:
        """A 1x1 convolution that puts whole channels in another order (channel shuffle, RGB to BGR)."""
        channels, rows, columns = self.shapes[view.tensor]
        if index.ndim != 3 or (index == LOWEST).any() or (index == ZERO).all():
            return None
        used_rows = np.flatnonzero((index >= 0).any(axis=(0, 2)))
        used_columns = np.flatnonzero((index >= 0).any(axis=(0, 1)))
        top, left = int(used_rows[0]), int(used_columns[0])
        pads = (top, left, index.shape[1] - 1 - int(used_rows[-1]),
                index.shape[2] - 1 - int(used_columns[-1]))
        index = index[:, top:used_rows[-1] + 1, left:used_columns[-1] + 1]
        if index.shape[1:] != (rows, columns):
            return None
        order = index[:, 0, 0] // (rows * columns)  # ZERO // n is ZERO: a channel of zeros
        pixels = order_of(rows * columns).reshape(rows, columns)
        expected = order[:, None, None] * (rows * columns) + pixels
        if not np.array_equal(index, np.where(order[:, None, None] == ZERO, ZERO, expected)):
            return None
        key = f"{view.name}/order"
        if key not in self._regular:
            weight = np.zeros((len(order), channels, 1, 1), np.float32)
            used = np.flatnonzero(order != ZERO)
            weight[used, order[used]] = 1
            own_name = view.name not in self.shapes and not any(pads)
            output = view.name if own_name else self.tensor_name(key)
            maker = self.makers.get(view.name, self.current)
            self.emit(Convolution(name=self.node_name(maker), inputs=(view.tensor,), output=output,
                                  weight=weight, bias=np.zeros(len(order), np.float32)),
                      (len(order), rows, columns), maker)
            self._regular[key] = output, pads, ZERO
        return self._regular[key]

    def without_pads(self, view: View) -> View:
        """`settled`, except that padding pixels may remain.

        Raises
        ------
        RefusedError
            If the elements are neither all of a tensor nor a regular part of one.
        """
        if is_complete(view.index, math.prod(self.shapes[view.tensor])):
            return view
        index = view.index
        orders: list[tuple[int, ...]] = []
        if index.ndim == 4 and index.shape[0] == 1:
            orders, index = [(0, 1, 2), (2, 0, 1)], index[0]
        elif index.ndim == 3:
            orders = [(0, 1, 2), (2, 0, 1)]
        elif index.ndim <= 2 and index.shape[:-1] in ((), (1,)):
            orders, index = [(0, 1, 2)], index.reshape(-1, 1, 1)
        error = RefusedError(f"the elements of {view.name} are in an order that no layer can read",
                             ORDER_ADVICE)
        for order in orders:
            try:
                tensor, pads, fill = self._regular_of(view, index.transpose(order))
            except RefusedError as refused:
                error = refused
                continue
            channels, rows, columns = self.shapes[tensor]
            top, left, bottom, right = pads
            padded = np.full((channels, rows + top + bottom, columns + left + right), fill, np.int32)
            padded[:, top:top + rows, left:left + columns] = order_of(
                channels * rows * columns).reshape(channels, rows, columns)
            back = padded.transpose(np.argsort(order)).reshape(view.index.shape)
            return View(view.name, tensor, back)
        raise error

    def settled(self, view: View) -> View:
        """A view that has every element of its tensor exactly once, in any order.

        What is left out or added is first made real: a Select, or a one-tap convolution with pads.

        Raises
        ------
        RefusedError
            If that cannot be expressed.
        """
        view = self.without_pads(view)
        if is_complete(view.index, math.prod(self.shapes[view.tensor])):
            return view
        key = f"{view.name}/padded"
        for order in ((0, 1, 2), (2, 0, 1)):
            index = view.index.reshape(view.index.shape[-3:]).transpose(order)
            window = find_window(index, self.shapes[view.tensor])
            if window is None:
                continue
            if key not in self._regular:
                self._regular[key] = self.padded(view.tensor, window.pads, window.fill, view.name), (
                    0, 0, 0, 0), ZERO
            whole = order_of(index.size).reshape(index.shape).transpose(np.argsort(order))
            return View(view.name, self._regular[key][0], whole.reshape(view.index.shape))
        raise RefusedError(f"the padding of {view.name} is not around rows and columns",
                           "pad rows, columns or channels only")

    def in_order(self, view: View) -> View:
        """A [1, C, H, W] view as a whole tensor in that order, whatever it takes.

        Raises
        ------
        RefusedError
            If that cannot be expressed.
        """
        tensor, pads, fill = self.regular(view)
        if any(pads):
            key = f"{view.name}/padded"
            if key not in self._regular:
                self._regular[key] = self.padded(tensor, pads, fill, view.name), (0, 0, 0, 0), ZERO
            tensor = self._regular[key][0]
        return View(view.name, tensor, order_of(view.index.size).reshape(view.index.shape))

    def padded(self, tensor: str, pads: Pads, fill: int, wanted: str) -> str:
        """A tensor with zeros around it, as a tensor of its own.

        Raises
        ------
        RefusedError
            If the filling is not zero.
        """
        if fill == LOWEST:
            raise RefusedError("it pads with minus infinity", "only MaxPool can follow such a Pad")
        output = wanted if wanted not in self.shapes else self.tensor_name(f"{wanted}/padded")
        channels = self.shapes[tensor][0]
        maker = self.makers.get(wanted, self.current)
        self.scale(tensor, output, maker, np.ones(channels), np.zeros(channels), pads)
        return output

    def never_negative(self, tensor: str) -> bool:
        """Whether a tensor is known to hold no negative value."""
        producer = next((node for node in self.nodes if node.output == tensor), None)
        if producer is None:
            return False
        if producer.activation.low >= 0:
            return True
        return not isinstance(producer, Convolution) and all(
            self.never_negative(name) for name in producer.inputs)

    def graph(self, name: str, input_name: str, output: str, output_shape: tuple[int, ...],
              input_layout: str, host_operations: tuple[str, ...]) -> Graph:
        """The finished graph."""
        return Graph(name, self.nodes, self.shapes, input_name, output, output_shape, input_layout,
                     host_operations)
