#include "server/metrics/metrics.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <tuple>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/scheduler/refusal.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/http_get.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce::server {
namespace {

using ::ounce::testing::FakeClock;
using ::ounce::testing::HttpAsk;
using ::ounce::testing::HttpGet;
using ::ounce::testing::HttpRequest;
using ::ounce::testing::StatusIs;
using ::ounce::testing::TempFolder;
using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string((std::istreambuf_iterator<char>(in)), {});
}

class MetricsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    metrics_ = Metrics::Create({"1.2.3", "avx2", "g++ 12"}, clock_);
  }

  std::string Scrape() { return metrics_->Text(); }

  static ModelInfo Info(int64_t version, const std::string& method) {
    ModelInfo info;
    info.name = "tiny";
    info.state = ModelState::kReady;
    info.version = version;
    info.method = method;
    info.checkpoint_bytes = 1000;
    info.stored_bytes = 600;
    info.resident_bytes = 640;
    info.resident_bytes_by_element = {{"int8", 512}, {"float16", 128}};
    return info;
  }

  FakeClock clock_;
  std::unique_ptr<Metrics> metrics_;
};

TEST_F(MetricsTest, ShowsAModelsBytesByVersionMethodAndDtype) {
  metrics_->OnModelChanged(Info(1, "linear"));
  EXPECT_THAT(
      Scrape(),
      AllOf(
          HasSubstr(
              R"(ounce_model_weight_bytes{dtype="int8",method="linear",model="tiny",version="1"} 512)"),
          HasSubstr(
              R"(ounce_model_weight_bytes{dtype="float16",method="linear",model="tiny",version="1"} 128)"),
          HasSubstr(
              R"(ounce_model_stored_bytes{method="linear",model="tiny",version="1"} 600)"),
          HasSubstr(R"(ounce_model_checkpoint_bytes{model="tiny"} 1000)"),
          HasSubstr(R"(ounce_model_saved_bytes{model="tiny"} 400)"),
          HasSubstr(R"(ounce_model_saved_ratio{model="tiny"} 0.4)"),
          HasSubstr(R"(ounce_model_state{model="tiny",state="ready"} 1)"),
          HasSubstr(
              R"(ounce_model_state{model="tiny",state="quantizing"} 0)")));
}

TEST_F(MetricsTest, ForgetsTheVersionBeforeASwap) {
  metrics_->OnModelChanged(Info(1, "float16"));
  ASSERT_THAT(Scrape(), HasSubstr(R"(version="1")"));
  metrics_->OnModelChanged(Info(2, "linear"));
  EXPECT_THAT(Scrape(), AllOf(HasSubstr(R"(version="2")"),
                              Not(HasSubstr(R"(version="1")")),
                              Not(::testing::ContainsRegex(
                                  "ounce_model_[^\n]*method=\"float16\""))));
}

TEST_F(MetricsTest, ForgetsAModelThatIsGone) {
  const auto observer = metrics_->ObserveScheduler("tiny");
  metrics_->OnModelChanged(Info(1, "linear"));
  observer->OnStats({.queued = 3, .running = 2});
  metrics_->OnModelRemoved("tiny");
  EXPECT_THAT(Scrape(), AllOf(Not(HasSubstr("ounce_model_state{")),
                              Not(HasSubstr("ounce_model_weight_bytes{")),
                              Not(HasSubstr("ounce_requests_queued{"))));
}

TEST_F(MetricsTest, KeepsTheCountersOfAModelThatIsGoneForOneMoreScrape) {
  const auto observer = metrics_->ObserveScheduler("tiny");
  metrics_->OnModelChanged(Info(1, "linear"));
  Scrape();
  observer->OnTokens(10, 7);
  metrics_->OnModelRemoved("tiny");
  EXPECT_THAT(Scrape(),
              HasSubstr(R"(ounce_generated_tokens_total{model="tiny"} 7)"));
  EXPECT_THAT(Scrape(), Not(HasSubstr("tiny")));
  // The last request of the model may end later still.
  observer->OnTokens(0, 1);
  observer->OnDone(absl::CancelledError(""), FinishReason::kEos, {});
  observer->OnStats({.running = 1});
  metrics_->OnRejected("tiny", absl::NotFoundError(""));
  EXPECT_THAT(
      Scrape(),
      AllOf(
          Not(HasSubstr("tiny")),
          HasSubstr(R"(ounce_requests_total{model="",outcome="rejected"} 1)")));
}

