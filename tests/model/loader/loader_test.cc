#include "model/loader/loader.h"

#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "quant/registry.h"
#include "tests/model/arch/lm_runner.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tiny_model.h"

namespace ounce::model {
namespace {

using ::ounce::testing::LoadWith;
using ::ounce::testing::MakeTinyCheckpoint;
using ::ounce::testing::MemoryCheckpoint;
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
  options.plan = *ParseMethodPlan(spec);
  return options;
}

LoadOptions WithShortForm(const ShortForm& form) {
  LoadOptions options;
  options.plan = *PlanOf("", form);
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
  EXPECT_GT(report.table_bytes, 0);  // rotary frequencies
  EXPECT_EQ(resident + report.table_bytes, report.resident_bytes);
  EXPECT_EQ(by_element, report.resident_bytes);
}

TEST(LoaderTest, NamesTheTypeThatAWidthTakesInsteadOfTheMethods) {
  const LoadReport report =
      LoadWith(*MakeTinyCheckpoint(kHalf), "gguf-q4_k").report;
  const TensorReport& linear =
      Find(report, "transformer.h.1.attn.qkv_proj.weight");
  EXPECT_EQ(linear.method, "gguf-q4_k");
  EXPECT_EQ(linear.element, "q5_0");
  EXPECT_EQ(linear.left_alone, "");
  EXPECT_EQ(linear.note,
            "stored as q5_0 instead of q4_k: 32 columns are not whole blocks "
            "of 256");
  EXPECT_EQ(linear.stored_bytes, 96 * 22);
  EXPECT_THAT(Find(report, "lm_head.weight").left_alone,
              HasSubstr("the head stays"));
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
  const LoadOptions options =
      WithShortForm({.method = "linear",
                     .include = {"lm_head", "*.mlp.fc_??", "*.attn.*"},
                     .exclude = {"transformer.h.1.*"}});
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
  EXPECT_EQ(other.left_alone, "kept: no rule of the plan is for it");
  const TensorReport& excluded =
      Find(report, "transformer.h.1.attn.out_proj.weight");
  EXPECT_EQ(excluded.element, "float16");
  EXPECT_EQ(excluded.left_alone, "kept by 'transformer.h.1.*=keep'");
  EXPECT_EQ(report.plan,
            "transformer.h.1.*=keep lm_head=linear *.mlp.fc_?"
            "?=linear "
            "*.attn.*=linear");
  EXPECT_EQ(report.method, report.plan);
}

// A checkpoint of which nobody may read a value.
class Unreadable final : public Checkpoint {
 public:
  explicit Unreadable(const Checkpoint& names) : names_(names) {}
  const std::string& folder() const override { return names_.folder(); }
  const nlohmann::json& config() const override { return names_.config(); }
  const nlohmann::json& generation_config() const override {
    return names_.generation_config();
  }
  const std::map<std::string, TensorInfo>& tensors() const override {
    return names_.tensors();
  }
  absl::Status ReadFloats(const std::string& name, int64_t, int64_t,
                          float*) const override {
    return absl::InternalError("read " + name);
  }

 private:
  const Checkpoint& names_;
};

// What the plan says of a request, and LoadModel too, before it reads anything.
absl::Status Judge(const Checkpoint& checkpoint, const LoadOptions& options) {
  const Unreadable names(checkpoint);
  const absl::Status planned = PlanModel(names, options).status();
  const absl::Status loaded = LoadModel(names, options).status();
  if (planned.ok()) {
    EXPECT_EQ(loaded.code(), absl::StatusCode::kInternal) << loaded;
  } else {
    EXPECT_EQ(planned, loaded);
  }
  return planned;
}

absl::Status Judge(const Checkpoint& checkpoint, const std::string& spec,
                   std::vector<std::string> include,
                   std::vector<std::string> exclude) {
  return Judge(checkpoint, WithShortForm({.method = spec,
                                          .include = std::move(include),
                                          .exclude = std::move(exclude)}));
}

void ExpectSame(const LoadReport& plan, const LoadReport& load,
                const std::string& what) {
  EXPECT_EQ(plan.method, load.method) << what;
  EXPECT_EQ(plan.checkpoint_bytes, load.checkpoint_bytes) << what;
  EXPECT_EQ(plan.stored_bytes, load.stored_bytes) << what;
  EXPECT_EQ(plan.resident_bytes, load.resident_bytes) << what;
  EXPECT_EQ(plan.resident_bytes_by_element, load.resident_bytes_by_element)
      << what;
  ASSERT_EQ(plan.tensors.size(), load.tensors.size()) << what;
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    EXPECT_EQ(plan.tensors[i].name, load.tensors[i].name) << what;
    EXPECT_EQ(plan.tensors[i].method, load.tensors[i].method) << what;
    EXPECT_EQ(plan.tensors[i].left_alone, load.tensors[i].left_alone) << what;
    EXPECT_EQ(plan.tensors[i].resident_bytes, load.tensors[i].resident_bytes)
        << what << plan.tensors[i].name;
  }
}

