#include "model/loader/method_policy.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>

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

std::string SpecText(const std::optional<RuleSpec>& spec) {
  return spec.has_value() ? spec->ToString() : "";
}

}  // namespace

std::string MethodPolicy::Choice::ToString() const {
  return spec.ToString(activations == 8 ? "activations=8" : "");
}

MethodPolicy::Name MethodPolicy::Named(const Use& use) const {
  const auto rule = std::find_if(
      plan_.rules.begin(), plan_.rules.end(), [&](const MethodRule& candidate) {
        return candidate.Matches(use.module, use.role);
      });
  return {use, rule == plan_.rules.end() ? nullptr : &*rule};
}

const MethodRule* MethodPolicy::RuleFor(Names names) {
  for (const Name& name : names) {
    if (name.rule != nullptr) return name.rule;
  }
  return nullptr;
}

const RuleSpec* MethodPolicy::SpecFor(const Name& name) const {
  if (name.rule == nullptr) {
    return RestIsFor(name.use.role) ? &*plan_.rest : nullptr;
  }
  return name.rule->spec.has_value() ? &*name.rule->spec : nullptr;
}

bool MethodPolicy::RestIsFor(WeightRole role) const {
  return plan_.rest.has_value() &&
         (role == WeightRole::kLinear || plan_.float_dtype().has_value());
}

bool MethodPolicy::IsApart(Names names) const {
  return names.size() > 1 &&
         std::any_of(names.begin(), names.end(), [&](const Name& name) {
           const RuleSpec* spec = SpecFor(name);
           return spec != nullptr && spec->untie();
         });
}

std::vector<MethodPolicy::Names> MethodPolicy::Matrices() const {
  std::vector<Names> matrices;
  for (const auto& [first, all] : weights_) {
    const Names names(all);
    const size_t of_each = IsApart(names) ? 1 : names.size();
    for (size_t i = 0; i < names.size(); i += of_each) {
      matrices.push_back(names.subspan(i, of_each));
    }
  }
  return matrices;
}

MethodPolicy::Choice MethodPolicy::ChoiceFor(
    Names names, const quant::MethodSpec& as_it_is) const {
  const WeightRole role = names[0].use.role;
  const auto chosen = [](const RuleSpec& spec) -> Choice {
    return {.spec = spec.method,
            .activations = spec.activations(),
            .requantize = spec.requantize()};
  };
  const auto kept = [&](std::string why) -> Choice {
    return {.spec = as_it_is, .left_alone = std::move(why), .kept = true};
  };
  if (const MethodRule* rule = RuleFor(names)) {
    if (rule->spec.has_value()) return chosen(*rule->spec);
    return kept(StrCat("kept by '", rule->ToString(), "'"));
  }
  if (RestIsFor(role)) return chosen(*plan_.rest);
  if (plan_.keeps_all()) return kept("");
  if (!plan_.rest.has_value()) {
    return kept("kept: no rule of the plan is for it");
  }
  return kept(StrCat("kept: ", Described(role),
                     " stays in the checkpoint's dtype unless a rule names "
                     "it"));
}

MethodPolicy::Choice MethodPolicy::Choose(const Use& use,
                                          const quant::MethodSpec& kept) {
  std::vector<Name>& names = weights_[use];
  if (names.empty()) names.push_back(Named(use));
  return ChoiceFor(Names(names).first(IsApart(names) ? 1 : names.size()), kept);
}

std::optional<MethodPolicy::Choice> MethodPolicy::Tied(
    const Use& use, const Use& first, const quant::MethodSpec& kept) {
  const auto weight = weights_.find(first);
  OUNCE_CHECK(weight != weights_.end(), "tied to what was asked for before");
  std::vector<Name>& names = weight->second;
  auto known = std::find_if(names.begin(), names.end(),
                            [&](const Name& n) { return n.use == use; });
  if (known == names.end()) known = names.insert(known, Named(use));
  if (!IsApart(names)) return std::nullopt;
  return ChoiceFor(Names(&*known, 1), kept);
}

