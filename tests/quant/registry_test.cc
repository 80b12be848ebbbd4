#include "quant/registry.h"

#include <string>

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
      EXPECT_TRUE(ParseMethodSpec(text).ok()) << text;
    }
  }
}

TEST(RegistryTest, TextOfASpecNamesAllParametersAndParsesToTheSame) {
  const auto spec = ParseMethodSpec("linear:granularity=channel,bits=8");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ("linear:bits=8,mode=symmetric,granularity=channel",
            spec->ToString());
  EXPECT_EQ(spec->ToString(), ParseMethodSpec(spec->ToString())->ToString());
  EXPECT_EQ(spec->ToString(), ParseMethodSpec("linear")->ToString());
  EXPECT_EQ("float32", ParseMethodSpec("float32")->ToString());
}

TEST(RegistryTest, UnknownMethodsAreNamedBesideTheKnown) {
  EXPECT_EQ(
      "unknown quantization method 'int3'; known methods are float32, float16, "
      "bfloat16, linear",
      Error("int3"));
  for (const char* text : {"", " linear", "Linear", "linear ", ":bits=8",
                           "linear,bits=8", "linear\n"}) {
    EXPECT_THAT(Error(text), HasSubstr("unknown quantization method"));
  }
}

TEST(RegistryTest, UnknownParametersAreNamedBesideTheKnown) {
  EXPECT_THAT(Error("linear:bit=8"),
              AllOf(HasSubstr("unknown parameter 'bit'"),
                    HasSubstr("bits (one of 8; default 8)"),
                    HasSubstr("mode (one of symmetric; default symmetric)")));
  EXPECT_THAT(Error("float32:bits=8"),
              HasSubstr("method 'float32' takes no parameters"));
}

TEST(RegistryTest, BadValuesAreNamed) {
  for (const char* value : {"4", "", "eight", "08", "8 ", "-8", "8=8"}) {
    EXPECT_THAT(Error(std::string("linear:bits=") + value),
                HasSubstr("parameter 'bits' has the value '" +
                          std::string(value) + "'"));
  }
}

TEST(RegistryTest, DuplicatesAndFragmentsAreRefused) {
  EXPECT_THAT(Error("linear:bits=8,bits=8"), HasSubstr("given twice"));
  for (const char* text : {"linear:", "linear:bits", "linear:=8", "linear:,",
                           "linear:bits=8,", "linear:,bits=8"}) {
    EXPECT_THAT(Error(text), HasSubstr("where key=value is wanted"));
  }
}

TEST(RegistryTest, MessagesQuoteLittleOfALongText) {
  const std::string megabytes(10 << 20, 'x');
  EXPECT_LT(Error(megabytes).size(), 300u);
  EXPECT_LT(Error("linear:" + megabytes).size(), 500u);
  EXPECT_LT(Error("linear:bits=" + megabytes).size(), 500u);
  EXPECT_LT(Error("linear:" + megabytes + "=8").size(), 500u);
}

TEST(RegistryTest, EachFloatDTypeHasItsMethod) {
  EXPECT_EQ("float32", FloatMethodFor(DType::kF64).ToString());
  EXPECT_EQ("float32", FloatMethodFor(DType::kF32).ToString());
  EXPECT_EQ("float16", FloatMethodFor(DType::kF16).ToString());
  EXPECT_EQ("bfloat16", FloatMethodFor(DType::kBF16).ToString());
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    EXPECT_TRUE(FloatMethodFor(dtype).method->lossless_from(dtype));
  }
}

}  // namespace
}  // namespace ounce::quant