TEST(LoaderTest, PlansWithoutReadingWhatLoadingWillTakeToTheByte) {
  const auto plain = MakeTinyCheckpoint(kHalf);
  const auto tied = MakeTinyCheckpoint({.vocab = 51, .tied = true});
  for (const MemoryCheckpoint* checkpoint : {plain.get(), tied.get()}) {
    for (const char* spec : {"", "float32", "float16", "bfloat16", "linear"}) {
      LoadOptions options;
      if (*spec != 0) options = With(spec);
      ASSERT_OK_AND_ASSIGN(const ModelPlan plan,
                           PlanModel(Unreadable(*checkpoint), options));
      ASSERT_OK_AND_ASSIGN(const LoadedModel loaded,
                           LoadModel(*checkpoint, options));
      ExpectSame(plan.report, loaded.report, spec);
      const CausalLm* outline = plan.outline->causal_lm();
      ASSERT_NE(outline, nullptr);
      EXPECT_EQ(outline->shape().vocab_size,
                loaded.model->causal_lm()->shape().vocab_size);
      EXPECT_EQ(outline->ScratchBytes(100, 8, 2),
                loaded.model->causal_lm()->ScratchBytes(100, 8, 2));
    }
  }
}

TEST(LoaderTest, KeepsFloatsInMemoryAsTheModelMultipliesThem) {
  const auto checkpoint = MakeTinyCheckpoint({});
  const LoadReport full = LoadWith(*checkpoint, "").report;
  LoadOptions options;
  options.compute = quant::Compute::kBFloat16;
  ASSERT_OK_AND_ASSIGN(const LoadedModel loaded,
                       LoadModel(*checkpoint, options));
  ASSERT_OK_AND_ASSIGN(const ModelPlan plan, PlanModel(*checkpoint, options));
  ExpectSame(plan.report, loaded.report, "");
  EXPECT_EQ(loaded.model->compute(), quant::Compute::kBFloat16);
  EXPECT_EQ(loaded.report.stored_bytes, full.stored_bytes);
  for (size_t i = 0; i < full.tensors.size(); ++i) {
    const TensorReport& tensor = loaded.report.tensors[i];
    EXPECT_EQ(tensor.method, "float32");
    EXPECT_EQ(tensor.element, tensor.is_vector ? "float32" : "bfloat16");
    EXPECT_EQ(tensor.resident_bytes,
              full.tensors[i].resident_bytes / (tensor.is_vector ? 1 : 2));
  }
  // Integers stay what they are.
  options.plan = *ParseMethodPlan("linear");
  ASSERT_OK_AND_ASSIGN(const ModelPlan integers,
                       PlanModel(*checkpoint, options));
  EXPECT_EQ(Find(integers.report, "transformer.h.0.mlp.fc_in.weight").element,
            "int8");
}

// Nothing about text follows from the CPU.
TEST(LoaderTest, WithoutAComputeTextIsInFloat32) {
  const auto checkpoint = MakeTinyCheckpoint({});
  LoadOptions options;
  options.compute = std::nullopt;
  ASSERT_OK_AND_ASSIGN(const LoadedModel loaded,
                       LoadModel(*checkpoint, options));
  EXPECT_EQ(loaded.model->compute(), quant::Compute::kFloat32);
  EXPECT_EQ(loaded.report.resident_bytes,
            LoadWith(*checkpoint, "").report.resident_bytes);
}

