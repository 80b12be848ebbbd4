#!/usr/bin/env python3
"""The manifests of deploy/kubernetes: each overlay renders, each object is as its
schema has it, they fit each other, and what they tell the server it takes.
"""

import base64
import functools
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import unittest
import urllib.request

import jsonschema
import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from ounce_server import OunceServer  # noqa: E402

KUBERNETES = ROOT / "deploy/kubernetes"
DEPLOYMENTS = ("single", "replicated", "gateway", "secured")  # and KServe makes its own
OVERLAYS = (*DEPLOYMENTS, "kserve")
SCHEMAS = yaml.safe_load((pathlib.Path(__file__).parent / "custom_schemas.yaml").read_text())

# What the server takes beyond its delay and its drain (docs/operations.md).
STOP_GRACE = 1.5

# The small models that stand here for those of the overlays.
MODELS = {
    "/mnt/models": "",
    "/mnt/models/codegen-tiny": "codegen-tiny",
    "/mnt/models/detr-tiny": "detr-tiny",
    "/mnt/models/code": "codegen-tiny",
}

# The rules of Prometheus as the operator wants them.
RULE = KUBERNETES / "components/monitoring/prometheus-rule.yaml"
RULE_HEAD = """\
# deploy/prometheus/rules.yaml; OUNCE_WRITE_DOCS=1 and kubernetes_test write this file.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: ounce
  labels:
    app.kubernetes.io/name: ounce
spec:
"""

SERVER_BINARY = os.environ["OUNCE_SERVER_BINARY"]
CLI_BINARY = os.environ["OUNCE_CLI_BINARY"]


@functools.cache
def render(overlay, manifests=KUBERNETES):
    """The objects of an overlay."""
    done = subprocess.run([pathlib.Path(sys.prefix, "bin/kubectl"), "kustomize",
                           manifests / "overlays" / overlay],
                          capture_output=True, text=True, check=False)
    if done.returncode != 0 or done.stderr:  # a warning is an error
        raise AssertionError(f"{overlay}: {done.stderr}")
    return list(yaml.safe_load_all(done.stdout))


def find(overlay, kind, name="ounce"):
    found = [o for o in render(overlay) if o["kind"] == kind and o["metadata"]["name"] == name]
    assert len(found) == 1, f"{overlay}: {len(found)} of {kind} {name}"
    return found[0]


def config_map(overlay, prefix):
    """Of one whose name ends in a hash."""
    found = [o for o in render(overlay) if o["kind"] == "ConfigMap"
             and re.fullmatch(prefix + "-[a-z0-9]{10}", o["metadata"]["name"])]
    assert len(found) == 1, f"{overlay}: {len(found)} of ConfigMap {prefix}"
    return found[0]


def selects(selector, labels):
    return bool(selector) and selector.items() <= labels.items()


def pod_of(overlay):
    return find(overlay, "Deployment")["spec"]["template"]["spec"]


def container_of(overlay):
    """That of the server."""
    spec = find(overlay, "ServingRuntime")["spec"] if overlay == "kserve" else pod_of(overlay)
    return spec["containers"][0]


def config_of(overlay):
    """The server's, as text."""
    return config_map(overlay, "ounce")["data"]["server.textproto"]


def kv_cache_bytes(config):
    return int(re.search(r"kv_cache_bytes: (\d+)", config).group(1))


def memory(container):
    text = container["resources"]["limits"]["memory"]
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", text).groups()
    return int(number) << {"Mi": 20, "Gi": 30}[unit]


def seconds(text, setting):
    """Of a setting in a textproto or a list of flags."""
    found = re.search(rf"{setting}[:=]\s*([\d.]+)", text)
    return float(found.group(1)) if found else {"drain_seconds": 8.0}.get(setting, 0.0)


