// How fast the convolutions of ResNet-50 are on a picture of 800 by 1066
// pixels, beside what the machine multiplies at best: one line per kind of
// layer, and the sum over the network.
//
//   convolution_bench [threads] [milliseconds per line] [method] [compute]
//
// With one thread, times are those of its CPU.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "base/cpu.h"
#include "base/thread_pool.h"
#include "bench/machine_limits.h"
#include "bench/random_rows.h"
#include "bench/timing.h"
#include "quant/convolution.h"
#include "quant/pack.h"
#include "quant/registry.h"

namespace ounce::quant {
namespace {

struct Layer {
  int count;  // of this kind in the network
  int64_t in, out, kernel, stride, height, width;
  bool residual;
};
constexpr Layer kLayers[] = {
    {1, 3, 64, 7, 2, 800, 1066, false},    {1, 64, 64, 1, 1, 200, 267, false},
    {2, 256, 64, 1, 1, 200, 267, false},   {3, 64, 64, 3, 1, 200, 267, false},
    {3, 64, 256, 1, 1, 200, 267, true},    {1, 64, 256, 1, 1, 200, 267, false},
    {1, 256, 128, 1, 1, 200, 267, false},  {1, 128, 128, 3, 2, 200, 267, false},
    {1, 256, 512, 1, 2, 200, 267, false},  {3, 512, 128, 1, 1, 100, 134, false},
    {3, 128, 128, 3, 1, 100, 134, false},  {4, 128, 512, 1, 1, 100, 134, true},
    {1, 512, 256, 1, 1, 100, 134, false},  {1, 256, 256, 3, 2, 100, 134, false},
    {1, 512, 1024, 1, 2, 100, 134, false}, {5, 1024, 256, 1, 1, 50, 67, false},
    {5, 256, 256, 3, 1, 50, 67, false},    {6, 256, 1024, 1, 1, 50, 67, true},
    {1, 1024, 512, 1, 1, 50, 67, false},   {1, 512, 512, 3, 2, 50, 67, false},
    {1, 1024, 2048, 1, 2, 50, 67, false},  {2, 2048, 512, 1, 1, 25, 34, false},
    {2, 512, 512, 3, 1, 25, 34, false},    {3, 512, 2048, 1, 1, 25, 34, true},
};

void Fill(const FeatureMap& map) {
  for (int64_t y = 0; y < map.height; ++y) {
    for (int64_t i = 0; i < map.width * map.channels; ++i) {
      const float value = std::sin(static_cast<float>((y * 31 + i) % 997));
      if (map.type == Compute::kFloat32) {
        map.floats(y, 0)[i] = value;
      } else {
        map.bfloat16s(y, 0)[i] = FloatToBFloat16(value);
      }
    }
  }
}

// Seconds of one call.
double Measure(const Layer& layer, Compute compute, const MethodSpec& method,
               double seconds, ThreadPool& pool, Scratch& scratch) {
  const ConvolutionShape shape = {.out_channels = layer.out,
                                  .in_channels = layer.in,
                                  .kernel = layer.kernel,
                                  .stride = layer.stride,
                                  .padding = layer.kernel / 2};
  const RandomRows source(layer.out, layer.in * layer.kernel * layer.kernel);
  const auto codes = method.Encode(source);
  if (!codes.ok()) std::exit(1);
  const auto weight =
      Pack(ConvolutionCodes(**codes, shape), Product::kConvolution);
  if (!weight.ok()) std::exit(1);
  ScratchScope scope(scratch);
  const FeatureMap x = TakeFeatureMap(compute, layer.height, layer.width,
                                      layer.in, shape.padding, scratch);
  const auto take = [&] {
    return TakeFeatureMap(compute, shape.OutputExtent(layer.height),
                          shape.OutputExtent(layer.width), layer.out, 1,
                          scratch);
  };
  const FeatureMap y = take();
  const FeatureMap residual = layer.residual ? take() : FeatureMap{};
  Fill(x);
  if (layer.residual) Fill(residual);
  const std::vector<float> bias(layer.out, 0.1f);
  const ConvolutionEpilogue epilogue = {
      .bias = bias.data(),
      .relu = true,
      .residual = {&residual, layer.residual ? size_t{1} : 0}};
  const auto convolve = [&](int64_t) {
    Convolve({&x, 1}, *weight, shape, epilogue, {&y, 1}, pool, scratch);
  };
  const auto now =
      pool.num_threads() == 1 ? bench::ThreadCpuSeconds : bench::Seconds;
  const double once = bench::FastSeconds(2, convolve, now);
  return bench::FastSeconds(
      static_cast<int64_t>(std::clamp(seconds / once, 3.0, 1000.0)), convolve,
      now);
}

double Operations(const Layer& layer) {
  const int64_t pixels = ((layer.height + layer.stride - 1) / layer.stride) *
                         ((layer.width + layer.stride - 1) / layer.stride);
  return 2.0 * pixels * layer.out * layer.in * layer.kernel * layer.kernel;
}

void MeasureNetwork(Compute compute, std::string_view spec, double seconds,
                    ThreadPool& pool) {
  const auto method = ParseMethodSpec(spec);
  if (!method.ok()) std::exit(1);
  auto scratch = Scratch::Create(int64_t{512} << 20);
  if (!scratch.ok()) std::exit(1);
  std::printf("%s weights in %s\n", std::string(spec).c_str(),
              compute == Compute::kFloat32 ? "float32" : "bfloat16");
  double total_seconds = 0, total_operations = 0, share = 0;
  for (const Layer& layer : kLayers) {
    // Read beside each line, since others use the machine too.
    const bench::Peaks peaks = bench::MeasurePeaks(BestIsa(), pool);
    const double peak =
        compute == Compute::kBFloat16 && peaks.bfloat16_tflops > 0
            ? peaks.bfloat16_tflops
            : peaks.float32_tflops;
    const double one =
        Measure(layer, compute, *method, seconds, pool, *scratch);
    const double operations = Operations(layer);
    total_seconds += layer.count * one;
    total_operations += layer.count * operations;
    share += layer.count * operations / peak / 1e12;
    std::printf(
        "  %d x %ldx%ld/%ld %4ld -> %-4ld at %3ldx%-4ld %7.2f ms %6.3f TFLOPS",
        layer.count, static_cast<long>(layer.kernel),
        static_cast<long>(layer.kernel), static_cast<long>(layer.stride),
        static_cast<long>(layer.in), static_cast<long>(layer.out),
        static_cast<long>(layer.height), static_cast<long>(layer.width),
        one * 1e3, operations / one / 1e12);
    std::printf(" of %5.2f in registers\n", peak);
    std::fflush(stdout);
  }
  std::printf("  all: %.1f ms, %.3f TFLOPS, %.0f %% of the peak\n",
              total_seconds * 1e3, total_operations / total_seconds / 1e12,
              100 * share / total_seconds);
}

int Main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : NumCpus();
  const double seconds = (argc > 2 ? std::atof(argv[2]) : 200) / 1e3;
  const std::string_view only_method = argc > 3 ? argv[3] : "";
  const std::string_view only_compute = argc > 4 ? argv[4] : "";
  ThreadPool pool(threads);
  std::printf("%s, %d threads\n", std::string(IsaName(BestIsa())).c_str(),
              threads);
  for (const Compute compute : {Compute::kBFloat16, Compute::kFloat32}) {
    const bool floats = compute == Compute::kFloat32;
    const std::string_view own = floats ? "float32" : "bfloat16";
    if (!only_compute.empty() && only_compute != own) continue;
    for (const std::string_view spec : {own, std::string_view("linear")}) {
      if (!only_method.empty() && only_method != spec) continue;
      MeasureNetwork(compute, spec, seconds, pool);
    }
  }
  return 0;
}

}  // namespace
}  // namespace ounce::quant

int main(int argc, char** argv) { return ounce::quant::Main(argc, argv); }
