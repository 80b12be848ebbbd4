// Versions that must be good enough to serve: limits alone, and real, small
// models that are quantized within them and beyond.
#include "server/engine/quality_limits.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <limits>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/processors/image_processor.h"
#include "server/engine/loaded_models.h"
#include "server/scheduler/memory_budget.h"
#include "server/scheduler/model_history.h"
#include "tests/server/engine/recording_catalog_observer.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tiny_detector.h"
#include "tests/testing/tiny_model.h"

namespace ounce::server {
namespace {

using ::ounce::testing::DetectorRunner;
using ::ounce::testing::kTinyDetectorFolder;
using ::ounce::testing::kTinyModelFolder;
using ::ounce::testing::StatusIs;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

using absl::StatusCode;

TextQuality Text(double perplexity, double floats, double kl) {
  TextQuality quality;
  quality.perplexity = perplexity;
  quality.floats = TextQuality::Comparison{.mean_kl_divergence = kl,
                                           .top1_agreement = 1,
                                           .float_perplexity = floats};
  return quality;
}

TEST(QualityLimitsTest, AreKeptToAtExactlyTheLimitAndNotAbove) {
  QualityLimits limits;
  EXPECT_OK(CheckQuality(limits, Text(1e9, 1, 1e9), std::nullopt));
  limits.max_perplexity_increase = 0.25;
  limits.max_kl = 0.5;
  EXPECT_OK(CheckQuality(limits, Text(10, 8, 0.5), std::nullopt));
  EXPECT_OK(CheckQuality(limits, Text(7, 8, 0), std::nullopt));
  EXPECT_THAT(CheckQuality(limits, Text(10.5, 8, 0.5), std::nullopt),
              StatusIs(StatusCode::kFailedPrecondition,
                       "the new version does not serve: perplexity would be "
                       "10.5, 31.25% above the floats' 8, and "
                       "max_perplexity_increase is 0.25 (25%)"));
  EXPECT_THAT(CheckQuality(limits, Text(12, 8, 0.75), std::nullopt),
              StatusIs(StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("increase is 0.25 (25%); KL"),
                             HasSubstr("would be 0.75 nats a token, and "
                                       "max_kl is 0.5"))));
  // What is no number is not below anything.
  EXPECT_FALSE(CheckQuality(limits, Text(NAN, 8, 0), std::nullopt).ok());
  EXPECT_FALSE(CheckQuality(limits, Text(8, 8, NAN), std::nullopt).ok());
}

TEST(QualityLimitsTest, BoxesThatAreNotFoundAgainDriftTooFar) {
  QualityLimits limits;
  limits.max_box_drift = 2;
  DetectionQuality quality = {.pictures = 1,
                              .float_detections = 4,
                              .quantized_detections = 2,
                              .matched = 2,
                              .mean_box_drift = 2};
  EXPECT_OK(CheckQuality(limits, std::nullopt, quality));
  quality.mean_box_drift = 2.5;
  EXPECT_THAT(CheckQuality(limits, std::nullopt, quality),
              StatusIs(StatusCode::kFailedPrecondition,
                       HasSubstr("boxes would drift by 2.5 pixels, and "
                                 "max_box_drift is 2")));
  quality.matched = 1;
  quality.mean_box_drift = 0;
  EXPECT_THAT(CheckQuality(limits, std::nullopt, quality),
              StatusIs(StatusCode::kFailedPrecondition,
                       HasSubstr("of the floats' 4 objects 1 would be found "
                                 "again")));
}

class QuantizeWithinLimitsTest : public ::testing::Test {
 protected:
  QuantizeWithinLimitsTest() {
    std::ostringstream text;
    text << std::ifstream("tests/golden/perplexity/code.txt").rdbuf();
    code_ = text.str();
  }
  ~QuantizeWithinLimitsTest() override { catalog_->Drain(absl::Now()); }

