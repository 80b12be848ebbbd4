// How well real, small models predict a text, through the catalog: compared
// with transformers and with whole windows, alone and beside others.
#include "server/engine/text_evaluation.h"

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "base/thread_pool.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/checkpoint/checkpoint.h"
#include "nlohmann/json.hpp"
#include "server/engine/loaded_models.h"
#include "tests/server/engine/recording_catalog_observer.h"
#include "tests/testing/fake_engine.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"
#include "tests/testing/tiny_model.h"

namespace ounce::server {
namespace {

using ::ounce::testing::kTinyModelFolder;
using ::ounce::testing::LoadWith;
using ::ounce::testing::RecordingSink;
using ::ounce::testing::StatusIs;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;

using absl::StatusCode;

constexpr char kGoldens[] = "tests/golden/perplexity/";

std::string ReadText(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

absl::Status Proceed(const EvaluateUpdate&) { return absl::OkStatus(); }

// Calls fn(token, logits) for each token that counts, with what each model
// gives before it, each window whole, by the definition.
void ForEachToken(
    const std::vector<const model::CausalLm*>& models,
    const std::vector<int32_t>& ids, int64_t window, int64_t stride,
    const std::function<
        void(int64_t, const std::vector<absl::Span<const float>>&)>& fn) {
  ThreadPool pool(1);
  const auto tokens = static_cast<int64_t>(ids.size());
  int64_t before = 0;
  for (int64_t first = 0; before < tokens; first += stride) {
    const int64_t end = std::min(first + window, tokens);
    const int64_t rows = end - first;
    std::vector<std::vector<float>> logits;
    const int64_t vocab = models[0]->shape().vocab_size;
    for (const model::CausalLm* model : models) {
      const int64_t num_blocks = rows / model::kKvBlockTokens + 1;
      model::KvCache cache =
          *model::KvCache::Create(model->shape().kv, num_blocks);
      std::vector<int32_t> blocks;
      for (int32_t i = 0; i < num_blocks; ++i) blocks.push_back(i);
      quant::Scratch scratch =
          *quant::Scratch::Create(model->ScratchBytes(rows, rows, 1));
      logits.emplace_back(rows * vocab);
      const model::SequenceSlice slice = {
          .token_ids = absl::MakeConstSpan(ids).subspan(first, rows),
          .position = 0,
          .kv_blocks = blocks,
          .num_logits = rows};
      model->Forward({&slice, 1}, cache, model->RunOn(pool, scratch),
                     {logits.back().data(), rows, vocab, vocab});
    }
    for (int64_t token = std::max(before, first + 1); token < end; ++token) {
      std::vector<absl::Span<const float>> of_each;
      for (const std::vector<float>& one : logits) {
        of_each.push_back(absl::MakeConstSpan(one).subspan(
            (token - 1 - first) * vocab, vocab));
      }
      fn(token, of_each);
    }
    before = end;
  }
}

model::Perplexity SlowPerplexity(const model::CausalLm& model,
                                 const std::vector<int32_t>& ids,
                                 int64_t window, int64_t stride) {
  model::Perplexity result;
  ForEachToken(
      {&model}, ids, window, stride, [&](int64_t token, const auto& logits) {
        result.Add(token, model::NegativeLogLikelihood(logits[0], ids[token]));
      });
  return result;
}

class TextEvaluationTest : public ::testing::Test {
 protected:
  ~TextEvaluationTest() override { catalog_->Drain(absl::Now()); }

  using Progress = std::function<absl::Status(const EvaluateUpdate&)>;
  absl::StatusOr<TextQuality> Evaluate(const std::string& model,
                                       const std::string& text, int64_t window,
                                       int64_t stride,
                                       const Progress& progress = Proceed,
                                       bool compare_with_floats = false) {
    ASSIGN_OR_RETURN(const std::shared_ptr<ServedModel> served,
                     catalog_->Find(model));
    ASSIGN_OR_RETURN(const auto generation, TaskOf<TextGeneration>(served));
    return generation->evaluator->Evaluate(
        {text, window, stride, compare_with_floats}, progress);
  }
  absl::Status Quantize(const std::string& model, const std::string& method) {
    QuantizeParams params;
    params.model = model;
    params.plan = *model::ParseMethodPlan(method);
    return catalog_
        ->Quantize(params,
                   [](const QuantizeUpdate&) { return absl::OkStatus(); })
        .status();
  }
  ModelInfo Info() { return catalog_->List().front(); }

  // 120 tokens.
  RecordingSink& StartStream(const std::string& model) {
    RecordingSink& sink = sinks_.emplace_back();
    const auto served = catalog_->Find(model);
    EXPECT_OK(served);
    held_.push_back(*served);
    GenerateParams params;
    params.prompt = {5, 17, 99, 3};
    params.max_new_tokens = 120;
    params.arrival = absl::Now();
    EXPECT_OK(TaskOf<TextGeneration>(*served).value()->scheduler->Submit(
        std::move(params), &sink));
    return sink;
  }

  const std::string code_ = ReadText(absl::StrCat(kGoldens, "code.txt"));
  std::deque<RecordingSink> sinks_;
  RecordingCatalogObserver observer_;
  ThreadPool pool_{2};
  MemoryBudget budget_{MemoryBudget::Options{.limit_bytes = 256 << 20}};
  CatalogOptions options_ = [this] {
    CatalogOptions options;
    options.memory = &budget_;
    options.kv_cache_bytes = 16 << 20;
    return options;
  }();
  std::unique_ptr<ModelCatalog> catalog_ =
      CreateModelCatalog(options_, pool_, Clock::Real(), observer_);
  std::vector<std::shared_ptr<ServedModel>> held_;
};

// Logits differ from transformers' in their last bits, and 0.1 % is asked for.
constexpr double kTolerance = 1e-5;

void ExpectGolden(const nlohmann::json& expected, double perplexity,
                  double mean, int64_t counted, int64_t worst, double cost) {
  EXPECT_NEAR(perplexity / expected["perplexity"].get<double>(), 1, kTolerance);
  EXPECT_NEAR(mean, expected["mean"].get<double>(), kTolerance);
  EXPECT_EQ(counted, expected["counted_tokens"].get<int64_t>());
  EXPECT_EQ(worst, expected["worst_index"].get<int64_t>());
  EXPECT_NEAR(cost, expected["worst"].get<double>(), 1e-4);
}

TEST_F(TextEvaluationTest, FindsThePerplexityThatTransformersDoes) {
  const auto goldens = nlohmann::json::parse(
      std::ifstream(absl::StrCat(kGoldens, "expected.json")));
  const char* shared = std::getenv("OUNCE_SHARED_DATA");
  const std::string data = shared != nullptr ? shared : "../shared/data";
  const std::map<std::string, std::string> folders = {
      {"codegen_tiny", "embedded/codegen-tiny"},
      {"codegen_bfloat16", kTinyModelFolder},
      {"tinystories", data + "/tinystories-656k"}};
  bool skipped = false;
  for (const auto& golden : goldens["texts"]) {
    const std::string name = golden["name"];
    SCOPED_TRACE(name);
    if (!std::filesystem::exists(folders.at(name))) {
      skipped = true;
      continue;
    }
    ASSERT_OK(catalog_->Load({name, folders.at(name)}));
    const std::string text =
        ReadText(kGoldens + golden["text"].get<std::string>());
    for (const auto& expected : golden["windows"]) {
      SCOPED_TRACE(expected.dump());
      ASSERT_OK_AND_ASSIGN(
          const TextQuality quality,
          Evaluate(name, text, expected["window"], expected["stride"]));
      ExpectGolden(expected, quality.perplexity,
                   quality.mean_negative_log_likelihood, quality.counted_tokens,
                   quality.worst_token.index,
                   quality.worst_token.negative_log_likelihood);
      EXPECT_EQ(quality.worst_token.id, expected["worst_id"].get<int32_t>());
      EXPECT_EQ(quality.window, expected["window"].get<int64_t>());
      EXPECT_EQ(quality.stride, expected["stride"].get<int64_t>());
      EXPECT_EQ(quality.tokens, golden["tokens"].get<int64_t>());
      EXPECT_EQ(quality.bos, golden["bos"].get<std::string>());
      const double text_tokens =
          golden["tokens"].get<double>() - (quality.bos.empty() ? 0 : 1);
      EXPECT_NEAR(quality.bits_per_byte,
                  std::log2(quality.perplexity) * text_tokens /
                      static_cast<double>(text.size()),
                  1e-9);
    }
    ASSERT_OK(catalog_->Unload(name));
  }
  if (skipped) {
    GTEST_SKIP() << data << "/tinystories-656k is absent; OUNCE_SHARED_DATA "
                 << "names its folder";
  }
}

// Floats are compared with keys and values in floats, so that what fewer bits
// cost is measured: twice what was found is allowed.
TEST_F(TextEvaluationTest, CountsWhatKeysAndValuesInFewerBitsCost) {
  double before = 0;
  for (const auto& [type, most] : std::vector<std::pair<model::KvType, double>>{
           {model::KvType::kFloat32, 0},
           {model::KvType::kBFloat16, 2e-5},
           {model::KvType::kInt8, 1e-4}}) {
    SCOPED_TRACE(model::KvTypeName(type));
    catalog_->Drain(absl::Now());
    options_.kv_type = type;
    held_.clear();  // the catalog outlives what it gave out
    catalog_ = CreateModelCatalog(options_, pool_, Clock::Real(), observer_);
    ASSERT_OK(catalog_->Load({"tiny", "embedded/codegen-tiny"}));
    ASSERT_OK_AND_ASSIGN(const TextQuality quality,
                         Evaluate("tiny", code_, 512, 256, Proceed,
                                  /*compare_with_floats=*/true));
    ASSERT_TRUE(quality.floats.has_value());
    EXPECT_LE(quality.floats->mean_kl_divergence, most);
    EXPECT_GE(quality.floats->mean_kl_divergence, before);
    if (most > 0) before = quality.floats->mean_kl_divergence + 1e-7;
  }
}

TEST_F(TextEvaluationTest, FindsThePerplexityOfOtherArchitectures) {
  const auto goldens = nlohmann::json::parse(
      std::ifstream(absl::StrCat(kGoldens, "expected.json")));
  StepTurns turns;
  Mutex mu;
  const EngineContext context = {options_, pool_,     turns, Clock::Real(),
                                 budget_,  observer_, mu};
  for (const auto& golden : goldens["ids"]) {
    const std::string folder =
        "tests/golden/decoder/" + golden["folder"].get<std::string>();
    SCOPED_TRACE(folder);
    const auto checkpoint = model::Checkpoint::Open(folder);
    ASSERT_OK(checkpoint);
    const model::LoadedModel loaded = LoadWith(**checkpoint, "");
    for (const auto& expected : golden["windows"]) {
      SCOPED_TRACE(expected.dump());
      TokenizedTexts text;
      text.ids = golden["ids"].get<std::vector<int32_t>>();
      text.lengths = {static_cast<int64_t>(text.ids.size())};
      ASSERT_OK_AND_ASSIGN(
          const TextScore score,
          EvaluateTokens(context, *loaded.model->causal_lm(), "float32", text,
                         expected["window"], expected["stride"],
                         /*floats=*/nullptr, Proceed));
      const model::Perplexity& perplexity = score.perplexity;
      ExpectGolden(expected, perplexity.value(), perplexity.mean(),
                   perplexity.counted_tokens, perplexity.worst_token,
                   perplexity.worst);
    }
  }
}

TEST_F(TextEvaluationTest, GivesTheBitsOfWholeWindowsWhateverTheirSizes) {
  ASSERT_OK(catalog_->Load(
      {"tiny", kTinyModelFolder, *model::ParseMethodPlan("linear")}));
  const auto checkpoint = model::Checkpoint::Open(kTinyModelFolder);
  ASSERT_OK(checkpoint);
  const model::LoadedModel loaded = LoadWith(**checkpoint, "linear");
  const auto tokenizer = model::Tokenizer::Load(kTinyModelFolder);
  ASSERT_OK(tokenizer);
  for (const auto& [text, window, stride] :
       std::vector<std::tuple<std::string, int64_t, int64_t>>{
           {code_, 128, 64},
           {code_, 127, 127},
           {code_, 17, 16},
           {code_, 16, 3},
           {code_, 2, 1},
           {code_, 2, 2},
           {"ab", 128, 1},
           {"abc", 2, 2},
           {code_.substr(0, 300), 33, 1}}) {
    SCOPED_TRACE(absl::StrCat(text.size(), " ", window, " ", stride));
    ASSERT_OK_AND_ASSIGN(const TextQuality quality,
                         Evaluate("tiny", text, window, stride));
    const model::Perplexity slow =
        SlowPerplexity(*loaded.model->causal_lm(), *(*tokenizer)->Encode(text),
                       window, stride);
    EXPECT_EQ(quality.mean_negative_log_likelihood, slow.mean());
    EXPECT_EQ(quality.counted_tokens, slow.counted_tokens);
    EXPECT_EQ(quality.worst_token.index, slow.worst_token);
    EXPECT_EQ(quality.worst_token.negative_log_likelihood, slow.worst);
  }
}

TEST_F(TextEvaluationTest, GivesTheSameBitsInShorterStepsBesideStreams) {
  ASSERT_OK(catalog_->Load({"tiny", "embedded/codegen-tiny"}));
  int64_t steps = 0;
  const auto count = [&](const EvaluateUpdate& update) {
    EXPECT_LE(update.tokens_done, update.tokens_total);
    if (update.tokens_done > 0) ++steps;
    return absl::OkStatus();
  };
  ASSERT_OK_AND_ASSIGN(const TextQuality alone,
                       Evaluate("tiny", code_, 128, 32, count));
  const int64_t steps_alone = std::exchange(steps, 0);
  std::atomic<bool> enough = false;
  std::thread streams([&] {
    while (!enough) EXPECT_TRUE(StartStream("tiny").AwaitDone());
  });
  ASSERT_OK_AND_ASSIGN(const TextQuality beside,
                       Evaluate("tiny", code_, 128, 32, count));
  enough = true;
  streams.join();
  EXPECT_EQ(beside.mean_negative_log_likelihood,
            alone.mean_negative_log_likelihood);
  EXPECT_GT(steps, steps_alone);
}

TEST_F(TextEvaluationTest, MeasuresTheVersionThatItBeganOn) {
  ASSERT_OK(catalog_->Load({"tiny", kTinyModelFolder}));
  ASSERT_OK_AND_ASSIGN(const TextQuality floats,
                       Evaluate("tiny", code_, 128, 64));
  EXPECT_EQ(floats.version, 1);
  EXPECT_EQ(floats.method, "bfloat16");
  EXPECT_EQ(Info().quality->perplexity, floats.perplexity);
  bool swapped = false;
  ASSERT_OK_AND_ASSIGN(
      const TextQuality same,
      Evaluate("tiny", code_, 128, 64, [&](const EvaluateUpdate& update) {
        if (update.tokens_done > 0 && !std::exchange(swapped, true)) {
          EXPECT_OK(Quantize("tiny", "linear"));
          EXPECT_EQ(budget_.state().versions.at("tiny"), 2);
        }
        return absl::OkStatus();
      }));
  EXPECT_TRUE(swapped);
  EXPECT_EQ(same.version, 1);
  EXPECT_EQ(same.mean_negative_log_likelihood,
            floats.mean_negative_log_likelihood);
  EXPECT_EQ(Info().version, 2);
  EXPECT_FALSE(Info().quality.has_value());  // of what serves now
  EXPECT_EQ(budget_.state().versions.at("tiny"), 1);

  ASSERT_OK_AND_ASSIGN(const TextQuality quantized,
                       Evaluate("tiny", code_, 128, 64));
  EXPECT_EQ(quantized.version, 2);
  EXPECT_EQ(quantized.method, "linear");
  EXPECT_NE(quantized.mean_negative_log_likelihood,
            floats.mean_negative_log_likelihood);
  EXPECT_EQ(Info().quality->perplexity, quantized.perplexity);
  EXPECT_THAT(observer_.events(), AllOf(Contains("tiny evaluated v1"),
                                        Contains("tiny evaluated v2")));
}

TEST_F(TextEvaluationTest, FindsNoDistanceOfTheFloatsFromThemselves) {
  ASSERT_OK(catalog_->Load({"tiny", kTinyModelFolder}));
  ASSERT_OK_AND_ASSIGN(
      const TextQuality quality,
      Evaluate("tiny", code_, 128, 64, Proceed, /*compare_with_floats=*/true));
  ASSERT_TRUE(quality.floats.has_value());
  EXPECT_EQ(quality.floats->mean_kl_divergence, 0);
  EXPECT_EQ(quality.floats->top1_agreement, 1);
  EXPECT_EQ(quality.floats->float_perplexity, quality.perplexity);
}

TEST_F(TextEvaluationTest, MeasuresTheDistanceFromTheFloatsAsTwoWholeModels) {
  ASSERT_OK(catalog_->Load(
      {"tiny", kTinyModelFolder, *model::ParseMethodPlan("linear")}));
  const auto checkpoint = model::Checkpoint::Open(kTinyModelFolder);
  ASSERT_OK(checkpoint);
  const model::LoadedModel floats = LoadWith(**checkpoint, "");
  const model::LoadedModel linear = LoadWith(**checkpoint, "linear");
  const auto tokenizer = model::Tokenizer::Load(kTinyModelFolder);
  ASSERT_OK(tokenizer);
  const auto ids = *(*tokenizer)->Encode(code_);
  for (const auto& [window, stride] :
       std::vector<std::pair<int64_t, int64_t>>{{128, 64}, {33, 20}}) {
    ASSERT_OK_AND_ASSIGN(const TextQuality quality,
                         Evaluate("tiny", code_, window, stride, Proceed,
                                  /*compare_with_floats=*/true));
    EXPECT_EQ(quality.perplexity,
              SlowPerplexity(*linear.model->causal_lm(), ids, window, stride)
                  .value());
    EXPECT_EQ(quality.floats->float_perplexity,
              SlowPerplexity(*floats.model->causal_lm(), ids, window, stride)
                  .value());
    double sum = 0;
    int64_t same = 0;
    int64_t counted = 0;
    ForEachToken({floats.model->causal_lm(), linear.model->causal_lm()}, ids,
                 window, stride, [&](int64_t, const auto& logits) {
                   const auto distance =
                       model::CompareLogits(logits[0], logits[1]);
                   sum += distance.kl;
                   same += distance.same_top ? 1 : 0;
                   ++counted;
                 });
    EXPECT_EQ(counted, quality.counted_tokens);
    EXPECT_EQ(quality.floats->mean_kl_divergence,
              sum / static_cast<double>(counted));
    EXPECT_EQ(quality.floats->top1_agreement,
              static_cast<double>(same) / static_cast<double>(counted));
    EXPECT_GT(quality.floats->mean_kl_divergence, 0);
  }
}

TEST_F(TextEvaluationTest, TellsWhenTheFloatsAreNoLongerThere) {
  const testing::TempFolder folder;
  const std::string copy = folder.Path("model");
  std::filesystem::copy(kTinyModelFolder, copy,
                        std::filesystem::copy_options::recursive);
  ASSERT_OK(catalog_->Load({"tiny", copy}));
  bool touched = false;
  EXPECT_THAT(
      Evaluate(
          "tiny", code_, 128, 64,
          [&](const EvaluateUpdate& update) {
            if (update.tokens_done > 0 && !std::exchange(touched, true)) {
              std::filesystem::last_write_time(copy + "/model.safetensors", {});
            }
            return absl::OkStatus();
          },
          /*compare_with_floats=*/true),
      StatusIs(StatusCode::kFailedPrecondition, HasSubstr("changed")));
  EXPECT_TRUE(touched);
  std::filesystem::remove(copy + "/model.safetensors");
  EXPECT_OK(Evaluate("tiny", code_, 128, 64));
  EXPECT_THAT(
      Evaluate("tiny", code_, 128, 64, Proceed, /*compare_with_floats=*/true),
      StatusIs(StatusCode::kFailedPrecondition));
}

TEST_F(TextEvaluationTest, EndsWithinAStepWhenNobodyWaitsAndGivesAllBack) {
  ASSERT_OK(catalog_->Load({"tiny", kTinyModelFolder}));
  const int64_t used = budget_.state().used.total();
  int64_t done = 0;
  EXPECT_THAT(Evaluate("tiny", code_, 128, 1,
                       [&](const EvaluateUpdate& update) {
                         EXPECT_EQ(done, 0) << "asked once more";
                         done = update.tokens_done;
                         if (done == 0) return absl::OkStatus();
                         EXPECT_GT(budget_.state().used.total(), used);
                         return absl::CancelledError("the client is gone");
                       }),
              StatusIs(StatusCode::kCancelled, "the client is gone"));
  EXPECT_GT(done, 0);
  EXPECT_EQ(budget_.state().used.total(), used);
  EXPECT_FALSE(Info().quality.has_value());
}

TEST_F(TextEvaluationTest, IsRefusedWithFiguresWhatDoesNotFitTheMemory) {
  ASSERT_OK(catalog_->Load({"tiny", kTinyModelFolder}));
  MemoryNeed rest;
  rest[MemoryShare::kPictures] = budget_.state().free_bytes() - 1000;
  ASSERT_OK_AND_ASSIGN(const MemoryBudget::Reservation others,
                       budget_.Reserve(rest, "the test"));
  EXPECT_THAT(
      Evaluate("tiny", code_, 128, 64),
      StatusIs(StatusCode::kResourceExhausted,
               AllOf(HasSubstr("evaluating 'tiny' needs"),
                     HasSubstr("KiB of the limit of 256 MiB are free"))));
}

TEST_F(TextEvaluationTest, RefusesATextOfOneToken) {
  ASSERT_OK(catalog_->Load({"tiny", kTinyModelFolder}));
  EXPECT_THAT(Evaluate("tiny", "a", 128, 64),
              StatusIs(StatusCode::kInvalidArgument,
                       "text: must have at least 2 tokens, of which the first "
                       "is not predicted, has 1"));
}

TEST_F(TextEvaluationTest, EndsWhenTheModelIsUnloaded) {
  ASSERT_OK(catalog_->Load({"tiny", kTinyModelFolder}));
  std::thread unload;
  EXPECT_THAT(Evaluate("tiny", code_, 128, 1,
                       [&](const EvaluateUpdate& update) {
                         if (update.tokens_done > 0 && !unload.joinable()) {
                           unload = std::thread([&] {
                             EXPECT_OK(catalog_->Unload("tiny"));
                             const MemoryNeed used = budget_.state().used;
                             EXPECT_EQ(used.total(),
                                       used[MemoryShare::kTokenizers]);
                           });
                         }
                         return absl::OkStatus();
                       }),
              StatusIs(StatusCode::kUnavailable));
  unload.join();
}

}  // namespace
}  // namespace ounce::server
