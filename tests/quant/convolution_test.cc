#include "quant/convolution.h"

#include <cmath>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "base/str_cat.h"
#include "gtest/gtest.h"
#include "quant/registry.h"
#include "tests/quant/counted_scratch.h"
#include "tests/quant/error_bounds.h"
#include "tests/quant/every_isa.h"
#include "tests/quant/held_codes.h"
#include "tests/quant/matrix_rows.h"

namespace ounce::quant {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

float Element(const FeatureMap& map, int64_t y, int64_t x, int64_t c) {
  return map.type == Compute::kFloat32
             ? map.floats(y, x)[c]
             : BFloat16ToFloat(map.bfloat16s(y, x)[c]);
}
void SetElement(const FeatureMap& map, int64_t y, int64_t x, int64_t c,
                float value) {
  if (map.type == Compute::kFloat32) {
    map.floats(y, x)[c] = value;
  } else {
    map.bfloat16s(y, x)[c] = FloatToBFloat16(value);
  }
}

struct Extent {
  int64_t height, width;
};

enum class Residual { kNone, kOfItsOwn, kTheOutput };

struct Case {
  ConvolutionShape shape;
  std::vector<Extent> extents;
  Compute compute = Compute::kFloat32;
  Compute y_type = Compute::kFloat32;
  Residual residual = Residual::kNone;
  Compute residual_type = Compute::kFloat32;
  bool bias = false;
  bool relu = false;

  std::string ToString() const {
    const auto type = [](Compute t) {
      return t == Compute::kFloat32 ? "f32" : "bf16";
    };
    std::string text = StrCat(
        shape.in_channels, "->", shape.out_channels, " kernel ", shape.kernel,
        " stride ", shape.stride, " dilation ", shape.dilation, " ",
        type(compute), " to ", type(y_type), " residual ",
        static_cast<int>(residual), " ", type(residual_type));
    for (const Extent& e : extents) {
      text += StrCat(" ", e.height, "x", e.width);
    }
    return text;
  }
};

ConvolutionShape ShapeOf(int64_t out, int64_t in, int64_t kernel,
                         int64_t stride, int64_t dilation = 1) {
  return {.out_channels = out,
          .in_channels = in,
          .kernel = kernel,
          .stride = stride,
          .padding = dilation * (kernel / 2),
          .dilation = dilation};
}

// Extents of 1 to 40, channels that fill tiles and that do not, and maps that
// are smaller than what kernels take at once.
std::vector<Case> Cases(Compute compute) {
  const Compute f32 = Compute::kFloat32;
  return {
      {.shape = ShapeOf(64, 3, 7, 2), .extents = {{40, 37}, {1, 1}, {9, 33}}},
      {.shape = ShapeOf(20, 3, 3, 1), .extents = {{5, 40}, {13, 2}}},
      {.shape = ShapeOf(64, 64, 3, 1),
       .extents = {{17, 19}, {1, 1}},
       .y_type = compute,
       .bias = true,
       .relu = true},
      {.shape = ShapeOf(100, 64, 1, 1),
       .extents = {{9, 40}, {3, 3}, {1, 17}},
       .y_type = compute,
       .residual = Residual::kOfItsOwn,
       .residual_type = compute,
       .bias = true,
       .relu = true},
      // Positions that two blocks cover are written once.
      {.shape = ShapeOf(40, 24, 1, 1),
       .extents = {{7, 11}, {1, 3}},
       .y_type = compute,
       .residual = Residual::kTheOutput,
       .residual_type = compute,
       .relu = true},
      {.shape = ShapeOf(16, 100, 1, 2),
       .extents = {{11, 40}, {2, 1}},
       .y_type = compute,
       .residual = Residual::kTheOutput,
       .residual_type = compute},
      {.shape = ShapeOf(48, 16, 3, 2),
       .extents = {{40, 35}, {1, 2}, {4, 4}},
       .residual = Residual::kTheOutput,
       .residual_type = f32,
       .relu = true},
      {.shape = ShapeOf(33, 20, 3, 1, 2),
       .extents = {{12, 15}, {1, 40}},
       .y_type = compute,
       .residual = Residual::kOfItsOwn,
       .residual_type = f32,
       .bias = true},
      {.shape = ShapeOf(1, 1, 3, 2, 3), .extents = {{21, 9}}, .bias = true},
      {.shape = ShapeOf(130, 17, 7, 1), .extents = {{8, 11}}, .relu = true},
      // Wider outputs than inputs, and none of the padding that keeps extents.
      {.shape =
           {.out_channels = 5, .in_channels = 4, .kernel = 1, .padding = 2},
       .extents = {{3, 6}}},
      {.shape = {.out_channels = 18, .in_channels = 6, .kernel = 3},
       .extents = {{7, 40}, {3, 3}}},
  };
}

PackedWeight PackConvolution(const FloatRows& rows,
                             const ConvolutionShape& shape,
                             const std::vector<float>& factors,
                             std::string_view spec) {
  const ScaledRows folded(rows, factors);
  const auto codes = ParseMethodSpec(spec)->Encode(folded);
  EXPECT_TRUE(codes.ok()) << codes.status();
  auto packed = Pack(ConvolutionCodes(**codes, shape), Product::kConvolution);
  EXPECT_TRUE(packed.ok()) << packed.status();
  return *std::move(packed);
}

class Convolver {
 public:
  // Maps are random, the same for every instruction set; those of y and of the
  // residual have other borders than x.
  Convolver(const Case& c, const std::string& method, uint32_t seed = 1)
      : case_(c),
        source_(NormalRows(
            c.shape.out_channels,
            c.shape.in_channels * c.shape.kernel * c.shape.kernel, seed)),
        factors_(NormalValues(c.shape.out_channels, seed + 1)),
        bias_(NormalValues(c.shape.out_channels, seed + 2)),
        weight_(PackConvolution(source_, c.shape, factors_, method)) {
    for (size_t i = 0; i < c.extents.size(); ++i) {
      const auto [height, width] = c.extents[i];
      x_values_.push_back(
          NormalValues(height * width * c.shape.in_channels, seed + 10 + i));
      const int64_t outputs = c.shape.OutputExtent(height) *
                              c.shape.OutputExtent(width) *
                              c.shape.out_channels;
      residual_values_.push_back(NormalValues(outputs, seed + 20 + i));
    }
  }