TEST(LoaderTest, RefusesAGlobThatMatchesNothing) {
  const auto checkpoint = MakeTinyCheckpoint(kHalf);
  for (const std::string glob :
       {"transformer.h.9.*", "*.ln_1", "LM_HEAD", "transformer.h.[2-9].*"}) {
    const auto refused =
        StatusIs(absl::StatusCode::kInvalidArgument,
                 AllOf(HasSubstr("rule '" + glob),
                       HasSubstr("' matches no matrix of the model"),
                       HasSubstr("names look like 'transformer.h.")));
    EXPECT_THAT(Judge(*checkpoint, "linear", {"lm_head", glob}, {}), refused);
    EXPECT_THAT(Judge(*checkpoint, "linear", {}, {glob}), refused);
    EXPECT_THAT(Judge(*checkpoint, With(glob + "=keep linear")), refused);
    EXPECT_THAT(Judge(*checkpoint, With(glob + "=bfloat16")), refused);
    EXPECT_THAT(Judge(*checkpoint, With(glob + "=prune-24+bfloat16 linear")),
                refused);
    EXPECT_THAT(Judge(*checkpoint, With(glob + "=linear:untie=true linear")),
                refused);
  }
  // A matrix that the architecture does not use.
  checkpoint->Add("extra.weight", {2, 2}, {1, 2, 3, 4});
  EXPECT_THAT(
      Judge(*checkpoint, "linear", {"extra"}, {}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no matrix")));
}

TEST(LoaderTest, GlobsTakeClassesOfCharacters) {
  const LoadOptions options = With("transformer.h.[0-0].mlp.*=linear");
  ASSERT_OK_AND_ASSIGN(const ModelPlan plan,
                       PlanModel(*MakeTinyCheckpoint(kHalf), options));
  EXPECT_EQ(Find(plan.report, "transformer.h.0.mlp.fc_in.weight").method,
            "linear");
  EXPECT_EQ(Find(plan.report, "transformer.h.1.mlp.fc_in.weight").method,
            "float16");
}

TEST(LoaderTest, RefusesToDoNothing) {
  const auto checkpoint = MakeTinyCheckpoint(kHalf);
  const auto refused = [](const char* message) {
    return StatusIs(absl::StatusCode::kInvalidArgument, message);
  };
  EXPECT_THAT(Judge(*checkpoint, "linear", {"lm_head"}, {"*"}),
              refused("nothing is left to store as linear: exclude takes out "
                      "all that include takes in"));
  EXPECT_THAT(Judge(*checkpoint, "linear", {"lm_head"}, {"lm_*"}),
              refused("nothing is left to store as linear: exclude takes out "
                      "all that include takes in"));
  for (const char* spec : {"linear", "float32"}) {
    EXPECT_THAT(Judge(*checkpoint, spec, {}, {"*"}),
                refused(("nothing is left to store as " + std::string(spec) +
                         ": the rules before it take every matrix that it is "
                         "for")
                            .c_str()));
  }
  EXPECT_OK(Judge(*checkpoint, "linear", {"lm_head", "*.fc_in"}, {"lm_head"}));
  EXPECT_OK(Judge(*checkpoint, "linear", {}, {"lm_head"}));
}

TEST(LoaderTest, RefusesConvolutionsOfAModelThatHasNone) {
  const auto refused =
      StatusIs(absl::StatusCode::kInvalidArgument,
               "rule '@convolution=linear' matches no matrix of the model, "
               "which has none of the role convolution; leave it out");
  const auto checkpoint = MakeTinyCheckpoint(kHalf);
  EXPECT_THAT(Judge(*checkpoint,
                    WithShortForm({.method = "linear", .convolutions = true})),
              refused);
  EXPECT_THAT(Judge(*checkpoint, With("@convolution=linear linear")), refused);
}

TEST(LoaderTest, TheFirstRuleThatMatchesChooses) {
  const auto checkpoint = MakeTinyCheckpoint(kHalf);
  const std::string plan =
      "transformer.h.0.mlp.fc_in=keep *.mlp.*=bfloat16 @embedding=float32 "
      "lm_head@head=linear linear";
  ASSERT_OK_AND_ASSIGN(const LoadedModel loaded,
                       LoadModel(*checkpoint, With(plan)));
  const LoadReport& report = loaded.report;
  EXPECT_EQ(report.plan, plan);
  EXPECT_EQ(report.method, plan);
  const auto method = [&](const std::string& module) {
    return Find(report, module + ".weight").method;
  };
  EXPECT_EQ(method("transformer.h.0.mlp.fc_in"), "float16");
  EXPECT_EQ(Find(report, "transformer.h.0.mlp.fc_in.weight").left_alone,
            "kept by 'transformer.h.0.mlp.fc_in=keep'");
  EXPECT_EQ(method("transformer.h.1.mlp.fc_in"), "bfloat16");
  EXPECT_EQ(method("transformer.h.0.mlp.fc_out"), "bfloat16");
  EXPECT_EQ(method("transformer.wte"), "float32");
  EXPECT_EQ(method("lm_head"), "linear");
  EXPECT_EQ(method("transformer.h.0.attn.out_proj"), "linear");
  EXPECT_EQ(Find(report, "transformer.wte.weight").left_alone, "");
  EXPECT_THAT(Find(report, "lm_head.bias").left_alone, HasSubstr("1-D"));
  ASSERT_OK_AND_ASSIGN(const ModelPlan planned,
                       PlanModel(*checkpoint, With(report.plan)));
  ExpectSame(planned.report, report, plan);
}

TEST(LoaderTest, WithoutASpecAtItsEndAPlanIsExactlyItsRules) {
  const LoadReport report =
      LoadWith(*MakeTinyCheckpoint(kHalf), "*.h.1.mlp.*=float32").report;
  for (const TensorReport& tensor : report.tensors) {
    const bool matches =
        !tensor.is_vector && tensor.name.find(".h.1.mlp.") != std::string::npos;
    EXPECT_EQ(tensor.method, matches ? "float32" : "float16") << tensor.name;
    EXPECT_EQ(tensor.left_alone, matches ? ""
                                 : tensor.is_vector
                                     ? "1-D: norms and biases are not quantized"
                                     : "kept: no rule of the plan is for it")
        << tensor.name;
  }
}

TEST(LoaderTest, APlanMixesWidths) {
  const LoadReport report =
      LoadWith(*MakeTinyCheckpoint(kHalf), "*.mlp.*=linear:bits=4 linear")
          .report;
  EXPECT_EQ(Find(report, "transformer.h.1.mlp.fc_in.weight").element, "int4");
  EXPECT_EQ(Find(report, "transformer.h.1.attn.out_proj.weight").element,
            "int8");
  EXPECT_EQ(report.resident_bytes_by_element.count("int4"), 1u);
}

TEST(LoaderTest, StagesPruneLinearLayersAndSparsityIsReported) {
  const auto checkpoint = MakeTinyCheckpoint(kHalf);
  LoadOptions options = With(
      "transformer.wte=prune-magnitude:sparsity=0.25+float16 "
      "*.fc_in=prune-24+float16 prune-magnitude+linear");
  options.measure_error = true;
  ASSERT_OK_AND_ASSIGN(const LoadedModel loaded,
                       LoadModel(*checkpoint, options));
  const LoadReport& report = loaded.report;
  const TensorReport& linear =
      Find(report, "transformer.h.0.attn.out_proj.weight");
  EXPECT_EQ(linear.method, "prune-magnitude+linear");
  EXPECT_EQ(linear.element, "int8");
  // What rounds to zero is zero too.
  EXPECT_GE(*linear.sparsity, 0.5);
  EXPECT_LT(*linear.sparsity, 0.52);
  EXPECT_GT(linear.error->relative_l2, 0.1);
  const TensorReport& halves = Find(report, "transformer.h.1.mlp.fc_in.weight");
  EXPECT_EQ(halves.sparsity, 0.5);
  EXPECT_EQ(halves.element, "float16");
  EXPECT_EQ(Find(report, "transformer.wte.weight").sparsity, 0.25);
  EXPECT_EQ(Find(report, "lm_head.weight").sparsity, std::nullopt);
  EXPECT_EQ(Find(report, "lm_head.weight").method, "float16");
  EXPECT_EQ(report.plan,
            "transformer.wte=prune-magnitude:sparsity=0.25+float16 "
            "*.fc_in=prune-24+float16 prune-magnitude+linear");
  // Zeros take the bytes of other weights.
  const LoadReport dense =
      LoadWith(*checkpoint, "*.fc_in=float16 linear").report;
  EXPECT_EQ(report.stored_bytes, dense.stored_bytes);
  EXPECT_EQ(report.resident_bytes, dense.resident_bytes);
  ASSERT_OK_AND_ASSIGN(const ModelPlan planned,
                       PlanModel(Unreadable(*checkpoint), options));
  ExpectSame(planned.report, report, report.plan);
}

TEST(LoaderTest, PrunedFloatsAloneLeaveTheRestAsItIs) {
  const LoadReport report =
      LoadWith(*MakeTinyCheckpoint(kHalf), "prune-24+bfloat16").report;
  for (const TensorReport& tensor : report.tensors) {
    const bool linear = !tensor.is_vector && tensor.role == WeightRole::kLinear;
    EXPECT_EQ(tensor.method, linear ? "prune-24+bfloat16" : "float16")
        << tensor.name;
  }
}

TEST(LoaderTest, RefusesARuleThatIsLeftWithNothing) {
  const auto checkpoint = MakeTinyCheckpoint(kHalf);
  const std::pair<const char*, const char*> kPlans[] = {
      {"*=keep lm_head=linear linear", "rule 'lm_head=linear'"},
      {"lm_head=linear lm_head=keep linear", "rule 'lm_head=keep'"},
      {"lm_head=linear lm_head=prune-24+linear linear",
       "rule 'lm_head=prune-24+linear'"},
      {"lm_head=linear lm_head=linear:untie=true linear",
       "rule 'lm_head=linear:untie=true'"},
      {"*.h.0.*=bfloat16 *.h.1.*=bfloat16 @linear=linear",
       "rule '@linear=linear'"},
  };
  for (const auto& [plan, rule] : kPlans) {
    EXPECT_THAT(Judge(*checkpoint, With(plan)),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr(rule),
                               HasSubstr("is left with nothing: the rules "
                                         "before it take all"))));
  }
  for (const char* plan : {"*=keep linear", "@linear=bfloat16 linear"}) {
    EXPECT_THAT(Judge(*checkpoint, With(plan)),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         "nothing is left to store as linear: the rules before "
                         "it take every matrix that it is for"));
  }
  EXPECT_THAT(Judge(*checkpoint, With("lm_head=keep")),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("the plan keeps all as in the checkpoint")));
}

