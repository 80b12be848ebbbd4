#include "model/decoder/decoder.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/causal_lm.h"
#include "model/decoder/eos_ids.h"
#include "model/generation_defaults.h"
#include "model/layers/add.h"
#include "model/layers/soft_cap.h"
#include "quant/matrices.h"
#include "quant/scratch_array.h"

namespace ounce::model {
namespace {

using quant::Activation;
using quant::AsConst;
using quant::Combine;
using quant::Compute;
using quant::MatmulInput;
using quant::Matrix;
using quant::Scratch;
using quant::ScratchArray;
using quant::ScratchScope;
using quant::TakeMatrix;

// The new tokens of all sequences, as the layers see them.
struct Step {
  absl::Span<const SequenceSlice> slices;
  absl::Span<const AttentionSlice> spans;
  const float* angles;  // [rows, rotary_dim]
  KvCache& cache;
  const Run& run;
  int64_t first_layer = 0;  // that the cache has
};

class Decoder final : public CausalLm {
 public:
  Decoder(DecoderDescription description, Compute compute,
          std::vector<int32_t> eos_ids, GenerationDefaults generation)
      : net_(std::move(description)), compute_(compute), rope_(net_.rope) {
    shape_.vocab_size = net_.vocab_size;
    shape_.max_positions = net_.max_positions;
    shape_.kv = {.layers = static_cast<int64_t>(net_.blocks.size()),
                 .heads = static_cast<int64_t>(net_.heads.key.size()),
                 .head_dim = net_.heads.head_dim};
    shape_.eos_ids = std::move(eos_ids);
    shape_.generation = std::move(generation);
    // Not of an outline, nor of a piece that attends to nothing.
    const bool attends = std::any_of(
        net_.blocks.begin(), net_.blocks.end(), [](const DecoderBlock& block) {
          return !block.attention.qkv.parts()[0].weight->is_outline();
        });
    if (attends) position_bias_ = MakePositionBias();
  }

  std::string_view architecture() const override { return net_.architecture; }
  Compute compute() const override { return compute_; }
  const CausalLmShape& shape() const override { return shape_; }
  int64_t table_bytes() const override {
    const auto frequencies = static_cast<int64_t>(net_.rope.frequencies.size());
    const int64_t biases =
        net_.alibi == AlibiForm::kNone ? 0 : num_heads() * net_.max_positions;
    // The description's frequencies, and those of rope_.
    return (2 * frequencies + biases) * static_cast<int64_t>(sizeof(float));
  }

  MaskBuffers mask_buffers() const override { return net_.mask_buffers; }

  // Of all steps of so many rows, the one that takes most has them all in
  // slices of their own, each at the last position.
  size_t ScratchBytes(int64_t rows, int64_t logit_rows,
                      int threads) const override {
    OUNCE_CHECK(logit_rows <= rows, "logits are some tokens'");
    const int32_t token = 0;
    std::vector<SequenceSlice> slices(
        rows, {.token_ids = {&token, 1}, .position = shape_.max_positions - 1});
    for (int64_t i = 0; i < logit_rows; ++i) slices[i].num_logits = 1;
    Scratch scratch = Scratch::Counting();
    ThreadPool pool(ThreadPool::Idle{threads});
    auto cache = KvCache::Create(shape_.kv, 0);
    OUNCE_CHECK(cache.ok(), "a cache without blocks takes no memory");
    Forward(slices, *cache, RunOn(pool, scratch),
            {nullptr, logit_rows, shape_.vocab_size, shape_.vocab_size});
    return scratch.peak();
  }

  void Forward(absl::Span<const SequenceSlice> slices, KvCache& cache,
               const Run& run, const Matrix& logits) const override {
    ScratchScope scope(run.scratch);
    const ScratchArray<AttentionSlice> spans(slices.size(), run.scratch);
    int64_t rows = 0;
    for (size_t s = 0; s < slices.size(); ++s) {
      spans[s] = {.first_row = rows,
                  .rows = static_cast<int64_t>(slices[s].token_ids.size()),
                  .position = slices[s].position,
                  .kv_blocks = slices[s].kv_blocks};
      rows += spans[s].rows;
    }
    float* const angles = run.scratch.Take<float>(rows * rope_.rotary_dim());
    const Step step = {slices, spans.span(), angles, cache, run};
    const Matrix x = TakeMatrix(rows, net_.width, run.scratch);
    Embed(step, angles, x);
    for (size_t layer = 0; layer < net_.blocks.size(); ++layer) {
      RunBlock(step, layer, x);
    }
    WriteLogits(step, x, logits);
  }

