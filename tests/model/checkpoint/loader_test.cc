#include "model/checkpoint/loader.h"

#include <limits>
#include <string>
#include <vector>

#include "quant/registry.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tiny_model.h"

namespace ounce::model {
namespace {

using ::ounce::testing::LoadWith;
using ::ounce::testing::MakeTinyCheckpoint;
using ::ounce::testing::StatusIs;
using ::ounce::testing::TinyShape;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr TinyShape kHalf = {.dtype = quant::DType::kF16};
// Of the shape above: 2 blocks of 12,288 in matrices; vectors by block 64 + 128
// + 32, ln_f 64, head bias 50.
constexpr int64_t kLinear = 2 * (3 * 32 * 32 + 32 * 32 + 2 * 128 * 32);
constexpr int64_t kLinearRows = 2 * (96 + 32 + 128 + 32);
constexpr int64_t kOther = 2 * 50 * 32;  // embedding and head
constexpr int64_t kVectors = 2 * (64 + 128 + 32) + 64 + 50;

LoadOptions With(const std::string& spec) {
  LoadOptions options;
  options.method = *quant::ParseMethodSpec(spec);
  return options;
}

const TensorReport& Find(const LoadReport& report, const std::string& name) {
  for (const TensorReport& tensor : report.tensors) {
    if (tensor.name == name) return tensor;
  }
  OUNCE_CHECK(false, name.c_str());
}

TEST(LoaderTest, CountsBytesAsHuggingFaceDoes) {
  const auto checkpoint = MakeTinyCheckpoint(kHalf);
  const int64_t all = kLinear + kOther + kVectors;
  const auto stored = [&](const std::string& spec) {
    const LoadReport report = LoadWith(*checkpoint, spec).report;
    EXPECT_EQ(report.checkpoint_bytes, all * 2) << spec;
    return report.stored_bytes;
  };
  EXPECT_EQ(stored(""), all * 2);
  EXPECT_EQ(stored("float16"), all * 2);
  EXPECT_EQ(stored("bfloat16"), all * 2);
  EXPECT_EQ(stored("float32"), all * 4);
  // Codes, scales of 16 bits, the rest as it was.
  EXPECT_EQ(stored("linear"),
            kLinear + kLinearRows * 2 + (kOther + kVectors) * 2);
}

TEST(LoaderTest, QuantizesLinearLayersAndKeepsTheRest) {
  const LoadReport report =
      LoadWith(*MakeTinyCheckpoint(kHalf), "linear").report;
  EXPECT_EQ(report.method, "linear");
  const TensorReport& linear =
      Find(report, "transformer.h.1.attn.qkv_proj.weight");
  EXPECT_EQ(linear.method, report.method);
  EXPECT_EQ(linear.element, "int8");
  EXPECT_EQ(linear.left_alone, "");
  EXPECT_EQ(linear.checkpoint_bytes, 96 * 32 * 2);
  EXPECT_EQ(linear.stored_bytes, 96 * 32 + 96 * 2);
  EXPECT_GE(linear.resident_bytes, linear.stored_bytes);

  const TensorReport& head = Find(report, "lm_head.weight");
  EXPECT_EQ(head.method, "float16");
  EXPECT_EQ(head.element, "float16");
  EXPECT_THAT(head.left_alone, HasSubstr("the head stays"));
  EXPECT_THAT(Find(report, "transformer.wte.weight").left_alone,
              HasSubstr("an embedding stays"));

  const TensorReport& bias = Find(report, "lm_head.bias");
  EXPECT_THAT(bias.left_alone, HasSubstr("1-D"));
  EXPECT_EQ(bias.stored_bytes, 50 * 2);
  EXPECT_EQ(bias.resident_bytes, 50 * 4);
  EXPECT_EQ(bias.element, "float32");

  int64_t stored = 0, resident = 0, by_element = 0;
  for (const TensorReport& tensor : report.tensors) {
    stored += tensor.stored_bytes;
    resident += tensor.resident_bytes;
  }
  for (const auto& [element, bytes] : report.resident_bytes_by_element) {
    by_element += bytes;
  }
  EXPECT_EQ(stored, report.stored_bytes);
  EXPECT_EQ(resident, report.resident_bytes);
  EXPECT_EQ(by_element, report.resident_bytes);
}

TEST(LoaderTest, WithoutAMethodAllIsAsInTheCheckpoint) {
  for (quant::DType dtype :
       {quant::DType::kF32, quant::DType::kF16, quant::DType::kBF16}) {
    const LoadReport report =
        LoadWith(*MakeTinyCheckpoint({.dtype = dtype}), "").report;
    EXPECT_EQ(report.method, quant::Name(dtype));
    for (const TensorReport& tensor : report.tensors) {
      EXPECT_EQ(tensor.method, quant::Name(dtype)) << tensor.name;
      EXPECT_EQ(tensor.left_alone, "") << tensor.name;
    }
  }
}

TEST(LoaderTest, AFloatMethodIsForEveryMatrix) {
  const LoadReport report =
      LoadWith(*MakeTinyCheckpoint(kHalf), "bfloat16").report;
  for (const TensorReport& tensor : report.tensors) {
    EXPECT_EQ(tensor.method, "bfloat16") << tensor.name;
    EXPECT_EQ(tensor.left_alone, "") << tensor.name;
  }
}

TEST(LoaderTest, IncludeNamesExactlyWhatIsQuantizedAndExcludeWins) {
  const auto checkpoint = MakeTinyCheckpoint(kHalf);
  LoadOptions options = With("linear");
  options.include = {"lm_head", "*.mlp.fc_??", "*.attn.*"};
  options.exclude = {"transformer.h.1.*"};
  ASSERT_OK_AND_ASSIGN(const LoadedModel loaded,
                       LoadModel(*checkpoint, options));
  const LoadReport& report = loaded.report;
  EXPECT_EQ(Find(report, "lm_head.weight").element, "int8");
  EXPECT_EQ(Find(report, "transformer.h.0.mlp.fc_in.weight").element, "int8");
  EXPECT_EQ(Find(report, "transformer.h.0.attn.out_proj.weight").element,
            "int8");
  const TensorReport& other =
      Find(report, "transformer.h.0.mlp.fc_out.weight");  // ?? is two
  EXPECT_EQ(other.element, "float16");
  EXPECT_EQ(other.left_alone, "not among those included");
  const TensorReport& excluded =
      Find(report, "transformer.h.1.attn.out_proj.weight");
  EXPECT_EQ(excluded.element, "float16");
  EXPECT_EQ(excluded.left_alone, "excluded by 'transformer.h.1.*'");
}

TEST(LoaderTest, RefusesAnIncludeThatMatchesNothing) {
  for (const char* glob : {"transformer.h.9.*", "*.ln_1", "", "LM_HEAD"}) {
    LoadOptions options = With("linear");
    options.include = {"lm_head", glob};
    EXPECT_THAT(LoadModel(*MakeTinyCheckpoint(kHalf), options),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr(glob), HasSubstr("no matrix"))));
  }
  // A matrix that the architecture does not use.
  const auto checkpoint = MakeTinyCheckpoint(kHalf);
  checkpoint->Add("extra.weight", {2, 2}, {1, 2, 3, 4});
  LoadOptions options = With("linear");
  options.include = {"extra"};
  EXPECT_THAT(LoadModel(*checkpoint, options),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(LoaderTest, ReportsWhatWasIgnoredTiedAndLeftOver) {
  const auto checkpoint = MakeTinyCheckpoint({.tied = true});
  const LoadReport before = LoadWith(*checkpoint, "linear").report;
  checkpoint->Tie("lm_head.weight", "transformer.wte.weight");
  checkpoint->Add("transformer.h.0.attn.causal_mask", {1, 1, 4, 4},
                  std::vector<float>(16), quant::DType::kBool);
  checkpoint->Add("adapter.weight", {2, 2}, {1, 2, 3, 4});
  const LoadReport report = LoadWith(*checkpoint, "linear").report;
  EXPECT_EQ(Find(report, "lm_head.weight").left_alone,
            "tied to transformer.wte.weight");
  EXPECT_EQ(Find(report, "transformer.h.0.attn.causal_mask").left_alone,
            "not needed");
  EXPECT_THAT(Find(report, "adapter.weight").left_alone, HasSubstr("not used"));
  EXPECT_EQ(Find(report, "adapter.weight").method, "");
  EXPECT_EQ(report.stored_bytes, before.stored_bytes);
  EXPECT_EQ(report.checkpoint_bytes, before.checkpoint_bytes);
}

TEST(LoaderTest, MeasuresErrorsWhereThereCanBeSome) {
  LoadOptions options = With("linear");
  options.measure_error = true;
  ASSERT_OK_AND_ASSIGN(const LoadedModel loaded,
                       LoadModel(*MakeTinyCheckpoint(kHalf), options));
  const TensorReport& linear =
      Find(loaded.report, "transformer.h.0.mlp.fc_in.weight");
  ASSERT_TRUE(linear.error.has_value());
  // Half a step of 1/127 of a row's largest, against a normal distribution.
  EXPECT_GT(linear.error->relative_l2, 1e-3);
  EXPECT_LT(linear.error->relative_l2, 1e-2);
  EXPECT_FALSE(Find(loaded.report, "lm_head.weight").error.has_value());
}

TEST(LoaderTest, TellsItsProgressAndStopsWhenToldTo) {
  const auto checkpoint = MakeTinyCheckpoint(kHalf);
  checkpoint->Add("transformer.h.0.attn.bias", {1}, {0});
  LoadOptions options = With("linear");
  int64_t calls = 0;
  options.progress = [&](const LoadProgress& progress) {
    EXPECT_EQ(progress.tensors_done, ++calls);
    EXPECT_EQ(progress.tensors_total,
              static_cast<int64_t>(checkpoint->tensors().size()));
    EXPECT_TRUE(checkpoint->tensors().contains(progress.tensor));
    return absl::OkStatus();
  };
  ASSERT_OK(LoadModel(*checkpoint, options));
  EXPECT_EQ(calls, static_cast<int64_t>(checkpoint->tensors().size()));

  // At every tensor, ignored ones too.
  for (int64_t stop = 1; stop <= calls; ++stop) {
    options.progress = [&](const LoadProgress& progress) {
      EXPECT_LE(progress.tensors_done, stop);
      return progress.tensors_done == stop ? absl::CancelledError("enough")
                                           : absl::OkStatus();
    };
    EXPECT_THAT(LoadModel(*checkpoint, options),
                StatusIs(absl::StatusCode::kCancelled, "enough"));
  }
}

TEST(LoaderTest, NamesTensorsThatNoModelCanUse) {
  const auto with = [](const std::string& name, auto change) {
    const auto checkpoint = MakeTinyCheckpoint({});
    change(*checkpoint, name);
    return LoadModel(*checkpoint, With("linear"));
  };
  const auto poison = [](auto& checkpoint, const std::string& name) {
    checkpoint.values(name)[5] = std::numeric_limits<float>::quiet_NaN();
  };
  const auto integers = [](auto& checkpoint, const std::string& name) {
    const auto shape = checkpoint.tensors().at(name).shape;
    checkpoint.Add(name, shape, checkpoint.values(name), quant::DType::kI8);
  };
  for (const char* name :
       {"transformer.ln_f.bias", "transformer.h.0.mlp.fc_in.weight"}) {
    EXPECT_THAT(with(name, poison),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr(name), HasSubstr("nan"))));
    EXPECT_THAT(with(name, integers),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr(name), HasSubstr("int8 found"))));
  }
}

TEST(GlobTest, StarIsAnyRunAndQuestionMarkAnyCharacter) {
  EXPECT_TRUE(GlobMatches("*", ""));
  EXPECT_TRUE(GlobMatches("a*c", "abbc"));
  EXPECT_TRUE(GlobMatches("*.h.*.mlp.*", "transformer.h.12.mlp.fc_in"));
  EXPECT_TRUE(GlobMatches("a?c", "abc"));
  EXPECT_TRUE(GlobMatches("*ab", "aab"));
  EXPECT_TRUE(GlobMatches("a**b*", "axb"));
  EXPECT_FALSE(GlobMatches("a?c", "ac"));
  EXPECT_FALSE(GlobMatches("a", "ab"));
  EXPECT_FALSE(GlobMatches("", "a"));
  EXPECT_FALSE(GlobMatches("*.h.1.*", "transformer.h.11.mlp"));
  EXPECT_FALSE(GlobMatches("[ab]", "a"));
}

TEST(GlobTest, IsNotExponentialOnHostilePatterns) {
  std::string glob;
  for (int i = 0; i < 1000; ++i) glob += "a*";
  EXPECT_FALSE(GlobMatches(glob + "b", std::string(20000, 'a')));
}

}  // namespace
}  // namespace ounce::model
