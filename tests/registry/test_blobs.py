import pytest

from loradock.registry.blobs import Blobs
from loradock.registry.details import files_of


@pytest.fixture
def blobs(tmp_path):
    return Blobs(tmp_path)


def staged(blobs, **files):
    folder = blobs.stage()
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def test_publishing_is_by_content_and_idempotent(blobs):
    first, size = blobs.publish(staged(blobs, a="1", b="22"))
    again, _ = blobs.publish(staged(blobs, b="22", a="1"))
    assert (first, size) == (again, 3)
    assert sorted(file.read_text() for file in blobs.path(first).iterdir()) == ["1", "22"]
    assert list(blobs.staging.iterdir()) == []
    assert all(file.stat().st_mode & 0o777 == 0o444 for file in blobs.path(first).iterdir())


def test_what_is_made_of_the_content_is_none(blobs):
    plain, size = blobs.publish(staged(blobs, a="1", b="22"))
    blobs.free(plain)
    with_more = blobs.publish(staged(blobs, a="1", b="22", **{".made-of-it": "333"}))
    assert with_more == (plain, size)
    made = blobs.path(plain) / ".made-of-it"
    assert (made.read_text(), made.stat().st_mode & 0o777) == ("333", 0o444)
    assert [file.name for file in files_of(blobs.path(plain))] == ["a", "b"]


def test_names_and_borders_are_part_of_the_content(blobs):
    contents = [{"a": "1"}, {"b": "1"}, {"a": "12"}, {"a": "1", "b": "2"}, {"a": "1", "b": ""}, {"ab": "1"}]
    digests = {blobs.publish(staged(blobs, **content))[0] for content in contents}
    assert len(digests) == len(contents)


def test_freeing_and_collecting(blobs):
    kept, _ = blobs.publish(staged(blobs, a="1"))
    freed, _ = blobs.publish(staged(blobs, a="2"))
    orphan, _ = blobs.publish(staged(blobs, a="3"))
    staged(blobs, a="half an upload")
    (blobs.staging / "link").symlink_to(blobs.path(kept))
    blobs.free(freed)
    blobs.free(freed)
    assert not blobs.path(freed).exists()
    assert blobs.collect([kept]) == [orphan]
    assert list(blobs.staging.iterdir()) == []
    assert [path.name for path in blobs.root.iterdir()] == [kept]
    assert (blobs.path(kept) / "a").read_text() == "1"
