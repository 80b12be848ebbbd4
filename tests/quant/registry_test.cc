#include "quant/registry.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ounce::quant {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string Error(std::string_view text) {
  const auto spec = ParseMethodSpec(text);
  EXPECT_EQ(absl::StatusCode::kInvalidArgument, spec.status().code()) << text;
  return std::string(spec.status().message());
}

TEST(RegistryTest, FindsEveryMethodByItsName) {
  EXPECT_FALSE(AllMethods().empty());
  for (const QuantMethod* method : AllMethods()) {
    const auto spec = ParseMethodSpec(method->name());
    ASSERT_TRUE(spec.ok()) << spec.status();
    EXPECT_EQ(method, spec->method);
    EXPECT_EQ(method->params().size(), spec->params.size());
    EXPECT_FALSE(method->summary().empty());
  }
}

TEST(RegistryTest, EveryMethodDeclaresParametersThatItsDefaultsFit) {
  for (const QuantMethod* method : AllMethods()) {
    for (const ParamSpec& param : method->params()) {
      EXPECT_FALSE(param.help.empty());
      const std::string text = std::string(method->name()) + ":" +
                               std::string(param.name) + "=" +
                               std::string(param.default_value);
      const auto spec = ParseMethodSpec(text);
      ASSERT_TRUE(spec.ok()) << spec.status();
      EXPECT_EQ(method->name(), spec->ToString());
    }
  }
}

// A method with several values for each parameter, which packs nothing.
class Adjustable final : public QuantMethod {
 public:
  std::string_view name() const override { return "adjustable"; }
  std::string_view summary() const override { return "For tests."; }
  absl::Span<const ParamSpec> params() const override {
    static const std::vector<ParamSpec> params = {
        {.name = "bits",
         .default_value = "8",
         .min = 1,
         .max = 64,
         .help = "bits"},
        {.name = "mode",
         .type = ParamSpec::Type::kChoice,
         .default_value = "plain",
         .choices = {"plain", "fancy"},
         .help = "mode"},
        {.name = "group",
         .default_value = "-1",
         .min = -1,
         .max = 4096,
         .help = "group"},
        {.name = "threshold",
         .type = ParamSpec::Type::kNumber,
         .default_value = "0.5",
         .lowest = -2,
         .highest = 1e30,
         .help = "threshold"},
        {.name = "twice",
         .type = ParamSpec::Type::kBoolean,
         .default_value = "false",
         .help = "twice"},
    };
    return params;
  }
  absl::StatusOr<CodeFormat> Format(int64_t, int64_t, DType,
                                    const ParamValues&) const override {
    return absl::UnimplementedError("");
  }
  absl::StatusOr<std::unique_ptr<const CodeRows>> Encode(
      const FloatRows&, const ParamValues&) const override {
    return absl::UnimplementedError("");
  }
};

absl::StatusOr<MethodSpec> ParseAdjustable(std::string_view text) {
  static const Adjustable method;
  static const QuantMethod* const kMethods[] = {&method};
  return ParseMethodSpec(text, kMethods);
}

TEST(RegistryTest, TextOfASpecNamesWhatDiffersFromDefaultsInDeclaredOrder) {
  struct Case {
    const char* given;
    const char* text;
  };
  for (const Case& c : {
           Case{"adjustable", "adjustable"},
           Case{"adjustable:bits=8", "adjustable"},
           Case{"adjustable:group=-1,mode=plain,bits=8", "adjustable"},
           Case{"adjustable:bits=4", "adjustable:bits=4"},
           Case{"adjustable:group=128,bits=4", "adjustable:bits=4,group=128"},
           Case{"adjustable:mode=fancy,bits=8", "adjustable:mode=fancy"},
           Case{"adjustable:group=0,mode=fancy,bits=1",
                "adjustable:bits=1,mode=fancy,group=0"},
           Case{"adjustable:threshold=0.5", "adjustable"},
           Case{"adjustable:threshold=5e-1,twice=false", "adjustable"},
           Case{"adjustable:threshold=6.0", "adjustable:threshold=6"},
           Case{"adjustable:threshold=-0", "adjustable:threshold=0"},
           Case{"adjustable:threshold=1e30", "adjustable:threshold=1e+30"},
           Case{"adjustable:threshold=0.1000000000000000055",
                "adjustable:threshold=0.1"},
           Case{"adjustable:twice=true,threshold=-2",
                "adjustable:threshold=-2,twice=true"},
       }) {
    const auto spec = ParseAdjustable(c.given);
    ASSERT_TRUE(spec.ok()) << spec.status();
    EXPECT_EQ(c.text, spec->ToString());
    const auto again = ParseAdjustable(spec->ToString());
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(spec->params, again->params);
    EXPECT_EQ(c.text, again->ToString());
  }
}

