#include "server/scheduler/running_sequences.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace ounce::server {
namespace {

constexpr int64_t kHugePageBytes = 2 << 20;

// How many blocks around a freed one may have memory too: the system may have
// given it for more than the block that was touched, a huge page at a time.
int64_t ReachOf(int64_t block_bytes) {
  return (kHugePageBytes + block_bytes - 1) / block_bytes;
}

}  // namespace

RunningSequences::RunningSequences(int64_t max_active,
                                   BlockAllocator::Options blocks)
    : max_active_(max_active),
      block_tokens_(blocks.block_tokens),
      blocks_(std::move(blocks)) {
  sequences_.reserve(max_active);
}

bool RunningSequences::Has(const std::string& peer) const {
  return ShareOf(peer, Share::kPlaces) > 0;
}

int64_t RunningSequences::PartOf(const Sequence& sequence, Share share) const {
  if (IsDoomed(sequence)) return 0;
  if (share == Share::kBlocks) return sequence.num_blocks();
  return sequence.stalled ? 0 : 1;
}

int64_t RunningSequences::ShareOf(const std::string& peer, Share share) const {
  int64_t sum = 0;
  for (const auto& sequence : sequences_) {
    if (sequence->peer() == peer) sum += PartOf(*sequence, share);
  }
  return sum;
}

std::map<std::string_view, int64_t> RunningSequences::Shares(
    Share share) const {
  std::map<std::string_view, int64_t> shares;
  for (const auto& sequence : sequences_) {
    shares[sequence->peer()] += PartOf(*sequence, share);
  }
  return shares;
}

bool RunningSequences::IsDoomed(const Sequence& sequence) const {
  return std::find(doomed_.begin(), doomed_.end(), &sequence) != doomed_.end();
}

const Sequence* RunningSequences::Eldest() const {
  for (const auto& sequence : sequences_) {
    if (!sequence->paused()) return sequence.get();
  }
  return nullptr;
}

Sequence* RunningSequences::StalledVictim() {
  const auto is_candidate = [&](const auto& sequence) {
    return sequence->stalled && !sequence->blocks.empty() &&
           !IsDoomed(*sequence);
  };
  if (std::none_of(sequences_.begin(), sequences_.end(), is_candidate)) {
    return nullptr;
  }
  const auto shares = Shares(Share::kBlocks);
  Sequence* victim = nullptr;
  int64_t most = 0;
  for (const auto& sequence : sequences_) {
    if (!is_candidate(sequence)) continue;
    const int64_t share = shares.at(sequence->peer());
    if (share < most) continue;
    most = share;
    victim = sequence.get();
  }
  return victim;
}

Sequence* RunningSequences::Victim(const Sequence& asking) {
  if (Sequence* const stalled = StalledVictim()) return stalled;
  const Sequence* const eldest = Eldest();
  const auto shares = Shares(Share::kBlocks);
  Sequence* victim = nullptr;
  int64_t most = 0;
  for (const auto& sequence : sequences_) {
    if (sequence.get() == eldest) continue;
    if (sequence->blocks.empty() && sequence.get() != &asking) continue;
    // Among peers that have as much, the one that asks.
    const bool own = sequence->peer() == asking.peer();
    const int64_t share = 2 * shares.at(sequence->peer()) + (own ? 1 : 0);
    if (share < most) continue;
    most = share;
    victim = sequence.get();
  }
  return victim;
}

Sequence* RunningSequences::ForTheSakeOf(const std::string& peer, Share share,
                                         int64_t taken) {
  const int64_t enough = 2 * (ShareOf(peer, share) + taken);
  const int64_t all =
      share == Share::kPlaces ? max_active_ : blocks_.num_blocks();
  if (enough >= all) return nullptr;
  const Sequence* const eldest = Eldest();
  const auto shares = Shares(share);
  Sequence* victim = nullptr;
  int64_t most = enough + 1;
  for (const auto& sequence : sequences_) {
    if (sequence.get() == eldest || sequence->stalled || IsDoomed(*sequence)) {
      continue;
    }
    const int64_t has = shares.at(sequence->peer());
    if (has < most) continue;
    most = has;
    victim = sequence.get();
  }
  return victim;
}

