#!/usr/bin/env python3
"""The image that `./run image` built of this very revision: what is in it, and that it serves
as a container does. Bubblewrap stands for the container: the image's command as its user, as
process 1, on a root file system that is read-only and whose shells don't run, with a network
of its own. --just-built says that the image is of these very files: without it, one of changed
files (a revision that ends in -dirty) is not looked at, since it may be of other changes.
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import image_archive  # noqa: E402

VERSION = re.search(r"^project\(ounce VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text(),
                    re.M).group(1)
ARCHIVE = ROOT / f"build/image/ounce-{VERSION}.tar"
LABEL = "org.opencontainers.image."
SHELLS = ("/usr/bin/bash", "/usr/bin/dash")
UID = 10001
AS_USER = ("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--no-new-privs",
           "--inh-caps=-all", "--bounding-set=-all")

needs_root = unittest.skipUnless(os.geteuid() == 0, "to become the image's user needs root")

# Set by setUpModule.
image = None
root = None  # its root file system, in a folder
just_built = False


def setUpModule():
    global image, root
    if not ARCHIVE.exists():
        raise unittest.SkipTest(f"no image in {ARCHIVE}: ./run image makes it")
    if not shutil.which("bwrap"):
        raise unittest.SkipTest("no bwrap on PATH: ./run image test installs it")
    image = image_archive.ImageArchive(ARCHIVE)
    here = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"],
                          cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    built = image.config["Labels"][LABEL + "revision"]
    if built != here:
        raise unittest.SkipTest(f"the image is of {built}, and this is {here}: ./run image")
    if here.endswith("-dirty") and not just_built:
        raise unittest.SkipTest(f"the image of {built} may be of other changes: ./run image test")
    folder = tempfile.TemporaryDirectory()
    unittest.addModuleCleanup(folder.cleanup)
    root = pathlib.Path(folder.name)
    root.chmod(0o755)
    image.extract(root)


class Container:
    """The image's command with `arguments` behind it, until it is stopped or the `with` ends.
    `mnt` is a folder to see at /mnt; `command` another command."""

    def __init__(self, *arguments, mnt=None, command=None):
        reading, writing = os.pipe()
        self._log = tempfile.TemporaryFile("w+")
        binds = [word for shell in SHELLS for word in ("--ro-bind", "/dev/null", shell)]
        if mnt:
            binds += ["--ro-bind", mnt, "/mnt"]
        self.process = subprocess.Popen(
            ["bwrap", "--ro-bind", root, "/", "--proc", "/proc", "--dev", "/dev", *binds,
             "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--as-pid-1",
             "--die-with-parent", "--info-fd", str(writing), "--",
             *AS_USER, *(command or image.config["Entrypoint"]), *arguments],
            env=self._environment(), stdout=self._log, stderr=self._log, pass_fds=(writing,))
        os.close(writing)
        with open(reading) as info:
            self._pid = json.load(info)["child-pid"]

    @staticmethod
    def _environment():
        return dict(word.split("=", 1) for word in image.config["Env"])

    def run(self, *command):
        """Another process in the container, as of `docker exec`."""
        return subprocess.run(["nsenter", "--target", str(self._pid), "--mount", "--pid", "--net",
                               *AS_USER, *command], env=self._environment(),
                              capture_output=True, text=True, check=False, timeout=60)

    def check_health(self):
        kind, *command = image.config["Healthcheck"]["Test"]
        assert kind == "CMD", f"{kind} wants a shell"
        return self.run(*command)

    def wait_until_healthy(self, seconds=60):
        deadline = time.monotonic() + seconds
        while (check := self.check_health()).returncode != 0:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{check.stderr}{self.said()}")
            time.sleep(0.05)
        return check

    def said(self):
        self._log.seek(0)
        return self._log.read()

    def stop(self):
        """As `docker stop` begins; the exit status."""
        os.kill(self._pid, 15)
        return self.process.wait(30)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # Its first process, with which all end; as another user it outlives bwrap.
        if self.process.poll() is None:
            os.kill(self._pid, signal.SIGKILL)
        self.process.wait()
        self._log.close()


@needs_root
class Serving(unittest.TestCase):
    def ask(self, container, *words):
        """The messages of `ounce --json WORDS`."""
        done = container.run("ounce", "--json", *words)
        self.assertEqual(done.returncode, 0, done.stderr + container.said())
        return [json.loads(line) for line in done.stdout.splitlines()]

    def test_generates_detects_is_healthy_and_stops(self):
        with Container() as container:
            self.assertEqual(container.wait_until_healthy().stdout, "serving\n")
            messages = self.ask(container, "generate", "code", "import os\n",
                                "--max_new_tokens", "8")
            self.assertEqual(messages[-1]["usage"]["new_tokens"], 8)
            self.assertTrue("".join(message.get("text", "") for message in messages))

            name = "shapes-400x300.png"
            found, = self.ask(container, "detect", "shapes", f"/models/detr-tiny/examples/{name}")
            self.assertEqual(sorted(item["label"] for item in found["response"]["detections"]),
                             self.labels(name))
            self.assertEqual(container.run("ounce", "models").returncode, 0)  # by the admin service
            self.assertEqual(container.stop(), 0, container.said())

    @staticmethod
    def labels(picture):
        """Of a picture's annotations."""
        coco = json.loads((ROOT / "embedded/detr-tiny/examples/annotations.json").read_text())
        names = {category["id"]: category["name"] for category in coco["categories"]}
        number, = (row["id"] for row in coco["images"] if row["file_name"] == picture)
        return sorted(names[row["category_id"]] for row in coco["annotations"]
                      if row["image_id"] == number)

    def test_runs_as_nobody_special_where_nothing_can_be_written(self):
        with Container() as container:
            container.wait_until_healthy()
            status = container.run("cat", "/proc/1/status").stdout
            self.assertRegex(status, rf"(?m)^Uid:(\s{UID}){{4}}$")
            self.assertRegex(status, r"(?m)^CapEff:\s0+$")
            self.assertEqual(container.run("cat", "/proc/1/comm").stdout, "ounce-server\n")
            for folder in ("/", "/tmp", "/var/tmp", "/models"):
                self.assertIn("Read-only", container.run("touch", f"{folder}/a").stderr)
            self.assertNotEqual(container.run("/bin/sh", "-c", "true").returncode, 0)

    def test_is_healthy_with_tls_client_certificates_and_tokens(self):
        with tempfile.TemporaryDirectory() as folder:
            secrets = pathlib.Path(folder)
            secrets.chmod(0o755)
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                            "ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-subj",
                            "/CN=localhost", "-keyout", "key.pem", "-out", "cert.pem"],
                           cwd=folder, check=True, capture_output=True)
            (secrets / "tokens").write_text(f"ci infer,admin {'4f' * 32}\n")
            (secrets / "key.pem").chmod(0o644)
            with Container("--tls_cert=/mnt/cert.pem", "--tls_key=/mnt/key.pem",
                           "--tls_client_ca=/mnt/cert.pem", "--token_file=/mnt/tokens",
                           mnt=folder) as container:
                container.wait_until_healthy()
                self.assertIn("connect with --tls", container.run("ounce", "health").stderr)

    def test_is_not_healthy_without_a_server(self):
        with Container(command=["sleep", "60"]) as container:
            self.assertNotEqual(container.check_health().returncode, 0)


