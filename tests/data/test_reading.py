"""loopos/data/reading.py: every form that data may take, and every way it may be wrong."""

import os
import pathlib
import pickle
import zipfile

import numpy as np
import pytest

from loopos.data import reading
from loopos.data.reading import Source, check_ids, default_text, fingerprint, load_ids, read, train_eval_split
from loopos.data.tokenizer import ByteTokenizer, CharTokenizer

TEXT = "zwölf Boxkämpfer\r\njagen 😀"


class Dataset:
    def batch(self, step, micro):
        return np.zeros((1, 2), np.int64), np.zeros((1, 2), np.int64)


class Upper:
    """A tokenizer of somebody else: ids are capital letters counted from A."""

    vocab_size = 26

    def encode(self, text):
        return [ord(c) - 65 for c in text.upper() if c.isalpha()]

    def decode(self, ids):
        return "".join(chr(65 + i) for i in ids)


@pytest.mark.parametrize("form", ["path", "name", "text", "bytes", "bytearray", "memoryview"])
def test_a_text_in_every_form_is_its_utf8_bytes(tmp_path, form):
    raw = TEXT.encode()
    file = tmp_path / "some text.txt"
    file.write_bytes(raw)
    forms = {"path": file, "name": str(file), "text": TEXT, "bytes": raw, "bytearray": bytearray(raw)}
    ids, tokenizer = load_ids(forms.get(form, memoryview(raw)))
    assert ids.tolist() == list(raw)
    assert tokenizer == ByteTokenizer()


def test_chars_read_files_and_bytes_as_utf8(tmp_path):
    (tmp_path / "a.txt").write_bytes(TEXT.encode())
    for data in (tmp_path / "a.txt", TEXT.encode(), TEXT):
        ids, tokenizer = load_ids(data, "chars")
        assert tokenizer == CharTokenizer(TEXT)
        assert tokenizer.decode(ids) == TEXT  # the \r\n too


def test_an_object_reads_the_text():
    tokenizer = Upper()
    ids, same = load_ids(b"Abz", tokenizer)
    assert ids.tolist() == [0, 1, 25]
    assert same is tokenizer


@pytest.mark.parametrize(
    ("result", "error"), [([0.5], TypeError), ([[1, 2]], ValueError), (None, TypeError), ("ab", TypeError)]
)
def test_a_tokenizer_that_gives_something_else(result, error):
    tokenizer = Upper()
    tokenizer.encode = lambda text: result
    with pytest.raises(error, match=r"tokenizer\.encode: ids must be"):
        load_ids("text", tokenizer)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64, np.uint64, ">i4"])
def test_integer_arrays_are_taken_without_a_copy(dtype):
    array = np.arange(10).astype(dtype)
    ids, tokenizer = load_ids(array)
    assert np.shares_memory(ids, array)
    assert tokenizer is None
    assert load_ids(array, "bytes")[1] == ByteTokenizer()


@pytest.mark.parametrize("values", [[1, 2, 3], (1, 2, 3), range(1, 4)])
def test_sequences_of_ints(values):
    assert load_ids(values)[0].tolist() == [1, 2, 3]


@pytest.mark.parametrize("suffix", [".npy", ".NPY", ".bin"])
@pytest.mark.parametrize("form", [str, pathlib.Path])
def test_token_files_are_memory_mapped(tmp_path, suffix, form):
    file = tmp_path / f"tokens{suffix}"
    values = np.array([5, 65535, 0, 7], "<u2")
    if suffix == ".bin":
        values.tofile(file)
    else:
        with open(file, "wb") as f:
            np.save(f, values)
    ids, tokenizer = load_ids(form(file))
    assert ids.tolist() == values.tolist()
    assert tokenizer is None
    assert type(ids) is np.ndarray
    assert isinstance(ids.base, np.memmap)
    assert not ids.flags.writeable


def test_a_memmap_is_not_read_into_memory(tmp_path):
    np.arange(10, dtype=np.int32).tofile(tmp_path / "x")
    mapped = np.memmap(tmp_path / "x", np.int32, "r")
    assert np.shares_memory(load_ids(mapped)[0], mapped)


@pytest.mark.parametrize(
    "array", [np.ones(3), np.ones(3, bool), np.array(["1"]), np.array([1, None]), np.ones(3, "M8[s]")]
)
def test_ids_that_are_not_integers(tmp_path, array):
    with pytest.raises(TypeError, match="data: ids must be integers, got"):
        load_ids(array)
    if array.dtype != object:
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(TypeError, match=r"a\.npy\): ids must be integers, got"):
            load_ids(tmp_path / "a.npy")


def test_float_lists_and_ragged_lists():
    for values in ([1.0, 2.0], [1, 2.5], [[1], [2, 3]], [10**30]):
        with pytest.raises(TypeError, match="data: ids must be"):
            load_ids(values)