  int64_t width() const override { return net_.width; }

  std::vector<std::string> PieceModules(int64_t piece) const override {
    std::vector<std::string> modules;
    const auto add = [&](const Linear& layer) {
      for (const LinearPart& part : layer.parts()) {
        modules.insert(modules.end(), part.modules.begin(), part.modules.end());
      }
    };
    const auto add_if = [&](const std::optional<Linear>& layer) {
      if (layer.has_value()) add(*layer);
    };
    if (piece == 0) {
      modules.push_back(net_.embedding.tokens_module);
      if (net_.embedding.has_positions) {
        modules.push_back(net_.embedding.positions_module);
      }
      add_if(net_.embedding.project_in);
    } else if (piece + 1 < num_pieces()) {
      const DecoderBlock& block = net_.blocks[piece - 1];
      add(block.attention.qkv);
      add(block.attention.out);
      add_if(block.mlp.gate);
      add(block.mlp.up);
      add(block.mlp.down);
    } else {
      add_if(net_.project_out);
      add(net_.head);
    }
    return modules;
  }

  void RunPiece(int64_t piece, const SequenceSlice& slice, KvCache& cache,
                const Run& run, const Matrix& x,
                const Matrix& logits) const override {
    OUNCE_CHECK(cache.shape().layers == 1, "a piece's cache has its layer");
    ScratchScope scope(run.scratch);
    const AttentionSlice span = {.first_row = 0,
                                 .rows = x.rows,
                                 .position = slice.position,
                                 .kv_blocks = slice.kv_blocks};
    float* const angles = run.scratch.Take<float>(x.rows * rope_.rotary_dim());
    const Step step = {{&slice, 1}, {&span, 1}, angles, cache, run, piece - 1};
    if (piece == 0) {
      Embed(step, angles, x);
    } else if (piece + 1 < num_pieces()) {
      ForEachRow(
          step, x.rows, [&](int64_t row, const SequenceSlice&, int64_t i) {
            rope_.Angles(slice.position + i, angles + row * rope_.rotary_dim());
          });
      RunBlock(step, piece - 1, x);
    } else {
      WriteLogits(step, x, logits);
    }
  }

 private:
  int64_t num_heads() const {
    return static_cast<int64_t>(net_.heads.query.size());
  }

  std::vector<float> MakePositionBias() const {
    switch (net_.alibi) {
      case AlibiForm::kNone:
        return {};
      case AlibiForm::kBloom:
        return AlibiBias(num_heads(), net_.max_positions);
      case AlibiForm::kFalcon:
        return FalconAlibiBias(num_heads(), net_.max_positions,
                               net_.blocks[0].attention.score_divisor);
    }
    return {};
  }

  // Calls fn(row, slice, index within the slice) for each row, several at a
  // time.
  template <class Fn>
  static void ForEachRow(const Step& step, int64_t rows, Fn&& fn) {
    constexpr int64_t kRowsPerTask = 8;
    step.run.pool.ParallelFor(
        (rows + kRowsPerTask - 1) / kRowsPerTask, [&](int64_t task, int) {
          const int64_t end = std::min(rows, (task + 1) * kRowsPerTask);
          size_t s = 0;
          for (int64_t row = task * kRowsPerTask; row < end; ++row) {
            while (step.spans[s].first_row + step.spans[s].rows <= row) ++s;
            fn(row, step.slices[s], row - step.spans[s].first_row);
          }
        });
  }

  void Embed(const Step& step, float* angles, const Matrix& x) const {
    const DecoderEmbedding& embedding = net_.embedding;
    const Run& run = step.run;
    const bool projected = embedding.project_in.has_value();
    ScratchScope scope(run.scratch);
    const Matrix tokens =
        projected ? TakeMatrix(x.rows, embedding.cols, run.scratch) : x;
    // Of a row's position, where x holds the token's already.
    const Matrix positions = embedding.has_positions && !projected
                                 ? TakeMatrix(x.rows, x.cols, run.scratch)
                                 : x;
    ForEachRow(step, x.rows,
               [&](int64_t row, const SequenceSlice& slice, int64_t i) {
                 float* token = tokens.row(row);
                 embedding.tokens->Dequantize(slice.token_ids[i], 1, token);
                 if (embedding.scale != 1) {
                   for (int64_t c = 0; c < tokens.cols; ++c)
                     token[c] *= embedding.scale;
                 }
                 const int64_t position = slice.position + i;
                 if (embedding.has_positions) {
                   float* learned = positions.row(row);
                   embedding.positions->Dequantize(
                       position + embedding.position_offset, 1, learned);
                   for (int64_t c = 0; !projected && c < x.cols; ++c) {
                     token[c] += learned[c];
                   }
                 }
                 rope_.Angles(position, angles + row * rope_.rotary_dim());
               });
    if (projected) {
      embedding.project_in->Apply(
          AsConst(tokens), Activation::kNone,
          embedding.has_positions ? Combine::kAdd : Combine::kReplace, x, run);
    }
    if (embedding.norm.has_value()) {
      Normalize(AsConst(x), *embedding.norm, x, run.pool);
    }
  }