TEST_F(MetricsTest, CountsOnWhenAModelComesBackBeforeAScrape) {
  metrics_->ObserveScheduler("tiny")->OnTokens(10, 7);
  metrics_->OnModelRemoved("tiny");
  metrics_->ObserveScheduler("tiny")->OnTokens(10, 1);
  EXPECT_THAT(Scrape(),
              HasSubstr(R"(ounce_generated_tokens_total{model="tiny"} 8)"));
  EXPECT_THAT(Scrape(),
              HasSubstr(R"(ounce_generated_tokens_total{model="tiny"} 8)"));
}

TEST_F(MetricsTest, StaysAsSmallAsBeforeAfterManyModels) {
  const auto load_and_unload = [&](const std::string& name) {
    ModelInfo info = Info(1, "linear");
    info.name = name;
    const auto scheduler = metrics_->ObserveScheduler(name);
    const auto detection = metrics_->ObserveDetection(name);
    metrics_->OnModelChanged(info);
    metrics_->OnQuantizeStage(name, "linear", QuantizeStage::kReading);
    metrics_->OnQuantizeDone(name, "linear", absl::OkStatus(),
                             absl::Seconds(1));
    metrics_->OnModelRemoved(name);
  };
  const auto lines = [](const std::string& page) {
    return std::count(page.begin(), page.end(), '\n');
  };
  const auto before = lines(Scrape());
  for (int i = 0; i < 200; ++i) load_and_unload(absl::StrCat("model", i));
  EXPECT_GT(lines(Scrape()), before + 200);
  EXPECT_EQ(lines(Scrape()), before);
  // The same without anyone who scrapes.
  for (int i = 0; i < 200; ++i) load_and_unload(absl::StrCat("model", i));
  clock_.Advance(absl::Minutes(11));
  load_and_unload("last");
  EXPECT_THAT(Scrape(), AllOf(HasSubstr("last"), Not(HasSubstr("model7"))));
}

TEST_F(MetricsTest, TellsWhatServesForJoins) {
  ModelInfo info = Info(3, "linear");
  info.compute = "float32";
  info.architecture = "codegen";
  metrics_->OnModelChanged(info);
  EXPECT_THAT(
      Scrape(),
      HasSubstr(
          R"(ounce_model_info{architecture="codegen",compute="float32",method="linear",model="tiny",version="3"} 1)"));
}

TEST_F(MetricsTest, NeverObservesNegativeSeconds) {
  const auto observer = metrics_->ObserveScheduler("tiny");
  const auto detection = metrics_->ObserveDetection("tiny");
  const absl::Duration back = absl::Seconds(-3598);
  observer->OnFirstToken(back);
  GenerateResult result;
  result.new_tokens = 2;
  result.queued = result.total = back;
  observer->OnDone(absl::OkStatus(), FinishReason::kEos, result);
  detection->OnBatch(1, back);
  DetectResult detected;
  detected.total = detected.queued = detected.decode = back;
  detection->OnDone(absl::OkStatus(), detected);
  metrics_->OnModelChanged(Info(1, "linear"));
  metrics_->OnQuantizeDone("tiny", "linear", absl::OkStatus(), back);
  EXPECT_THAT(Scrape(), Not(::testing::ContainsRegex("_sum[^\n]* -")));
}

TEST_F(MetricsTest, AsksSourcesAtEachScrapeUntilTheyEnd) {
  int64_t fds = 5;
  auto source = metrics_->AddSource([&](Figures& figures) {
    figures.Set(metric::kProcessMaxFds, {}, static_cast<double>(fds));
  });
  EXPECT_THAT(Scrape(), HasSubstr("process_max_fds 5\n"));
  fds = 6;
  EXPECT_THAT(Scrape(), HasSubstr("process_max_fds 6\n"));
  source = nullptr;
  EXPECT_THAT(Scrape(), Not(HasSubstr("process_max_fds 6\n")));
}

TEST_F(MetricsTest, TakesAnyFigureOfTheTable) {
  metrics_->OnModelChanged(Info(1, "linear"));
  Figures& figures = metrics_->figures();
  figures.Set(metric::kKvUsedBytes, {"tiny"}, 4096);
  figures.Add(metric::kRequests, {"tiny", "error"}, 2);
  figures.Add(metric::kRequests, {"tiny", "error"});
  figures.SetTotal(metric::kPromptTokens, {"tiny"}, 12);
  figures.SetTotal(metric::kPromptTokens, {"tiny"}, 15);
  figures.Observe(metric::kQueueDuration, {"tiny"}, 0.5);
  EXPECT_THAT(
      Scrape(),
      AllOf(
          HasSubstr(R"(ounce_kv_cache_used_bytes{model="tiny"} 4096)"),
          HasSubstr(R"(ounce_requests_total{model="tiny",outcome="error"} 3)"),
          HasSubstr(R"(ounce_prompt_tokens_total{model="tiny"} 15)"),
          HasSubstr(R"(ounce_queue_seconds_sum{model="tiny"} 0.5)")));
}