@pytest.mark.parametrize("shape", [(), (2, 3), (1, 1, 1)])
def test_ids_of_another_shape(shape):
    with pytest.raises(ValueError, match="data: ids must be a 1-D array, got shape"):
        load_ids(np.ones(shape, np.int64))


@pytest.mark.parametrize("values", [[], np.array([]), np.zeros(0, np.int32), "", b""])
def test_nothing_is_no_tokens(values):
    assert load_ids(values)[0].shape == (0,)


@pytest.mark.parametrize("suffix", [".npy", ".bin", ".txt"])
def test_an_empty_array_in_a_file(tmp_path, suffix):
    file = tmp_path / f"empty{suffix}"
    file.write_bytes(b"")
    if suffix == ".npy":
        np.save(file, np.zeros(0, np.uint16))
    assert load_ids(file)[0].shape == (0,)


@pytest.mark.parametrize("data", [None, 3, 3.0, object(), Dataset, {"a": 1}, {1, 2}])
def test_something_else_is_a_type_error(data):
    with pytest.raises(TypeError, match="data: expected a path, a text, bytes"):
        read(data)


def test_datasets_are_recognised():
    dataset = Dataset()
    source = read(dataset)
    assert source.value is dataset
    assert source.is_dataset
    assert not read("text").is_dataset
    assert not read([1]).is_dataset
    with pytest.raises(TypeError, match="expected a text, a file or ids"):
        load_ids(dataset)


def test_a_path_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data \(file .*none\.txt\): no such file") as caught:
        read(tmp_path / "none.txt")
    assert caught.value.filename == str(tmp_path / "none.txt")
    with pytest.raises(IsADirectoryError, match=r"a folder with train\.jsonl, got a folder without"):
        read(tmp_path)


@pytest.mark.parametrize("text", ["x" * 100_000, "a\0b", "\ud800", "a\nb.txt", "tests"])
def test_texts_that_no_file_can_be_called(text):
    assert read(text).value == text


def test_a_folder_of_that_name_is_still_a_text(tmp_path):
    assert read(str(tmp_path)).value == str(tmp_path)


@pytest.mark.parametrize("text", ["input.txt", "data/input", "some folder/input file.txt", "x.npy", "/a"])
def test_short_text_like_a_path(text):
    source = read(text)
    assert source.maybe_path == text
    with pytest.raises(ValueError, match=rf"file was not found.*{len(text)} tokens.*needs at least 65") as caught:
        reading.require_length(source, len(text), 64)
    assert isinstance(caught.value, FileNotFoundError)
    assert caught.value.filename == text


@pytest.mark.parametrize("text", ["hello world", "", "no path.", "one/two\nthree.txt", "Yes. No"])
def test_short_text_unlike_a_path(text):
    with pytest.raises(
        ValueError, match=r"data: 0 tokens are too few for seq_len 64, which needs at least 65"
    ) as caught:
        reading.require_length(read(text), 0, 64)
    assert not isinstance(caught.value, OSError)


def test_a_long_enough_file_name_is_a_text_with_a_warning():
    with pytest.warns(UserWarning, match=r"no file 'corpus/input\.txt' was found, so its name is taken as the text"):
        reading.require_length(read("corpus/input.txt"), 16, 4)
    for text in ("to be/not to be", "see input.txt", "3.14159"):
        reading.require_length(read(text), len(text), 4)


def test_lone_surrogates_and_bad_utf8():
    with pytest.raises(ValueError, match=r"data: text has a lone surrogate U\+D800 at position 1"):
        load_ids("a\ud800")
    with pytest.raises(ValueError, match="data: byte 0xff at position 3 is not UTF-8"):
        load_ids(b"abc\xff", "chars")
    assert load_ids(b"abc\xff")[0].tolist() == [97, 98, 99, 255]


def test_chars_need_a_text():
    with pytest.raises(ValueError, match="makes its vocabulary from a text, got data without one"):
        load_ids([1, 2, 3], "chars")


def test_damaged_token_files(tmp_path):
    file = tmp_path / "x.npy"
    np.save(file, np.arange(100))
    whole = file.read_bytes()
    archive = tmp_path / "zip.npy"
    with zipfile.ZipFile(archive, "w") as z:
        z.write(file, "a.npy")
    damaged = [b"", b"text", whole[:5], whole[:60], whole[:-1], b"\x93NUMPY\x01\x00\x04\x00{{{{", archive.read_bytes()]
    for content in damaged:
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"x\.npy\): expected a \.npy file"):
            read(file)
    (tmp_path / "x.bin").write_bytes(b"abc")
    with pytest.raises(ValueError, match="uint16 ids, 2 bytes each, got 3 bytes"):
        read(tmp_path / "x.bin")


