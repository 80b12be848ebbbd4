#include "server/metrics/status_json.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/scheduler/model_history.h"

namespace ounce::server {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

ModelInfo Tiny() {
  ModelInfo info;
  info.name = "tiny";
  info.path = "/secret/path";
  info.architecture = "codegen";
  info.state = ModelState::kReady;
  info.version = 2;
  info.plan = "lm_head=keep linear";
  info.method = "lm_head=keep linear";
  info.parameters = 500;
  info.checkpoint_bytes = 1000;
  info.stored_bytes = 600;
  info.resident_bytes = 640;
  info.resident_bytes_by_element = {{"float16", 128}, {"int8", 512}};
  info.tasks = {Task::kGenerate};
  info.compute = "float32";
  info.stats = {
      .queued = 3, .running = 2, .kv_capacity_bytes = 9, .kv_cached_bytes = 5};
  return info;
}

ServerStatus Status(std::vector<ModelInfo> models) {
  ServerStatus status;
  status.threads = 4;
  status.time = absl::FromUnixMillis(1'700'000'000'500);
  status.clock_time = absl::FromUnixSeconds(1000);
  status.uptime = absl::Seconds(90);
  status.memory.limit_bytes = 10'000;
  status.memory.process_bytes = 64;
  status.memory.used[MemoryShare::kWeights] = 640;
  status.models = std::move(models);
  return status;
}

VersionRecord Version(int64_t version, const std::string& plan) {
  return {.version = version,
          .since = absl::FromUnixSeconds(990 + version),
          .plan = plan,
          .method = plan,
          .stored_bytes = 600,
          .resident_bytes = 640,
          .seconds = 0.25};
}

TensorOutcome Layer(const std::string& name, const std::string& method,
                    double error) {
  TensorOutcome layer;
  layer.name = name;
  layer.method = method;
  layer.relative_l2_error = error;
  return layer;
}

json Parse(const std::string& text) {
  json parsed = json::parse(text, nullptr, false);
  EXPECT_FALSE(parsed.is_discarded()) << text;
  return parsed;
}

TEST(StatusJsonTest, SaysWhatTheServerDoes) {
  const json status =
      Parse(StatusJson(Status({}), {.version = "1.2.3",
                                    .instruction_set = "avx2",
                                    .phase = "serving",
                                    .not_ready = {"model 'code' is gone"},
                                    .resident_bytes = 900}));
  EXPECT_EQ(status, Parse(R"({
    "schema": 1,
    "time": "2023-11-14T22:13:20.500Z",
    "server": {"version": "1.2.3", "phase": "serving",
               "not_ready": ["model 'code' is gone"],
               "started": "2023-11-14T22:11:50.500Z", "uptime_seconds": 90,
               "instruction_set": "avx2", "threads": 4},
    "memory": {"limit_bytes": 10000, "free_bytes": 9296,
               "bytes": {"weights": 640, "scratch": 0, "kv_cache": 0,
                         "pictures": 0, "tokenizers": 0, "kept": 0,
                         "process": 64},
               "ending_bytes": 0, "resident_bytes": 900},
    "models_left_out": 0,
    "models": []})"));
}

TEST(StatusJsonTest, SaysWhatAModelIsAndWhereItWas) {
  ModelInfo info = Tiny();
  TextQuality quality;
  quality.version = 2;
  quality.perplexity = 20.5;
  quality.bits_per_byte = 1.25;
  quality.counted_tokens = 64;
  quality.window = 512;
  quality.stride = 256;
  quality.worst_token.text = "secret sample";
  info.quality = quality;
  auto history = std::make_shared<ModelHistory>();
  history->versions = {Version(1, "keep"), Version(2, info.plan)};
  quality.floats = TextQuality::Comparison{.mean_kl_divergence = 0.5,
                                           .top1_agreement = 0.75,
                                           .float_perplexity = 20};
  history->versions[1].quality = quality;
  QuantizeReport report;
  report.model = "tiny";
  report.version = 2;
  report.plan = report.method = info.plan;
  report.method_before = "float16";
  report.stored_bytes_before = report.checkpoint_bytes = 1000;
  report.stored_bytes_after = 600;
  report.resident_bytes_before = 1000;
  report.resident_bytes_after = 640;
  report.seconds = 0.25;
  report.tensors = {Layer("h.0.fc.weight", "linear", 0.5), TensorOutcome()};
  report.tensors[0].bytes_before = 200;
  report.tensors[0].bytes_after = 100;
  report.tensors[0].relative_l2_output_error = 0.25;
  report.tensors[1].left_alone = "its rule";
  history->report = std::make_shared<const QuantizeReport>(report);
  history->reported = absl::FromUnixSeconds(992);
  info.kv_cache_dtype = "int8";
  info.history = history;
  const std::string text =
      StatusJson(Status({info}), {.models = {{"tiny",
                                              {.prompt_tokens = 10,
                                               .generated_tokens = 7,
                                               .requests = {{"eos", 1}},
                                               .stage = "evaluating"}}}});
  EXPECT_THAT(text, Not(HasSubstr("secret")));
  const json model = Parse(text)["models"][0];
  const json expected = Parse(R"({
    "name": "tiny", "state": "ready", "stage": "evaluating",
    "tasks": ["generate"], "architecture": "codegen", "compute": "float32",
    "parameters": 500, "version": 2,
    "method": "lm_head=keep linear", "plan": "lm_head=keep linear",
    "checkpoint_bytes": 1000, "stored_bytes": 600, "saved_bytes": 400,
    "resident_bytes": 640,
    "resident_bytes_by_element": {"float16": 128, "int8": 512},
    "queued": 3, "running": 2,
    "kv_cache_dtype": "int8", "kv_cache_used_bytes": 0, "kv_cache_cached_bytes": 5,
    "kv_cache_capacity_bytes": 9,
    "prompt_tokens_total": 10, "generated_tokens_total": 7,
    "requests_total": {"eos": 1},
    "quality": {"task": "generate", "version": 2, "perplexity": 20.5,
                "bits_per_byte": 1.25, "counted_tokens": 64, "window": 512,
                "stride": 256, "float_perplexity": null,
                "kl_divergence_nats": null, "top1_agreement": null},
    "way_back": {"version": 1, "plan": "keep"},
    "versions": [
      {"version": 1, "since": "2023-11-14T22:13:11.500Z", "method": "keep",
       "plan": "keep", "stored_bytes": 600, "resident_bytes": 640,
       "seconds": 0.25, "quality": null},
      {"version": 2, "since": "2023-11-14T22:13:12.500Z",
       "method": "lm_head=keep linear", "plan": "lm_head=keep linear",
       "stored_bytes": 600, "resident_bytes": 640, "seconds": 0.25,
       "quality": {"task": "generate", "version": 2, "perplexity": 20.5,
                   "bits_per_byte": 1.25, "counted_tokens": 64, "window": 512,
                   "stride": 256, "float_perplexity": 20.0,
                   "kl_divergence_nats": 0.5, "top1_agreement": 0.75}}],
    "report": {
      "model": "tiny", "outcome": "serves", "refusal": null, "version": 2,
      "time": "2023-11-14T22:13:12.500Z", "seconds": 0.25,
      "method": "lm_head=keep linear", "method_before": "float16",
      "plan": "lm_head=keep linear", "checkpoint_bytes": 1000,
      "stored_bytes_before": 1000, "stored_bytes_after": 600,
      "resident_bytes_before": 1000, "resident_bytes_after": 640,
      "quality": null, "layers_left_out": 0,
      "layers": [{"name": "h.0.fc.weight", "kind": "linear",
                  "method": "linear", "relative_l2_error": 0.5,
                  "relative_l2_output_error": 0.25,
                  "bytes_before": 200, "bytes_after": 100}]}})");
  EXPECT_EQ(model, expected) << json::diff(model, expected);