class Server(OunceServer):
    """The real one, with the models of this repository."""

    def __init__(self, args, memory_bytes, model_of=MODELS.get):
        flags = []
        for arg in args:
            for path in re.findall(r"/mnt/models[-/\w]*", arg):
                arg = arg.replace(path, str(ROOT / "embedded" / model_of(path)))
            if not re.match("--(admin_|metrics_)?listen=", arg):
                flags.append(arg)
        super().__init__(SERVER_BINARY, *flags, f"--memory_bytes={memory_bytes}")

    def __exit__(self, *exception):
        self.process.kill()  # it need not drain
        super().__exit__(*exception)

    def client(self, *args):
        done = subprocess.run([CLI_BINARY, "--server", self.inference, "--admin", self.admin,
                               *args], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise AssertionError(f"{args}: {done.stderr}")
        return done.stdout

    def figures(self):
        """Name -> the sum of its series."""
        with urllib.request.urlopen(f"http://{self.metrics}/metrics") as page:
            values = {}
            for line in page.read().decode().splitlines():
                if line.startswith("#"):
                    continue
                name = re.match(r"\w+", line).group()
                values[name] = values.get(name, 0) + float(line.rsplit(" ", 1)[1])
            return values


def server_of(overlay, files=()):
    """The server with the overlay's configuration and the memory of its container.
    `files`: pairs of a folder there and the one that stands for it here."""
    text = config_of(overlay)
    for path, model in MODELS.items():
        text = text.replace(f'"{path}"', f'"{ROOT / "embedded" / model}"')
    container = container_of(overlay)
    with tempfile.NamedTemporaryFile("w", suffix=".textproto") as file:
        file.write(text)
        file.flush()
        args = [file.name if arg == "/etc/ounce/server.textproto" else arg
                for arg in container["args"]]
        assert args != container["args"], "the server reads the ConfigMap"
        for there, here in files:
            args = [arg.replace(there, here) for arg in args]
        return Server(args, memory(container))


class Schemas(unittest.TestCase):
    def validate(self, thing):
        version = kubernetes_validate.latest_version()
        kubernetes_validate.validate(thing, version, strict=True)

    def test_each_object_is_as_its_schema_has_it(self):
        for overlay in OVERLAYS:
            for thing in render(overlay):
                kind = f"{thing['apiVersion']}/{thing['kind']}"
                with self.subTest(overlay=overlay, kind=kind, name=thing["metadata"]["name"]):
                    if kind not in SCHEMAS:
                        self.validate(thing)
                        continue
                    schema = {"$defs": SCHEMAS["$defs"], "type": "object",
                              "additionalProperties": False, "required": ["spec"],
                              "properties": {"apiVersion": {}, "kind": {}, "spec": SCHEMAS[kind],
                                             "metadata": {"$ref": "#/$defs/metadata"}}}
                    jsonschema.validate(thing, schema)

    def test_the_container_of_kserve_is_one_of_a_pod(self):
        spec = find("kserve", "ServingRuntime")["spec"]
        self.validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
                       "spec": {"containers": spec["containers"]}})

    def test_the_pickers_configuration_is_whole(self):
        config = yaml.safe_load(config_map("gateway", "ounce-picker")["data"]["picker-config.yaml"])
        jsonschema.validate(config, {"$defs": SCHEMAS["$defs"],
                                     **SCHEMAS["llm-d.ai/v1alpha1/EndpointPickerConfig"]})
        plugins = {p.get("name", p["type"]) for p in config["plugins"]}
        used = set(re.findall(r"'pluginRef': '([-\w]+)'", str(config)))
        self.assertLessEqual(used, plugins)
        self.assertEqual(plugins - used, {"single-profile-handler"})


