// A catalog without weights: models that continue any prompt with "abcabc...",
// and one that finds in a picture how wide it is, so that services are tested
// through real gRPC, and nothing else is.
#ifndef OUNCE_TESTS_SERVER_SERVICE_FAKE_CATALOG_H_
#define OUNCE_TESTS_SERVER_SERVICE_FAKE_CATALOG_H_

#include <functional>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "model/generation_defaults.h"
#include "model/processors/detr_image_processor.h"
#include "model/tokenizer/tokenizer.h"
#include "server/scheduler/model_catalog.h"
#include "server/scheduler/refusal.h"
#include "tests/testing/fake_detect_engine.h"
#include "tests/testing/id_decoding.h"

namespace ounce::testing {

// One id per byte.
class ByteTokenizer final : public model::Tokenizer {
 public:
  absl::StatusOr<std::vector<int32_t>> Encode(
      std::string_view text) const override {
    {
      MutexLock lock(&mu_);
      ++num_encoded_;
      while (held_) changed_.Wait(&mu_);
      if (out_of_memory_) throw std::bad_alloc();
      if (!fault_.empty()) throw std::runtime_error(fault_);
    }
    std::vector<int32_t> ids;
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }
  std::unique_ptr<Decoding> StartDecoding(bool) const override {
    return std::make_unique<IdDecoding>(
        [](int32_t id) { return std::string(1, static_cast<char>(id)); });
  }
  // One that is special: byte 1.
  std::optional<int32_t> SpecialTokenId(std::string_view text) const override {
    if (text != "<|end|>") return std::nullopt;
    return 1;
  }
  int64_t resident_bytes() const override { return 0; }
  int32_t size() const override { return 256; }

  // Whether Encode waits.
  void Hold(bool held) {
    MutexLock lock(&mu_);
    held_ = held;
    changed_.SignalAll();
  }
  // Whether Encode finds no memory.
  void RunOutOfMemory(bool out) {
    MutexLock lock(&mu_);
    out_of_memory_ = out;
  }
  // What Encode throws with these words, unless they are empty.
  void Fail(const std::string& fault) {
    MutexLock lock(&mu_);
    fault_ = fault;
  }
  // Texts whose encoding has begun.
  int num_encoded() const {
    MutexLock lock(&mu_);
    return num_encoded_;
  }

 private:
  mutable Mutex mu_;
  mutable CondVar changed_;
  bool held_ ABSL_GUARDED_BY(mu_) = false;
  bool out_of_memory_ ABSL_GUARDED_BY(mu_) = false;
  std::string fault_ ABSL_GUARDED_BY(mu_);
  mutable int num_encoded_ ABSL_GUARDED_BY(mu_) = 0;
};

// Runs each request on a thread of its own: a token "a", "b" or "c" every
// `step`, as the contract of GenerateScheduler says.
class FakeScheduler final : public server::GenerateScheduler {
 public:
  ~FakeScheduler() override {
    {
      MutexLock lock(&mu_);
      ending_ = true;
      changed_.SignalAll();
    }
    for (std::thread& thread : threads_) thread.join();
  }

  absl::StatusOr<RequestId> Submit(server::GenerateParams params,
                                   server::ResponseSink* sink) override {
    MutexLock lock(&mu_);
    submitted_.push_back(params);
    if (!refuse_.ok()) return refuse_;
    const RequestId id = submitted_.size();
    cancelled_[id] = absl::OkStatus();
    threads_.emplace_back([this, id, params, sink] { Run(id, params, sink); });
    return id;
  }

  void Cancel(RequestId id, const absl::Status& why) override {
    MutexLock lock(&mu_);
    cancelled_[id] = why;
    ++num_cancels_;
    changed_.SignalAll();
  }

  void Wake() override {
    MutexLock lock(&mu_);
    changed_.SignalAll();
  }

  void SetEngine(std::shared_ptr<server::Engine>) override {}
  bool Drain(absl::Time) override { return true; }
  int64_t GiveUpCached(
      int64_t, absl::FunctionRef<void(absl::Span<const int32_t>)>) override {
    return 0;
  }
  server::SchedulerStats stats() const override { return {}; }

