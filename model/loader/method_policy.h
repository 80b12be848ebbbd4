// Which method each matrix gets, and whether what was asked for makes sense:
// judged from names and roles alone, before a weight is read.
#ifndef OUNCE_MODEL_LOADER_METHOD_POLICY_H_
#define OUNCE_MODEL_LOADER_METHOD_POLICY_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "model/weights.h"
#include "quant/dtype.h"
#include "quant/quant_method.h"

namespace ounce::model {

// What is asked for; LoadOptions says what each means.
struct MethodRequest {
  std::optional<quant::MethodSpec> method;
  std::vector<std::string> include;
  std::vector<std::string> exclude;
  bool convolutions = false;
};

// Threads: one at a time.
class MethodPolicy {
 public:
  struct Choice {
    quant::MethodSpec spec;
    std::string left_alone;  // why it isn't the one asked for
  };

  // Ownership: `request` must outlive it.
  explicit MethodPolicy(const MethodRequest& request);

  // Of a matrix that the checkpoint has in `dtype`.
  Choice Choose(const std::string& module, WeightRole role, quant::DType dtype);

  // `module` is no matrix of its own, but `other` under a second name.
  void Tied(const std::string& module, const std::string& other);

  // What makes no sense of itself: include, exclude or convolutions without a
  // method, a malformed glob. kInvalidArgument.
  absl::Status CheckRequest() const;

  // To be asked when the architecture has chosen for all of its matrices.
  // kInvalidArgument when
  //   - an include or exclude glob matches no matrix
  //   - of two names of one weight only one is taken in (or left out)
  //   - nothing is left that gets the method
  //   - convolutions are asked for, and there are none or none is left
  absl::Status CheckChoices() const;

 private:
  struct Matrix {
    std::string module;
    WeightRole role;
    bool chosen;  // gets the method
  };
  struct Tie {
    std::string module;
    std::string other;
  };

  absl::Status CheckGlobs(const char* field,
                          const std::vector<std::string>& globs) const;
  absl::Status CheckTie(const Tie& tie) const;
  absl::Status NothingLeft() const;

  const MethodRequest& request_;
  const bool is_float_;  // the method asked for
  std::vector<Matrix> matrices_;
  std::vector<Tie> ties_;
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_LOADER_METHOD_POLICY_H_
