// Keys and values of all running sequences, in blocks of a fixed size.
//
// A block holds kKvBlockTokens consecutive positions of one sequence, for all
// layers and key/value heads (fewer than query heads where these share them).
// Which block belongs to whom is the scheduler's business.
//
// Layout of a block, per layer and key/value head (D = head_dim), of elements
// of the cache's KvType:
//   keys   [D][kKvBlockTokens]   so that scores of 16 positions are one vector
//   values [kKvBlockTokens][D]
// and, where elements have scales, float32:
//   scales of the keys, and then of the values, [kKvBlockTokens] each
//
// Threads: none of its own; writers and readers of a block are kept apart by
//   the caller.
#ifndef OUNCE_MODEL_LAYERS_KV_CACHE_H_
#define OUNCE_MODEL_LAYERS_KV_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/mapped_memory.h"
#include "model/layers/kv_type.h"

namespace ounce::model {

inline constexpr int kKvBlockTokens = 16;

// "float32", "bfloat16", "int8"; and the reverse.
std::string_view KvTypeName(KvType type);
std::optional<KvType> ParseKvType(std::string_view name);

constexpr int64_t KvElementBytes(KvType type) {
  return type == KvType::kFloat32 ? 4 : type == KvType::kBFloat16 ? 2 : 1;
}
constexpr bool HasScales(KvType type) { return type == KvType::kInt8; }

struct KvShape {
  int64_t layers = 0;
  int64_t heads = 0;     // key/value heads, not query heads
  int64_t head_dim = 0;  // D
  KvType type = KvType::kFloat32;

  int64_t bytes_per_token() const {
    const int64_t scale_bytes = HasScales(type) ? sizeof(float) : 0;
    return layers * heads * 2 * (head_dim * KvElementBytes(type) + scale_bytes);
  }
  int64_t bytes_per_block() const { return bytes_per_token() * kKvBlockTokens; }
};

class KvCache {
 public:
  // Address space for `num_blocks`; physical memory comes on first use.
  // kResourceExhausted when the system refuses.
  static absl::StatusOr<KvCache> Create(const KvShape& shape,
                                        int64_t num_blocks);

  int64_t num_blocks() const { return num_blocks_; }
  const KvShape& shape() const { return shape_; }

  // Elements of the cache's type.
  std::byte* keys(int64_t block, int64_t layer, int64_t head) const {
    const int64_t scale_bytes =
        HasScales(shape_.type) ? kKvBlockTokens * int64_t{sizeof(float)} : 0;
    const int64_t per_head = 2 * (elements_bytes() + scale_bytes);
    return memory_.data() +
           ((block * shape_.layers + layer) * shape_.heads + head) * per_head;
  }
  std::byte* values(int64_t block, int64_t layer, int64_t head) const {
    return keys(block, layer, head) + elements_bytes();
  }
  // Of the 16 keys, and behind them of the values. Requires HasScales.
  float* scales(int64_t block, int64_t layer, int64_t head) const {
    return reinterpret_cast<float*>(keys(block, layer, head) +
                                    2 * elements_bytes());
  }

  // Gives a block's physical memory back to the system (whole pages of it),
  // while nobody reads or writes it. Threads: any; several may release the
  // same.
  void Release(int64_t block);

 private:
  // Of 16 keys, or values, of a head.
  int64_t elements_bytes() const {
    return shape_.head_dim * kKvBlockTokens * KvElementBytes(shape_.type);
  }

  KvShape shape_;
  int64_t num_blocks_ = 0;
  MappedMemory memory_;
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_LAYERS_KV_CACHE_H_
