// Encodes with a model alone, as the pipeline does with each word.
#ifndef OUNCE_TESTS_MODEL_TOKENIZER_TOKEN_MODELS_H_
#define OUNCE_TESTS_MODEL_TOKENIZER_TOKEN_MODELS_H_

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/status_macros.h"
#include "gmock/gmock.h"
#include "model/tokenizer/token_model.h"

namespace ounce::model {

inline absl::StatusOr<std::vector<int32_t>> IdsOfWord(const TokenModel& model,
                                                      std::string_view word) {
  std::vector<int32_t> ids;
  RETURN_IF_ERROR(model.StartEncoding()->AppendIds(word, ids));
  return ids;
}

MATCHER_P(IsOkAndHolds, matcher, "") {
  if (arg.ok()) {
    return ::testing::ExplainMatchResult(matcher, *arg, result_listener);
  }
  *result_listener << "whose status is " << arg.status().ToString();
  return false;
}

}  // namespace ounce::model

#endif  // OUNCE_TESTS_MODEL_TOKENIZER_TOKEN_MODELS_H_
