"""Small weight files as PyTorch writes them, and what must be read from them.

Run with torch and safetensors installed: python tests/vectors/weights/export.py
expected.json holds, per file, every tensor's shape and values in row order, written down before saving.
"""

import collections
import io
import json
import os
import pathlib
import pickle
import struct
import zipfile

import torch
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
EXPECTED = {}


def numbers(count, first):
    """Multiples of 1/8, which every floating-point type here holds exactly."""
    return [(first + i * 7 % 61) / 8 - 3 for i in range(count)]


def tensor(shape, first, dtype=torch.float32):
    count = 1
    for extent in shape:
        count *= extent
    values = numbers(count, first)
    return torch.tensor(values, dtype=dtype).reshape(shape), {"shape": list(shape), "values": values}


def network():
    """A convolution, a batch norm with its counter, a linear layer."""
    shapes = {
        "stem.weight": (2, 3, 3, 3), "bn.weight": (2,), "bn.bias": (2,), "bn.running_mean": (2,), "fc.weight": (4, 2),
    }
    made = {name: tensor(shape, i) for i, (name, shape) in enumerate(shapes.items())}
    state = collections.OrderedDict((name, t) for name, (t, _) in made.items())
    state["bn.num_batches_tracked"] = torch.tensor(17)
    return state, {name: e for name, (_, e) in made.items()}


def save(name, what, expected, **options):
    torch.save(what, HERE / name, **options)
    EXPECTED[name] = expected


def both_forms():
    state, expected = network()
    save("zip.pth", state, expected)
    save("legacy.pth", state, expected, _use_new_zipfile_serialization=False)
    for protocol in (1, 3, 4, 5):
        save(f"zip_protocol{protocol}.pth", state, expected, pickle_protocol=protocol)
        save(f"legacy_protocol{protocol}.pth", state, expected, pickle_protocol=protocol, _use_new_zipfile_serialization=False)
    save_file(dict(state), HERE / "plain.safetensors")
    EXPECTED["plain.safetensors"] = expected