def test_a_pickle_is_never_opened(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    np.save(tmp_path / "evil.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"expected a \.npy file of integers"):
        read(tmp_path / "evil.npy")
    (tmp_path / "raw.npy").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match=r"expected a \.npy file of integers"):
        read(tmp_path / "raw.npy")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.int64])
@pytest.mark.parametrize("at", [0, 6, 7, 8, 20])
def test_check_ids_finds_the_first_one_in_any_piece(monkeypatch, dtype, at):
    monkeypatch.setattr(reading, "CHUNK", 7)
    ids = np.full(21, 9, dtype)
    check_ids(ids, 10)
    ids[at:] = 11
    ids[at] = 10
    with pytest.raises(IndexError, match=rf"eval_data: id 10 at position {at} is outside 0\.\.9"):
        check_ids(ids, 10, "eval_data")


def test_check_ids_signs_and_widths():
    with pytest.raises(IndexError, match=r"id -1 at position 1 is outside 0\.\.9"):
        check_ids(np.array([0, -1], np.int8), 10)
    with pytest.raises(IndexError, match=r"id -1 at position 1 is outside 0\.\.199"):
        check_ids(np.array([0, -1], np.int8), 200)
    with pytest.raises(IndexError, match=r"id 18446744073709551615 at position 0"):
        check_ids(np.array([2**64 - 1], np.uint64), 10)
    with pytest.raises(IndexError, match=r"id 255 at position 0 is outside 0\.\.254"):
        check_ids(np.array([255], np.uint8), 255)
    check_ids(np.array([255], np.uint8), 256)
    check_ids(np.zeros(0, np.int64), 1)


def test_fingerprint_is_of_the_values():
    ids = np.arange(300) % 200
    first = fingerprint(ids)
    assert first["length"] == 300
    assert first == fingerprint(ids.astype(np.uint8)) == fingerprint(ids.astype(">i4"))
    changed = ids.copy()
    changed[299] += 1
    assert fingerprint(changed)["sha256"] != first["sha256"]
    assert fingerprint(np.zeros(3, np.uint8))["sha256"] != fingerprint(np.zeros(4, np.uint8))["sha256"]


def test_fingerprint_of_a_long_stream_samples_both_ends():
    ids = np.zeros((1 << 22) + 5, np.uint8)
    first = fingerprint(ids)["sha256"]
    for at in (0, -1):
        ids[at] = 1
        assert fingerprint(ids)["sha256"] != first
        ids[at] = 0
    assert fingerprint(ids)["sha256"] == first


def test_default_text_is_english_and_always_the_same():
    text = default_text()
    assert text == default_text()
    assert len(text) > 300_000
    assert text.count(" the ") > 3000
    topics = pytest.importorskip("pydoc_data.topics").topics
    assert all(topics[key].strip() in text for key in topics)
    assert text.index(topics["assert"].strip()) < text.index(topics["yield"].strip())


def test_split_holds_out_the_last_tenth():
    text = "".join(chr(32 + i % 90) for i in range(1000))
    train, held_out = train_eval_split(text)
    assert (train, held_out) == (text[:900], text[900:])
    ids = np.arange(1003)
    train, held_out = train_eval_split(ids, fraction=0.5)
    assert train.tolist() + held_out.tolist() == ids.tolist()
    assert len(train) == 501
    assert np.shares_memory(held_out, ids)
    assert train_eval_split(b"0123456789") == (b"012345678", b"9")


def test_split_refuses():
    for fraction in (0, 1, -0.1, float("nan")):
        with pytest.raises(ValueError, match="train_eval_split: fraction must be a finite number greater than 0"):
            train_eval_split("text", fraction)
    with pytest.raises(TypeError, match="train_eval_split: expected str, bytes or an array"):
        train_eval_split(["text"])


def test_source_text():
    assert Source(b"ab").text() == Source("ab").text() == "ab"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (["a text", "b text"], "texts"),
        ((b"a", b"b"), "texts"),
        ([pathlib.Path("a.txt"), pathlib.Path("b.txt")], "files"),
    ],
)
def test_a_list_of_texts_is_not_read(data, kind):
    with pytest.raises(TypeError, match=rf"data: a list of {kind} is not read; give one path, or join the texts"):
        read(data)


def test_bytes_beyond_the_vocabulary_point_to_the_tokenizer():
    with pytest.raises(
        IndexError, match=r"vocab_size is 65, and a text is read as bytes, ids 0\.\.255, unless tokenizer="
    ):
        check_ids(load_ids("the miller")[0], 65)
    with pytest.raises(IndexError, match=r"vocab_size is 65$"):
        check_ids(np.arange(99), 65)


def test_standard_input_is_named():
    with pytest.raises(FileNotFoundError, match="no such file; standard input is /dev/stdin"):
        read(pathlib.Path("-"))
    with pytest.raises(FileNotFoundError, match="no such file: "):
        read(pathlib.Path("nothing.txt"))
