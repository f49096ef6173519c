"""Where an adapter lies in a source: the same rule for a hub, an archive, a form and a folder on the server."""

import io
import shutil
import zipfile
from pathlib import Path

import pytest

from loradock.registry.contents import pick
from loradock.types.enums import JobStatus, ModelKind
from loradock.types.errors import AdapterRefused, BadRequest
from tests.registry.rig import last_message

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def adapter_in(*folders: str) -> list[str]:
    return [f"{folder}/{file}".removeprefix("/") for folder in folders for file in (CONFIG, WEIGHTS)]


RUN = ["optimizer.pt", "trainer_state.json", "README.md", "logs/events.out"]
TWO = adapter_in("checkpoint-500", "checkpoint-1000")
TAKEN = {
    "at the top": (adapter_in(""), None, ""),
    "in one single folder": (adapter_in("my"), None, "my/"),
    "beside what a training leaves": ([*adapter_in("LoraAdapter"), *RUN], None, "LoraAdapter/"),
    "deep": ([*adapter_in("out/run-3/best"), "out/run-3/log.txt", *RUN], None, "out/run-3/best/"),
    "at the top with checkpoints below": ([*adapter_in(""), *TWO, *RUN], None, ""),
    "the only one with weights": ([*adapter_in("a"), f"b/{CONFIG}", *RUN], None, "a/"),
    "named": ([*TWO, *RUN], "checkpoint-1000", "checkpoint-1000/"),
    "named with a slash": (TWO, "checkpoint-500/", "checkpoint-500/"),
    "named from above the single folder": (
        [f"all/{name}" for name in TWO],
        "all/checkpoint-500",
        "all/checkpoint-500/",
    ),
    "named below the single folder": ([f"all/{name}" for name in TWO], "checkpoint-500", "all/checkpoint-500/"),
    "named as the folder above it": ([*adapter_in("x/sql", "chat")], "x", "x/sql/"),
    "with what a Mac adds": (
        [*adapter_in("my"), "__MACOSX/my/._" + CONFIG, ".DS_Store", f"my/._{WEIGHTS}"],
        None,
        "my/",
    ),
    "with ./ in front": ([f"./{name}" for name in adapter_in("a")], None, "./a/"),
}


@pytest.mark.parametrize("kind", [ModelKind.ADAPTER, None])
@pytest.mark.parametrize("case", TAKEN)
def test_one_adapter_is_taken_whatever_lies_about(case, kind):
    names, subfolder, folder = TAKEN[case]
    found, wanted = pick(names, kind, subfolder)
    assert found is ModelKind.ADAPTER
    assert {entry: file for entry, file in wanted.items() if file in (CONFIG, WEIGHTS)} == {
        f"{folder}{CONFIG}": CONFIG,
        f"{folder}{WEIGHTS}": WEIGHTS,
    }


def test_names_in_upper_case_are_the_same_files():
    assert pick(["A/Adapter_Config.JSON", "A/ADAPTER_MODEL.safetensors"], None)[1] == {
        "A/Adapter_Config.JSON": CONFIG,
        "A/ADAPTER_MODEL.safetensors": WEIGHTS,
    }
    with pytest.raises(BadRequest, match="upper and lower case"):
        pick([*adapter_in(""), "Adapter_Config.json"], None)


def test_several_are_listed_by_number_with_how_to_name_one():
    with pytest.raises(
        BadRequest, match=r"checkpoint-500, checkpoint-1000\. Name one with subfolder, such as check"
    ) as e:
        pick([*TWO, *RUN], ModelKind.ADAPTER)
    assert e.value.param == "subfolder"
    with pytest.raises(BadRequest, match=r"here: a, b\. .* such as all/a "):
        pick(adapter_in("all/a", "all/b", "c"), None, "all")
    many = adapter_in(*(f"checkpoint-{n}" for n in range(1, 60)))
    with pytest.raises(BadRequest, match="and 39 more"):
        pick(many, None)


def test_a_folder_that_is_not_there_is_told_where_adapters_are():
    with pytest.raises(
        BadRequest, match="there is no folder 'sql' here; adapters lie in checkpoint-500, checkpoint-1000"
    ):
        pick(TWO, None, "sql")
    with pytest.raises(BadRequest, match=r"there is no folder '\.\./x'"):
        pick(TWO, None, "../x")