TEST(RegistryTest, BothFormsOfASpecAreOneMethodUnderTheShortName) {
  for (const char* text :
       {"linear", "linear:bits=8", "linear:granularity=channel,bits=8",
        "linear:bits=8,mode=symmetric,granularity=channel,group=64"}) {
    const auto spec = ParseMethodSpec(text);
    ASSERT_TRUE(spec.ok()) << spec.status();
    EXPECT_EQ("linear", spec->ToString());
    EXPECT_EQ(spec->method->params().size(), spec->params.size());
  }
  for (const QuantMethod* method : AllMethods()) {
    EXPECT_EQ(method->name(), ParseMethodSpec(method->name())->ToString());
  }
}

TEST(RegistryTest, UnknownMethodsAreNamedBesideTheKnown) {
  EXPECT_THAT(Error("int3"),
              HasSubstr("unknown quantization method 'int3'; known methods are "
                        "float32, float16, bfloat16, linear"));
  for (const QuantMethod* method : AllMethods()) {
    EXPECT_THAT(Error("int3"), HasSubstr(std::string(method->name())));
  }
  for (const char* text : {"", "Linear", ":bits=8", "linear,bits=8"}) {
    EXPECT_THAT(Error(text), HasSubstr("unknown quantization method"));
  }
}

TEST(RegistryTest, UnknownParametersAreNamedBesideTheKnown) {
  EXPECT_THAT(Error("linear:bit=8"),
              AllOf(HasSubstr("unknown parameter 'bit'"),
                    HasSubstr("bits (an integer from 2 to 8; default 8)"),
                    HasSubstr("mode (one of symmetric, asymmetric; default "
                              "symmetric)")));
  EXPECT_EQ(
      "unknown parameter 'bit'; method 'adjustable' takes bits (an integer "
      "from 1 to 64; default 8), mode (one of plain, fancy; default plain), "
      "group (an integer from -1 to 4096; default -1), threshold (a number "
      "from -2 to 1e+30; default 0.5), twice (true or false; default false)",
      ParseAdjustable("adjustable:bit=8").status().message());
  EXPECT_THAT(Error("float32:bits=8"),
              HasSubstr("method 'float32' takes no parameters"));
}

TEST(RegistryTest, BadValuesAreNamed) {
  for (const char* value : {"1", "9", "eight", "08", "-8", "8=8"}) {
    EXPECT_EQ(
        "parameter 'bits' of method 'linear' must be an integer from 2 "
        "to 8, is '" +
            std::string(value) + "'",
        Error(std::string("linear:bits=") + value));
  }
  for (const char* value : {"0", "65", "+4", "4.0", "9999999999999999999"}) {
    EXPECT_EQ(
        "parameter 'bits' of method 'adjustable' must be an integer from 1 to "
        "64, is '" +
            std::string(value) + "'",
        ParseAdjustable(std::string("adjustable:bits=") + value)
            .status()
            .message());
  }
}

