// How well a model predicts a text: what is asked, and what comes back.
#ifndef OUNCE_SERVER_SCHEDULER_TEXT_EVALUATOR_H_
#define OUNCE_SERVER_SCHEDULER_TEXT_EVALUATOR_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace ounce::server {

// The window of a model of so many positions, and the stride of a window, that
// nobody chose.
inline int64_t DefaultWindow(int64_t max_positions) {
  return std::min(int64_t{1024}, max_positions);
}
inline int64_t DefaultStride(int64_t window) { return (window + 1) / 2; }

// Fields as in model_admin.proto's EvaluateRequest; none is left to a default.
struct EvaluateParams {
  std::string text;
  int64_t window = 0;  // from 2 to the model's positions
  int64_t stride = 0;  // from 1 to `window`
  bool compare_with_floats = false;
  std::string text_name = {};
};

// Fields as in model_admin.proto's TextQuality.
struct TextQuality {
  int64_t version = 0;
  std::string method;
  std::string bos;
  int64_t window = 0;
  int64_t stride = 0;
  int64_t tokens = 0;
  int64_t counted_tokens = 0;
  double mean_negative_log_likelihood = 0;
  double perplexity = 0;
  double bits_per_byte = 0;
  struct Token {
    int64_t index = 0;
    int32_t id = 0;
    std::string text;  // may be part of a UTF-8 character
    double negative_log_likelihood = 0;
  };
  Token worst_token;
  struct Comparison {
    double mean_kl_divergence = 0;
    double top1_agreement = 0;
    double float_perplexity = 0;
  };
  std::optional<Comparison> floats;  // if they were compared with
  std::string text_name = {};
};

// Tokens that went through the model; one that is in two windows counts twice.
struct EvaluateUpdate {
  int64_t tokens_done = 0;
  int64_t tokens_total = 0;
};

// Threads: any, several at a time.
class TextEvaluator {
 public:
  virtual ~TextEvaluator() = default;

  // Measures the version that serves now, whatever is swapped in meanwhile.
  // Takes its time on the caller's thread, and little from those who are
  // served. `progress` is called between steps; an error from it ends the work
  // with that error.
  // Errors: kInvalidArgument naming a field; kResourceExhausted when there is
  //   no memory for it, with figures; kUnavailable when the model stops to
  //   serve; kFailedPrecondition when floats are to be compared with and the
  //   checkpoint's files are no longer those that were loaded.
  virtual absl::StatusOr<TextQuality> Evaluate(
      const EvaluateParams& params,
      const std::function<absl::Status(const EvaluateUpdate&)>& progress) = 0;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SCHEDULER_TEXT_EVALUATOR_H_