  history->dry_run = true;
  EXPECT_EQ(
      Parse(StatusJson(Status({info}), {}))["models"][0]["report"]["outcome"],
      "dry_run");
  report.refusal = absl::FailedPreconditionError("max_kl is 0.05");
  history->report = std::make_shared<const QuantizeReport>(report);
  const json refused =
      Parse(StatusJson(Status({info}), {}))["models"][0]["report"];
  EXPECT_EQ(refused["outcome"], "refused");
  EXPECT_EQ(refused["refusal"], "max_kl is 0.05");
}

TEST(StatusJsonTest, SaysHowWellADetectorFindsAgain) {
  ModelInfo info = Tiny();
  info.tasks = {Task::kDetectObjects};
  info.detection = DetectionQuality{.pictures = 3,
                                    .float_detections = 8,
                                    .matched = 6,
                                    .mean_score_drift = 0.125,
                                    .mean_box_drift = 1.5,
                                    .version = 2};
  const auto quality = [&] {
    return Parse(StatusJson(Status({info}), {}))["models"][0]["quality"];
  };
  EXPECT_EQ(quality(), Parse(R"({"task": "detect_objects", "version": 2,
      "pictures": 3, "float_detections": 8, "matched": 6,
      "score_drift": 0.125, "box_drift_pixels": 1.5, "coco_ap": null})"));
  info.detection->matched = 0;
  info.detection->coco = CocoAveragePrecision{.ap = 0.5};
  EXPECT_EQ(quality()["score_drift"], nullptr);
  EXPECT_EQ(quality()["coco_ap"], 0.5);
}