  // Outputs of maps [first, end), one after another. Checks that borders and
  // what lies around the maps stay as they were.
  std::vector<float> Run(Isa isa, int num_threads, size_t first, size_t end) {
    ThreadPool pool(num_threads);
    auto created = Scratch::Create(64 << 20);
    EXPECT_TRUE(created.ok());
    Scratch& scratch = *created;
    std::vector<FeatureMap> xs, ys, residuals;
    std::vector<float*> poison;
    // Large numbers around each map, which nothing may use.
    const auto take_poison = [&] {
      poison.push_back(scratch.Take<float>(kPoison));
      std::fill_n(poison.back(), kPoison, 1e30f);
    };
    take_poison();
    for (size_t i = first; i < end; ++i) {
      const auto [height, width] = case_.extents[i];
      const int64_t border = case_.shape.padding;
      xs.push_back(TakeFeatureMap(case_.compute, height, width,
                                  case_.shape.in_channels, border, scratch));
      Fill(xs.back(), x_values_[i]);
      take_poison();
      const int64_t y_height = case_.shape.OutputExtent(height);
      const int64_t y_width = case_.shape.OutputExtent(width);
      const auto take = [&](Compute type, int64_t border) {
        const FeatureMap map = TakeFeatureMap(
            type, y_height, y_width, case_.shape.out_channels, border, scratch);
        take_poison();
        return map;
      };
      ys.push_back(take(case_.y_type, 1));
      if (case_.residual == Residual::kTheOutput) {
        residuals.push_back(ys.back());
      } else if (case_.residual == Residual::kOfItsOwn) {
        residuals.push_back(take(case_.residual_type, 2));
      }
      if (case_.residual == Residual::kNone) {
        Fill(ys.back(), std::vector<float>(residual_values_[i].size(), kNan));
      } else {
        Fill(residuals.back(), residual_values_[i]);
      }
    }
    const size_t mark = scratch.mark();
    const auto convolve = [&](ThreadPool& team, Scratch& from) {
      ConvolveOn(isa, xs, weight_, case_.shape,
                 {.bias = case_.bias ? bias_.data() : nullptr,
                  .relu = case_.relu,
                  .residual = residuals},
                 ys, team, from);
    };
    convolve(pool, scratch);
    EXPECT_EQ(mark, scratch.mark());
    const size_t bytes = scratch.peak() - mark;
    EXPECT_EQ(bytes, CountedBytes(num_threads, convolve));
    EXPECT_EQ(bytes, CountedBytes(num_threads,
                                  [&](ThreadPool& idle, Scratch& counting) {
                                    CountConvolve(case_.shape, idle, counting);
                                  }));
    for (const float* values : poison) {
      for (int i = 0; i < kPoison; ++i) EXPECT_EQ(1e30f, values[i]);
    }
    std::vector<float> result;
    for (const FeatureMap& y : ys) {
      for (int64_t row = -y.border; row < y.height + y.border; ++row) {
        for (int64_t column = -y.border; column < y.width + y.border;
             ++column) {
          const bool inside =
              row >= 0 && row < y.height && column >= 0 && column < y.width;
          for (int64_t c = 0; c < y.channels; ++c) {
            const float value = Element(y, row, column, c);
            if (inside) {
              result.push_back(value);
            } else {
              EXPECT_EQ(0.0f, value) << "the border of y";
            }
          }
        }
      }
    }
    return result;
  }
  std::vector<float> Run(Isa isa, int num_threads = 3) {
    return Run(isa, num_threads, 0, case_.extents.size());
  }

