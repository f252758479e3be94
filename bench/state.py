"""The desired states that benchmarks give to `wharf`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from controller.domain.spec import API_VERSION

WHARF = (sys.executable, "-m", "controller.cli.main")
"""The command, as a process of its own."""


def desired_state(home: Path, spec: Mapping[str, object], images: Sequence[str] = ()) -> Path:
    """A file with a Wharf of this spec, and an ImageSet of these names if there are some."""
    said: list[Mapping[str, object]] = [{"apiVersion": API_VERSION, "kind": "Wharf", "metadata": {"name": "bench"}, "spec": spec}]
    if images:
        listed = [{"name": name} for name in images]
        said.append({"apiVersion": API_VERSION, "kind": "ImageSet", "metadata": {"name": "images"}, "spec": {"images": listed}})
    path = home / "desired-state.yaml"
    path.write_text(yaml.safe_dump_all(said))
    return path


def copying_from(
    upstream: str, registry: str, repositories: Sequence[str], tags: Sequence[str], **more: object
) -> tuple[Mapping[str, object], list[str]]:
    """What desired_state() needs for a registry that shall have all of these tags from an upstream that stands for docker.io."""
    spec = {"registry": {"url": registry}, "upstreams": [{"domain": "docker.io", "url": upstream}], **more}
    return spec, [f"docker.io/{repository}:{tag}" for repository in repositories for tag in tags]
