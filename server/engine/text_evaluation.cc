#include "server/engine/text_evaluation.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/mapped_memory.h"
#include "base/status_macros.h"
#include "model/layers/kv_cache.h"
#include "quant/scratch.h"
#include "server/engine/model_engine.h"
#include "server/scheduler/not_finite.h"

namespace ounce::server {
namespace {

using model::TextWindow;
using quant::Matrix;

// Fewer would not be worth a pass over the weights.
constexpr int64_t kShortStep = 16;
constexpr int64_t kMaxLogitBytes = int64_t{32} << 20;
constexpr int64_t kMaxHiddenBytes = int64_t{16} << 20;

constexpr int64_t kFloatBytes = sizeof(float);

int64_t LogitBytes(const model::CausalLm& model, int64_t rows) {
  return rows * LogitStride(model.shape().vocab_size) * kFloatBytes;
}

int64_t KvBlocks(int64_t positions) {
  return (positions + model::kKvBlockTokens - 1) / model::kKvBlockTokens;
}

// Of a layer of a checkpoint's floats, whose keys and values are floats.
model::KvShape OfOneLayer(model::KvShape shape) {
  shape.layers = 1;
  return shape;
}

// Tokens of a step, at most.
int64_t LongStep(const EngineContext& context, const model::CausalLm& model) {
  return std::clamp(
      kMaxLogitBytes / LogitBytes(model, 1), kShortStep,
      std::max(kShortStep,
               context.options.scheduler.max_prefill_tokens_beside_decode));
}

// Of a window: its last token predicts nothing that counts.
int64_t Rows(const TextWindow& window) { return window.tokens - 1; }

// Hidden states that are kept at a time: those of one window at least.
int64_t HiddenRows(const model::CausalLm& model, int64_t window) {
  return std::max(window - 1, kMaxHiddenBytes / (model.width() * kFloatBytes));
}

int64_t ScratchBytes(const EngineContext& context, const model::CausalLm& model,
                     const FloatPieces* floats) {
  const int64_t rows = LongStep(context, model);
  const int threads = context.pool.num_threads();
  size_t bytes = model.ScratchBytes(rows, rows, threads);
  if (floats != nullptr) {
    bytes =
        std::max(bytes, floats->outline().ScratchBytes(rows, rows, threads));
  }
  return static_cast<int64_t>(bytes);
}

// Calls fn(window) for each window of each text, with its first token's place
// among those of all.
template <class Fn>
absl::Status ForEachWindow(const TokenizedTexts& texts, int64_t window,
                           int64_t stride, Fn fn) {
  int64_t begin = 0;
  for (const int64_t length : texts.lengths) {
    TextWindow next;
    for (int64_t first = 0; !next.is_last; first += stride) {
      next = model::WindowAt(first, length, window, stride);
      next.first += begin;
      RETURN_IF_ERROR(fn(next));
    }
    begin += length;
  }
  return absl::OkStatus();
}

// Keys and values of one window.
struct WindowCache {
  static absl::StatusOr<WindowCache> Create(const model::KvShape& shape,
                                            int64_t window) {
    ASSIGN_OR_RETURN(model::KvCache cache,
                     model::KvCache::Create(shape, KvBlocks(window)));
    std::vector<int32_t> blocks(cache.num_blocks());
    std::iota(blocks.begin(), blocks.end(), 0);
    return WindowCache{std::move(cache), std::move(blocks)};
  }
  absl::Span<const int32_t> BlocksFor(int64_t positions) const {
    return absl::MakeConstSpan(blocks).first(KvBlocks(positions));
  }

  model::KvCache cache;
  std::vector<int32_t> blocks;
};

struct FloatMatrix {
  static absl::StatusOr<FloatMatrix> Create(int64_t rows, int64_t cols,
                                            int64_t stride) {
    ASSIGN_OR_RETURN(MappedMemory memory,
                     MappedMemory::Create(rows * stride * kFloatBytes));
    return FloatMatrix{std::move(memory), cols, stride};
  }
  Matrix Part(int64_t first, int64_t rows) const {
    return {reinterpret_cast<float*>(memory.data()) + first * stride, rows,
            cols, stride};
  }
  absl::Span<const float> row(int64_t i) const {
    return {Part(i, 1).data, static_cast<size_t>(cols)};
  }

