#include "server/scheduler/memory_budget.h"

#include <algorithm>
#include <utility>
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

MemoryNeed MemoryNeed::Minus(const MemoryNeed& other) const {
  MemoryNeed result = *this;
  for (size_t i = 0; i < kNumMemoryShares; ++i) {
    result.bytes[i] -= other.bytes[i];
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
  if (bytes <= FreeUnder(limit)) {
    Add(need, 1);
    GiveUpKept(limit, nullptr);
    return Reservation(this, need);
  }
  std::string message = absl::StrCat(
      who, " needs ", need.ToString(), "; ",
      FormatByteSize(std::max<int64_t>(0, FreeUnder(limit))),
      " of the limit of ", FormatByteSize(options_.limit_bytes), " are free");
  if (attainable < options_.limit_bytes) {
    absl::StrAppend(&message, ", since others use memory of this machine too");
  }
  std::vector<std::string> taken_by;
  if (options_.process_bytes > 0) {
    taken_by.push_back(absl::StrCat(FormatByteSize(options_.process_bytes),
                                    " are set aside for the process"));
  }
  const MemoryNeed needed = used_.Minus(Kept());
  if (needed.total() > 0) {
    taken_by.push_back(absl::StrCat(needed.ToString(), " are in use"));
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
      bytes <= options_.limit_bytes - (options_.process_bytes + used_.total() -
                                       passing_bytes_ - ending_bytes_);
  return Refusal(passes ? Reason::kMemoryFull : Reason::kMemoryTooSmall,
                 message);
}

bool MemoryBudget::Take(MemoryShare share, int64_t bytes) {
  MutexLock lock(&mu_);
  if (bytes > FreeUnder(options_.limit_bytes)) return false;
  Pass(share, bytes);
  GiveUpKept(options_.limit_bytes, nullptr);
  return true;
}

void MemoryBudget::GiveBack(MemoryShare share, int64_t bytes) {
  {
    MutexLock lock(&mu_);
    Pass(share, -bytes);
    OUNCE_CHECK(passing_bytes_ >= 0, "as much is given back as was taken");
  }
  released_.SignalAll();
}

int64_t MemoryBudget::usable_bytes() const {
  return options_.limit_bytes - options_.process_bytes;
}

std::vector<std::pair<const char*, int64_t>> MemoryBudget::State::taken()
    const {
  std::vector<std::pair<const char*, int64_t>> result;
  const MemoryNeed needed = used.Minus(kept);
  for (size_t i = 0; i < kNumMemoryShares; ++i) {
    const auto share = static_cast<MemoryShare>(i);
    result.emplace_back(MemoryShareName(share), needed[share]);
  }
  result.emplace_back("kept", kept.total());
  result.emplace_back("process", process_bytes);
  return result;
}

MemoryBudget::State MemoryBudget::state() const {
  MutexLock lock(&mu_);
  return {.limit_bytes = options_.limit_bytes,
          .process_bytes = options_.process_bytes,
          .used = used_,
          .kept = Kept(),
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

void MemoryBudget::Pass(MemoryShare share, int64_t bytes) {
  used_[share] += bytes;
  passing_bytes_ += bytes;
}

MemoryNeed MemoryBudget::Kept() const {
  MemoryNeed kept;
  for (const MemoryUse* const use : uses_) {
    kept[use->share_] += use->TakenToKeep();
  }
  return kept;
}

void MemoryBudget::SetUse(MemoryUse& use, int64_t needed, int64_t kept) {
  const int64_t before = use.Taken();
  use.needed_bytes_ = needed;
  use.kept_bytes_ = kept;
  Pass(use.share_, use.Taken() - before);
}

int64_t MemoryBudget::FreeUnder(int64_t limit) const {
  return limit - options_.process_bytes - used_.total() + Kept().total();
}

void MemoryBudget::GiveUpKept(int64_t limit, MemoryUse* first) {
  std::vector<MemoryUse*> order = {first};
  order.insert(order.end(), uses_.begin(), uses_.end());
  for (MemoryUse* const use : order) {
    const int64_t above = options_.process_bytes + used_.total() - limit;
    if (above <= 0) return;
    if (use == nullptr || use->TakenToKeep() <= 0) continue;
    const int64_t given = use->give_up_(std::min(above, use->TakenToKeep()));
    SetUse(*use, use->needed_bytes_, use->kept_bytes_ - given);
  }
}

MemoryUse::MemoryUse(MemoryBudget& budget, MemoryShare share,
                     int64_t floor_bytes)
    : budget_(budget), share_(share), floor_bytes_(floor_bytes) {
  MutexLock lock(&budget_.mu_);
  budget_.uses_.push_back(this);
}

MemoryUse::~MemoryUse() {
  {
    MutexLock lock(&budget_.mu_);
    budget_.SetUse(*this, 0, 0);
    std::erase(budget_.uses_, this);
  }
  budget_.released_.SignalAll();
}

int64_t MemoryUse::Taken() const {
  return std::max<int64_t>(0, needed_bytes_ + kept_bytes_ - floor_bytes_);
}

int64_t MemoryUse::TakenToKeep() const {
  if (!give_up_) return 0;
  return Taken() - std::max<int64_t>(0, needed_bytes_ - floor_bytes_);
}

bool MemoryUse::Resize(int64_t bytes) {
  MutexLock lock(&budget_.mu_);
  const int64_t limit = budget_.options_.limit_bytes;
  const int64_t above = bytes - std::max(needed_bytes_, floor_bytes_);
  if (above > 0 && above > budget_.FreeUnder(limit)) return false;
  if (bytes < needed_bytes_) budget_.released_.SignalAll();
  budget_.SetUse(*this, bytes, kept_bytes_);
  budget_.GiveUpKept(limit, this);
  return true;
}

void MemoryUse::SetGiveUp(GiveUp give_up) {
  MutexLock lock(&budget_.mu_);
  give_up_ = std::move(give_up);
}

void MemoryUse::ChangeKept(int64_t bytes) {
  MutexLock lock(&budget_.mu_);
  budget_.SetUse(*this, needed_bytes_, kept_bytes_ + bytes);
  budget_.GiveUpKept(budget_.options_.limit_bytes, this);
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
