// CodeGen (Nijkamp et al., 2022), as transformers' modeling_codegen.py has it:
//
//   h = ln_1(x);  x <- x + out_proj(attention(qkv_proj(h)))
//                    + fc_out(gelu_new(fc_in(h)))             for each block
//   logits = lm_head(ln_f(x))
//
// qkv_proj and out_proj have no bias. The rows of qkv_proj lie in four blocks,
// one for each of the four TPU cores it was trained on; each has the queries,
// values and keys (in this order) of a quarter of the heads. Rotary embedding
// turns interleaved pairs of the first rotary_dim elements of a head.

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/arch/codegen_config.h"
#include "model/causal_lm.h"
#include "model/generation_defaults.h"
#include "model/layers/attention.h"
#include "model/layers/norm.h"
#include "model/layers/rope.h"
#include "model/registry.h"
#include "nlohmann/json.hpp"
#include "quant/matmul.h"
#include "quant/matrices.h"

namespace ounce::model {
namespace {

using nlohmann::json;
using quant::Activation;
using quant::AsConst;
using quant::Matmul;
using quant::MatmulInput;
using quant::Matrix;
using quant::Scratch;
using quant::ScratchScope;
using quant::TakeMatrix;

struct Block {
  NormWeights ln_1;
  SharedWeight qkv_proj;  // [3 * width, width]
  SharedWeight out_proj;  // [width, width]
  SharedWeight fc_in;     // [inner, width]
  SharedWeight fc_out;    // [width, inner]
  std::vector<float> fc_in_bias;
  std::vector<float> fc_out_bias;
};

struct Weights {
  SharedWeight wte;  // [vocab, width]
  std::vector<Block> blocks;
  NormWeights ln_f;
  SharedWeight lm_head;  // [vocab, width]
  std::vector<float> lm_head_bias;
};

absl::StatusOr<NormWeights> ReadLayerNorm(const std::string& name,
                                          const CodeGenConfig& config,
                                          WeightReader& reader) {
  NormWeights norm;
  norm.epsilon = config.epsilon;
  ASSIGN_OR_RETURN(norm.weight, reader.Vector(name + ".weight", config.width));
  ASSIGN_OR_RETURN(norm.bias, reader.Vector(name + ".bias", config.width));
  return norm;
}

absl::StatusOr<Block> ReadBlock(const std::string& name,
                                const CodeGenConfig& config,
                                WeightReader& reader) {
  const int64_t width = config.width;
  constexpr WeightRole kLinear = WeightRole::kLinear;
  Block block;
  ASSIGN_OR_RETURN(block.ln_1, ReadLayerNorm(name + ".ln_1", config, reader));
  ASSIGN_OR_RETURN(block.qkv_proj, reader.Matrix(name + ".attn.qkv_proj",
                                                 3 * width, width, kLinear));
  ASSIGN_OR_RETURN(block.out_proj, reader.Matrix(name + ".attn.out_proj", width,
                                                 width, kLinear));
  ASSIGN_OR_RETURN(block.fc_in, reader.Matrix(name + ".mlp.fc_in", config.inner,
                                              width, kLinear));
  ASSIGN_OR_RETURN(block.fc_in_bias,
                   reader.Vector(name + ".mlp.fc_in.bias", config.inner));
  ASSIGN_OR_RETURN(block.fc_out, reader.Matrix(name + ".mlp.fc_out", width,
                                               config.inner, kLinear));
  ASSIGN_OR_RETURN(block.fc_out_bias,
                   reader.Vector(name + ".mlp.fc_out.bias", width));
  return block;
}

absl::StatusOr<Weights> ReadWeights(const CodeGenConfig& config,
                                    WeightReader& reader) {
  Weights weights;
  ASSIGN_OR_RETURN(weights.wte,
                   reader.Matrix("transformer.wte", config.vocab_size,
                                 config.width, WeightRole::kEmbedding));
  for (int64_t i = 0; i < config.layers; ++i) {
    ASSIGN_OR_RETURN(Block block,
                     ReadBlock(StrCat("transformer.h.", i), config, reader));
    weights.blocks.push_back(std::move(block));
  }
  ASSIGN_OR_RETURN(weights.ln_f,
                   ReadLayerNorm("transformer.ln_f", config, reader));
  if (config.tied) {
    ASSIGN_OR_RETURN(weights.lm_head,
                     reader.Tied("lm_head", "transformer.wte"));
  } else {
    ASSIGN_OR_RETURN(weights.lm_head,
                     reader.Matrix("lm_head", config.vocab_size, config.width,
                                   WeightRole::kHead));
  }
  ASSIGN_OR_RETURN(weights.lm_head_bias,
                   reader.LogitBias("lm_head.bias", config.vocab_size));
  // Constants that older releases of transformers stored.
  reader.Ignore("transformer.h.*.attn.causal_mask");
  reader.Ignore("transformer.h.*.attn.masked_bias");
  reader.Ignore("transformer.h.*.attn.bias");
  return weights;
}

AttentionLayout LayOutHeads(const CodeGenConfig& config) {
  const int64_t heads_per_block = config.heads / CodeGenConfig::kQkvBlocks;
  const int64_t part = heads_per_block * config.head_dim();
  AttentionLayout layout;
  layout.head_dim = config.head_dim();
  for (int64_t head = 0; head < config.heads; ++head) {
    const int64_t start = head / heads_per_block * 3 * part +
                          head % heads_per_block * config.head_dim();
    layout.query.push_back(start);
    layout.key.push_back(start + 2 * part);
    layout.value.push_back(start + part);
    layout.kv_head.push_back(head);
  }
  return layout;
}

quant::InputForms FormsFor(const quant::PackedWeight& weight) {
  return quant::FormsFor(weight, quant::Compute::kFloat32);
}

class CodeGenModel final : public CausalLm {
 public:
  CodeGenModel(const CodeGenConfig& config, std::vector<int32_t> eos_ids,
               GenerationDefaults generation, Weights weights)
      : config_(config),
        weights_(std::move(weights)),
        layout_(LayOutHeads(config_)),
        rope_({.pairing = RopePairing::kInterleaved,
               .rotary_dim = config_.rotary_dim,
               .frequencies = RopeFrequencies(config_.rotary_dim, 10000)}) {
    shape_.vocab_size = config_.vocab_size;
    shape_.max_positions = config_.positions;
    shape_.kv = {.layers = config_.layers,
                 .heads = config_.heads,
                 .head_dim = config_.head_dim()};
    shape_.eos_ids = std::move(eos_ids);
    shape_.generation = std::move(generation);
  }