class Contents(unittest.TestCase):
    def test_needs_neither_root_nor_a_shell(self):
        config = image.config
        self.assertEqual(config["User"], f"{UID}:{UID}")
        self.assertNotIn("/bin/sh", config["Entrypoint"])
        self.assertEqual(config["Healthcheck"]["Test"][0], "CMD")
        self.assertEqual(set(config["ExposedPorts"]), {"8500/tcp", "8502/tcp"})

    def test_is_labelled(self):
        labels = {name.removeprefix(LABEL): value for name, value in image.config["Labels"].items()
                  if name.startswith(LABEL)}
        self.assertEqual(labels["version"], VERSION)
        self.assertEqual(labels["licenses"], "Apache-2.0")
        self.assertTrue(labels["title"] and labels["description"] and labels["revision"])
        datetime.datetime.strptime(labels["created"], "%Y-%m-%dT%H:%M:%SZ")

    def test_takes_at_most_80_mb_above_its_base(self):
        base, *own = image.layer_bytes
        print(f"{sum(own) / 1e6:.1f} MB above {base / 1e6:.1f} MB of the base")
        self.assertLess(sum(own), 80e6)

    def test_trusts_the_authorities_that_debian_trusts(self):
        # Where libcurl looks for them, for a collector of traces by https://.
        trusted = (root / "etc/ssl/certs/ca-certificates.crt").read_text()
        self.assertGreater(trusted.count("-----BEGIN CERTIFICATE-----"), 100)

    @needs_root
    def test_has_of_its_packages_only_the_libraries_that_it_loads(self):
        listing = ["/lib64/ld-linux-x86-64.so.2", "--list"]
        loaded = set()
        for program in ("ounce-server", "ounce"):
            with Container(command=[*listing, f"/usr/local/bin/{program}"]) as container:
                self.assertEqual(container.process.wait(60), 0, container.said())
                loaded |= {(root / found.lstrip("/")).resolve() for found in
                           re.findall(r"=> (\S+)", container.said())}
        brought = shared_objects() - {root / name for name in image.base_files()}
        self.assertGreater(len(brought), 60)
        self.assertLessEqual(brought, loaded)