  MappedMemory memory;
  int64_t cols;
  int64_t stride;
};

absl::StatusOr<FloatMatrix> MakeLogits(const model::CausalLm& model,
                                       int64_t rows) {
  const int64_t vocab = model.shape().vocab_size;
  return FloatMatrix::Create(rows, vocab, LogitStride(vocab));
}

class Evaluation {
 public:
  using Progress = std::function<absl::Status(const EvaluateUpdate&)>;

  Evaluation(const EngineContext& context, const model::CausalLm& model,
             absl::string_view method, absl::Span<const int32_t> tokens,
             const Progress& progress, quant::Scratch scratch,
             WindowCache cache, FloatMatrix logits, EvaluateUpdate update)
      : context_(context),
        model_(model),
        method_(method),
        tokens_(tokens),
        progress_(progress),
        long_step_(LongStep(context, model)),
        turns_(context.turns),
        scratch_(std::move(scratch)),
        cache_(std::move(cache)),
        logits_(std::move(logits)),
        update_(update),
        found_(long_step_) {}

  const TextScore& score() const { return score_; }

  // What the version says of a window.
  absl::Status Measure(const TextWindow& window) {
    return Measure(window, nullptr);
  }

  // The same of some, compared with floats. `hidden` has a row for each row of
  // all of them, `cache` one layer.
  absl::Status Compare(absl::Span<const TextWindow> windows,
                       FloatPieces& floats, const FloatMatrix& hidden,
                       WindowCache& cache, const FloatMatrix& logits) {
    const int64_t num_pieces = floats.outline().num_pieces();
    for (int64_t piece = 0; piece < num_pieces; ++piece) {
      ASSIGN_OR_RETURN(const std::unique_ptr<const model::Model> net,
                       floats.Load(piece, [&] { return progress_(update_); }));
      int64_t first_row = 0;
      for (const TextWindow& window : windows) {
        const FloatPart part = {
            *net, piece, hidden.Part(first_row, Rows(window)), cache, logits};
        if (piece + 1 == num_pieces) {
          RETURN_IF_ERROR(Measure(window, &part));
        } else {
          RETURN_IF_ERROR(InSteps(Rows(window), /*short_step=*/long_step_,
                                  [&](int64_t position, int64_t rows) {
                                    Run(part, window, position, rows,
                                        /*num_logits=*/0);
                                    NoteFloatRows(rows, num_pieces);
                                    return absl::OkStatus();
                                  }));
        }
        first_row += Rows(window);
      }
    }
    return absl::OkStatus();
  }

 private:
  // A piece of the float network, and a window's way through it.
  struct FloatPart {
    const model::Model& net;
    int64_t piece;
    Matrix hidden;
    WindowCache& cache;
    const FloatMatrix& logits;
  };
  // What is told of a row of logits.
  struct Found {
    double cost = 0;
    double float_cost = 0;
    model::LogitDistance distance;
  };

  // Calls step(position, rows), which returns a status, for parts of `rows`, in
  // turns of its own.
  template <class Step>
  absl::Status InSteps(int64_t rows, int64_t short_step, Step step) {
    for (int64_t position = 0; position < rows;) {
      RETURN_IF_ERROR(progress_(update_));
      const bool busy = turns_.Begin();
      const int64_t count =
          std::min(busy ? short_step : long_step_, rows - position);
      absl::Status status;
      {
        MutexLock lease(&context_.pool.lease());
        quant::ScratchScope scope(scratch_);
        status = step(position, count);
      }
      turns_.End();
      RETURN_IF_ERROR(status);
      position += count;
    }
    return absl::OkStatus();
  }

  model::SequenceSlice SliceOf(const TextWindow& window, int64_t position,
                               int64_t rows, int64_t num_logits,
                               const WindowCache& cache) const {
    return {.token_ids = tokens_.subspan(window.first + position, rows),
            .position = position,
            .kv_blocks = cache.BlocksFor(position + rows),
            .num_logits = num_logits};
  }

  void Run(const FloatPart& part, const TextWindow& window, int64_t position,
           int64_t rows, int64_t num_logits) {
    const Matrix x = {part.hidden.row(position), rows, part.hidden.cols,
                      part.hidden.stride};
    part.net.causal_lm()->RunPiece(
        part.piece, SliceOf(window, position, rows, num_logits, part.cache),
        part.cache.cache, part.net.RunOn(context_.pool, scratch_), x,
        part.logits.Part(0, num_logits));
  }