TEST(RegistryTest, BadNumbersAndBooleansAreNamed) {
  for (const char* value : {"-2.001", "1.1e30", "nan", "inf", "-inf", "1e999",
                            "six", "0,5", "1e"}) {
    EXPECT_FALSE(
        ParseAdjustable(std::string("adjustable:threshold=") + value).ok())
        << value;
  }
  EXPECT_EQ(
      "parameter 'threshold' of method 'adjustable' must be a number from -2 "
      "to "
      "1e+30, is 'nan'",
      ParseAdjustable("adjustable:threshold=nan").status().message());
  for (const char* value : {"1", "yes", "True", "TRUE", "truer"}) {
    EXPECT_EQ(
        "parameter 'twice' of method 'adjustable' must be true or false, is '" +
            std::string(value) + "'",
        ParseAdjustable(std::string("adjustable:twice=") + value)
            .status()
            .message());
  }
}

TEST(RegistryTest, ValuesAreReadByTheirTypes) {
  const ParamValues params =
      ParseAdjustable("adjustable:bits=4,threshold=-1.25,twice=true")->params;
  EXPECT_EQ(4, IntegerOf(params, "bits"));
  EXPECT_EQ(-1, IntegerOf(params, "group"));
  EXPECT_EQ(-1.25, NumberOf(params, "threshold"));
  EXPECT_TRUE(BooleanOf(params, "twice"));
  EXPECT_FALSE(BooleanOf(ParseAdjustable("adjustable")->params, "twice"));
}

TEST(RegistryTest, EmptyValuesAreRefused) {
  for (const char* text : {"linear:bits=", "linear:bits=,mode=symmetric"}) {
    EXPECT_EQ(
        "parameter 'bits' of method 'linear' must be an integer from 2 to 8, "
        "is empty",
        Error(text));
  }
}

TEST(RegistryTest, WhitespaceIsRefused) {
  for (const char* text :
       {" linear", "linear ", "linear\n", "linear: bits=8", "linear:bits =8",
        "linear:bits=8, mode=symmetric", "linear:bits=\t8"}) {
    EXPECT_THAT(Error(text), HasSubstr("must be without whitespace"));
  }
}

TEST(RegistryTest, DuplicatesAndFragmentsAreRefused) {
  EXPECT_EQ("parameter 'bits' is given twice", Error("linear:bits=8,bits=8"));
  for (const char* text :
       {"linear:", "linear:,", "linear:bits=8,", "linear:,bits=8"}) {
    EXPECT_THAT(Error(text),
                HasSubstr("must be written key=value with commas between, one "
                          "is empty"));
  }
  for (const char* text : {"linear:bits", "linear:=8", "linear::bits"}) {
    EXPECT_THAT(Error(text), HasSubstr("commas between, one is '"));
  }
}

TEST(RegistryTest, MessagesQuoteLittleOfALongText) {
  // 80 bytes of it, and how many there are.
  constexpr size_t kQuote = 110;
  const std::string megabytes(10 << 20, 'x');
  EXPECT_LT(Error(megabytes).size(), Error("x").size() + kQuote);
  EXPECT_LT(Error("linear:" + megabytes).size(),
            Error("linear:x").size() + kQuote);
  EXPECT_LT(Error("linear:bits=" + megabytes).size(),
            Error("linear:bits=x").size() + kQuote);
  EXPECT_LT(Error("linear:" + megabytes + "=8").size(),
            Error("linear:x=8").size() + kQuote);
}

TEST(RegistryTest, EachFloatDTypeHasItsMethod) {
  EXPECT_EQ("float32", FloatMethodFor(DType::kF64).ToString());
  EXPECT_EQ("float32", FloatMethodFor(DType::kF32).ToString());
  EXPECT_EQ("float16", FloatMethodFor(DType::kF16).ToString());
  EXPECT_EQ("bfloat16", FloatMethodFor(DType::kBF16).ToString());
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    EXPECT_TRUE(FloatMethodFor(dtype).lossless_from(dtype));
  }
}

}  // namespace
}  // namespace ounce::quant
