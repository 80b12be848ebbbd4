// DETR (Carion et al., 2020), as transformers' modeling_detr.py has it:
//
//   x = input_projection(resnet(picture))         a row per feature
//   encoder:  x <- norm(x + attention(x + p, x + p, x))
//             x <- norm(x + fc2(relu(fc1(x))))
//   y = 0                                         a row per query
//   decoder:  y <- norm(y + attention(y + q, y + q, y))
//             y <- norm(y + attention(y + q, x + p, x))
//             y <- norm(y + fc2(relu(fc1(y))))
//   logits = classifier(norm(y)), boxes = sigmoid(mlp(norm(y)))
//
// where attention(to queries, to keys, to values) has four projections with
// biases, p are the sine positions of features and q the learned embeddings of
// queries. Features of a canvas's padding are left out where transformers masks
// them in every attention; so there are no masks here.

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/status_macros.h"
#include "model/arch/detr_config.h"
#include "model/arch/detr_weights.h"
#include "model/arch/resnet.h"
#include "model/detector.h"
#include "model/layers/add.h"
#include "model/layers/dense_attention.h"
#include "model/layers/linear.h"
#include "model/layers/norm.h"
#include "model/layers/run.h"
#include "model/layers/sine_position.h"
#include "model/registry.h"
#include "quant/convolution.h"
#include "quant/matmul.h"
#include "quant/matrices.h"
#include "quant/scratch_array.h"

namespace ounce::model {
namespace {

using quant::Activation;
using quant::AsConst;
using quant::Combine;
using quant::Compute;
using quant::FeatureMap;
using quant::Matrix;
using quant::Scratch;
using quant::ScratchArray;
using quant::ScratchScope;
using quant::TakeMatrix;

// Pictures go through the backbone in groups of no more pixels than this (but
// one at least), because their features are large: so a batch takes little more
// memory than its largest picture.
constexpr int64_t kGroupPixels = 1 << 20;

// One picture's rows in a matrix that has all pictures'.
struct RowRange {
  int64_t first;
  int64_t count;
};

Matrix Rows(const Matrix& matrix, const RowRange& range) {
  return {matrix.row(range.first), range.count, matrix.cols, matrix.stride};
}

// How many of a feature map's rows (or columns) see the picture, when their
// places are looked up in the pixel mask as torch's nearest interpolation does
// it: in float32.
int64_t ValidExtent(int64_t features, int64_t canvas, int64_t picture) {
  const float scale = static_cast<float>(canvas) / static_cast<float>(features);
  int64_t valid = 0;
  while (valid < features &&
         static_cast<int64_t>(std::floor(static_cast<float>(valid) * scale)) <
             picture) {
    ++valid;
  }
  return valid;
}

// The upper left part of a map.
FeatureMap Crop(FeatureMap map, const PictureSize& size) {
  map.border = map.pitch() - size.width;
  map.height = size.height;
  map.width = size.width;
  return map;
}

// How many of the first pictures go through the backbone together.
size_t GroupSize(absl::Span<const PictureSize> canvases) {
  size_t count = 0;
  int64_t pixels = 0;
  for (const PictureSize& canvas : canvases) {
    pixels += canvas.height * canvas.width;
    if (count > 0 && pixels > kGroupPixels) break;
    ++count;
  }
  return count;
}

class DetrModel final : public Detector {
 public:
  DetrModel(DetrConfig config, DetrWeights weights, Compute compute)
      : config_(std::move(config)),
        weights_(std::move(weights)),
        compute_(compute) {
    shape_.num_queries = config_.num_queries;
    shape_.labels = config_.labels;
  }

  std::string_view architecture() const override { return "detr"; }
  const DetectorShape& shape() const override { return shape_; }
  Compute compute() const override { return compute_; }

  size_t ScratchBytes(absl::Span<const PictureSize> canvases,
                      int threads) const override {
    std::vector<PictureView> pictures;
    for (const PictureSize& canvas : canvases) {
      pictures.push_back(
          {.rgb = nullptr, .size = canvas, .canvas = canvas, .table = nullptr});
    }
    const auto rows =
        static_cast<int64_t>(canvases.size()) * config_.num_queries;
    const int64_t logits = num_logits();
    ThreadPool pool(ThreadPool::Idle{threads});
    Scratch scratch = Scratch::Counting();
    Forward(pictures, RunOn(pool, scratch), {nullptr, rows, logits, logits},
            {nullptr, rows, 4, 4});
    return scratch.peak();
  }

