"""bench/curves.py: whom it spares what, and a run of it on a small model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "bench"))
import curves  # noqa: E402
import streams  # noqa: E402
from small_build import make_small_build  # noqa: E402

LIMITS = {"dram_gb_per_s": 30.0, "int8_tops": 1.0, "bfloat16_tflops": 0.5, "float32_tflops": 0.25}


def test_a_rate_is_of_the_time_in_which_all_streams_decode() -> None:
    times = streams.Times(2)
    times.tokens = [[1, 2, 3, 4], [2.5, 3.5, 4.5, 5.5]]
    assert times.rate("decode", 8) == 3 / 1.5  # 3, 3.5 and 4, from 2.5 to 4


def test_streams_that_never_decode_together_have_no_rate() -> None:
    times = streams.Times(2)
    times.tokens = [[1, 2], [3, 4]]
    with pytest.raises(RuntimeError, match="more new tokens"):
        times.rate("decode", 8)


def test_a_peer_far_behind_the_best_is_too_slow_and_ounce_never_is() -> None:
    readings = curves.Readings()
    for engine, rate in (("fast", 100), ("near", 11), ("slow", 9), ("Ounce int8", 1)):
        readings.note("tokens_per_second", engine, 1, rate)
    for engine, milliseconds in (("fast", 10), ("slow", 101)):
        readings.note("first_token_ms", engine, 32, milliseconds)
    # Of the next point, where nobody has a figure yet, the last one tells.
    assert [engine for engine in ("fast", "near", "slow", "Ounce int8", "new")
            if readings.is_too_slow("tokens_per_second", engine, 2)] == ["slow"]
    assert readings.is_too_slow("first_token_ms", "slow", 64)
    assert not readings.is_too_slow("first_token_ms", "fast", 64)


def test_memory_is_that_of_the_first_round_and_speed_the_median() -> None:
    readings = curves.Readings()
    for value in (5, 9, 7):
        readings.note("peak_mib", "Ounce int8", 1, value)
        readings.note("tokens_per_second", "Ounce int8", 1, value)
    medians = readings.medians()
    assert medians["peak_mib"]["Ounce int8"][1] == 5
    assert medians["tokens_per_second"]["Ounce int8"][1] == 7


def test_a_run_on_a_small_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                capsys: pytest.CaptureFixture[str]) -> None:
    """Peers aren't there in the tests' environment; the machine's limits are made up."""
    make_small_build(tmp_path, LIMITS)
    figures = tmp_path / "there/figures.json"
    monkeypatch.setattr(sys, "argv", [
        "curves.py", "--codegen", str(SOURCE / "embedded/codegen-tiny"), "--build", str(tmp_path),
        "--threads", "1", "--plans", "int8", "ks4", "--peers", "ctranslate2-int8", "--streams", "1", "4",
        "--prompts", "8", "64", "--rounds", "2", "--json", str(figures)])
    curves.main()
    found = json.loads(figures.read_text())
    for curve, points in (("tokens_per_second", ["1", "4"]), ("first_token_ms", ["8", "64"]),
                          ("peak_mib", ["1", "4"])):
        assert set(found["curves"][curve]) == {"Ounce int8", "Ounce ks4"}
        for values in found["curves"][curve].values():
            assert list(values) == points
            assert min(values.values()) > 0
    printed = capsys.readouterr().out
    assert "new tokens/s, by streams" in printed
    assert "not run: ctranslate2-int8: ModuleNotFoundError" in printed


if __name__ == "__main__":
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", __file__]))