class Fit(unittest.TestCase):
    """What points at something points at something that is there."""

    def test_the_rules_are_those_of_prometheus(self):
        rules = (ROOT / "deploy/prometheus/rules.yaml").read_text()
        made = RULE_HEAD + textwrap.indent(rules, "  ")
        if os.environ.get("OUNCE_WRITE_DOCS"):
            RULE.write_text(made)
        self.assertEqual(RULE.read_text(), made, "OUNCE_WRITE_DOCS=1 writes it")
        # The job that they name is the one by which pods are scraped.
        job = find("replicated", "ServiceMonitor")["spec"]["jobLabel"]
        labels = find("replicated", "Service", "ounce-metrics")["metadata"]["labels"]
        self.assertIn(f'job="{labels[job]}"', rules)

    def test_selectors_match_pods_and_ports_have_names(self):
        for overlay in DEPLOYMENTS:
            templates = [o["spec"]["template"] for o in render(overlay)
                         if o["kind"] == "Deployment"]
            for thing in render(overlay):
                spec = thing.get("spec", {})
                name = f"{overlay}: {thing['kind']} {thing['metadata']['name']}"
                selector = {"Service": lambda: spec["selector"],
                            "PodDisruptionBudget": lambda: spec["selector"]["matchLabels"],
                            "NetworkPolicy": lambda: spec["podSelector"]["matchLabels"],
                            "InferencePool": lambda: spec["selector"]["matchLabels"],
                            }.get(thing["kind"])
                if selector is None:
                    continue
                with self.subTest(name):
                    chosen = [t for t in templates if selects(selector(), t["metadata"]["labels"])]
                    self.assertEqual(len(chosen), 1)
                    ports = {p["name"]: p["containerPort"]
                             for c in chosen[0]["spec"]["containers"] for p in c["ports"]}
                    for port in spec.get("ports", []):
                        self.assertIn(port["targetPort"], ports)
                        self.assertEqual(port["port"], ports[port["targetPort"]])
                    for port in spec.get("targetPorts", []):
                        self.assertEqual(port["number"], ports["grpc"])
                    for rule in spec.get("ingress", []):
                        for port in rule["ports"]:
                            self.assertIn(port["port"], ports)

    def test_volumes_are_there(self):
        for overlay in DEPLOYMENTS:
            maps = {o["metadata"]["name"] for o in render(overlay) if o["kind"] == "ConfigMap"}
            for thing in render(overlay):
                if thing["kind"] != "Deployment":
                    continue
                spec = thing["spec"]["template"]["spec"]
                for volume in spec["volumes"]:
                    if "configMap" in volume:
                        self.assertIn(volume["configMap"]["name"], maps)
                names = {volume["name"] for volume in spec["volumes"]}
                for container in spec["containers"] + spec.get("initContainers", []):
                    mounts = {mount["name"] for mount in container["volumeMounts"]}
                    self.assertLessEqual(mounts, names)

    def test_models_are_pulled_to_where_the_server_looks_for_them(self):
        for overlay in ("replicated", "gateway", "secured"):
            deployment = find(overlay, "Deployment", "ounce")
            container = deployment["spec"]["template"]["spec"]["initContainers"][0]
            self.assertEqual(container["command"][:2], ["ounce", "pull"])
            folder = container["command"][container["command"].index("--into") + 1]
            self.assertIn(f'path: "{folder}"', config_of(overlay))
            with tempfile.TemporaryDirectory() as here:
                words = [here + "/code" if word == folder else word
                         for word in container["command"][1:]]
                done = subprocess.run([CLI_BINARY, *words], capture_output=True, text=True,
                                      env={"HF_HUB_OFFLINE": "1", "HOME": here})
            self.assertEqual(done.returncode, 3)
            self.assertIn("HF_HUB_OFFLINE is set", done.stderr)

    def test_metrics_are_found_by_the_operator(self):
        for overlay in ("replicated", "gateway", "secured"):
            spec = find(overlay, "ServiceMonitor")["spec"]
            services = [o for o in render(overlay) if o["kind"] == "Service" and
                        selects(spec["selector"]["matchLabels"], o["metadata"]["labels"])]
            self.assertEqual([s["metadata"]["name"] for s in services], ["ounce-metrics"])
            self.assertIn(spec["endpoints"][0]["port"],
                          [p["name"] for p in services[0]["spec"]["ports"]])

    def test_the_autoscaler_scales_the_deployment_by_the_adapters_metric(self):
        for overlay in ("replicated", "gateway", "secured"):
            spec = find(overlay, "HorizontalPodAutoscaler")["spec"]
            deployment = find(overlay, "Deployment", spec["scaleTargetRef"]["name"])
            self.assertNotIn("replicas", deployment["spec"], "it is the autoscaler's")
            adapter = yaml.safe_load((KUBERNETES / "prometheus-adapter.yaml").read_text())
            names = [rule["name"]["as"] for rule in adapter["rules"]["custom"]]
            self.assertIn(spec["metrics"][0]["pods"]["metric"]["name"], names)

    def test_the_pool_names_the_picker(self):
        reference = find("gateway", "InferencePool")["spec"]["endpointPickerRef"]
        service = find("gateway", "Service", reference["name"])
        self.assertIn(reference["port"]["number"], [p["port"] for p in service["spec"]["ports"]])
        route = find("gateway", "HTTPRoute")["spec"]["rules"][0]["backendRefs"][0]
        self.assertEqual((route["kind"], route["name"]), ("InferencePool", "ounce"))

    def test_inference_services_name_the_runtime(self):
        runtime = find("kserve", "ServingRuntime")["spec"]
        formats = [f["name"] for f in runtime["supportedModelFormats"]]
        for name in ("code", "detr"):
            model = find("kserve", "InferenceService", name)["spec"]["predictor"]["model"]
            self.assertEqual(model["runtime"], "ounce")
            self.assertIn(model["modelFormat"]["name"], formats)
            self.assertIn(model["protocolVersion"], runtime["protocolVersions"])

    def test_the_documented_overlay_brings_its_own_tokens(self):
        text = (ROOT / "docs/fleet.md").read_text()
        files = re.findall(r"```yaml\n# (overlays/mine/[^\s;]+)[^\n]*\n(.*?)```", text, re.DOTALL)
        self.assertEqual(len(files), 2)
        line = b"ci infer " + b"0" * 64
        with tempfile.TemporaryDirectory() as folder:
            manifests = pathlib.Path(folder, "kubernetes")
            shutil.copytree(KUBERNETES, manifests)
            for path, content in files:
                pathlib.Path(manifests, path).parent.mkdir(parents=True, exist_ok=True)
                pathlib.Path(manifests, path).write_text(content)
            pathlib.Path(manifests, "overlays/mine/tokens/tokens").write_bytes(line)
            objects = render("mine", manifests)
        [secret] = [o for o in objects if o["kind"] == "Secret"]
        self.assertEqual(secret["metadata"]["name"], "ounce-tokens")
        self.assertEqual(base64.b64decode(secret["data"]["tokens"]), line)
        [pod] = [o for o in objects if o["kind"] == "Deployment"]
        container = pod["spec"]["template"]["spec"]["containers"][0]
        self.assertIn("--token_file=/etc/ounce-tokens/tokens", container["args"])

    def test_images_are_named_once(self):
        for overlay in OVERLAYS:
            images = set(re.findall(r"'image': '([^']+)'", str(render(overlay))))
            self.assertIn("registry.example.com/ounce:0.1.0", images, overlay)
            for image in images:
                self.assertRegex(image, ":v?[0-9]", f"{overlay}: a version")