// Globs of short forms may overlap, and exclude wins; the plan that the report
// shows is what is left of them, and can be given again.
TEST(LoaderTest, WhatAShortFormsGlobsAreLeftWithoutIsNoRuleOfItsPlan) {
  const auto checkpoint = MakeTinyCheckpoint(kHalf);
  const std::pair<ShortForm, const char*> kForms[] = {
      {{.method = "linear",
        .include = {"lm_head", "*.fc_in"},
        .exclude = {"lm_head"}},
       "lm_head=keep *.fc_in=linear"},
      {{.method = "linear", .include = {"*", "lm_head"}}, "*=linear"},
      {{.method = "linear", .exclude = {"*.h.0.*", "*.h.0.mlp.*"}},
       "*.h.0.*=keep linear"},
  };
  for (const auto& [form, plan] : kForms) {
    ASSERT_OK_AND_ASSIGN(const ModelPlan planned,
                         PlanModel(*checkpoint, WithShortForm(form)));
    EXPECT_EQ(planned.report.plan, plan);
    ASSERT_OK_AND_ASSIGN(const ModelPlan again,
                         PlanModel(*checkpoint, With(plan)));
    ExpectSame(again.report, planned.report, plan);
  }
}

TEST(LoaderTest, ARuleOnOneNameOfATiedWeightIsForBothUses) {
  const auto by_config = MakeTinyCheckpoint({.tied = true});
  const auto by_storage = MakeTinyCheckpoint({.tied = true});
  by_storage->config_json["tie_word_embeddings"] = false;
  by_storage->Tie("lm_head.weight", "transformer.wte.weight");
  const auto with_both_names = MakeTinyCheckpoint({.tied = true});
  with_both_names->Tie("lm_head.weight", "transformer.wte.weight");
  for (const MemoryCheckpoint* checkpoint :
       {by_config.get(), by_storage.get(), with_both_names.get()}) {
    const auto embedding = [&](const std::string& plan) {
      const LoadReport report = LoadWith(*checkpoint, plan).report;
      EXPECT_EQ(report.plan, plan);
      int64_t stored = 0;  // once, under one of its names
      for (const TensorReport& tensor : report.tensors) {
        stored += tensor.name == "lm_head.weight" ||
                          tensor.name == "transformer.wte.weight"
                      ? tensor.stored_bytes
                      : 0;
      }
      const TensorReport tensor = Find(report, "transformer.wte.weight");
      EXPECT_EQ(stored, tensor.stored_bytes);
      return tensor;
    };
    for (const char* plan :
         {"lm_head=linear", "transformer.wte=linear", "@head=linear",
          "@embedding=linear linear", "lm_head=linear bfloat16",
          "lm_head=linear transformer.wte=linear float16", "*=linear"}) {
      SCOPED_TRACE(plan);
      EXPECT_EQ(embedding(plan).element, "int8");
      EXPECT_EQ(embedding(plan).left_alone, "");
    }
    for (const char* plan :
         {"lm_head=keep bfloat16", "transformer.wte=keep bfloat16"}) {
      SCOPED_TRACE(plan);
      EXPECT_EQ(embedding(plan).element, "float32");
      EXPECT_THAT(embedding(plan).left_alone, HasSubstr("kept by '"));
    }
    EXPECT_EQ(embedding("lm_head=keep linear").element, "float32");
  }
}

