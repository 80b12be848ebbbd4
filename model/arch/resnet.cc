#include "model/arch/resnet.h"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "base/check.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/layers/max_pool.h"
#include "quant/dtype.h"
#include "quant/scratch_array.h"

namespace ounce::model {
namespace {

using quant::Compute;
using quant::ConvolutionShape;
using quant::FeatureMap;
using quant::FeatureMapBytes;
using quant::Scratch;
using quant::ScratchArray;
using quant::ScratchScope;

constexpr int64_t kStemBorder = 1;

// Where a module lies in one of the two naming schemes.
struct Names {
  std::string convolution;
  std::string batch_norm;
};

class Naming {
 public:
  Naming(const std::string& root, const WeightReader& reader)
      : root_(root), timm_(reader.Has(root + "conv1.weight")) {}

  Names Stem() const {
    if (timm_) return {root_ + "conv1", root_ + "bn1"};
    return Transformers(root_ + "embedder.embedder.");
  }
  Names Path(int64_t stage, int64_t block, int64_t i) const {
    const std::string prefix = Block(stage, block);
    if (timm_) {
      return {StrCat(prefix, "conv", i + 1), StrCat(prefix, "bn", i + 1)};
    }
    return Transformers(StrCat(prefix, "layer.", i, "."));
  }
  Names Shortcut(int64_t stage, int64_t block) const {
    const std::string prefix = Block(stage, block);
    if (timm_) return {prefix + "downsample.0", prefix + "downsample.1"};
    return Transformers(prefix + "shortcut.");
  }
  // A glob of what belongs to a stage.
  std::string Stage(int64_t stage) const {
    return timm_ ? StrCat(root_, "layer", stage + 1, ".*")
                 : StrCat(root_, "encoder.stages.", stage, ".*");
  }

 private:
  static Names Transformers(const std::string& prefix) {
    return {prefix + "convolution", prefix + "normalization"};
  }
  std::string Block(int64_t stage, int64_t block) const {
    return timm_ ? StrCat(root_, "layer", stage + 1, ".", block, ".")
                 : StrCat(root_, "encoder.stages.", stage, ".layers.", block,
                          ".");
  }