  // `part`: the head of the float network, or null.
  absl::Status Measure(const TextWindow& window, const FloatPart* part) {
    const int64_t first_counted = Rows(window) - window.counted;
    return InSteps(
        Rows(window), kShortStep, [&](int64_t position, int64_t rows) {
          const int64_t skipped =
              std::clamp<int64_t>(first_counted - position, 0, rows);
          const int64_t num_logits = rows - skipped;
          const model::SequenceSlice slice =
              SliceOf(window, position, rows, num_logits, cache_);
          model_.Forward({&slice, 1}, cache_.cache,
                         model_.RunOn(context_.pool, scratch_),
                         logits_.Part(0, num_logits));
          if (part != nullptr) {
            Run(*part, window, position, rows, num_logits);
            NoteFloatRows(rows, part->piece + 1);
          }
          update_.tokens_done += rows;
          const int64_t first_token = window.first + position + skipped + 1;
          context_.pool.ParallelFor(num_logits, [&](int64_t row, int) {
            Found& found = found_[row];
            const int32_t token = tokens_[first_token + row];
            found.cost = model::NegativeLogLikelihood(logits_.row(row), token);
            if (part == nullptr) return;
            found.float_cost =
                model::NegativeLogLikelihood(part->logits.row(row), token);
            found.distance =
                model::CompareLogits(part->logits.row(row), logits_.row(row));
          });
          return Add(first_token, num_logits, part != nullptr);
        });
  }

  absl::Status Add(int64_t first_token, int64_t count, bool compared) {
    for (int64_t i = 0; i < count; ++i) {
      const Found& found = found_[i];
      const bool by_floats = std::isnan(found.float_cost);
      if (by_floats || std::isnan(found.cost)) {
        return NotFinite(absl::StrCat("the logits of token ", first_token + i),
                         by_floats ? "" : method_);
      }
      score_.perplexity.Add(first_token + i, found.cost);
      if (!compared) continue;
      score_.float_perplexity.Add(first_token + i, found.float_cost);
      score_.sum_kl += found.distance.kl;
      if (found.distance.same_top) ++score_.num_same_top;
    }
    return absl::OkStatus();
  }

  // Rows that went through one of so many pieces: a share of each row's way.
  void NoteFloatRows(int64_t rows, int64_t num_pieces) {
    float_parts_ += rows;
    update_.tokens_done += float_parts_ / num_pieces;
    float_parts_ %= num_pieces;
  }

  const EngineContext& context_;
  const model::CausalLm& model_;
  const absl::string_view method_;
  const absl::Span<const int32_t> tokens_;
  const Progress& progress_;
  const int64_t long_step_;
  StepTurns::Behind turns_;