  std::string_view architecture() const override { return "codegen"; }
  const CausalLmShape& shape() const override { return shape_; }

  size_t ScratchBytes(int64_t rows, int64_t logit_rows,
                      int threads) const override {
    const int64_t width = config_.width, inner = config_.inner;
    // Each Take is rounded up to 64 bytes.
    const auto floats = [](int64_t count) { return count * 4 + 64; };
    const int64_t kept = rows * static_cast<int64_t>(sizeof(AttentionSlice)) +
                         64 + floats(rows * config_.rotary_dim) +
                         floats(rows * width);
    const int64_t normal = floats(rows * width);
    const int64_t attention =
        floats(rows * 3 * width) + floats(rows * width) +
        std::max<int64_t>(AttentionBytes(rows, threads),
                          quant::MatmulScratchBytes(rows, width, threads));
    const int64_t mlp =
        floats(rows * inner) + quant::MatmulScratchBytes(rows, inner, threads);
    const int64_t block = normal +
                          quant::MatmulScratchBytes(rows, width, threads) +
                          std::max(attention, mlp);
    const int64_t head = floats(logit_rows * width) +
                         quant::MatmulScratchBytes(logit_rows, width, threads);
    return kept + std::max(block, head);
  }

  void Forward(absl::Span<const SequenceSlice> slices, KvCache& cache,
               ThreadPool& pool, Scratch& scratch,
               const Matrix& logits) const override {
    ScratchScope scope(scratch);
    int64_t rows = 0;
    auto* attention_slices = scratch.Take<AttentionSlice>(slices.size());
    for (size_t s = 0; s < slices.size(); ++s) {
      const SequenceSlice& slice = slices[s];
      attention_slices[s] = {
          .first_row = rows,
          .rows = static_cast<int64_t>(slice.token_ids.size()),
          .position = slice.position,
          .kv_blocks = slice.kv_blocks};
      rows += slice.token_ids.size();
    }
    const absl::Span<const AttentionSlice> spans(attention_slices,
                                                 slices.size());
    float* angles = scratch.Take<float>(rows * config_.rotary_dim);
    const Matrix x = TakeMatrix(rows, config_.width, scratch);
    Embed(slices, spans, angles, x, pool);
    for (int64_t layer = 0; layer < config_.layers; ++layer) {
      RunBlock(layer, spans, angles, x, cache, pool, scratch);
    }
    WriteLogits(slices, spans, x, logits, pool, scratch);
  }

