"""What `kubectl kustomize FOLDER` would print, as far as infra/k8s needs it, so that tests need no kubectl.

Resources, components, strategic-merge patches by name or label, generated ConfigMaps (without the hash behind their
names), images and a namespace. Anything else in a kustomization is refused, not left out.
"""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]

_KNOWN = {
    "apiVersion", "kind", "namespace", "resources", "components", "patches", "images", "configMapGenerator",
}  # fmt: skip
#: By what the items of these lists are told apart when they are merged.
_MERGE_KEYS = {"containers": "name", "env": "name", "volumes": "name", "volumeMounts": "mountPath", "ports": "name"}


def build(folder: Path) -> list[Manifest]:
    """Raises AssertionError for what it does not know."""
    found: list[Manifest] = []
    kustomization = _extend(found, folder)
    for manifest in found:
        if "namespace" in kustomization:
            manifest["metadata"]["namespace"] = kustomization["namespace"]
    return found


def _extend(found: list[Manifest], folder: Path) -> Manifest:
    """Adds what a folder names; a component works on what is there already."""
    kustomization: Manifest = yaml.safe_load((folder / "kustomization.yaml").read_text())
    unknown = kustomization.keys() - _KNOWN
    assert not unknown, f"{folder} uses {unknown}, which this reader does not know"
    for name in kustomization.get("resources", []):
        place = folder / name
        found += build(place) if place.is_dir() else [m for m in yaml.safe_load_all(place.read_text()) if m]
    for name in kustomization.get("components", []):
        _extend(found, folder / name)
    for generator in kustomization.get("configMapGenerator", []):
        _generate(found, generator, folder)
    for patch in kustomization.get("patches", []):
        _patch(found, patch, folder)
    for image in kustomization.get("images", []):
        _set_image(found, image)
    return kustomization


def _generate(found: list[Manifest], generator: Manifest, folder: Path) -> None:
    lines = [line for name in generator.get("envs", []) for line in (folder / name).read_text().splitlines()]
    lines += generator.get("literals", [])
    settings = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    if generator.get("behavior") == "merge":
        [existing] = [m for m in found if (m["kind"], m["metadata"]["name"]) == ("ConfigMap", generator["name"])]
        existing["data"] |= settings
    else:
        metadata = {"name": generator["name"]}
        found.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": settings})


def _patch(found: list[Manifest], patch: Manifest, folder: Path) -> None:
    change: Manifest = yaml.safe_load((folder / patch["path"]).read_text())
    targets = list(_targets(found, patch.get("target"), change))
    assert targets, f"{patch} changes nothing"
    for manifest in targets:
        name = manifest["metadata"]["name"]
        _merge(manifest, deepcopy(change))
        manifest["metadata"]["name"] = name


def _targets(found: list[Manifest], target: Manifest | None, change: Manifest) -> Iterator[Manifest]:
    for manifest in found:
        if target is None:
            if (manifest["kind"], manifest["metadata"]["name"]) == (change["kind"], change["metadata"]["name"]):
                yield manifest
        else:
            label, _, value = target["labelSelector"].partition("=")
            labels = manifest["metadata"].get("labels", {})
            if manifest["kind"] == target["kind"] and label in labels and value in ("", labels[label]):
                yield manifest


def _merge(into: Manifest, change: Manifest) -> None:
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        elif isinstance(value, list) and key in _MERGE_KEYS and key in into:
            _merge_list(into[key], value, _MERGE_KEYS[key])
        else:
            into[key] = value


def _merge_list(into: list[Manifest], change: list[Manifest], by: str) -> None:
    for item in change:
        same = [one for one in into if one[by] == item[by]]
        if same:
            _merge(same[0], item)
        else:
            into.append(item)


def _set_image(found: list[Manifest], image: Manifest) -> None:
    for container in (c for manifest in found for c in containers(manifest)):
        name, _, tag = container["image"].partition(":")
        if name == image["name"]:
            container["image"] = f"{image.get('newName', name)}:{image.get('newTag', tag)}"


def containers(manifest: Manifest) -> list[Manifest]:
    """The containers of what makes pods; none for anything else."""
    pods: list[Manifest] = manifest.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
    return pods
