// What is saved and loaded again is the same model: the same codes, bytes and
// logits, to the bit, of every format and what it can hold.

#include <algorithm>
#include <cstring>
#include <memory>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "base/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/checkpoint/checkpoint.h"
#include "model/loader/loader.h"
#include "model/loader/stored_codes.h"
#include "model/saver/saver.h"
#include "quant/registry.h"
#include "tests/model/arch/lm_runner.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"
#include "tests/testing/tiny_detector.h"
#include "tests/testing/tiny_model.h"

namespace ounce::model {
namespace {

using ::ounce::testing::LmRunner;
using ::ounce::testing::TempFolder;

constexpr char kCodegen[] = "tests/golden/codegen/bfloat16";
constexpr char kTiedCodegen[] = "tests/golden/codegen/tied_bin";
constexpr char kGpt2[] = "tests/golden/decoder/gpt2/published";
constexpr char kLlama[] = "tests/golden/decoder/llama/gqa_bin";
constexpr char kOpt[] = "tests/golden/decoder/opt/post_norm_bin";
constexpr char kDetr[] = "tests/golden/detr/bottleneck";

struct Case {
  std::string format;
  std::string folder;
  std::string plan;
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.format << ", " << c.folder << ", " << c.plan;
}

// Of GGUF: of each architecture, and each method where its blocks divide all
// widths and where they do not.
std::vector<Case> GgufCases() {
  std::vector<Case> cases;
  const auto add = [&](const std::string& folder, const std::string& plan) {
    cases.push_back({"gguf", StrCat("tests/golden/", folder), plan});
  };
  for (const quant::QuantMethod* method : quant::AllMethods()) {
    const std::string name(method->name());
    if (!name.starts_with("gguf-")) continue;
    add("decoder/llama/gqa_bin", name);
    add("gguf_models/llama_blocks_256/model.gguf", name + ":requantize=true");
  }
  for (const char* folder :
       {"decoder/gemma/mqa", "decoder/gpt2/published",
        "decoder/gpt_neox/parallel_bin", "decoder/llama/linear_biases_shards",
        "decoder/mistral/no_window_shards_bin", "decoder/phi/partial",
        "decoder/phi/bin", "decoder/qwen2/tied", "decoder/qwen3/tied_shards",
        "decoder/starcoder2/bin", "gguf_models/llama3/model.gguf",
        "gguf_models/gemma/model.gguf", "gguf_models/gptneox/model.gguf",
        "gguf_models/phi2/model.gguf"}) {
    add(folder, "keep");
    add(folder, StrCat("@embedding=gguf-q8_0:requantize=true "
                       "gguf-q4_1:requantize=true"));
  }
  for (const char* plan :
       {"keep", "float32", "float16", "bfloat16", "prune-24+float16",
        "prune-24+gguf-q5_0", "lm_head=gguf-q6_k *.0.mlp.*=keep gguf-iq4_xs"}) {
    add("decoder/llama/gqa_bin", plan);
    add("decoder/gpt2/published", plan);
  }
  add("decoder/qwen2/tied", "lm_head=gguf-q8_0:untie=true gguf-q4_0");
  return cases;
}

std::vector<Case> Cases() {
  std::vector<Case> cases = GgufCases();
  // Ounce's own layout holds whatever there is.
  for (const quant::QuantMethod* method : quant::AllMethods()) {
    const std::string name(method->name());
    for (const char* folder : {kCodegen, kGpt2}) {
      cases.push_back({"ounce", folder, name});
    }
  }
  const char* const ounces[] = {
      "linear:bits=3,mode=asymmetric,granularity=group,group=16",
      "linear:bits=5,granularity=tensor",
      "linear:granularity=tensor,seed=7",
      "bnb-nf4:block=4096,double_quant=true",
      "lm_head=linear:bits=4 *.0.mlp.*=keep ks4:activations=8",
      "prune-magnitude+linear",
      "hqq:bits=3",
      "@embedding=linear gguf-q6_k"};
  for (const char* plan : ounces) {
    cases.push_back({"ounce", kLlama, plan});
  }
  cases.push_back({"ounce", kOpt, "linear:bits=2,granularity=group"});
  cases.push_back({"ounce", kTiedCodegen, "lm_head=linear:untie=true"});
  for (const char* plan : {"linear", "@convolution=linear linear", "bnb-int8",
                           "@convolution=linear:mode=asymmetric gguf-q4_k"}) {
    cases.push_back({"ounce", kDetr, plan});
  }
  for (const char* plan : {"keep", "float32", "float16", "bfloat16",
                           "prune-24+float16", "lm_head=float32 bfloat16"}) {
    cases.push_back({"safetensors", kCodegen, plan});
    cases.push_back({"safetensors", kLlama, plan});
  }
  for (const char* plan : {"keep", "float16", "prune-24+float16"}) {
    cases.push_back({"safetensors", kGpt2, plan});
  }
  cases.push_back({"safetensors", kTiedCodegen, "keep"});
  cases.push_back({"safetensors", kTiedCodegen, "lm_head=float32:untie=true"});
  cases.push_back({"safetensors", kDetr, "keep"});
  cases.push_back({"safetensors", kDetr, "@linear=float16"});
  for (const char* fixture :
       {"gptq_4_order", "awq_gemm", "hqq_3", "exl2", "bnb_nf4_double",
        "compressed_int8_asymmetric", "fp8_blocks"}) {
    cases.push_back(
        {"checkpoint", StrCat("tests/golden/quantized/", fixture), "keep"});
  }
  cases.push_back({"checkpoint", kCodegen, "keep"});
  cases.push_back({"checkpoint", "tests/golden/codegen/shards", "keep"});
  return cases;
}

std::vector<float> OutputsOf(const Model& model) {
  if (const CausalLm* lm = model.causal_lm()) {
    LmRunner runner(*lm, 1);
    return runner.AllLogits({3, 1, 4, 1, 5, 9, 2, 6}, {5, 3});
  }
  ounce::testing::DetectorRunner runner(*model.detector(), 1);
  const PictureSize size = {64, 96};
  ounce::testing::DetectorOutputs outputs =
      runner.Run({ounce::testing::DetectorRunner::Generated(1, size, size)});
  outputs.logits.insert(outputs.logits.end(), outputs.boxes.begin(),
                        outputs.boxes.end());
  return outputs.logits;
}

// Of a stored tensor, all values that its codes stand for.
std::vector<float> ValuesOf(const Checkpoint& checkpoint,
                            const TensorReport& report) {
  if (!report.stored_as.has_value()) {
    std::vector<float> values(report.shape[0]);
    EXPECT_OK(
        checkpoint.ReadFloats(report.name, 0, report.shape[0], values.data()));
    return values;
  }
  const auto codes = OpenStoredCodes(checkpoint, report);
  EXPECT_OK(codes.status());
  std::vector<float> values((*codes)->rows() * (*codes)->cols());
  EXPECT_OK(quant::ReadValues(**codes, 0, (*codes)->rows(), values.data()));
  return values;
}

// GGUF has a norm's weight with one added where the network adds it.
bool AddsOne(const Case& c, const TensorReport& tensor) {
  return c.format == "gguf" && tensor.is_vector &&
         c.folder.find("/gemma/") != std::string::npos;
}
std::vector<float> PlusOne(std::vector<float> values) {
  for (float& value : values) value += 1;
  return values;
}

// Names that a format gives may have the network's prefix where the
// checkpoint's have none.
bool IsName(const std::string& found, const std::string& wanted) {
  return found == wanted || found.ends_with("." + wanted);
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() &&
         std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

absl::StatusOr<LoadedModel> LoadAs(const Checkpoint& checkpoint,
                                   const std::string& plan) {
  LoadOptions options;
  if (plan != "keep") options.plan = *ParseMethodPlan(plan);
  return LoadModel(checkpoint, options);
}

// A rule may ask for other products with the same codes.
TEST(SavedCodesTest, ActivationsAreThoseOfTheFileUnlessARuleSaysOthers) {
  ASSERT_OK_AND_ASSIGN(const auto source, Checkpoint::Open(kCodegen));
  const TempFolder folder;
  SaveOptions options;
  options.plan = *ParseMethodPlan("linear:activations=8");
  options.folder = folder.Path("saved");
  ASSERT_OK(SaveModel(*source, options).status());
  ASSERT_OK_AND_ASSIGN(const auto copy, Checkpoint::Open(options.folder));
  for (const auto& [plan, wanted] :
       {std::pair{"keep", "linear:activations=8"},
        std::pair{"linear", "linear"},
        std::pair{"linear:activations=8", "linear:activations=8"}}) {
    ASSERT_OK_AND_ASSIGN(const LoadedModel loaded, LoadAs(*copy, plan));
    EXPECT_EQ(loaded.report.method, wanted) << plan;
  }
}

TEST(SavedCodesTest, FloatsOfFoldedCodesAreRefused) {
  ASSERT_OK_AND_ASSIGN(const auto source, Checkpoint::Open(kDetr));
  const TempFolder folder;
  SaveOptions options;
  options.plan = *ParseMethodPlan("@convolution=linear linear");
  options.folder = folder.Path("saved");
  ASSERT_OK(SaveModel(*source, options).status());
  ASSERT_OK_AND_ASSIGN(const auto copy, Checkpoint::Open(options.folder));
  options.plan = *ParseMethodPlan("@convolution=float16:requantize=true");
  options.folder = folder.Path("again");
  EXPECT_THAT(SaveModel(*copy, options),
              ounce::testing::StatusIs(
                  absl::StatusCode::kFailedPrecondition,
                  ::testing::HasSubstr("have its batch norm folded in")));
}

class SaveFormatsTest : public ::testing::TestWithParam<Case> {};

TEST_P(SaveFormatsTest, WhatIsSavedAndLoadedAgainIsTheSame) {
  const Case& c = GetParam();
  ASSERT_OK_AND_ASSIGN(const auto source, Checkpoint::Open(c.folder));
  ASSERT_OK_AND_ASSIGN(const LoadedModel served, LoadAs(*source, c.plan));
  const TempFolder folder;
  SaveOptions options;
  if (c.plan != "keep") options.plan = *ParseMethodPlan(c.plan);
  options.format = c.format;
  options.folder = folder.Path("saved");
  ASSERT_OK_AND_ASSIGN(const SaveReport saved, SaveModel(*source, options));
  EXPECT_EQ(saved.format, c.format);

  ASSERT_OK_AND_ASSIGN(const auto copy, Checkpoint::Open(folder.Path("saved")));
  ASSERT_OK_AND_ASSIGN(const LoadedModel again, LoadAs(*copy, "keep"));
  EXPECT_TRUE(SameBits(OutputsOf(*again.model), OutputsOf(*served.model)));
  EXPECT_EQ(again.report.resident_bytes, served.report.resident_bytes);
  for (const TensorReport& before : served.report.tensors) {
    if (!before.counted.has_value()) continue;
    const auto after = std::find_if(
        again.report.tensors.begin(), again.report.tensors.end(),
        [&](const TensorReport& t) {
          return IsName(t.name, before.name) && t.counted.has_value();
        });
    ASSERT_NE(after, again.report.tensors.end()) << before.name;
    EXPECT_EQ(after->element, before.element) << before.name;
    if (before.is_vector) {
      // GGUF has them in float32 whatever they were.
      EXPECT_EQ(after->checkpoint_bytes, c.format == "gguf"
                                             ? 4 * before.shape[0]
                                             : before.checkpoint_bytes);
    } else {
      EXPECT_EQ(after->stored_bytes, before.stored_bytes) << before.name;
    }
    std::vector<float> found = ValuesOf(*copy, *after);
    std::vector<float> wanted = ValuesOf(*source, before);
    if (AddsOne(c, before)) {
      found = PlusOne(std::move(found));
      wanted = PlusOne(std::move(wanted));
    }
    EXPECT_TRUE(SameBits(found, wanted)) << before.name;
  }
}

INSTANTIATE_TEST_SUITE_P(All, SaveFormatsTest, ::testing::ValuesIn(Cases()));

}  // namespace
}  // namespace ounce::model
