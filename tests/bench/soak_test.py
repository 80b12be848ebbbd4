"""bench/soak.py in a few seconds, and whether it would see what it is there for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "bench"))
import soak  # noqa: E402
from soak_calls import Fault, Tally  # noqa: E402
from soak_load import Load  # noqa: E402

MIB = 2**20

COUNTED = {  # by one turn of each caller, however slow the machine is
    *(f"calls of {rpc}{end}" for end in ("", ", OK") for rpc in (
        "inference.GRPCInferenceService/ModelInfer",
        "inference.GRPCInferenceService/ModelMetadata",
        "inference.GRPCInferenceService/ModelStreamInfer",
        "inference.GRPCInferenceService/RepositoryIndex",
        "inference.GRPCInferenceService/ServerReady",
        "ounce.v1.Inference/DetectObjects",
        "ounce.v1.Inference/Detokenize",
        "ounce.v1.Inference/Generate",
        "ounce.v1.Inference/ListModels",
        "ounce.v1.Inference/Tokenize",
        "ounce.v1.ModelAdmin/Evaluate",
        "ounce.v1.ModelAdmin/GetServer",
        "ounce.v1.ModelAdmin/ListModels",
        "ounce.v1.ModelAdmin/Quantize",
        "ounce.v1.ModelAdmin/UnloadModel")),
    *(f"{what} of {model}" for what in ("answers", "tokens") for model in ("code", "long")),
    *(f"quantizations of {model} {how}" for how in ("done", "done or cancelled", "refused")
      for model in ("code", "shapes")),
    "answers of shapes", "calls that nobody made", "scrapes"}


def moments(resident: list[float], **more: list) -> list[dict]:
    """Idle moments of these MiB, after three of a warm-up."""
    values = {"resident_bytes": [3 * MIB] * 3 + [int(mib * MIB) for mib in resident],
              "anonymous_bytes": [MIB] * (3 + len(resident)),
              "threads": [20] * (3 + len(resident)), "descriptors": [10] * (3 + len(resident))}
    values["threads_by_name"] = [{"ounce-net": 2}] * (3 + len(resident))
    values["accounts"] = [{"weights": 1}] * (3 + len(resident))
    for figure, last in more.items():
        values[figure] = values[figure][:-len(last)] + last
    return [dict(zip(values, moment)) for moment in zip(*values.values())]


def faults_of(found: list[dict]) -> list[str]:
    tally = Tally()
    soak.check_moments(found, tally)
    return sorted(tally.faults)


def test_it_holds_for_a_real_server(tmp_path: Path) -> None:
    build = Path(os.environ["OUNCE_SERVER_BINARY"]).parent
    figures = tmp_path / "figures.json"
    run = subprocess.run(
        [sys.executable, SOURCE / "bench/soak.py", "--build", build, "--minutes", "0.05",
         "--cycle", "2", "--idle", "0", "--plans", "2", "--json", figures],
        cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.endswith("it holds\n")
    report = json.loads(figures.read_text())
    assert report["holds"] and not report["faults"]
    # What it learns, and one turn of each caller.
    assert report["calls"] >= 81 and report["tokens"] > 4000 and report["pictures"] >= 24
    assert {"OK", "CANCELLED"} <= set(report["codes"]["ounce.v1.Inference/Generate"])
    assert all(line["holds"] for line in report["counters"])
    assert COUNTED <= {line["what"] for line in report["counters"]}


def test_steady_memory_holds() -> None:
    assert faults_of(moments([60, 60.2, 60.1, 59.8, 60, 60.4, 60.3, 60.2, 60.1])) == []
    assert faults_of(moments([60, 60, 60, 50, 50, 50, 50, 50, 50])) == []


def test_memory_that_grows_by_more_than_a_percent_is_seen() -> None:
    growing = [60 + 0.1 * index for index in range(12)]
    assert faults_of(moments(growing)) == ["resident memory grew"]


def test_anonymous_memory_that_grows_while_pages_of_files_go_is_seen() -> None:
    # By more than a percent of the 60 MiB that are resident.
    assert faults_of(moments([60] * 9, anonymous_bytes=[1.7 * MIB] * 3)) == ["anonymous memory grew"]
    assert faults_of(moments([60] * 9, anonymous_bytes=[1.5 * MIB] * 3)) == []


def test_what_is_found_has_medians_and_ends() -> None:
    found = soak.check_moments(moments([60, 61, 61, 60, 60, 60, 60, 60, 64]), Tally())
    assert found["resident_bytes"] == {"first": 61 * MIB, "last": 60 * MIB, "growth": 60 / 61 - 1,
                                       "first_moment": 60 * MIB, "last_moment": 64 * MIB}


def test_a_single_large_moment_is_no_growth() -> None:
    assert faults_of(moments([60, 60, 60, 60, 60, 60, 60, 60, 75])) == []


def test_threads_and_descriptors_that_stay_are_seen() -> None:
    assert faults_of(moments([60] * 9, threads=[25, 25], descriptors=[11, 11])) == [
        "descriptors grew", "threads grew"]
    assert faults_of(moments([60] * 9, threads=[21, 21])) == []
    assert faults_of(moments([60] * 9, threads_by_name=[{"ounce-net": 3}])) == [
        "the server's own threads changed"]


def test_memory_that_is_not_given_back_is_seen() -> None:
    assert faults_of(moments([60] * 9, accounts=[{"weights": 2}])) == [
        "the accounts of an idle server's memory changed"]


def test_too_few_moments_say_nothing() -> None:
    assert soak.check_moments(moments([60, 70]), Tally()) == {"moments": 5, "after_warm_up": 4}


class Asked:
    """A Load that has asked: the counters of a server that are checked."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.long_ids = [1] * 100
        self.tally.ended("ounce.v1.Inference/Generate", "OK", False)
        self.tally.ended("ounce.v1.Inference/Generate", "CANCELLED", True)
        self.tally.answered("code", 8)
        self.tally.scraped()