TEST_F(MetricsTest, CountsDetectionsByHowTheyEnded) {
  const auto observer = metrics_->ObserveDetection("detr");
  // Series are there before anything happens.
  EXPECT_THAT(
      Scrape(),
      HasSubstr(
          R"(ounce_detect_requests_total{model="detr",outcome="done"} 0)"));
  DetectResult result;
  result.total = absl::Seconds(3);
  result.queued = absl::Seconds(1);
  result.decode = absl::Milliseconds(500);
  observer->OnBatch(2, absl::Milliseconds(1500));
  observer->OnDone(absl::OkStatus(), result);
  observer->OnDone(absl::CancelledError(""), {});
  observer->OnDone(absl::DeadlineExceededError(""), {});
  observer->OnDone(absl::UnavailableError(""), {});
  observer->OnDone(absl::InternalError(""), {});
  metrics_->OnDetectRejected("detr", absl::InvalidArgumentError(""));
  metrics_->OnDetectRejected("", absl::NotFoundError(""));
  metrics_->OnDetectRejected("detr", absl::CancelledError(""));
  const std::string text = Scrape();
  for (const auto& [outcome, count] :
       {std::pair("done", 1), std::pair("cancelled", 2),
        std::pair("deadline_exceeded", 1), std::pair("unavailable", 1),
        std::pair("error", 1), std::pair("rejected", 1)}) {
    EXPECT_THAT(text,
                HasSubstr(absl::StrCat(
                    R"(ounce_detect_requests_total{model="detr",outcome=")",
                    outcome, "\"} ", count, "\n")));
  }
  EXPECT_THAT(
      text,
      AllOf(
          HasSubstr(
              R"(ounce_detect_requests_total{model="",outcome="rejected"} 1)"),
          HasSubstr(
              R"(ounce_detect_request_duration_seconds_sum{model="detr"} 3)"),
          HasSubstr(R"(ounce_detect_queue_seconds_sum{model="detr"} 1)"),
          HasSubstr(R"(ounce_detect_decode_seconds_sum{model="detr"} 0.5)"),
          HasSubstr(R"(ounce_detect_model_seconds_sum{model="detr"} 1.5)"),
          HasSubstr(R"(ounce_detect_batch_pictures_sum{model="detr"} 2)")));
}

TEST_F(MetricsTest, ShowsPicturesInFlightAndADetectorsQueue) {
  const auto observer = metrics_->ObserveDetection("detr");
  observer->OnStats({.queued = 3, .running = 2});
  metrics_->OnPictures(5, 1234);
  EXPECT_THAT(Scrape(),
              AllOf(HasSubstr(R"(ounce_requests_queued{model="detr"} 3)"),
                    HasSubstr(R"(ounce_requests_running{model="detr"} 2)"),
                    HasSubstr("ounce_pictures_in_flight 5"),
                    HasSubstr("ounce_picture_memory_used_bytes 1234")));
  metrics_->OnModelRemoved("detr");
  EXPECT_THAT(Scrape(), Not(HasSubstr("ounce_requests_queued{")));
}

TEST_F(MetricsTest, ALoadingModelHasAStateAndNoBytes) {
  ModelInfo info;
  info.name = "tiny";
  metrics_->OnModelChanged(info);
  EXPECT_THAT(
      Scrape(),
      AllOf(HasSubstr(R"(ounce_model_state{model="tiny",state="loading"} 1)"),
            Not(HasSubstr("ounce_model_stored_bytes{"))));
}

