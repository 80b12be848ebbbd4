// Models of checkpoints that other tools have quantized, against transformers
// on the values that the codes stand for. The codes themselves are in
// checkpoint/quantized_format_test.

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "base/str_cat.h"
#include "model/checkpoint/checkpoint.h"
#include "model/loader/loader.h"
#include "tests/model/arch/lm_runner.h"
#include "tests/testing/quantized_fixtures.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tiny_model.h"

namespace ounce::model {
namespace {

using ::ounce::testing::Golden;
using ::ounce::testing::LmRunner;
using ::ounce::testing::QuantizedFixture;
using ::ounce::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kFixtures[] = "tests/golden/quantized";

// All prompts' logits, less transformers', relative to those.
double DistanceOf(const CausalLm& lm, const Golden& golden) {
  LmRunner runner(lm, 2);
  double difference = 0, norm = 0;
  for (size_t p = 0; p < golden.prompts.size(); ++p) {
    const auto& prompt = golden.prompts[p];
    const auto logits =
        runner.AllLogits(prompt, {static_cast<int64_t>(prompt.size())});
    for (size_t i = 0; i < logits.size(); ++i) {
      const double wanted = golden.logits[p][i];
      difference += (logits[i] - wanted) * (logits[i] - wanted);
      norm += wanted * wanted;
    }
  }
  return std::sqrt(difference / norm);
}

class QuantizedGoldenTest : public ::testing::TestWithParam<QuantizedFixture> {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(checkpoint_, Checkpoint::Open(GetParam().location));
  }

  absl::StatusOr<LoadedModel> Load(const std::string& plan) const {
    LoadOptions options;
    if (!plan.empty()) options.plan = *ParseMethodPlan(plan);
    options.measure_error = true;
    return LoadModel(*checkpoint_, options);
  }

