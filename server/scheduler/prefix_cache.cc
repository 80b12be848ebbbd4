#include "server/scheduler/prefix_cache.h"

#include <utility>

#include "base/check.h"

namespace ounce::server {

std::vector<int32_t> PrefixCache::BeginVersion(int64_t version) {
  if (version == version_) return {};
  version_ = version;
  std::vector<int32_t> were_idle(idle_.begin(), idle_.end());
  for (const auto& [key, listed] : listed_) {
    by_block_[listed.block] = listed_.end();
  }
  listed_.clear();
  idle_.clear();
  return were_idle;
}

PrefixCache::Key PrefixCache::KeyOf(const Prefix& prefix, int64_t index,
                                    uint64_t before) const {
  const auto tokens =
      prefix.tokens.subspan(index * block_tokens_, block_tokens_);
  return {before, index == 0 ? std::string(prefix.scope) : std::string(),
          std::vector<int32_t>(tokens.begin(), tokens.end())};
}

std::vector<int32_t> PrefixCache::Find(const Prefix& prefix) const {
  std::vector<int32_t> blocks;
  if (!IsServed(prefix)) return blocks;
  const auto full = static_cast<int64_t>(prefix.tokens.size()) / block_tokens_;
  uint64_t before = 0;
  for (int64_t index = 0; index < full; ++index) {
    const auto found = listed_.find(KeyOf(prefix, index, before));
    if (found == listed_.end()) break;
    blocks.push_back(found->second.block);
    before = found->second.id;
  }
  return blocks;
}

int32_t PrefixCache::List(const Prefix& prefix, int64_t index, int32_t before,
                          int32_t block) {
  if (!IsServed(prefix)) return -1;
  OUNCE_CHECK(index == 0 || IsListed(before), "a chain of blocks has a gap");
  const uint64_t id_before = index == 0 ? 0 : by_block_[before]->second.id;
  const auto [place, is_new] = listed_.try_emplace(
      KeyOf(prefix, index, id_before), Listed{block, last_id_ + 1});
  if (is_new) {
    ++last_id_;
    by_block_[block] = place;
  }
  return place->second.block;
}

void PrefixCache::SetInUse(int32_t block) {
  idle_.erase(by_block_[block]->second.place);
}

void PrefixCache::SetIdle(int32_t block) {
  by_block_[block]->second.place = idle_.insert(idle_.end(), block);
}

int32_t PrefixCache::Evict() {
  OUNCE_CHECK(!idle_.empty(), "no block is idle");
  const int32_t block = idle_.front();
  idle_.pop_front();
  listed_.erase(by_block_[block]);
  by_block_[block] = listed_.end();
  ++num_evicted_;
  return block;
}

}  // namespace ounce::server
