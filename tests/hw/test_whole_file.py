"""Files are whole or not there, and errors name the file that was asked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hw.whole_file import WholeFileError, check_distinct, check_writable, write_whole


def test_text_and_bytes(tmp_path: Path) -> None:
    write_whole(tmp_path / "text", "é\n")
    assert (tmp_path / "text").read_bytes() == "é\n".encode()
    write_whole(str(tmp_path / "text"), b"\xff")
    assert (tmp_path / "text").read_bytes() == b"\xff"
    assert [entry.name for entry in tmp_path.iterdir()] == ["text"]


@pytest.mark.parametrize(("folder", "words"), [("file", "is not a folder"), ("no", "does not exist")])
def test_no_folder(folder: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    for action in (check_writable, lambda path: write_whole(path, "new")):
        with pytest.raises(WholeFileError, match=rf"x\.json: cannot be written \(the folder .* {words}\)"):
            action(tmp_path / folder / "x.json")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_a_folder_in_the_place(tmp_path: Path) -> None:
    with pytest.raises(WholeFileError, match="it is a folder"):
        check_writable(tmp_path)
    check_writable(None)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(WholeFileError, match="Permission denied"):
            check_writable(tmp_path / "x")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("kind", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_interrupted_writing_leaves_the_old_file(
    kind: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").write_text("old")

    def fail(first: object, second: object) -> None:
        raise kind

    monkeypatch.setattr("hw.whole_file.os.replace", fail)
    with pytest.raises((WholeFileError, KeyboardInterrupt)) as caught:
        write_whole(tmp_path / "x", "new")
    if isinstance(kind, OSError):
        assert str(caught.value).startswith(f"{tmp_path / 'x'}: cannot be written (No space left on device)")
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("x", "old")]


def test_a_device_is_not_replaced() -> None:
    """A rename would put an ordinary file in its place."""
    with pytest.raises(WholeFileError, match=r"/dev/null: cannot be written \(it is no ordinary file\)"):
        write_whole("/dev/null", "text")
    assert Path("/dev/null").is_char_device()


def test_outputs_that_overwrite_each_other(tmp_path: Path) -> None:
    check_distinct(tmp_path / "a", tmp_path / "b", None, tmp_path / "c", None)
    for outputs in ((tmp_path / "x" / ".." / "a",), (tmp_path / "b", None, tmp_path / "b")):
        with pytest.raises(WholeFileError, match="is given twice, and would be overwritten"):
            check_distinct(tmp_path / "a", *outputs)
