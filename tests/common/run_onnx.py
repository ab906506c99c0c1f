"""Runs an ONNX file: run_onnx.py MODEL FOLDER. Floats, little-endian; input X is FOLDER/X.in.f32, output Y FOLDER/Y.f32."""

import os
import sys

import numpy
import onnxruntime

model, folder = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
inputs = {}
for port in session.get_inputs():
    values = numpy.fromfile(os.path.join(folder, port.name + ".in.f32"), "<f4")
    inputs[port.name] = values.reshape([-1, *port.shape[1:]])
names = [output.name for output in session.get_outputs()]
for name, values in zip(names, session.run(names, inputs)):
    values.astype("<f4").tofile(os.path.join(folder, name + ".f32"))
