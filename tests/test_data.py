"""Data: downloads against a server on this machine, damaged and missing files, no network, stand-ins"""
import gzip
import hashlib
import io
import tarfile
import threading
import warnings
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from weightbook.blocks import data
from weightbook.book.settings import load_settings

BODY = b"All the world's a stage,\nand all the men and women merely players.\n"
PLAYS = "tinyshakespeare/input.txt"


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "data").mkdir()
    return load_settings(device="cpu", offline=True, data=tmp_path / "data", cache=tmp_path / "cache")


@pytest.fixture
def register(monkeypatch):
    "Make `data` expect these bytes under a name, at these addresses"

    def known(name, body, urls=("http://127.0.0.1:9/none",)):
        file = data._File(name, len(body), hashlib.sha256(body).hexdigest(), tuple(urls))
        monkeypatch.setitem(data._FILES, name, file)

    return known


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("socket.socket.connect", refuse)


@pytest.fixture
def server(monkeypatch):
    "Serves `pages[path] = (bytes announced, bytes sent)`; `hits` lists what was asked for"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    pages, hits = {}, []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            hits.append(self.path)
            if self.path not in pages:
                return self.send_error(404)
            announced, sent = pages[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(announced))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    http.pages, http.hits, http.url = pages, hits, f"http://127.0.0.1:{http.server_address[1]}"
    yield http
    http.shutdown()
    http.server_close()


def put(folder, name, body):
    path = Path(folder) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    return path


def kept(settings):
    return [path for path in settings.cache.rglob("*") if path.is_file()]


# downloads


def test_a_download_is_kept_and_used_again(settings, register, server):
    register(PLAYS, BODY, [server.url + "/a"])
    server.pages["/a"] = len(BODY), BODY
    online = replace(settings, offline=False)
    first = data.load_text("tinyshakespeare", settings=online)
    assert first.text == BODY.decode() and "download from 127.0.0.1" in first.source
    assert data.load_text("tinyshakespeare", settings=online) == first and server.hits == ["/a"]
    assert data.load_text("tinyshakespeare", settings=settings) == first


@pytest.mark.parametrize("damaged", [BODY[:20], BODY.replace(b"stage", b"STAGE"), b""])
def test_a_damaged_cache_is_fetched_anew(settings, register, server, damaged):
    register(PLAYS, BODY, [server.url + "/a"])
    server.pages["/a"] = len(BODY), BODY
    put(settings.cache / "data", PLAYS, damaged)
    text = data.load_text("tinyshakespeare", settings=replace(settings, offline=False))
    assert text.text == BODY.decode() and server.hits == ["/a"]


def test_other_bytes_are_refused_and_not_kept(settings, register, server):
    register(PLAYS, BODY, [server.url + "/a"])
    server.pages["/a"] = len(BODY), BODY.upper()
    with pytest.raises(ValueError, match="served other bytes than the known hash"):
        data.load_text("tinyshakespeare", settings=replace(settings, offline=False))
    assert kept(settings) == []


def test_an_interrupted_download_leaves_nothing(settings, register, server):
    register(PLAYS, BODY, [server.url + "/a"])
    server.pages["/a"] = len(BODY), BODY[:30]
    with pytest.warns(UserWarning, match="cannot be downloaded"):
        text = data.load_text("tinyshakespeare", settings=replace(settings, offline=False))
    assert "in place of tinyshakespeare" in text.source and kept(settings) == []


@pytest.mark.parametrize("first", ["missing", "altered", "interrupted"])
def test_the_second_address_helps(settings, register, server, first):
    register(PLAYS, BODY, [server.url + "/a", server.url + "/b"])
    server.pages["/b"] = len(BODY), BODY
    if first != "missing":
        server.pages["/a"] = len(BODY), BODY.lower() if first == "altered" else BODY[:9]
    text = data.load_text("tinyshakespeare", settings=replace(settings, offline=False))
    assert text.text == BODY.decode() and server.hits == ["/a", "/b"]


def test_no_listener_means_a_stand_in_with_the_reason(settings, register):
    register(PLAYS, BODY)
    with pytest.warns(UserWarning, match="127.0.0.1:9: ConnectionError"):
        text = data.load_text("tinyshakespeare", settings=replace(settings, offline=False))
    assert text.name == "tinyshakespeare" and len(text.text) > 100_000