  // The obvious loops, sums in float64, and how far from them kernels may be.
  struct Wanted {
    double y;
    double tolerance;
  };
  std::vector<Wanted> Reference() const {
    const ConvolutionShape& shape = case_.shape;
    std::vector<float> packed(weight_.rows() * weight_.cols());
    weight_.Dequantize(0, weight_.rows(), packed.data());
    const bool bfloat16 = case_.compute == Compute::kBFloat16;
    if (bfloat16 && weight_.layout().form == TileForm::kFloat) {
      for (float& value : packed) value = RoundTo(DType::kBF16, value);
    }
    const auto rounded = [](Compute type, float value) {
      return type == Compute::kFloat32 ? value : RoundTo(DType::kBF16, value);
    };
    std::vector<Wanted> wanted;
    for (size_t i = 0; i < case_.extents.size(); ++i) {
      const auto [height, width] = case_.extents[i];
      size_t index = 0;
      for (int64_t oy = 0; oy < shape.OutputExtent(height); ++oy) {
        for (int64_t ox = 0; ox < shape.OutputExtent(width); ++ox) {
          for (int64_t o = 0; o < shape.out_channels; ++o, ++index) {
            double sum = 0, magnitudes = 0;
            for (int64_t ky = 0; ky < shape.kernel; ++ky) {
              for (int64_t kx = 0; kx < shape.kernel; ++kx) {
                const int64_t iy =
                    oy * shape.stride - shape.padding + ky * shape.dilation;
                const int64_t ix =
                    ox * shape.stride - shape.padding + kx * shape.dilation;
                if (iy < 0 || iy >= height || ix < 0 || ix >= width) continue;
                for (int64_t c = 0; c < shape.in_channels; ++c) {
                  const double product =
                      double{rounded(
                          case_.compute,
                          x_values_[i][(iy * width + ix) * shape.in_channels +
                                       c])} *
                      packed[o * weight_.cols() + PackedColumn(ky, kx, c)];
                  sum += product;
                  magnitudes += std::abs(product);
                }
              }
            }
            if (case_.bias) {
              sum += bias_[o];
              magnitudes += std::abs(double{bias_[o]});
            }
            if (case_.residual != Residual::kNone) {
              const Compute type = case_.residual == Residual::kTheOutput
                                       ? case_.y_type
                                       : case_.residual_type;
              const double value = rounded(type, residual_values_[i][index]);
              sum += value;
              magnitudes += std::abs(value);
            }
            if (case_.relu) sum = std::max(sum, 0.0);
            // Two roundings of float32 per step of the chain (without FMA), and
            // a few on the way out; then half a unit in the last of 8 bits.
            const int64_t steps =
                shape.kernel * shape.kernel * shape.in_channels + 4;
            double tolerance = 2 * steps * 0x1p-24 * magnitudes + 1e-30;
            if (case_.y_type == Compute::kBFloat16) {
              tolerance += 0x1p-8 * (std::abs(sum) + tolerance);
            }
            wanted.push_back({sum, tolerance});
          }
        }
      }
    }
    return wanted;
  }

 private:
  static constexpr int kPoison = 4096;

  static void Fill(const FeatureMap& map, const std::vector<float>& values) {
    size_t i = 0;
    for (int64_t y = 0; y < map.height; ++y) {
      for (int64_t x = 0; x < map.width; ++x) {
        for (int64_t c = 0; c < map.channels; ++c) {
          SetElement(map, y, x, c, values[i++]);
        }
      }
    }
  }