def shared_objects():
    """The files of the root file system that are libraries."""
    return {path for path in root.rglob("*.so*") if path.is_file() and not path.is_symlink()
            and path.read_bytes()[:4] == b"\x7fELF"}


def without_usr(path):
    """Debian's packages name /lib/... what lies in /usr/lib/..."""
    return re.sub(r"^/usr/(bin|lib|lib64|sbin)/", r"/\1/", path)


class Sbom(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.path = root / image_archive.SBOM
        cls.sbom = json.loads(cls.path.read_text())
        built_in = {row["relatedSpdxElement"] for row in cls.sbom["relationships"]
                    if row["relationshipType"] == "STATIC_LINK"}
        cls.debian = {package["name"]: package["versionInfo"] for package in cls.sbom["packages"]
                      if package.get("supplier") == "Organization: Debian"
                      and package["SPDXID"] not in built_in}

    def test_is_spdx(self):
        with tempfile.TemporaryDirectory() as folder:
            copy = pathlib.Path(folder, "sbom.spdx.json")
            shutil.copy(self.path, copy)
            self.assertEqual(validate_full_spdx_document(parse_file(str(copy)), "SPDX-2.3"), [])

    def test_lists_the_packages_that_dpkg_knows(self):
        listed = subprocess.run(
            ["dpkg-query", f"--admindir={root}/var/lib/dpkg", "-W", "-f", "${Package} ${Version}\n"],
            capture_output=True, text=True, check=True).stdout
        self.assertEqual(self.debian, dict(line.split() for line in listed.splitlines()))
        self.assertIn("ca-certificates", self.debian)

    def test_lists_the_package_of_every_library(self):
        owners = {}
        for files in (root / "var/lib/dpkg/info").glob("*.list"):
            package = files.name.removesuffix(".list").partition(":")[0]
            owners.update((without_usr(line), package) for line in files.read_text().splitlines())
        libraries = shared_objects()
        for library in libraries:
            owner = owners.get(without_usr(f"/{library.relative_to(root)}"))
            self.assertIn(owner, self.debian, library)
        print(f"{len(libraries)} libraries of {len(self.debian)} packages")

    def test_lists_our_files_by_their_content(self):
        listed = {file["fileName"]: {sum_["algorithm"]: sum_["checksumValue"]
                                     for sum_ in file["checksums"]}["SHA256"]
                  for file in self.sbom["files"]}
        folders = ("usr/local/bin", "etc/ounce", "usr/share/doc/ounce", "models")
        ours = [path for folder in folders for path in (root / folder).rglob("*")
                if path.is_file() and path != self.path]
        sums = subprocess.run(["sha256sum", *(f"./{path.relative_to(root)}" for path in ours)],
                              cwd=root, capture_output=True, text=True, check=True).stdout
        self.assertEqual(listed, {name: value for value, name in
                                  (line.split() for line in sums.splitlines())})
        self.assertGreater(len(ours), 15)

    def test_knows_the_licences_that_debian_names_in_a_form_for_programs(self):
        for package in self.sbom["packages"]:
            if package["name"] not in self.debian:
                continue
            words = (root / "usr/share/doc" / package["name"] / "copyright").read_text("latin-1")
            with self.subTest(package["name"]):
                self.assertEqual(package["licenseDeclared"] != "NOASSERTION",
                                 re.search(r"(?m)^Format(-Specification)?:", words[:2000]) is not None)
                self.assertNotEqual("licenseComments" in package,
                                    package["licenseDeclared"] != "NOASSERTION")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--just-built", action="store_true")
    arguments, rest = parser.parse_known_args()
    just_built = arguments.just_built
    done = unittest.main(argv=sys.argv[:1] + rest, exit=False).result
    for _, reason in done.skipped:
        print(f"skipped: {reason}")
    # What ctest takes for skipped.
    sys.exit(77 if done.skipped and not done.testsRun else not done.wasSuccessful())
