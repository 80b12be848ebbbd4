#include "model/layers/attention.h"

#include <algorithm>

#include "base/check.h"
#include "model/layers/kernels/layer_kernels.h"
#include "quant/dtype.h"

namespace ounce::model {
namespace {

// Queries that one task attends: enough to make the task worth its hand-out,
// few enough to keep many threads busy with one prompt.
constexpr int64_t kRowsPerTask = 32;

// Tokens that one task attends for so many heads, so that their queries fill
// the kernels' tiles.
int64_t TokensPerTask(int64_t heads) {
  int64_t tokens = kRowsPerTask;
  while (tokens > kAttentionTileRows && tokens * heads > kRowsPerTask) {
    tokens /= 2;
  }
  return tokens;
}

int64_t ScoreStride(int64_t positions) {
  return (positions + kKvBlockTokens - 1) / kKvBlockTokens * kKvBlockTokens;
}

// Some consecutive tokens of a slice.
struct Chunk {
  const AttentionSlice* slice;
  int64_t first;  // of the slice's tokens
  int64_t tokens;
};

// The query heads of a key/value head, or some of them.
struct Bundle {
  int64_t kv_head;
  const int32_t* heads;
  int64_t num_heads;
};

// Lists each key/value head's query heads one after another in `order`, [H],
// and their beginnings in `begin`, [G + 1].
void OrderHeads(const AttentionLayout& layout, int32_t* order, int64_t* begin) {
  const int64_t kv_heads = layout.key.size();
  std::fill_n(begin, kv_heads + 1, 0);
  for (int32_t g : layout.kv_head) ++begin[g + 1];
  for (int64_t g = 0; g < kv_heads; ++g) begin[g + 1] += begin[g];
  for (size_t h = 0; h < layout.kv_head.size(); ++h) {
    order[begin[layout.kv_head[h]]++] = h;
  }
  for (int64_t g = kv_heads; g > 0; --g) begin[g] = begin[g - 1];
  begin[0] = 0;
}

int64_t LargestGroup(int64_t kv_heads, const int64_t* begin) {
  int64_t largest = 0;
  for (int64_t g = 0; g < kv_heads; ++g) {
    largest = std::max(largest, begin[g + 1] - begin[g]);
  }
  return largest;
}

// Cuts groups into bundles of up to `heads_per_bundle`. Returns how many.
int64_t MakeBundles(int64_t kv_heads, const int32_t* order,
                    const int64_t* begin, int64_t heads_per_bundle,
                    Bundle* bundles) {
  int64_t count = 0;
  for (int64_t g = 0; g < kv_heads; ++g) {
    for (int64_t h = begin[g]; h < begin[g + 1]; h += heads_per_bundle) {
      bundles[count++] = {
          .kv_head = g,
          .heads = order + h,
          .num_heads = std::min(heads_per_bundle, begin[g + 1] - h)};
    }
  }
  return count;
}

// Where a position's key and value of a head lie.
struct KvPlace {
  KvCache& cache;
  int64_t block;
  int64_t layer;
  int64_t head;
  int64_t lane;  // of the block's positions