def test_a_base_model_s_folder_is_one_with_an_adapter_below_it():
    base = ["config.json", "model.safetensors", "tokenizer.json", *adapter_in("lora")]
    assert pick(base, None)[0] is ModelKind.MODEL
    assert pick(base, ModelKind.ADAPTER)[1] == {f"lora/{CONFIG}": CONFIG, f"lora/{WEIGHTS}": WEIGHTS}
    with pytest.raises(AdapterRefused, match="MLX"):
        pick([CONFIG, "adapters.safetensors"], None)


@pytest.fixture
def run(hub, adapter_files) -> Path:
    """A repository of two checkpoints, and a name for both."""
    root = hub.root / "org" / "run"
    for step in (500, 1000):
        shutil.copytree(adapter_files, root / f"checkpoint-{step}")
    (root / "checkpoint-500" / "mark.txt").write_text("five hundred")
    (root / "optimizer.pt").write_bytes(b"x")
    return root


def taken_from(hub) -> set[str]:
    return {path.rpartition("/")[0].rpartition("/")[2] for _, path, _ in hub.site.requests if "/resolve/" in path}


@pytest.mark.parametrize(
    "source",
    [
        "org/run/checkpoint-500",
        "org/run/checkpoint-500/",
        "org/run/checkpoint-500@main",
        "org/run@main/checkpoint-500",
        "org/run@refs/pr/1/checkpoint-500",
        "{hub}/org/run/tree/main/checkpoint-500",
        "{hub}/org/run/tree/main/checkpoint-500/",
        "{hub}/org/run/tree/refs%2Fpr%2F1/checkpoint-500",
        "{hub}/org/run/tree/refs/pr/1/checkpoint-500",
        "{hub}/org/run/blob/main/checkpoint-500/adapter_model.safetensors",
        "{hub}/org/run/resolve/main/checkpoint-500/adapter_config.json?download=true",
    ],
)
def test_a_folder_of_a_repository(registry, hub, run, source):
    hub.revisions.add("refs/pr/1")
    job = registry.upload(model_source=source.format(hub=hub.site.url))
    assert job.status is JobStatus.COMPLETE, last_message(job)
    assert taken_from(hub) == {"checkpoint-500"}


@pytest.mark.parametrize("source", ["org/run", "{hub}/org/run", "{hub}/org/run/tree/main"])
def test_a_repository_of_several(registry, hub, run, source):
    source = source.format(hub=hub.site.url)
    refused = last_message(registry.upload(model_source=source))
    assert "checkpoint-500, checkpoint-1000" in refused
    assert "org/name/checkpoint-500" in refused
    job = registry.upload(model_source=source, subfolder="checkpoint-1000")
    assert job.status is JobStatus.COMPLETE
    assert taken_from(hub) == {"checkpoint-1000"}


def test_a_revision_or_folder_that_is_not_there(registry, hub, run):
    assert "no such revision" in last_message(registry.upload(model_source="org/run@nothing/checkpoint-500"))
    assert "no folder 'sql'" in last_message(registry.upload(model_source="org/run/sql"))


def packed(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for file in folder.rglob("*"):
            archive.write(file, f"run/{file.relative_to(folder)}")
        archive.writestr("__MACOSX/run/._optimizer.pt", b"x")
    return buffer.getvalue()


def received_from(registry, folder: Path):
    received = registry.uploads.receive()
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            with received.open(file.relative_to(folder).as_posix()) as sink:
                sink.write(file.read_bytes())
    return received


@pytest.mark.parametrize("subfolder", [None, "checkpoint-1000"])
def test_other_sources_follow_the_same_rule(registry, web, run, subfolder):
    if subfolder is None:  # one is left
        shutil.rmtree(run / "checkpoint-1000")
    shutil.copytree(run, registry.import_root / "run")
    (registry.import_root / "RUN.ZIP").write_bytes(packed(run))
    wanted = {"subfolder": subfolder}
    jobs = [
        registry.upload("a", model_source=web.serve("/run.zip", packed(run)), **wanted),
        registry.upload("b", model_source="file://run", **wanted),
        registry.upload("c", model_source="file://RUN.ZIP", **wanted),
        registry.upload("d", received=received_from(registry, run), **wanted),
    ]
    assert [job.status for job in jobs] == [JobStatus.COMPLETE] * 4, [last_message(job) for job in jobs]


def test_other_sources_list_several_alike(registry, web, run):
    shutil.copytree(run, registry.import_root / "run")
    for source in (web.serve("/run.zip", packed(run)), "file://run"):
        assert "several adapters here: checkpoint-500, checkpoint-1000" in last_message(
            registry.upload(model_source=source)
        )
    job = registry.upload(received=received_from(registry, run))
    assert "several adapters here: checkpoint-500, checkpoint-1000" in last_message(job)
    assert registry.leftovers() == []
