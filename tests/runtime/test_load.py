"""Loading: which engine runs a tray, and which trays are refused although their digests are right."""

import dataclasses
import tempfile
import warnings

import numpy as np
import pytest

import penjing.runtime
from penjing.bundle.tray import open_tray
from penjing.core.errors import BundleError, CorruptBundle, InvalidInput
from penjing.program.weights import aligned_buffer
from penjing.runtime.loading import from_tray
from penjing.toolchain import compile_library, host_target

BROKEN = {
    "garbage": (b"this is no library" * 100, "refuses the compiled library"),
    "empty": (b"\0", "refuses the compiled library"),
    "cut short": (b"\x7fELF" + bytes(60), "refuses the compiled library"),
}


def with_library(parts, data: bytes):
    (target,) = parts.libraries
    library = dataclasses.replace(parts.libraries[target]["default"], data=data)
    return dataclasses.replace(parts, libraries={target: {"default": library}})


def with_program(parts, change):
    variant = parts.variants["default"]
    changed = change(variant.program)
    assert changed != variant.program
    return dataclasses.replace(parts, variants={"default": dataclasses.replace(variant, program=changed)})


def stub(run: str = "return 0;", self_test: str = "return 0;", *, name: str = "penjing_edgecnn") -> bytes:
    source = (
        f'#define API __attribute__((visibility("default")))\n'
        f"API int {name}_run(const void *w, const void *in, void *out, void *arena)\n"
        f"{{ (void)w; (void)in; (void)out; (void)arena; {run} }}\n"
        f"API int {name}_run_f32(const void *w, const float *in, float *out, void *arena)\n"
        f"{{ return {name}_run(w, in, out, arena); }}\n"
        f"API int {name}_self_test(void) {{ {self_test} }}\n"
        f"API int {name}_quantize(const float *x, void *y) {{ (void)x; (void)y; return 0; }}\n"
        f"API int {name}_dequantize(const void *x, float *y) {{ (void)x; (void)y; return 0; }}\n"
        f"API int {name}_isa(void) {{ return 0; }}\n"
        f"API int {name}_use(int isa) {{ return isa; }}\n"
    )
    return compile_library({"stub.c": source}, host_target())


def test_the_library_is_chosen_where_there_is_one(tray):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert penjing.runtime.load(tray).engine.name.startswith(f"library {host_target().name}")


def test_without_a_library_for_this_machine_the_interpreter_runs_and_says_so_once(parts, packed, images):
    path = packed(dataclasses.replace(parts, libraries={}))
    with pytest.warns(RuntimeWarning) as caught:
        model = penjing.runtime.load(path)
        model.run(images)
        model.self_test()
    (warning,) = caught
    text = str(warning.message)
    assert text.startswith("running by the interpreter, which is slow: ")
    assert f"the tray has no library for {host_target().name} (it has: none)" in text
    assert warning.filename == __file__
    assert model.engine.name == "interpreter"


def test_the_warning_names_the_targets_that_the_tray_does_have(parts, packed):
    (library,) = parts.libraries.values()
    with pytest.warns(RuntimeWarning, match=r"\(it has: other-os\)"):
        penjing.runtime.load(packed(dataclasses.replace(parts, libraries={"other-os": library})))


