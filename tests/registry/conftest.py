"""An adapter that PEFT saved, a web server, a hub, and a registry to bring things into."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models

from loradock.registry.transfer import Limits
from tests.peft_models import save_adapter, save_base
from tests.registry.rig import Registry, open_registry
from tests.registry.sites import Hub, Site, running


@pytest.fixture(scope="session")
def adapter_files(tmp_path_factory) -> Path:
    return save_adapter(tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="session")
def base_files(tmp_path_factory) -> Path:
    folder = save_base(tmp_path_factory.mktemp("base"))
    Tokenizer(models.BPE({"a": 0}, [])).save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def adapter(adapter_files, tmp_path) -> Path:
    """A copy to change at will."""
    return Path(shutil.copytree(adapter_files, tmp_path / "adapter"))


@pytest.fixture
def web() -> Iterator[Site]:
    with running(Site()) as site:
        yield site


@pytest.fixture
def hub(tmp_path) -> Iterator[Hub]:
    root = tmp_path / "hub"
    root.mkdir()
    hub = Hub(root)
    with running(hub.site):
        yield hub


@pytest.fixture
def registry(tmp_path, hub, monkeypatch) -> Iterator[Registry]:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    import_root = tmp_path / "imports"
    import_root.mkdir()
    registry = open_registry(tmp_path / "data", import_root, hub.site.url, limits=Limits(4 << 20, 8 << 20, 60))
    registry.uploads.recover()
    registry.uploads.start()
    try:
        yield registry
    finally:
        registry.uploads.close()
        registry.database.close()