 private:
  int64_t AttentionBytes(int64_t rows, int threads) const {
    const std::vector<AttentionSlice> slices(rows,
                                             {.first_row = 0,
                                              .rows = 1,
                                              .position = config_.positions - 1,
                                              .kv_blocks = {}});
    KvCache no_cache;
    Scratch counting = Scratch::Counting();
    ThreadPool idle(ThreadPool::Idle{threads});
    Attention({.slices = slices,
               .layout = layout_,
               .qkv = {},
               .score_divisor = 1,
               .cache = no_cache,
               .layer = 0,
               .y = {}},
              idle, counting);
    return counting.peak();
  }

  void Embed(absl::Span<const SequenceSlice> slices,
             absl::Span<const AttentionSlice> spans, float* angles,
             const Matrix& x, ThreadPool& pool) const {
    constexpr int64_t kRowsPerTask = 8;
    pool.ParallelFor(
        (x.rows + kRowsPerTask - 1) / kRowsPerTask, [&](int64_t task, int) {
          const int64_t end = std::min(x.rows, (task + 1) * kRowsPerTask);
          size_t s = 0;
          for (int64_t row = task * kRowsPerTask; row < end; ++row) {
            while (spans[s].first_row + spans[s].rows <= row) ++s;
            const int64_t i = row - spans[s].first_row;
            weights_.wte->Dequantize(slices[s].token_ids[i], 1, x.row(row));
            rope_.Angles(slices[s].position + i,
                         angles + row * config_.rotary_dim);
          }
        });
  }

  void RunBlock(int64_t layer, absl::Span<const AttentionSlice> spans,
                const float* angles, const Matrix& x, KvCache& cache,
                ThreadPool& pool, Scratch& scratch) const {
    const Block& block = weights_.blocks[layer];
    ScratchScope scope(scratch);
    const Matrix normal = TakeMatrix(x.rows, config_.width, scratch);
    Normalize(AsConst(x), block.ln_1, normal, pool);
    const MatmulInput input = MatmulInput::Prepare(
        AsConst(normal), FormsFor(*block.qkv_proj) | FormsFor(*block.fc_in),
        pool, scratch);
    {
      ScratchScope attention_scope(scratch);
      const Matrix qkv = TakeMatrix(x.rows, 3 * config_.width, scratch);
      Matmul(input, *block.qkv_proj, {}, qkv, pool, scratch);
      const Matrix mixed = TakeMatrix(x.rows, config_.width, scratch);
      Attention(
          {.slices = spans,
           .layout = layout_,
           .qkv = qkv,
           .angles = angles,
           .rotary_dim = config_.rotary_dim,
           .pairing = rope_.pairing(),
           .score_divisor = std::sqrt(static_cast<float>(config_.head_dim())),
           .cache = cache,
           .layer = layer,
           .y = mixed},
          pool, scratch);
      AddProduct(mixed, *block.out_proj, nullptr, x, pool, scratch);
    }
    const Matrix inner = TakeMatrix(x.rows, config_.inner, scratch);
    Matmul(
        input, *block.fc_in,
        {.bias = block.fc_in_bias.data(), .activation = Activation::kGeluTanh},
        inner, pool, scratch);
    AddProduct(inner, *block.fc_out, block.fc_out_bias.data(), x, pool,
               scratch);
  }

