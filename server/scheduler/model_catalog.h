// What is loaded, and how it changes: the interface that services see.
#ifndef OUNCE_SERVER_SCHEDULER_MODEL_CATALOG_H_
#define OUNCE_SERVER_SCHEDULER_MODEL_CATALOG_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "model/generation_defaults.h"
#include "model/loader/method_plan.h"
#include "model/tokenizer/tokenizer.h"
#include "quant/registry.h"
#include "server/scheduler/detect_scheduler.h"
#include "server/scheduler/detection_evaluator.h"
#include "server/scheduler/generate_scheduler.h"
#include "server/scheduler/text_evaluator.h"

namespace ounce::model {
class ImageProcessor;
}

namespace ounce::server {

// 1 to 64 characters of letters, digits, '.', '_', '-'.
bool IsModelName(std::string_view name);
inline constexpr char kModelNameRule[] =
    "1 to 64 letters, digits, '.', '_' or '-'";

enum class ModelState { kLoading, kReady, kQuantizing, kUnloading };

// Whether a model in this state answers.
inline bool Serves(ModelState state) {
  return state == ModelState::kReady || state == ModelState::kQuantizing;
}

// What a model answers.
enum class Task { kGenerate, kDetectObjects };

struct ModelHistory;  // model_history.h

// Fields as in model_admin.proto's Model.
struct ModelInfo {
  std::string name;
  std::string path;
  std::string architecture;
  ModelState state = ModelState::kLoading;
  int64_t version = 0;
  std::string plan;    // model::MethodPlan's text
  std::string method;  // and its label
  int64_t parameters = 0;
  int64_t checkpoint_bytes = 0;
  int64_t stored_bytes = 0;
  int64_t resident_bytes = 0;
  // Of resident_bytes, by element ("int8", "float16", ...).
  std::vector<std::pair<std::string, int64_t>> resident_bytes_by_element;
  int64_t max_positions = 0;
  int64_t vocabulary_size = 0;
  std::vector<Task> tasks;
  std::string compute;
  std::string kv_cache_dtype;  // empty: it keeps no keys and values
  SchedulerStats stats;
  // Of the serving version, as it was measured last.
  std::optional<TextQuality> quality;
  std::optional<DetectionQuality> detection;
  // Since its load; null while it loads.
  std::shared_ptr<const ModelHistory> history;
};

// What a request needs of a model, by task. To add a task: a struct here, its
// words in model_catalog.cc, and how it is served in server/engine/tasks.cc.
struct TextGeneration {
  static constexpr Task kTask = Task::kGenerate;
  GenerateScheduler* scheduler = nullptr;
  const model::Tokenizer* tokenizer = nullptr;
  const model::GenerationDefaults* defaults = nullptr;
  TextEvaluator* evaluator = nullptr;
};
struct ObjectDetection {
  static constexpr Task kTask = Task::kDetectObjects;
  // Takes pictures that the processor has prepared.
  DetectScheduler* scheduler = nullptr;
  const model::ImageProcessor* processor = nullptr;
  DetectionEvaluator* evaluator = nullptr;
};
using TaskInterface = std::variant<TextGeneration, ObjectDetection>;

// kFailedPrecondition, saying what a model that can't do `task` can do.
absl::Status CheckTask(const ModelInfo& info, Task task);

// A model that takes requests. Held by a request for as long as it runs.
class ServedModel {
 public:
  virtual ~ServedModel() = default;
  virtual ModelInfo info() const = 0;
  virtual const TaskInterface& task() const = 0;
};
// What `model` has for a request of this task (TextGeneration, ...), to be
// asked once per request. Ownership: a share of the model. Errors: CheckTask's.
template <class T>
absl::StatusOr<std::shared_ptr<const T>> TaskOf(
    std::shared_ptr<const ServedModel> model) {
  const T* task = std::get_if<T>(&model->task());
  if (task == nullptr) return CheckTask(model->info(), T::kTask);
  return std::shared_ptr<const T>(std::move(model), task);
}

enum class TensorKind { kLinear, kConvolution, kEmbedding, kHead, kVector };

struct TensorOutcome {
  std::string name;
  TensorKind kind = TensorKind::kLinear;
  std::vector<int64_t> shape;
  std::string method;
  int64_t bytes_before = 0;
  int64_t bytes_after = 0;
  std::optional<double> relative_l2_error;
  std::optional<double> snr_db;
  std::optional<double> relative_l2_output_error = {};
  std::string left_alone;
  std::string note = {};
  std::optional<double> clamp_rate = std::nullopt;
  std::optional<double> computed_relative_l2_error = std::nullopt;
  std::optional<double> sparsity = {};
};

// Fields as in model_admin.proto's Footprint.
struct Footprint {
  std::string rule;
  std::string help;
  int64_t bytes_before = 0;
  int64_t bytes_after = 0;
  double saved_ratio = 0;
};

// Fields as in model_admin.proto's QuantizeReport.
struct QuantizeReport {
  std::string model;
  int64_t version = 0;
  std::string plan;
  std::string method;
  std::string method_before;
  int64_t stored_bytes_before = 0;
  int64_t stored_bytes_after = 0;
  int64_t resident_bytes_before = 0;
  int64_t resident_bytes_after = 0;
  int64_t checkpoint_bytes = 0;
  double saved_ratio = 0;
  double seconds = 0;
  std::vector<TensorOutcome> tensors;
  std::optional<TextQuality> quality;
  std::optional<DetectionQuality> detection;
  // kFailedPrecondition, with the figures, where a limit was exceeded: then
  // nothing that serves has changed.
  absl::Status refusal;
  std::vector<Footprint> footprints = {};
};

// What a load is doing; those that begin follow each other in this order.
enum class LoadStage {
  kReading,     // the checkpoint's description, and the tokenizer
  kPacking,     // the weights are read, quantized and packed
  kPublishing,  // the engine begins
};

// "reading", ...: in traces. It lives for ever.
const char* LoadStageName(LoadStage stage);

// Fields as in model_admin.proto's LoadModelRequest.
struct LoadParams {
  std::string name;
  std::string path;
  model::MethodPlan plan = {};
  bool reserved = false;  // the name, by Reserve
  // Asked again and again while the caller waits, on its thread; the first
  // error ends the load with that error. Empty: always.
  std::function<absl::Status()> proceed = nullptr;
  // Told of each stage when it begins, on the caller's thread. Empty: nobody.
  std::function<void(LoadStage)> on_stage = nullptr;
};

// What a new version must keep to in order to serve. Fields as in
// model_admin.proto's QuantizeRequest.
struct QualityLimits {
  std::optional<double> max_perplexity_increase = {};
  std::optional<double> max_kl = {};
  std::optional<double> max_box_drift = {};