TEST_F(MetricsTest, CountsRequestsTokensAndTimes) {
  const auto observer = metrics_->ObserveScheduler("tiny");
  observer->OnStats({.queued = 3,
                     .running = 2,
                     .kv_capacity_bytes = 1 << 20,
                     .kv_used_bytes = 4096});
  observer->OnTokens(10, 0);
  observer->OnTokens(0, 2);
  observer->OnPrefixCache(90, 80, 3);
  observer->OnPrefixCache(10, 0, 0);
  observer->OnFirstToken(absl::Milliseconds(30));
  GenerateResult result;
  result.new_tokens = 11;
  result.queued = absl::Milliseconds(3);
  result.time_to_first_token = absl::Milliseconds(30);
  result.total = absl::Milliseconds(230);
  observer->OnDone(absl::OkStatus(), FinishReason::kEos, result);
  observer->OnDone(absl::OkStatus(), FinishReason::kStop, result);
  observer->OnDone(absl::CancelledError(""), FinishReason::kEos, result);
  observer->OnDone(absl::DeadlineExceededError(""), FinishReason::kEos, result);
  observer->OnDone(absl::UnavailableError(""), FinishReason::kEos, result);
  observer->OnDone(absl::InternalError(""), FinishReason::kEos, result);
  metrics_->OnRejected("tiny", absl::InvalidArgumentError(""));
  metrics_->OnRejected("", absl::NotFoundError(""));
  metrics_->OnRejected("tiny", absl::CancelledError(""));
  metrics_->OnRejected("tiny", absl::DeadlineExceededError(""));
  metrics_->OnDetectRejected("tiny", Refusal(Reason::kDeadlineTooSoon, ""));
  const std::string text = Scrape();
  for (const char* series :
       {R"({model="tiny",reason="INVALID_ARGUMENT"} 1)",
        R"({model="",reason="NOT_FOUND"} 1)",
        R"({model="tiny",reason="DEADLINE_TOO_SOON"} 1)"}) {
    EXPECT_THAT(
        text, HasSubstr(absl::StrCat("ounce_refused_requests_total", series)));
  }
  EXPECT_THAT(text, Not(HasSubstr(R"(reason="CANCELLED")")));
  for (const auto& [outcome, count] :
       {std::pair("eos", 1), std::pair("length", 0), std::pair("stop", 1),
        std::pair("cancelled", 2), std::pair("deadline_exceeded", 2),
        std::pair("unavailable", 1), std::pair("rejected", 1),
        std::pair("error", 1)}) {
    EXPECT_THAT(text, HasSubstr(absl::StrCat(
                          R"(ounce_requests_total{model="tiny",outcome=")",
                          outcome, "\"} ", count)));
  }
  EXPECT_THAT(
      text,
      AllOf(
          HasSubstr(R"(ounce_requests_queued{model="tiny"} 3)"),
          HasSubstr(R"(ounce_requests_running{model="tiny"} 2)"),
          HasSubstr(R"(ounce_kv_cache_capacity_bytes{model="tiny"} 1048576)"),
          HasSubstr(R"(ounce_kv_cache_used_bytes{model="tiny"} 4096)"),
          HasSubstr(R"(ounce_prompt_tokens_total{model="tiny"} 10)"),
          HasSubstr(R"(ounce_generated_tokens_total{model="tiny"} 2)"),
          HasSubstr(
              R"(ounce_prefix_cache_queried_tokens_total{model="tiny"} 100)"),
          HasSubstr(R"(ounce_prefix_cache_hit_tokens_total{model="tiny"} 80)"),
          HasSubstr(
              R"(ounce_prefix_cache_evicted_blocks_total{model="tiny"} 3)"),
          HasSubstr(R"(ounce_step_tokens_bucket{model="tiny",le="2"} 1)"),
          HasSubstr(R"(ounce_step_tokens_sum{model="tiny"} 12)"),
          HasSubstr(
              R"(ounce_time_to_first_token_seconds_count{model="tiny"} 1)"),
          HasSubstr(
              R"(ounce_time_to_first_token_seconds_bucket{model="tiny",le="0.04"} 1)"),
          HasSubstr(
              R"(ounce_time_to_first_token_seconds_bucket{model="tiny",le="0.02"} 0)"),
          HasSubstr(R"(ounce_request_duration_seconds_count{model="tiny"} 2)"),
          HasSubstr(R"(ounce_queue_seconds_count{model="tiny"} 2)")));
  // (230 - 30) ms over 10 tokens.
  EXPECT_THAT(
      text,
      HasSubstr(
          R"(ounce_time_per_output_token_seconds_bucket{model="tiny",le="0.025"} 2)"));
  EXPECT_THAT(
      text,
      HasSubstr(
          R"(ounce_time_per_output_token_seconds_bucket{model="tiny",le="0.01"} 0)"));
}

