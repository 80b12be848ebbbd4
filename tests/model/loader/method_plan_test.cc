#include "model/loader/method_plan.h"

#include <random>
#include <string>
#include <vector>

#include "base/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "quant/registry.h"
#include "tests/testing/status_matchers.h"

namespace ounce::model {
namespace {

using ::ounce::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// A method with parameters, which encodes nothing.
class Adjustable final : public quant::QuantMethod {
 public:
  std::string_view name() const override { return "adjustable"; }
  std::string_view summary() const override { return "For tests."; }
  absl::Span<const quant::ParamSpec> params() const override {
    static const std::vector<quant::ParamSpec> params = {
        {.name = "bits",
         .default_value = "8",
         .min = 2,
         .max = 8,
         .help = "bits"},
        {.name = "mode",
         .type = quant::ParamSpec::Type::kChoice,
         .default_value = "plain",
         .choices = {"plain", "fancy"},
         .help = "mode"}};
    return params;
  }
  absl::StatusOr<quant::CodeFormat> Format(
      int64_t, int64_t, quant::DType,
      const quant::ParamValues&) const override {
    return quant::CodeFormat{};
  }
  absl::StatusOr<std::unique_ptr<const quant::CodeRows>> Encode(
      const quant::FloatRows&, const quant::ParamValues&) const override {
    return absl::UnimplementedError("for tests");
  }
};

std::vector<const quant::QuantMethod*> Methods() {
  static const Adjustable adjustable;
  std::vector<const quant::QuantMethod*> methods(quant::AllMethods().begin(),
                                                 quant::AllMethods().end());
  methods.push_back(&adjustable);
  return methods;
}

MethodPlan Plan(std::string_view text) {
  absl::StatusOr<MethodPlan> plan = ParseMethodPlan(text, Methods());
  EXPECT_OK(plan.status()) << text.substr(0, 100);
  return plan.ok() ? *std::move(plan) : MethodPlan();
}

std::string Error(std::string_view text) {
  const absl::Status status = ParseMethodPlan(text, Methods()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
  return std::string(status.message());
}

TEST(MethodPlanTest, ReadsRulesInOrder) {
  const MethodPlan plan = Plan(
      "lm_head=keep *.mlp.*@linear=adjustable:bits=4,mode=fancy "
      "@convolution=linear float16");
  ASSERT_THAT(plan.rules, SizeIs(3));
  EXPECT_EQ(plan.rules[0].glob, "lm_head");
  EXPECT_EQ(plan.rules[0].role, std::nullopt);
  EXPECT_EQ(plan.rules[0].spec, std::nullopt);
  EXPECT_EQ(plan.rules[1].glob, "*.mlp.*");
  EXPECT_EQ(plan.rules[1].role, WeightRole::kLinear);
  EXPECT_EQ(plan.rules[1].spec->ToString(), "adjustable:bits=4,mode=fancy");
  EXPECT_EQ(plan.rules[2].glob, "*");
  EXPECT_EQ(plan.rules[2].role, WeightRole::kConvolution);
  EXPECT_EQ(plan.rest->ToString(), "float16");
  EXPECT_EQ(plan.float_dtype(), quant::DType::kF16);
  EXPECT_FALSE(plan.keeps_all());
}

TEST(MethodPlanTest, ARuleIsForItsNamesAndItsRole) {
  const MethodRule rule = Plan("*.fc@linear=linear").rules[0];
  EXPECT_TRUE(rule.Matches("a.fc", WeightRole::kLinear));
  EXPECT_FALSE(rule.Matches("a.fc", WeightRole::kHead));
  EXPECT_FALSE(rule.Matches("a.fd", WeightRole::kLinear));
  EXPECT_TRUE(Plan("*=linear").rules[0].Matches("x", WeightRole::kEmbedding));
  const MethodRule head = Plan("@head=linear").rules[0];
  EXPECT_TRUE(head.Matches("lm_head", WeightRole::kHead));
  EXPECT_FALSE(head.Matches("lm_head", WeightRole::kEmbedding));
}

TEST(MethodPlanTest, EqualPlansAreEqualTexts) {
  const std::pair<const char*, const char*> kTexts[] = {
      {"linear", "linear"},
      {"linear:bits=8", "linear"},
      {"adjustable:mode=fancy,bits=4", "adjustable:bits=4,mode=fancy"},
      {"keep", "keep"},
      {"a=linear:bits=8 keep", "a=linear"},
      {"*@head=keep linear", "@head=keep linear"},
      {"*=linear", "*=linear"},
      {"a*[0-9]@embedding=float32", "a*[0-9]@embedding=float32"},
      {"a=linear:untie=true linear", "a=linear:untie=true linear"},
      {"a=linear:untie=false linear:bits=8,untie=false", "a=linear linear"},
      {"float16:untie=true", "float16:untie=true"},
      {"linear:activations=8", "linear:activations=8"},
      {"linear:activations=16", "linear"},
      {"a=linear:activations=8,untie=true,bits=4 bnb-int8:activations=16",
       "a=linear:bits=4,untie=true,activations=8 bnb-int8"},
      {"adjustable:untie=true,mode=fancy,bits=4",
       "adjustable:bits=4,mode=fancy,untie=true"},
      {"a=prune-24+linear prune-magnitude:sparsity=.5+linear:bits=4",
       "a=prune-24+linear prune-magnitude+linear:bits=4"},
      {"a=prune-magnitude:per=row+bfloat16:untie=true",
       "a=prune-magnitude:per=row+bfloat16:untie=true"},
  };
  for (const auto& [given, canonical] : kTexts) {
    EXPECT_EQ(Plan(given).ToString(), canonical);
    EXPECT_EQ(Plan(canonical).ToString(), canonical);
  }
  EXPECT_TRUE(Plan("keep").keeps_all());
  EXPECT_EQ(MethodPlan().ToString(), "keep");
}

TEST(MethodPlanTest, NoMethodHasAParameterOfARuleKeysName) {
  for (const quant::ParamSpec& key : RuleKeys()) {
    EXPECT_FALSE(key.help.empty()) << key.name;
    for (const quant::QuantMethod* method : quant::AllMethods()) {
      for (const quant::ParamSpec& param : method->params()) {
        EXPECT_NE(param.name, key.name) << method->name();
      }
      const std::string text =
          StrCat(method->name(), ":", key.name, "=", key.default_value);
      EXPECT_EQ(Plan(text).ToString(), method->name());
    }
  }
}

// Pruned floats are no dtype for norms, embeddings and heads.
TEST(MethodPlanTest, StagesAreForTheLinearLayersWhereNoRuleNamesOthers) {
  EXPECT_EQ(Plan("prune-24+bfloat16").float_dtype(), std::nullopt);
  EXPECT_EQ(Plan("bfloat16").float_dtype(), quant::DType::kBF16);
}

TEST(MethodPlanTest, KeysOfARuleAreNoParametersOfItsMethod) {
  const RuleSpec spec = *Plan("adjustable:untie=true,bits=4").rest;
  EXPECT_TRUE(spec.untie());
  EXPECT_EQ(spec.method.ToString(), "adjustable:bits=4");
  EXPECT_FALSE(Plan("a=linear linear:untie=true").rules[0].spec->untie());
}

TEST(MethodPlanTest, SaysWhatIsWrongAndWhatAPlanLooksLike) {
  const std::pair<std::string, const char*> kCases[] = {
      {"", "is empty"},
      {" linear", "has a space at an end, or two in a row"},
      {"linear ", "has a space at an end, or two in a row"},
      {"a=keep  linear", "has a space at an end, or two in a row"},
      {"linear a=keep",
       "rule 'linear' has no selector, so it must be the last"},
      {"keep linear", "rule 'keep' has no selector, so it must be the last"},
      {"a=octonions", "rule 'a=octonions': unknown quantization method"},
      {"a=", "rule 'a=': unknown quantization method ''"},
      {"a=keep:bits=3", "rule 'a=keep:bits=3': keep takes no parameters"},
      {"=linear", "rule '=linear': the name of a module is missing"},
      {"@heads=linear", "unknown role 'heads'; there are linear, head, "},
      {"a@=linear", "unknown role ''"},
      {"a@b@head=linear", "has '@', which no module has in its name"},
      {"a\tb=linear", "has '\\t', which no module has in its name"},
      {"caf\xc3\xa9=linear", "which no module has in its name"},
      {"a[0-9=linear", "has a '[' without its ']'"},
      {"a\n=keep linear", "rule 'a\\n=keep'"},
      {"adjustable:bits=9", "parameter 'bits' of method 'adjustable' must be"},
      {"linear:activations=4",
       "parameter 'activations' of a rule must be one of 8, 16, is '4'"},
      {"a=float16:activations=8 linear",
       "rule 'a=float16:activations=8': activations=8 is for products of "
       "integers, and float16 stores floats; leave it out, or take a method "
       "of integers"},
      {"bnb-int8:activations=8",
       "bnb-int8 rounds activations to 8 bits of its own accord; leave "
       "activations out"},
      {"linear:untie=1",
       "parameter 'untie' of a rule must be true or false, is '1'"},
      {"linear:untie",
       "must be written key=value with commas between, one is "
       "'untie'; a rule takes untie (true or false; default"},
      {"linear:untie=true,untie=true", "parameter 'untie' is given twice"},
      {"linear:untie=true,", "with commas between, one is empty; method"},
      {"adjustable:tie=true",
       "default plain); beside its method's parameters a SPEC takes untie "
       "(true "
       "or false; default false), activations (one of 8, 16; default 16), "
       "requantize (true or false; default false); a "
       "plan is"},
      {"a=keep:untie=true", "keep takes no parameters; leave them out"},
      {"a=prune+linear", "unknown stage 'prune'; known stages are"},
      {"a=prune-24:untie=true+linear", "unknown parameter 'untie'; stage"},
      {"prune-24", "stage 'prune-24' needs a method behind it"},
  };
  for (const auto& [text, words] : kCases) {
    EXPECT_THAT(Error(text),
                AllOf(HasSubstr(words), HasSubstr("a plan is SELECTOR=SPEC")));
  }
}

TEST(MethodPlanTest, KeysOfARuleAreListedOnlyWhereOneMayBeMeant) {
  for (const char* text :
       {"linear:bits=9", "a=adjustable:bits=9,untie=true", "octonions:a=b"}) {
    EXPECT_THAT(Error(text), ::testing::Not(HasSubstr("a SPEC takes"))) << text;
  }
  for (const char* text : {"linear:tie=true", "linear:bits=4,tied"}) {
    EXPECT_THAT(Error(text), HasSubstr("a SPEC takes untie")) << text;
  }
}

TEST(MethodPlanTest, APlanIsNoSpec) {
  for (const char* text : {"keep", "lm_head=keep linear", "@convolution=linear",
                           "linear a=keep", "*.mlp.*=linear:bits=4"}) {
    EXPECT_THAT(PlanOf("", {.method = text}).status(),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("method: must be a SPEC"),
                               HasSubstr(StrCat("'", text, "' is a plan")),
                               HasSubstr("--plan"))));
  }
  for (const char* text : {"linear", "linear:bits=4", "prune-24+linear:bits=4",
                           "linear :bits=4", "octonions"}) {
    EXPECT_OK(CheckIsNoPlan(text)) << text;
  }
}

TEST(MethodPlanTest, BoundsWhatComesFromTheWireAndQuotesLittleOfIt) {
  EXPECT_THAT(Error(std::string(kMaxPlanBytes + 1, 'a')),
              HasSubstr("must be at most 1048576 bytes, is 1048577"));
  EXPECT_THAT(Error(std::string(kMaxGlobBytes + 1, 'a') + "=linear"),
              HasSubstr("a glob must be at most 256 bytes, is 257"));
  std::string many;
  for (size_t i = 1; i < kMaxPlanRules; ++i) many += "a=keep ";
  EXPECT_EQ(Plan(many + "linear").rules.size(), kMaxPlanRules - 1);
  EXPECT_THAT(Error(many + "a=keep linear"),
              HasSubstr("must have at most 2050 rules"));
  // The methods that there are, are listed, too.
  EXPECT_LT(Error(std::string(100'000, 'a')).size(), Error("a").size() + 300);
  EXPECT_LT(Error(std::string(100'000, '\x01') + "=linear").size(), 1500u);
}

TEST(MethodPlanTest, TheLabelIsTheTextOrItsBeginning) {
  EXPECT_EQ(Plan("lm_head=keep linear").Label(), "lm_head=keep linear");
  std::string text = "linear";
  for (int i = 0; i < 40; ++i) text = "layer=keep " + text;
  const std::string label = Plan(text).Label();
  EXPECT_EQ(label.size(), 128u);
  EXPECT_THAT(label, AllOf(::testing::StartsWith("layer=keep layer=keep"),
                           ::testing::EndsWith("... (41 rules)")));
}

TEST(MethodPlanTest, GeneratedPlansComeBackFromTheirTexts) {
  const char* const kSpecs[] = {"keep",
                                "linear",
                                "float16",
                                "bfloat16",
                                "linear:untie=true",
                                "linear:untie=true,bits=4",
                                "prune-24+linear:untie=true",
                                "prune-magnitude:sparsity=0.25+bfloat16",
                                "adjustable:bits=4",
                                "adjustable:mode=fancy"};
  const char* const kParts[] = {"a", ".", "*",       "?",   "[0-9]", "[!x]",
                                "_", "-", "lm_head", "mlp", "7"};
  const char* const kRoleNames[] = {"", "@linear", "@head", "@embedding",
                                    "@convolution"};
  std::mt19937 random(7);
  const auto pick = [&](const auto& of) {
    return std::string(of[random() % std::size(of)]);
  };
  for (int i = 0; i < 2000; ++i) {
    std::string text;
    const uint32_t rules = random() % 5;
    for (uint32_t r = 0; r < rules; ++r) {
      std::string glob;
      for (uint32_t n = random() % 4 + 1; n > 0; --n) glob += pick(kParts);
      text += glob + pick(kRoleNames) + "=" + pick(kSpecs) + " ";
    }
    text += pick(kSpecs);
    const MethodPlan plan = Plan(text);
    const std::string canonical = plan.ToString();
    EXPECT_EQ(Plan(canonical).ToString(), canonical) << text;
    EXPECT_EQ(plan.rules.size(), rules) << text;
    if (const auto form = ShortFormOf(plan)) {
      if (form->method.find("adjustable") == 0) continue;  // of this test's
      ASSERT_OK_AND_ASSIGN(const MethodPlan again, PlanOf("", *form));
      EXPECT_EQ(again.ToString(), canonical);
    }
  }
}

std::string TextOf(const ShortForm& form) {
  const auto plan = PlanOf("", form);
  EXPECT_OK(plan.status());
  return plan.ok() ? plan->ToString() : "";
}

TEST(MethodPlanTest, ShortFormsBecomePlansAndAreFoundInThem) {
  const std::pair<ShortForm, const char*> kForms[] = {
      {{.method = ""}, "keep"},
      {{.method = "linear:bits=8"}, "linear"},
      {{.method = "linear", .exclude = {"lm_head"}}, "lm_head=keep linear"},
      {{.method = "linear", .convolutions = true},
       "@convolution=linear linear"},
      {{.method = "linear:untie=true", .include = {"lm_head"}},
       "lm_head=linear:untie=true"},
      {{.method = "linear", .include = {"lm_head", "*.mlp.*"}},
       "lm_head=linear *.mlp.*=linear"},
      {{.method = "float16",
        .include = {"c"},
        .exclude = {"a", "b"},
        .convolutions = true},
       "a=keep b=keep @convolution=float16 c=float16"},
  };
  for (const auto& [form, text] : kForms) {
    EXPECT_EQ(TextOf(form), text);
    const std::optional<ShortForm> found = ShortFormOf(Plan(text));
    ASSERT_TRUE(found.has_value()) << text;
    EXPECT_EQ(found->include, form.include);
    EXPECT_EQ(found->exclude, form.exclude);
    EXPECT_EQ(found->convolutions, form.convolutions);
  }
  for (const char* text :
       {"a=linear linear", "a=linear:untie=true linear",
        "a=linear b=keep linear", "a=float16 linear", "@head=linear linear",
        "@convolution=linear", "a=keep", "@convolution=float16 linear",
        "a=float16 b=linear", "@head=keep linear"}) {
    EXPECT_FALSE(ShortFormOf(Plan(text)).has_value()) << text;
  }
}

TEST(MethodPlanTest, AShortFormNeedsAMethodAndNamesThatAPlanCanHave) {
  const auto error = [](const ShortForm& form) {
    return PlanOf("", form).status();
  };
  EXPECT_THAT(error({.method = "", .convolutions = true}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "convolutions: needs a method to apply, and none is "
                       "given"));
  EXPECT_THAT(error({.method = "", .include = {"a"}}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("include: needs a method")));
  EXPECT_THAT(error({.method = "", .exclude = {"a"}}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("exclude: needs a method")));
  EXPECT_THAT(error({.method = "octonions"}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("known methods are")));
  EXPECT_THAT(error({.method = "linear", .include = {"a b"}}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "include: glob 'a b' has ' ', which no module has in "
                       "its name"));
  EXPECT_THAT(error({.method = "linear", .exclude = {""}}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "exclude: the name of a module is missing"));
  EXPECT_THAT(error({.method = "linear", .exclude = {"a[1-0]"}}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("a range that goes down")));
}

TEST(MethodPlanTest, BothFormsAtOnceAreRefused) {
  const ShortForm kForms[] = {{.method = "linear"},
                              {.method = "", .include = {"a"}},
                              {.method = "", .exclude = {"a"}},
                              {.method = "", .convolutions = true}};
  for (const ShortForm& form : kForms) {
    EXPECT_THAT(PlanOf("linear", form).status(),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("says all by itself"),
                               HasSubstr("leave these out, or the plan"))));
  }
  ASSERT_OK_AND_ASSIGN(const MethodPlan plan, PlanOf("a=keep linear", {}));
  EXPECT_THAT(plan.rules, SizeIs(1));
  EXPECT_FALSE(plan.drops_idle_rules);
  EXPECT_THAT(PlanOf("x=y", {}).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("rule 'x=y': unknown")));
}

}  // namespace
}  // namespace ounce::model
