#include "quant/registry.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "base/check.h"
#include "base/status_macros.h"
#include "base/str_cat.h"

namespace ounce::quant {

#define QUANT_METHOD(function, name) const QuantMethod& function();
#include "quant/methods.def"
#undef QUANT_METHOD

#define WEIGHT_STAGE(function, file) const WeightStage& function();
#include "quant/stages.def"
#undef WEIGHT_STAGE

namespace {

// `name` or `name:key=value,...`.
struct Part {
  std::string_view name;
  std::vector<std::string_view> settings;
};

Part PartOf(std::string_view text) {
  const size_t colon = text.find(':');
  Part part = {text.substr(0, colon), {}};
  if (colon != std::string_view::npos) {
    part.settings = Settings(text.substr(colon + 1));
  }
  return part;
}

const WeightStage* FindStage(std::string_view name) {
  for (const WeightStage* stage : AllStages()) {
    if (stage->name() == name) return stage;
  }
  return nullptr;
}

template <class Named>
std::string Names(absl::Span<const Named* const> all) {
  return absl::StrJoin(all, ", ", [](std::string* out, const Named* one) {
    StrAppend(out, one->name());
  });
}

std::string KnownStages() {
  return StrCat("known stages are ", Names(AllStages()));
}

std::string KnownMethods(absl::Span<const QuantMethod* const> methods) {
  return StrCat("known methods are ", Names(methods));
}

absl::StatusOr<StageSpec> ParseStage(
    std::string_view text, absl::Span<const QuantMethod* const> methods) {
  const Part part = PartOf(text);
  StageSpec spec = {FindStage(part.name), {}};
  if (spec.stage == nullptr) {
    const bool is_method = std::any_of(
        methods.begin(), methods.end(),
        [&](const auto* method) { return method->name() == part.name; });
    return absl::InvalidArgumentError(
        is_method ? StrCat("method ", QuotedPart(part.name),
                           " must be the last part of a spec; before it may "
                           "stand stages: ",
                           KnownStages())
                  : StrCat("unknown stage ", QuotedPart(part.name), "; ",
                           KnownStages()));
  }
  ASSIGN_OR_RETURN(spec.params,
                   ParseParams(StrCat("stage '", part.name, "'"),
                               spec.stage->params(), part.settings));
  return spec;
}

}  // namespace

absl::Span<const QuantMethod* const> AllMethods() {
  static const QuantMethod* const kMethods[] = {
#define QUANT_METHOD(function, name) &function(),
#include "quant/methods.def"
#undef QUANT_METHOD
  };
  return kMethods;
}

absl::Span<const WeightStage* const> AllStages() {
  static const WeightStage* const kStages[] = {
#define WEIGHT_STAGE(function, file) &function(),
#include "quant/stages.def"
#undef WEIGHT_STAGE
  };
  return kStages;
}

std::vector<std::string_view> PartsOfSpec(std::string_view text) {
  std::vector<std::string_view> parts;
  size_t begin = 0;
  for (size_t i = 0; i + 1 < text.size(); ++i) {
    if (text[i] != '+' || !absl::ascii_isalpha(text[i + 1])) continue;
    parts.push_back(text.substr(begin, i - begin));
    begin = i + 1;
  }
  parts.push_back(text.substr(begin));
  return parts;
}

absl::StatusOr<MethodSpec> ParseMethodSpec(
    std::string_view text, absl::Span<const QuantMethod* const> methods) {
  if (std::any_of(text.begin(), text.end(), absl::ascii_isspace)) {
    return absl::InvalidArgumentError(StrCat("quantization method ",
                                             QuotedPart(text),
                                             " must be without whitespace"));
  }
  std::vector<std::string_view> parts = PartsOfSpec(text);
  const Part last = PartOf(parts.back());
  parts.pop_back();
  if (parts.size() > kMaxStages) {
    return absl::InvalidArgumentError(StrCat("at most ", kMaxStages,
                                             " stages may stand before a "
                                             "method, there are ",
                                             parts.size()));
  }
  MethodSpec spec;
  for (const std::string_view part : parts) {
    ASSIGN_OR_RETURN(StageSpec stage, ParseStage(part, methods));
    spec.stages.push_back(std::move(stage));
  }
  for (const QuantMethod* method : methods) {
    if (method->name() == last.name) spec.method = method;
  }
  if (spec.method == nullptr) {
    return absl::InvalidArgumentError(
        FindStage(last.name) != nullptr
            ? StrCat("stage ", QuotedPart(last.name),
                     " needs a method behind it, as in ", last.name,
                     "+bfloat16; ", KnownMethods(methods))
            : StrCat("unknown quantization method ", QuotedPart(last.name),
                     "; ", KnownMethods(methods)));
  }
  ASSIGN_OR_RETURN(spec.params,
                   ParseParams(StrCat("method '", last.name, "'"),
                               spec.method->params(), last.settings));
  return spec;
}

MethodSpec FloatMethodFor(DType dtype) {
  OUNCE_CHECK(IsFloat(dtype), "only float elements have a float method");
  const std::string_view name =
      dtype == DType::kF64 ? Name(DType::kF32) : Name(dtype);
  const auto spec = ParseMethodSpec(name);
  OUNCE_CHECK(spec.ok(), "methods.def lists the float methods");
  return *spec;
}

}  // namespace ounce::quant
