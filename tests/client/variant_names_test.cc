#include "client/variant_names.h"

#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ounce::client {
namespace {

using ::testing::ElementsAre;

TEST(VariantNamesTest, CallsThePublishedOnesAsTheyArePublished) {
  EXPECT_THAT(VariantNames({"keep", "lm_head=keep linear", "linear", "bnb-int8",
                            "bnb-nf4"}),
              ElementsAre("original", "selective_8bit", "quantized_8bit",
                          "8bit", "nf4"));
  EXPECT_THAT(VariantNames({"linear:granularity=tensor,mode=asymmetric"}),
              ElementsAre("quantized_8bit"));
  EXPECT_THAT(VariantNames({"*.attn.*=linear:bits=8 *=keep"}),
              ElementsAre("selective_8bit"));
}

TEST(VariantNamesTest, CallsOthersByTheirSpec) {
  EXPECT_THAT(
      VariantNames({"ks4", "linear:bits=4,granularity=group",
                    "*.mlp.*=linear:bits=4 linear", "prune-24+linear",
                    "bnb-nf4:double_quant=true", "@head=keep bnb-int8"}),
      ElementsAre("ks4", "linear_bits-4_granularity-group",
                  "mlp._-linear_bits-4_linear", "prune-24_linear",
                  "bnb-nf4_double_quant-true", "head-keep_bnb-int8"));
}

TEST(VariantNamesTest, GivesEachNameOnce) {
  EXPECT_THAT(VariantNames({"linear", "linear:granularity=tensor", "*=linear",
                            "?=linear"}),
              ElementsAre("quantized_8bit", "linear_granularity-tensor",
                          "linear", "linear_2"));
}

TEST(VariantNamesTest, MakesNamesOfAnythingThatAreSafeInAPath) {
  const std::vector<std::string> names = VariantNames(
      {"../../etc=linear:bits=4", "***", ".", "a/b", "-x", "\xff\n'\"$`",
       std::string(1000, 'a'), absl::StrCat(std::string(1000, 'a'), "b")});
  EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(),
            names.size());
  for (const std::string& name : names) {
    EXPECT_TRUE(absl::ascii_isalnum(name[0])) << name;
    EXPECT_LE(name.size(), 110u);
    EXPECT_EQ(name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNO"
                                     "PQRSTUVWXYZ0123456789._-"),
              std::string::npos)
        << name;
  }
}

}  // namespace
}  // namespace ounce::client