TEST(LoaderTest, RefusesRulesThatChooseDifferentlyForTwoNamesOfAWeight) {
  const auto by_config = MakeTinyCheckpoint({.tied = true});
  const auto by_storage = MakeTinyCheckpoint({.tied = true});
  by_storage->config_json["tie_word_embeddings"] = false;
  by_storage->Tie("lm_head.weight", "transformer.wte.weight");
  for (const MemoryCheckpoint* checkpoint :
       {by_config.get(), by_storage.get()}) {
    EXPECT_THAT(
        Judge(*checkpoint, With("lm_head=keep *=linear")),
        StatusIs(absl::StatusCode::kInvalidArgument,
                 "rule '*=linear' is for transformer.wte and 'lm_head=keep' "
                 "for lm_head, but these are one weight under two names "
                 "(tied); choose the same for both, name one of them only, or "
                 "give one untie=true"));
    EXPECT_THAT(Judge(*checkpoint, "linear", {"*"}, {"lm_head"}),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("one weight under two names")));
    EXPECT_THAT(
        Judge(*checkpoint, With("@head=linear @embedding=bfloat16 linear")),
        StatusIs(absl::StatusCode::kInvalidArgument,
                 HasSubstr("one weight under two names")));
  }
}

TEST(LoaderTest, UntiedUsesOfAWeightArePackedApartAndBothCounted) {
  const auto by_config = MakeTinyCheckpoint({.tied = true});
  const auto by_storage = MakeTinyCheckpoint({.tied = true});
  by_storage->config_json["tie_word_embeddings"] = false;
  by_storage->Tie("lm_head.weight", "transformer.wte.weight");
  const auto with_both_names = MakeTinyCheckpoint({.tied = true});
  with_both_names->Tie("lm_head.weight", "transformer.wte.weight");
  const auto with_a_copy = MakeTinyCheckpoint({.tied = true});
  with_a_copy->Add("lm_head.weight", {50, 32},
                   with_a_copy->values("transformer.wte.weight"));
  struct Case {
    const char* plan;
    const char* embedding;
    const char* head;
  };
  const Case kCases[] = {
      {"lm_head=linear:bits=4,untie=true", "float32", "int4"},
      {"lm_head=linear:bits=4,untie=true linear", "float32", "int4"},
      {"lm_head=linear:untie=true *=linear:bits=4", "int4", "int8"},
      {"lm_head=linear transformer.wte=linear:bits=4,untie=true", "int4",
       "int8"},
      {"lm_head=keep transformer.wte=linear:untie=true", "int8", "float32"},
      {"*=linear:untie=true", "int8", "int8"},
      {"float16:untie=true", "float16", "float16"},
      {"@head=linear bfloat16:untie=true", "bfloat16", "int8"},
  };
  for (const MemoryCheckpoint* checkpoint :
       {by_config.get(), by_storage.get(), with_both_names.get(),
        with_a_copy.get()}) {
    const LoadReport kept = LoadWith(*checkpoint, "").report;
    for (const Case& c : kCases) {
      SCOPED_TRACE(c.plan);
      LoadOptions options = With(c.plan);
      std::vector<LoadProgress> told;
      options.progress = [&](const LoadProgress& progress) {
        told.push_back(progress);
        return absl::OkStatus();
      };
      ASSERT_OK_AND_ASSIGN(const LoadedModel loaded,
                           LoadModel(*checkpoint, options));
      const LoadReport& report = loaded.report;
      EXPECT_EQ(report.plan, c.plan);
      EXPECT_EQ(told.back().tensors_done,
                static_cast<int64_t>(checkpoint->tensors().size()));
      const TensorReport& embedding = Find(report, "transformer.wte.weight");
      const TensorReport& head = Find(report, "lm_head.weight");
      EXPECT_EQ(embedding.element, c.embedding);
      EXPECT_EQ(head.element, c.head);
      EXPECT_EQ(head.role, WeightRole::kHead);
      EXPECT_EQ(head.shape, embedding.shape);
      // What the file has, it has once.
      EXPECT_EQ(embedding.checkpoint_bytes, 50 * 32 * 4);
      EXPECT_EQ(head.checkpoint_bytes, 0);
      EXPECT_EQ(report.checkpoint_bytes, kept.checkpoint_bytes);
      EXPECT_GT(embedding.stored_bytes, 0);
      EXPECT_GT(head.stored_bytes, 0);
      EXPECT_GT(embedding.resident_bytes, 0);
      EXPECT_GT(head.resident_bytes, 0);
      int64_t stored = 0, resident = report.table_bytes;
      for (const TensorReport& tensor : report.tensors) {
        stored += tensor.stored_bytes;
        resident += tensor.resident_bytes;
      }
      EXPECT_EQ(report.stored_bytes, stored);
      EXPECT_EQ(report.resident_bytes, resident);
      ASSERT_OK_AND_ASSIGN(const ModelPlan planned,
                           PlanModel(Unreadable(*checkpoint), options));
      ExpectSame(planned.report, report, c.plan);
    }
  }
}

