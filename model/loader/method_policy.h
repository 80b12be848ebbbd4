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
#include "absl/types/span.h"
#include "model/loader/method_plan.h"
#include "model/weight_role.h"
#include "quant/dtype.h"
#include "quant/quant_method.h"

namespace ounce::model {

// A weight may have several names (a tied head). A rule on one of them is for
// the weight, whatever it is called, unless one of them unties it; so the
// policy has to know all names before it can choose. An architecture's matrices
// go through it twice or more: the first walk only tells it what there is.
//
// Threads: one at a time.
class MethodPolicy {
 public:
  struct Choice {
    quant::MethodSpec spec;
    std::string left_alone = {};  // why it is as in the checkpoint
    int activations = 16;         // RuleSpec::activations
    bool requantize = false;      // RuleSpec::requantize
    bool kept = false;            // as in the checkpoint

    // The spec's text, with what else the rule says of products: for reports.
    std::string ToString() const;
  };
  // A matrix by one of its names.
  struct Use {
    std::string module;
    WeightRole role = WeightRole::kLinear;
    auto operator<=>(const Use&) const = default;
  };

  // Ownership: `plan` must outlive it.
  explicit MethodPolicy(const MethodPlan& plan) : plan_(plan) {}

  // Of a matrix that is stored as `kept` where it is left as the checkpoint has
  // it.
  Choice Choose(const Use& use, const quant::MethodSpec& kept);

  // `use` is no matrix of its own, but `first`, of which Choose was asked,
  // under a second name. Returns what is chosen for it if the plan has the two
  // apart; else they are one matrix.
  std::optional<Choice> Tied(const Use& use, const Use& first,
                             const quant::MethodSpec& kept);

  // To be asked when the architecture has chosen for all of its matrices.
  // Returns the plan, less the rules that may be dropped
  // (MethodPlan::drops_idle_rules). kInvalidArgument, with the rule, when
  //   - it matches no matrix
  //   - nothing is left to it, since the rules before it take all that it
  //     matches, or the model has nothing that it is for
  //   - it and another choose differently for two names of one weight, which
  //     is not untied
  //   - it unties, and is for no weight of two names
  //   - it has activations=8, and nothing that it is for multiplies any
  // and when no matrix gets a method of the plan's.
  absl::StatusOr<MethodPlan> Judge();
  // Whether Judge has found nothing wrong: choices are final then.
  bool is_judged() const { return is_judged_; }

 private:
  struct Name {
    Use use;
    const MethodRule* rule = nullptr;  // the first that matches it
  };
  using Names = absl::Span<const Name>;

  Name Named(const Use& use) const;
  static const MethodRule* RuleFor(Names names);
  // What a weight of one name gets; null: it is kept.
  const RuleSpec* SpecFor(const Name& name) const;
  bool RestIsFor(WeightRole role) const;
  bool IsApart(Names names) const;
  // The names of each matrix that there will be.
  std::vector<Names> Matrices() const;
  Choice ChoiceFor(Names names, const quant::MethodSpec& kept) const;
  absl::Status CheckMatches(const MethodRule& rule) const;
  static absl::Status CheckNames(Names names);
  absl::Status CheckUnties(const RuleSpec& spec, const std::string& who) const;
  absl::Status CheckActivations(const RuleSpec& spec,
                                const std::string& who) const;
  absl::Status NothingForRest() const;
  absl::Status NothingLeft() const;

  const MethodPlan& plan_;
  bool is_judged_ = false;
  // Weights by first name, which is in front of all that each has.
  std::map<Use, std::vector<Name>> weights_;
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_LOADER_METHOD_POLICY_H_
