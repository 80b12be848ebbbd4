#include "model/layers/dense_attention.h"

#include <algorithm>
#include <cstddef>

#include "base/check.h"
#include "model/layers/kernels/dense_attention_kernels.h"

namespace ounce::model {
namespace {

// Of one head, that one task attends: whole tiles of every kernel.
constexpr int64_t kRowsPerTask = 48;

const DenseAttentionKernels& KernelsFor(Isa isa, bool bfloat16) {
#if defined(__x86_64__)
  if (isa >= Isa::kAvx512Bf16 && bfloat16) {
    return isa == Isa::kAmx ? kDenseAttentionAmx : kDenseAttentionAvx512Bf16;
  }
  if (isa >= Isa::kAvx512) return kDenseAttentionAvx512;
  if (isa >= Isa::kAvx2) return kDenseAttentionAvx2;
#endif
  return kDenseAttentionPortable;
}

// Keys that are packed at once, those of a job rounded up to whole blocks: all
// jobs of a call, unless many have less than half a block.
int64_t PackedKeys(int64_t total_keys, int64_t max_keys) {
  return std::max(2 * total_keys, RoundUpTo(kDenseKeyBlock, max_keys));
}

struct HeadShape {
  int64_t heads;
  int64_t head_dim;
};

// Jobs that are packed and attended together.
class Group {
 public:
  Group(absl::Span<const DenseAttentionJob> jobs, const HeadShape& shape)
      : jobs_(jobs), shape_(shape) {}

  void Pack(const DenseAttentionKernels& kernels, bool bfloat16,
            std::byte* packed, ThreadPool& pool) const {
    pool.ParallelFor(jobs_.size() * shape_.heads, [&](int64_t task, int) {
      const int64_t head = task % shape_.heads;
      const DenseAttentionJob& job = jobs_[task / shape_.heads];
      kernels.pack({.k = job.k.data + head * shape_.head_dim,
                    .k_stride = job.k.stride,
                    .v = job.v.data + head * shape_.head_dim,
                    .v_stride = job.v.stride,
                    .keys = job.k.rows,
                    .head_dim = shape_.head_dim,
                    .bfloat16 = bfloat16,
                    .packed = packed + PackedAt(task / shape_.heads, head)});
    });
  }

  void Attend(const DenseAttentionKernels& kernels, bool bfloat16, float scale,
              const std::byte* packed, std::byte* scratch,
              int64_t scratch_bytes, ThreadPool& pool) const {
    int64_t tasks = 0;
    for (const DenseAttentionJob& job : jobs_) tasks += Tasks(job);
    pool.ParallelFor(tasks, [&](int64_t task, int worker) {
      size_t i = 0;
      for (; task >= Tasks(jobs_[i]); ++i) task -= Tasks(jobs_[i]);
      const DenseAttentionJob& job = jobs_[i];
      // A head's blocks follow each other, while its keys are in the cache.
      const int64_t blocks = Blocks(job);
      const int64_t head = task / blocks;
      const int64_t row = task % blocks * kRowsPerTask;
      const int64_t column = head * shape_.head_dim;
      kernels.attend({.q = job.q.row(row) + column,
                      .q_stride = job.q.stride,
                      .rows = std::min(kRowsPerTask, job.q.rows - row),
                      .scale = scale,
                      .packed = packed + PackedAt(i, head),
                      .keys = job.k.rows,
                      .head_dim = shape_.head_dim,
                      .bfloat16 = bfloat16,
                      .y = job.y.row(row) + column,
                      .y_stride = job.y.stride,
                      .scratch = scratch + worker * scratch_bytes});
    });
  }

 private:
  static int64_t Blocks(const DenseAttentionJob& job) {
    return (job.q.rows + kRowsPerTask - 1) / kRowsPerTask;
  }
  int64_t Tasks(const DenseAttentionJob& job) const {
    return shape_.heads * Blocks(job);
  }

  // Where a head of a job lies among the packed ones.
  int64_t PackedAt(size_t job, int64_t head) const {
    int64_t bytes = 0;
    for (size_t i = 0; i < job; ++i) {
      bytes +=
          shape_.heads * DensePackedBytes(jobs_[i].k.rows, shape_.head_dim);
    }
    return bytes + head * DensePackedBytes(jobs_[job].k.rows, shape_.head_dim);
  }

  const absl::Span<const DenseAttentionJob> jobs_;
  const HeadShape shape_;
};

}  // namespace

void DenseAttention(absl::Span<const DenseAttentionJob> jobs, int64_t heads,
                    float scale, quant::Compute compute, ThreadPool& pool,
                    quant::Scratch& scratch, Isa isa) {
  if (jobs.empty()) return;
  quant::ScratchScope scope(scratch);
  const HeadShape shape = {heads, jobs[0].q.cols / heads};
  int64_t total_keys = 0, max_keys = 0;
  for (const DenseAttentionJob& job : jobs) {
    OUNCE_CHECK(job.k.rows >= 1 && job.k.rows == job.v.rows &&
                    job.q.rows == job.y.rows &&
                    job.q.cols == heads * shape.head_dim &&
                    job.k.cols == job.q.cols && job.v.cols == job.q.cols &&
                    job.y.cols == job.q.cols,
                "attention of matrices that do not fit");
    total_keys += job.k.rows;
    max_keys = std::max(max_keys, job.k.rows);
  }
  const bool bfloat16 = compute == quant::Compute::kBFloat16;
  const DenseAttentionKernels& kernels = KernelsFor(isa, bfloat16);
  const int64_t room = PackedKeys(total_keys, max_keys);
  std::byte* packed =
      scratch.Take<std::byte>(heads * DensePackedBytes(room, shape.head_dim));
  const int64_t rows_bytes = DenseRowsBytes(max_keys, shape.head_dim);
  std::byte* rows_scratch =
      scratch.Take<std::byte>(pool.num_threads() * rows_bytes);

  for (size_t first = 0; first < jobs.size();) {
    size_t end = first;
    int64_t keys = 0;
    do {
      keys += RoundUpTo(kDenseKeyBlock, jobs[end++].k.rows);
    } while (end < jobs.size() &&
             keys + RoundUpTo(kDenseKeyBlock, jobs[end].k.rows) <= room);
    const Group group(jobs.subspan(first, end - first), shape);
    group.Pack(kernels, bfloat16, packed, pool);
    group.Attend(kernels, bfloat16, scale, packed, rows_scratch, rows_bytes,
                 pool);
    first = end;
  }
}

}  // namespace ounce::model
