#include "model/generation_defaults.h"

#include <string>
#include <string_view>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/files/json_file.h"
#include "tests/testing/status_matchers.h"

namespace ounce::model {
namespace {

using ::ounce::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

absl::StatusOr<GenerationDefaults> Read(std::string_view text) {
  return ReadGenerationDefaults(
      *ParseJsonObject("generation_config.json", text),
      /*vocab_size=*/100);
}

void ExpectGreedy(const GenerationDefaults& defaults) {
  EXPECT_EQ(defaults.temperature, 0);
  EXPECT_EQ(defaults.top_k, 0);
  EXPECT_EQ(defaults.top_p, 1);
  EXPECT_EQ(defaults.min_p, 0);
}

void ExpectNothingSaid(const GenerationDefaults& defaults) {
  ExpectGreedy(defaults);
  EXPECT_EQ(defaults.repetition_penalty, 1);
  EXPECT_EQ(defaults.max_new_tokens, std::nullopt);
  EXPECT_EQ(defaults.max_length, std::nullopt);
  EXPECT_THAT(defaults.suppressed_ids, IsEmpty());
  EXPECT_THAT(defaults.not_honoured, IsEmpty());
}

TEST(GenerationDefaultsTest, AreGreedyWithoutAFileAndWithAnEmptyOne) {
  ASSERT_OK_AND_ASSIGN(const auto none, ReadGenerationDefaults(nullptr, 100));
  ExpectNothingSaid(none);
  ASSERT_OK_AND_ASSIGN(const auto empty, Read("{}"));
  ExpectNothingSaid(empty);
}

TEST(GenerationDefaultsTest, SamplesAsTheFileSays) {
  ASSERT_OK_AND_ASSIGN(
      const auto defaults,
      Read(R"({"do_sample": true, "temperature": 0.6, "top_k": 20,
               "top_p": 0.9, "min_p": 0.05, "repetition_penalty": 1.05,
               "max_new_tokens": 2048})"));
  EXPECT_EQ(defaults.temperature, 0.6f);
  EXPECT_EQ(defaults.top_k, 20);
  EXPECT_EQ(defaults.top_p, 0.9f);
  EXPECT_EQ(defaults.min_p, 0.05f);
  EXPECT_EQ(defaults.repetition_penalty, 1.05f);
  EXPECT_EQ(defaults.max_new_tokens, 2048);
}

// As GenerationConfig: an absent key has the class's default, null is without.
TEST(GenerationDefaultsTest, SamplesAsTheClassDoesWhereTheFileSaysNothing) {
  ASSERT_OK_AND_ASSIGN(const auto absent, Read(R"({"do_sample": true})"));
  EXPECT_EQ(absent.temperature, 1);
  EXPECT_EQ(absent.top_k, 50);
  EXPECT_EQ(absent.top_p, 1);
  EXPECT_EQ(absent.min_p, 0);
  ASSERT_OK_AND_ASSIGN(
      const auto null,
      Read(R"({"do_sample": true, "temperature": null, "top_k": null,
               "top_p": null, "min_p": null, "repetition_penalty": null,
               "max_new_tokens": null, "max_length": null,
               "suppress_tokens": null})"));
  EXPECT_EQ(null.temperature, 1);
  EXPECT_EQ(null.top_k, 0);
  EXPECT_EQ(null.top_p, 1);
  EXPECT_EQ(null.repetition_penalty, 1);
}

TEST(GenerationDefaultsTest, TakesTheMostProbableTokenForATopPOfZero) {
  ASSERT_OK_AND_ASSIGN(const auto defaults,
                       Read(R"({"do_sample": true, "top_p": 0.0})"));
  EXPECT_GT(defaults.top_p, 0);
  EXPECT_LT(defaults.top_p, 1e-30f);
}

TEST(GenerationDefaultsTest, ReadsSamplingOnlyWhereItSamples) {
  for (const char* do_sample : {"false", "null"}) {
    ASSERT_OK_AND_ASSIGN(
        const auto defaults,
        Read(std::string(R"({"temperature": 0.6, "top_k": -1, "top_p": "all",
                             "min_p": 7, "typical_p": 0.5,
                             "repetition_penalty": 1.2, "do_sample": )") +
             do_sample + "}"));
    ExpectGreedy(defaults);
    EXPECT_EQ(defaults.repetition_penalty, 1.2f);
    EXPECT_THAT(defaults.not_honoured, IsEmpty());
  }
}

TEST(GenerationDefaultsTest, PrefersMaxNewTokensToMaxLength) {
  ASSERT_OK_AND_ASSIGN(const auto length, Read(R"({"max_length": 512})"));
  EXPECT_EQ(length.max_length, 512);
  ASSERT_OK_AND_ASSIGN(const auto both,
                       Read(R"({"max_length": 512, "max_new_tokens": 30})"));
  EXPECT_EQ(both.max_new_tokens, 30);
  EXPECT_EQ(both.max_length, std::nullopt);
  ASSERT_OK_AND_ASSIGN(const auto silent, Read(R"({"max_length": 20})"));
  EXPECT_EQ(silent.max_length, std::nullopt) << "the class's default";
}

TEST(GenerationDefaultsTest, SuppressesTheTokensThatTheModelHas) {
  ASSERT_OK_AND_ASSIGN(
      const auto defaults,
      Read(
          R"({"suppress_tokens": [99, 3, -1, 3, 100, 18446744073709551615]})"));
  EXPECT_THAT(defaults.suppressed_ids, ElementsAre(3, 99));
}

TEST(GenerationDefaultsTest, RefusesMalformedValuesByName) {
  const struct {
    const char* text;
    const char* message;
  } kCases[] = {
      {R"({"do_sample": 1})", "'do_sample' must be true or false, is 1"},
      {R"({"do_sample": true, "temperature": "0.6"})",
       "'temperature' must be a number from 0 to 100, is '0.6'"},
      {R"({"do_sample": true, "temperature": -1})",
       "'temperature' must be a number from 0 to 100, is -1"},
      {R"({"do_sample": true, "temperature": NaN})",
       "'temperature' must be a number from 0 to 100, is 'NaN'"},
      {R"({"do_sample": true, "top_k": 1.5})",
       "'top_k' must be an integer from 0 to 1000000, is 1.5"},
      {R"({"do_sample": true, "top_p": 2})",
       "'top_p' must be a number from 0 to 1, is 2"},
      {R"({"do_sample": true, "min_p": []})",
       "'min_p' must be a number from 0 to 1, is an array"},
      {R"({"repetition_penalty": 0})",
       "'repetition_penalty' must be a number from 0.01 to 100, is 0"},
      {R"({"max_new_tokens": 0})",
       "'max_new_tokens' must be an integer from 1 to 9007199254740992, is 0"},
      {R"({"max_length": true})",
       "'max_length' must be an integer from 1 to 9007199254740992, is true"},
      {R"({"suppress_tokens": 7})",
       "'suppress_tokens' must be a list of token ids, is 7"},
      {R"({"suppress_tokens": [1, "x"]})",
       "'suppress_tokens' must be a list of token ids, is a list with \"x\""},
  };
  for (const auto& bad : kCases) {
    EXPECT_THAT(Read(bad.text),
                StatusIs(absl::StatusCode::kInvalidArgument, bad.message))
        << bad.text;
  }
}

TEST(GenerationDefaultsTest, NamesWhatItDoesNotDo) {
  const std::vector<std::string> keys = {
      R"("bad_words_ids": [[5,6]])",
      R"("begin_suppress_tokens": [5])",
      R"("constraints": [1])",
      R"("dola_layers": "low")",
      R"("encoder_no_repeat_ngram_size": 2)",
      R"("encoder_repetition_penalty": 1.5)",
      R"("epsilon_cutoff": 0.001)",
      R"("eta_cutoff": 0.002)",
      R"("exponential_decay_length_penalty": [5,1.5])",
      R"("force_words_ids": [[5]])",
      R"("forced_bos_token_id": 0)",
      R"("forced_eos_token_id": 0)",
      R"("guidance_scale": 1.5)",
      R"("max_time": 5.0)",
      R"("min_length": 5)",
      R"("min_new_tokens": 5)",
      R"("no_repeat_ngram_size": 3)",
      R"("num_beams": 4)",
      R"("num_return_sequences": 2)",
      R"("penalty_alpha": 0.6)",
      R"("sequence_bias": [[[5],1.5]])",
      R"("stop_strings": ["a"])",
      R"("token_healing": true)",
      R"("typical_p": 0.9)",
      R"("watermarking_config": {"bias":2.5})",
  };
  for (const std::string& key : keys) {
    ASSERT_OK_AND_ASSIGN(const auto defaults,
                         Read(R"({"do_sample": true, )" + key + "}"));
    std::string told = key;
    told.erase(0, 1).replace(told.find("\":"), 2, " =");
    EXPECT_THAT(defaults.not_honoured, ElementsAre(told));
  }
}

// The class's defaults, and its fields that change no text here: caches,
// speculation, beams without beams, what generate() returns.
TEST(GenerationDefaultsTest, PassesOverWhatChangesNothing) {
  ASSERT_OK_AND_ASSIGN(
      const auto defaults,
      Read(R"({"bad_words_ids": null, "begin_suppress_tokens": [],
               "encoder_no_repeat_ngram_size": 0,
               "encoder_repetition_penalty": 1.0, "epsilon_cutoff": 0.0,
               "eta_cutoff": 0.0, "forced_bos_token_id": null,
               "guidance_scale": 1, "max_time": null, "min_length": 0,
               "no_repeat_ngram_size": 0, "num_beams": 1,
               "num_return_sequences": 1, "stop_strings": "",
               "token_healing": false, "typical_p": 1.0,
               "assistant_confidence_threshold": 0.1,
               "assistant_early_exit": 2, "assistant_lookbehind": 3,
               "bos_token_id": 1, "cache_config": {"a": 1},
               "cache_implementation": "static", "compile_config": {},
               "decoder_start_token_id": 1, "disable_compile": true,
               "diversity_penalty": 0.5, "early_stopping": true,
               "eos_token_id": [1, 2], "length_penalty": 0.5,
               "low_memory": true, "max_matching_ngram_size": 3,
               "num_assistant_tokens": 5,
               "num_assistant_tokens_schedule": "heuristic",
               "num_beam_groups": 2, "output_attentions": true,
               "output_hidden_states": true, "output_logits": true,
               "output_scores": true, "pad_token_id": 3,
               "prefill_chunk_size": 7, "prompt_lookup_num_tokens": 10,
               "remove_invalid_values": true, "renormalize_logits": true,
               "return_dict_in_generate": true, "return_legacy_cache": false,
               "target_lookbehind": 4, "transformers_version": "4.57.6",
               "use_cache": false, "_from_model_config": true,
               "_commit_hash": "x", "chat_format": "chatml"})"));
  ExpectNothingSaid(defaults);
}

}  // namespace
}  // namespace ounce::model