  bool of_text() const {
    return max_perplexity_increase.has_value() || max_kl.has_value();
  }
  bool of_pictures() const { return max_box_drift.has_value(); }
};

struct QuantizeParams {
  std::string model;
  model::MethodPlan plan = {};
  std::string as = {};
  bool dry_run = false;
  // What the new version is measured on. Texts are for a model that generates
  // text; pictures, prepared for this model, for one that detects objects.
  std::vector<std::string> texts = {};
  std::vector<std::shared_ptr<const Picture>> pictures = {};
  // Those of a task need samples of it.
  QualityLimits limits = {};
};

// Fields as in model_admin.proto's SaveModelRequest.
struct SaveParams {
  std::string model;
  std::string folder;
  std::string format = {};
  int64_t max_shard_bytes = 0;  // 0: as there
};

struct SaveUpdate {
  int64_t bytes_done = 0;
  int64_t bytes_total = 0;
  std::string tensor;
};

struct SavedFile {
  std::string name;
  int64_t bytes = 0;
};

// Fields as in model_admin.proto's SaveModelReport.
struct SaveReport {
  std::string model;
  int64_t version = 0;
  std::string plan;
  std::string folder;
  std::string format;
  std::vector<SavedFile> files;
  int64_t weight_bytes = 0;
  double seconds = 0;
};

struct InspectParams {
  // A served model, or, if that is empty, where a checkpoint is.
  std::string model;
  std::string path;
  // Absent: of a served model its own, else all is kept.
  std::optional<model::MethodPlan> plan;
  std::string tensor;  // empty: none
  // What to store that tensor by.
  std::optional<quant::MethodSpec> method;
  // As LoadParams'.
  std::function<absl::Status()> proceed = nullptr;
};

// Fields as in model_admin.proto's Distribution.
struct Distribution {
  int64_t count = 0;
  int64_t zeros = 0;
  int64_t non_finite = 0;
  double min = 0;
  double max = 0;
  double mean = 0;
  double standard_deviation = 0;
  std::vector<int64_t> bins;
};

// Fields as in model_admin.proto's TensorValues.
struct TensorValues {
  std::string tensor;
  Distribution values;
  std::string method;
  std::optional<Distribution> errors;
  double relative_l2_error = 0;
  double snr_db = 0;
  int64_t method_bytes = 0;
  std::string note = {};
};

struct InspectedTensor {
  TensorOutcome outcome;
  std::string dtype;
  int64_t resident_bytes = 0;
};

// Fields as in model_admin.proto's InspectResponse.
struct Inspection {
  std::string folder;
  std::string architecture;
  std::string plan;
  int64_t checkpoint_bytes = 0;
  int64_t stored_bytes = 0;
  int64_t resident_bytes = 0;
  std::vector<InspectedTensor> tensors;
  std::optional<TensorValues> values;
};

// kWaiting: for versions before it to end, because there are too many or memory
// is short; if at all, it comes after kReading. kEvaluating: only with samples.
enum class QuantizeStage {
  kReading,
  kWaiting,
  kQuantizing,
  kEvaluating,
  kSwapping
};

// "reading", ...: in metrics and traces. It lives for ever.
const char* QuantizeStageName(QuantizeStage stage);

struct QuantizeUpdate {
  QuantizeStage stage = QuantizeStage::kReading;
  int64_t tensors_done = 0;
  int64_t tensors_total = 0;
  std::string tensor;
  int64_t samples_done = 0;  // tokens or pictures
  int64_t samples_total = 0;
};

struct MethodParameterInfo {
  std::string name;
  std::string default_value;
  std::optional<int64_t> min = {};
  std::optional<int64_t> max = {};
  std::optional<double> lowest = {};
  std::optional<double> highest = {};
  std::vector<std::string> choices = {};
  std::string help = {};
};
struct MethodInfo {
  std::string name;
  std::string summary;
  std::vector<MethodParameterInfo> parameters;
};
struct SaveFormatInfo {
  std::string name;
  std::string summary;
};
// Fields as in model_admin.proto's ListMethodsResponse.
struct MethodList {
  std::vector<MethodInfo> methods;
  std::vector<MethodInfo> stages;
  std::vector<MethodParameterInfo> rule_keys;
  std::vector<SaveFormatInfo> save_formats = {};
};

// What a catalog tells as it happens, for metrics.
//
// Threads: any, never two calls at a time; called with the catalog's lock held,
//   so it must neither block nor call the catalog.
class CatalogObserver {
 public:
  virtual ~CatalogObserver() = default;