def test_asking_for_the_interpreter_warns_of_nothing(parts, packed):
    path = packed(dataclasses.replace(parts, libraries={}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert penjing.runtime.load(path, engine="interpreter").engine.name == "interpreter"


def test_asking_for_a_library_that_is_not_there_is_an_error(parts, packed):
    path = packed(dataclasses.replace(parts, libraries={}))
    with pytest.raises(BundleError, match="the tray has no library for") as caught:
        penjing.runtime.load(path, engine="library")
    assert f"--target {host_target().name}" in str(caught.value.hint)


@pytest.mark.parametrize("engine", ["", "Library", "gpu", None])
def test_an_unknown_engine_is_refused(tray, engine):
    with pytest.raises(InvalidInput, match="engine must be auto, library or interpreter"):
        penjing.runtime.load(tray, engine=engine)


@pytest.mark.parametrize("kind", BROKEN)
def test_a_library_that_is_none_is_refused(parts, packed, kind):
    data, what = BROKEN[kind]
    with pytest.raises(BundleError, match=what):
        penjing.runtime.load(packed(with_library(parts, data)), engine="library")


@pytest.mark.parametrize("kind", BROKEN)
def test_a_tray_with_such_a_library_still_runs_by_the_interpreter_with_a_warning(parts, packed, images, tray, kind):
    data, what = BROKEN[kind]
    with pytest.warns(RuntimeWarning, match=f"running by the interpreter, which is slow: .*{what}") as caught:
        model = penjing.runtime.load(packed(with_library(parts, data)))
    assert len(caught) == 1
    np.testing.assert_array_equal(model.run(images), penjing.runtime.load(tray).run(images))


def test_a_library_without_the_functions_of_this_model_is_refused(parts, packed):
    path = packed(with_library(parts, stub(name="penjing_other")))
    with pytest.raises(BundleError, match=r"the library lacks a function: .*penjing_edgecnn_self_test"):
        penjing.runtime.load(path, engine="library")


def test_a_library_that_rounds_wrongly_on_this_machine_is_not_used(parts, packed):
    path = packed(with_library(parts, stub(self_test="return -3;")))
    with pytest.raises(BundleError, match="rounds differently from the program's definition"):
        penjing.runtime.load(path, engine="library")
    with pytest.warns(RuntimeWarning, match="rounds differently"):
        assert penjing.runtime.load(path).engine.name == "interpreter"


def test_a_status_of_the_library_is_an_error_not_a_result(parts, packed, images):
    model = penjing.runtime.load(packed(with_library(parts, stub(run="return -2;"))), engine="library")
    with pytest.raises(BundleError, match="returned status -2"):
        model.run(images)


def test_a_library_that_computes_something_else_fails_the_self_test(parts, packed):
    model = penjing.runtime.load(packed(with_library(parts, stub())), engine="library")
    assert model.self_test() > 0


def test_a_standalone_library_needs_no_weights(standalone, packed, images, tray):
    model = penjing.runtime.load(packed(standalone), engine="library")
    assert model.self_test() == 0
    np.testing.assert_array_equal(model.run(images), penjing.runtime.load(tray).run(images))


def test_two_models_of_one_tray_do_not_share_memory(tray, images):
    first, second = penjing.runtime.load(tray, engine="library"), penjing.runtime.load(tray, engine="library")
    a = first.run(images[:1])
    second.run(images[1:2])
    np.testing.assert_array_equal(first.run(images[:1]), a)


def test_models_of_one_name_and_different_code_can_be_loaded_together(tray, parts, packed, images):
    right = penjing.runtime.load(tray, engine="library")
    wrong = penjing.runtime.load(packed(with_library(parts, stub())), engine="library")
    assert (right.self_test(), wrong.self_test() > 0) == (0, True)


def test_no_file_is_left_behind_by_loading(tray, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model = penjing.runtime.load(tray, engine="library")
    assert list(tmp_path.iterdir()) == []
    assert model.self_test() == 0


def other_zero_point(text: str) -> str:
    line = next(line for line in text.splitlines() if line.startswith("  input %x"))
    head, zero = line.rsplit(", ", 1)
    return text.replace(line, f"{head}, {(int(zero.rstrip(')')) + 1) % 256})")


CONTRADICTIONS = {
    "another shape": lambda text: text.replace("1, 32, 32]", "1, 32, 31]", 1),
    "no end": lambda text: text[:-20],
    "another stage": lambda text: text.replace('stage "lowered"', 'stage "planned"'),
    "a stage of networks": lambda text: text.replace('stage "lowered"', 'stage "imported"'),
    "another zero point": other_zero_point,
    "another output": lambda text: text.replace("return %fc2", "return %relu3"),
    "two outputs": lambda text: text.replace("return %fc2", "return %fc2, %relu3"),
    "an input returned": lambda text: text.replace("return %fc2", "return %x"),
    "another operator": lambda text: text.replace("q_linear(", "q_nothing(", 1),
    "another constant": lambda text: text.replace("sha256:", "sha256:" + "0" * 4, 1)[:-1],
    "not a program": lambda text: "hello",
    "an empty program": lambda text: "\n",
}


@pytest.mark.parametrize("which", CONTRADICTIONS)
@pytest.mark.parametrize("engine", ["auto", "interpreter"])
def test_a_program_that_contradicts_the_manifest_is_refused_although_its_digest_is_right(parts, packed, which, engine):
    path = packed(with_program(parts, CONTRADICTIONS[which]))
    open_tray(path)  # the container is sound
    with pytest.raises(CorruptBundle) as caught:
        penjing.runtime.load(path, engine=engine)
    assert str(path) in caught.value.where and "variant default" in caught.value.where


@pytest.mark.parametrize("field", ["scale", "zero_point"])
@pytest.mark.parametrize("port", ["inputs", "outputs"])
def test_a_manifest_that_would_turn_reals_into_other_codes_is_refused(parts, packed, port, field):
    (spec,) = getattr(parts, port)
    changed = {"scale": spec.scale * 1.001, "zero_point": (spec.zero_point + 1) % 256}[field]
    path = packed(dataclasses.replace(parts, **{port: (dataclasses.replace(spec, **{field: changed}),)}))
    with pytest.raises(CorruptBundle, match=f"the program's {port} do not fit the manifest"):
        penjing.runtime.load(path)


def test_a_weight_that_the_program_was_not_written_with_is_refused(parts, packed):
    variant = parts.variants["default"]
    name = next(name for name in variant.weights if name.endswith("multiplier"))
    weights = {**variant.weights, name: variant.weights[name] * np.float32(2)}
    path = packed(dataclasses.replace(parts, variants={"default": dataclasses.replace(variant, weights=weights)}))
    with pytest.raises(CorruptBundle, match="is not the array that the program was written with"):
        penjing.runtime.load(path)


def test_a_missing_weight_is_refused(parts, packed):
    variant = parts.variants["default"]
    weights = dict(list(variant.weights.items())[1:])
    path = packed(dataclasses.replace(parts, variants={"default": dataclasses.replace(variant, weights=weights)}))
    with pytest.raises(CorruptBundle, match="no array was given for constant"):
        penjing.runtime.load(path)


def test_the_variant_called_default_is_taken_else_the_first_by_name(parts, packed):
    variant = parts.variants["default"]
    path = packed(dataclasses.replace(parts, variants={"b": variant, "a": variant}, libraries={}))
    assert penjing.runtime.load(path, engine="interpreter").variant == "a"
    assert penjing.runtime.load(path, engine="interpreter", variant="b").variant == "b"
    path = packed(dataclasses.replace(parts, variants={"a": variant, "default": variant}, libraries={}))
    assert penjing.runtime.load(path, engine="interpreter").variant == "default"


def test_a_variant_that_is_not_there_is_refused_with_those_that_are(tray):
    with pytest.raises(InvalidInput, match="the tray has no variant 'w4a8'") as caught:
        penjing.runtime.load(tray, variant="w4a8")
    assert "default" in str(caught.value.hint)


def test_a_tray_in_memory_can_be_loaded_too(tray, images):
    model = from_tray(open_tray(tray))
    np.testing.assert_array_equal(model.run(images), penjing.runtime.load(tray).run(images))


@pytest.mark.parametrize("what", ["missing", "folder", "text"])
def test_what_is_no_tray_is_refused(tmp_path, what):
    path = tmp_path / "model.tray"
    if what == "folder":
        path.mkdir()
    elif what == "text":
        path.write_text("not a tray")
    with pytest.raises((InvalidInput, CorruptBundle)) as caught:
        penjing.runtime.load(path)
    assert str(path) in str(caught.value)


def test_a_folder_that_takes_no_library_is_named(tray, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(BundleError, match="refuses the compiled library") as caught:
        penjing.runtime.load(tray, engine="library")
    assert str(tmp_path / "none") in str(caught.value)
    assert "TMPDIR" in str(caught.value.hint)


@pytest.mark.parametrize("nbytes", [0, 1, 63, 64, 1000])
def test_buffers_start_at_multiples_of_64(nbytes):
    for _ in range(5):
        buffer = aligned_buffer(nbytes)
        assert buffer.nbytes == nbytes
        assert nbytes == 0 or buffer.ctypes.data % 64 == 0


@pytest.mark.parametrize("field", ["arena_bytes", "weights_bytes"])
def test_a_manifest_that_states_other_memory_than_the_program_needs_is_refused(parts, packed, field):
    variant = parts.variants["default"]
    changed = dataclasses.replace(variant, **{field: getattr(variant, field) + 64})
    path = packed(dataclasses.replace(parts, variants={"default": changed}))
    with pytest.raises(CorruptBundle, match="other memory than the manifest says"):
        penjing.runtime.load(path)
