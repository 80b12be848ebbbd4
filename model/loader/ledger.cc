#include "model/loader/ledger.h"

#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/checkpoint/missing_tensor.h"
#include "model/checkpoint/stored_tensor.h"
#include "model/loader/glob.h"
#include "quant/dtype.h"

namespace ounce::model {
namespace {

// What a name begins with, up to the first dot.
std::string_view Root(std::string_view name) {
  return name.substr(0, name.find('.'));
}

}  // namespace

Ledger::Ledger(const Checkpoint& checkpoint,
               std::function<absl::Status(const LoadProgress&)> progress)
    : checkpoint_(checkpoint), progress_(std::move(progress)) {}

absl::StatusOr<const TensorInfo*> Ledger::Find(
    const std::string& name, const std::vector<int64_t>& shape) {
  RETURN_IF_ERROR(ignore_status_);
  roots_.insert(std::string(Root(name)));
  const auto found = checkpoint_.tensors().find(name);
  if (found == checkpoint_.tensors().end()) {
    return Problem(name, StrCat("of shape ", ShapeText(shape), " is missing",
                                WhyMissing(checkpoint_, name)));
  }
  const TensorInfo& info = found->second;
  if (!quant::IsFloat(info.dtype)) {
    return Problem(name,
                   StrCat("must have floats, has ", quant::Name(info.dtype)));
  }
  if (info.shape != shape) {
    return Problem(name, StrCat("must be of shape ", ShapeText(shape),
                                ", is of ", ShapeText(info.shape)));
  }
  return &info;
}

size_t Ledger::Add(const std::string& name, const TensorInfo& info) {
  TensorReport report;
  report.name = name;
  report.shape = info.shape;
  reports_.push_back(std::move(report));
  by_storage_.emplace(info.storage_id, name);
  return reports_.size() - 1;
}

void Ledger::AddNotStored(const std::string& name, const TensorInfo& info,
                          std::string reason) {
  TensorReport report;
  report.name = name;
  report.shape = info.shape;
  report.left_alone = std::move(reason);
  reports_.push_back(std::move(report));
}

absl::Status Ledger::Done(const std::string& name) {
  if (done_.insert(name).second && checkpoint_.tensors().contains(name)) {
    ++tensors_done_;
  }
  if (!progress_) return absl::OkStatus();
  return progress_(
      {.tensors_done = tensors_done_,
       .tensors_total = static_cast<int64_t>(checkpoint_.tensors().size()),
       .tensor = name});
}

void Ledger::Ignore(std::string_view glob) {
  for (const auto& [name, info] : checkpoint_.tensors()) {
    if (IsDone(name) || !GlobMatches(glob, name)) continue;
    const auto known = by_storage_.find(info.storage_id);
    AddNotStored(
        name, info,
        known != by_storage_.end() ? "tied to " + known->second : "not needed");
    if (ignore_status_.ok()) ignore_status_ = Done(name);
  }
}

absl::StatusOr<LoadReport> Ledger::Finish() && {
  RETURN_IF_ERROR(CheckLeftOver());
  for (const auto& [name, info] : checkpoint_.tensors()) {
    if (IsDone(name)) continue;
    AddNotStored(name, info, "not used: the architecture does not know it");
    RETURN_IF_ERROR(Done(name));
  }
  RETURN_IF_ERROR(ignore_status_);
  LoadReport all;
  for (const TensorReport& tensor : reports_) {
    all.checkpoint_bytes += tensor.checkpoint_bytes;
    all.stored_bytes += tensor.stored_bytes;
    all.resident_bytes += tensor.resident_bytes;
    if (!tensor.element.empty()) {
      all.resident_bytes_by_element[tensor.element] += tensor.resident_bytes;
    }
  }
  all.tensors = std::move(reports_);
  return all;
}

absl::Status Ledger::Problem(const std::string& name,
                             const std::string& what) const {
  return absl::InvalidArgumentError(
      StrCat(checkpoint_.folder(), ": tensor '", name, "' ", what));
}

// A tensor whose name begins like those that were asked for belongs to the
// network; if nobody knows it, the config says less than the weights.
absl::Status Ledger::CheckLeftOver() const {
  std::string first;
  int64_t count = 0;
  for (const auto& [name, info] : checkpoint_.tensors()) {
    if (IsDone(name) || !roots_.contains(Root(name))) continue;
    if (count++ == 0) first = name;
  }
  if (count == 0) return absl::OkStatus();
  return Problem(
      first,
      StrCat(count > 1 ? StrCat("and ", count - 1, " more are") : "is",
             " in the weights, but config.json does not account for ",
             count > 1 ? "them" : "it",
             ": the config is of another model, or has a form that is not "
             "supported"));
}

}  // namespace ounce::model
