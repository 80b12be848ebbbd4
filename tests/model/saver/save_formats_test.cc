// What is saved and loaded again is the same model: the same codes, bytes and
// logits, to the bit, of every format and what it can hold.

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <memory>
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
#include "tests/model/arch/lm_runner.h"
#include "tests/model/saver/save_cases.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"
#include "tests/testing/tiny_detector.h"
#include "tests/testing/tiny_model.h"

namespace ounce::model {
namespace {

using ::ounce::testing::LmRunner;
using ::ounce::testing::StatusIs;
using ::ounce::testing::TempFolder;
using ::testing::HasSubstr;

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
bool AddsOne(const SaveCase& c, const TensorReport& tensor) {
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

// Formats that call codes by their own names, and may count numbers beside them
// that others leave out: symmetric codes' zero-points, the group of a column.
bool HasNamesOfItsOwn(const std::string& format) {
  return format == "compressed-tensors" || format == "gptq" || format == "awq";
}

// "4" of "int4" and "uint4".
std::string BitsOf(const std::string& element) {
  return element.substr(element.find_first_of("0123456789"));
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

class SaveFormatsTest : public ::testing::TestWithParam<SaveCase> {};

TEST_P(SaveFormatsTest, WhatIsSavedAndLoadedAgainIsTheSame) {
  const SaveCase& c = GetParam();
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
  if (c.format == "awq") {  // has zero-points of symmetric codes too
    EXPECT_GE(again.report.resident_bytes, served.report.resident_bytes);
  } else {
    EXPECT_EQ(again.report.resident_bytes, served.report.resident_bytes);
  }
  for (const TensorReport& before : served.report.tensors) {
    if (!before.counted.has_value()) continue;
    const auto after = std::find_if(
        again.report.tensors.begin(), again.report.tensors.end(),
        [&](const TensorReport& t) {
          return IsName(t.name, before.name) && t.counted.has_value();
        });
    ASSERT_NE(after, again.report.tensors.end()) << before.name;
    if (HasNamesOfItsOwn(c.format)) {
      EXPECT_EQ(BitsOf(after->element), BitsOf(before.element)) << before.name;
    } else {
      EXPECT_EQ(after->element, before.element) << before.name;
    }
    if (before.is_vector) {
      // GGUF has them in float32 whatever they were.
      EXPECT_EQ(after->checkpoint_bytes, c.format == "gguf"
                                             ? 4 * before.shape[0]
                                             : before.checkpoint_bytes);
    } else if (!HasNamesOfItsOwn(c.format)) {
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

INSTANTIATE_TEST_SUITE_P(All, SaveFormatsTest,
                         ::testing::ValuesIn(SaveCases()));

struct Refusal {
  SaveCase saved;
  std::string why;
};

std::vector<Refusal> Refusals() {
  return {
      {{"bitsandbytes", kCodegen, "linear"}, "it holds bnb-int8, bnb-nf4"},
      {{"bitsandbytes", kCodegen, "float16"}, "no linear layer is in codes"},
      {{"bitsandbytes", kCodegen, "*.0.*=bnb-nf4 bnb-int8"}, "of one kind"},
      {{"bitsandbytes", kCodegen, "@embedding=bnb-int8 bnb-int8"},
       "holds embeddings as floats only"},
      {{"hqq", kCodegen, "linear"}, "it holds codes of the method hqq"},
      {{"hqq", kLlama, "hqq:group=16"}, "end within a group of 16"},
      {{"hqq", kLlama, "hqq:bits=1,group=-1"}, "numbers of 8 groups"},
      {{"hqq", kGpt2, "hqq:group=-1"}, "Conv1D"},
      {{"compressed-tensors", kDetr, "@convolution=linear linear"},
       "holds convolutions as floats only"},
      {{"compressed-tensors", kCodegen, "ks4"}, "it holds codes of linear"},
      {{"compressed-tensors", kCodegen, "float8:format=e5m2"},
       "of float8 in e4m3"},
      {{"compressed-tensors", kCodegen, "linear:activations=8"},
       "no place for activations in 8 bits"},
      {{"compressed-tensors", kCodegen, "linear:granularity=group,group=48"},
       "groups, here of 48, that divide the 64 columns"},
      {{"compressed-tensors", kGpt2, "linear"}, "Conv1D"},
      {{"compressed-tensors", "tests/golden/quantized/gptq_4_order", "keep"},
       "columns are sorted"},
      {{"gptq", kCodegen, "linear"}, "these are bfloat16"},
      {{"gptq", kLlama, "linear"}, "multiples of 32 rows and columns"},
      {{"gptq", kLlama32, "linear:bits=5,requantize=true"}, "2, 3, 4 and 8"},
      {{"gptq", kLlama32, "linear:granularity=tensor,requantize=true"},
       "granularity=channel"},
      {{"gptq", kLlama32,
        "*.mlp.*=linear:bits=4,requantize=true linear:requantize=true"},
       "the same bits, group and mode"},
      {{"awq", kLlama32, "linear:requantize=true"}, "of 4 bits"},
      {{"awq", kCodegen, "linear:bits=4"}, "these are bfloat16"},
      {{"awq", kLlama32,
        "*.mlp.*=linear:bits=4,requantize=true "
        "linear:bits=4,granularity=group,group=32,requantize=true"},
       "the same group"},
  };
}

TEST(SaveFormatRefusalsTest, WhatAFormatCannotHoldIsRefusedWithTheReason) {
  for (const Refusal& refusal : Refusals()) {
    SCOPED_TRACE(::testing::PrintToString(refusal.saved));
    ASSERT_OK_AND_ASSIGN(const auto source,
                         Checkpoint::Open(refusal.saved.folder));
    const TempFolder folder;
    SaveOptions options;
    if (refusal.saved.plan != "keep") {
      ASSERT_OK_AND_ASSIGN(options.plan, ParseMethodPlan(refusal.saved.plan));
    }
    options.format = refusal.saved.format;
    options.folder = folder.Path("saved");
    EXPECT_THAT(SaveModel(*source, options),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         HasSubstr(refusal.why)));
    EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  }
}

}  // namespace
}  // namespace ounce::model