  quant::Scratch scratch_;
  WindowCache cache_;
  const FloatMatrix logits_;
  EvaluateUpdate update_;
  int64_t float_parts_ = 0;
  std::vector<Found> found_;  // by row of logits
  TextScore score_;
};

}  // namespace

MemoryNeed NeedToEvaluate(const EngineContext& context,
                          const model::CausalLm& model, int64_t window,
                          const FloatPieces* floats) {
  const int64_t logit_bytes = LogitBytes(model, LongStep(context, model));
  MemoryNeed need;
  need[MemoryShare::kKvCache] =
      KvBlocks(window) * KvShapeOf(context, model).bytes_per_block();
  need[MemoryShare::kScratch] =
      ScratchBytes(context, model, floats) + logit_bytes;
  if (floats == nullptr) return need;
  need[MemoryShare::kWeights] = floats->largest_bytes();
  need[MemoryShare::kKvCache] +=
      KvBlocks(window) * OfOneLayer(model.shape().kv).bytes_per_block();
  need[MemoryShare::kScratch] +=
      logit_bytes + HiddenRows(model, window) * model.width() * kFloatBytes;
  return need;
}

absl::StatusOr<TextScore> EvaluateTokens(
    const EngineContext& context, const model::CausalLm& model,
    absl::string_view method, const TokenizedTexts& texts, int64_t window,
    int64_t stride, FloatPieces* floats,
    const std::function<absl::Status(const EvaluateUpdate&)>& progress) {
  const auto for_each_window = [&](auto fn) {
    return ForEachWindow(texts, window, stride, fn);
  };
  EvaluateUpdate update;
  RETURN_IF_ERROR(for_each_window([&](const TextWindow& next) {
    update.tokens_total += Rows(next) * (floats != nullptr ? 2 : 1);
    return absl::OkStatus();
  }));
  ASSIGN_OR_RETURN(quant::Scratch scratch, quant::Scratch::Create(ScratchBytes(
                                               context, model, floats)));
  ASSIGN_OR_RETURN(WindowCache cache,
                   WindowCache::Create(KvShapeOf(context, model), window));
  const int64_t rows = LongStep(context, model);
  ASSIGN_OR_RETURN(FloatMatrix logits, MakeLogits(model, rows));
  Evaluation evaluation(context, model, method, texts.ids, progress,
                        std::move(scratch), std::move(cache), std::move(logits),
                        update);
  if (floats == nullptr) {
    RETURN_IF_ERROR(for_each_window(
        [&](const TextWindow& next) { return evaluation.Measure(next); }));
    return evaluation.score();
  }

  ASSIGN_OR_RETURN(WindowCache layer_cache,
                   WindowCache::Create(OfOneLayer(model.shape().kv), window));
  ASSIGN_OR_RETURN(const FloatMatrix float_logits, MakeLogits(model, rows));
  const int64_t max_rows = HiddenRows(model, window);
  ASSIGN_OR_RETURN(const FloatMatrix hidden,
                   FloatMatrix::Create(max_rows, model.width(), model.width()));
  std::vector<TextWindow> windows;
  int64_t num_rows = 0;
  const auto compare = [&]() -> absl::Status {
    RETURN_IF_ERROR(evaluation.Compare(windows, *floats, hidden, layer_cache,
                                       float_logits));
    windows.clear();
    num_rows = 0;
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(for_each_window([&](const TextWindow& next) -> absl::Status {
    if (num_rows + Rows(next) > max_rows) RETURN_IF_ERROR(compare());
    windows.push_back(next);
    num_rows += Rows(next);
    return absl::OkStatus();
  }));
  RETURN_IF_ERROR(compare());
  return evaluation.score();
}

absl::Status ObserveFloats(const EngineContext& context,
                           const TokenizedTexts& texts, int64_t window,
                           int64_t max_tokens, FloatPieces& floats,
                           model::LinearObserver& observer,
                           const std::function<absl::Status()>& progress) {
  const model::CausalLm& outline = floats.outline();
  const int64_t rows = std::min(
      {LongStep(context, outline), max_tokens, window, texts.lengths.front()});
  ASSIGN_OR_RETURN(quant::Scratch scratch, quant::Scratch::Create(ScratchBytes(
                                               context, outline, &floats)));
  ASSIGN_OR_RETURN(WindowCache cache,
                   WindowCache::Create(OfOneLayer(outline.shape().kv), rows));
  ASSIGN_OR_RETURN(const FloatMatrix logits, MakeLogits(outline, rows));
  ASSIGN_OR_RETURN(const FloatMatrix hidden,
                   FloatMatrix::Create(rows, outline.width(), outline.width()));
  StepTurns::Behind turns(context.turns);
  for (int64_t piece = 0; piece < outline.num_pieces(); ++piece) {
    RETURN_IF_ERROR(progress());
    ASSIGN_OR_RETURN(const std::unique_ptr<const model::Model> net,
                     floats.Load(piece, progress));
    const bool is_last = piece + 1 == outline.num_pieces();
    const model::SequenceSlice slice = {
        .token_ids = absl::MakeConstSpan(texts.ids).first(rows),
        .position = 0,
        .kv_blocks = cache.BlocksFor(rows),
        .num_logits = is_last ? rows : 0};
    turns.Begin();
    {
      MutexLock lease(&context.pool.lease());
      quant::ScratchScope scope(scratch);
      net->causal_lm()->RunPiece(piece, slice, cache.cache,
                                 net->RunOn(context.pool, scratch, &observer),
                                 hidden.Part(0, rows),
                                 logits.Part(0, slice.num_logits));
    }
    turns.End();
  }
  return absl::OkStatus();
}

}  // namespace ounce::server
