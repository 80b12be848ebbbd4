#include "server/scheduler/memory_budget.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/byte_size.h"
#include "base/check.h"
#include "base/mapped_memory.h"
#include "server/scheduler/refusal.h"

namespace ounce::server {
namespace {

// Set aside for the process itself: what a busy server was seen to hold beside
// what is counted, and some messages of the largest size.
constexpr int64_t kProcessBytes = int64_t{64} << 20;

constexpr const char* kNames[kNumMemoryShares] = {
    "weights", "scratch", "kv_cache", "pictures", "tokenizers"};
constexpr const char* kWords[kNumMemoryShares] = {
    "weights", "working memory", "KV cache", "pictures", "tokenizer"};

}  // namespace

const char* MemoryShareName(MemoryShare share) {
  return kNames[static_cast<size_t>(share)];
}

int64_t MemoryNeed::total() const {
  int64_t sum = 0;
  for (const int64_t part : bytes) sum += part;
  return sum;
}

MemoryNeed MemoryNeed::Plus(const MemoryNeed& other) const {
  MemoryNeed result = *this;
  for (size_t i = 0; i < kNumMemoryShares; ++i) {
    result.bytes[i] += other.bytes[i];
  }
  return result;
}

MemoryNeed MemoryNeed::Max(const MemoryNeed& other) const {
  MemoryNeed result = *this;
  for (size_t i = 0; i < kNumMemoryShares; ++i) {
    result.bytes[i] = std::max(bytes[i], other.bytes[i]);
  }
  return result;
}

std::string MemoryNeed::ToString() const {
  std::vector<std::string> parts;
  for (size_t i = 0; i < kNumMemoryShares; ++i) {
    if (bytes[i] == 0) continue;
    parts.push_back(absl::StrCat(kWords[i], " ", FormatByteSize(bytes[i])));
  }
  return absl::StrCat(FormatByteSize(total()), parts.empty() ? "" : " (",
                      absl::StrJoin(parts, ", "), parts.empty() ? "" : ")");
}

MemoryBudget::Reservation::~Reservation() {
  if (budget_ == nullptr) return;
  {
    MutexLock lock(&budget_->mu_);
    budget_->Add(need_, -1);
    if (ending_) budget_->ending_bytes_ -= need_.total();
    if (!version_of_.empty() && --budget_->versions_[version_of_] == 0) {
      budget_->versions_.erase(version_of_);
    }
  }
  budget_->released_.SignalAll();
}

void MemoryBudget::Reservation::ShrinkTo(const MemoryNeed& need) {
  MemoryNeed rest;
  for (size_t i = 0; i < kNumMemoryShares; ++i) {
    OUNCE_CHECK(need.bytes[i] <= need_.bytes[i], "a reservation only shrinks");
    rest.bytes[i] = need_.bytes[i] - need.bytes[i];
  }
  Split(rest);  // and gone
}

MemoryBudget::Reservation MemoryBudget::Reservation::Split(
    const MemoryNeed& part) {
  OUNCE_CHECK(!ending_, "versions are split before they serve");
  for (size_t i = 0; i < kNumMemoryShares; ++i) {
    need_.bytes[i] -= part.bytes[i];
    OUNCE_CHECK(need_.bytes[i] >= 0, "a part is less than the whole");
  }
  return Reservation(budget_, part);
}

void MemoryBudget::Reservation::CountAsVersionOf(const std::string& model) {
  OUNCE_CHECK(budget_ != nullptr && version_of_.empty(), "once");
  version_of_ = model;
  MutexLock lock(&budget_->mu_);
  ++budget_->versions_[model];
}

void MemoryBudget::Reservation::MarkEnding() {
  if (budget_ == nullptr || ending_) return;
  ending_ = true;
  MutexLock lock(&budget_->mu_);
  budget_->ending_bytes_ += need_.total();
}

absl::StatusOr<MemoryBudget::Reservation> MemoryBudget::Reserve(
    const MemoryNeed& need, const std::string& who) {
  const int64_t attainable =
      options_.attainable_bytes ? options_.attainable_bytes() : kNoLimit;
  MutexLock lock(&mu_);
  const int64_t limit = std::min(options_.limit_bytes, attainable);
  const int64_t bytes = need.total();
  const int64_t taken = options_.process_bytes + used_.total();
  if (bytes <= limit - taken) {
    Add(need, 1);
    return Reservation(this, need);
  }
  std::string message = absl::StrCat(
      who, " needs ", need.ToString(), "; ",
      FormatByteSize(std::max<int64_t>(0, limit - taken)), " of the limit of ",
      FormatByteSize(options_.limit_bytes), " are free");
  if (attainable < options_.limit_bytes) {
    absl::StrAppend(&message, ", since others use memory of this machine too");
  }
  std::vector<std::string> taken_by;
  if (options_.process_bytes > 0) {
    taken_by.push_back(absl::StrCat(FormatByteSize(options_.process_bytes),
                                    " are set aside for the process"));
  }
  if (used_.total() > 0) {
    taken_by.push_back(absl::StrCat(used_.ToString(), " are in use"));
  }
  if (!taken_by.empty()) {
    absl::StrAppend(&message, "; ", absl::StrJoin(taken_by, " and "));
  }
  if (ending_bytes_ > 0) {
    absl::StrAppend(&message, "; versions that no longer serve still hold ",
                    FormatByteSize(ending_bytes_));
  }
  // What has been taken for requests or by old versions comes back, and so does
  // what others have.
  const bool passes =
      bytes <= options_.limit_bytes - (taken - passing_bytes_ - ending_bytes_);
  return Refusal(passes ? Reason::kMemoryFull : Reason::kMemoryTooSmall,
                 message);
}

bool MemoryBudget::Take(MemoryShare share, int64_t bytes) {
  MutexLock lock(&mu_);
  const int64_t taken = options_.process_bytes + used_.total();
  if (bytes > options_.limit_bytes - taken) return false;
  used_[share] += bytes;
  passing_bytes_ += bytes;
  return true;
}

void MemoryBudget::GiveBack(MemoryShare share, int64_t bytes) {
  {
    MutexLock lock(&mu_);
    used_[share] -= bytes;
    passing_bytes_ -= bytes;
    OUNCE_CHECK(passing_bytes_ >= 0, "as much is given back as was taken");
  }
  released_.SignalAll();
}

int64_t MemoryBudget::usable_bytes() const {
  return options_.limit_bytes - options_.process_bytes;
}

MemoryBudget::State MemoryBudget::state() const {
  MutexLock lock(&mu_);
  return {.limit_bytes = options_.limit_bytes,
          .process_bytes = options_.process_bytes,
          .used = used_,
          .ending_bytes = ending_bytes_,
          .versions = versions_};
}

void MemoryBudget::AwaitRelease(absl::Duration timeout) {
  MutexLock lock(&mu_);
  (void)released_.WaitFor(&mu_, timeout);
}

void MemoryBudget::Add(const MemoryNeed& need, int64_t sign) {
  for (size_t i = 0; i < kNumMemoryShares; ++i) {
    used_.bytes[i] += sign * need.bytes[i];
  }
}

bool MemoryUse::Resize(int64_t bytes) {
  const int64_t above = std::max<int64_t>(0, bytes - floor_bytes_);
  if (above > taken_bytes_) {
    if (!budget_.Take(share_, above - taken_bytes_)) return false;
  } else if (above < taken_bytes_) {
    budget_.GiveBack(share_, taken_bytes_ - above);
  }
  taken_bytes_ = above;
  return true;
}

MemoryBudget::Options MemoryOfThisMachine(
    int64_t limit_bytes, const std::function<SystemMemory()>& read) {
  MemoryBudget::Options options;
  options.limit_bytes = limit_bytes;
  if (limit_bytes == 0) {
    options.limit_bytes = read().limit_bytes;
    options.attainable_bytes = [read] {
      const SystemMemory memory = read();
      const int64_t own = ResidentBytes();
      return memory.available_bytes > INT64_MAX - own
                 ? MemoryBudget::kNoLimit
                 : memory.available_bytes + own;
    };
  }
  // A small limit leaves less for messages, but never less than is there.
  options.process_bytes = std::max(
      ResidentBytes(), std::min(kProcessBytes, options.limit_bytes / 4));
  return options;
}

}  // namespace ounce::server