# folder, cache, offline


def test_the_folder_comes_before_the_cache(settings, register, no_network):
    register(PLAYS, BODY)
    put(settings.data, PLAYS, BODY)
    put(settings.cache / "data", PLAYS, b"damaged")
    assert data.load_text("tinyshakespeare", settings=settings).source == "Tiny Shakespeare; data folder"


@pytest.mark.parametrize("damaged", [BODY[:20], BODY.replace(b"stage", b"STAGE"), b""])
@pytest.mark.parametrize("offline", [True, False])
def test_a_damaged_file_in_the_folder_is_refused_and_left(settings, register, no_network, damaged, offline):
    register(PLAYS, BODY)
    path = put(settings.data, PLAYS, damaged)
    with pytest.raises(ValueError, match="is damaged: it has .* delete it or fetch it again"):
        data.load_text("tinyshakespeare", settings=replace(settings, offline=offline))
    assert path.read_bytes() == damaged


def test_offline_with_a_damaged_cache_takes_the_stand_in(settings, register, no_network):
    register(PLAYS, BODY)
    path = put(settings.cache / "data", PLAYS, BODY[:20])
    with pytest.warns(UserWarning, match="in the cache has 20 bytes .* offline is set"):
        data.load_text("tinyshakespeare", settings=settings)
    assert path.exists()


@pytest.mark.parametrize("name", ["wikitext-2/test", "wikitext-2/valid", "tinyshakespeare"])
def test_texts_without_anything_have_a_stand_in(settings, no_network, name):
    with pytest.warns(UserWarning, match="neither in the data folder nor in the cache") as caught:
        text = data.load_text(name, settings=settings)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert text.source.startswith("help topics of Python") and text.source.endswith(f"in place of {name}")


@pytest.mark.parametrize(("name", "shape"), [("mnist", (1, 8, 8)), ("cifar10", (3, 32, 32))])
def test_images_without_anything_have_a_stand_in(settings, no_network, name, shape):
    with pytest.warns(UserWarning, match="offline is set"):
        images = data.load_images(name, "test", settings=settings)
    assert images.x.shape[1:] == shape and f"in place of {name}/test" in images.source


@pytest.mark.parametrize("call", [
    lambda s: data.load_text("wikitext", settings=s),
    lambda s: data.load_images("mnits", settings=s),
    lambda s: data.load_images("digits", "valid", settings=s),
    lambda s: data.load_images("digits", settings=s, limit=0),
])
def test_bad_arguments_are_refused(settings, call):
    with pytest.raises(ValueError, match="`(name|split|limit)` must be"):
        call(settings)


# MNIST