  using Progress = std::function<absl::Status(const QuantizeUpdate&)>;
  absl::StatusOr<QuantizeReport> Quantize(
      const QuantizeParams& params,
      const Progress& progress = [](const QuantizeUpdate&) {
        return absl::OkStatus();
      }) {
    return catalog_->Quantize(params, progress);
  }
  static QuantizeParams To(const std::string& plan) {
    QuantizeParams params;
    params.model = "m";
    params.plan = *model::ParseMethodPlan(plan);
    return params;
  }
  QuantizeParams WithText(const std::string& plan) {
    QuantizeParams params = To(plan);
    params.texts = {code_};
    return params;
  }
  static QuantizeParams WithPictures(const std::string& plan) {
    QuantizeParams params = To(plan);
    for (int i = 0; i < 3; ++i) {
      const model::PictureSize size = {70, 96};
      const DetectorRunner::Picture made =
          DetectorRunner::Generated(i, size, size);
      Picture picture;
      picture.rgb = *image::Rgb8::Create(size.height, size.width);
      std::copy(made.rgb.begin(), made.rgb.end(), picture.rgb.data());
      picture.original_height = size.height;
      picture.original_width = size.width;
      params.pictures.push_back(
          std::make_shared<const Picture>(std::move(picture)));
    }
    return params;
  }
  ModelInfo Info() { return catalog_->List().front(); }
  absl::StatusOr<TextQuality> Evaluate(
      const std::string& text,
      const std::function<absl::Status(const EvaluateUpdate&)>& progress =
          [](const EvaluateUpdate&) { return absl::OkStatus(); }) {
    ASSIGN_OR_RETURN(const auto served, catalog_->Find("m"));
    ASSIGN_OR_RETURN(const auto task, TaskOf<TextGeneration>(served));
    const int64_t window = DefaultWindow(served->info().max_positions);
    return task->evaluator->Evaluate(
        {text, window, DefaultStride(window), /*compare_with_floats=*/true},
        progress);
  }

