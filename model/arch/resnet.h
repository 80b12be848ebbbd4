// The ResNet (He et al., 2015; "v1.5") that finds a picture's features:
//
//   stem:   7x7 / 2, ReLU, max pool 3x3 / 2
//   block:  x <- ReLU(shortcut(x) + convolutions(x)), the shortcut being a 1x1
//           convolution where channels or size change
//             basic:       3x3 / s, ReLU, 3x3
//             bottleneck:  1x1, ReLU, 3x3 / s, ReLU, 1x1
//
// each convolution followed by a frozen batch norm, which is folded into it.
#ifndef OUNCE_MODEL_ARCH_RESNET_H_
#define OUNCE_MODEL_ARCH_RESNET_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/thread_pool.h"
#include "model/detector.h"
#include "model/weights.h"
#include "quant/compute.h"
#include "quant/convolution.h"
#include "quant/feature_map.h"
#include "quant/scratch.h"

namespace ounce::model {

struct ResNetShape {
  int64_t embedding_size = 64;  // channels of the stem
  // Of the stages up to the one whose output is wanted.
  std::vector<int64_t> hidden_sizes = {256, 512, 1024, 2048};
  std::vector<int64_t> depths = {3, 4, 6, 3};
  int64_t cut_stages = 0;  // how many came behind these
  bool bottleneck = true;
  bool downsample_in_first_stage = false;
  bool downsample_in_bottleneck = false;  // stride on the first 1x1
  // Where a further stage would go beyond it, the stage has stride 1 and its
  // 3x3 convolutions are dilated instead (timm's output_stride; 16 is DETR's
  // "dc5").
  int64_t output_stride = 32;
};

// Threads: const after Read, so any thread may call anything.
class ResNet {
 public:
  // Tensors are `root` + the names of timm's resnet or of transformers'
  // ResNetBackbone, whichever the checkpoint has. What belongs to cut stages is
  // ignored.
  static absl::StatusOr<ResNet> Read(const ResNetShape& shape,
                                     const std::string& root,
                                     WeightReader& reader);

  int64_t channels() const { return channels_; }  // of the features
  PictureSize FeatureSize(const PictureSize& canvas) const;

  // Writes one map of features per picture, of `type`, to `features`; its
  // memory is left in `scratch`. With the working memory that is 117 MB for 800
  // x 1066 alone and a ResNet-50 in float32, 59 MB in bfloat16.
  //
  // A counting pass needs no pixels and no weights.
  // Exactness: a picture's map depends on that picture alone, to the last bit.
  // Threads: any, with a pool that the caller leases. No allocation.
  void Forward(absl::Span<const PictureView> pictures, quant::Compute type,
               absl::Span<quant::FeatureMap> features, ThreadPool& pool,
               quant::Scratch& scratch) const;

 private:
  struct Layer {
    quant::ConvolutionShape shape;
    ConvolutionWeight weight;

    PictureSize OutputSize(const PictureSize& input) const {
      return {shape.OutputExtent(input.height),
              shape.OutputExtent(input.width)};
    }
  };
  struct Block {
    std::vector<Layer> path;
    std::optional<Layer> shortcut;
  };
  static absl::StatusOr<Layer> ReadLayer(const quant::ConvolutionShape& shape,
                                         const std::string& module,
                                         const std::string& batch_norm,
                                         WeightReader& reader);
  // What the maps of one picture take between blocks: they alternate between
  // two places, so that a block reads from one and writes into the other.
  std::array<int64_t, 2> PlaceBytes(const PictureSize& canvas,
                                    quant::Compute type) const;
  static void Run(const Layer& layer, absl::Span<const quant::FeatureMap> x,
                  bool relu, absl::Span<const quant::FeatureMap> residual,
                  absl::Span<const quant::FeatureMap> y, ThreadPool& pool,
                  quant::Scratch& scratch);

  Layer stem_;
  std::vector<Block> blocks_;
  int64_t channels_ = 0;
  int64_t border_ = 0;  // of the maps between blocks
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_ARCH_RESNET_H_
