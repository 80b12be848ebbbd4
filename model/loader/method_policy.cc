#include "model/loader/method_policy.h"

#include <algorithm>
#include <string_view>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/files/byte_source.h"
#include "model/loader/glob.h"
#include "quant/registry.h"

namespace ounce::model {
namespace {

using Globs = std::vector<std::string>;

// The first that matches; null if none does.
const std::string* FirstMatch(const Globs& globs, const std::string& module) {
  const auto found = std::find_if(
      globs.begin(), globs.end(),
      [&](const std::string& glob) { return GlobMatches(glob, module); });
  return found == globs.end() ? nullptr : &*found;
}

std::string_view RoleName(WeightRole role) {
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

}  // namespace

MethodPolicy::MethodPolicy(const MethodRequest& request)
    : request_(request),
      is_float_(request.method.has_value() &&
                request.method->float_dtype().has_value()) {}

MethodPolicy::Choice MethodPolicy::Choose(const std::string& module,
                                          WeightRole role, quant::DType dtype) {
  const quant::MethodSpec kept = quant::FloatMethodFor(dtype);
  if (!request_.method.has_value()) return {kept, ""};
  std::string left_alone;
  const bool by_role =
      (role == WeightRole::kConvolution && request_.convolutions) ||
      (request_.include.empty() && (role == WeightRole::kLinear || is_float_));
  if (const std::string* glob = FirstMatch(request_.exclude, module)) {
    left_alone = StrCat("excluded by '", *glob, "'");
  } else if (!by_role && request_.include.empty()) {
    left_alone = StrCat("kept: ", RoleName(role),
                        " stays in the checkpoint's dtype unless included");
  } else if (!by_role && FirstMatch(request_.include, module) == nullptr) {
    left_alone = "not among those included";
  }
  matrices_.push_back({module, role, left_alone.empty()});
  if (!left_alone.empty()) return {kept, left_alone};
  return {*request_.method, ""};
}

void MethodPolicy::Tied(const std::string& module, const std::string& other) {
  ties_.push_back({module, other});
}

absl::Status MethodPolicy::CheckRequest() const {
  if (!request_.method.has_value()) {
    const char* given = request_.convolutions       ? "convolutions"
                        : !request_.include.empty() ? "include"
                        : !request_.exclude.empty() ? "exclude"
                                                    : nullptr;
    if (given == nullptr) return absl::OkStatus();
    return absl::InvalidArgumentError(
        StrCat(given, ": needs a method to apply, and none is given"));
  }
  for (const Globs* globs : {&request_.include, &request_.exclude}) {
    for (const std::string& glob : *globs) RETURN_IF_ERROR(CheckGlob(glob));
  }
  return absl::OkStatus();
}

absl::Status MethodPolicy::CheckChoices() const {
  if (!request_.method.has_value()) return absl::OkStatus();
  RETURN_IF_ERROR(CheckGlobs("include", request_.include));
  RETURN_IF_ERROR(CheckGlobs("exclude", request_.exclude));
  for (const Tie& tie : ties_) RETURN_IF_ERROR(CheckTie(tie));
  bool any = false, any_convolution = false, any_convolution_chosen = false;
  for (const Matrix& matrix : matrices_) {
    const bool convolution = matrix.role == WeightRole::kConvolution;
    any |= matrix.chosen;
    any_convolution |= convolution;
    any_convolution_chosen |= convolution && matrix.chosen;
  }
  if (request_.convolutions && !any_convolution) {
    return absl::InvalidArgumentError("convolutions: the model has none");
  }
  if (!any) return NothingLeft();
  if (request_.convolutions && !any_convolution_chosen) {
    return absl::InvalidArgumentError(
        "convolutions: exclude takes all of them out again");
  }
  return absl::OkStatus();
}

absl::Status MethodPolicy::CheckGlobs(const char* field,
                                      const Globs& globs) const {
  for (const std::string& glob : globs) {
    const auto matches = [&](const auto& named) {
      return GlobMatches(glob, named.module);
    };
    if (std::any_of(matrices_.begin(), matrices_.end(), matches) ||
        std::any_of(ties_.begin(), ties_.end(), matches)) {
      continue;
    }
    const auto longest =
        std::max_element(matrices_.begin(), matrices_.end(),
                         [](const Matrix& a, const Matrix& b) {
                           return a.module.size() < b.module.size();
                         });
    return absl::InvalidArgumentError(
        StrCat(field, ": ", Quoted(glob), " matches no matrix of the model",
               longest == matrices_.end()
                   ? ""
                   : StrCat("; names look like '", longest->module, "'")));
  }
  return absl::OkStatus();
}

absl::Status MethodPolicy::CheckTie(const Tie& tie) const {
  const auto stored =
      std::find_if(matrices_.begin(), matrices_.end(),
                   [&](const Matrix& m) { return m.module == tie.other; });
  const bool chosen = stored != matrices_.end() && stored->chosen;
  const std::string* excluded = FirstMatch(request_.exclude, tie.module);
  const std::string* included = FirstMatch(request_.include, tie.module);
  const auto refuse = [&](const char* field, const std::string& glob,
                          const char* does, const char* other_is) {
    return absl::InvalidArgumentError(StrCat(
        field, ": ", Quoted(glob), " ", does, " ", tie.module,
        ", which is tied to ", tie.other, ", and that is ", other_is,
        "; they are one weight under two names, so ", field, " both of them"));
  };
  if (excluded != nullptr && chosen) {
    return refuse("exclude", *excluded, "leaves out", "to be quantized");
  }
  if (excluded == nullptr && included != nullptr && !chosen) {
    return refuse("include", *included, "takes in", "not");
  }
  return absl::OkStatus();
}

absl::Status MethodPolicy::NothingLeft() const {
  const std::string method = request_.method->ToString();
  if (!request_.exclude.empty()) {
    return absl::InvalidArgumentError(
        StrCat("nothing is left to store as ", method, ": exclude takes out ",
               request_.include.empty() ? "every matrix that the method is for"
                                        : "all that include takes in"));
  }
  return absl::InvalidArgumentError(
      StrCat("there is nothing to store as ", method,
             ": the model has no linear layers; include names others"));
}

}  // namespace ounce::model