  void RunBlock(const Step& step, size_t layer, const Matrix& x) const {
    const DecoderBlock& block = net_.blocks[layer];
    const Run& run = step.run;
    ScratchScope scope(run.scratch);
    switch (net_.form) {
      case BlockForm::kPreNorm: {
        const Matrix normal = TakeMatrix(x.rows, x.cols, run.scratch);
        Normalize(AsConst(x), block.attention_norm, normal, run.pool);
        AddAttention(step, layer, normal, x);
        Normalize(AsConst(x), *block.mlp_norm, normal, run.pool);
        AddMlp(block, normal, x, run);
        return;
      }
      case BlockForm::kPostNorm:
        AddAttention(step, layer, x, x);
        Normalize(AsConst(x), block.attention_norm, x, run.pool);
        AddMlp(block, x, x, run);
        Normalize(AsConst(x), *block.mlp_norm, x, run.pool);
        return;
      case BlockForm::kNormedResidual:
        Normalize(AsConst(x), block.attention_norm, x, run.pool);
        AddAttention(step, layer, x, x);
        Normalize(AsConst(x), *block.mlp_norm, x, run.pool);
        AddMlp(block, x, x, run);
        return;
      case BlockForm::kParallel: {
        const Matrix normal = TakeMatrix(x.rows, x.cols, run.scratch);
        Normalize(AsConst(x), block.attention_norm, normal, run.pool);
        if (block.mlp_norm.has_value()) {
          // Before x changes.
          const Matrix mlp_normal = TakeMatrix(x.rows, x.cols, run.scratch);
          Normalize(AsConst(x), *block.mlp_norm, mlp_normal, run.pool);
          AddAttention(step, layer, normal, x);
          AddMlp(block, mlp_normal, x, run);
          return;
        }
        const MatmulInput input =
            PrepareFor(block.mlp, normal, &block.attention.qkv, run);
        AddAttention(step, layer, input, x);
        AddMlp(block, input, x, run);
        return;
      }
    }
  }

  static MatmulInput PrepareFor(const DecoderMlp& mlp, const Matrix& x,
                                const Linear* other, const Run& run) {
    const Linear* gate = mlp.gate.has_value() ? &*mlp.gate : &mlp.up;
    return Linear::Prepare(
        AsConst(x), {&mlp.up, gate, other != nullptr ? other : &mlp.up}, run);
  }

  // x <- x + out(attention(qkv(from)))
  void AddAttention(const Step& step, size_t layer, const Matrix& from,
                    const Matrix& x) const {
    ScratchScope scope(step.run.scratch);
    AddAttention(step, layer,
                 Linear::Prepare(AsConst(from),
                                 {&net_.blocks[layer].attention.qkv}, step.run),
                 x);
  }
  void AddAttention(const Step& step, size_t layer, const MatmulInput& from,
                    const Matrix& x) const {
    const DecoderAttention& attention = net_.blocks[layer].attention;
    const Run& run = step.run;
    ScratchScope scope(run.scratch);
    const Matrix qkv = TakeMatrix(x.rows, attention.qkv.rows(), run.scratch);
    attention.qkv.Apply(from, Activation::kNone, Combine::kReplace, qkv, run);
    const Matrix mixed = TakeMatrix(x.rows, attention.out.cols(), run.scratch);
    const auto pointer = [](const std::optional<NormWeights>& norm) {
      return norm.has_value() ? &*norm : nullptr;
    };
    Attention({.slices = step.spans,
               .layout = net_.heads,
               .qkv = qkv,
               .angles = step.angles,
               .rotary_dim = rope_.rotary_dim(),
               .pairing = rope_.pairing(),
               .score_divisor = attention.score_divisor,
               .score_soft_cap = net_.score_soft_cap,
               .window = attention.window,
               .position_bias =
                   position_bias_.empty() ? nullptr : position_bias_.data(),
               .position_bias_stride = net_.max_positions,
               .query_norm = pointer(attention.query_norm),
               .key_norm = pointer(attention.key_norm),
               .cache = step.cache,
               .layer = static_cast<int64_t>(layer) - step.first_layer,
               .y = mixed},
              run.pool, run.scratch);
    AddLinear(attention.out, mixed, net_.blocks[layer].attention_out_norm, x,
              run);
  }

