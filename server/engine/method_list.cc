#include "server/engine/method_list.h"

#include <string>
#include <vector>

#include "absl/types/span.h"
#include "model/loader/method_plan.h"
#include "model/saver/saver.h"
#include "quant/params.h"
#include "quant/registry.h"

namespace ounce::server {
namespace {

std::vector<MethodParameterInfo> InfoOf(
    absl::Span<const quant::ParamSpec> params) {
  std::vector<MethodParameterInfo> parameters;
  for (const quant::ParamSpec& spec : params) {
    MethodParameterInfo& parameter = parameters.emplace_back();
    parameter.name = std::string(spec.name);
    parameter.default_value = std::string(spec.default_value);
    parameter.help = std::string(spec.help);
    switch (spec.type) {
      case quant::ParamSpec::Type::kInteger:
        parameter.min = spec.min;
        parameter.max = spec.max;
        break;
      case quant::ParamSpec::Type::kNumber:
        parameter.lowest = spec.lowest;
        parameter.highest = spec.highest;
        break;
      case quant::ParamSpec::Type::kBoolean:
        parameter.choices = {"false", "true"};
        break;
      case quant::ParamSpec::Type::kChoice:
        parameter.choices.assign(spec.choices.begin(), spec.choices.end());
        break;
    }
  }
  return parameters;
}

// Of a method or a stage.
template <class Named>
MethodInfo InfoOf(const Named& named) {
  return {.name = std::string(named.name()),
          .summary = std::string(named.summary()),
          .parameters = InfoOf(named.params())};
}

}  // namespace

MethodList ListMethods() {
  MethodList list;
  for (const quant::QuantMethod* method : quant::AllMethods()) {
    list.methods.push_back(InfoOf(*method));
  }
  for (const quant::WeightStage* stage : quant::AllStages()) {
    list.stages.push_back(InfoOf(*stage));
  }
  list.rule_keys = InfoOf(model::RuleKeys());
  for (const model::SaveFormatInfo& format : model::SaveFormats()) {
    list.save_formats.push_back({.name = std::string(format.name),
                                 .summary = std::string(format.summary)});
  }
  return list;
}

}  // namespace ounce::server
