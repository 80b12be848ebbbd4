#include "model/loader/method_plan.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/files/byte_source.h"
#include "model/loader/glob.h"

namespace ounce::model {
namespace {

using Methods = absl::Span<const quant::QuantMethod* const>;
constexpr std::string_view kKeep = "keep";
constexpr std::string_view kAnyName = "*";
constexpr WeightRole kRoles[] = {WeightRole::kLinear, WeightRole::kHead,
                                 WeightRole::kEmbedding,
                                 WeightRole::kConvolution};
constexpr char kLooks[] =
    "; a plan is SELECTOR=SPEC rules with single spaces between, and last a "
    "SPEC for the other linear layers, such as 'lm_head=keep "
    "*.mlp.*=bfloat16 @convolution=linear linear'";

template <class... Words>
absl::Status Refusal(const Words&... words) {
  return absl::InvalidArgumentError(StrCat(words...));
}

std::string SpecText(const std::optional<RuleSpec>& spec) {
  return spec.has_value() ? spec->ToString() : std::string(kKeep);
}

bool IsRuleKey(std::string_view setting) {
  const std::string_view name = setting.substr(0, setting.find('='));
  return std::any_of(
      RuleKeys().begin(), RuleKeys().end(),
      [&](const quant::ParamSpec& key) { return key.name == name; });
}

absl::Status CheckActivations(const RuleSpec& spec) {
  // A shape that all methods have codes for.
  const auto format = spec.method.Format(256, 256, quant::DType::kF32);
  if (spec.activations() == 16 || !format.ok()) return absl::OkStatus();
  if (format->is_float()) {
    return Refusal(
        "activations=8 is for products of integers, and ",
        spec.method.method->name(),
        " stores floats; leave it out, or take a method of integers");
  }
  if (format->input_rounding.bits == 8) {
    return Refusal(spec.method.method->name(),
                   " rounds activations to 8 bits of its own accord; leave "
                   "activations out");
  }
  return absl::OkStatus();
}

// Whether one of the settings is for no parameter of the method, so that it
// may have been meant for the rule.
bool HasUnknownKey(std::string_view name,
                   const std::vector<std::string_view>& settings,
                   Methods methods) {
  const auto method = std::find_if(
      methods.begin(), methods.end(),
      [&](const quant::QuantMethod* one) { return one->name() == name; });
  if (method == methods.end()) return false;
  const absl::Span<const quant::ParamSpec> params = (*method)->params();
  return std::any_of(
      settings.begin(), settings.end(), [&](std::string_view setting) {
        const std::string_view key = setting.substr(0, setting.find('='));
        return std::none_of(
            params.begin(), params.end(),
            [&](const auto& param) { return param.name == key; });
      });
}

// Of a SPEC that is not keep.
absl::StatusOr<RuleSpec> ParseRuleSpec(std::string_view text, Methods methods) {
  const std::string_view last = quant::PartsOfSpec(text).back();
  const std::string_view stages = text.substr(0, text.size() - last.size());
  const size_t colon = last.find(':');
  std::vector<std::string_view> of_method, of_rule;
  if (colon != std::string_view::npos) {
    for (const std::string_view setting :
         quant::Settings(last.substr(colon + 1))) {
      (IsRuleKey(setting) ? of_rule : of_method).push_back(setting);
    }
  }
  std::string method = StrCat(stages, last.substr(0, colon));
  for (size_t i = 0; i < of_method.size(); ++i) {
    StrAppend(&method, i == 0 ? ":" : ",", of_method[i]);
  }
  RuleSpec spec;
  absl::StatusOr<quant::MethodSpec> parsed =
      quant::ParseMethodSpec(method, methods);
  if (!parsed.ok() &&
      HasUnknownKey(last.substr(0, colon), of_method, methods)) {
    return Refusal(parsed.status().message(),
                   "; beside its method's parameters a SPEC takes ",
                   quant::KnownParams(RuleKeys()));
  }
  ASSIGN_OR_RETURN(spec.method, std::move(parsed));
  ASSIGN_OR_RETURN(spec.keys,
                   quant::ParseParams("a rule", RuleKeys(), of_rule));
  RETURN_IF_ERROR(CheckActivations(spec));
  return spec;
}

absl::StatusOr<std::optional<RuleSpec>> ParseSpec(std::string_view text,
                                                  Methods methods) {
  if (text == kKeep) return std::nullopt;
  if (text.substr(0, text.find(':')) == kKeep) {
    return Refusal("keep takes no parameters; leave them out");
  }
  return ParseRuleSpec(text, methods);
}

// What ToString can write down and read back, and a module may be called.
absl::Status CheckPlanGlob(std::string_view glob) {
  if (glob.empty()) return Refusal("the name of a module is missing");
  if (glob.size() > kMaxGlobBytes) {
    return Refusal("a glob must be at most ", kMaxGlobBytes, " bytes, is ",
                   glob.size());
  }
  for (const char c : glob) {
    if (c > ' ' && c < '\x7f' && c != '=' && c != ':' && c != '@') continue;
    return Refusal("glob ", Quoted(glob), " has ",
                   Quoted(std::string_view(&c, 1)),
                   ", which no module has in its name");
  }
  return CheckGlob(glob);
}

absl::StatusOr<MethodRule> ParseSelector(std::string_view text) {
  MethodRule rule;
  const size_t at = text.rfind('@');
  if (at != std::string_view::npos) {
    const std::string_view name = text.substr(at + 1);
    const auto* const role =
        std::find_if(std::begin(kRoles), std::end(kRoles),
                     [&](WeightRole known) { return RoleName(known) == name; });
    if (role == std::end(kRoles)) {
      return Refusal("unknown role ", Quoted(name),
                     "; there are linear, head, embedding and convolution");
    }
    rule.role = *role;
    text = text.substr(0, at);
    if (text.empty()) return rule;
  }
  RETURN_IF_ERROR(CheckPlanGlob(text));
  rule.glob = std::string(text);
  return rule;
}

// Where a rule's SELECTOR ends with a '=', if it has one: a SPEC has that only
// behind its ':'.
size_t EndOfSelector(std::string_view rule) {
  const size_t mark = rule.find_first_of("=:");
  return mark != std::string_view::npos && rule[mark] == '='
             ? mark
             : std::string_view::npos;
}

// Adds it as a rule or, without a selector, as the rest.
absl::Status AddRule(std::string_view text, Methods methods, MethodPlan* plan) {
  const size_t mark = EndOfSelector(text);
  if (mark == std::string_view::npos) {
    ASSIGN_OR_RETURN(plan->rest, ParseSpec(text, methods));
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(MethodRule rule, ParseSelector(text.substr(0, mark)));
  ASSIGN_OR_RETURN(rule.spec, ParseSpec(text.substr(mark + 1), methods));
  plan->rules.push_back(std::move(rule));
  return absl::OkStatus();
}

absl::Status AddRules(const char* field, const std::vector<std::string>& globs,
                      const std::optional<RuleSpec>& spec, MethodPlan* plan) {
  for (const std::string& glob : globs) {
    RETURN_IF_ERROR(WithContext(CheckPlanGlob(glob), field));
    plan->rules.push_back({.glob = glob, .role = std::nullopt, .spec = spec});
  }
  return absl::OkStatus();
}

absl::StatusOr<MethodPlan> PlanOfShortForm(const ShortForm& form) {
  if (form.method.empty()) {
    const char* given = form.convolutions       ? "convolutions"
                        : !form.include.empty() ? "include"
                        : !form.exclude.empty() ? "exclude"
                                                : nullptr;
    if (given == nullptr) return MethodPlan();
    return Refusal(given, ": needs a method to apply, and none is given");
  }
  RETURN_IF_ERROR(WithContext(CheckIsNoPlan(form.method), "method"));
  ASSIGN_OR_RETURN(const RuleSpec method,
                   ParseRuleSpec(form.method, quant::AllMethods()));
  MethodPlan plan;
  plan.drops_idle_rules = true;
  RETURN_IF_ERROR(AddRules("exclude", form.exclude, std::nullopt, &plan));
  if (form.convolutions) {
    plan.rules.push_back({.role = WeightRole::kConvolution, .spec = method});
  }
  RETURN_IF_ERROR(AddRules("include", form.include, method, &plan));
  if (form.include.empty()) plan.rest = method;
  return plan;
}

}  // namespace

std::string_view RoleName(WeightRole role) {
  switch (role) {
    case WeightRole::kLinear:
      return "linear";
    case WeightRole::kHead:
      return "head";
    case WeightRole::kEmbedding:
      return "embedding";
    case WeightRole::kConvolution:
      return "convolution";
  }
  return "";
}

absl::Span<const quant::ParamSpec> RuleKeys() {
  static const std::vector<quant::ParamSpec> keys = {
      {.name = "untie",
       .type = quant::ParamSpec::Type::kBoolean,
       .default_value = "false",
       .help = "a tied weight is stored once for each of its uses, each as its "
               "own rule says, and counted so"},
      {.name = "activations",
       .type = quant::ParamSpec::Type::kChoice,
       .default_value = "16",
       .choices = {"8", "16"},
       .help = "bits that products round activations to: 8 is faster for "
               "prompts and less exact; 16 leaves it to the method"},
      {.name = "requantize",
       .type = quant::ParamSpec::Type::kBoolean,
       .default_value = "false",
       .help =
           "also weights that the checkpoint holds quantized already, whose "
           "errors stay and get this method's on top"},
  };
  return keys;
}

std::string RuleSpec::ToString() const {
  return method.ToString(quant::ParamsText(RuleKeys(), keys));
}

bool MethodRule::Matches(std::string_view module, WeightRole of) const {
  return (!role.has_value() || *role == of) && GlobMatches(glob, module);
}

std::string MethodRule::ToString() const {
  std::string selector = glob;
  if (role.has_value()) {
    selector = StrCat(glob == kAnyName ? "" : glob, "@", RoleName(*role));
  }
  return StrCat(selector, "=", SpecText(spec));
}

std::optional<quant::DType> MethodPlan::float_dtype() const {
  // Stages are for the linear layers alone.
  if (!rest.has_value() || !rest->method.stages.empty()) return std::nullopt;
  return rest->method.float_dtype();
}

std::string MethodPlan::ToString() const {
  if (keeps_all()) return std::string(kKeep);
  std::string text;
  for (const MethodRule& rule : rules) {
    StrAppend(&text, text.empty() ? "" : " ", rule.ToString());
  }
  if (rest.has_value()) {
    StrAppend(&text, text.empty() ? "" : " ", rest->ToString());
  }
  return text;
}

std::string MethodPlan::Label() const {
  constexpr size_t kMaxBytes = 128;
  const std::string text = ToString();
  if (text.size() <= kMaxBytes) return text;
  const size_t count = rules.size() + (rest.has_value() ? 1 : 0);
  const std::string more = StrCat("... (", count, " rules)");
  return StrCat(text.substr(0, kMaxBytes - more.size()), more);
}

absl::StatusOr<MethodPlan> ParseMethodPlan(std::string_view text,
                                           Methods methods) {
  if (text.empty()) return Refusal("is empty", kLooks);
  if (text.size() > kMaxPlanBytes) {
    return Refusal("must be at most ", kMaxPlanBytes, " bytes, is ",
                   text.size());
  }
  MethodPlan plan;
  std::string_view alone;  // the SPEC without a selector
  for (const absl::string_view piece : absl::StrSplit(ToAbsl(text), ' ')) {
    const std::string_view rule = FromAbsl(piece);
    if (rule.empty()) {
      return Refusal("has a space at an end, or two in a row", kLooks);
    }
    if (!alone.empty()) {
      return Refusal("rule ", Quoted(alone),
                     " has no selector, so it must be the last one", kLooks);
    }
    if (plan.rules.size() == kMaxPlanRules) {
      return Refusal("must have at most ", kMaxPlanRules, " rules");
    }
    const size_t before = plan.rules.size();
    const absl::Status status = AddRule(rule, methods, &plan);
    if (!status.ok()) {
      return Refusal("rule ", Quoted(rule), ": ", status.message(), kLooks);
    }
    if (plan.rules.size() == before) alone = rule;
  }
  return plan;
}

absl::Status CheckIsNoPlan(std::string_view text) {
  bool is_plan = text == kKeep;
  for (const absl::string_view piece : absl::StrSplit(ToAbsl(text), ' ')) {
    is_plan |= EndOfSelector(FromAbsl(piece)) != std::string_view::npos;
  }
  if (!is_plan) return absl::OkStatus();
  return Refusal(
      "must be a SPEC, a method with its parameters, and ", Quoted(text),
      " is a plan: give it as plan (--plan, plan=), or a SPEC such as "
      "linear:bits=4");
}

bool ShortForm::empty() const {
  return method.empty() && include.empty() && exclude.empty() && !convolutions;
}

absl::StatusOr<MethodPlan> PlanOf(std::string_view plan,
                                  const ShortForm& form) {
  if (plan.empty()) return PlanOfShortForm(form);
  if (!form.empty()) {
    return Refusal(
        "says all by itself, and method, include, exclude or convolutions is "
        "given too; leave these out, or the plan");
  }
  return ParseMethodPlan(plan);
}

std::optional<ShortForm> ShortFormOf(const MethodPlan& plan) {
  ShortForm form;
  const auto is_method = [&](const std::optional<RuleSpec>& spec) {
    if (!spec.has_value()) return false;
    const std::string text = spec->ToString();
    if (form.method.empty()) form.method = text;
    return form.method == text;
  };
  auto rule = plan.rules.begin();
  const auto end = plan.rules.end();
  for (; rule != end && !rule->role.has_value() && !rule->spec.has_value();
       ++rule) {
    form.exclude.push_back(rule->glob);
  }
  if (rule != end && rule->glob == kAnyName &&
      rule->role == WeightRole::kConvolution && is_method(rule->spec)) {
    form.convolutions = true;
    ++rule;
  }
  for (; rule != end && !rule->role.has_value() && is_method(rule->spec);
       ++rule) {
    form.include.push_back(rule->glob);
  }
  if (rule != end) return std::nullopt;
  if (plan.rest.has_value() &&
      (!form.include.empty() || !is_method(plan.rest))) {
    return std::nullopt;
  }
  // Rules that only keep, and convolutions alone, are no short form.
  const bool rest_is_said = plan.rest.has_value() || !form.include.empty();
  if (!rest_is_said && !plan.keeps_all()) return std::nullopt;
  return form;
}

}  // namespace ounce::model