  const std::string root_;
  const bool timm_;
};

// The convolutions of one block, without its shortcut.
std::vector<ConvolutionShape> PathShapes(const ResNetShape& shape, int64_t in,
                                         int64_t out, int64_t stride,
                                         int64_t first_dilation,
                                         int64_t dilation) {
  const auto three = [](int64_t from, int64_t to, int64_t step, int64_t apart) {
    return ConvolutionShape{.out_channels = to,
                            .in_channels = from,
                            .kernel = 3,
                            .stride = step,
                            .padding = apart,
                            .dilation = apart};
  };
  if (!shape.bottleneck) {
    return {three(in, out, stride, first_dilation),
            three(out, out, 1, dilation)};
  }
  const int64_t inner = out / 4;
  const int64_t first = shape.downsample_in_bottleneck ? stride : 1;
  return {{.out_channels = inner, .in_channels = in, .stride = first},
          three(inner, inner, stride / first, first_dilation),
          {.out_channels = out, .in_channels = inner}};
}

// Makes a map in memory that was set aside at `mark`.
FeatureMap TakeAt(size_t mark, Compute type, const PictureSize& size,
                  int64_t channels, int64_t border, Scratch& scratch) {
  const size_t top = scratch.mark();
  scratch.ReturnTo(mark);
  const FeatureMap map = quant::TakeFeatureMap(type, size.height, size.width,
                                               channels, border, scratch);
  OUNCE_CHECK(scratch.mark() <= top, "a map fits in its place");
  scratch.ReturnTo(top);
  return map;
}

uint16_t ToBFloat16(float value) {
  return std::bit_cast<uint32_t>(quant::RoundTo(quant::DType::kBF16, value)) >>
         16;
}

PictureSize SizeOf(const FeatureMap& map) { return {map.height, map.width}; }

PictureSize Pooled(const PictureSize& size) {
  return {(size.height + 1) / 2, (size.width + 1) / 2};
}

// Writes a picture's pixels as the model sees them.
template <class T>
void WritePixels(const PictureView& picture, const T (&table)[3][256],
                 int64_t y, T* to) {
  int64_t x = 0;
  if (y < picture.size.height) {
    const uint8_t* rgb = picture.rgb + y * picture.size.width * 3;
    for (; x < picture.size.width; ++x, rgb += 3, to += 3) {
      to[0] = table[0][rgb[0]];
      to[1] = table[1][rgb[1]];
      to[2] = table[2][rgb[2]];
    }
  }
  std::fill_n(to, (picture.canvas.width - x) * 3, T{0});
}

template <class T, class Convert>
void WritePictureAs(const PictureView& picture, const FeatureMap& map,
                    Convert convert, ThreadPool& pool) {
  T table[3][256];
  for (int c = 0; c < 3; ++c) {
    for (int i = 0; i < 256; ++i) {
      table[c][i] = convert(picture.table->values[c][i]);
    }
  }
  constexpr int64_t kRowsPerTask = 16;
  pool.ParallelFor(
      (map.height + kRowsPerTask - 1) / kRowsPerTask, [&](int64_t task, int) {
        const int64_t end = std::min(map.height, (task + 1) * kRowsPerTask);
        for (int64_t y = task * kRowsPerTask; y < end; ++y) {
          WritePixels(picture, table, y, reinterpret_cast<T*>(map.pixel(y, 0)));
        }
      });
}

void WritePicture(const PictureView& picture, const FeatureMap& map,
                  ThreadPool& pool) {
  if (map.type == Compute::kFloat32) {
    WritePictureAs<float>(
        picture, map, [](float value) { return value; }, pool);
  } else {
    WritePictureAs<uint16_t>(picture, map, ToBFloat16, pool);
  }
}

}  // namespace

absl::StatusOr<ResNet::Layer> ResNet::ReadLayer(const ConvolutionShape& shape,
                                                const std::string& module,
                                                const std::string& batch_norm,
                                                WeightReader& reader) {
  Layer layer;
  layer.shape = shape;
  ASSIGN_OR_RETURN(layer.weight, reader.Convolution(module, shape, batch_norm));
  return layer;
}

absl::StatusOr<ResNet> ResNet::Read(const ResNetShape& shape,
                                    const std::string& root,
                                    WeightReader& reader) {
  const auto read = [&](const ConvolutionShape& layer, const Names& names) {
    return ReadLayer(layer, names.convolution, names.batch_norm, reader);
  };
  const Naming naming(root, reader);
  ResNet net;
  ASSIGN_OR_RETURN(net.stem_, read({.out_channels = shape.embedding_size,
                                    .in_channels = 3,
                                    .kernel = 7,
                                    .stride = 2,
                                    .padding = 3},
                                   naming.Stem()));
  const int64_t stages = static_cast<int64_t>(shape.hidden_sizes.size());
  int64_t in = shape.embedding_size, reduction = 4;
  int64_t dilation = 1, first_dilation = 1;
  for (int64_t stage = 0; stage < stages; ++stage) {
    const int64_t out = shape.hidden_sizes[stage];
    int64_t stride = stage > 0 || shape.downsample_in_first_stage ? 2 : 1;
    if (reduction >= shape.output_stride) {
      dilation *= stride;
      stride = 1;
    }
    reduction *= stride;
    for (int64_t i = 0; i < shape.depths[stage]; ++i) {
      Block block;
      if (in != out || stride != 1) {
        ASSIGN_OR_RETURN(
            block.shortcut,
            read({.out_channels = out, .in_channels = in, .stride = stride},
                 naming.Shortcut(stage, i)));
      }
      for (const ConvolutionShape& layer :
           PathShapes(shape, in, out, stride, first_dilation, dilation)) {
        const auto index = static_cast<int64_t>(block.path.size());
        ASSIGN_OR_RETURN(Layer read_layer,
                         read(layer, naming.Path(stage, i, index)));
        block.path.push_back(std::move(read_layer));
      }
      net.border_ = std::max(net.border_, block.path[0].shape.padding);
      net.blocks_.push_back(std::move(block));
      first_dilation = dilation;
      in = out;
      stride = 1;
    }
  }
  net.channels_ = in;
  for (int64_t i = 0; i < shape.cut_stages; ++i) {
    reader.Ignore(naming.Stage(stages + i));
  }
  reader.Ignore(root + "*.num_batches_tracked");
  return net;
}

PictureSize ResNet::FeatureSize(const PictureSize& canvas) const {
  PictureSize size = Pooled(stem_.OutputSize(canvas));
  for (const Block& block : blocks_) {
    for (const Layer& layer : block.path) size = layer.OutputSize(size);
  }
  return size;
}

std::array<int64_t, 2> ResNet::PlaceBytes(const PictureSize& canvas,
                                          Compute type) const {
  std::array<int64_t, 2> bytes = {0, 0};
  int place = 1;
  const auto put = [&](const PictureSize& size, int64_t channels,
                       int64_t border) {
    bytes[place] = std::max(
        bytes[place],
        FeatureMapBytes(type, size.height, size.width, channels, border));
    place = 1 - place;
  };
  PictureSize size = stem_.OutputSize(canvas);
  put(size, stem_.shape.out_channels, kStemBorder);
  size = Pooled(size);
  put(size, stem_.shape.out_channels, border_);
  for (const Block& block : blocks_) {
    for (const Layer& layer : block.path) size = layer.OutputSize(size);
    if (block.shortcut.has_value()) {
      put(size, block.shortcut->shape.out_channels, border_);
    }
  }
  return bytes;
}

void ResNet::Run(const Layer& layer, absl::Span<const FeatureMap> x, bool relu,
                 absl::Span<const FeatureMap> residual,
                 absl::Span<const FeatureMap> y, ThreadPool& pool,
                 Scratch& scratch) {
  if (scratch.counting()) {
    quant::CountConvolve(layer.shape, pool, scratch);
    return;
  }
  quant::Convolve(
      x, *layer.weight.weight, layer.shape,
      {.bias = layer.weight.bias.data(), .relu = relu, .residual = residual}, y,
      pool, scratch);
}

void ResNet::Forward(absl::Span<const PictureView> pictures, Compute type,
                     absl::Span<FeatureMap> features, ThreadPool& pool,
                     Scratch& scratch) const {
  const size_t count = pictures.size();
  // Maps between blocks: those read and those written, in turns.
  const ScratchArray<FeatureMap> all_maps(4 * count, scratch);
  const ScratchArray<size_t> all_marks(2 * count, scratch);
  absl::Span<FeatureMap> maps[2];
  absl::Span<FeatureMap> inner[2];
  absl::Span<size_t> marks[2];
  for (size_t i = 0; i < 2; ++i) {
    maps[i] = all_maps.span().subspan(i * count, count);
    inner[i] = all_maps.span().subspan((2 + i) * count, count);
    marks[i] = all_marks.span().subspan(i * count, count);
  }
  for (size_t p = 0; p < count; ++p) {
    const auto bytes = PlaceBytes(pictures[p].canvas, type);
    for (int i = 0; i < 2; ++i) {
      marks[i][p] = scratch.mark();
      scratch.Take<std::byte>(bytes[i]);
    }
  }
  int place = 1;
  const auto put = [&](size_t p, const PictureSize& size, int64_t channels,
                       int64_t border) {
    maps[place][p] =
        TakeAt(marks[place][p], type, size, channels, border, scratch);
  };

  {
    ScratchScope scope(scratch);
    for (size_t p = 0; p < count; ++p) {
      const PictureView& picture = pictures[p];
      inner[0][p] = quant::TakeFeatureMap(type, picture.canvas.height,
                                          picture.canvas.width, 3,
                                          stem_.shape.padding, scratch);
      if (!scratch.counting()) WritePicture(picture, inner[0][p], pool);
      put(p, stem_.OutputSize(picture.canvas), stem_.shape.out_channels,
          kStemBorder);
    }
    Run(stem_, inner[0], /*relu=*/true, {}, maps[place], pool, scratch);
  }
  const absl::Span<FeatureMap> stem = maps[place];
  place = 1 - place;
  for (size_t p = 0; p < count; ++p) {
    put(p, Pooled(SizeOf(stem[p])), stem_.shape.out_channels, border_);
  }
  MaxPool3x3Stride2(stem, maps[place], pool);

  for (const Block& block : blocks_) {
    ScratchScope scope(scratch);
    absl::Span<const FeatureMap> from = maps[place];
    if (block.shortcut.has_value()) {
      place = 1 - place;
      for (size_t p = 0; p < count; ++p) {
        put(p, block.shortcut->OutputSize(SizeOf(from[p])),
            block.shortcut->shape.out_channels, border_);
      }
      Run(*block.shortcut, from, /*relu=*/false, {}, maps[place], pool,
          scratch);
    }
    for (size_t i = 0; i + 1 < block.path.size(); ++i) {
      const Layer& layer = block.path[i];
      const absl::Span<FeatureMap> to = inner[i % 2];
      for (size_t p = 0; p < count; ++p) {
        const PictureSize size = layer.OutputSize(SizeOf(from[p]));
        to[p] = quant::TakeFeatureMap(type, size.height, size.width,
                                      layer.shape.out_channels,
                                      block.path[i + 1].shape.padding, scratch);
      }
      Run(layer, from, /*relu=*/true, {}, to, pool, scratch);
      from = to;
    }
    Run(block.path.back(), from, /*relu=*/true, maps[place], maps[place], pool,
        scratch);
  }
  std::copy(maps[place].begin(), maps[place].end(), features.begin());
}

}  // namespace ounce::model
