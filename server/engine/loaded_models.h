// Makes the catalog that really loads models; main hands it to the services.
#ifndef OUNCE_SERVER_ENGINE_LOADED_MODELS_H_
#define OUNCE_SERVER_ENGINE_LOADED_MODELS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/clock.h"
#include "base/thread_pool.h"
#include "model/layers/kv_type.h"
#include "quant/compute.h"
#include "server/scheduler/detect_scheduler.h"
#include "server/scheduler/generate_scheduler.h"
#include "server/scheduler/memory_budget.h"
#include "server/scheduler/model_catalog.h"

namespace ounce::server {

struct CatalogOptions {
  // Bytes of keys and values per model, at most. Address space until used.
  // A model whose limit would not fit the server's memory beside its weights
  // gets a smaller one.
  int64_t kv_cache_bytes = int64_t{1} << 30;
  GenerateScheduler::Options scheduler;  // of every model that generates
  DetectScheduler::Options detection;    // of every model that detects
  // Absent: as each architecture does by itself.
  std::optional<quant::Compute> compute = quant::Compute::kFloat32;
  // What caches hold keys and values in. Absent: what the model computes in.
  std::optional<model::KvType> kv_type = std::nullopt;
  // What all of it may take together; must outlive the catalog and every
  // ServedModel that it gave out. Null: as much as there is.
  MemoryBudget* memory = nullptr;
  // Where Load and Inspect may read; not Load of a reserved name, which is of
  // the start. Empty: anywhere.
  std::vector<std::string> model_roots = {};
  // Load downloads org/name from the Hugging Face hub where its cache lacks it,
  // and may read it there.
  bool pull = false;
  // Below which Save may write. Empty: nothing is saved.
  std::string save_root = {};
  // Versions of one model whose weights are in memory at a time: the one that
  // serves, those before it on which requests still run, and one being built.
  // At least 2.
  int64_t max_versions = 3;
  // How long a quantization waits for versions to end that are in its way.
  absl::Duration max_version_wait = absl::Seconds(20);
};

// Every model gets a scheduler with an engine thread of its own; they take
// turns on `pool`, step by step or batch by batch.
//
// Ownership: `pool`, `clock` and `observer` must outlive the catalog and every
//   ServedModel that it gave out.
std::unique_ptr<ModelCatalog> CreateModelCatalog(const CatalogOptions& options,
                                                 ThreadPool& pool,
                                                 const Clock& clock,
                                                 CatalogObserver& observer);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_LOADED_MODELS_H_