  template <class Element>
  Element* key() const {
    return reinterpret_cast<Element*>(cache.keys(block, layer, head)) + lane;
  }
  template <class Element>
  Element* value() const {
    return reinterpret_cast<Element*>(cache.values(block, layer, head)) +
           lane * cache.shape().head_dim;
  }
};

// Puts a turned key, which is overwritten, and a value into the cache.
void Store(float* key, const float* value, const KvPlace& place, Isa isa) {
  const int64_t head_dim = place.cache.shape().head_dim;
  const auto scatter = [&](auto* keys, const auto& code) {
    for (int64_t d = 0; d < head_dim; ++d) keys[d * kKvBlockTokens] = code(d);
  };
  switch (place.cache.shape().type) {
    case KvType::kFloat32:
      scatter(place.key<float>(), [&](int64_t d) { return key[d]; });
      std::copy_n(value, head_dim, place.value<float>());
      return;
    case KvType::kBFloat16:
      scatter(place.key<uint16_t>(),
              [&](int64_t d) { return quant::FloatToBFloat16(key[d]); });
      quant::FromFloat(quant::DType::kBF16, value, head_dim,
                       place.value<uint16_t>());
      return;
    case KvType::kInt8: {
      const LayerKernels& kernels = LayerKernelsFor(isa);
      float* const scales =
          place.cache.scales(place.block, place.layer, place.head) + place.lane;
      int8_t* const values = place.value<int8_t>();
      scales[kKvBlockTokens] = kernels.round_to_bytes(value, head_dim, values);
      kernels.rotate(key, head_dim);
      // Codes take the place of the floats that they are made of.
      auto* const codes = reinterpret_cast<int8_t*>(key);
      scales[0] = kernels.round_to_bytes(key, head_dim, codes);
      scatter(place.key<int8_t>(), [&](int64_t d) { return codes[d]; });
      return;
    }
  }
}

// Puts the keys, normalized and turned, and the values of a chunk into the
// cache.
void StoreKeysAndValues(const AttentionStep& step, const Chunk& chunk,
                        int64_t kv_head, Isa isa) {
  const AttentionLayout& layout = step.layout;
  const int64_t head_dim = layout.head_dim;
  const int64_t rotary_dim = step.rotary_dim;
  for (int64_t i = chunk.first; i < chunk.first + chunk.tokens; ++i) {
    const int64_t row = chunk.slice->first_row + i;
    const int64_t position = chunk.slice->position + i;
    const int64_t block = chunk.slice->kv_blocks[position / kKvBlockTokens];
    const int64_t lane = position % kKvBlockTokens;
    float* key = step.qkv.row(row) + layout.key[kv_head];
    if (step.key_norm != nullptr) {
      NormalizeRow(key, head_dim, *step.key_norm, key, isa);
    }
    TurnPairs(step.pairing, key, step.angles + row * rotary_dim, rotary_dim,
              key);
    Store(key, step.qkv.row(row) + layout.value[kv_head],
          {step.cache, block, step.layer, kv_head, lane}, isa);
  }
}

// Normalizes and turns the queries of a chunk in place.
void TurnQueries(const AttentionStep& step, const Chunk& chunk,
                 const Bundle& bundle, Isa isa) {
  for (int64_t i = chunk.first; i < chunk.first + chunk.tokens; ++i) {
    const int64_t row = chunk.slice->first_row + i;
    const float* angles = step.angles + row * step.rotary_dim;
    for (int64_t h = 0; h < bundle.num_heads; ++h) {
      float* query = step.qkv.row(row) + step.layout.query[bundle.heads[h]];
      if (step.query_norm != nullptr) {
        NormalizeRow(query, step.layout.head_dim, *step.query_norm, query, isa);
      }
      TurnPairs(step.pairing, query, angles, step.rotary_dim, query);
      if (step.cache.shape().type == KvType::kInt8) {
        LayerKernelsFor(isa).rotate(query, step.layout.head_dim);
      }
    }
  }
}

AttendJob MakeJob(const AttentionStep& step, const Chunk& chunk,
                  const Bundle& bundle, float* scores, int64_t score_stride) {
  const int64_t row = chunk.slice->first_row + chunk.first;
  return {.queries = step.qkv.row(row),
          .query_stride = step.qkv.stride,
          .query_columns = step.layout.query.data(),
          .heads = bundle.heads,
          .num_heads = bundle.num_heads,
          .tokens = chunk.tokens,
          .position = chunk.slice->position + chunk.first,
          .head_dim = step.layout.head_dim,
          .kv_type = step.cache.shape().type,
          .kv = step.cache.keys(0, step.layer, bundle.kv_head),
          .blocks = chunk.slice->kv_blocks.data(),
          .block_stride = step.cache.shape().bytes_per_block(),
          .score_divisor = step.score_divisor,
          .soft_cap = step.score_soft_cap,
          .window = step.window,
          .position_bias = step.position_bias,
          .position_bias_stride = step.position_bias_stride,
          .y = step.y.row(row),
          .y_stride = step.y.stride,
          .scores = scores,
          .score_stride = score_stride};
}

}  // namespace

void Attention(const AttentionStep& step, ThreadPool& pool,
               quant::Scratch& scratch, Isa isa) {
  quant::ScratchScope scope(scratch);
  const AttentionLayout& layout = step.layout;
  const int64_t heads = layout.query.size();
  const int64_t kv_heads = layout.key.size();
  int64_t rows = 0, positions = 0;
  for (const AttentionSlice& slice : step.slices) {
    rows += slice.rows;
    positions = std::max(positions, slice.position + slice.rows);
  }
  const int64_t score_stride = ScoreStride(positions);

  int32_t* order = scratch.Take<int32_t>(heads);
  int64_t* group_begin = scratch.Take<int64_t>(kv_heads + 1);
  Bundle* bundles = scratch.Take<Bundle>(heads);
  Chunk* chunks = scratch.Take<Chunk>(rows);
  float* scores = scratch.Take<float>(pool.num_threads() * kAttentionTileRows *
                                      score_stride);
  if (scratch.counting() || rows == 0) return;
  OUNCE_CHECK(step.cache.shape().heads == kv_heads &&
                  step.cache.shape().head_dim == layout.head_dim,
              "the cache has the layout's heads");

  OrderHeads(layout, order, group_begin);
  const int64_t largest_group = LargestGroup(kv_heads, group_begin);
  const int64_t tokens_per_task = TokensPerTask(largest_group);
  int64_t num_chunks = 0;
  for (const AttentionSlice& slice : step.slices) {
    for (int64_t first = 0; first < slice.rows; first += tokens_per_task) {
      chunks[num_chunks++] = {&slice, first,
                              std::min(tokens_per_task, slice.rows - first)};
    }
  }
  // Groups stay whole unless threads would stand idle: each part of a group
  // reads the keys and values again.
  const int64_t whole = num_chunks * kv_heads;
  const int64_t parts = std::clamp<int64_t>(
      (pool.num_threads() + whole - 1) / whole, 1, largest_group);
  const int64_t num_bundles =
      MakeBundles(kv_heads, order, group_begin,
                  (largest_group + parts - 1) / parts, bundles);

  const auto attend = [&](const Chunk& chunk, const Bundle& bundle,
                          int worker) {
    TurnQueries(step, chunk, bundle, isa);
    LayerKernelsFor(isa).attend(MakeJob(
        step, chunk, bundle,
        scores + worker * kAttentionTileRows * score_stride, score_stride));
  };

  // A head's keys must be there before its first query is attended; where one
  // task does both, one round of the pool is enough.
  if (num_chunks == static_cast<int64_t>(step.slices.size()) &&
      num_bundles == kv_heads) {
    pool.ParallelFor(num_chunks * kv_heads, [&](int64_t task, int worker) {
      const Chunk& chunk = chunks[task / kv_heads];
      const Bundle& bundle = bundles[task % kv_heads];
      StoreKeysAndValues(step, chunk, bundle.kv_head, isa);
      attend(chunk, bundle, worker);
    });
    return;
  }
  pool.ParallelFor(num_chunks * kv_heads, [&](int64_t task, int) {
    StoreKeysAndValues(step, chunks[task / kv_heads], task % kv_heads, isa);
  });
  pool.ParallelFor(num_chunks * num_bundles, [&](int64_t task, int worker) {
    // From the last one on, since late queries have the most to do.
    attend(chunks[num_chunks - 1 - task / num_bundles],
           bundles[task % num_bundles], worker);
  });
}

}  // namespace ounce::model