TEST_F(MetricsTest, FollowsAQuantization) {
  metrics_->OnModelChanged(Info(1, "float16"));
  // There before the first run, so that increase() sees the run.
  EXPECT_THAT(
      Scrape(),
      AllOf(
          HasSubstr(
              R"(ounce_quantizations_total{method="linear",model="tiny",outcome="done"} 0)"),
          Not(HasSubstr("ounce_quantization_stage{"))));
  metrics_->OnQuantizeStage("tiny", "linear:channel=row",
                            QuantizeStage::kReading);
  EXPECT_THAT(
      Scrape(),
      AllOf(
          HasSubstr(
              R"(ounce_quantizations_total{method="linear:channel=row",model="tiny",outcome="done"} 0)"),
          HasSubstr(
              R"(ounce_quantization_seconds_count{method="linear:channel=row",model="tiny"} 0)")));
  metrics_->OnQuantizeStage("tiny", "linear", QuantizeStage::kQuantizing);
  EXPECT_THAT(
      Scrape(),
      AllOf(
          HasSubstr(
              R"(ounce_quantization_stage{model="tiny",stage="quantizing"} 1)"),
          HasSubstr(
              R"(ounce_quantization_stage{model="tiny",stage="reading"} 0)")));
  metrics_->OnQuantizeDone("tiny", "linear", absl::OkStatus(),
                           absl::Seconds(2));
  metrics_->OnQuantizeDone("tiny", "linear", absl::CancelledError(""),
                           absl::Seconds(2));
  for (const Reason reason :
       {Reason::kQualityTooLow, Reason::kModelNotFinite}) {
    metrics_->OnQuantizeDone("tiny", "linear", Refusal(reason, ""),
                             absl::Seconds(2));
  }
  EXPECT_THAT(
      Scrape(),
      AllOf(
          Not(HasSubstr("ounce_quantization_stage{")),
          HasSubstr(
              R"(ounce_quantizations_total{method="linear",model="tiny",outcome="done"} 1)"),
          HasSubstr(
              R"(ounce_quantizations_total{method="linear",model="tiny",outcome="cancelled"} 1)"),
          HasSubstr(
              R"(ounce_quantizations_total{method="linear",model="tiny",outcome="refused_quality"} 2)"),
          HasSubstr(
              R"(ounce_quantizations_total{method="linear",model="tiny",outcome="error"} 0)"),
          HasSubstr(
              R"(ounce_quantization_seconds_sum{method="linear",model="tiny"} 2)")));
}

TEST_F(MetricsTest, CountsSavesAndWhatTheyWrote) {
  metrics_->OnModelChanged(Info(1, "float16"));
  EXPECT_THAT(
      Scrape(),
      AllOf(HasSubstr(R"(ounce_saves_total{model="tiny",outcome="done"} 0)"),
            HasSubstr(R"(ounce_save_seconds_count{model="tiny"} 0)")));
  metrics_->OnSaveDone("tiny", absl::OkStatus(), 1000, absl::Seconds(2));
  metrics_->OnSaveDone("tiny", absl::OkStatus(), 500, absl::Seconds(2));
  metrics_->OnSaveDone("tiny", absl::CancelledError(""), 0, absl::Seconds(9));
  metrics_->OnSaveDone("tiny", Refusal(Reason::kDiskFull, ""), 0,
                       absl::Seconds(9));
  EXPECT_THAT(
      Scrape(),
      AllOf(
          HasSubstr(R"(ounce_saves_total{model="tiny",outcome="done"} 2)"),
          HasSubstr(R"(ounce_saves_total{model="tiny",outcome="cancelled"} 1)"),
          HasSubstr(R"(ounce_saves_total{model="tiny",outcome="error"} 1)"),
          HasSubstr(R"(ounce_save_written_bytes_total{model="tiny"} 1500)"),
          HasSubstr(R"(ounce_save_seconds_sum{model="tiny"} 4)")));
}