TEST(StatusJsonTest, OfAModelThatLoadsSaysNoMoreThanThat) {
  ModelInfo info;
  info.name = "big";
  info.path = "/secret/path";
  const json model = Parse(StatusJson(Status({info}), {}))["models"][0];
  EXPECT_EQ(model, Parse(R"({"name": "big", "state": "loading",
                             "stage": null})"));
}

TEST(StatusJsonTest, IsJsonWhateverNamesACheckpointHas) {
  ModelInfo info = Tiny();
  auto history = std::make_shared<ModelHistory>();
  QuantizeReport report;
  report.tensors = {Layer("a\xff\"<script>\n", "linear", 0.5),
                    Layer(std::string(5000, 'x'), "linear", 0.25)};
  // A character that would be cut in two.
  info.plan = std::string(StatusBounds::kTextBytes - 1, 'p') + "\u00e9=keep";
  history->report = std::make_shared<const QuantizeReport>(report);
  info.history = history;
  const json model = Parse(StatusJson(Status({info}), {}))["models"][0];
  EXPECT_EQ(model["report"]["layers"][0]["name"], "a\ufffd\"<script>\n");
  EXPECT_EQ(model["report"]["layers"][1]["name"],
            std::string(StatusBounds::kLayerTextBytes, 'x') + "…");
  EXPECT_EQ(model["plan"],
            std::string(StatusBounds::kTextBytes - 1, 'p') + "…");
}

TEST(StatusJsonTest, LeavesOutLayersThatLostLeast) {
  ModelInfo info = Tiny();
  auto history = std::make_shared<ModelHistory>();
  QuantizeReport report;
  const size_t most = StatusBounds::kLayersOfModel;
  for (size_t i = 0; i < most + 3; ++i) {
    report.tensors.push_back(Layer(absl::StrCat(i), "linear",
                                   i < 2    ? 0.125
                                   : i == 9 ? 1
                                            : 0.5));
  }
  history->report = std::make_shared<const QuantizeReport>(report);
  info.history = history;
  const json told =
      Parse(StatusJson(Status({info}), {}))["models"][0]["report"];
  EXPECT_EQ(told["layers_left_out"], 3);
  ASSERT_EQ(told["layers"].size(), most);
  EXPECT_EQ(told["layers"][0]["name"], "2");  // in their order
  EXPECT_EQ(told["layers"][7]["name"], "9");
}

TEST(StatusJsonTest, IsSmallWhateverIsServed) {
  ModelInfo info = Tiny();
  info.plan = info.method = std::string(5000, 'p');
  auto history = std::make_shared<ModelHistory>();
  for (int64_t i = 0; i < static_cast<int64_t>(ModelHistory::kMaxVersions);
       ++i) {
    history->versions.push_back(Version(i, info.plan));
  }
  QuantizeReport report;
  report.plan = report.method = report.method_before = info.plan;
  report.refusal = absl::FailedPreconditionError(info.plan);
  for (int i = 0; i < 5000; ++i) {
    report.tensors.push_back(
        Layer(std::string(1000, 'n'), std::string(1000, 'm'), 0.5 / (i + 1)));
  }
  history->report = std::make_shared<const QuantizeReport>(report);
  info.history = history;
  for (const size_t models : {1, 64, 1000}) {
    const std::string text =
        StatusJson(Status(std::vector<ModelInfo>(models, info)), {});
    EXPECT_LT(text.size(), size_t{2} << 20) << models;
    const json status = Parse(text);
    EXPECT_EQ(status["models"].size(), std::min(models, StatusBounds::kModels));
    EXPECT_EQ(status["models_left_out"],
              models - std::min(models, StatusBounds::kModels));
    EXPECT_EQ(status["models"][0]["versions"].back()["version"], 31);
    EXPECT_EQ(status["models"][0]["way_back"]["version"], 30);
  }
}

}  // namespace
}  // namespace ounce::server