Prefix RunningSequences::Beginning(const Sequence& sequence) const {
  return sequence.FirstTokens(
      sequence.num_tokens() - 1,
      sequence.started() ? sequence.engine->info().model_version : version_);
}

std::map<int32_t, int64_t> RunningSequences::HoldersWithoutDoomed() const {
  std::map<int32_t, int64_t> holders;
  for (const Sequence* const sequence : doomed_) {
    for (const int32_t block : sequence->blocks) {
      --holders.try_emplace(block, blocks_.num_holders(block)).first->second;
    }
  }
  return holders;
}

bool RunningSequences::MakeRoomFor(const Sequence& newcomer) {
  const int64_t all_blocks = BlocksFor(newcomer.num_tokens());
  const std::vector<int32_t> found = blocks_.Find(Beginning(newcomer));
  doomed_.clear();
  while (true) {
    const std::map<int32_t, int64_t> holders = HoldersWithoutDoomed();
    const auto is_held = [&](int32_t block) {
      const auto doomed = holders.find(block);
      return doomed == holders.end() ? blocks_.num_holders(block) > 0
                                     : doomed->second > 0;
    };
    const int64_t shared = std::count_if(found.begin(), found.end(), is_held);
    const int64_t need = all_blocks - shared;
    int64_t places = max_active_;
    int64_t free = blocks_.num_free() +
                   std::count_if(holders.begin(), holders.end(),
                                 [](const auto& of) { return of.second == 0; });
    for (const auto& sequence : sequences_) {
      if (!IsDoomed(*sequence) && !sequence->stalled) {
        --places;
        // What its tokens still take, and the block to grow into.
        free -=
            std::max<int64_t>(
                BlocksFor(sequence->num_tokens()) - sequence->num_blocks(), 0) +
            1;
      }
    }
    // The memory of those that are kept for it is there.
    const int64_t kept = static_cast<int64_t>(found.size()) - shared;
    if (places > 0 && free >= need &&
        blocks_.CanHold(blocks_.num_blocks() - free + need - kept)) {
      break;
    }
    Sequence* victim = nullptr;
    if (places < 1) {
      victim = ForTheSakeOf(newcomer.peer(), Share::kPlaces, 1);
    } else {
      victim = StalledVictim();
      if (victim == nullptr) {
        victim = ForTheSakeOf(newcomer.peer(), Share::kBlocks, all_blocks);
      }
    }
    if (victim == nullptr) {
      doomed_.clear();
      return false;
    }
    doomed_.push_back(victim);
  }
  while (!doomed_.empty()) {
    Sequence& victim = *doomed_.back();
    doomed_.pop_back();
    Preempt(victim);
  }
  return true;
}

Sequence& RunningSequences::Add(std::unique_ptr<Sequence> sequence) {
  Sequence& added = *sequence;
  added.running = true;
  const std::vector<int32_t> found = blocks_.Adopt(Beginning(added));
  added.blocks.insert(added.blocks.end(), found.begin(), found.end());
  added.num_listed = added.num_blocks();
  added.num_cached = added.num_listed * block_tokens_;
  added.num_prompt_told = std::max(
      added.num_prompt_told, std::min(added.num_cached, added.num_prompt));
  const auto place = std::upper_bound(
      sequences_.begin(), sequences_.end(), sequence->id,
      [](uint64_t id, const auto& other) { return id < other->id; });
  sequences_.insert(place, std::move(sequence));
  return added;
}

void RunningSequences::BeginOn(const std::shared_ptr<Engine>& engine) {
  version_ = engine->info().model_version;
  const std::vector<int32_t> freed = blocks_.BeginVersion(version_);
  if (freed.empty()) return;
  freed_.insert(freed_.end(), freed.begin(), freed.end());
  engine_ = engine;
}

void RunningSequences::Publish(Sequence& sequence) {
  const std::vector<int32_t> freed =
      blocks_.List(sequence.FirstTokens(sequence.num_cached,
                                        sequence.engine->info().model_version),
                   sequence.num_listed, &sequence.blocks);
  sequence.num_listed = sequence.num_cached / block_tokens_;
  if (!freed.empty()) Release(*sequence.engine, freed);
}

