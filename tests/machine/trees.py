"""The files of control groups, as the kernel shows them, in a folder of the test's own."""

from pathlib import Path

V2_MOUNT = "30 23 0:26 {top} /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1_MOUNT = "3{n} 23 0:3{n} {top} /sys/fs/cgroup/{name} rw,nosuid,relatime - cgroup cgroup rw,{name}"


def tree(root: Path, groups: str, mounts: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": groups, "proc/self/mountinfo": mounts, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n" * bool(text))
    return root


def version_2(root: Path, path: str, files: dict[str, str], top: str = "/") -> Path:
    """`files` below /sys/fs/cgroup."""
    return tree(root, f"0::{path}", V2_MOUNT.format(top=top), {f"sys/fs/cgroup/{k}": v for k, v in files.items()})


def version_1(root: Path, path: str, files: dict[str, str], top: str = "/") -> Path:
    """`files` begin with the controller: memory or cpu."""
    mounts = "\n".join(V1_MOUNT.format(n=n, name=name, top=top) for n, name in enumerate(("memory", "cpu,cpuacct")))
    mounts = mounts.replace("/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu")
    groups = f"5:memory:{path}\n4:cpu,cpuacct:{path}\n1:name=systemd:{path}"
    return tree(root, groups, mounts, {f"sys/fs/cgroup/{k}": v for k, v in files.items()})