  // A model of this name is about to be served: who watches its scheduler. The
  // result is used until the model is removed, and destroyed some time later,
  // when the last request lets go of the model.
  virtual std::unique_ptr<SchedulerObserver> ObserveScheduler(
      const std::string& model) = 0;
  virtual std::unique_ptr<DetectObserver> ObserveDetection(
      const std::string& model) = 0;

  // It appeared (kLoading: only name, path and state are known), or its state,
  // version or bytes changed.
  virtual void OnModelChanged(const ModelInfo& info) = 0;

  // It is gone: unloaded, or its load failed.
  virtual void OnModelRemoved(const std::string& model) = 0;

  // A quantization of `model` entered a stage; `method` is its plan's label.
  virtual void OnQuantizeStage(const std::string& model,
                               const std::string& method,
                               QuantizeStage stage) = 0;

  // ... and ended, well or not; for dry runs too. Only for runs that began: not
  // for those refused because of their parameters or the model's state.
  virtual void OnQuantizeDone(const std::string& model,
                              const std::string& method,
                              const absl::Status& status,
                              absl::Duration duration) = 0;

  // A save of `model` ended, well (then `weight_bytes` were written) or not.
  // Not told when the model is gone by then.
  virtual void OnSaveDone(const std::string& model, const absl::Status& status,
                          int64_t weight_bytes, absl::Duration duration) = 0;

  // How well a version of `model` predicts a text, or detects objects, was
  // measured: one that serves, or that is about to.
  virtual void OnEvaluated(const std::string& model,
                           const TextQuality& quality) = 0;
  virtual void OnDetectionEvaluated(const std::string& model,
                                    const DetectionQuality& quality) = 0;
};

// Threads: any thread may call anything. Load, Unload, Quantize, Save and
// Inspect
//   take their time on the caller's thread (the service gives them one); the
//   others are quick.
// Errors: as the RPCs of the same names in model_admin.proto say.
class ModelCatalog {
 public:
  virtual ~ModelCatalog() = default;

  // kNotFound if there is none (the message lists what is served);
  // kUnavailable while it loads.
  virtual absl::StatusOr<std::shared_ptr<ServedModel>> Find(
      std::string_view name) = 0;

  virtual std::vector<ModelInfo> List() const = 0;  // by name

  // Keeps a name for a Load that says `reserved`: until it ends the model is
  // one that loads. kAlreadyExists if the name is taken.
  virtual absl::Status Reserve(const std::string& name,
                               const std::string& path) = 0;
  virtual absl::StatusOr<ModelInfo> Load(const LoadParams& params) = 0;
  // With `force` running requests end at once, also those that another Unload
  // of the same model waits for.
  virtual absl::Status Unload(const std::string& name, bool force = false) = 0;

  // `progress` is called on the caller's thread while it waits, for each change
  // and, while there is none, about once a second with the last one again; an
  // error from it ends the run with that error and leaves all as it was.
  virtual absl::StatusOr<QuantizeReport> Quantize(
      const QuantizeParams& params,
      const std::function<absl::Status(const QuantizeUpdate&)>& progress) = 0;

  // `progress` as of Quantize; an error from it ends the work with that error,
  // and nothing is left of the folder.
  virtual absl::StatusOr<SaveReport> Save(
      const SaveParams& params,
      const std::function<absl::Status(const SaveUpdate&)>& progress) = 0;

  virtual absl::StatusOr<Inspection> Inspect(const InspectParams& params) = 0;

  virtual MethodList Methods() const = 0;

  // Refuses loads and requests, lets running ones finish until `deadline`.
  virtual void Drain(absl::Time deadline) = 0;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SCHEDULER_MODEL_CATALOG_H_