  // x <- x + norm(layer(from)), without a norm x + layer(from)
  static void AddLinear(const Linear& layer, const Matrix& from,
                        const std::optional<NormWeights>& norm, const Matrix& x,
                        const Run& run) {
    if (!norm.has_value()) {
      layer.Apply(AsConst(from), Activation::kNone, Combine::kAdd, x, run);
      return;
    }
    ScratchScope scope(run.scratch);
    const Matrix y = TakeMatrix(x.rows, x.cols, run.scratch);
    layer.Apply(AsConst(from), Activation::kNone, Combine::kReplace, y, run);
    Normalize(AsConst(y), *norm, y, run.pool);
    Add(x, y, x, run.pool);
  }

  // x <- x + mlp(from)
  static void AddMlp(const DecoderBlock& block, const Matrix& from,
                     const Matrix& x, const Run& run) {
    ScratchScope scope(run.scratch);
    AddMlp(block, PrepareFor(block.mlp, from, nullptr, run), x, run);
  }
  static void AddMlp(const DecoderBlock& block, const MatmulInput& from,
                     const Matrix& x, const Run& run) {
    const DecoderMlp& mlp = block.mlp;
    ScratchScope scope(run.scratch);
    const Matrix inner = TakeMatrix(x.rows, mlp.up.rows(), run.scratch);
    if (mlp.gate.has_value()) {
      mlp.gate->Apply(from, mlp.activation, Combine::kReplace, inner, run);
      mlp.up.Apply(from, Activation::kNone, Combine::kMultiply, inner, run);
    } else {
      mlp.up.Apply(from, mlp.activation, Combine::kReplace, inner, run);
    }
    AddLinear(mlp.down, inner, block.mlp_out_norm, x, run);
  }

  void WriteLogits(const Step& step, const Matrix& x,
                   const Matrix& logits) const {
    if (logits.rows == 0) return;
    const Run& run = step.run;
    ScratchScope scope(run.scratch);
    const Matrix last = TakeMatrix(logits.rows, net_.width, run.scratch);
    int64_t first = 0;
    for (size_t s = 0; s < step.slices.size(); ++s) {
      const int64_t wanted = step.slices[s].num_logits;
      const int64_t from =
          step.spans[s].first_row + step.spans[s].rows - wanted;
      if (!run.counting()) {
        for (int64_t i = 0; i < wanted; ++i) {
          std::copy_n(x.row(from + i), net_.width, last.row(first + i));
        }
      }
      first += wanted;
    }
    OUNCE_CHECK(first == logits.rows && logits.cols == net_.vocab_size,
                "logits have the shape that the slices ask for");
    if (net_.final_norm.has_value()) {
      Normalize(AsConst(last), *net_.final_norm, last, run.pool);
    }
    Matrix features = last;
    if (net_.project_out.has_value()) {
      features = TakeMatrix(last.rows, net_.project_out->rows(), run.scratch);
      net_.project_out->Apply(AsConst(last), Activation::kNone,
                              Combine::kReplace, features, run);
    }
    net_.head.Apply(AsConst(features), Activation::kNone, Combine::kReplace,
                    logits, run);
    if (net_.logit_soft_cap > 0) {
      SoftCap(logits, net_.logit_soft_cap, run.pool);
    }
  }

  const DecoderDescription net_;
  const Compute compute_;
  const Rope rope_;
  // [heads, max_positions], or empty; an outline has none, whatever the form.
  std::vector<float> position_bias_;
  CausalLmShape shape_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<const Model>> MakeDecoder(
    const Checkpoint& checkpoint, Compute compute,
    DecoderDescription description) {
  ASSIGN_OR_RETURN(
      std::vector<int32_t> eos_ids,
      EosIds(checkpoint, description.vocab_size, description.default_eos_id));
  absl::StatusOr<GenerationDefaults> generation = ReadGenerationDefaults(
      checkpoint.generation_config(), description.vocab_size);
  RETURN_IF_ERROR(
      WithContext(generation.status(),
                  StrCat(checkpoint.folder(), "/generation_config.json")));
  return std::make_unique<const Decoder>(std::move(description), compute,
                                         std::move(eos_ids),
                                         *std::move(generation));
}

}  // namespace ounce::model
