// Wires the server together and runs it until a signal.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdio>
#include <string>

#include "absl/time/clock.h"
#include "base/cpu.h"
#include "base/status_macros.h"
#include "server/announce.h"
#include "server/config.h"
#include "server/engine/loaded_models.h"
#include "server/metrics/metrics.h"
#include "server/process.h"
#include "server/scheduler/picture_memory.h"
#include "server/service/listeners.h"
#include "server/service/picture_reader.h"
#include "server/stop_signal.h"

namespace ounce::server {
namespace {

// Threads that read pictures: they are there to keep the engines busy.
constexpr int kMaxPictureThreads = 4;

// Returns when a signal has stopped the server.
absl::Status Serve(const Config& config) {
  StopSignal stop;  // before any other thread
  const std::string isa(IsaName(BestIsa()));
  ThreadPool pool(static_cast<int>(config.threads));
  RETURN_IF_ERROR(pool.status());
  const Clock& clock = Clock::Real();
  const auto metrics = Metrics::Create({OUNCE_VERSION, isa, OUNCE_COMPILER});
  ModelHealth health(*metrics);
  const Config::Limits& limits = config.limits;
  // Outlives every picture, those that the catalog holds too.
  PictureMemory picture_memory(
      limits.picture_memory_bytes,
      [&](int64_t count, int64_t bytes) { metrics->OnPictures(count, bytes); });
  const auto catalog = CreateModelCatalog(
      {.kv_cache_bytes = config.kv_cache_bytes,
       .scheduler = {.max_queued = limits.max_queued_requests,
                     .max_running = limits.max_running_requests,
                     .max_step_tokens = limits.max_step_tokens},
       .detection = {.max_queued = limits.max_queued_requests,
                     .max_batch_pictures = limits.max_batch_pictures},
       .compute = config.compute},
      pool, clock, health);
  const PictureReader pictures({.max_bytes = limits.max_message_bytes,
                                .max_pixels = limits.max_picture_pixels},
                               picture_memory);
  InferenceService inference(
      {.max_new_tokens = limits.max_new_tokens,
       .draw_seed = DrawSeed,
       .on_rejected =
           [&](const auto& model, const absl::Status& why) {
             metrics->OnRejected(model, why);
           },
       .on_detect_rejected =
           [&](const auto& model, const absl::Status& why) {
             metrics->OnDetectRejected(model, why);
           },
       .picture_threads = static_cast<int>(
           std::min<int64_t>(config.threads, kMaxPictureThreads))},
      *catalog, pictures, clock);
  ModelAdminService admin(*catalog, pictures, clock);
  Addresses addresses;
  ASSIGN_OR_RETURN(
      const auto listeners,
      Listeners::Start(
          {.inference = config.listen.inference,
           .admin = config.listen.admin,
           .max_message_bytes = static_cast<int>(limits.max_message_bytes),
           .on_serving = [&](bool serving) { metrics->SetServing(serving); }},
          inference, admin));
  ASSIGN_OR_RETURN(addresses.metrics, metrics->Listen(config.listen.metrics));
  addresses.inference = listeners->inference_address();
  addresses.admin = listeners->admin_address();
  health.SetListeners(listeners.get());
  PrintStart(OUNCE_VERSION, isa, config, addresses);

  for (const Config::Model& model : config.models) {
    RETURN_IF_ERROR(WithContext(
        catalog
            ->Load({model.name, model.path, model.method, model.convolutions})
            .status(),
        "model '" + model.name + "'"));
  }
  PrintModels(catalog->List());
  listeners->StartServing();
  stop.Ready();
  RETURN_IF_ERROR(WritePorts(config.ports_file, addresses));

  stop.Wait();
  spdlog::info("stopping: running requests have {} s",
               absl::ToDoubleSeconds(config.drain));
  listeners->StopServing();
  admin.Stop();
  inference.Stop();
  const absl::Time deadline = clock.Now() + config.drain;
  inference.FinishReading(deadline);
  catalog->Drain(deadline);
  inference.Drain(deadline);
  // Who has just been answered may ask once more, and is to hear UNAVAILABLE:
  // from Shutdown on, gRPC itself says CANCELLED.
  absl::SleepFor(absl::Milliseconds(200));
  // For the last words to quick calls; idle connections need no longer.
  listeners->Shutdown(absl::Milliseconds(100));
  spdlog::info("stopped");
  return absl::OkStatus();
}

}  // namespace
}  // namespace ounce::server

int main(int argc, char** argv) {
  ounce::server::SetUpProcess();
  const auto config = ounce::server::ReadConfig(argc, argv);
  if (!config.ok()) {
    std::fprintf(stderr, "ounce-server: %s\n",
                 std::string(config.status().message()).c_str());
    return 2;
  }
  if (!config->print.empty()) {
    std::fputs(config->print.c_str(), stdout);
    return 0;
  }
  const absl::Status status = ounce::server::Serve(*config);
  if (status.ok()) return 0;
  std::fprintf(stderr, "ounce-server: %s\n",
               std::string(status.message()).c_str());
  return 1;
}
