"""The package as others see it: stubs that name what is there, exceptions that cross processes, the module for Ray without Ray."""

import ast
import pathlib
import pickle
import subprocess
import sys

import pytest

import hotad
import hotad.ray

STUB = pathlib.Path(hotad.__file__).with_name("__init__.pyi")


def declared(body):
    """The names that statements of a stub declare."""
    for statement in body:
        match statement:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield name


def test_the_stub_declares_what_is_there():
    body = ast.parse(STUB.read_text()).body
    private = {name for name in declared(body) if name.startswith("_") and not name.startswith("__")}
    public = set(declared(body)) - private - {"__all__"}
    assert public == set(hotad.__all__) and all(hasattr(hotad, name) for name in public)
    (listed,) = (s.value for s in body if isinstance(s, ast.Assign) and s.targets[0].id == "__all__")
    assert ast.literal_eval(listed) == hotad.__all__


@pytest.mark.parametrize("kind", [hotad.Inspector, hotad.Verdict, hotad.Region])
def test_the_stubs_of_classes_declare_what_is_there(kind):
    (stub,) = (s for s in ast.parse(STUB.read_text()).body if isinstance(s, ast.ClassDef) and s.name == kind.__name__)
    names = set(declared(stub.body))
    assert {name for name in vars(kind) if not name.startswith("_")} == {n for n in names if not n.startswith("_")}
    assert ("__new__" in names) == (kind is hotad.Inspector) and "__init__" not in names


def test_exceptions_can_be_pickled():
    assert hotad.HotadError.__module__ == "hotad"
    assert pickle.loads(pickle.dumps(hotad.HotadError)) is hotad.HotadError
    with pytest.raises(hotad.HotadError) as refused:
        hotad.Inspector("nowhere.safetensors", device="cpu")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(refused.value, protocol))
        assert type(again) is hotad.HotadError and again.args == refused.value.args


def test_the_module_for_ray_is_imported_without_ray():
    code = "import sys, hotad.ray; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("options", [{"map": "frame"}, {"regions": 4}])
def test_a_dataset_of_verdicts_has_no_maps_and_regions(options):
    (name,) = options
    with pytest.raises(hotad.HotadError, match=f"^{name}: .* use hotad.Inspector"):
        hotad.ray.inspect(None, "nowhere.safetensors", **options)