  void Forward(absl::Span<const PictureView> pictures, const Run& run,
               const Matrix& logits, const Matrix& boxes) const override {
    const size_t count = pictures.size();
    if (count == 0) return;
    const auto rows = static_cast<int64_t>(count) * config_.num_queries;
    OUNCE_CHECK(logits.rows == rows && boxes.rows == rows &&
                    logits.cols == num_logits() && boxes.cols == 4,
                "logits and boxes have the shape that the pictures ask for");
    ScratchScope scope(run.scratch);
    const ScratchArray<PictureSize> canvases(count, run.scratch);
    const ScratchArray<RowRange> features(count, run.scratch);
    const ScratchArray<RowRange> queries(count, run.scratch);
    int64_t total = 0;
    for (size_t p = 0; p < count; ++p) {
      canvases[p] = pictures[p].canvas;
      const PictureSize size = ValidFeatures(pictures[p]);
      features[p] = {total, size.height * size.width};
      queries[p] = {static_cast<int64_t>(p) * config_.num_queries,
                    config_.num_queries};
      total += features[p].count;
    }
    const Rest rest = {
        .features = features.span(), .queries = queries.span(), .run = run};
    const Matrix x = TakeMatrix(total, config_.width, run.scratch);
    const Matrix positions = TakeMatrix(total, config_.width, run.scratch);
    for (size_t p = 0; p < count;) {
      const size_t group = GroupSize(canvases.span().subspan(p));
      FindFeatures(pictures.subspan(p, group), rest.features.subspan(p, group),
                   x, rest);
      p += group;
    }
    for (size_t p = 0; p < count && !run.counting(); ++p) {
      const PictureSize size = ValidFeatures(pictures[p]);
      SinePositions(size.height, size.width, Rows(positions, features[p]));
    }
    const Matrix at = TakeMatrix(total, config_.width, run.scratch);
    for (const EncoderLayer& layer : weights_.encoder) {
      Add(x, positions, at, run.pool);
      Attend(layer.self, at, rest.features, at, x, rest.features, x, rest);
      FeedForward(layer.inner, x, rest);
    }
    Add(x, positions, at, run.pool);
    Decode(x, at, rest, logits, boxes);
  }

 private:
  // What all steps need.
  struct Rest {
    absl::Span<const RowRange> features;
    absl::Span<const RowRange> queries;
    const Run& run;
  };

  int64_t num_logits() const {
    return static_cast<int64_t>(shape_.labels.size()) + 1;
  }

  PictureSize ValidFeatures(const PictureView& picture) const {
    const PictureSize size = weights_.backbone.FeatureSize(picture.canvas);
    return {
        ValidExtent(size.height, picture.canvas.height, picture.size.height),
        ValidExtent(size.width, picture.canvas.width, picture.size.width)};
  }

  // Writes the pictures' rows of x.
  void FindFeatures(absl::Span<const PictureView> pictures,
                    absl::Span<const RowRange> ranges, const Matrix& x,
                    const Rest& rest) const {
    ScratchScope scope(rest.run.scratch);
    const size_t count = pictures.size();
    const ScratchArray<FeatureMap> maps(2 * count, rest.run.scratch);
    const absl::Span<FeatureMap> from = maps.span().first(count);
    const absl::Span<FeatureMap> to = maps.span().subspan(count);
    weights_.backbone.Forward(pictures, compute_, from, rest.run.pool,
                              rest.run.scratch);
    for (size_t p = 0; p < count; ++p) {
      const PictureSize size = ValidFeatures(pictures[p]);
      from[p] = Crop(from[p], size);
      to[p] = {.type = Compute::kFloat32,
               .data = x.row(ranges[p].first),
               .height = size.height,
               .width = size.width,
               .channels = config_.width};
    }
    if (rest.run.counting()) {
      quant::CountConvolve(weights_.projection_shape, rest.run.pool,
                           rest.run.scratch);
      return;
    }
    quant::Convolve(from, *weights_.projection.weight,
                    weights_.projection_shape,
                    {.bias = weights_.projection.bias.data(), .residual = {}},
                    to, rest.run.pool, rest.run.scratch);
  }