bool RunningSequences::Reserve(Sequence& sequence, int64_t tokens) {
  if (!sequence.running) return false;
  const int64_t more = BlocksFor(tokens) - sequence.num_blocks();
  if (more <= 0) return true;
  while (!blocks_.Allocate(more, &sequence.blocks)) {
    Sequence* const victim = Victim(sequence);
    if (victim == nullptr) return false;
    Preempt(*victim);
    if (victim == &sequence) return false;
  }
  return true;
}

void RunningSequences::ResumeStalled() {
  int64_t places = max_active_;
  std::vector<Sequence*> resumed;
  for (const auto& sequence : sequences_) {
    if (!sequence->stalled) --places;
    if (sequence->stalled && !sequence->paused()) {
      resumed.push_back(sequence.get());
    }
  }
  for (Sequence* const sequence : resumed) {
    sequence->stalled = false;
    if (places > 0 && !sequence->blocks.empty()) {
      --places;
    } else {
      Preempt(*sequence);
    }
  }
}

Sequence* RunningSequences::StalledTooMany(int64_t max_stalled) const {
  const auto stalled_of = [&](const std::string* peer) {
    return std::count_if(
        sequences_.begin(), sequences_.end(), [&](const auto& sequence) {
          return sequence->stalled &&
                 (peer == nullptr || sequence->peer() == *peer);
        });
  };
  if (stalled_of(nullptr) <= max_stalled) return nullptr;
  Sequence* worst = nullptr;
  int64_t most = 0;
  for (const auto& sequence : sequences_) {
    if (!sequence->stalled) continue;
    const int64_t share = stalled_of(&sequence->peer());
    if (share < most ||
        (share == most && worst->paused_since <= sequence->paused_since)) {
      continue;
    }
    most = share;
    worst = sequence.get();
  }
  return worst;
}

void RunningSequences::Preempt(Sequence& sequence) {
  if (!sequence.blocks.empty()) {
    ++num_preempted_;
    const std::vector<int32_t> freed = blocks_.Free(sequence.blocks);
    freed_.insert(freed_.end(), freed.begin(), freed.end());
    engine_ = sequence.engine;
    sequence.blocks.clear();
    sequence.num_cached = 0;
    sequence.num_listed = 0;
  }
  if (!sequence.stalled) PushOut(sequence);
}

void RunningSequences::PushOut(Sequence& sequence) {
  sequence.paused_since = absl::InfiniteFuture();
  pushed_out_.push_back(Take(sequence));
}

int64_t RunningSequences::GiveUpKept(
    int64_t count, int64_t block_bytes,
    absl::FunctionRef<void(absl::Span<const int32_t>)> release) {
  return blocks_.GiveUp(count, ReachOf(block_bytes), release);
}

RunningSequences::Sequences RunningSequences::TakePushedOut() {
  return std::exchange(pushed_out_, {});
}

void RunningSequences::ReleaseFreed() {
  if (engine_ == nullptr) return;
  Release(*engine_, freed_);
  freed_.clear();
  engine_ = nullptr;
}

std::unique_ptr<Sequence> RunningSequences::Take(const Sequence& sequence) {
  const auto found =
      std::find_if(sequences_.begin(), sequences_.end(),
                   [&](const auto& other) { return other.get() == &sequence; });
  OUNCE_CHECK(found != sequences_.end(), "a sequence is taken that runs not");
  std::unique_ptr<Sequence> taken = std::move(*found);
  sequences_.erase(found);
  taken->running = false;
  return taken;
}

void RunningSequences::Free(Sequence& sequence) {
  Release(*sequence.engine, blocks_.Free(sequence.blocks));
  sequence.blocks.clear();
}

void RunningSequences::Release(Engine& engine,
                               absl::Span<const int32_t> blocks) const {
  engine.ReleaseBlocks(
      blocks_.FreeAround(blocks, ReachOf(engine.info().kv_block_bytes)));
}

}  // namespace ounce::server
