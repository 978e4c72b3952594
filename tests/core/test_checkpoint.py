import json
import os
import stat
from threading import Thread

import numpy as np
import pytest

from odyssey_core import files
from odyssey_core.checkpoint import CONTENT, artifact_names, digest, load_weights, model_names, save_weights
from odyssey_core.errors import DataError
from odyssey_core.files import write_atomic

WEIGHTS = {
    "conv1.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "conv1.bias": np.array([1, -2], np.float32),
    "fc1.weight": np.arange(6, dtype=np.float32).reshape(3, 2).T,  # not contiguous
    "block.fc2.weight": np.full((1, 2), np.float32(0.1)),
}


def test_what_is_saved_is_read_back(tmp_path):
    path = tmp_path / "new folder" / "w.safetensors"
    save_weights(path, WEIGHTS, {"mean": "0.5", "classes": "äb"})
    values, metadata = load_weights(path)
    assert len(metadata.pop(CONTENT)) == 64
    assert metadata == {"mean": "0.5", "classes": "äb"}
    assert values.keys() == WEIGHTS.keys()
    for name, value in WEIGHTS.items():
        np.testing.assert_array_equal(values[name], value)
    assert digest(values) == digest(WEIGHTS)


@pytest.mark.parametrize("keep", [0, 7, 40, -1])
def test_a_truncated_file_is_one_clear_error(tmp_path, keep):
    path = tmp_path / "w.safetensors"
    save_weights(path, WEIGHTS, {})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"cannot read weights from .*w\.safetensors"):
        load_weights(path)


def test_a_missing_file_and_a_folder_are_clear_errors(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(DataError, match="cannot read weights from"):
            load_weights(path)


def test_one_changed_byte_anywhere_is_never_read_as_weights(tmp_path):
    """Of every byte of the file a bit is flipped in turn: what is then read is what was written, or a clear error."""
    path = tmp_path / "w.safetensors"
    save_weights(path, WEIGHTS, {"mean": "0.5", "class_names": "[]"})
    whole, (values, about) = path.read_bytes(), load_weights(path)
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        for foreign in (False, True):
            try:
                found, metadata = load_weights(path, foreign)
            except DataError as error:
                assert str(path) in str(error)
            else:  # a space of the header's padding
                assert metadata == about
                assert {name: v.tobytes() for name, v in found.items()} == {n: v.tobytes() for n, v in values.items()}


def test_a_file_of_another_program_has_no_digest_and_is_read_where_that_will_do(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "w.safetensors"
    save_file({"fc1.weight": np.ones((2, 3), np.float32)}, path, {"format": "pt"})
    assert load_weights(path, foreign=True)[0]["fc1.weight"].shape == (2, 3)
    with pytest.raises(DataError, match="it states none; it is damaged, or was changed, or is not of this version"):
        load_weights(path)


def test_stray_files_are_those_of_a_write_that_was_cut_off(tmp_path):
    for name in (".checkpoint.safetensors.a1_b2c3d", "sub/.config.yaml.abcdefgh", ".hidden", "x.abcdefgh", ".a.b"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = {path.relative_to(tmp_path).as_posix() for path in files.stray_files(tmp_path)}
    assert found == {".checkpoint.safetensors.a1_b2c3d", "sub/.config.yaml.abcdefgh"}


@pytest.mark.parametrize("fault", [OSError("disk full"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch, fault):
    path = tmp_path / "w"
    write_atomic(path, b"old")

    def fail(*_):
        raise fault

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(files.os, step, fail)
            with pytest.raises(type(fault)):
                write_atomic(path, b"new")
        assert path.read_bytes() == b"old"
        assert [p.name for p in tmp_path.iterdir()] == ["w"]
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("threads", [0, 1])
def test_files_are_waited_for_where_the_machine_refuses_threads(tmp_path, monkeypatch, threads):
    left, start, waited = [None] * threads, Thread.start, []

    def refuse(thread):
        if not left:
            raise RuntimeError("can't start new thread")
        left.pop()
        start(thread)

    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_bytes(b"")
    monkeypatch.setattr(Thread, "start", refuse)
    monkeypatch.setattr(files.os, "fsync", lambda file: waited.append(os.fstat(file).st_ino))
    files.sync(iter(paths))
    assert set(waited) == {path.stat().st_ino for path in paths}


def test_written_files_have_the_users_usual_permissions(tmp_path):
    """Others may read a run's weights as they may read any file the user makes."""
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    write_atomic(tmp_path / "atomic", b"")
    modes = [stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in ("plain", "atomic")]
    assert modes[0] == modes[1]


def test_artifact_names_are_the_first_versions():
    named = artifact_names(WEIGHTS)
    assert list(named) == ["conv1_kernel", "conv1_bias", "fc1_weights", "block.fc2_weights"]
    assert model_names(WEIGHTS, named).keys() == WEIGHTS.keys()
    del named["conv1_bias"]
    with pytest.raises(DataError, match=r"missing \['conv1.bias'\]; it holds \['block.fc2_weights', 'conv1_kernel'"):
        model_names(WEIGHTS, named)


def test_pytorchs_names_are_read_too():
    theirs = {**WEIGHTS, "extra": np.zeros(1, np.float32)}
    found = model_names(WEIGHTS, theirs)
    assert found.keys() == WEIGHTS.keys() and all(found[name] is value for name, value in WEIGHTS.items())


@pytest.mark.parametrize("turn", [np.transpose, np.asfortranarray, lambda a: a[::-1], lambda a: a[:, ::2]])
def test_arrays_in_any_memory_order_are_saved_right(tmp_path, turn):
    """safetensors 0.8.0 writes the memory of a transposed or Fortran-ordered array as if it were in C order."""
    array = turn(np.arange(24, dtype=np.float32).reshape(4, 6))
    assert not array.flags.c_contiguous
    save_weights(tmp_path / "w.safetensors", {"w": array}, {})
    (found,) = load_weights(tmp_path / "w.safetensors")[0].values()
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"PK\x03\x04" + bytes(40), "safetensors.torch.save_file"),
        (b"\x80\x02}q\x00." + bytes(40), "pickles are not opened here"),
        (b"\x89HDF\r\n\x1a\n" + bytes(40), "it is HDF5, as Keras writes it"),
    ],
)
def test_weights_of_other_programs_get_a_hint(tmp_path, content, says):
    (tmp_path / "model.pth").write_bytes(content)
    with pytest.raises(DataError, match=says) as caught:
        load_weights(tmp_path / "model.pth")
    assert "\n" not in str(caught.value)


def test_numbers_that_numpy_does_not_have_get_a_hint(tmp_path):
    header = json.dumps({"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(DataError, match=r"bfloat16.*; save them as float32"):
        load_weights(tmp_path / "w.safetensors")


def test_digest_sees_names_shapes_and_bits():
    base = digest(WEIGHTS)
    assert digest(dict(reversed(WEIGHTS.items()))) == base
    assert len(base) == 64
    changed = [
        {**WEIGHTS, "conv1.bias": np.array([1, np.nextafter(np.float32(-2), np.float32(0))], np.float32)},
        {**WEIGHTS, "conv1.bias": WEIGHTS["conv1.bias"].reshape(2, 1)},
        {("x" if k == "conv1.bias" else k): v for k, v in WEIGHTS.items()},
        {**WEIGHTS, "conv1.bias": np.array([-0.0, 0], np.float32)},
        {**WEIGHTS, "conv1.bias": np.array([0.0, 0], np.float32)},
    ]
    assert len({base, *map(digest, changed)}) == 1 + len(changed)