  // What Submit answers from now on; OK accepts.
  void Refuse(absl::Status status) {
    MutexLock lock(&mu_);
    refuse_ = std::move(status);
  }
  void SetStep(absl::Duration step) {
    MutexLock lock(&mu_);
    step_ = step;
  }
  std::vector<server::GenerateParams> submitted() const {
    MutexLock lock(&mu_);
    return submitted_;
  }
  int num_cancels() const {
    MutexLock lock(&mu_);
    return num_cancels_;
  }
  // Tokens made for request `id`.
  int64_t num_tokens(RequestId id) const {
    MutexLock lock(&mu_);
    const auto found = tokens_.find(id);
    return found == tokens_.end() ? 0 : found->second;
  }
  int num_done() const {
    MutexLock lock(&mu_);
    return num_done_;
  }

 private:
  void Run(RequestId id, const server::GenerateParams& params,
           server::ResponseSink* sink) {
    server::GenerateResult result;
    result.prompt_tokens = static_cast<int64_t>(params.prompt.size());
    result.cached_tokens = result.prompt_tokens / 4;
    result.time_to_first_token = absl::Milliseconds(1);
    result.total = absl::Milliseconds(2);
    result.model_version = 3;
    result.method = "float32";
    absl::Status status;
    while (result.new_tokens < params.max_new_tokens) {
      {
        MutexLock lock(&mu_);
        if (step_ > absl::ZeroDuration()) changed_.WaitFor(&mu_, step_);
        status = cancelled_[id];
        if (ending_) status = absl::UnavailableError("the scheduler ends");
      }
      if (status.ok() && absl::Now() >= params.deadline) {
        status = absl::DeadlineExceededError("the deadline passed");
      }
      if (!status.ok()) break;
      if (!sink->HasRoom()) {
        MutexLock lock(&mu_);
        changed_.WaitFor(&mu_, absl::Milliseconds(20));
        continue;
      }
      const char letter = static_cast<char>('a' + result.new_tokens % 3);
      server::GenerateChunk chunk;
      chunk.text = std::string(1, letter);
      chunk.token_ids = {letter};
      if (params.num_logprobs > 0) {
        chunk.logprobs = {{.logprob = -0.5f, .top = {{letter, -0.5f, "x"}}}};
      }
      sink->OnChunk(std::move(chunk));
      ++result.new_tokens;
      MutexLock lock(&mu_);
      tokens_[id] = result.new_tokens;
    }
    {
      MutexLock lock(&mu_);
      ++num_done_;
    }
    sink->OnDone(status, result);
  }

  mutable Mutex mu_;
  CondVar changed_;
  absl::Status refuse_ ABSL_GUARDED_BY(mu_);
  absl::Duration step_ ABSL_GUARDED_BY(mu_);
  bool ending_ ABSL_GUARDED_BY(mu_) = false;
  int num_cancels_ ABSL_GUARDED_BY(mu_) = 0;
  int num_done_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<server::GenerateParams> submitted_ ABSL_GUARDED_BY(mu_);
  std::map<RequestId, absl::Status> cancelled_ ABSL_GUARDED_BY(mu_);
  std::map<RequestId, int64_t> tokens_ ABSL_GUARDED_BY(mu_);
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(mu_);
};

// Finds what the test says.
class FakeEvaluator final : public server::TextEvaluator {
 public:
  using Progress = std::function<absl::Status(const server::EvaluateUpdate&)>;
  std::function<absl::StatusOr<server::TextQuality>(
      const server::EvaluateParams&, const Progress&)>
      evaluate;

  absl::StatusOr<server::TextQuality> Evaluate(
      const server::EvaluateParams& params, const Progress& progress) override {
    return evaluate(params, progress);
  }
};

class FakeDetectionEvaluator final : public server::DetectionEvaluator {
 public:
  using Progress = std::function<absl::Status(int64_t)>;
  std::function<absl::StatusOr<server::DetectionQuality>(
      const server::EvaluateDetectionParams&, const Progress&)>
      evaluate;

