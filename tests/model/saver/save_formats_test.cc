// What is saved and loaded again is the same model: the same codes, bytes and
// logits, to the bit, of every format and what it can hold.

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <initializer_list>
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
using ::ounce::testing::StatusIs;
using ::ounce::testing::TempFolder;
using ::testing::HasSubstr;

constexpr char kCodegen[] = "tests/golden/codegen/bfloat16";
constexpr char kTiedCodegen[] = "tests/golden/codegen/tied_bin";
constexpr char kGpt2[] = "tests/golden/decoder/gpt2/published";
constexpr char kLlama[] = "tests/golden/decoder/llama/gqa_bin";
constexpr char kOpt[] = "tests/golden/decoder/opt/post_norm_bin";
// In float16, with matrices of multiples of 32.
constexpr char kLlama32[] = "tests/golden/quantized/bnb_nf4";
constexpr char kDetr[] = "tests/golden/detr/bottleneck";

struct Case {
  std::string format;
  std::string folder;
  std::string plan;
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.format << ", " << c.folder << ", " << c.plan;
}

// As the plan makes it, of several checkpoints and plans.
void Add(const std::string& format, std::initializer_list<const char*> folders,
         std::initializer_list<const char*> plans, std::vector<Case>& cases) {
  for (const char* folder : folders) {
    for (const char* plan : plans) cases.push_back({format, folder, plan});
  }
}

// As another tool made it.
void AddFixtures(const std::string& format,
                 std::initializer_list<const char*> fixtures,
                 std::vector<Case>& cases) {
  for (const char* fixture : fixtures) {
    cases.push_back(
        {format, StrCat("tests/golden/quantized/", fixture), "keep"});
  }
}

void AddBitsandbytes(std::vector<Case>& cases) {
  Add("bitsandbytes", {kCodegen, kLlama},
      {"bnb-int8", "bnb-int8:threshold=0", "bnb-nf4", "bnb-fp4:block=128",
       "bnb-nf4:double_quant=true", "lm_head=bnb-nf4 bnb-nf4",
       "*.1.*=bfloat16 prune-magnitude+bnb-nf4"},
      cases);
  Add("bitsandbytes", {kGpt2, kDetr}, {"bnb-int8", "bnb-nf4:double_quant=true"},
      cases);
  Add("bitsandbytes", {kTiedCodegen}, {"lm_head=bnb-int8:untie=true"}, cases);
  AddFixtures("bitsandbytes",
              {"bnb_fp4", "bnb_int8", "bnb_nf4_double", "bnb_nf4_gpt2",
               "bnb_int8_gpt2"},
              cases);
}

void AddHqq(std::vector<Case>& cases) {
  Add("hqq", {kCodegen},
      {"hqq:bits=8", "hqq", "hqq:bits=3,group=16", "hqq:bits=2,group=-1",
       "hqq:bits=1,group=32", "lm_head=hqq *.1.*=keep hqq:bits=8,group=16"},
      cases);
  Add("hqq", {kDetr}, {"hqq:bits=3,group=-1"}, cases);
  AddFixtures("hqq", {"hqq_1", "hqq_3", "hqq_4", "hqq_8"}, cases);
}

void AddCompressedTensors(std::vector<Case>& cases) {
  Add("compressed-tensors", {kCodegen},
      {"linear", "linear:mode=asymmetric", "linear:granularity=tensor",
       "linear:bits=6,mode=asymmetric,granularity=tensor",
       "linear:bits=4,granularity=group,group=16",
       "linear:bits=3,mode=asymmetric,granularity=group,group=32",
       "linear:bits=5", "linear:bits=2,mode=asymmetric",
       "linear:bits=7,granularity=group,group=32",
       "linear:seed=3,granularity=tensor", "float8", "float8:granularity=block",
       "*.0.*=linear:bits=4 linear:bits=4,mode=asymmetric",
       "*.0.*=linear:bits=3 *.1.mlp.*=float8 lm_head=linear "
       "linear:bits=4,mode=asymmetric"},
      cases);
  Add("compressed-tensors", {kLlama},
      {"linear", "linear:bits=4", "prune-24+linear"}, cases);
  Add("compressed-tensors", {kTiedCodegen}, {"lm_head=linear:untie=true"},
      cases);
  Add("compressed-tensors", {kDetr}, {"linear:bits=4"}, cases);
  AddFixtures("compressed-tensors",
              {"compressed_float8", "compressed_int8_asymmetric",
               "compressed_pack3_old", "gptq_3", "awq_gemv"},
              cases);
}

void AddGptq(std::vector<Case>& cases) {
  Add("gptq", {kLlama32},
      {"linear:requantize=true",
       "linear:bits=4,granularity=group,group=32,requantize=true",
       "linear:bits=3,mode=asymmetric,granularity=group,group=32,"
       "requantize=true",
       "linear:bits=2,mode=asymmetric,requantize=true",
       "lm_head=linear:bits=4,mode=asymmetric "
       "linear:bits=4,mode=asymmetric,requantize=true"},
      cases);
  AddFixtures("gptq", {"gptq_8_rows", "awq_gemm", "compressed_pack4"}, cases);
}

void AddAwq(std::vector<Case>& cases) {
  Add("awq", {kLlama32},
      {"linear:bits=4,requantize=true",
       "linear:bits=4,mode=asymmetric,granularity=group,group=32,"
       "requantize=true",
       "lm_head=linear:bits=4,granularity=group,group=16 "
       "*.mlp.*=float16:requantize=true "
       "linear:bits=4,granularity=group,group=16,requantize=true"},
      cases);
  AddFixtures("awq", {"awq_gemv", "gptq_4"}, cases);
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
  AddBitsandbytes(cases);
  AddHqq(cases);
  AddCompressedTensors(cases);
  AddGptq(cases);
  AddAwq(cases);
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

INSTANTIATE_TEST_SUITE_P(All, SaveFormatsTest, ::testing::ValuesIn(Cases()));

struct Refusal {
  Case saved;
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
