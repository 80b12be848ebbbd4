"""bench/all.py: its arithmetic, that rows name what there is, and a run of it on a small model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "bench"))
import all as bench_all  # noqa: E402
import peers  # noqa: E402
import report  # noqa: E402
import rows  # noqa: E402
import workers  # noqa: E402
from small_build import make_small_build  # noqa: E402

BEST = {"int8_tops": 1.0, "bfloat16_tflops": 0.5, "float32_tflops": 0.25}
LIMITS = {"dram_gb_per_s": 30.0, **BEST, **{f"avx512_{peak}": value for peak, value in BEST.items()},
          "avx2_int8_tops": 0.4, "avx2_bfloat16_tflops": 0.0, "avx2_float32_tflops": 0.125}


def row(unit: str = "tok/s", limit: str = "memory", **targets: tuple) -> rows.Row:
    return rows.Row("a row", "codegen", unit, "int8", limit=limit, **targets)


def judged(of: rows.Row, figures: dict, cost: float = 3e8, isa: str = "avx512",
           others: dict | None = None) -> dict:
    return report.judge(of, isa, figures, cost, LIMITS, others or {})


def test_a_ratio_above_one_is_better_whatever_the_unit() -> None:
    assert report.ratio_of("tok/s", 30, 20) == 1.5
    assert report.ratio_of("ms", 20, 30) == 1.5


def test_figures_are_medians_and_the_best_peer_is_that_of_the_best_median() -> None:
    line = judged(row(), {"Ounce": [10, 90, 60], "a": [20, 20, 99], "b": [30, 30, 0]})
    assert (line["value"], line["best_peer"], line["ratio"]) == (60, "b", 2)
    line = judged(row("ms"), {"Ounce": [10], "a": [20], "b": [30]})
    assert (line["best_peer"], line["ratio"]) == ("a", 2)


@pytest.mark.parametrize("limit, isa, unit, cost, value", [
    ("memory", "avx512", "tok/s", 3e8, 100),
    ("int8", "avx512", "tok/s", 5e8, 2000),
    ("int8", "avx2", "tok/s", 5e8, 800),
    ("int8", "avx512", "ms", 5e8, 0.5),
    ("bfloat16", "avx512", "ms", 1e11, 200),
    ("bfloat16", "avx2", "ms", 1e11, 800),  # by its floats
    ("copy", "avx512", "GB/s", None, 30),
    ("file", "avx512", "ms", 120, 120),
])
def test_the_machine_says_what_is_possible(limit: str, isa: str, unit: str, cost: float | None,
                                           value: float) -> None:
    # cost is None where the machine alone says it.
    assert report.limit_of(row(unit, limit), cost, LIMITS, isa) == pytest.approx(value)


def test_a_share_is_of_the_limit() -> None:
    assert judged(row(), {"Ounce": [80]})["share"] == pytest.approx(0.8)
    assert judged(row("ms", "file"), {"Ounce": [240]}, cost=120)["share"] == pytest.approx(0.5)


@pytest.mark.parametrize("target, unit, value, met", [
    (rows.Target("peers", 2), "tok/s", 40, True),
    (rows.Target("peers", 2), "tok/s", 39, False),
    (rows.Target("peers", 2), "ms", 10, True),
    (rows.Target("limit", 0.8), "tok/s", 81, True),
    (rows.Target("limit", 0.8), "tok/s", 79, False),
    (rows.Target("other", 1.5), "tok/s", 75, True),
    (rows.Target("other", 1.5), "tok/s", 74, False),
    (rows.Target("other", 2), "ms", 25, True),
    (rows.Target("itself", 50), "ms", 50, True),
    (rows.Target("itself", 50), "ms", 51, False),
])
def test_a_target_is_met_or_missed(target: rows.Target, unit: str, value: float, met: bool) -> None:
    line = judged(row(unit, "memory" if unit == "tok/s" else "", avx512=(target,)),
                  {"Ounce": [value], "a peer": [20]}, others={"other": 50})
    assert [found["met"] for found in line["targets"]] == [met]


def test_what_was_not_measured_is_neither() -> None:
    targets = (rows.Target("peers", 2), rows.Target("other", 2), rows.Target("limit", 0.5))
    assert {found["met"] for found in judged(row(avx512=targets), {})["targets"]} == {None}
    assert judged(row(avx512=targets[:1]), {"Ounce": [1]})["targets"][0]["met"] is None


def test_rows_name_what_there_is() -> None:
    by_name = {found.name: found for found in rows.ROWS}
    assert len(by_name) == len(rows.ROWS)
    for found in rows.ROWS:
        assert set(found.peers) <= set(peers.KINDS)
        assert not found.workload or found.workload in rows.WORKLOADS
        assert not found.workload or found.ounce in rows.PLANS
        assert found.limit in ("", "memory", "int8", "bfloat16", "float32", "copy", "file")
        for isa in rows.ISAS:
            for target in found.targets(isa):
                if target.of not in ("peers", "limit", "itself"):
                    assert by_name[target.of].unit == found.unit
                    assert by_name[target.of].short or not found.short
                assert target.of != "peers" or found.peers
                assert target.of != "limit" or found.limit


def test_all_peers_are_capped_with_ounce_or_named() -> None:
    assert set(workers.CAPS) == set(rows.ISAS) - {"amx"}
    named = {kind for kind in peers.KINDS if workers.reason_not_capped(kind)}
    assert named == {kind for kind in peers.KINDS if "onnxruntime" in kind or "llamacpp" in kind}


def test_a_peer_that_is_nearly_the_best_is_measured_again() -> None:
    values = {"Ounce": 90, "best": 40, "near": 20, "slow": 19}
    assert bench_all.is_near(row(), "near", values)
    assert not bench_all.is_near(row(), "slow", values)
    assert not bench_all.is_near(row("ms"), "slow", {"best": 10, "slow": 21})


def test_an_engine_that_does_not_run_here_says_why() -> None:
    with pytest.raises(RuntimeError, match="No module named"):
        workers.Peer("ctranslate2-int8", SOURCE / "embedded/codegen-tiny", 1)


def test_a_run_on_a_small_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                capsys: pytest.CaptureFixture[str]) -> None:
    """Peers aren't there in the tests' environment; the machine's limits are made up."""
    make_small_build(tmp_path, LIMITS)
    monkeypatch.setattr(rows, "WORKLOADS", {
        name: (streams, 8, 65) for name, (streams, *_) in rows.WORKLOADS.items()})
    figures = tmp_path / "figures.json"
    monkeypatch.setattr(sys, "argv", [
        "all.py", "--short", "--rounds", "2", "--isas", "avx512", "avx2", "--models", "codegen",
        "--codegen", str(SOURCE / "embedded/codegen-tiny"), "--build", str(tmp_path), "--threads", "1",
        "--json", str(figures)])
    bench_all.main()
    printed = capsys.readouterr().out
    sections = json.loads(figures.read_text())["sections"]
    assert [(section["isa"], section["capped"]) for section in sections] == [
        ("avx512", False), ("avx2", True)]
    for section in sections:
        lines = {line["name"]: line for line in section["rows"]}
        assert set(lines) == {found.name for found in rows.ROWS
                              if found.model == "codegen" and found.short}
        assert all(len(line["readings"]["Ounce"]) == 2 for line in lines.values())
        assert lines[rows.HEAD_ROW]["share"] > 0
        assert set(rows.TEXT_PEERS) == set(section["not_run"])
        assert "No module named" in section["not_run"]["ctranslate2-int8"]
    assert "not run: onnxruntime-int8, onnxruntime-float32: no setting caps" in printed
    assert "targets met" in printed


if __name__ == "__main__":
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", __file__]))
