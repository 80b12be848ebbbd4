#include "model/decoder/rope_config.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/testing/status_matchers.h"

namespace ounce::model {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

// Units in the last place between two positive numbers.
int64_t Apart(float a, float b) {
  int32_t a_bits, b_bits;
  std::memcpy(&a_bits, &a, sizeof a);
  std::memcpy(&b_bits, &b, sizeof b);
  return std::abs(int64_t{a_bits} - b_bits);
}

constexpr RopeKeys kPartialKeys = {.partial = "partial_rotary_factor"};

absl::StatusOr<RopeSpec> Read(const json& config,
                              const RopeKeys& keys = kPartialKeys) {
  return ReadRope(config, RopePairing::kHalves, /*head_dim=*/20,
                  /*max_positions=*/8192, keys);
}

struct Golden {
  std::string name;
  json data;
};

std::vector<Golden> Goldens() {
  std::vector<Golden> goldens;
  for (const auto& entry :
       std::filesystem::directory_iterator("tests/golden/rope")) {
    goldens.push_back(
        {entry.path().stem(), json::parse(std::ifstream(entry.path()))});
  }
  return goldens;
}

TEST(RopeConfigTest, FrequenciesAndMagnitudeAreThoseOfTransformers) {
  const std::vector<Golden> goldens = Goldens();
  ASSERT_GE(goldens.size(), 14);
  for (const auto& [name, data] : goldens) {
    const json& config = data["config"];
    const auto rope = ReadRope(config, RopePairing::kHalves, data["head_dim"],
                               config["max_position_embeddings"], kPartialKeys);
    ASSERT_OK(rope.status()) << name;
    EXPECT_EQ(rope->magnitude, data["magnitude"].get<float>()) << name;
    const auto wanted = data["frequencies"].get<std::vector<float>>();
    ASSERT_EQ(rope->frequencies.size(), wanted.size()) << name;
    ASSERT_EQ(rope->rotary_dim, 2 * static_cast<int64_t>(wanted.size()));
    for (size_t j = 0; j < wanted.size(); ++j) {
      // torch has a powf of its own.
      EXPECT_LE(Apart(rope->frequencies[j], wanted[j]), 1)
          << name << ", pair " << j << ": " << rope->frequencies[j]
          << " instead of " << wanted[j];
    }
  }
}

TEST(RopeConfigTest, AnglesAtAnyPositionAreThoseOfTransformers) {
  for (const auto& [name, data] : Goldens()) {
    const auto frequencies = data["frequencies"].get<std::vector<float>>();
    const auto pairs = static_cast<int64_t>(frequencies.size());
    const Rope rope({.pairing = RopePairing::kHalves,
                     .rotary_dim = 2 * pairs,
                     .frequencies = frequencies,
                     .magnitude = data["magnitude"]});
    size_t at = 0;
    for (const int64_t position : data["positions"]) {
      std::vector<float> angles(2 * pairs);
      rope.Angles(position, angles.data());
      for (int64_t j = 0; j < pairs; ++j, ++at) {
        // A rounding or two of numbers up to the magnitude; an angle that is
        // not rounded to float32 would be off by 1e-4 at such positions.
        EXPECT_NEAR(angles[2 * j], data["cos"][at].get<float>(), 2.5e-7)
            << name << ", position " << position << ", pair " << j;
        EXPECT_NEAR(angles[2 * j + 1], data["sin"][at].get<float>(), 2.5e-7)
            << name << ", position " << position << ", pair " << j;
      }
    }
  }
}

TEST(RopeConfigTest, AbsentKeysHaveTheClasssDefaults) {
  const auto rope = Read(json::object(), {.absent_base = 500,
                                          .partial = "partial_rotary_factor",
                                          .absent_partial = 0.5});
  ASSERT_OK(rope.status());
  EXPECT_EQ(rope->rotary_dim, 10);
  EXPECT_EQ(rope->frequencies, RopeFrequencies(10, 500));
  EXPECT_EQ(rope->magnitude, 1);
  EXPECT_EQ(rope->pairing, RopePairing::kHalves);
}

TEST(RopeConfigTest, AClassMayHaveOtherNamesForTheKeys) {
  const RopeKeys keys = {.base = "rotary_emb_base", .partial = "rotary_pct"};
  const auto rope = Read(
      {{"rotary_emb_base", 777}, {"rotary_pct", 0.3}, {"rope_theta", 5}}, keys);
  ASSERT_OK(rope.status());
  EXPECT_EQ(rope->frequencies, RopeFrequencies(6, 777));
}

TEST(RopeConfigTest, HeadsOfAClassWithoutThePartTurnAsAWhole) {
  const auto rope = Read({{"rope_parameters", {{"partial_rotary_factor", 1}}}},
                         {.partial = ""});
  ASSERT_OK(rope.status());
  EXPECT_EQ(rope->rotary_dim, 20);
  EXPECT_THAT(
      Read({{"rope_parameters", {{"partial_rotary_factor", 0.5}}}},
           {.partial = ""})
          .status(),
      testing::StatusIs(absl::StatusCode::kUnimplemented,
                        HasSubstr("'partial_rotary_factor' must be 1")));
}

TEST(RopeConfigTest, NothingIsScaledByNullOrDefault) {
  for (const json& scaling :
       {json(nullptr), json{{"rope_type", "default"}},
        json{{"type", "default"}, {"rope_type", "default"}}}) {
    const auto rope = Read({{"rope_scaling", scaling}});
    ASSERT_OK(rope.status());
    EXPECT_EQ(rope->frequencies, RopeFrequencies(20, 10000));
  }
}

TEST(RopeConfigTest, NewerConfigsHaveAllInRopeParameters) {
  const auto plain = Read({{"rope_parameters",
                            {{"rope_theta", 1e6},
                             {"rope_type", "default"},
                             {"partial_rotary_factor", 0.5}}}});
  ASSERT_OK(plain.status());
  EXPECT_EQ(plain->frequencies, RopeFrequencies(10, 1e6));
  const auto untyped =
      Read({{"rope_parameters", {{"rope_theta", 1e6}}}, {"rope_theta", 1e6}});
  ASSERT_OK(untyped.status());
  EXPECT_EQ(untyped->frequencies, RopeFrequencies(20, 1e6));
  const auto scaled =
      Read({{"rope_theta", 1e6},
            {"rope_parameters", {{"rope_type", "linear"}, {"factor", 2}}}});
  ASSERT_OK(scaled.status());
  std::vector<float> wanted = RopeFrequencies(20, 1e6);
  for (float& f : wanted) f /= 2;
  EXPECT_EQ(scaled->frequencies, wanted);
}

TEST(RopeConfigTest, RefusesWhatItCannotDoByName) {
  struct Case {
    json config;
    absl::StatusCode code;
    std::string message;
  };
  constexpr auto kWrong = absl::StatusCode::kInvalidArgument;
  constexpr auto kUnsupported = absl::StatusCode::kUnimplemented;
  const auto scaling = [](json object) {
    return json{{"rope_scaling", std::move(object)}};
  };
  const std::vector<Case> cases = {
      {scaling({{"type", "longrope"},
                {"short_factor", {1.0}},
                {"long_factor", {1.0}}}),
       kUnsupported, "rope_scaling: type 'longrope' is not supported"},
      {scaling({{"rope_type", "mrope"}}), kUnsupported, "'mrope'"},
      {scaling({{"rope_type", "m\n\u00fc"}}), kUnsupported,
       "type 'm\\n\\u00fc' is not supported"},
      {{{"rope_parameters", {{"rope_type", "proportional"}}}},
       kUnsupported,
       "rope_parameters: type 'proportional' is not supported"},
      {{{"rope_parameters", {{"full_attention", {{"rope_theta", 1e4}}}}}},
       kUnsupported,
       "each type of layer"},
      {scaling("linear"), kWrong, "'rope_scaling' must be an object"},
      {scaling({{"factor", 2}}), kWrong,
       "rope_scaling: 'rope_type' is missing"},
      {scaling({{"rope_type", 3}}), kWrong, "'rope_type'"},
      {scaling({{"rope_type", "linear"}, {"type", "yarn"}, {"factor", 2}}),
       kWrong, "two names of one thing"},
      {scaling({{"type", "linear"}}), kWrong, "'factor'"},
      {scaling({{"type", "linear"}, {"factor", "two"}}), kWrong, "'factor'"},
      {scaling({{"type", "linear"}, {"factor", 0}}), kWrong, "'factor'"},
      {scaling({{"type", "linear"}, {"factor", -2}}), kWrong, "'factor'"},
      {scaling({{"type", "dynamic"}}), kWrong, "'factor'"},
      {scaling({{"type", "yarn"}}), kWrong, "'factor'"},
      {scaling({{"type", "yarn"}, {"factor", 2}, {"beta_fast", "fast"}}),
       kWrong, "'beta_fast'"},
      {scaling({{"type", "yarn"}, {"factor", 2}, {"attention_factor", -1}}),
       kWrong, "'attention_factor'"},
      {scaling({{"type", "yarn"},
                {"factor", 2},
                {"original_max_position_embeddings", -1}}),
       kWrong, "'original_max_position_embeddings'"},
      {scaling({{"type", "llama3"}, {"factor", 8.0}}), kWrong,
       "'low_freq_factor'"},
      {scaling({{"type", "llama3"},
                {"factor", 8.0},
                {"low_freq_factor", 4.0},
                {"high_freq_factor", 4.0},
                {"original_max_position_embeddings", 8192}}),
       kWrong, "'high_freq_factor' must be more than low_freq_factor"},
      {{{"rope_theta", 0}}, kWrong, "'rope_theta'"},
      {{{"rope_theta", nullptr}}, kWrong, "'rope_theta'"},
      {{{"rope_theta", 1e4}, {"rope_parameters", {{"rope_theta", 1e6}}}},
       kWrong,
       "'rope_theta' is 10000, but 'rope_parameters' has"},
      {{{"rope_scaling", {{"type", "default"}}},
        {"rope_parameters", {{"rope_type", "default"}}}},
       kWrong,
       "give one of them"},
      {{{"partial_rotary_factor", 1.5}}, kWrong, "'partial_rotary_factor'"},
      {{{"partial_rotary_factor", 0.25}}, kWrong, "must be an even number"},
      {{{"partial_rotary_factor", 0.01}}, kWrong, "must be an even number"},
  };
  for (const Case& c : cases) {
    const auto rope = Read(c.config);
    EXPECT_EQ(rope.status().code(), c.code) << c.config << rope.status();
    EXPECT_THAT(std::string(rope.status().message()), HasSubstr(c.message))
        << c.config;
  }
}

}  // namespace
}  // namespace ounce::model