class Pods(unittest.TestCase):
    """How a pod runs."""

    def pods(self):
        for overlay in DEPLOYMENTS:
            for thing in render(overlay):
                if thing["kind"] == "Deployment":
                    yield (f"{overlay}: {thing['metadata']['name']}",
                           thing["spec"]["template"]["spec"])
        yield "kserve", find("kserve", "ServingRuntime")["spec"]

    def test_requests_are_limits(self):
        for name, pod in self.pods():
            for container in pod["containers"] + pod.get("initContainers", []):
                with self.subTest(name, container=container["name"]):
                    resources = container["resources"]
                    self.assertEqual(resources["requests"], resources["limits"])
                    self.assertEqual(set(resources["limits"]), {"cpu", "memory"})

    def test_containers_are_restricted(self):
        for name, pod in self.pods():
            for container in pod["containers"] + pod.get("initContainers", []):
                with self.subTest(name, container=container["name"]):
                    context = {**pod.get("securityContext", {}), **container["securityContext"]}
                    self.assertIs(context["runAsNonRoot"], True)
                    self.assertIs(context["readOnlyRootFilesystem"], True)
                    self.assertIs(context["allowPrivilegeEscalation"], False)
                    self.assertEqual(context["capabilities"], {"drop": ["ALL"]})
                    self.assertEqual(context["seccompProfile"], {"type": "RuntimeDefault"})

    def test_the_server_is_asked_how_it_is(self):
        for name, pod in self.pods():
            if "picker" in name or "secured" in name:
                continue
            server = pod["containers"][0]
            with self.subTest(name):
                self.assertEqual(server["startupProbe"]["grpc"], {"port": 8500})
                self.assertEqual(server["readinessProbe"]["grpc"], {"port": 8500})
                self.assertEqual(server["livenessProbe"]["grpc"],
                                 {"port": 8500, "service": "liveness"})

    def test_a_stop_fits_the_grace_period(self):
        for overlay in DEPLOYMENTS:
            pod = pod_of(overlay)
            text = config_of(overlay)
            sleep = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
            self.assertGreater(seconds(text, "drain_delay_seconds"), 0)
            self.assertGreater(pod["terminationGracePeriodSeconds"],
                               sleep + seconds(text, "drain_delay_seconds") +
                               seconds(text, "drain_seconds") + STOP_GRACE)
        args = " ".join(container_of("kserve")["args"])
        self.assertGreater(30, seconds(args, "drain_delay_seconds") +
                           seconds(args, "drain_seconds") + STOP_GRACE)

    def test_nobody_reaches_the_admin_port(self):
        for overlay in DEPLOYMENTS:
            text = config_of(overlay)
            self.assertIn('admin_listen: "127.0.0.1:8501"', text)
            self.assertNotIn("8501", str([o for o in render(overlay) if o["kind"] != "ConfigMap"]))
            policy = find(overlay, "NetworkPolicy")["spec"]
            self.assertEqual(set(policy["policyTypes"]), {"Ingress", "Egress"})
            self.assertEqual({p["port"] for rule in policy["ingress"] for p in rule["ports"]},
                             {"grpc", "metrics"})
            for rule in policy["ingress"]:
                self.assertTrue(rule["from"])


