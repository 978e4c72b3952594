"""The downloader against a server on loopback that cuts, lies, refuses and ignores."""

import hashlib
import http.server
import os
import re
import threading

import pytest

from odyssey_core.data.download import fetch
from odyssey_core.errors import DataError

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves ``server.content``, at most ``server.cut`` bytes a reply, from the byte asked for if ``server.ranges``."""

    def do_GET(self):
        server, content = self.server, self.server.content
        server.asked.append(self.headers.get("Range"))
        if self.path != "/file":
            self.send_error(404)
            return
        start = 0
        if server.ranges and (found := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")):
            start = int(found[1])
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : start + server.cut])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.content, server.cut, server.ranges, server.asked = CONTENT, 1 << 40, True, []
    server.url = f"http://127.0.0.1:{server.server_port}/file"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def nothing(done, total):
    """No progress bar."""


def visible(folder):
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def test_a_file_arrives_whole_with_its_progress(server, tmp_path):
    seen = []
    path = fetch([server.url], tmp_path / "new" / "file", SHA256, progress=lambda *at: seen.append(at))
    assert path.read_bytes() == CONTENT and visible(tmp_path / "new") == ["file"]
    assert seen[0] == (0, len(CONTENT)) and seen[-1] == (len(CONTENT), len(CONTENT)) and seen == sorted(seen)
    fetch([server.url], path, SHA256, progress=nothing)
    assert len(server.asked) == 1


def test_a_cut_connection_is_resumed(server, tmp_path):
    server.cut = 400_000
    assert fetch([server.url], tmp_path / "file", SHA256, progress=nothing).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=400000-", "bytes=800000-"]


def test_the_next_call_resumes_what_an_earlier_one_left(server, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT[:1_000_000])
    fetch([server.url], tmp_path / "file", SHA256, progress=nothing)
    assert server.asked == ["bytes=1000000-"] and visible(tmp_path) == ["file"]


def test_a_part_that_was_already_whole(server, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT)
    assert fetch([server.url], tmp_path / "file", SHA256, progress=nothing).read_bytes() == CONTENT


def test_a_part_of_another_file_starts_over(server, tmp_path):
    (tmp_path / "file.part").write_bytes(b"something else")
    assert fetch([server.url], tmp_path / "file", SHA256, progress=nothing).read_bytes() == CONTENT
    assert server.asked == ["bytes=14-", None]


def test_a_server_that_ignores_ranges_starts_over(server, tmp_path):
    server.ranges = False
    (tmp_path / "file.part").write_bytes(CONTENT[:5000])
    assert fetch([server.url], tmp_path / "file", SHA256, progress=nothing).read_bytes() == CONTENT
    assert server.asked == ["bytes=5000-"]


def test_a_server_that_always_cuts_and_ignores_ranges_is_given_up(server, tmp_path):
    server.ranges, server.cut = False, 1000
    with pytest.raises(DataError, match=r"file: could not be downloaded from http://127.*/file \(cut"):
        fetch([server.url], tmp_path / "file", SHA256, progress=nothing)
    assert visible(tmp_path) == ["file.part"]


def test_wrong_content_is_not_kept(server, tmp_path):
    server.content = CONTENT[:-1] + b"?"
    got = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(DataError, match=rf"/file \(expected SHA-256 {SHA256}, got {got}\); put file in {tmp_path}"):
        fetch([server.url], tmp_path / "file", SHA256, progress=nothing)
    assert visible(tmp_path) == []


def test_the_second_mirror_helps_out(server, tmp_path):
    urls = [server.url + "-that-is-not-there", server.url]
    assert fetch(urls, tmp_path / "file", SHA256, progress=nothing).read_bytes() == CONTENT


def test_what_is_said_when_nothing_helps(server, tmp_path):
    urls = [server.url + "s", "http://127.0.0.1:9/file"]
    with pytest.raises(DataError) as caught:
        fetch(urls, tmp_path / "file", SHA256, instead="its members", progress=nothing)
    assert str(caught.value) == (
        f"file: could not be downloaded from {urls[0]} (HTTP 404) or {urls[1]} (no connection); "
        f"put file or its members in {tmp_path} by hand, point data.root at a folder that has the files, "
        "or train without the network: data=glyphs"
    )


def test_a_file_that_is_there_but_wrong(tmp_path):
    (tmp_path / "file").write_bytes(b"other")
    got = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(DataError, match=rf"{tmp_path}/file: expected SHA-256 {SHA256}, got {got}; delete it and run"):
        fetch([], tmp_path / "file", SHA256)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "way").write_text("in the way")
    with pytest.raises(DataError, match=rf"{tmp_path}/way/in: cannot be written \(.*\); make room, or set ODYSSEY"):
        fetch([], tmp_path / "way" / "in" / "file", SHA256)


def test_two_at_once_download_once(server, tmp_path):
    threads = [
        threading.Thread(target=fetch, args=([server.url], tmp_path / "file", SHA256), kwargs={"progress": nothing})
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "file").read_bytes() == CONTENT and len(server.asked) == 1


def test_the_bar_says_where_from_and_where_to(server, tmp_path, capsys):
    fetch([server.url], tmp_path / "file", SHA256)
    out, err = capsys.readouterr()
    assert out == "" and f"downloading {server.url} to {tmp_path / 'file'}" in err
