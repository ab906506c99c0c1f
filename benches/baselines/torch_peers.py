"""The runtimes that users deploy with, beside PyTorch: a network exported to ONNX and run on the CPU by ONNX Runtime or
OpenVINO, one batch at a time."""

import os
import tempfile

import numpy as np
import torch


def exported(make, shape):
    """The network that `make` gives, as an ONNX file."""
    path = os.path.join(tempfile.mkdtemp(), "network.onnx")
    with torch.device("cpu"):
        torch.onnx.export(make().eval(), (torch.rand(shape),), path, dynamo=False)
    return path


def onnx(make, shape):
    """A call that gives all outputs, by ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(exported(make, shape), options, providers=["CPUExecutionProvider"])
    name, batch = session.get_inputs()[0].name, np.random.rand(*shape).astype(np.float32)
    return lambda: session.run(None, {name: batch})


def openvino(make, shape, precision="f32"):
    """A call that gives all outputs, by OpenVINO; without a precision it takes its own default, which is bf16 where the
    CPU multiplies so."""
    import openvino as ov

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    if precision:
        settings["INFERENCE_PRECISION_HINT"] = precision
    model = ov.compile_model(exported(make, shape), "CPU", settings)
    batch = np.random.rand(*shape).astype(np.float32)

    def call():
        found = model(batch)
        return [found[i] for i in range(len(model.outputs))]

    return call


def works(name, make, shape):
    """What the table names after a work of PyTorch's, for each of them."""
    return {
        f"{name}_onnx": lambda: onnx(make, shape),
        f"{name}_openvino": lambda: openvino(make, shape),
        f"{name}_openvino_default": lambda: openvino(make, shape, None),
    }