// Kept apart in the same codes it is the same network.
TEST(LoaderTest, UntyingChangesNoLogit) {
  const auto checkpoint = MakeTinyCheckpoint({.tied = true});
  const auto logits = [&](const char* plan) {
    const LoadedModel loaded = LoadWith(*checkpoint, plan);
    testing::LmRunner runner(*loaded.model->causal_lm(), 1);
    return runner.AllLogits({1, 7, 3, 40}, {4});
  };
  EXPECT_EQ(logits("*=linear:untie=true"), logits("*=linear"));
  EXPECT_EQ(logits("float32:untie=true"), logits(""));
  // The head alone.
  EXPECT_NE(logits("lm_head=linear:untie=true"), logits("lm_head=linear"));
}

TEST(LoaderTest, RulesSayInHowManyBitsActivationsAre) {
  const auto checkpoint = MakeTinyCheckpoint({.layers = 2});
  LoadOptions options = With(
      "transformer.h.0.attn.*=linear:activations=8 lm_head=linear "
      "transformer.h.1.mlp.*=linear:bits=4,activations=8 linear");
  ASSERT_OK_AND_ASSIGN(const LoadedModel loaded,
                       LoadModel(*checkpoint, options));
  const auto method = [&](const char* name) {
    return Find(loaded.report, name).method;
  };
  EXPECT_EQ(method("transformer.h.0.attn.qkv_proj.weight"),
            "linear:activations=8");
  EXPECT_EQ(method("transformer.h.0.mlp.fc_in.weight"), "linear");
  EXPECT_EQ(method("transformer.h.1.mlp.fc_out.weight"),
            "linear:bits=4,activations=8");
  EXPECT_EQ(method("lm_head.weight"), "linear");
  // It is a matter of products: no byte of a weight changes.
  const LoadReport usual =
      LoadWith(*checkpoint,
               "lm_head=linear transformer.h.1.mlp.*=linear:bits=4 linear")
          .report;
  EXPECT_EQ(loaded.report.stored_bytes, usual.stored_bytes);
  EXPECT_EQ(loaded.report.resident_bytes, usual.resident_bytes);
  ASSERT_OK_AND_ASSIGN(const ModelPlan planned,
                       PlanModel(Unreadable(*checkpoint), options));
  ExpectSame(planned.report, loaded.report, "activations");
  const auto scratch = [](const Model& model) {
    return model.causal_lm()->ScratchBytes(100, 10, 2);
  };
  EXPECT_EQ(scratch(*planned.outline), scratch(*loaded.model));
}

