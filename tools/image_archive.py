#!/usr/bin/env python3
"""A container image in an archive, as `docker save` writes it.

    image_archive.py FILE      # settles it, says its id and sizes, leaves its SBOM beside FILE

To settle an archive is to leave out what differs from one build to the next: of the image's
description which containers and images it was built by, of the archive times and old forms.
"""

import functools
import hashlib
import io
import json
import pathlib
import shutil
import sys
import tarfile

SBOM = "usr/share/doc/ounce/sbom.spdx.json"


class ImageArchive:
    def __init__(self, path):
        self._tar = tarfile.open(path)
        manifest, = json.loads(self._read("manifest.json"))
        self._layers = manifest["Layers"]
        self.id = manifest["Config"].removesuffix(".json").rpartition("/")[2]
        self.config = json.loads(self._read(manifest["Config"]))["config"]

    def _read(self, name):
        return self._tar.extractfile(name).read()

    def _layer(self, name):
        return tarfile.open(fileobj=self._tar.extractfile(name))

    @functools.cached_property
    def layer_bytes(self):
        """Of each layer's files; the first is the base."""
        sizes = []
        for name in self._layers:
            with self._layer(name) as layer:
                sizes.append(sum(member.size for member in layer))
        return sizes

    def base_files(self):
        """Names of what the base has."""
        with self._layer(self._layers[0]) as layer:
            return [member.name.removeprefix("./") for member in layer]

    def file(self, name):
        """The content of a file that the uppermost layer has."""
        with self._layer(self._layers[-1]) as layer:
            return layer.extractfile(name).read()

    def extract(self, folder):
        """The root file system, into an empty folder. What needs root is left out if this is
        not: owners."""
        folder = pathlib.Path(folder)
        for name in self._layers:
            with self._layer(name) as layer:
                for member in layer:
                    self._extract(layer, member, folder)

    @staticmethod
    def _extract(layer, member, folder):
        path = folder / member.name
        if path.name == ".wh..wh..opq":
            for child in path.parent.iterdir():
                shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()
        elif path.name.startswith(".wh."):
            gone = path.with_name(path.name.removeprefix(".wh."))
            shutil.rmtree(gone) if gone.is_dir() and not gone.is_symlink() else gone.unlink()
        else:
            if not member.isdir() and (path.is_symlink() or path.exists()):
                path.unlink()
            layer.extract(member, folder)


def settle(path):
    """Writes the archive anew."""
    settled = path.with_suffix(".settled")
    with tarfile.open(path) as old, tarfile.open(settled, "w") as new:

        def add(name, content, size):
            entry = tarfile.TarInfo(name)
            entry.size = size
            new.addfile(entry, content)

        def add_bytes(name, content):
            add(name, io.BytesIO(content), len(content))

        manifest, = json.load(old.extractfile("manifest.json"))
        description = json.load(old.extractfile(manifest["Config"]))
        for name in ("container", "container_config", "parent"):
            description.pop(name, None)
        description["config"].pop("Hostname", None)
        for step in description["history"]:
            step.pop("comment", None)
        config = json.dumps(description).encode()
        manifest["Config"] = hashlib.sha256(config).hexdigest() + ".json"
        # As Docker has them, without a registry.
        manifest["RepoTags"] = sorted({tag.rpartition("/")[2] for tag in manifest["RepoTags"]})
        add_bytes(manifest["Config"], config)
        for name in dict.fromkeys(manifest["Layers"]):
            layer = old.extractfile(name)
            size = layer.seek(0, io.SEEK_END)
            layer.seek(0)
            add(name, layer, size)
        add_bytes("manifest.json", json.dumps([manifest]).encode())
    settled.replace(path)


def main():
    path = pathlib.Path(sys.argv[1])
    settle(path)
    image = ImageArchive(path)
    base, *own = image.layer_bytes
    print(f"{image.config['Labels']['org.opencontainers.image.revision']}: sha256:{image.id}")
    print(f"{sum(own) / 1e6:.1f} MB above {base / 1e6:.1f} MB of its base")
    sbom = path.with_suffix(".spdx.json")
    sbom.write_bytes(image.file(SBOM))
    print(f"{path}, {sbom}")


if __name__ == "__main__":
    main()