TEST_F(MetricsTest, TellsHowFarDetectionsAreFromTheFloats) {
  metrics_->OnModelChanged(Info(2, "linear"));
  DetectionQuality quality = {.pictures = 3, .method = "linear"};
  metrics_->OnDetectionEvaluated("tiny", quality);
  EXPECT_THAT(Scrape(), AllOf(Not(HasSubstr("ounce_model_objects_matched")),
                              Not(HasSubstr("ounce_model_box_drift"))));
  quality.float_detections = 8;
  quality.matched = 6;
  quality.mean_score_drift = 0.125;
  quality.mean_box_drift = 1.5;
  quality.coco = CocoAveragePrecision();  // there is none
  metrics_->OnDetectionEvaluated("tiny", quality);
  EXPECT_THAT(Scrape(), Not(HasSubstr("ounce_model_coco_ap_ratio{")));
  quality.coco = CocoAveragePrecision{.ap = 0.5};
  metrics_->OnDetectionEvaluated("tiny", quality);
  EXPECT_THAT(
      Scrape(),
      AllOf(
          HasSubstr(
              R"(ounce_model_objects_matched_ratio{method="linear",model="tiny"} 0.75)"),
          HasSubstr(
              R"(ounce_model_score_drift{method="linear",model="tiny"} 0.125)"),
          HasSubstr(
              R"(ounce_model_coco_ap_ratio{method="linear",model="tiny"} 0.5)"),
          HasSubstr(
              R"(ounce_model_box_drift_pixels{method="linear",model="tiny"} 1.5)")));
}

TEST_F(MetricsTest, KeepsTheQualityThatEachMethodHad) {
  metrics_->OnModelChanged(Info(1, "float16"));
  TextQuality quality;
  quality.method = "float16";
  quality.perplexity = 20.5;
  quality.bits_per_byte = 1.25;
  metrics_->OnEvaluated("tiny", quality);
  metrics_->OnModelChanged(Info(2, "linear"));
  quality.method = "linear";
  quality.perplexity = 21.5;
  metrics_->OnEvaluated("tiny", quality);
  EXPECT_THAT(Scrape(), Not(HasSubstr("ounce_model_kl_divergence_nats{")));
  quality.floats = TextQuality::Comparison{.mean_kl_divergence = 0.125,
                                           .top1_agreement = 0.75};
  metrics_->OnEvaluated("tiny", quality);
  EXPECT_THAT(
      Scrape(),
      AllOf(
          HasSubstr(
              R"(ounce_model_perplexity{method="float16",model="tiny"} 20.5)"),
          HasSubstr(
              R"(ounce_model_perplexity{method="linear",model="tiny"} 21.5)"),
          HasSubstr(
              R"(ounce_model_bits_per_byte{method="linear",model="tiny"} 1.25)"),
          HasSubstr(
              R"(ounce_model_kl_divergence_nats{method="linear",model="tiny"} 0.125)"),
          HasSubstr(
              R"(ounce_model_top1_agreement_ratio{method="linear",model="tiny"} 0.75)")));
  metrics_->OnModelRemoved("tiny");
  EXPECT_THAT(Scrape(), Not(HasSubstr("ounce_model_perplexity{")));
}

TEST_F(MetricsTest, TellsTheBuildAndTheMemoryOfTheProcess) {
  const std::string text = Scrape();
  EXPECT_THAT(
      text,
      HasSubstr(
          R"(ounce_build_info{compiler="g++ 12",isa="avx2",version="1.2.3"} 1)"));
  EXPECT_THAT(text,
              ::testing::ContainsRegex("ounce_process_resident_bytes [1-9]"));
  EXPECT_THAT(text, ::testing::ContainsRegex(
                        "ounce_process_peak_resident_bytes [1-9]"));
  // Those that dashboards of any process know.
  for (const char* name :
       {"process_cpu_seconds_total", "process_resident_memory_bytes",
        "process_virtual_memory_bytes", "process_open_fds",
        "process_max_fds"}) {
    EXPECT_THAT(text, ::testing::ContainsRegex(
                          absl::StrCat("\n", name, " [0-9]*[.]?[0-9]*[1-9]")));
  }
  const std::string start_time = "\nprocess_start_time_seconds ";
  const size_t at = text.find(start_time);
  ASSERT_NE(at, std::string::npos);
  double started = 0;
  ASSERT_TRUE(absl::SimpleAtod(
      text.substr(at + start_time.size(),
                  text.find('\n', at + 1) - at - start_time.size()),
      &started));
  // Of this process: minutes ago, and not in the future (ticks are 10 ms).
  const double now = absl::ToUnixSeconds(absl::Now());
  EXPECT_LT(started, now + 2);
  EXPECT_GT(started, now - 3600);
}

TEST_F(MetricsTest, AnswersOverHttpOnAPortOfItsOwn) {
  ASSERT_OK_AND_ASSIGN(const std::string address,
                       metrics_->Listen("127.0.0.1:0"));
  metrics_->OnModelChanged(Info(1, "linear"));
  EXPECT_THAT(HttpGet(address, "/metrics"),
              AllOf(HasSubstr("# TYPE ounce_model_stored_bytes gauge"),
                    HasSubstr(R"(state="ready"} 1)")));
  const auto second = Metrics::Create({});
  EXPECT_THAT(second->Listen(address),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       absl::StrCat("metrics_listen: cannot listen on ",
                                    address, ": address already in use")));
  EXPECT_THAT(HttpGet(address, "/metrics"),
              HasSubstr("exposer_scrapes_total 1\n"));
}

