import gzip
import hashlib
import random
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from nontrivial.data.sources.archives import Archive
from nontrivial.data.sources.download import check_archive, download
from nontrivial.data.sources.unpacking import unpack
from nontrivial.errors import UserError

CONTENT = b"published" * 1000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Flaky(SimpleHTTPRequestHandler):
    """A server whose first requests fail."""

    failures = 0

    def do_GET(self):
        if type(self).failures > 0:
            type(self).failures -= 1
            self.send_error(503)
        else:
            super().do_GET()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path):
    """Yield (URL of the folder, its path, the class that counts failures)."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "data.tar").write_bytes(CONTENT)
    handler = type("Handler", (Flaky,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=folder)) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}", folder, handler
        http.shutdown()
        thread.join()


def test_download(server, tmp_path):
    url, _, _ = server
    target = tmp_path / "new" / "folder"
    path = download(Archive("data.tar", f"{url}/data.tar", MD5), target, pause=0)
    assert path.read_bytes() == CONTENT
    assert [p.name for p in target.iterdir()] == ["data.tar"]


def test_a_server_that_fails_twice(server, tmp_path):
    url, _, handler = server
    handler.failures = 2
    path = download(Archive("data.tar", f"{url}/data.tar", MD5), tmp_path, attempts=3, pause=0)
    assert path.read_bytes() == CONTENT
    assert handler.failures == 0


def test_a_server_that_keeps_failing(server, tmp_path):
    url, _, handler = server
    handler.failures = 100
    with pytest.raises(UserError, match=r"download failed 3 times .*503") as caught:
        download(Archive("data.tar", f"{url}/data.tar", MD5), tmp_path / "x", attempts=3, pause=0)
    assert "\n" not in str(caught.value)
    assert handler.failures == 97
    assert list((tmp_path / "x").iterdir()) == []


def test_wrong_checksum(server, tmp_path):
    url, folder, _ = server
    (folder / "data.tar").write_bytes(CONTENT[:-1])
    with pytest.raises(UserError, match=MD5):
        download(Archive("data.tar", f"{url}/data.tar", MD5), tmp_path / "x", attempts=2, pause=0)
    assert list((tmp_path / "x").iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="set data_dir to a folder that you can write"):
        download(Archive("data.tar", "http://127.0.0.1:9/data.tar", MD5), tmp_path / "file" / "x")


def test_an_archive_that_is_not_the_published_one(tmp_path):
    path = tmp_path / "data.tar"
    path.write_bytes(CONTENT)
    archive = Archive("data.tar", "", MD5)
    check_archive(path, archive)
    path.write_bytes(CONTENT[1:])
    with pytest.raises(UserError, match=r"data.tar: wrong checksum .* delete it"):
        check_archive(path, archive)


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9])
def test_a_truncated_archive(tmp_path, suffix, part):
    big = tmp_path / "big"
    big.write_bytes(random.Random(0).randbytes(200_000))
    path = tmp_path / f"data.{suffix}"
    with tarfile.open(path, "w:gz" if suffix == "tar.gz" else "w") as tar:
        tar.add(big, arcname="big")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(UserError, match="not a complete tar archive"):
        unpack(path, tmp_path / "out")


@pytest.mark.parametrize("level", [0, 6])
def test_a_flipped_bit_in_a_compressed_archive(tmp_path, level):
    content = random.Random(0).randbytes(3000)
    (tmp_path / "member").write_bytes(content)
    path = tmp_path / "data.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=level) as tar:
        tar.add(tmp_path / "member", arcname="member")
    whole = path.read_bytes()
    refused = 0
    for bit in random.Random(1).sample(range(8 * len(whole)), 150):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            unpack(path, tmp_path / "out")
            assert (tmp_path / "out" / "member").read_bytes() == content
        except UserError as error:
            assert str(path) in str(error)  # noqa: PT017
            refused += 1
    assert refused > 140
    path.write_bytes(whole[:-1])
    with pytest.raises(UserError, match="not a complete tar archive"):
        unpack(path, tmp_path / "out")


def test_zeros_after_the_last_member_of_an_archive(tmp_path):
    (tmp_path / "member").write_bytes(b"x")
    with tarfile.open(tmp_path / "data.tar", "w") as tar:
        tar.add(tmp_path / "member", arcname="member")
    path = tmp_path / "data.tar.gz"
    path.write_bytes(gzip.compress((tmp_path / "data.tar").read_bytes() + bytes(50 << 20)))
    with pytest.raises(UserError, match="holds far too much data for its size"):
        unpack(path, tmp_path / "out")


def test_an_archive_that_writes_outside_the_folder(tmp_path):
    path = tmp_path / "data.tar"
    (tmp_path / "evil").write_text("x")
    with tarfile.open(path, "w") as tar:
        tar.add(tmp_path / "evil", arcname="../../evil")
    with pytest.raises(UserError, match=r"'\.\./\.\./evil' would be written outside the folder"):
        unpack(path, tmp_path / "a" / "b")
