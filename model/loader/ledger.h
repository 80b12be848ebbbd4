// What became of each tensor of a checkpoint while a model is made of it, and
// at the end, whether one was forgotten.
#ifndef OUNCE_MODEL_LOADER_LEDGER_H_
#define OUNCE_MODEL_LOADER_LEDGER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/checkpoint/checkpoint.h"
#include "model/loader/loader.h"

namespace ounce::model {

// Threads: one at a time.
class Ledger {
 public:
  // `progress`, if any, is called after each tensor. Ownership: the checkpoint
  // must outlive it.
  Ledger(const Checkpoint& checkpoint,
         std::function<absl::Status(const LoadProgress&)> progress);

  // A tensor of floats of this shape. Errors: kInvalidArgument with its name.
  absl::StatusOr<const TensorInfo*> Find(const std::string& name,
                                         const std::vector<int64_t>& shape);

  // The index of a new report, in which only name and shape are filled in.
  size_t Add(const std::string& name, const TensorInfo& info);
  TensorReport& report(size_t index) { return reports_[index]; }
  size_t size() const { return reports_.size(); }

  // Of a tensor that takes no memory, for `reason`.
  void AddNotStored(const std::string& name, const TensorInfo& info,
                    std::string reason);

  // The tensor is accounted for, which need not be one of the checkpoint's (the
  // second name of another). Errors: that of `progress`.
  absl::Status Done(const std::string& name);
  bool IsDone(const std::string& name) const { return done_.contains(name); }

  // As WeightReader's; an error of `progress` comes at the next occasion.
  void Ignore(std::string_view glob);

  // Accounts for the rest, and sums up. Errors: kInvalidArgument for tensors of
  // the network's own that nobody asked for.
  absl::StatusOr<LoadReport> Finish() &&;

  // `what` is wrong with a tensor; kInvalidArgument.
  absl::Status Problem(const std::string& name, const std::string& what) const;

 private:
  absl::Status CheckLeftOver() const;

  const Checkpoint& checkpoint_;
  const std::function<absl::Status(const LoadProgress&)> progress_;
  std::vector<TensorReport> reports_;  // in the order of the architecture
  std::map<int64_t, std::string> by_storage_;  // first name reported of each
  std::set<std::string> done_;
  int64_t tensors_done_ = 0;                  // of the checkpoint's
  std::set<std::string, std::less<>> roots_;  // of what was asked for
  absl::Status ignore_status_;                // Ignore can't return one
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_LOADER_LEDGER_H_