  int64_t PackedColumn(int64_t ky, int64_t kx, int64_t c) const {
    const auto blocks = [](int64_t cols) { return (cols + 63) / 64 * 64; };
    const ConvolutionShape& shape = case_.shape;
    return shape.dilation == 1
               ? ky * blocks(shape.kernel * shape.in_channels) +
                     kx * shape.in_channels + c
               : (ky * shape.kernel + kx) * blocks(shape.in_channels) + c;
  }

  const Case case_;
  const MatrixRows source_;
  const std::vector<float> factors_;
  const std::vector<float> bias_;
  const PackedWeight weight_;
  std::vector<std::vector<float>> x_values_;
  std::vector<std::vector<float>> residual_values_;
};

TEST(ConvolutionShapeTest, ExtentsAreThoseOfTheUsualFormula) {
  EXPECT_EQ(400, ShapeOf(64, 3, 7, 2).OutputExtent(800));
  EXPECT_EQ(533, ShapeOf(64, 3, 7, 2).OutputExtent(1066));
  EXPECT_EQ(1, ShapeOf(64, 3, 7, 2).OutputExtent(1));
  EXPECT_EQ(25, ShapeOf(1, 1, 3, 1, 2).OutputExtent(25));
  EXPECT_EQ(9 * 64, ShapeOf(64, 64, 3, 1).packed_cols());
  EXPECT_EQ(7 * 64, ShapeOf(64, 3, 7, 2).packed_cols());
  EXPECT_EQ(9 * 64, ShapeOf(64, 64, 3, 1, 2).packed_cols());
}

TEST(ScaledRowsTest, MultipliesEachRowByItsFactor) {
  const MatrixRows source(3, 2, {1, 2, 3, 4, 5, 6});
  const ScaledRows rows(source, {1, 10, 100});
  std::vector<float> found(4);
  ASSERT_TRUE(rows.Read(1, 2, found.data()).ok());
  EXPECT_EQ(found, (std::vector<float>{30, 40, 500, 600}));
}

TEST(ConvolutionCodesTest, PutTheChannelsOfATapSideBySide) {
  // W[o, c, ky, kx] = 100 o + 50 c + 5 ky + kx.
  std::vector<uint8_t> elements;
  for (int o = 0; o < 2; ++o) {
    for (int c = 0; c < 2; ++c) {
      for (int ky = 0; ky < 3; ++ky) {
        for (int kx = 0; kx < 3; ++kx) {
          elements.push_back(
              static_cast<uint8_t>(100 * o + 50 * c + 5 * ky + kx));
        }
      }
    }
  }
  // The code 7 of the first row and the code 9 of the second are worth zero.
  const CodeFormat format = {
      .kind = CodeFormat::Kind::kUnsigned,
      .element = "test",
      .fields = {{.name = "zero", .reach = Reach::Row()}},
      .rule = {.zero = {.field = 0}}};
  const HeldCodes codes(format, 2, 18, elements, {{7, 9}});
  for (const int64_t dilation : {1, 2}) {
    const ConvolutionCodes moved(codes, ShapeOf(2, 2, 3, 1, dilation));
    const int64_t row_cols = dilation == 1 ? 64 : 3 * 64;
    const int64_t tap_cols = dilation == 1 ? 2 : 64;
    const int64_t cols = 3 * row_cols;
    ASSERT_EQ(moved.cols(), cols);
    std::vector<float> wanted(2 * cols);
    for (int o = 0; o < 2; ++o) {
      for (int c = 0; c < 2; ++c) {
        for (int ky = 0; ky < 3; ++ky) {
          for (int kx = 0; kx < 3; ++kx) {
            wanted[o * cols + ky * row_cols + kx * tap_cols + c] =
                static_cast<float>(100 * o + 50 * c + 5 * ky + kx - 7 - 2 * o);
          }
        }
      }
    }
    EXPECT_EQ(ValuesOf(moved), wanted);
  }
}

TEST(ConvolutionCodesTest, RefuseWhatCannotBeMovedOrHasNoZero) {
  CodeFormat format = {.kind = CodeFormat::Kind::kUnsigned,
                       .element = "test",
                       .fields = {{.name = "zero", .reach = Reach::Row()}},
                       .rule = {.zero = {.field = 0}}};
  const HeldCodes codes(format, 2, 2, {1, 2, 3, 4}, {{1, 1.5f}});
  const ConvolutionCodes moved(codes, ShapeOf(2, 2, 1, 1));
  CodeBand band;
  EXPECT_TRUE(moved.Read(0, 1, band).ok());
  EXPECT_EQ(moved.Read(0, 2, band).message(),
            "tensor 'held.weight', row 1: a convolution needs a code that is "
            "worth exactly zero");
  format.fields[0].reach = Reach::Matrix();
  EXPECT_TRUE(ConvolutionCodes::Check(format).ok());
  format.input_rounding.bits = 8;
  EXPECT_EQ(ConvolutionCodes::Check(format).code(),
            absl::StatusCode::kUnimplemented);
  format.input_rounding.bits = 16;
  for (const Reach& reach : {Reach::Columns(32), Reach::Flat(64)}) {
    format.fields[0].reach = reach;
    EXPECT_EQ(ConvolutionCodes::Check(format).code(),
              absl::StatusCode::kInvalidArgument);
  }
}

class ConvolutionTest
    : public testing::TestWithParam<std::tuple<const QuantMethod*, Compute>> {
 protected:
  std::string method() const {
    return std::string(std::get<0>(GetParam())->name());
  }
  Compute compute() const { return std::get<1>(GetParam()); }
  std::vector<Case> CasesHere() const {
    std::vector<Case> cases = Cases(compute());
    for (Case& c : cases) c.compute = compute();
    return cases;
  }
};

TEST_P(ConvolutionTest, EqualsTheObviousLoops) {
  for (const Case& c : CasesHere()) {
    Convolver convolver(c, method());
    const auto wanted = convolver.Reference();
    for (const Isa isa : Isas()) {
      const std::vector<float> y = convolver.Run(isa);
      ASSERT_EQ(wanted.size(), y.size());
      for (size_t i = 0; i < y.size(); ++i) {
        ASSERT_NEAR(wanted[i].y, y[i], wanted[i].tolerance)
            << IsaName(isa) << " " << c.ToString() << ", output " << i;
      }
    }
  }
}

TEST_P(ConvolutionTest, AMapDoesNotDependOnTheOthersNorOnThreads) {
  for (const Case& c : CasesHere()) {
    Convolver convolver(c, method());
    for (const Isa isa : Isas()) {
      const std::string what = std::string(IsaName(isa)) + " " + c.ToString();
      const std::vector<float> together = convolver.Run(isa, 3);
      std::vector<float> alone;
      for (size_t i = 0; i < c.extents.size(); ++i) {
        const std::vector<float> one =
            convolver.Run(isa, 1 + static_cast<int>(i) % 2, i, i + 1);
        alone.insert(alone.end(), one.begin(), one.end());
      }
      ExpectSameBits(together, alone, what);
      ExpectSameBits(together, convolver.Run(isa, 1), what);
    }
  }
}

// Chunks, groups of panels and the unpacked weights of several tasks.
TEST_P(ConvolutionTest, MapsOfManyTasksEqualTheObviousLoops) {
  Case c = {.shape = ShapeOf(80, 512, 1, 1), .extents = {{30, 29}, {2, 2}}};
  c.compute = compute();
  Case strided = {.shape = ShapeOf(96, 256, 1, 2), .extents = {{61, 39}}};
  strided.compute = compute();
  for (const Case& large : {c, strided}) {
    Convolver convolver(large, method());
    const auto wanted = convolver.Reference();
    for (const Isa isa : Isas()) {
      const std::vector<float> y = convolver.Run(isa);
      ASSERT_EQ(wanted.size(), y.size());
      for (size_t i = 0; i < y.size(); ++i) {
        ASSERT_NEAR(wanted[i].y, y[i], wanted[i].tolerance)
            << IsaName(isa) << " " << large.ToString() << ", output " << i;
      }
      ExpectSameBits(y, convolver.Run(isa, 1), large.ToString());
      ExpectSameBits(y, convolver.Run(isa, 2), large.ToString());
    }
  }
}

// All that convolutions take.
std::vector<const QuantMethod*> Methods() {
  std::vector<const QuantMethod*> methods;
  for (const QuantMethod* method : AllMethods()) {
    const auto format =
        ParseMethodSpec(method->name())->Format(64, 576, DType::kF32);
    if (format.ok() && ConvolutionCodes::Check(*format).ok()) {
      methods.push_back(method);
    }
  }
  return methods;
}

INSTANTIATE_TEST_SUITE_P(AllMethods, ConvolutionTest,
                         testing::Combine(testing::ValuesIn(Methods()),
                                          testing::Values(Compute::kFloat32,
                                                          Compute::kBFloat16)),
                         [](const auto& info) {
                           return TestName(std::get<0>(info.param)->name()) +
                                  (std::get<1>(info.param) == Compute::kFloat32
                                       ? "InFloat32"
                                       : "InBFloat16");
                         });

}  // namespace
}  // namespace ounce::quant