class RealServer(unittest.TestCase):
    """The server takes what the manifests tell it."""

    def test_its_flags_are_settings(self):
        known = subprocess.run([SERVER_BINARY, "--help"], capture_output=True, text=True,
                               check=True).stdout
        for overlay in DEPLOYMENTS:
            args = container_of(overlay)["args"]
            self.assertEqual(container_of(overlay)["command"], ["ounce-server"])
            for flag in (a for a in args if a.startswith("--")):
                self.assertIn(flag.split("=", 1)[0], known.split())
        for arg in container_of("kserve")["args"]:
            self.assertIn(arg.split("=", 1)[0], known.split())

    def test_it_serves_by_the_config_map_within_the_containers_memory(self):
        for overlay in ("single", "replicated"):
            with self.subTest(overlay), server_of(overlay) as server:
                self.assertEqual(server.client("health"), "serving\n")
                self.assertEqual(server.client("health", "liveness"), "serving\n")
                limit = memory(container_of(overlay))
                text = config_of(overlay)
                kv_cache = kv_cache_bytes(text)
                values = server.figures()
                self.assertEqual(values["ounce_memory_limit_bytes"], limit)
                # There is room for all keys and values, and for pictures beside them.
                self.assertNotIn("since memory is limited", server.said())
                pictures = 512 << 20 if "ounce_detect_requests_total" in values else 0
                self.assertLess(values["ounce_memory_bytes"] + kv_cache + pictures, limit)
                # And for a second version of a model.
                self.assertIn("version 2", server.client("quantize", "code", "linear:bits=4"))

    def test_the_overlays_own_models_fit(self):
        # CodeGen-350M's bytes by README.md: int8, and in float16 beside it.
        container = container_of("replicated")
        text = config_of("replicated")
        kv_cache = kv_cache_bytes(text)
        self.assertLess((64 << 20) + kv_cache + 462_135_296 + 713_424_896, memory(container))

    def test_kserves_arguments_serve_each_inference_service(self):
        container = container_of("kserve")
        self.assertEqual(container["command"], ["ounce-server"])
        for name, model in (("code", "codegen-tiny"), ("detr", "detr-tiny")):
            service = find("kserve", "InferenceService", name)
            args = [arg.replace("{{.Name}}", name).replace(
                        "{{.Annotations.plan}}", service["metadata"]["annotations"]["plan"])
                    for arg in container["args"]]
            self.assertNotIn("{{", str(args))
            with self.subTest(name), Server(args, memory(container), lambda _: model) as server:
                self.assertEqual(server.client("health", f"models/{name}"), "serving\n")
                self.assertEqual(server.client("health", "inference.GRPCInferenceService"),
                                 "serving\n")

    def test_it_wants_a_token_over_tls_where_it_is_secured(self):
        container = container_of("secured")
        with tempfile.TemporaryDirectory() as folder:
            certificate, key = f"{folder}/tls.crt", f"{folder}/tls.key"
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                            "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
                            "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
                            "-keyout", key, "-out", certificate],
                           capture_output=True, check=True)
            token = pathlib.Path(folder, "token")
            token.write_text("of-this-test-alone")
            tokens = base64.b64decode(find("secured", "Secret", "ounce-tokens")["data"]["tokens"])
            pathlib.Path(folder, "tokens").write_text(
                tokens.decode() + "test infer " +
                hashlib.sha256(token.read_bytes()).hexdigest() + "\n")
            folders = [("/etc/ounce-tls", folder), ("/etc/ounce-tokens", folder)]
            with server_of("secured", folders) as server:
                for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                    asked = container[probe]["httpGet"]
                    self.assertEqual(asked["port"], "metrics")
                    url = f"http://{server.metrics}{asked['path']}"
                    with urllib.request.urlopen(url) as page:
                        self.assertEqual(page.status, 200)
                ask = ["--ca", certificate, "generate", "code", "def", "--max_new_tokens", "1"]
                with self.assertRaisesRegex(AssertionError, "UNAUTHENTICATED"):
                    server.client(*ask)
                server.client("--token_file", str(token), *ask)

    def test_it_exports_what_balancers_and_autoscalers_read(self):
        config = config_map("gateway", "ounce-picker")["data"]["picker-config.yaml"]
        adapter = (KUBERNETES / "prometheus-adapter.yaml").read_text()
        wanted = set(re.findall(r"\bounce_server_\w+", config + adapter))
        self.assertEqual(len(wanted), 3)
        with server_of("single") as server:
            self.assertLessEqual(wanted, set(server.figures()))

    def test_the_adapters_query_is_promql(self):
        if shutil.which("promtool") is None:
            self.skipTest("promtool is not installed")
        for rule in yaml.safe_load((KUBERNETES / "prometheus-adapter.yaml").read_text())["rules"]["custom"]:
            query = rule["metricsQuery"].replace("<<.GroupBy>>", "pod").replace(
                "<<.LabelMatchers>>", 'namespace="a"')
            with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                yaml.safe_dump({"groups": [{"name": "a", "rules": [
                    {"record": "a", "expr": query}, {"record": "b", "expr": rule["seriesQuery"]}]}]},
                    file)
                file.flush()
                subprocess.run(["promtool", "check", "rules", file.name], check=True,
                               capture_output=True)


if __name__ == "__main__":
    unittest.main()