  std::unique_ptr<Checkpoint> checkpoint_;
};

TEST_P(QuantizedGoldenTest, LogitsOfTheCodesAreThoseOfTransformers) {
  ASSERT_OK_AND_ASSIGN(const LoadedModel loaded, Load(""));
  const CausalLm& lm = *loaded.model->causal_lm();
  const Golden golden =
      ounce::testing::ReadGolden(GetParam().folder, lm.shape().vocab_size);
  // Integers multiply x in 16 bits, which is what is left of the rest. LLM.int8
  // rounds it to 8 by its definition; the levels of 4-bit floats are rounded to
  // integers (packers/int_runs.cc), 8-bit floats to bfloat16 with their scales.
  const std::string& name = GetParam().name;
  const double most = name.starts_with("bnb_") ? 2e-2
                      : name.find("p8") != std::string::npos ||
                              name.find("float8") != std::string::npos
                          ? 8e-3
                          : 1e-3;
  EXPECT_LT(DistanceOf(lm, golden), most);
}

TEST_P(QuantizedGoldenTest, ValuesInFloatsGiveItsLogitsAndTokens) {
  ASSERT_OK_AND_ASSIGN(const LoadedModel loaded,
                       Load("float32:requantize=true"));
  const CausalLm& lm = *loaded.model->causal_lm();
  const Golden golden =
      ounce::testing::ReadGolden(GetParam().folder, lm.shape().vocab_size);
  LmRunner runner(lm, 2);
  for (size_t p = 0; p < golden.prompts.size(); ++p) {
    const auto& prompt = golden.prompts[p];
    const auto logits =
        runner.AllLogits(prompt, {static_cast<int64_t>(prompt.size())});
    // As of any decoder (decoder_golden_test).
    ASSERT_THAT(logits, ::testing::Pointwise(::testing::FloatNear(1e-4f),
                                             golden.logits[p]));
    EXPECT_EQ(runner.Greedy(prompt, 64), golden.greedy[p]);
  }
}

TEST_P(QuantizedGoldenTest, ReportsSayWhatTheCheckpointHas) {
  ASSERT_OK_AND_ASSIGN(const LoadedModel loaded, Load(""));
  EXPECT_EQ(loaded.report.plan, "keep");
  EXPECT_EQ(loaded.report.stored_bytes, loaded.report.checkpoint_bytes);
  int64_t coded = 0;
  for (const TensorReport& tensor : loaded.report.tensors) {
    const TensorInfo& info = checkpoint_->tensors().at(tensor.name);
    if (info.coded == nullptr) continue;
    ++coded;
    EXPECT_EQ(tensor.method, info.coded->spec.ToString());
    EXPECT_EQ(tensor.checkpoint_bytes, info.coded->bytes);
    EXPECT_EQ(tensor.stored_bytes, info.coded->bytes);
    EXPECT_FALSE(tensor.error.has_value()) << tensor.name;
    EXPECT_FALSE(tensor.transposed) << tensor.name;
  }
  EXPECT_GT(coded, 3);
  EXPECT_EQ(loaded.report.footprints[0].before, loaded.report.checkpoint_bytes);
  EXPECT_EQ(loaded.report.footprints[0].after, loaded.report.stored_bytes);
}

TEST_P(QuantizedGoldenTest, IsQuantizedFurtherOnlyWhenAsked) {
  if (GetParam().name == "gguf_llama_biases") {
    EXPECT_OK(Load("ks4"));  // its matrices are floats
  } else {
    EXPECT_THAT(
        Load("ks4"),
        StatusIs(absl::StatusCode::kInvalidArgument,
                 AllOf(HasSubstr(" already, and ks4 would add its error"),
                       HasSubstr("as in 'ks4:requantize=true'"))));
  }
  const auto head = checkpoint_->tensors().find("lm_head.weight");
  if (head != checkpoint_->tensors().end() && head->second.coded == nullptr) {
    EXPECT_OK(Load("lm_head=linear"));  // floats
  }
  ASSERT_OK_AND_ASSIGN(const LoadedModel loaded, Load("ks4:requantize=true"));
  EXPECT_EQ(loaded.report.plan, "ks4:requantize=true");
  int64_t measured = 0;
  for (const TensorReport& tensor : loaded.report.tensors) {
    if (tensor.method != "ks4") continue;
    ++measured;
    ASSERT_TRUE(tensor.error.has_value());
    EXPECT_GT(tensor.error->relative_l2, 0);
    EXPECT_LT(tensor.error->relative_l2, 0.15) << tensor.name;
  }
  EXPECT_GT(measured, 3);
}

INSTANTIATE_TEST_SUITE_P(
    All, QuantizedGoldenTest,
    ::testing::ValuesIn(ounce::testing::QuantizedFixtures()),
    [](const auto& info) { return info.param.name; });

TEST(QuantizedCheckpointTest, TheSameSpecKeepsTheCodes) {
  ASSERT_OK_AND_ASSIGN(const auto checkpoint,
                       Checkpoint::Open(StrCat(kFixtures, "/bnb_nf4")));
  LoadOptions options;
  options.plan = *ParseMethodPlan("bnb-nf4");
  options.measure_error = true;
  ASSERT_OK_AND_ASSIGN(const LoadedModel loaded,
                       LoadModel(*checkpoint, options));
  for (const TensorReport& tensor : loaded.report.tensors) {
    EXPECT_FALSE(tensor.error.has_value()) << tensor.name;
  }
  EXPECT_EQ(loaded.report.method, "bnb-nf4");
}

// Query, key and value are one product's rows, each of its own method.
TEST(QuantizedCheckpointTest, CodesThatAreKeptLieBesideThoseThatAreMade) {
  const std::string folder = "tests/golden/gguf_models/llama_blocks_256";
  ASSERT_OK_AND_ASSIGN(const auto checkpoint,
                       Checkpoint::Open(folder + "/model.gguf"));
  LoadOptions options;
  options.plan = *ParseMethodPlan("*.0.*k_proj*=gguf-q4_k:requantize=true");
  options.measure_error = true;
  ASSERT_OK_AND_ASSIGN(const LoadedModel loaded,
                       LoadModel(*checkpoint, options));
  int64_t made = 0;
  for (const TensorReport& tensor : loaded.report.tensors) {
    const bool is_made =
        tensor.name.find(".0.self_attn.k_proj") != std::string::npos;
    EXPECT_EQ(tensor.error.has_value(), is_made) << tensor.name;
    if (!is_made) continue;
    ++made;
    EXPECT_EQ(tensor.method, "gguf-q4_k");
    EXPECT_LT(tensor.error->relative_l2, 0.15);
  }
  EXPECT_EQ(made, 1);
  const CausalLm& lm = *loaded.model->causal_lm();
  const double distance =
      DistanceOf(lm, ounce::testing::ReadGolden(folder, lm.shape().vocab_size));
  EXPECT_GT(distance, 1e-3);  // the key's 5 bits became 4
  EXPECT_LT(distance, 0.1);
}

TEST(QuantizedCheckpointTest, GroupsOfSortedColumnsReadTheirInputsSo) {
  ASSERT_OK_AND_ASSIGN(const auto checkpoint,
                       Checkpoint::Open(StrCat(kFixtures, "/gptq_4_order")));
  ASSERT_OK_AND_ASSIGN(const LoadedModel loaded, LoadModel(*checkpoint, {}));
  for (const TensorReport& tensor : loaded.report.tensors) {
    const TensorInfo& info = checkpoint->tensors().at(tensor.name);
    if (info.coded == nullptr) continue;
    EXPECT_THAT(tensor.method, HasSubstr("act_order=true"));
    // An order of its own for each, four bytes a column.
    EXPECT_GT(tensor.resident_bytes,
              info.shape[0] * info.shape[1] / 2 + info.shape[1] * 4);
  }
}

}  // namespace
}  // namespace ounce::model