TEST(LoaderTest, ActivationsOfOneWeightAreOfOneKind) {
  const auto logits = [](const Checkpoint& checkpoint, const char* plan) {
    const LoadedModel loaded = LoadWith(checkpoint, plan);
    testing::LmRunner runner(*loaded.model->causal_lm(), 1);
    return runner.AllLogits({1, 7, 3, 40}, {4});
  };
  const auto tied = MakeTinyCheckpoint({.tied = true});
  const auto usual = logits(*tied, "lm_head=linear");
  const auto in_8 = logits(*tied, "lm_head=linear:activations=8");
  EXPECT_NE(usual, in_8);
  EXPECT_EQ(logits(*tied, "transformer.wte=linear:activations=8"), in_8);
  EXPECT_EQ(logits(*tied,
                   "@embedding=linear "
                   "lm_head=linear:untie=true,activations=8"),
            in_8);
  EXPECT_THAT(Judge(*tied, With("lm_head=linear:activations=8 "
                                "transformer.wte=linear")),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("one weight under two names")));
}

TEST(LoaderTest, RefusesToRoundActivationsOfLookups) {
  EXPECT_THAT(
      Judge(*MakeTinyCheckpoint({}),
            With("transformer.wte=linear:activations=8 linear")),
      StatusIs(absl::StatusCode::kInvalidArgument,
               "rule 'transformer.wte=linear:activations=8' rounds no "
               "activations: all that it is for are embeddings, whose rows are "
               "looked up; leave activations out"));
}

TEST(LoaderTest, RefusesToUntieWhatIsNotTied) {
  const auto tied = MakeTinyCheckpoint({.tied = true});
  const auto apart = MakeTinyCheckpoint({});
  const auto nothing = [](const char* who) {
    return StatusIs(absl::StatusCode::kInvalidArgument,
                    AllOf(HasSubstr(who), HasSubstr("has nothing to untie: no "
                                                    "weight of this model")));
  };
  EXPECT_THAT(Judge(*apart, With("lm_head=linear:untie=true linear")),
              nothing("rule 'lm_head=linear:untie=true'"));
  EXPECT_THAT(Judge(*apart, With("float16:untie=true")),
              nothing("'float16:untie=true'"));
  const auto refused = [](const char* who) {
    return StatusIs(
        absl::StatusCode::kInvalidArgument,
        AllOf(HasSubstr(who),
              HasSubstr("has nothing to untie: no weight that it is for"),
              HasSubstr("transformer.wte and lm_head are one weight, which a "
                        "rule such as 'lm_head=linear:untie=true' unties")));
  };
  EXPECT_THAT(Judge(*tied, With("linear:untie=true")),
              refused("'linear:untie=true'"));
  EXPECT_THAT(Judge(*tied, With("*.mlp.*=linear:untie=true")),
              refused("rule '*.mlp.*=linear:untie=true'"));
  // Rules before it take one name, or both.
  EXPECT_THAT(Judge(*tied, With("@head=keep @embedding=keep "
                                "*=linear:untie=true")),
              refused("rule '*=linear:untie=true'"));
  EXPECT_OK(Judge(*tied, With("lm_head=keep *=linear:untie=true")));
}