  std::string code_;
  RecordingCatalogObserver observer_;
  ThreadPool pool_{2};
  MemoryBudget budget_{MemoryBudget::Options{.limit_bytes = 256 << 20}};
  std::unique_ptr<ModelCatalog> catalog_ = [this] {
    CatalogOptions options;
    options.memory = &budget_;
    options.kv_cache_bytes = 16 << 20;
    return CreateModelCatalog(options, pool_, Clock::Real(), observer_);
  }();
};

TEST_F(QuantizeWithinLimitsTest, AVersionWithinThemServesWithItsQuality) {
  ASSERT_OK(catalog_->Load({"m", kTinyModelFolder}));
  QuantizeParams params = WithText("linear");
  params.limits.max_perplexity_increase = 0.05;
  params.limits.max_kl = 0.05;
  int64_t done = 0, total = 0;
  ASSERT_OK_AND_ASSIGN(const QuantizeReport report,
                       Quantize(params, [&](const QuantizeUpdate& update) {
                         if (update.stage == QuantizeStage::kEvaluating) {
                           EXPECT_GE(update.samples_done, done);
                           done = update.samples_done;
                           total = update.samples_total;
                         }
                         return absl::OkStatus();
                       }));
  EXPECT_OK(report.refusal);
  EXPECT_GT(done, 0);
  EXPECT_LE(done, total);
  ASSERT_TRUE(report.quality.has_value());
  EXPECT_EQ(report.quality->version, 2);
  EXPECT_EQ(report.quality->method, "linear");
  ASSERT_TRUE(Info().quality.has_value());
  ASSERT_EQ(Info().history->versions.size(), 2u);
  EXPECT_FALSE(Info().history->versions[0].quality.has_value());
  ASSERT_TRUE(Info().history->versions[1].quality.has_value());
  EXPECT_EQ(Info().history->versions[1].quality->perplexity,
            report.quality->perplexity);
  EXPECT_THAT(observer_.events(), Contains("m evaluated v2"));
  // What an Evaluate of it says afterwards.
  ASSERT_OK_AND_ASSIGN(const TextQuality after, Evaluate(code_));
  EXPECT_EQ(report.quality->mean_negative_log_likelihood,
            after.mean_negative_log_likelihood);
  EXPECT_EQ(report.quality->floats->mean_kl_divergence,
            after.floats->mean_kl_divergence);
  EXPECT_EQ(report.quality->floats->float_perplexity,
            after.floats->float_perplexity);
  EXPECT_EQ(report.quality->bits_per_byte, after.bits_per_byte);
  EXPECT_EQ(report.quality->worst_token.index, after.worst_token.index);
}

TEST_F(QuantizeWithinLimitsTest, AVersionBeyondOneIsGoneAndTheOldOneServes) {
  ASSERT_OK(catalog_->Load({"m", kTinyModelFolder}));
  const MemoryBudget::State before = budget_.state();
  for (const bool dry_run : {false, true}) {
    for (const char* as : {"", "other"}) {
      QuantizeParams params = WithText("linear");
      params.limits.max_kl = 0;
      params.dry_run = dry_run;
      params.as = as;
      ASSERT_OK_AND_ASSIGN(const QuantizeReport report, Quantize(params));
      EXPECT_THAT(report.refusal, StatusIs(StatusCode::kFailedPrecondition,
                                           HasSubstr("max_kl is 0")));
      EXPECT_EQ(report.version, 0);
      EXPECT_EQ(Info().history->versions.size(), 1u);
      EXPECT_EQ(Info().history->report->refusal, report.refusal);
      ASSERT_TRUE(report.quality.has_value());
      EXPECT_GT(report.quality->floats->mean_kl_divergence, 0);
      EXPECT_FALSE(report.tensors.empty());
      EXPECT_EQ(catalog_->List().size(), 1u);
      EXPECT_EQ(Info().version, 1);
      EXPECT_EQ(Info().state, ModelState::kReady);
      EXPECT_FALSE(Info().quality.has_value());
      EXPECT_EQ(budget_.state().used.total(), before.used.total());
      EXPECT_EQ(budget_.state().versions, before.versions);
    }
  }
  EXPECT_THAT(observer_.events(),
              AllOf(Contains("m linear done FAILED_PRECONDITION"),
                    Not(Contains("m swapping")),
                    Not(Contains(HasSubstr("evaluated")))));
}

// Beside what measuring takes, which an Evaluate takes too.
TEST_F(QuantizeWithinLimitsTest, MemoryForTheInputsOfLayersIsSetAside) {
  ASSERT_OK(catalog_->Load({"m", kTinyModelFolder}));
  const auto scratch = [&] {
    return budget_.state().used[MemoryShare::kScratch];
  };
  const int64_t before = scratch();
  const auto when_quantizing = [&](const QuantizeParams& params) {
    int64_t most = 0;
    EXPECT_OK(Quantize(params, [&](const QuantizeUpdate& update) {
      if (update.stage == QuantizeStage::kQuantizing) {
        most = std::max(most, scratch() - before);
      }
      return absl::OkStatus();
    }));
    return most;
  };
  const int64_t without_texts = when_quantizing(To("linear"));
  const int64_t with_texts = when_quantizing(WithText("linear"));
  int64_t evaluating = 0;
  ASSERT_OK(Evaluate(code_, [&](const EvaluateUpdate&) {
    evaluating = std::max(evaluating, scratch() - before);
    return absl::OkStatus();
  }));
  EXPECT_GT(evaluating, 0);
  EXPECT_GT(with_texts, without_texts + evaluating);
}

TEST_F(QuantizeWithinLimitsTest, SeveralTextsCountAsTheirSum) {
  ASSERT_OK(catalog_->Load({"m", kTinyModelFolder}));
  QuantizeParams params = To("linear");
  params.texts = {code_.substr(0, 500), code_.substr(500, 300)};
  ASSERT_OK_AND_ASSIGN(const QuantizeReport report, Quantize(params));
  double sum = 0, kl = 0;
  int64_t counted = 0;
  for (const std::string& text : params.texts) {
    ASSERT_OK_AND_ASSIGN(const TextQuality one, Evaluate(text));
    const auto tokens = static_cast<double>(one.counted_tokens);
    sum += tokens * one.mean_negative_log_likelihood;
    kl += tokens * one.floats->mean_kl_divergence;
    counted += one.counted_tokens;
  }
  EXPECT_EQ(report.quality->counted_tokens, counted);
  EXPECT_NEAR(report.quality->mean_negative_log_likelihood,
              sum / static_cast<double>(counted), 1e-12);
  EXPECT_NEAR(report.quality->floats->mean_kl_divergence,
              kl / static_cast<double>(counted), 1e-12);
}

TEST_F(QuantizeWithinLimitsTest, WhoeverGivesUpAtAStepLeavesAllAsItWas) {
  ASSERT_OK(catalog_->Load({"m", kTinyModelFolder}));
  const int64_t used = budget_.state().used.total();
  for (int last = 0;; last += 7) {
    int calls = 0;
    const auto report =
        Quantize(WithText("linear"), [&](const QuantizeUpdate& update) {
          return update.stage == QuantizeStage::kEvaluating && calls++ == last
                     ? absl::CancelledError("gone")
                     : absl::OkStatus();
        });
    if (report.ok()) break;
    ASSERT_THAT(report, StatusIs(StatusCode::kCancelled));
    ASSERT_EQ(Info().version, 1);
    ASSERT_EQ(Info().state, ModelState::kReady);
    ASSERT_EQ(budget_.state().used.total(), used);
  }
  EXPECT_EQ(Info().version, 2);
}

TEST_F(QuantizeWithinLimitsTest, BadSamplesAreRefusedByNameBeforeTheWork) {
  ASSERT_OK(catalog_->Load({"m", kTinyModelFolder}));
  QuantizeParams params = To("linear");
  params.texts = {code_, "a"};
  EXPECT_THAT(Quantize(params),
              StatusIs(StatusCode::kInvalidArgument,
                       HasSubstr("texts[1]: must have at least 2 tokens")));
  params.texts = {"def f():\n  return 1\n"};
  params.limits.max_kl = 1;
  EXPECT_THAT(Quantize(params),
              StatusIs(StatusCode::kInvalidArgument,
                       HasSubstr("texts: must have at least 64 predicted "
                                 "tokens")));
  params = WithText("linear");
  params.limits.max_box_drift = 1;
  EXPECT_THAT(Quantize(params),
              StatusIs(StatusCode::kFailedPrecondition,
                       HasSubstr("max_box_drift: model 'm' generates text "
                                 "(Generate) and does not detect objects")));
  EXPECT_THAT(Quantize(WithPictures("linear")),
              StatusIs(StatusCode::kFailedPrecondition,
                       HasSubstr("pictures: model 'm' generates text")));
  EXPECT_THAT(observer_.events(), Not(Contains("m quantizing tensors")));
  EXPECT_EQ(Info().state, ModelState::kReady);
}

TEST_F(QuantizeWithinLimitsTest, HoldsDetectorsToThePixelsTheirBoxesMove) {
  ASSERT_OK(catalog_->Load({"m", kTinyDetectorFolder}));
  const int64_t used = budget_.state().used.total();
  QuantizeParams params = WithPictures("linear:bits=4");
  params.limits.max_box_drift = 0;
  ASSERT_OK_AND_ASSIGN(const QuantizeReport refused, Quantize(params));
  EXPECT_THAT(refused.refusal, StatusIs(StatusCode::kFailedPrecondition,
                                        HasSubstr("max_box_drift")));
  EXPECT_EQ(refused.version, 0);
  EXPECT_EQ(refused.detection->method, "linear:bits=4");
  EXPECT_EQ(Info().version, 1);
  EXPECT_FALSE(Info().detection.has_value());
  EXPECT_EQ(budget_.state().used.total(), used);

  params = WithPictures("linear");
  params.limits.max_box_drift = 96;
  ASSERT_OK_AND_ASSIGN(const QuantizeReport report, Quantize(params));
  EXPECT_OK(report.refusal);
  EXPECT_EQ(report.detection->version, 2);
  ASSERT_TRUE(Info().detection.has_value());
  EXPECT_EQ(Info().detection->mean_box_drift, report.detection->mean_box_drift);
  EXPECT_THAT(observer_.events(), Contains("m evaluated v2"));

  params.limits = {};
  params.limits.max_kl = 1;
  EXPECT_THAT(Quantize(params),
              StatusIs(StatusCode::kFailedPrecondition,
                       HasSubstr("max_kl: model 'm' detects objects")));
}

}  // namespace
}  // namespace ounce::server