  // x <- x + (from * weight^T + bias)
  static void AddProduct(const Matrix& from, const quant::PackedWeight& weight,
                         const float* bias, const Matrix& x, ThreadPool& pool,
                         Scratch& scratch) {
    ScratchScope scope(scratch);
    const MatmulInput input =
        MatmulInput::Prepare(AsConst(from), FormsFor(weight), pool, scratch);
    Matmul(input, weight, {.bias = bias, .combine = quant::Combine::kAdd}, x,
           pool, scratch);
  }

  void WriteLogits(absl::Span<const SequenceSlice> slices,
                   absl::Span<const AttentionSlice> spans, const Matrix& x,
                   const Matrix& logits, ThreadPool& pool,
                   Scratch& scratch) const {
    if (logits.rows == 0) return;
    ScratchScope scope(scratch);
    const Matrix last = TakeMatrix(logits.rows, config_.width, scratch);
    int64_t to = 0;
    for (size_t s = 0; s < slices.size(); ++s) {
      const int64_t end = spans[s].first_row + spans[s].rows;
      for (int64_t row = end - slices[s].num_logits; row < end; ++row) {
        std::copy_n(x.row(row), config_.width, last.row(to++));
      }
    }
    OUNCE_CHECK(to == logits.rows && logits.cols == config_.vocab_size,
                "logits have the shape that the slices ask for");
    Normalize(AsConst(last), weights_.ln_f, last, pool);
    const MatmulInput input = MatmulInput::Prepare(
        AsConst(last), FormsFor(*weights_.lm_head), pool, scratch);
    Matmul(input, *weights_.lm_head, {.bias = weights_.lm_head_bias.data()},
           logits, pool, scratch);
  }

  const CodeGenConfig config_;
  const Weights weights_;
  const AttentionLayout layout_;
  const Rope rope_;
  CausalLmShape shape_;
};

// What generation_config.json says wins; absent in both, the class's default.
absl::StatusOr<std::vector<int32_t>> EosIds(const Checkpoint& checkpoint,
                                            int64_t vocab_size) {
  const json& generation = checkpoint.generation_config();
  const bool in_generation = generation.is_object() &&
                             generation.contains("eos_token_id") &&
                             !generation["eos_token_id"].is_null();
  constexpr int32_t kDefault = 50256;
  std::vector<int32_t> absent;
  if (kDefault < vocab_size) absent.push_back(kDefault);
  auto ids = ReadEosIds(in_generation ? generation : checkpoint.config(),
                        vocab_size, std::move(absent));
  RETURN_IF_ERROR(WithContext(
      ids.status(),
      StrCat(checkpoint.folder(),
             in_generation ? "/generation_config.json" : "/config.json")));
  return ids;
}

absl::StatusOr<std::unique_ptr<const Model>> Create(
    const Checkpoint& checkpoint, quant::Compute, WeightReader& reader) {
  const std::string config_file = checkpoint.folder() + "/config.json";
  const absl::StatusOr<CodeGenConfig> config =
      ReadCodeGenConfig(checkpoint.config());
  RETURN_IF_ERROR(WithContext(config.status(), config_file));
  ASSIGN_OR_RETURN(std::vector<int32_t> eos_ids,
                   EosIds(checkpoint, config->vocab_size));
  absl::StatusOr<GenerationDefaults> generation = ReadGenerationDefaults(
      checkpoint.generation_config(), config->vocab_size);
  RETURN_IF_ERROR(
      WithContext(generation.status(),
                  StrCat(checkpoint.folder(), "/generation_config.json")));
  ASSIGN_OR_RETURN(Weights weights, ReadWeights(*config, reader));
  return std::make_unique<const CodeGenModel>(
      *config, std::move(eos_ids), *std::move(generation), std::move(weights));
}

}  // namespace

const Architecture& CodeGen() {
  static constexpr Architecture kArchitecture = {.name = "codegen",
                                                 .create = Create};
  return kArchitecture;
}

}  // namespace ounce::model
