// Which method each matrix of a model gets: an ordered list of rules, of which
// the first that matches a matrix chooses, and a method for the rest. Its text
// is what requests, flags and files give, and what reports show:
//
//   plan      rules with single spaces between
//   rule      SELECTOR=SPEC, or, as the last one only, SPEC
//   SELECTOR  GLOB over names of modules (glob.h), @ROLE, or GLOB@ROLE
//   ROLE      linear, head, embedding or convolution
//   SPEC      a method's spec (quant/registry.h), or keep: as the checkpoint
//             has it. Behind the method's parameters may stand keys of the
//             plan's own (RuleKeys)
//
// A SPEC alone is for the linear layers, and, if it is a method that stores
// floats, without stages, for all else too; what no rule is for is kept. So
//
//   linear                        every linear layer
//   lm_head=keep linear           ... but that one
//   @convolution=linear linear    ... and convolutions
//   lm_head=linear                nothing but the head
//   lm_head=linear:untie=true     ... and of a tied one not the embedding
//   linear:activations=8          its inputs are rounded to 8 bits, too
//   linear:requantize=true        ... also of weights that another tool has
//                                 quantized, from the values of its codes
//
// Equal plans are equal texts, and a plan of one SPEC is that spec's text.
#ifndef OUNCE_MODEL_LOADER_METHOD_PLAN_H_
#define OUNCE_MODEL_LOADER_METHOD_PLAN_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "model/weight_role.h"
#include "quant/dtype.h"
#include "quant/params.h"
#include "quant/quant_method.h"
#include "quant/registry.h"

namespace ounce::model {

// As many as short forms of 1,024 globs each way can have.
inline constexpr size_t kMaxPlanRules = 2050;
inline constexpr size_t kMaxPlanBytes = size_t{1} << 20;
inline constexpr size_t kMaxGlobBytes = 256;

// "linear", "head", "embedding", "convolution".
std::string_view RoleName(WeightRole role);

// The keys that every SPEC but keep takes beside its method's parameters, of
// which none has such a name.
absl::Span<const quant::ParamSpec> RuleKeys();

struct RuleSpec {
  quant::MethodSpec method;
  quant::ParamValues keys;  // all of RuleKeys

  // A tied weight of which one use gets this is packed once for each use, by
  // the use's own rule.
  bool untie() const { return quant::BooleanOf(keys, "untie"); }
  // Bits that products with the weight round their inputs to: 8, or 16 for
  // what the method has (quant/input_rounding.h).
  int activations() const { return keys.at("activations") == "8" ? 8 : 16; }
  // Whether it is for weights too that the checkpoint holds in other codes.
  bool requantize() const { return quant::BooleanOf(keys, "requantize"); }
  std::string ToString() const;
};

struct MethodRule {
  std::string glob = "*";
  std::optional<WeightRole> role;  // absent: any
  std::optional<RuleSpec> spec;    // absent: keep

  bool Matches(std::string_view module, WeightRole of) const;
  std::string ToString() const;
};

struct MethodPlan {
  std::vector<MethodRule> rules;
  std::optional<RuleSpec> rest;  // the SPEC alone
  // Globs of short forms may overlap, since exclude wins over include: rules
  // that this leaves with nothing are dropped, not refused. No part of the
  // text.
  bool drops_idle_rules = false;

  // Whether all is as in the checkpoint.
  bool keeps_all() const { return rules.empty() && !rest.has_value(); }
  // What the rest is stored in, vectors too, if it is a method that stores
  // floats, without stages.
  std::optional<quant::DType> float_dtype() const;
  // "keep" if it keeps all.
  std::string ToString() const;
  // The text, or, if it is longer than 128 bytes, its beginning and how many
  // rules there are: for metrics and tables.
  std::string Label() const;
};

// Reads the text of a plan.
// Errors: kInvalidArgument that quotes the rule, says what is wrong with it and
// what a plan looks like: more than kMaxPlanBytes or kMaxPlanRules, an unknown
// role, method or key, activations in 8 bits of a method that stores floats, a
// malformed glob, one that no name can match, a SPEC alone that is not the last
// rule.
absl::StatusOr<MethodPlan> ParseMethodPlan(
    std::string_view text,
    absl::Span<const quant::QuantMethod* const> methods = quant::AllMethods());

// A plan in the words from before there were plans; the fields of its name in
// model_admin.proto's QuantizeRequest.
struct ShortForm {
  std::string method;  // empty: as in the checkpoint
  std::vector<std::string> include = {};
  std::vector<std::string> exclude = {};
  bool convolutions = false;

  bool empty() const;
};

// Whether `text`, given where a SPEC is wanted, is not in fact a plan's.
// Errors: kInvalidArgument that says where plans go.
absl::Status CheckIsNoPlan(std::string_view text);

// What a request that may have either form asks for; with neither, to keep all.
// Errors: about the plan, where there is one: those of ParseMethodPlan, and
// kInvalidArgument for a short form beside it. Else those of ParseMethodSpec,
// and kInvalidArgument, with the field, for include, exclude or convolutions
// without a method and for globs that a plan cannot have.
absl::StatusOr<MethodPlan> PlanOf(std::string_view plan, const ShortForm& form);

// The other way round: absent if the plan says what no short form can.
std::optional<ShortForm> ShortFormOf(const MethodPlan& plan);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_LOADER_METHOD_PLAN_H_