  absl::StatusOr<server::DetectionQuality> Evaluate(
      const server::EvaluateDetectionParams& params,
      const Progress& progress) override {
    return evaluate(params, progress);
  }
};

class FakeModel final : public server::ServedModel {
 public:
  explicit FakeModel(server::ModelInfo info) : info_(std::move(info)) {}
  server::ModelInfo info() const override { return info_; }
  const server::TaskInterface& task() const override { return task_; }
  ByteTokenizer& fake_tokenizer() { return tokenizer_; }
  model::GenerationDefaults& fake_defaults() { return defaults_; }
  FakeScheduler& fake() { return scheduler_; }
  FakeEvaluator& fake_evaluator() { return evaluator_; }

 private:
  const server::ModelInfo info_;
  ByteTokenizer tokenizer_;
  model::GenerationDefaults defaults_;
  FakeScheduler scheduler_;
  FakeEvaluator evaluator_;
  const server::TaskInterface task_ =
      server::TextGeneration{&scheduler_, &tokenizer_, &defaults_, &evaluator_};
};

// A real scheduler on a fake engine; pictures become 32 pixels high at most.
class FakeDetector final : public server::ServedModel {
 public:
  explicit FakeDetector(server::ModelInfo info) : info_(std::move(info)) {}
  server::ModelInfo info() const override { return info_; }
  const server::TaskInterface& task() const override { return task_; }
  FakeDetectEngine& engine() { return *engine_; }
  FakeDetectionEvaluator& fake_evaluator() { return evaluator_; }

 private:
  class SilentObserver final : public server::DetectObserver {
   public:
    void OnBatch(int64_t, absl::Duration) override {}
    void OnDone(const absl::Status&, const server::DetectResult&) override {}
    void OnStats(const server::DetectStats&) override {}
  };

  const server::ModelInfo info_;
  const model::DetrImageProcessor processor_ =
      *model::DetrImageProcessor::Parse(
          "test", R"({"size": {"shortest_edge": 32, "longest_edge": 64}})");
  SilentObserver observer_;
  const std::shared_ptr<FakeDetectEngine> engine_ =
      std::make_shared<FakeDetectEngine>(
          server::DetectEngineInfo{.model_version = 3, .method = "fake"});
  const std::unique_ptr<server::DetectScheduler> scheduler_ =
      *server::DetectScheduler::Create({.max_queued = 2}, engine_,
                                       Clock::Real(), observer_);
  FakeDetectionEvaluator evaluator_;
  const server::TaskInterface task_ =
      server::ObjectDetection{scheduler_.get(), &processor_, &evaluator_};
};

// Knows "tiny" (256 ids, 64 positions), "long" (1,000,000 positions) and
// "detr", which detects objects; the slow methods do what the test says.
class FakeCatalog final : public server::ModelCatalog {
 public:
  FakeCatalog() {
    for (const auto& [name, positions] :
         {std::pair("tiny", 64), std::pair("long", 1'000'000)}) {
      server::ModelInfo info;
      info.name = name;
      info.path = absl::StrCat("/models/", name);
      info.architecture = "codegen";
      info.state = server::ModelState::kReady;
      info.version = 3;
      info.method = "float32";
      info.parameters = 1000;
      info.checkpoint_bytes = 2000;
      info.stored_bytes = 4000;
      info.resident_bytes = 4096;
      info.max_positions = positions;
      info.vocabulary_size = 256;
      info.tasks = {server::Task::kGenerate};
      info.compute = "float32";
      info.stats.kv_capacity_bytes = 7;
      models_[name] = std::make_shared<FakeModel>(info);
    }
    server::ModelInfo info;
    info.name = "detr";
    info.architecture = "detr";
    info.state = server::ModelState::kReady;
    info.version = 3;
    info.method = "fake";
    info.tasks = {server::Task::kDetectObjects};
    info.compute = "bfloat16";
    info.plan = "model.decoder.*=keep @convolution=linear *.fc1=linear";
    detector_ = std::make_shared<FakeDetector>(info);
  }

