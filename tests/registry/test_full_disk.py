"""Uploads from every source, and base models, when the disk is full before they are all there."""

import pytest

from loradock.registry.transfer import Limits
from loradock.types.enums import JobStatus
from loradock.types.errors import StorageFull
from tests.registry.rig import last_message, open_registry
from tests.registry.test_uploads import zipped
from tests.small_disk import small_disk

_MIB = 1 << 20


@pytest.fixture
def large(tmp_path):
    """A folder of more bytes than there is room for."""
    folder = tmp_path / "imports" / "large"
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"x" * 2 * _MIB)
    return folder


@pytest.fixture
def cramped(tmp_path, hub, large, monkeypatch):
    """A registry on a disk with room for a megabyte."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    with small_disk(tmp_path / "disk", 16) as disk:
        limits = Limits(8 * _MIB, 8 * _MIB, 60)
        registry = open_registry(disk.folder / "data", large.parent, hub.site.url, limits=limits)
        registry.uploads.recover()
        registry.uploads.start()
        disk.fill()
        disk.make_room(_MIB)
        try:
            yield registry
        finally:
            registry.uploads.close()
            registry.database.close()


@pytest.mark.parametrize("source", ["file", "url", "hub"])
def test_an_upload_says_that_the_disk_is_full_and_leaves_nothing(cramped, large, web, hub, source):
    if source == "file":
        source = "file://large"
    elif source == "url":
        source = web.serve("/lora", zipped(large))
    else:
        (hub.root / "someone").mkdir()
        (hub.root / "someone" / "large").symlink_to(large)
        source = "someone/large"
    job = cramped.upload(model_source=source)
    assert job.status is JobStatus.FAILED
    assert "disk is full" in last_message(job)
    assert (cramped.leftovers(), cramped.stored(), cramped.model()) == ([], [], None)


def test_a_base_model_says_so(cramped, hub, base_files, large):
    folder = hub.root / "Org" / "Tiny"
    folder.mkdir(parents=True)
    for file in base_files.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "model.safetensors").write_bytes(b"x" * 2 * _MIB)
    with pytest.raises(StorageFull):
        cramped.bases.resolve("Org/Tiny", "tester")
    assert cramped.leftovers() == []