TEST(LoaderTest, RefusesATiedHeadOfOtherValues) {
  const auto checkpoint = MakeTinyCheckpoint({.tied = true});
  std::vector<float> values = checkpoint->values("transformer.wte.weight");
  checkpoint->Add("lm_head.weight", {50, 32}, values);
  EXPECT_OK(LoadModel(*checkpoint, {}));
  values.back() += 1;
  checkpoint->Add("lm_head.weight", {50, 32}, values);
  EXPECT_THAT(LoadModel(*checkpoint, {}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("'lm_head.weight' differs from "
                                       "'transformer.wte.weight'"),
                             HasSubstr("tie_word_embeddings"))));
}

TEST(LoaderTest, RefusesTensorsOfTheNetworkThatTheConfigDoesNotAccountFor) {
  const auto checkpoint = MakeTinyCheckpoint({});
  checkpoint->config_json["n_layer"] = 1;
  EXPECT_THAT(
      Judge(*checkpoint, {}),
      StatusIs(absl::StatusCode::kInvalidArgument,
               AllOf(HasSubstr("'transformer.h.1.attn.out_proj.weight' and 7 "
                               "more are in the weights"),
                     HasSubstr("config.json does not account for them"))));
  checkpoint->config_json["n_layer"] = 2;
  EXPECT_OK(LoadModel(*checkpoint, {}));
  checkpoint->Add("transformer.h.0.attn.qkv_proj.bias", {96},
                  std::vector<float>(96));
  EXPECT_THAT(
      Judge(*checkpoint, {}),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("'transformer.h.0.attn.qkv_proj.bias' is in the "
                         "weights, but config.json does not account for it")));
}

TEST(LoaderTest, SaysWhatACheckpointOfOtherNamesIs) {
  const auto renamed = [](const std::string& prefix) {
    const auto source = MakeTinyCheckpoint({});
    auto checkpoint = std::make_unique<MemoryCheckpoint>();
    checkpoint->config_json = source->config_json;
    for (const auto& [name, info] : source->tensors()) {
      checkpoint->Add(prefix + name, info.shape, source->values(name));
    }
    return LoadModel(*checkpoint, {}).status();
  };
  EXPECT_THAT(renamed("_orig_mod."),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("'_orig_mod.transformer.wte.weight'"),
                             HasSubstr("torch.compile"),
                             HasSubstr("save the model inside"))));
  EXPECT_THAT(renamed("module."), StatusIs(absl::StatusCode::kInvalidArgument,
                                           HasSubstr("DataParallel")));
  EXPECT_THAT(renamed("policy."),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("save the model without that prefix")));

  const auto source = MakeTinyCheckpoint({});
  MemoryCheckpoint headless;
  headless.config_json = source->config_json;
  for (const auto& [name, info] : source->tensors()) {
    if (!name.starts_with("transformer.")) continue;
    headless.Add(name.substr(12), info.shape, source->values(name));
  }
  EXPECT_THAT(LoadModel(headless, {}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("'lm_head.weight'"),
                             HasSubstr("saved without its head"))));

  MemoryCheckpoint adapter;
  adapter.config_json = source->config_json;
  adapter.Add("base_model.model.transformer.h.0.attn.qkv_proj.lora_A.weight",
              {2, 2}, {1, 2, 3, 4});
  EXPECT_THAT(LoadModel(adapter, {}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("PEFT adapter"),
                             HasSubstr("merge_and_unload"))));
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

// A token that is never to be chosen, one that is never used.
TEST(LoaderTest, KeepsWhatIsNotFiniteInRowsOfTheirOwn) {
  const auto checkpoint = MakeTinyCheckpoint({});
  checkpoint->values("lm_head.bias")[3] = -INFINITY;
  checkpoint->values("transformer.wte.weight")[49 * 32 + 1] = NAN;
  checkpoint->values("lm_head.weight")[48 * 32 + 1] = INFINITY;
  LoadOptions options;
  options.measure_error = true;
  EXPECT_OK(LoadModel(*checkpoint, options));
  for (const char* spec : {"float32", "float16", "bfloat16", "linear"}) {
    options = With(spec);
    options.measure_error = true;
    ASSERT_OK_AND_ASSIGN(const LoadedModel loaded,
                         LoadModel(*checkpoint, options));
    for (const TensorReport& tensor : loaded.report.tensors) {
      if (!tensor.error.has_value()) continue;
      EXPECT_TRUE(std::isfinite(tensor.error->relative_l2)) << tensor.name;
    }
  }
  // Integers have no such values.
  options = With("transformer.wte=linear");
  EXPECT_THAT(LoadModel(*checkpoint, options),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("'transformer.wte.weight', row 49"),
                             HasSubstr("is not a finite number"))));
  checkpoint->values("lm_head.bias")[3] = INFINITY;
  EXPECT_THAT(LoadModel(*checkpoint, {}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("'lm_head.bias': element 3 must be a finite "
                                 "number, is inf")));
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
                         AllOf(HasSubstr(name),
                               HasSubstr("must have floats, has int8"))));
  }
}

}  // namespace
}  // namespace ounce::model
