"""Boards and rules, as files: what needs neither a server nor Prometheus."""

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


if __name__ == "__main__":
    unittest.main()
