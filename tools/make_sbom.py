#!/usr/bin/env python3
"""Writes what is in the image's root file system, as SPDX 2.3 in JSON.

    make_sbom.py ROOT > sbom.spdx.json      # the Dockerfile's last stage but one

Listed are the Debian packages that ROOT's dpkg knows, the two programs and their files,
the models, and the packages of this machine, which built the programs, whose headers are
compiled into them. SOURCE_DATE_EPOCH is the time that it names; the same ROOT and time
give the same bytes.
"""

import argparse
import datetime
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import urllib.parse
import uuid

SOURCE_ROOT = pathlib.Path(__file__).resolve().parent.parent

# Of these nothing but headers is used, so no library of theirs is in the image.
BUILT_IN = ("libcli11-dev", "nlohmann-json3-dev")

# Where the image has files that no package brought: ours.
PROGRAM_FOLDERS = ("usr/local/bin", "etc/ounce", "usr/share/doc/ounce")
MODEL_FOLDER = "models"

# What Debian's copyright files call a licence, in lower case, and SPDX. GNU's are
# matched by GNU_LICENCE; others become a LicenseRef.
LICENCES = {
    "apache-2": "Apache-2.0", "apache-2.0": "Apache-2.0", "artistic": "Artistic-1.0-Perl",
    "artistic-2": "Artistic-2.0", "beerware": "Beerware", "bsd-2-clause": "BSD-2-Clause",
    "bsd-3-clause": "BSD-3-Clause", "bsd-4-clause": "BSD-4-Clause",
    "bsd-4-clause-uc": "BSD-4-Clause-UC", "bsl-1.0": "BSL-1.0", "cc-by-3.0": "CC-BY-3.0",
    "cc0-1.0": "CC0-1.0", "expat": "MIT", "fsfap": "FSFAP", "fsfullr": "FSFULLR", "isc": "ISC",
    "latex2e": "Latex2e", "mit": "MIT", "ms-pl": "MS-PL", "sleepycat": "Sleepycat", "x11": "X11",
    "zlib": "Zlib",
}
GNU_LICENCE = re.compile(r"([AL]?GPL|GFDL)-(\d)(?:\.(\d))?(\+?)")

Entry = dict[str, object]


def spdx_id(*parts: str) -> str:
    return "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]", "-", "-".join(parts))


class Licences:
    """Expressions, and what they name that is not SPDX's."""

    def __init__(self) -> None:
        self._references: dict[str, tuple[str, list[str]]] = {}

    def declared(self, package: str, copyright_file: str) -> str | None:
        """What a copyright file in Debian's machine-readable form names, all of it;
        None of any other form."""
        if not re.search(r"^Format(-Specification)?:", copyright_file[:2000], re.M):
            return None
        names = re.findall(r"^License:[ \t]*(\S.*?)[ \t]*$", copyright_file, re.M)
        clauses = {part for name in names for part in re.split(r",?\s+and\s+|,\s*", name)}
        return " AND ".join(sorted({self._choice(package, clause) for clause in clauses})) or None

    def _choice(self, package: str, clause: str) -> str:
        options = sorted({self._licence(package, name) for name in
                          re.split(r"\s+(?:and/)?or\s+", clause)})
        return options[0] if len(options) == 1 else f"({' OR '.join(options)})"

    def _licence(self, package: str, name: str) -> str:
        if gnu := GNU_LICENCE.fullmatch(name):
            family, major, minor, later = gnu.groups()
            return f"{family}-{major}.{minor or 0}-{'or-later' if later else 'only'}"
        if known := LICENCES.get(name.lower()):
            return known
        reference = "LicenseRef-Debian-" + re.sub(r"[^A-Za-z0-9.-]", "-", name.lower())
        packages = self._references.setdefault(reference, (name, []))[1]
        if package not in packages:
            packages.append(package)
        return reference

    def extracted(self) -> list[Entry]:
        return [{"licenseId": reference, "name": name,
                 "extractedText": "As /usr/share/doc/PACKAGE/copyright has it, PACKAGE being "
                                  + " or ".join(sorted(packages))}
                for reference, (name, packages) in sorted(self._references.items())]


def installed(root: pathlib.Path) -> list[dict[str, str]]:
    """The packages that a root file system's dpkg has, by name."""
    names = ("Package", "Version", "Architecture", "source:Package", "source:Version", "Maintainer",
             "db:Status-Status")
    form = "\t".join(f"${{{name}}}" for name in names) + "\n"
    text = subprocess.run(["dpkg-query", f"--admindir={root / 'var/lib/dpkg'}", "-W", "-f", form],
                          check=True, capture_output=True, text=True).stdout
    rows = [dict(zip(names, line.split("\t"), strict=True)) for line in text.splitlines()]
    return sorted((row for row in rows if row["db:Status-Status"] == "installed"),
                  key=lambda row: row["Package"])


def distribution(root: pathlib.Path) -> str:
    """As package URLs have it: debian-12."""
    fields = dict(re.findall(r'^([A-Z_]+)="?([^"\n]*)"?$', (root / "etc/os-release").read_text(), re.M))
    return f"{fields['ID']}-{fields['VERSION_ID']}"