RIGHT = """
ounce_rpc_requests_total{code="OK",rpc="ounce.v1.Inference/Generate"} 1
ounce_rpc_requests_total{code="CANCELLED",rpc="ounce.v1.Inference/Generate"} 1
ounce_requests_total{model="code",outcome="length"} 1
ounce_requests_total{model="long",outcome="cancelled"} 1
ounce_generated_tokens_total{model="code"} 8
ounce_generated_tokens_total{model="long"} 5
exposer_scrapes_total 0
"""


@pytest.mark.parametrize("old, new, fault", [
    ("", "", ""),
    # A caller that cancels may be too late, for the server.
    ('"CANCELLED"', '"OK"', ""),
    ('outcome="cancelled"', 'outcome="length"', ""),
    ('Generate"} 1', 'Generate"} 3', "calls of ounce.v1.Inference/Generate"),
    ('outcome="length"} 1', 'outcome="length"} 2', "answers of code"),
    ('"code"} 8', '"code"} 9', "tokens of code"),
    ("scrapes_total 0", "scrapes_total 1", "scrapes"),
])
def test_counters_must_be_what_callers_counted(old: str, new: str, fault: str) -> None:
    asked = Asked()
    page = RIGHT.strip().replace(old, new, 1) if old else RIGHT.strip()
    lines = soak.check_metrics(asked, soak.series_of(page))
    assert all(line["holds"] for line in lines) == (not fault), lines
    assert not fault or any(what.startswith(fault) for what in asked.tally.faults)


def test_an_answer_that_differs_in_a_bit_is_a_fault() -> None:
    load = Load(None, Tally())
    load.known["keep", "greedy"] = ("text", [1, 2])
    load.expect(("keep", "greedy"), ("text", [1, 2]))
    with pytest.raises(Fault, match="another answer"):
        load.expect(("keep", "greedy"), ("text", [1, 3]))


if __name__ == "__main__":
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", __file__]))