TEST_F(MetricsTest, ListensOnIpv6AndNamesToo) {
  for (const char* any : {"localhost:0", "[::]:0"}) {
    const auto metrics = Metrics::Create({});
    const absl::StatusOr<std::string> address = metrics->Listen(any);
    if (absl::StrContains(address.status().message(), "address family")) {
      GTEST_SKIP() << "no IPv6 on this machine";
    }
    ASSERT_OK(address.status());
    EXPECT_THAT(HttpGet(*address, "/metrics"), HasSubstr("ounce_build_info"));
  }
}

TEST_F(MetricsTest, TellsLifeAndReadinessApart) {
  ASSERT_OK_AND_ASSIGN(const std::string address,
                       metrics_->Listen("127.0.0.1:0"));
  const auto ready = [&] {
    return HttpAsk(address, HttpRequest("GET", "/readyz"));
  };
  const auto not_ready = [](const std::string& why) {
    return AllOf(HasSubstr("HTTP/1.1 503"),
                 EndsWith("\r\n\r\nnot ready: " + why + "\n"));
  };
  EXPECT_THAT(ready(), not_ready("starting"));
  ModelInfo info;
  info.name = "code";
  metrics_->OnModelChanged(info);
  info.name = "shapes";
  metrics_->OnModelChanged(info);
  EXPECT_THAT(ready(), not_ready("loading model code; loading model shapes"));
  EXPECT_EQ(HttpGet(address, "/healthz"), "alive\n");
  info.state = ModelState::kReady;
  metrics_->OnModelChanged(info);
  EXPECT_THAT(ready(), not_ready("loading model code"));
  metrics_->SetServing(false);
  EXPECT_THAT(ready(), not_ready("loading model code"));
  metrics_->SetServing(false, "model shapes does not serve");
  EXPECT_THAT(ready(), not_ready("loading model code"));
  metrics_->SetServing(true);
  EXPECT_THAT(ready(), AllOf(HasSubstr("HTTP/1.1 200"), EndsWith("ready\n")));
  metrics_->SetServing(false, "model code does not serve");
  EXPECT_THAT(ready(), not_ready("model code does not serve"));
  metrics_->SetServing(true);
  EXPECT_THAT(ready(), EndsWith("\r\n\r\nready\n"));
  metrics_->SetServing(false);
  EXPECT_THAT(ready(), not_ready("shutting down"));
  EXPECT_EQ(HttpGet(address, "/healthz"), "alive\n");
  EXPECT_THAT(HttpAsk(address, HttpRequest("HEAD", "/metrics")),
              AllOf(HasSubstr("HTTP/1.1 200"), EndsWith("\r\n\r\n")));
  EXPECT_THAT(
      HttpAsk(address, HttpRequest("GET", "/status")),
      AllOf(HasSubstr("HTTP/1.1 404"),
            EndsWith("nothing here; there are / to look at, /status.json, "
                     "/metrics, /healthz and /readyz\n")));
}

TEST_F(MetricsTest, HasAPageToLookAtThatNeedsNothingFromElsewhere) {
  ASSERT_OK_AND_ASSIGN(const std::string address,
                       metrics_->Listen("127.0.0.1:0"));
  const std::string folder = OUNCE_SOURCE_ROOT "/server/metrics/page/";
  for (const auto& [path, file, type] :
       {std::tuple("/", "index.html", "text/html; charset=utf-8"),
        std::tuple("/page.js", "page.js", "text/javascript; charset=utf-8"),
        std::tuple("/page.css", "page.css", "text/css; charset=utf-8"),
        std::tuple("/icon.svg", "icon.svg", "image/svg+xml")}) {
    SCOPED_TRACE(path);
    const std::string content = ReadFile(folder + file);
    const std::string answer = HttpAsk(address, HttpRequest("GET", path));
    const std::string head = answer.substr(0, answer.find("\r\n\r\n") + 4);
    EXPECT_THAT(head,
                AllOf(StartsWith("HTTP/1.1 200"),
                      HasSubstr(absl::StrCat("Content-Type: ", type, "\r\n"))));
    EXPECT_TRUE(answer == head + content);
    EXPECT_THAT(HttpAsk(address, HttpRequest("HEAD", path)),
                AllOf(StartsWith("HTTP/1.1 200"),
                      HasSubstr(absl::StrCat("Content-Length: ", content.size(),
                                             "\r\n")),
                      EndsWith("\r\n\r\n")));
    EXPECT_THAT(HttpAsk(address, HttpRequest("POST", path)),
                StartsWith("HTTP/1.1 405"));
    // But for the name of SVG's elements, no address of anywhere.
    EXPECT_THAT(
        absl::StrReplaceAll(content, {{"http://www.w3.org/2000/svg", ""}}),
        AllOf(Not(HasSubstr("http:")), Not(HasSubstr("https:")),
              Not(HasSubstr("//www"))));
  }
  // What the policy of every reply would forbid.
  const std::string html = HttpGet(address, "/");
  EXPECT_THAT(html, AllOf(Not(HasSubstr("style=")), Not(HasSubstr("<style")),
                          Not(HasSubstr("onclick")), HasSubstr("<noscript>")));
  EXPECT_THAT(HttpGet(address, "/page.js"),
              AllOf(Not(HasSubstr("innerHTML")), Not(HasSubstr("eval("))));
}

