// Speed of a detector's forward pass alone, without server and pictures' files.
//
// Usage: detect_bench CHECKPOINT [float32|bfloat16] [METHOD[+convolutions]]
//        [THREADS] [REPEATS] [HEIGHT WIDTH]

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "base/cpu.h"
#include "base/mapped_memory.h"
#include "base/thread_pool.h"
#include "bench/timing.h"
#include "model/detector.h"
#include "model/loader/loader.h"
#include "quant/registry.h"

namespace ounce {
namespace {

using bench::ProcessCpuSeconds;
using bench::Seconds;
using model::Detector;

[[noreturn]] void Die(const absl::Status& status) {
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  std::exit(1);
}

struct Options {
  std::string folder;
  quant::Compute compute = quant::FasterCompute();
  std::string method;
  int threads = NumCpus();
  int repeats = 9;
  model::PictureSize size = {800, 1066};
};

void Measure(const Detector& detector, const Options& options, int64_t batch) {
  ThreadPool pool(options.threads);
  std::vector<uint8_t> rgb(options.size.height * options.size.width * 3);
  for (size_t i = 0; i < rgb.size(); ++i) {
    rgb[i] = static_cast<uint8_t>(i * 7 % 251);
  }
  model::PixelTable table;
  for (auto& channel : table.values) {
    for (int i = 0; i < 256; ++i) {
      channel[i] = static_cast<float>(i - 115) / 57;
    }
  }
  const std::vector<model::PictureView> pictures(batch, {.rgb = rgb.data(),
                                                         .size = options.size,
                                                         .canvas = options.size,
                                                         .table = &table});
  const std::vector<model::PictureSize> canvases(batch, options.size);
  const size_t bytes = detector.ScratchBytes(canvases, options.threads);
  auto scratch = quant::Scratch::Create(bytes);
  if (!scratch.ok()) Die(scratch.status());
  const int64_t rows = batch * detector.shape().num_queries;
  const auto classes = static_cast<int64_t>(detector.shape().labels.size()) + 1;
  std::vector<float> logits(rows * classes), boxes(rows * 4);
  std::vector<double> wall, cpu;
  for (int i = 0; i <= options.repeats; ++i) {
    const double start = Seconds(), cpu_start = ProcessCpuSeconds();
    detector.Forward(pictures, detector.RunOn(pool, *scratch),
                     {logits.data(), rows, classes, classes},
                     {boxes.data(), rows, 4, 4});
    if (i == 0) continue;  // warms up
    wall.push_back(Seconds() - start);
    cpu.push_back(ProcessCpuSeconds() - cpu_start);
  }
  std::sort(wall.begin(), wall.end());
  std::sort(cpu.begin(), cpu.end());
  std::printf(
      "batch %lld of %lld x %lld  median %7.1f ms  best %7.1f ms  cpu %7.1f ms "
      " (best %7.1f)  scratch %lld MB\n",
      static_cast<long long>(batch),
      static_cast<long long>(options.size.height),
      static_cast<long long>(options.size.width), wall[wall.size() / 2] * 1e3,
      wall[0] * 1e3, cpu[cpu.size() / 2] * 1e3, cpu[0] * 1e3,
      static_cast<long long>(bytes / 1'000'000));
}

void Run(const Options& options) {
  auto checkpoint = model::Checkpoint::Open(options.folder);
  if (!checkpoint.ok()) Die(checkpoint.status());
  model::LoadOptions load;
  load.compute = options.compute;
  const std::string spec =
      options.method.substr(0, options.method.find("+convolutions"));
  auto plan = model::PlanOf(
      "", {.method = spec, .convolutions = spec != options.method});
  if (!plan.ok()) Die(plan.status());
  load.plan = *std::move(plan);
  const double start = Seconds();
  auto loaded = model::LoadModel(**checkpoint, load);
  if (!loaded.ok()) Die(loaded.status());
  const Detector* detector = loaded->model->detector();
  if (detector == nullptr) {
    Die(absl::InvalidArgumentError(options.folder + ": not a detector"));
  }
  std::printf(
      "%s, %s, %s, %d threads, best instruction set %s\n",
      options.folder.c_str(), loaded->report.method.c_str(),
      options.compute == quant::Compute::kFloat32 ? "float32" : "bfloat16",
      options.threads, std::string(IsaName(BestIsa())).c_str());
  std::printf(
      "load %.2f s, checkpoint %lld bytes, stored %lld, resident %lld, RSS "
      "%lld "
      "MiB (peak %lld MiB)\n",
      Seconds() - start,
      static_cast<long long>(loaded->report.checkpoint_bytes),
      static_cast<long long>(loaded->report.stored_bytes),
      static_cast<long long>(loaded->report.resident_bytes),
      static_cast<long long>(ResidentBytes() >> 20),
      static_cast<long long>(PeakResidentBytes() >> 20));
  for (int64_t batch : {1, 4}) Measure(*detector, options, batch);
}

}  // namespace
}  // namespace ounce

int main(int argc, char** argv) {
  if (argc < 2 || argc == 7 || argc > 8) {
    std::fprintf(
        stderr,
        "usage: detect_bench CHECKPOINT [float32|bfloat16] "
        "[METHOD[+convolutions]] [THREADS] [REPEATS] [HEIGHT WIDTH]\n");
    return 2;
  }
  ounce::Options options;
  options.folder = argv[1];
  if (argc > 2) {
    options.compute = std::string(argv[2]) == "float32"
                          ? ounce::quant::Compute::kFloat32
                          : ounce::quant::Compute::kBFloat16;
  }
  if (argc > 3) options.method = argv[3];
  if (argc > 4) options.threads = std::atoi(argv[4]);
  if (argc > 5) options.repeats = std::atoi(argv[5]);
  if (argc > 7) options.size = {std::atoi(argv[6]), std::atoi(argv[7])};
  ounce::Run(options);
  return 0;
}