  absl::StatusOr<std::shared_ptr<server::ServedModel>> Find(
      std::string_view name) override {
    if (name == "loading") {
      return server::AboutModel(
          server::Refusal(server::Reason::kModelLoading,
                          "model 'loading' is being loaded"),
          "loading");
    }
    if (name == "detr") return detector_;
    const auto found = models_.find(std::string(name));
    if (found == models_.end()) {
      return server::AboutModel(
          server::Refusal(server::Reason::kModelNotFound,
                          absl::StrCat("no model '", std::string(name),
                                       "'; served: detr, long, tiny")),
          std::string(name));
    }
    return found->second;
  }

  std::vector<server::ModelInfo> List() const override {
    std::vector<server::ModelInfo> list = {detector_->info()};
    for (const auto& [name, model] : models_) list.push_back(model->info());
    return list;
  }

  absl::Status Reserve(const std::string&, const std::string&) override {
    return absl::OkStatus();
  }
  absl::StatusOr<server::ModelInfo> Load(
      const server::LoadParams& params) override {
    return load(params);
  }
  absl::Status Unload(const std::string& name, bool force) override {
    return unload(name, force);
  }
  absl::StatusOr<server::QuantizeReport> Quantize(
      const server::QuantizeParams& params,
      const std::function<absl::Status(const server::QuantizeUpdate&)>&
          progress) override {
    return quantize(params, progress);
  }

  absl::StatusOr<server::SaveReport> Save(
      const server::SaveParams& params,
      const std::function<absl::Status(const server::SaveUpdate&)>& progress)
      override {
    return save(params, progress);
  }
  absl::StatusOr<server::Inspection> Inspect(
      const server::InspectParams& params) override {
    return inspect(params);
  }

  server::MethodList Methods() const override {
    return {.methods = {{.name = "linear",
                         .summary = "Integers.",
                         .parameters = {{.name = "bits",
                                         .default_value = "8",
                                         .min = 2,
                                         .max = 8,
                                         .help = "Of a code."},
                                        {.name = "threshold",
                                         .default_value = "0.5",
                                         .lowest = -2,
                                         .highest = 1e30,
                                         .help = "Of an outlier."}}}},
            .stages = {{.name = "prune",
                        .summary = "Zeros.",
                        .parameters = {{.name = "per",
                                        .default_value = "row",
                                        .choices = {"row", "tensor"},
                                        .help = "Share of what."}}}},
            .rule_keys = {{.name = "untie",
                           .default_value = "false",
                           .choices = {"false", "true"},
                           .help = "Apart."}},
            .save_formats = {{.name = "ounce", .summary = "Codes."},
                             {.name = "gguf", .summary = "Blocks."}}};
  }
  void Drain(absl::Time) override {}

  ByteTokenizer& tokenizer(const std::string& model) {
    return models_.at(model)->fake_tokenizer();
  }
  // To be set before requests come.
  model::GenerationDefaults& defaults(const std::string& model) {
    return models_.at(model)->fake_defaults();
  }
  FakeScheduler& scheduler(const std::string& model) {
    return models_.at(model)->fake();
  }
  FakeEvaluator& evaluator(const std::string& model) {
    return models_.at(model)->fake_evaluator();
  }

  FakeDetectEngine& detect_engine() { return detector_->engine(); }
  FakeDetectionEvaluator& detection_evaluator() {
    return detector_->fake_evaluator();
  }

  std::function<absl::StatusOr<server::ModelInfo>(const server::LoadParams&)>
      load;
  std::function<absl::Status(const std::string&, bool force)> unload;
  std::function<absl::StatusOr<server::QuantizeReport>(
      const server::QuantizeParams&,
      const std::function<absl::Status(const server::QuantizeUpdate&)>&)>
      quantize;
  std::function<absl::StatusOr<server::SaveReport>(
      const server::SaveParams&,
      const std::function<absl::Status(const server::SaveUpdate&)>&)>
      save;
  std::function<absl::StatusOr<server::Inspection>(
      const server::InspectParams&)>
      inspect;

 private:
  std::map<std::string, std::shared_ptr<FakeModel>> models_;
  std::shared_ptr<FakeDetector> detector_;
};

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_SERVER_SERVICE_FAKE_CATALOG_H_
