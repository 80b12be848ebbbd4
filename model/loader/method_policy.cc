#include "model/loader/method_policy.h"

#include <algorithm>
#include <set>
#include <string_view>

#include "base/check.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "quant/registry.h"

namespace ounce::model {
namespace {

std::string_view Described(WeightRole role) {
  switch (role) {
    case WeightRole::kHead:
      return "the head";
    case WeightRole::kEmbedding:
      return "an embedding";
    case WeightRole::kConvolution:
      return "a convolution";
    case WeightRole::kLinear:
      break;
  }
  return "a linear layer";
}

template <class... Words>
absl::Status Refusal(const Words&... words) {
  return absl::InvalidArgumentError(StrCat(words...));
}

// Short enough to quote: a glob has 256 bytes at most.
std::string RuleText(const MethodRule& rule) {
  return StrCat("rule '", rule.ToString(), "'");
}

std::string SpecText(const std::optional<quant::MethodSpec>& spec) {
  return spec.has_value() ? spec->ToString() : "";
}

}  // namespace

MethodPolicy::Name MethodPolicy::Named(const Use& use) const {
  const auto rule = std::find_if(
      plan_.rules.begin(), plan_.rules.end(), [&](const MethodRule& candidate) {
        return candidate.Matches(use.module, use.role);
      });
  return {use, rule == plan_.rules.end() ? nullptr : &*rule};
}

const MethodRule* MethodPolicy::RuleFor(const Names& names) {
  for (const Name& name : names) {
    if (name.rule != nullptr) return name.rule;
  }
  return nullptr;
}

bool MethodPolicy::RestIsFor(WeightRole role) const {
  return plan_.rest.has_value() &&
         (role == WeightRole::kLinear || plan_.float_dtype().has_value());
}

MethodPolicy::Choice MethodPolicy::Choose(const Use& use, quant::DType dtype) {
  Names& names = matrices_[use];
  if (names.empty()) names.push_back(Named(use));
  const quant::MethodSpec kept = quant::FloatMethodFor(dtype);
  if (const MethodRule* rule = RuleFor(names)) {
    if (rule->spec.has_value()) return {*rule->spec, ""};
    return {kept, StrCat("kept by '", rule->ToString(), "'")};
  }
  if (RestIsFor(use.role)) return {*plan_.rest, ""};
  if (plan_.keeps_all()) return {kept, ""};
  if (!plan_.rest.has_value()) {
    return {kept, "kept: no rule of the plan is for it"};
  }
  return {kept, StrCat("kept: ", Described(use.role),
                       " stays in the checkpoint's dtype unless a rule names "
                       "it")};
}

void MethodPolicy::Tied(const Use& use, const Use& first) {
  const auto matrix = matrices_.find(first);
  OUNCE_CHECK(matrix != matrices_.end(), "tied to what was asked for before");
  Names& names = matrix->second;
  const auto known = std::find_if(names.begin(), names.end(),
                                  [&](const Name& n) { return n.use == use; });
  if (known == names.end()) names.push_back(Named(use));
}

absl::StatusOr<MethodPlan> MethodPolicy::Judge() const {
  std::set<const MethodRule*> busy;
  bool rest_is_busy = false, any = false;
  for (const auto& [first, names] : matrices_) {
    for (const Name& name : names) busy.insert(name.rule);
    const MethodRule* rule = RuleFor(names);
    const bool rest = rule == nullptr && RestIsFor(first.role);
    rest_is_busy |= rest;
    any |= rest || (rule != nullptr && rule->spec.has_value());
  }
  MethodPlan used;
  for (const MethodRule& rule : plan_.rules) {
    if (busy.contains(&rule)) {
      used.rules.push_back(rule);
    } else {
      RETURN_IF_ERROR(CheckMatches(rule));
    }
  }
  for (const auto& [first, names] : matrices_) {
    RETURN_IF_ERROR(CheckNames(names));
  }
  for (const MethodRule& rule : plan_.rules) {
    // Convolutions are asked for by a word of their own in short forms.
    const bool may_be_idle = plan_.drops_idle_rules && !rule.role.has_value();
    if (busy.contains(&rule) || may_be_idle) continue;
    return Refusal(RuleText(rule),
                   " is left with nothing: the rules before it take all that "
                   "it matches; put it before them, or leave it out");
  }
  if (rest_is_busy) used.rest = plan_.rest;
  if (plan_.rest.has_value() && !rest_is_busy &&
      !(plan_.drops_idle_rules && any)) {
    return NothingForRest();
  }
  if (!any && !plan_.keeps_all()) return NothingLeft();
  return used;
}

absl::Status MethodPolicy::CheckMatches(const MethodRule& rule) const {
  const Use* longest = nullptr;
  for (const auto& [first, names] : matrices_) {
    const bool matches =
        std::any_of(names.begin(), names.end(), [&](const Name& name) {
          return rule.Matches(name.use.module, name.use.role);
        });
    if (matches) return absl::OkStatus();
    if (longest == nullptr || longest->module.size() < first.module.size()) {
      longest = &first;
    }
  }
  return Refusal(
      RuleText(rule), " matches no matrix of the model",
      rule.role.has_value() && rule.glob == "*"
          ? StrCat(", which has none of the role ", RoleName(*rule.role))
      : longest == nullptr
          ? ""
          : StrCat("; names look like '", longest->module, "'"));
}

absl::Status MethodPolicy::CheckNames(const Names& names) {
  const Name* named = nullptr;
  for (const Name& name : names) {
    if (name.rule == nullptr) continue;
    if (named == nullptr) named = &name;
    if (SpecText(name.rule->spec) == SpecText(named->rule->spec)) continue;
    return Refusal(RuleText(*named->rule), " is for ", named->use.module,
                   " and '", name.rule->ToString(), "' for ", name.use.module,
                   ", but these are one weight under two names (tied); choose "
                   "the same for both, or name one of them only");
  }
  return absl::OkStatus();
}

absl::Status MethodPolicy::NothingForRest() const {
  const std::string method = plan_.rest->ToString();
  const bool any = std::any_of(
      matrices_.begin(), matrices_.end(),
      [&](const auto& matrix) { return RestIsFor(matrix.first.role); });
  if (any) {
    return Refusal("nothing is left to store as ", method,
                   ": the rules before it take every matrix that it is for");
  }
  return Refusal("there is nothing to store as ", method,
                 ": the model has no linear layers; rules name others");
}

absl::Status MethodPolicy::NothingLeft() const {
  const auto rule =
      std::find_if(plan_.rules.begin(), plan_.rules.end(),
                   [](const MethodRule& r) { return r.spec.has_value(); });
  if (rule == plan_.rules.end()) {
    return Refusal(
        "the plan keeps all as in the checkpoint: give a matrix, or the rest, "
        "a method");
  }
  return Refusal("nothing is left to store as ", rule->spec->ToString(),
                 ": exclude takes out all that include takes in");
}

}  // namespace ounce::model