  static void Apply(const Linear& layer, const Matrix& x, const Matrix& y,
                    const Run& run, Activation activation = Activation::kNone,
                    Combine combine = Combine::kReplace) {
    layer.Apply(AsConst(x), activation, combine, y, run);
  }

  // x <- norm(x + attention(to_query, to_key, to_value)), each picture's rows
  // among themselves.
  void Attend(const AttentionLayer& layer, const Matrix& to_query,
              absl::Span<const RowRange> query_rows, const Matrix& to_key,
              const Matrix& to_value, absl::Span<const RowRange> key_rows,
              const Matrix& x, const Rest& rest) const {
    ScratchScope scope(rest.run.scratch);
    const int64_t width = config_.width;
    const Matrix query = TakeMatrix(to_query.rows, width, rest.run.scratch);
    const Matrix key = TakeMatrix(to_key.rows, width, rest.run.scratch);
    const Matrix value = TakeMatrix(to_value.rows, width, rest.run.scratch);
    const Matrix mixed = TakeMatrix(to_query.rows, width, rest.run.scratch);
    Apply(layer.query, to_query, query, rest.run);
    Apply(layer.key, to_key, key, rest.run);
    Apply(layer.value, to_value, value, rest.run);
    const ScratchArray<DenseAttentionJob> jobs(query_rows.size(),
                                               rest.run.scratch);
    for (size_t p = 0; p < query_rows.size(); ++p) {
      jobs[p] = {.q = AsConst(Rows(query, query_rows[p])),
                 .k = AsConst(Rows(key, key_rows[p])),
                 .v = AsConst(Rows(value, key_rows[p])),
                 .y = Rows(mixed, query_rows[p])};
    }
    const int64_t head_dim = width / layer.heads;
    const float scale = 1 / std::sqrt(static_cast<float>(head_dim));
    DenseAttention(jobs.span(), layer.heads, scale, compute_, rest.run.pool,
                   rest.run.scratch);
    Apply(layer.out, mixed, x, rest.run, Activation::kNone, Combine::kAdd);
    Normalize(AsConst(x), layer.norm, x, rest.run.pool);
  }

  // x <- norm(x + second(relu(first(x))))
  void FeedForward(const InnerLayer& layer, const Matrix& x,
                   const Rest& rest) const {
    ScratchScope scope(rest.run.scratch);
    const Matrix inner =
        TakeMatrix(x.rows, layer.first.rows(), rest.run.scratch);
    Apply(layer.first, x, inner, rest.run, Activation::kRelu);
    Apply(layer.second, inner, x, rest.run, Activation::kNone, Combine::kAdd);
    Normalize(AsConst(x), layer.norm, x, rest.run.pool);
  }

