// Keys and values of all running sequences, in blocks of a fixed size.
//
// A block holds kKvBlockTokens consecutive positions of one sequence, for all
// layers and key/value heads (fewer than query heads where these share them).
// Which block belongs to whom is the scheduler's business.
//
// Layout of a block, float32, per layer and key/value head (D = head_dim):
//   keys   [D][kKvBlockTokens]   so that scores of 16 positions are one vector
//   values [kKvBlockTokens][D]
//
// Threads: none of its own; writers and readers of a block are kept apart by
//   the caller.
#ifndef OUNCE_MODEL_LAYERS_KV_CACHE_H_
#define OUNCE_MODEL_LAYERS_KV_CACHE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "base/mapped_memory.h"

namespace ounce::model {

inline constexpr int kKvBlockTokens = 16;

struct KvShape {
  int64_t layers = 0;
  int64_t heads = 0;     // key/value heads, not query heads
  int64_t head_dim = 0;  // D
  int64_t bytes_per_token() const {
    return layers * heads * head_dim * 2 * static_cast<int64_t>(sizeof(float));
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

  float* keys(int64_t block, int64_t layer, int64_t head) const {
    return base(block, layer, head);
  }
  float* values(int64_t block, int64_t layer, int64_t head) const {
    return base(block, layer, head) + shape_.head_dim * kKvBlockTokens;
  }

  // Gives a block's physical memory back to the system (whole pages of it),
  // while nobody reads or writes it. Threads: any; several may release the
  // same.
  void Release(int64_t block);

 private:
  float* base(int64_t block, int64_t layer, int64_t head) const {
    const int64_t per_head = 2 * shape_.head_dim * kKvBlockTokens;
    return reinterpret_cast<float*>(memory_.data()) +
           ((block * shape_.layers + layer) * shape_.heads + head) * per_head;
  }

  KvShape shape_;
  int64_t num_blocks_ = 0;
  MappedMemory memory_;
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_LAYERS_KV_CACHE_H_
