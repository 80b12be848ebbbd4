#include "model/layers/attention.h"

#include <algorithm>

#include "model/layers/kernels/layer_kernels.h"
#include "model/layers/rope.h"

namespace ounce::model {
namespace {

// Queries of one head that one task attends: enough to make the task worth
// its hand-out, few enough to keep many threads busy with one prompt.
constexpr int64_t kRowsPerTask = 32;

int64_t ScoreStride(int64_t positions) {
  return (positions + kKvBlockTokens - 1) / kKvBlockTokens * kKvBlockTokens;
}

// Turns queries in place, and puts turned keys and values into the cache.
void StoreHead(const AttentionStep& step, const AttentionSlice& slice,
               int64_t head) {
  const HeadColumns& columns = step.heads[head];
  const int64_t head_dim = step.cache.shape().head_dim;
  const int64_t rotary_dim = step.rotary_dim;
  for (int64_t i = 0; i < slice.rows; ++i) {
    const int64_t row = slice.first_row + i;
    const int64_t position = slice.position + i;
    float* activations = step.qkv.row(row);
    const float* angles = step.angles + row * rotary_dim;

    float* query = activations + columns.query;
    TurnPairs(query, angles, rotary_dim, 1, query);

    const int64_t block = slice.kv_blocks[position / kKvBlockTokens];
    const int64_t lane = position % kKvBlockTokens;
    const float* key = activations + columns.key;
    float* keys = step.cache.keys(block, step.layer, head) + lane;
    TurnPairs(key, angles, rotary_dim, kKvBlockTokens, keys);
    for (int64_t d = rotary_dim; d < head_dim; ++d) {
      keys[d * kKvBlockTokens] = key[d];
    }
    std::copy_n(activations + columns.value, head_dim,
                step.cache.values(block, step.layer, head) + lane * head_dim);
  }
}

HeadJob MakeJob(const AttentionStep& step, const AttentionSlice& slice,
                int64_t head, int64_t first, float* scores,
                int64_t score_stride) {
  const int64_t head_dim = step.cache.shape().head_dim;
  const int64_t row = slice.first_row + first;
  return {.queries = step.qkv.row(row) + step.heads[head].query,
          .query_stride = step.qkv.stride,
          .rows = std::min(kRowsPerTask, slice.rows - first),
          .position = slice.position + first,
          .head_dim = head_dim,
          .kv = step.cache.keys(0, step.layer, head),
          .blocks = slice.kv_blocks.data(),
          .block_stride = step.cache.shape().bytes_per_block() /
                          static_cast<int64_t>(sizeof(float)),
          .y = step.y.row(row) + head * head_dim,
          .y_stride = step.y.stride,
          .scores = scores,
          .score_stride = score_stride};
}

}  // namespace

size_t AttentionScratchBytes(int64_t slices, int64_t max_positions,
                             int threads) {
  return threads * kAttentionTileRows * ScoreStride(max_positions) *
             sizeof(float) +
         (slices + 1) * sizeof(int64_t) + 2 * 64;
}

void Attention(const AttentionStep& step, ThreadPool& pool,
               quant::Scratch& scratch, Isa isa) {
  quant::ScratchScope scope(scratch);
  const auto attend = LayerKernelsFor(isa).attend;
  const int64_t heads = step.heads.size();
  const int64_t num_slices = step.slices.size();

  // Groups of queries, by slice: group_begin[s] to group_begin[s + 1].
  int64_t* group_begin = scratch.Take<int64_t>(num_slices + 1);
  group_begin[0] = 0;
  int64_t positions = 0;
  for (int64_t s = 0; s < num_slices; ++s) {
    const AttentionSlice& slice = step.slices[s];
    group_begin[s + 1] =
        group_begin[s] + (slice.rows + kRowsPerTask - 1) / kRowsPerTask;
    positions = std::max(positions, slice.position + slice.rows);
  }
  const int64_t groups = group_begin[num_slices];
  const int64_t score_stride = ScoreStride(positions);
  float* scores = scratch.Take<float>(pool.num_threads() * kAttentionTileRows *
                                      score_stride);

  const auto attend_group = [&](int64_t s, int64_t head, int64_t first,
                                int worker) {
    attend(MakeJob(step, step.slices[s], head, first,
                   scores + worker * kAttentionTileRows * score_stride,
                   score_stride));
  };

  // A head's keys must be there before its first query is attended; where one
  // task does both, one round of the pool is enough.
  if (groups == num_slices) {
    pool.ParallelFor(num_slices * heads, [&](int64_t task, int worker) {
      const int64_t s = task / heads, head = task % heads;
      StoreHead(step, step.slices[s], head);
      attend_group(s, head, 0, worker);
    });
    return;
  }
  pool.ParallelFor(num_slices * heads, [&](int64_t task, int) {
    StoreHead(step, step.slices[task / heads], task % heads);
  });
  pool.ParallelFor(groups * heads, [&](int64_t task, int worker) {
    // From the last one on, since late queries have the most to do.
    const int64_t group = groups - 1 - task / heads;
    const int64_t s =
        std::upper_bound(group_begin, group_begin + num_slices, group) -
        group_begin - 1;
    attend_group(s, task % heads, (group - group_begin[s]) * kRowsPerTask,
                 worker);
  });
}

}  // namespace ounce::model