  // From the encoder's rows (and these with their positions) to the results.
  void Decode(const Matrix& x, const Matrix& x_at, const Rest& rest,
              const Matrix& logits, const Matrix& boxes) const {
    const int64_t width = config_.width;
    const Matrix queries =
        TakeMatrix(config_.num_queries, width, rest.run.scratch);
    const Matrix y = TakeMatrix(logits.rows, width, rest.run.scratch);
    const Matrix at = TakeMatrix(logits.rows, width, rest.run.scratch);
    if (!rest.run.counting()) {
      weights_.queries->Dequantize(0, config_.num_queries, queries.data);
      std::fill_n(y.data, y.rows * width, 0.0f);
    }
    for (const DecoderLayer& layer : weights_.decoder) {
      Add(y, queries, at, rest.run.pool);
      Attend(layer.self, at, rest.queries, at, y, rest.queries, y, rest);
      Add(y, queries, at, rest.run.pool);
      Attend(layer.cross, at, rest.queries, x_at, x, rest.features, y, rest);
      FeedForward(layer.inner, y, rest);
      if (config_.norm_after_each_layer) {
        Normalize(AsConst(y), weights_.last_norm, y, rest.run.pool);
      }
    }
    Normalize(AsConst(y), weights_.last_norm, y, rest.run.pool);

    // The heads' products stay float32: they are few, and every digit shows.
    Run run = rest.run;
    run.compute = Compute::kFloat32;
    const Matrix first = TakeMatrix(y.rows, width, rest.run.scratch);
    const Matrix second = TakeMatrix(y.rows, width, rest.run.scratch);
    Apply(weights_.classifier, y, logits, run);
    Apply(weights_.boxes[0], y, first, run, Activation::kRelu);
    Apply(weights_.boxes[1], first, second, run, Activation::kRelu);
    Apply(weights_.boxes[2], second, boxes, run);
    for (int64_t row = 0; row < boxes.rows && !rest.run.counting(); ++row) {
      float* box = boxes.row(row);
      for (int64_t i = 0; i < 4; ++i) box[i] = 1 / (1 + std::exp(-box[i]));
    }
  }

  const DetrConfig config_;
  const DetrWeights weights_;
  const Compute compute_;
  DetectorShape shape_;
};

absl::StatusOr<std::unique_ptr<const Model>> Create(
    const Checkpoint& checkpoint, Compute compute, WeightReader& reader) {
  absl::StatusOr<DetrConfig> config = ReadDetrConfig(checkpoint.config());
  RETURN_IF_ERROR(WithContext(config.status(), checkpoint.config_name()));
  ASSIGN_OR_RETURN(DetrWeights weights, ReadDetrWeights(*config, reader));
  return std::make_unique<const DetrModel>(*std::move(config),
                                           std::move(weights), compute);
}

// Of DetrConfig, as detr_config.cc reads it.
constexpr auto kRead = ConfigKey::Use::kRead;
constexpr auto kUnused = ConfigKey::Use::kUnused;
constexpr ConfigKey kKeys[] = {
    {"d_model", kRead, "a multiple of 4 and of the heads"},
    {"encoder_attention_heads"},
    {"decoder_attention_heads"},
    {"encoder_layers"},
    {"decoder_layers"},
    {"encoder_ffn_dim"},
    {"decoder_ffn_dim"},
    {"num_queries"},
    {"auxiliary_loss"},
    {"id2label"},
    {"num_labels"},
    {"backbone_config", kRead, "of type resnet or timm_backbone"},
    {"use_timm_backbone"},
    {"backbone", kRead, "resnet18, 34, 50, 101 or 152"},
    {"backbone_kwargs", kRead, "out_indices, in_chans and output_stride"},
    {"dilation"},
    {"num_channels", kRead, "3"},
    {"activation_function", kRead, "relu"},
    {"position_embedding_type", kRead, "sine"},
    {"architectures", kRead, "DetrForObjectDetection"},
    {"pre_norm", kRead, "false"},
    {"normalize_before", kRead, "false"},
    {"two_stage", kRead, "false"},
    {"activation_dropout", kUnused},
    {"attention_dropout", kUnused},
    {"bbox_cost", kUnused},
    {"bbox_loss_coefficient", kUnused},
    {"class_cost", kUnused},
    {"decoder_layerdrop", kUnused},
    {"dice_loss_coefficient", kUnused},
    {"dropout", kUnused},
    {"encoder_layerdrop", kUnused},
    {"eos_coefficient", kUnused},
    {"giou_cost", kUnused},
    {"giou_loss_coefficient", kUnused},
    {"init_std", kUnused},
    {"init_xavier_std", kUnused},
    {"is_encoder_decoder", kUnused},
    {"mask_loss_coefficient", kUnused},
    {"tie_word_embeddings", kUnused},
    {"use_pretrained_backbone", kUnused},
};

}  // namespace

const Architecture& Detr() {
  static constexpr Architecture kArchitecture = {
      .name = "detr",
      .models = "DETR ResNet-50 and 101, DC5 too",
      .keys = kKeys,
      .create = Create,
      .auto_is_faster = true};
  return kArchitecture;
}

}  // namespace ounce::model