def idx(array):
    header = b"\0\0\x08" + bytes([array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes(), compresslevel=1)


def put_mnist(settings, register, part, count):
    "Digits whose first two pixels hold their number in the file; labels are that number modulo ten"
    pixels = np.zeros((count, 28, 28), np.uint8)
    pixels[:, 0, 0], pixels[:, 0, 1] = np.arange(count) // 256, np.arange(count) % 256
    for kind, array in (("images-idx3", pixels), ("labels-idx1", np.arange(count) % 10)):
        name, body = f"mnist/{part}-{kind}-ubyte.gz", idx(array)
        register(name, body)
        put(settings.data, name, body)


def numbers(images):
    pixels = (images.x[:, 0, 0, :2] * 255).round().long()
    return pixels[:, 0] * 256 + pixels[:, 1]


def test_mnist_without_training_digits_is_split(settings, register, no_network):
    put_mnist(settings, register, "t10k", 10_000)
    train, test = (data.load_images("mnist", split, settings=settings) for split in ("train", "test"))
    assert train.x.shape == (8000, 1, 28, 28) and test.x.shape == (2000, 1, 28, 28)
    assert sorted(torch.cat([numbers(train), numbers(test)]).tolist()) == list(range(10_000))
    assert torch.equal(train.y, numbers(train) % 10) and torch.equal(test.y, numbers(test) % 10)
    assert "fixed split 8000/2000" in train.source and "fixed split 8000/2000" in test.source
    again = data.load_images("mnist", "test", settings=settings)
    assert torch.equal(again.x, test.x)


def test_mnist_with_training_digits_keeps_its_split(settings, register, no_network):
    put_mnist(settings, register, "train", 300)
    put_mnist(settings, register, "t10k", 50)
    train, test = (data.load_images("mnist", split, settings=settings) for split in ("train", "test"))
    assert numbers(train).tolist() == list(range(300)) and numbers(test).tolist() == list(range(50))
    assert train.source == "MNIST train; data folder" and test.source == "MNIST test; data folder"


def test_a_limit_takes_a_fixed_choice(settings, register, no_network):
    put_mnist(settings, register, "train", 300)
    few, more, all_ = (data.load_images("mnist", settings=settings, limit=n) for n in (10, 40, 999))
    assert len(few.y) == 10 and len(all_.y) == 300
    assert torch.equal(few.x, more.x[:10]) and torch.equal(few.y, numbers(few) % 10)


@pytest.mark.parametrize("body", [
    b"", b"junk", gzip.compress(b""), gzip.compress(b"\0\0\x09\x01\0\0\0\0"), gzip.compress(b"\0\0\x08\x01\0\0\0\x05abcd"),
    gzip.compress(b"\0\0\x08\x03\0\0"), idx(np.zeros(500))[:-9], idx(np.arange(500))[:-1],
    gzip.compress(b"\0\0\x08\x01\0\0\0\x03abc\0"),
], ids=["empty", "no gzip", "nothing", "type", "short", "header", "gzip cut", "crc", "long"])
def test_damaged_idx_files_are_refused(tmp_path, body):
    with pytest.raises(ValueError, match="is damaged"):
        data._read_idx(put(tmp_path, "a.gz", body))


# CIFAR-10


def put_archive(settings, register, drop=()):
    "The authors' layout with ten images a file; the planes of image i hold i, 2i and 3i"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for leaf in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
            body = b"".join(bytes([i]) + b"".join(bytes([k * i]) * 1024 for k in (1, 2, 3)) for i in range(10))
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{leaf}")
            entry.size = len(body)
            if leaf not in drop:
                archive.addfile(entry, io.BytesIO(body))
    register("cifar-10-binary.tar.gz", buffer.getvalue())
    return put(settings.data, "cifar-10-binary.tar.gz", buffer.getvalue())


def test_cifar_archive(settings, register, no_network):
    put_archive(settings, register)
    train, test = (data.load_images("cifar10", split, settings=settings) for split in ("train", "test"))
    assert train.x.shape == (50, 3, 32, 32) and test.x.shape == (10, 3, 32, 32)
    assert test.y.tolist() == list(range(10)) and test.source == "CIFAR-10 test; data folder"
    assert torch.allclose(test.x.mean((2, 3)) * 255, torch.outer(test.y, torch.tensor([1, 2, 3])).float(), atol=1e-4)


def test_cifar_archive_with_a_missing_member_is_refused(settings, register, no_network):
    put_archive(settings, register, drop=["data_batch_3.bin"])
    with pytest.raises(ValueError, match="is damaged"):
        data.load_images("cifar10", settings=settings)


@pytest.fixture
def small_zip(settings, monkeypatch):
    "Two training images and one test image a class; class i is grey of level 25 i"
    from PIL import Image

    monkeypatch.setattr(data, "_CIFAR_COUNT", {"train": 2, "test": 1})

    def write(skip=()):
        path = settings.data / "cifar10.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for split, count in data._CIFAR_COUNT.items():
                for i, name in enumerate(data._OBJECTS):
                    for k in range(count):
                        Image.new("RGB", (32, 32), (25 * i,) * 3).save(buffer := io.BytesIO(), "JPEG")
                        if (member := f"cifar10/{split}/{name}/{k:04d}.jpg") not in skip:
                            archive.writestr(member, buffer.getvalue())
        return path

    return write


@pytest.mark.parametrize("limit", [None, 7])
def test_cifar_zip(settings, small_zip, no_network, limit):
    small_zip()
    images = data.load_images("cifar10", settings=settings, limit=limit)
    assert len(images.y) == (limit or 20) and "JPEG-compressed copies" in images.source
    assert torch.allclose(images.x.mean((1, 2, 3)) * 255, 25 * images.y.float(), atol=2)


def test_a_zip_with_too_few_images_is_refused(settings, small_zip, no_network):
    small_zip(skip=["cifar10/train/cat/0001.jpg"])
    with pytest.raises(ValueError, match="holds 19 of 20 train images"):
        data.load_images("cifar10", settings=settings)
    assert len(data.load_images("cifar10", "test", settings=settings).y) == 10


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_zip_is_refused(settings, small_zip, no_network, damage):
    path = small_zip()
    body = bytearray(path.read_bytes())
    body[200] ^= 255
    path.write_bytes({"truncated": body[:-50], "flipped": body, "empty": b""}[damage])
    with pytest.raises(ValueError, match="cifar10.zip is damaged: .*; delete it or fetch it again"):
        data.load_images("cifar10", settings=settings)


# what packages ship, and the real files where they are


def test_digits_and_sample_need_nothing(settings, no_network):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train, test = (data.load_images("digits", split, settings=settings) for split in ("train", "test"))
        assert data.load_images("sample", settings=settings).x.shape == (2, 3, 427, 640)
        assert len(data.load_text("stdlib", settings=settings).text) > 100_000
    rows = {tuple(row) for row in torch.cat([train.x, test.x]).flatten(1).tolist()}
    assert len(train.y) + len(test.y) == 1797 and len(rows) > 1780


def test_patches_do_not_overlap_and_hold_the_photographs(settings, no_network):
    with pytest.warns(UserWarning):
        train, test = (data.load_images("cifar10", split, settings=settings) for split in ("train", "test"))
    photographs = data.load_images("sample", settings=settings).x
    assert torch.equal(train.x[0], photographs[0, :, :32, :32])
    assert torch.equal(test.x[-1], photographs[1, :, 384:416, 608:640])
    assert train.y.bincount().tolist() == [195, 195] and test.y.bincount().tolist() == [65, 65]


REAL = load_settings(device="cpu", offline=True)


@pytest.mark.parametrize("name", ["wikitext-2/test", "wikitext-2/valid", "tinyshakespeare"])
def test_real_texts(name):
    file = data._TEXTS[name][0]
    if not (REAL.data and (REAL.data / file).exists()):
        pytest.skip("not in the data folder")
    text = data.load_text(name, settings=REAL)
    assert len(text.text.encode()) == data._FILES[file].size and text.source.endswith("data folder")


def test_real_cifar_zip():
    if not (REAL.data and (REAL.data / "cifar10.zip").exists()):
        pytest.skip("not in the data folder")
    images = data.load_images("cifar10", "test", settings=REAL, limit=500)
    assert images.x.shape == (500, 3, 32, 32) and images.y.bincount().min() > 20
    assert 0.4 < images.x.mean() < 0.55


# a file of one chapter


def one_file(body=BODY, urls=("http://127.0.0.1:9/none",)):
    return dict(size=len(body), sha256=hashlib.sha256(body).hexdigest(), urls=tuple(urls))


def test_a_chapters_file_comes_from_folder_cache_or_network(settings, server):
    server.pages["/a"] = len(BODY), BODY
    file = one_file(urls=[server.url + "/a"])
    with pytest.raises(FileNotFoundError, match="offline is set"):
        data.fetch_file("own/plays.txt", **file, settings=settings)
    path, origin = data.fetch_file("own/plays.txt", **file, settings=replace(settings, offline=False))
    assert path.read_bytes() == BODY and origin.startswith("download from 127.0.0.1:")
    assert data.fetch_file("own/plays.txt", **file, settings=settings)[0] == path and server.hits == ["/a"]
    own = put(settings.data, "own/plays.txt", BODY)
    assert data.fetch_file("own/plays.txt", **file, settings=settings) == (own, "data folder")


def test_a_chapters_file_is_recognised_by_its_hash(settings, server):
    server.pages["/a"] = len(BODY), BODY.upper()
    with pytest.raises(ValueError, match="served other bytes"):
        online = replace(settings, offline=False)
        data.fetch_file("own/plays.txt", **one_file(urls=[server.url + "/a"]), settings=online)
    put(settings.data, "own/plays.txt", BODY.upper())
    with pytest.raises(ValueError, match="damaged"):
        data.fetch_file("own/plays.txt", **one_file(), settings=settings)


@pytest.mark.parametrize("wrong", [{"size": 0}, {"sha256": "abc"}, {"urls": ()}])
def test_a_file_that_cannot_be_recognised_is_refused(settings, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        data.fetch_file("own/plays.txt", **(one_file() | wrong), settings=settings)