def debian_package(root: pathlib.Path, row: dict[str, str], licences: Licences) -> Entry:
    name, version = row["Package"], row["Version"]
    words = root / "usr/share/doc" / name / "copyright"
    declared = None
    if words.exists():
        declared = licences.declared(name, words.read_text(errors="replace"))
    entry: Entry = {
        "SPDXID": spdx_id("Debian", name), "name": name, "versionInfo": version,
        "supplier": "Organization: Debian", "originator": originator(row["Maintainer"]),
        "sourceInfo": f"built from Debian's source package {row['source:Package']} "
                      f"{row['source:Version']}",
        "downloadLocation": "NOASSERTION", "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION", "licenseDeclared": declared or "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl",
            "referenceLocator": f"pkg:deb/debian/{urllib.parse.quote(name)}@"
                                f"{urllib.parse.quote(version, safe='')}"
                                f"?arch={row['Architecture']}&distro={distribution(root)}"}],
    }
    if not declared:
        entry["licenseComments"] = f"Said in words: /usr/share/doc/{name}/copyright"
    return entry


def originator(maintainer: str) -> str:
    found = re.fullmatch(r"(.*?)\s*<(.*)>", maintainer)
    who, address = found.groups() if found else (maintainer, "")
    kind = "Organization" if re.search(r"team|group|maintainers|developers|packagers|debian", who, re.I) else "Person"
    return f"{kind}: {who}" + (f" ({address})" if address else "")


def own_files(root: pathlib.Path, folder: str, licence: str) -> list[Entry]:
    entries = []
    for path in sorted((root / folder).rglob("*")):
        if not path.is_file() or path.name == "sbom.spdx.json":
            continue
        content, name = path.read_bytes(), path.relative_to(root).as_posix()
        entries.append({
            "SPDXID": spdx_id("File", name), "fileName": f"./{name}",
            "checksums": [{"algorithm": "SHA1", "checksumValue": hashlib.sha1(content).hexdigest()},
                          {"algorithm": "SHA256",
                           "checksumValue": hashlib.sha256(content).hexdigest()}],
            "licenseConcluded": licence, "licenseInfoInFiles": ["NOASSERTION"],
            "copyrightText": "NOASSERTION"})
    return entries


def own_package(name: str, version: str, purpose: str, licence: str, files: list[Entry]) -> Entry:
    sums = sorted(file["checksums"][0]["checksumValue"] for file in files)  # type: ignore[index]
    return {"SPDXID": spdx_id(name), "name": name, "versionInfo": version,
            "primaryPackagePurpose": purpose, "downloadLocation": "NOASSERTION",
            "filesAnalyzed": True, "hasFiles": [file["SPDXID"] for file in files],
            "packageVerificationCode":
                {"packageVerificationCodeValue": hashlib.sha1("".join(sums).encode()).hexdigest()},
            "licenseConcluded": licence, "licenseDeclared": licence,
            "licenseInfoFromFiles": ["NOASSERTION"], "copyrightText": "NOASSERTION"}


def model_licence(folder: pathlib.Path) -> str:
    """As the head of its README names it."""
    found = re.search(r"^license: (\S+)$", (folder / "README.md").read_text(), re.M)
    return LICENCES[found.group(1)] if found else "NOASSERTION"


def document(root: pathlib.Path, version: str, created: int) -> Entry:
    licences = Licences()
    packages, files = [], []
    related = [("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-image")]

    def add(package: Entry, its_files: list[Entry]) -> None:
        packages.append(package)
        files.extend(its_files)
        related.append(("SPDXRef-image", "CONTAINS", str(package["SPDXID"])))
        related.extend((str(package["SPDXID"]), "CONTAINS", str(file["SPDXID"])) for file in its_files)

    mine = [file for folder in PROGRAM_FOLDERS for file in own_files(root, folder, "Apache-2.0")]
    add(own_package("ounce", version, "APPLICATION", "Apache-2.0", mine), mine)
    for folder in sorted((root / MODEL_FOLDER).iterdir()):
        licence = model_licence(folder)
        its = own_files(root, f"{MODEL_FOLDER}/{folder.name}", licence)
        add(own_package(folder.name, version, "OTHER", licence, its), its)
    for row in installed(root):
        add(debian_package(root, row, licences), [])
    builder = pathlib.Path("/")
    for row in installed(builder):
        if row["Package"] in BUILT_IN:
            packages.append(debian_package(builder, row, licences))
            related.append(("SPDXRef-ounce", "STATIC_LINK", str(packages[-1]["SPDXID"])))

    image: Entry = {"SPDXID": "SPDXRef-image", "name": "ounce-image", "versionInfo": version,
                    "primaryPackagePurpose": "CONTAINER", "downloadLocation": "NOASSERTION",
                    "filesAnalyzed": False, "licenseConcluded": "NOASSERTION",
                    "licenseDeclared": "NOASSERTION", "copyrightText": "NOASSERTION"}
    made: Entry = {
        "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"ounce-{version}",
        "creationInfo": {
            "created": datetime.datetime.fromtimestamp(created, datetime.timezone.utc)
                       .strftime("%Y-%m-%dT%H:%M:%SZ"),
            "creators": [f"Tool: ounce-make_sbom-{version}"]},
        "packages": [image, *packages], "files": files,
        "hasExtractedLicensingInfos": licences.extracted(),
        "relationships": [{"spdxElementId": a, "relationshipType": how, "relatedSpdxElement": b}
                          for a, how, b in related],
    }
    content = hashlib.sha256(json.dumps(made).encode()).hexdigest()
    made["documentNamespace"] = ("https://spdx.org/spdxdocs/"
                                 f"ounce-{version}-{uuid.uuid5(uuid.NAMESPACE_OID, content)}")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("root", type=pathlib.Path, metavar="ROOT")
    root = parser.parse_args().root
    project = (SOURCE_ROOT / "CMakeLists.txt").read_text()
    version = re.search(r"^project\(ounce VERSION (\S+)", project, re.M).group(1)  # type: ignore[union-attr]
    created = int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    json.dump(document(root, version, created), sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
