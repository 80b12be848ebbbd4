// Where the heads' queries, keys and values lie in the columns of a fused
// projection, in the ways that checkpoints have them.
#ifndef OUNCE_MODEL_DECODER_HEAD_LAYOUTS_H_
#define OUNCE_MODEL_DECODER_HEAD_LAYOUTS_H_

#include <cstdint>

#include "model/layers/attention.h"

namespace ounce::model {

// All queries, then all keys, then all values: what q, k and v joined give, and
// GPT-2's c_attn. Query heads share `kv_heads` in runs of equal length.
// Requires heads a multiple of kv_heads.
AttentionLayout SplitHeads(int64_t heads, int64_t kv_heads, int64_t head_dim);

// Group after group: its queries, its key, its value. GPT-NeoX and BLOOM (a
// group per head), Falcon's new decoder.
AttentionLayout GroupedHeads(int64_t heads, int64_t kv_heads, int64_t head_dim);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_DECODER_HEAD_LAYOUTS_H_
