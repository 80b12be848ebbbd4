"""Boards, rules and Compose, as files: what needs neither a server nor Prometheus."""

import json
import pathlib
import shutil
import subprocess
import sys
import unittest

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"
sys.path.insert(0, str(ROOT / "tools"))

import metric_table  # noqa: E402

METRICS = metric_table.read_metrics()


def run(*arguments):
    return subprocess.run([str(a) for a in arguments], cwd=ROOT, capture_output=True, text=True)


class Boards(unittest.TestCase):
    def test_are_what_the_tool_makes(self):
        made = run(sys.executable, "tools/make_boards.py", "--check")
        self.assertEqual(made.returncode, 0, made.stderr)

    def test_panels_have_a_description_a_place_and_a_query_each(self):
        for path in (DEPLOY / "grafana/dashboards").glob("*.json"):
            board = json.loads(path.read_text())["panels"]
            self.assertEqual(len({p["id"] for p in board}), len(board))
            panels = [p for p in board if p["type"] != "row"]
            self.assertGreater(len(panels), 8)
            for panel in panels:
                with self.subTest(board=path.name, panel=panel["title"]):
                    self.assertTrue(panel["targets"])
                    self.assertTrue(panel["description"])
                    place = panel["gridPos"]
                    self.assertLessEqual(place["x"] + place["w"], 24)


class MetricTable(unittest.TestCase):
    def test_knows_type_unit_labels_and_help(self):
        metric = METRICS["ounce_model_weight_bytes"]
        self.assertEqual((metric.type, metric.unit), ("gauge", "bytes"))
        self.assertEqual(metric.labels, ("model", "version", "method", "dtype"))
        self.assertEqual(metric.help, "Bytes in memory for the serving version's weights, "
                                      "packing included")

    def test_refuses_what_the_server_does_not_export(self):
        for expression in ("sum(ounce_no_such_metric)", "ounce_queue_seconds",
                           "ounce_model_saved_bytes_sum",
                           'ounce_model_saved_bytes{method="linear"}',
                           "sum by (method) (ounce_model_saved_bytes)"):
            with self.subTest(expression), self.assertRaises(ValueError):
                metric_table.check(expression, METRICS)

    def test_filters_every_series_by_the_labels_that_it_has(self):
        self.assertEqual(
            metric_table.select('rate(ounce_queue_seconds_sum[1m]) / up{job="ounce"}', METRICS,
                                {"instance": 'instance="a"', "model": 'model="b"'}),
            'rate(ounce_queue_seconds_sum{instance="a", model="b"}[1m])'
            ' / up{job="ounce", instance="a"}')


class Rules(unittest.TestCase):
    PATH = DEPLOY / "prometheus/rules.yaml"

    def test_read_only_metrics_that_the_server_exports(self):
        for group in yaml.safe_load(self.PATH.read_text())["groups"]:
            for rule in group["rules"]:
                metric_table.check(rule["expr"], METRICS)

    def test_promtool_accepts_them(self):
        self.promtool("check", "rules", self.PATH)
        self.promtool("check", "config", "--syntax-only", DEPLOY / "prometheus/prometheus.yaml")

    def test_alerts_fire_when_they_should_and_only_then(self):
        self.promtool("test", "rules", ROOT / "tests/deploy/rules_test.yaml")

    def promtool(self, *arguments):
        if shutil.which("promtool") is None:
            self.skipTest("promtool is not installed")
        checked = run("promtool", *arguments)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)


class Compose(unittest.TestCase):
    PATH = DEPLOY / "compose.yaml"

    def setUp(self):
        self.services = yaml.safe_load(self.PATH.read_text())["services"]

    def test_keeps_to_the_specification(self):
        checked = run(sys.executable, "-m", "check_jsonschema", "--builtin-schema",
                      "vendor.compose-spec", self.PATH)
        self.assertEqual(checked.returncode, 0, checked.stdout)

    def test_takes_from_no_service_what_a_break_in_could_use(self):
        for name, service in self.services.items():
            with self.subTest(name):
                self.assertTrue(service["read_only"])
                self.assertEqual(service["cap_drop"], ["ALL"])
                self.assertIn("no-new-privileges:true", service["security_opt"])
                limits = service["deploy"]["resources"]["limits"]
                self.assertTrue(limits["memory"] and limits["pids"])
                for port in service["ports"]:
                    self.assertTrue(port.startswith("127.0.0.1:"), port)
                if "build" not in service:
                    self.assertRegex(service["image"], r":v?\d+\.\d+\.\d+$")

    def test_gives_the_server_what_memory_one_asks_for(self):
        limits = self.services["ounce"]["deploy"]["resources"]["limits"]
        self.assertRegex(limits["memory"], r"^\$\{OUNCE_MEMORY:-\d+g\}$")

    def test_mounts_files_that_are_there(self):
        mounted = {}
        for name, service in self.services.items():
            for volume in service.get("volumes", ()):
                source, target, *_ = volume.rsplit(":", 2) if volume.endswith(":ro") else (
                    volume.split(":"))
                if source.startswith("."):
                    self.assertTrue((DEPLOY / source).is_dir(), volume)
                    self.assertTrue(volume.endswith(":ro"), volume)
                mounted[name, target] = source
        provider = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/ounce.yaml")
                                  .read_text())["providers"][0]
        boards = mounted["grafana", provider["options"]["path"]]
        self.assertEqual(len(list((DEPLOY / boards).glob("*.json"))), 4)
        home = self.services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
        folder, board = home.rsplit("/", 1)
        self.assertTrue((DEPLOY / mounted["grafana", folder] / board).is_file())
        config = self.services["prometheus"]["command"][0].removeprefix("--config.file=")
        folder, name = config.rsplit("/", 1)
        self.assertTrue((DEPLOY / mounted["prometheus", folder] / name).is_file())

    def test_services_find_each_other_by_name_and_port(self):
        source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml")
                                .read_text())["datasources"][0]
        self.assertEqual(source["url"], "http://prometheus:9090")
        self.assertIn("prometheus", self.services)
        scraped = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text())
        job = scraped["scrape_configs"][0]
        self.assertEqual((job["job_name"], job["static_configs"]),
                         ("ounce", [{"targets": ["ounce:8502"]}]))
        self.assertIn("ounce", self.services)
        listen = (DEPLOY / "container.textproto").read_text()
        self.assertIn('metrics_listen: "0.0.0.0:8502"', listen)


if __name__ == "__main__":
    unittest.main()