def types():
    kinds = {"f64": torch.float64, "f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
    made = {name: tensor((3, 5), i, kind) for i, (name, kind) in enumerate(kinds.items())}
    state = {name: t for name, (t, _) in made.items()}
    state |= {"i8": torch.tensor([1], dtype=torch.int8), "flag": torch.tensor([True]), "c": torch.tensor([1j])}
    expected = {name: e for name, (_, e) in made.items()}
    save("types_zip.pth", state, expected)
    save("types_legacy.pth", state, expected, _use_new_zipfile_serialization=False)
    save_file({n: t for n, t in state.items() if n != "c"}, HERE / "types.safetensors")
    EXPECTED["types.safetensors"] = expected


def views():
    """Tensors that share a storage, are transposed, shifted, repeated, scalar and empty."""
    values = numbers(24, 5)
    base = torch.tensor(values)
    state = {
        "whole": base.reshape(4, 6),
        "transposed": base.reshape(4, 6).t(),
        "second_half": base[12:].reshape(3, 4),
        "every_other": base[1::2],
        "channels_last": base.reshape(2, 3, 2, 2).contiguous(memory_format=torch.channels_last),
        "repeated": base[3:4].expand(5),
        "scalar": base[7],
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(base.reshape(6, 4)[1:3]),
    }
    rows = [values[i:i + 6] for i in range(0, 24, 6)]
    expected = {
        "whole": {"shape": [4, 6], "values": values},
        "transposed": {"shape": [6, 4], "values": [row[i] for i in range(6) for row in rows]},
        "second_half": {"shape": [3, 4], "values": values[12:]},
        "every_other": {"shape": [12], "values": values[1::2]},
        "channels_last": {"shape": [2, 3, 2, 2], "values": values},
        "repeated": {"shape": [5], "values": [values[3]] * 5},
        "scalar": {"shape": [], "values": [values[7]]},
        "empty": {"shape": [0, 3], "values": []},
        "parameter": {"shape": [2, 4], "values": values[4:12]},
    }
    save("views_zip.pth", state, expected)
    save("views_legacy.pth", state, expected, _use_new_zipfile_serialization=False)


def checkpoints():
    """As training scripts save them."""
    state, expected = network()
    extras = {
        "epoch": 3, "best": 0.75, "name": "tiny", "blob": b"\x00\xff", "seen": {1, 2}, "shape": torch.Size([2, 3]),
        "kind": torch.float16, "device": torch.device("cpu"), "flags": (True, None, [2**70, -5]),
        "optimizer": {"state": {0: {"step": torch.tensor(4.0), "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-3, "params": [0]}]},
    }
    wrapped = collections.OrderedDict((f"module.model.{n}", t) for n, t in state.items())
    save("checkpoint_zip.pth", {"state_dict": wrapped, **extras}, expected)
    save("checkpoint_legacy.pth", {"model": state, **extras}, expected, _use_new_zipfile_serialization=False)
    save("checkpoint_parameters.pth", {"model_state_dict": torch.nn.ParameterDict({"a": torch.nn.Parameter(torch.ones(2))}).state_dict()},
         {"a": {"shape": [2], "values": [1.0, 1.0]}})

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Linear(2, 1)
            self.bn = torch.nn.BatchNorm1d(1)

    net = torch.nn.DataParallel(Net())
    with torch.no_grad():
        net.module.fc.weight.copy_(torch.tensor([[0.5, -2.0]]))
        net.module.fc.bias.fill_(0.25)
    named = {"fc.weight": ([1, 2], [0.5, -2.0]), "fc.bias": ([1], [0.25]), "bn.weight": ([1], [1.0]), "bn.bias": ([1], [0.0]),
             "bn.running_mean": ([1], [0.0]), "bn.running_var": ([1], [1.0])}
    save("data_parallel.pth", net.state_dict(), {n: {"shape": s, "values": v} for n, (s, v) in named.items()})


def wheel(name, files):
    with zipfile.ZipFile(HERE / name, "w", zipfile.ZIP_DEFLATED) as archive:
        for inner, content in files.items():
            archive.writestr(zipfile.ZipInfo(inner, (2020, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)


def wheels():
    expected = EXPECTED["legacy.pth"]
    info = {"net-1.0.dist-info/LICENSE": "Licence of the wheel\n", "net-1.0.dist-info/METADATA": "Name: net\n", "net/__init__.py": "import os\n"}
    legacy, new = (HERE / "legacy.pth").read_bytes(), (HERE / "zip.pth").read_bytes()
    wheel("one_legacy.whl", {"net/models/a.pth": legacy, **info})
    wheel("one_zip.whl", {**info, "net/models/a.pth": new})
    wheel("one_safetensors.zip", {"a.safetensors": (HERE / "plain.safetensors").read_bytes()})
    EXPECTED.update({name: expected for name in ("one_legacy.whl", "one_zip.whl", "one_safetensors.zip")})
    wheel("refused_two.whl", {"net/models/a.pth": legacy, "net/models/b.pth": new, **info})
    wheel("refused_none.whl", info)
    wheel("refused_bomb.whl", {"net/a.pth": legacy[:200] + bytes(2 << 20), **info})


class Call:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def zip_with(name, pickled, storages=(), order=b"little"):
    with zipfile.ZipFile(HERE / name, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", order)
        for key, content in storages:
            archive.writestr(f"archive/data/{key}", content)
        archive.writestr("archive/version", b"3\n")


class Storage:
    def __init__(self, key, count):
        self.id = ("storage", torch.FloatStorage, key, "cpu", count)


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return value.id if isinstance(value, Storage) else None


def rebuilt(key, count, offset, shape, strides):
    return Call(torch._utils._rebuild_tensor_v2, Storage(key, count), offset, shape, strides, False, collections.OrderedDict())


def pickled(what):
    out = io.BytesIO()
    Pickler(out, 2).dump(what)
    return out.getvalue()


def refused():
    """Files that must not be read."""
    state, _ = network()
    hostile = {"stem.weight": state["stem.weight"], "x": Call(os.system, "touch hotad_was_here")}
    torch.save(hostile, HERE / "refused_call_zip.pth")
    torch.save(hostile, HERE / "refused_call_legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(hostile, HERE / "refused_call_protocol4.pth", pickle_protocol=4)
    torch.save(torch.nn.Linear(2, 1), HERE / "refused_module.pth")
    torch.save(torch.ones(3), HERE / "refused_bare_tensor.pth")
    torch.save({"step": torch.tensor(3), "n": 5}, HERE / "refused_integers.pth")
    torch.save({"a": torch.tensor([1.0, float("nan")])}, HERE / "refused_nan.pth")
    torch.save({"a": torch.tensor([1e300], dtype=torch.float64)}, HERE / "refused_too_large.pth")
    torch.save({"a": torch.ones(1).expand(1000, 1000)}, HERE / "refused_repeated.pth")
    four = struct.pack("<4f", 1, 2, 3, 4)
    zip_with("refused_big_endian.pth", pickled({"a": rebuilt("0", 4, 0, (4,), (1,))}), [("0", four)], b"big")
    zip_with("refused_beyond.pth", pickled({"a": rebuilt("0", 4, 1, (4,), (1,))}), [("0", four)])
    zip_with("refused_negative_stride.pth", pickled({"a": rebuilt("0", 4, 3, (4,), (-1,))}), [("0", four)])
    zip_with("refused_overflow.pth", pickled({"a": rebuilt("0", 4, 0, (2**33, 2**33), (2**62, 2**62))}), [("0", four)])
    zip_with("refused_short_storage.pth", pickled({"a": rebuilt("0", 2**40, 0, (4,), (1,))}), [("0", four)])
    zip_with("refused_no_storage.pth", pickled({"a": rebuilt("7", 4, 0, (4,), (1,))}), [("0", four)])
    (HERE / "refused_plain_pickle.pth").write_bytes(pickle.dumps({"a": 1}, 2))


both_forms()
types()
views()
checkpoints()
wheels()
refused()
(HERE / "expected.json").write_text(json.dumps(EXPECTED, separators=(",", ":")) + "\n")