TEST_F(MetricsTest, TellsItsStatusWhileThereIsOneToTell) {
  ASSERT_OK_AND_ASSIGN(const std::string address,
                       metrics_->Listen("127.0.0.1:0"));
  const auto ask = [&] {
    return HttpAsk(address, HttpRequest("GET", "/status.json"));
  };
  EXPECT_THAT(ask(), StartsWith("HTTP/1.1 503"));
  const auto observer = metrics_->ObserveScheduler("tiny");
  metrics_->OnModelChanged(Info(1, "linear"));
  observer->OnTokens(10, 7);
  observer->OnDone(absl::OkStatus(), FinishReason::kEos, {});
  metrics_->OnQuantizeStage("tiny", "linear", QuantizeStage::kQuantizing);
  auto status = metrics_->ServeStatus(
      [] { return ServerStatus{.models = {Info(1, "linear")}}; });
  const std::string told = ask();
  EXPECT_THAT(told,
              AllOf(StartsWith("HTTP/1.1 200"),
                    HasSubstr("Content-Type: application/json\r\n"),
                    HasSubstr(R"("version":"1.2.3")"),
                    HasSubstr(R"("phase":"starting","not_ready":["starting"])"),
                    HasSubstr(R"("stage":"quantizing")"),
                    HasSubstr(R"("prompt_tokens_total":10)"),
                    HasSubstr(R"("generated_tokens_total":7)"),
                    HasSubstr(R"("eos":1)"), HasSubstr(R"("error":0)")));
  // To have asked makes and ends no series.
  EXPECT_THAT(Scrape(),
              AllOf(HasSubstr("ounce_generated_tokens_total{model=\"tiny\"} 7"),
                    Not(HasSubstr("detect_requests_total{model=\"tiny\""))));
  status = nullptr;
  EXPECT_THAT(ask(), StartsWith("HTTP/1.1 503"));
}

TEST_F(MetricsTest, MakesItsStatusTwiceASecondAtMost) {
  ASSERT_OK_AND_ASSIGN(const std::string address,
                       metrics_->Listen("127.0.0.1:0"));
  int calls = 0;
  const auto status = metrics_->ServeStatus([&] {
    ++calls;
    return ServerStatus();
  });
  for (int i = 0; i < 20; ++i) {
    EXPECT_NE(HttpGet(address, "/status.json"), "");
  }
  EXPECT_EQ(calls, 1);
  clock_.Advance(absl::Milliseconds(500));
  EXPECT_NE(HttpGet(address, "/status.json"), "");
  EXPECT_EQ(calls, 2);
}

TEST_F(MetricsTest, PassesPrometheusOwnCheck) {
  if (std::system("promtool --version >/dev/null 2>&1") != 0) {
    GTEST_SKIP() << "promtool is not installed";
  }
  const auto observer = metrics_->ObserveScheduler("tiny");
  metrics_->OnModelChanged(Info(1, "linear"));
  observer->OnFirstToken(absl::Milliseconds(30));
  metrics_->OnQuantizeStage("tiny", "linear", QuantizeStage::kQuantizing);
  const TempFolder folder;
  const std::string page = folder.WriteFile("metrics", Scrape());
  EXPECT_EQ(
      std::system(absl::StrCat("promtool check metrics < ", page).c_str()), 0);
}

}  // namespace
}  // namespace ounce::server
