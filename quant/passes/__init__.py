"""The steps by which an ONNX graph becomes a `quant.graph.Graph`; each module does one thing."""
