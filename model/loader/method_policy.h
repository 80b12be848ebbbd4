// Which method each matrix gets by a plan, and whether the plan makes sense for
// the model: judged from names and roles alone, before a weight is read.
#ifndef OUNCE_MODEL_LOADER_METHOD_POLICY_H_
#define OUNCE_MODEL_LOADER_METHOD_POLICY_H_

#include <compare>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/loader/method_plan.h"
#include "model/weight_role.h"
#include "quant/dtype.h"
#include "quant/quant_method.h"

namespace ounce::model {

// A weight may have several names (a tied head). A rule on one of them is for
// the weight, whatever it is called; so the policy has to know all names before
// it can choose. An architecture's matrices go through it twice or more: the
// first walk only tells it what there is.
//
// Threads: one at a time.
class MethodPolicy {
 public:
  struct Choice {
    quant::MethodSpec spec;
    std::string left_alone;  // why it is as in the checkpoint
  };
  // A matrix by one of its names.
  struct Use {
    std::string module;
    WeightRole role = WeightRole::kLinear;
    auto operator<=>(const Use&) const = default;
  };

  // Ownership: `plan` must outlive it.
  explicit MethodPolicy(const MethodPlan& plan) : plan_(plan) {}

  // Of a matrix that the checkpoint has in `dtype`.
  Choice Choose(const Use& use, quant::DType dtype);

  // `use` is no matrix of its own, but `first`, of which Choose was asked,
  // under a second name.
  void Tied(const Use& use, const Use& first);

  // To be asked when the architecture has chosen for all of its matrices.
  // Returns the plan, less the rules that may be dropped
  // (MethodPlan::drops_idle_rules). kInvalidArgument, with the rule, when
  //   - it matches no matrix
  //   - nothing is left to it, since the rules before it take all that it
  //     matches, or the model has nothing that it is for
  //   - it and another choose differently for two names of one weight
  // and when no matrix gets a method of the plan's.
  absl::StatusOr<MethodPlan> Judge() const;

 private:
  struct Name {
    Use use;
    const MethodRule* rule = nullptr;  // the first that matches it
  };
  // By all of its names, the one asked for first in front.
  using Names = std::vector<Name>;

  Name Named(const Use& use) const;
  static const MethodRule* RuleFor(const Names& names);
  bool RestIsFor(WeightRole role) const;
  absl::Status CheckMatches(const MethodRule& rule) const;
  static absl::Status CheckNames(const Names& names);
  absl::Status NothingForRest() const;
  absl::Status NothingLeft() const;

  const MethodPlan& plan_;
  std::map<Use, Names> matrices_;  // by first name
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_LOADER_METHOD_POLICY_H_
