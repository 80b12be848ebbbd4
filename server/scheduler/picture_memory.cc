#include "server/scheduler/picture_memory.h"

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "server/scheduler/refusal.h"

namespace ounce::server {
namespace {

// What a peer may hold, as a multiple of what stays free.
constexpr int64_t kPeerShare = 7;

}  // namespace

PictureMemory::Reservation::~Reservation() {
  if (memory_ == nullptr) return;
  memory_->GiveBack(bytes_);
  MutexLock lock(&memory_->mu_);
  memory_->Change(peer_, -1, -bytes_);
}

void PictureMemory::Reservation::Shrink(int64_t bytes) {
  OUNCE_CHECK(memory_ != nullptr && bytes >= 0 && bytes <= bytes_,
              "a reservation only shrinks");
  memory_->GiveBack(bytes_ - bytes);
  MutexLock lock(&memory_->mu_);
  memory_->Change(peer_, 0, bytes - bytes_);
  bytes_ = bytes;
}

absl::StatusOr<PictureMemory::Reservation> PictureMemory::Reserve(
    int64_t bytes, const std::string& peer) {
  if (bytes > capacity_bytes_) {
    return Refusal(
        Reason::kPictureTooLarge,
        absl::StrCat("reading this picture needs ", bytes,
                     " bytes, --picture_memory_bytes allows ", capacity_bytes_,
                     " in all: send a smaller picture"));
  }
  MutexLock lock(&mu_);
  if (bytes > capacity_bytes_ - used_bytes_) {
    return Refusal(
        Reason::kPictureMemoryFull,
        absl::StrCat("too many pictures wait: reading this one needs ", bytes,
                     " bytes, ", capacity_bytes_ - used_bytes_,
                     " of --picture_memory_bytes ", capacity_bytes_,
                     " are free"));
  }
  const auto own = peers_.find(peer);
  const int64_t free_after = capacity_bytes_ - used_bytes_ - bytes;
  if (!peer.empty() && own != peers_.end() &&
      own->second.bytes + bytes > kPeerShare * free_after) {
    return Refusal(
        Reason::kCallerShareFull,
        absl::StrCat("too many pictures of this peer wait: they hold ",
                     own->second.bytes, " bytes, reading this one needs ",
                     bytes, ", and some of the ", capacity_bytes_,
                     " of --picture_memory_bytes is kept for others"));
  }
  Reservation reservation(nullptr, bytes, peer);
  if (budget_ != nullptr && !budget_->Take(MemoryShare::kPictures, bytes)) {
    return Refusal(
        Reason::kMemoryFull,
        absl::StrCat("memory is short: reading this picture needs ", bytes,
                     " bytes, ", budget_->state().attainable_bytes(),
                     " are free"));
  }
  Change(peer, 1, bytes);
  reservation.memory_ = this;
  return reservation;
}

void PictureMemory::GiveBack(int64_t bytes) {
  if (budget_ != nullptr) budget_->GiveBack(MemoryShare::kPictures, bytes);
}

void PictureMemory::Change(const std::string& peer, int64_t pictures,
                           int64_t bytes) {
  const auto held = peers_.try_emplace(peer).first;
  held->second.pictures += pictures;
  held->second.bytes += bytes;
  if (held->second.pictures == 0) peers_.erase(held);
  num_pictures_ += pictures;
  used_bytes_ += bytes;
  on_change_(num_pictures_, used_bytes_);
}

}  // namespace ounce::server