absl::StatusOr<MethodPlan> MethodPolicy::Judge() {
  std::set<const MethodRule*> busy;
  bool rest_is_busy = false, any = false;
  const std::vector<Names> matrices = Matrices();
  for (const Names& names : matrices) {
    for (const Name& name : names) busy.insert(name.rule);
    const MethodRule* rule = RuleFor(names);
    const bool rest = rule == nullptr && RestIsFor(names[0].use.role);
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
  for (const Names& names : matrices) RETURN_IF_ERROR(CheckNames(names));
  for (const MethodRule& rule : plan_.rules) {
    // Convolutions are asked for by a word of their own in short forms.
    const bool may_be_idle = plan_.drops_idle_rules && !rule.role.has_value();
    if (busy.contains(&rule) || may_be_idle) continue;
    return Refusal(RuleText(rule),
                   " is left with nothing: the rules before it take all that "
                   "it matches; put it before them, or leave it out");
  }
  for (const MethodRule& rule : plan_.rules) {
    if (!busy.contains(&rule) || !rule.spec.has_value()) continue;
    RETURN_IF_ERROR(CheckUnties(*rule.spec, RuleText(rule)));
    RETURN_IF_ERROR(CheckActivations(*rule.spec, RuleText(rule)));
  }
  if (rest_is_busy) {
    used.rest = plan_.rest;
    RETURN_IF_ERROR(
        CheckUnties(*plan_.rest, StrCat("'", plan_.rest->ToString(), "'")));
  }
  if (plan_.rest.has_value() && !rest_is_busy &&
      !(plan_.drops_idle_rules && any)) {
    return NothingForRest();
  }
  if (!any && !plan_.keeps_all()) return NothingLeft();
  is_judged_ = true;
  return used;
}

absl::Status MethodPolicy::CheckMatches(const MethodRule& rule) const {
  const Use* longest = nullptr;
  for (const auto& [first, names] : weights_) {
    const bool matches =
        std::any_of(names.begin(), names.end(), [&](const Name& name) {
          return rule.Matches(name.use.module, name.use.role);
        });
    if (matches) return absl::OkStatus();
    if (longest == nullptr || longest->module.size() < first.module.size()) {
      longest = &first;
    }
  }
  return Refusal(RuleText(rule), " matches no matrix of the model",
                 rule.role.has_value() && rule.glob == "*"
                     ? StrCat(", which has none of the role ",
                              RoleName(*rule.role), "; leave it out")
                 : longest == nullptr
                     ? ""
                     : StrCat("; names look like '", longest->module, "'"));
}

absl::Status MethodPolicy::CheckNames(Names names) {
  const Name* named = nullptr;
  for (const Name& name : names) {
    if (name.rule == nullptr) continue;
    if (named == nullptr) named = &name;
    if (SpecText(name.rule->spec) == SpecText(named->rule->spec)) continue;
    return Refusal(RuleText(*named->rule), " is for ", named->use.module,
                   " and '", name.rule->ToString(), "' for ", name.use.module,
                   ", but these are one weight under two names (tied); choose "
                   "the same for both, name one of them only, or give one "
                   "untie=true");
  }
  return absl::OkStatus();
}

absl::Status MethodPolicy::CheckUnties(const RuleSpec& spec,
                                       const std::string& who) const {
  if (!spec.untie()) return absl::OkStatus();
  const std::vector<Name>* tied = nullptr;  // some weight's names
  for (const auto& [first, names] : weights_) {
    if (names.size() == 1) continue;
    tied = &names;
    for (const Name& name : names) {
      if (SpecFor(name) == &spec) return absl::OkStatus();
    }
  }
  if (tied == nullptr) {
    return Refusal(who,
                   " has nothing to untie: no weight of this model has a "
                   "second name, so each has a rule of its own as it is; leave "
                   "untie out");
  }
  const std::string& one = (*tied)[0].use.module;
  const std::string& other = (*tied)[1].use.module;
  return Refusal(who,
                 " has nothing to untie: no weight that it is for has a second "
                 "name; ",
                 one, " and ", other, " are one weight, which a rule such as '",
                 other,
                 "=linear:untie=true' unties; leave untie out, or name one of "
                 "them");
}

absl::Status MethodPolicy::CheckActivations(const RuleSpec& spec,
                                            const std::string& who) const {
  if (spec.activations() == 16) return absl::OkStatus();
  for (const Names& names : Matrices()) {
    const MethodRule* rule = RuleFor(names);
    if (rule == nullptr || !rule->spec.has_value() || &*rule->spec != &spec) {
      continue;
    }
    for (const Name& name : names) {
      if (name.use.role != WeightRole::kEmbedding) return absl::OkStatus();
    }
  }
  return Refusal(who,
                 " rounds no activations: all that it is for are embeddings, "
                 "whose rows are looked up; leave activations out");
}

absl::Status MethodPolicy::NothingForRest() const {
  const std::string method = plan_.rest->ToString();
  const bool any = std::any_of(
      weights_.begin(), weights_.end(),
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
