#include "server/server.h"

#include <spdlog/spdlog.h>
#include <stdlib.h>

#include <algorithm>
#include <functional>
#include <iterator>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/cpu.h"
#include "base/process_use.h"
#include "base/status_macros.h"
#include "base/thread.h"
#include "server/config_text.h"
#include "server/engine/loaded_models.h"
#include "server/log.h"
#include "server/net/relay.h"
#include "server/process.h"
#include "server/scheduler/refusal.h"
#include "server/trace/curl_poster.h"
#include "server/trace/otel_environment.h"

namespace ounce::server {
namespace {

// Threads that read pictures: they are there to keep the engines busy.
constexpr int64_t kMaxPictureThreads = 4;

// Open files: for the listeners, a model that is loaded and a few connections.
constexpr int64_t kFewestFiles = 64;
// For all of that and admin's connections, beside those of max_connections.
constexpr int64_t kOtherFiles = 512;

// For the last spans, of the second that is left once all have their answers.
constexpr absl::Duration kLastSpans = absl::Milliseconds(800);

// From asking clients to go elsewhere to refusing their calls.
constexpr absl::Duration kLastCalls = absl::Milliseconds(200);

int64_t NeededFiles(const Config& config) {
  return kDescriptorsPerConnection * config.limits.max_connections +
         kOtherFiles;
}

void SetMemoryFigures(const MemoryBudget& memory, Figures& figures) {
  const MemoryBudget::State state = memory.state();
  figures.Set(metric::kMemoryLimit, {}, static_cast<double>(state.limit_bytes));
  for (const auto& [name, bytes] : state.taken()) {
    figures.Set(metric::kMemoryBytes, {name}, static_cast<double>(bytes));
  }
  figures.Set(metric::kMemoryEndingBytes, {},
              static_cast<double>(state.ending_bytes));
  for (const auto& [model, count] : state.versions) {
    figures.Set(metric::kVersionsAlive, {model}, static_cast<double>(count));
  }
}

void SetLoadFigures(const ModelCatalog& catalog, Figures& figures) {
  int64_t queued = 0, running = 0;
  double kv_usage = 0;
  for (const ModelInfo& model : catalog.List()) {
    const SchedulerStats& stats = model.stats;
    queued += stats.queued;
    running += stats.running;
    if (stats.kv_capacity_bytes == 0) continue;
    figures.Set(metric::kPrefixCacheBytes, {model.name},
                static_cast<double>(stats.kv_cached_bytes));
    kv_usage =
        std::max(kv_usage, static_cast<double>(stats.kv_used_bytes) /
                               static_cast<double>(stats.kv_capacity_bytes));
  }
  figures.Set(metric::kServerQueued, {}, static_cast<double>(queued));
  figures.Set(metric::kServerRunning, {}, static_cast<double>(running));
  figures.Set(metric::kServerKvUsage, {}, kv_usage);
}

void SetLimits(const Config::Limits& limits, Figures& figures) {
  figures.Set(metric::kQueuedLimit, {},
              static_cast<double>(limits.max_queued_requests));
  figures.Set(metric::kPictureBytesLimit, {},
              static_cast<double>(limits.picture_memory_bytes));
}

CatalogOptions OptionsOfCatalog(const Config& config, MemoryBudget& memory) {
  const Config::Limits& limits = config.limits;
  return {
      .kv_cache_bytes = config.kv_cache_bytes,
      .scheduler = {.max_queued = limits.max_queued_requests,
                    .max_running = limits.max_running_requests,
                    .max_step_tokens = limits.max_step_tokens,
                    .max_step_beside_decode =
                        limits.prompt_step > absl::ZeroDuration()
                            ? limits.prompt_step
                            : absl::InfiniteDuration(),
                    .prefix_cache = {.max_bytes = config.prefix_cache_bytes,
                                     .all_peers = config.prefix_cache_for_all}},
      .detection = {.max_queued = limits.max_queued_requests,
                    .max_batch_pictures = limits.max_batch_pictures},
      .compute = config.compute,
      .kv_type = config.kv_type,
      .memory = &memory,
      .model_roots = absl::StrSplit(config.model_roots, ',', absl::SkipEmpty()),
      .pull = config.pull,
      .save_root = config.save_root};
}

std::vector<LoadParams> ModelsOf(const Config& config) {
  std::vector<LoadParams> models;
  for (const Config::Model& model : config.models) {
    models.push_back({.name = model.name,
                      .path = model.path,
                      .plan = model.plan,
                      .reserved = true});
  }
  return models;
}

std::set<std::string> NamesOf(const Config& config) {
  std::set<std::string> names;
  for (const Config::Model& model : config.models) names.insert(model.name);
  return names;
}

// What requests of the metrics port may call its host. Whom loopback is named
// to needs no other name; where others ask, they have names that nobody here
// knows (a Service's), and with TLS the certificate's counts.
std::optional<std::vector<std::string>> HostsOfMetrics(const Config& config) {
  if (config.metrics_hosts == "*") return std::nullopt;
  const bool any = config.tls.On("metrics_listen") ||
                   !IsLoopbackAddress(config.listen.metrics);
  if (config.metrics_hosts.empty() && any) return std::nullopt;
  std::vector<std::string> hosts =
      absl::StrSplit(config.metrics_hosts, ',', absl::SkipEmpty());
  return hosts;
}

// The listeners by their settings, as TlsServer counts them.
constexpr const char* kListeners[] = {"listen", "admin_listen",
                                      "metrics_listen"};

absl::StatusOr<std::unique_ptr<TlsServer>> CreateTls(const Config::Tls& tls) {
  if (tls.cert.empty()) return nullptr;
  return TlsServer::Create(
      {.cert = tls.cert,
       .key = tls.key,
       .listeners = {
           {"tls_client_ca", tls.client_ca, "h2"},
           {"admin_tls_client_ca", tls.admin_client_ca, "h2"},
           {"metrics_tls_client_ca", tls.metrics_client_ca, "http/1.1"}}});
}

void WarnOfPlainTokens(const Config& config) {
  for (const auto& [listener, address] :
       {std::pair("listen", config.listen.inference),
        std::pair("admin_listen", config.listen.admin)}) {
    if (config.tls.On(listener) || IsLoopbackAddress(address)) continue;
    spdlog::warn(
        "{}: tokens come in plain text unless something before it ends TLS; "
        "tls_cert and tls_key turn it on",
        listener);
  }
}

void SetSpanFigures(const SpanExporter::Stats& stats, Figures& figures) {
  const auto total = [](int64_t spans) { return static_cast<double>(spans); };
  figures.SetTotal(metric::kSpansSent, {}, total(stats.sent));
  figures.SetTotal(metric::kSpansDropped, {"queue_full"},
                   total(stats.queue_full));
  figures.SetTotal(metric::kSpansDropped, {"refused"}, total(stats.refused));
  figures.SetTotal(metric::kSpansDropped, {"unreachable"},
                   total(stats.unreachable));
}

// Null when nothing says where to.
absl::StatusOr<std::unique_ptr<SpanExporter>> CreateSpanExporter(
    const std::string& endpoint) {
  ASSIGN_OR_RETURN(OtelEnvironment environment,
                   ReadOtelEnvironment(getenv, endpoint));
  if (environment.url.empty()) return nullptr;
  SpanExporter::Options options;
  options.resource = {.version = OUNCE_VERSION,
                      .attributes = std::move(environment.resource)};
  options.resource.attributes.emplace_back("service.version", OUNCE_VERSION);
  options.resource.attributes.emplace_back(
      "service.instance.id", absl::StrFormat("%016x", DrawSeed()));
  options.draw = DrawSeed;
  ASSIGN_OR_RETURN(std::unique_ptr<HttpPoster> poster,
                   CreateCurlPoster({.url = environment.url,
                                     .headers = std::move(environment.headers),
                                     .ca_file = std::move(environment.ca_file)},
                                    Clock::Real()));
  spdlog::info("traces go to {}", environment.url);
  return SpanExporter::Start(std::move(options), std::move(poster),
                             Clock::Real());
}

std::unique_ptr<Tracer> CreateTracer(double sample, SpanExporter* spans) {
  if (spans == nullptr) return nullptr;
  return std::make_unique<Tracer>(Tracer::Options{
      .sample = sample, .draw = DrawSeed, .record = [spans](Work work) {
        spans->Add(std::move(work));
      }});
}

// An operator can do more about memory than a caller can.
absl::Status WithMemoryAdvice(const absl::Status& status) {
  const Reason reason = ReasonOf(status);
  if (status.ok() ||
      (reason != Reason::kMemoryTooSmall && reason != Reason::kMemoryFull)) {
    return status;
  }
  return absl::Status(
      status.code(),
      absl::StrCat(status.message(),
                   "; raise --memory_bytes or the container's limit, or store "
                   "the weights in fewer bits by method="));
}

// Threads of the process: gRPC starts about ten and one for each CPU, the
// services eight, signals and metrics one each.
int NeededThreads(const Config& config) {
  constexpr size_t kOthers = 20;
  return static_cast<int>(
      static_cast<size_t>(config.threads +
                          std::min(config.threads, kMaxPictureThreads)) +
      config.models.size() + kOthers + static_cast<size_t>(NumCpus()));
}

}  // namespace

Server::Server(const Config& config, const PeerSet& trusted_proxies,
               std::unique_ptr<TlsServer> tls, std::unique_ptr<Tokens> tokens,
               std::unique_ptr<SpanExporter> spans)
    : config_(config),
      isa_(IsaName(BestIsa())),
      clock_(Clock::Real()),
      start_(clock_.Now()),
      system_start_(absl::Now()),
      tls_(std::move(tls)),
      tokens_(std::move(tokens)),
      spans_(std::move(spans)),
      tracer_(CreateTracer(config.tracing.sample, spans_.get())),
      pool_(static_cast<int>(config.threads)),
      metrics_(Metrics::Create({OUNCE_VERSION, isa_, OUNCE_COMPILER})),
      health_(*metrics_, NamesOf(config), !config.keep_going),
      memory_(MemoryOfThisMachine(config.memory_bytes)),
      span_figures_(spans_ == nullptr
                        ? nullptr
                        : metrics_->AddSource([this](Figures& figures) {
                            SetSpanFigures(spans_->stats(), figures);
                          })),
      memory_figures_(metrics_->AddSource(
          [this](Figures& figures) { SetMemoryFigures(memory_, figures); })),
      picture_memory_(
          config.limits.picture_memory_bytes,
          [this](int64_t count, int64_t bytes) {
            metrics_->OnPictures(count, bytes);
          },
          &memory_),
      catalog_(CreateModelCatalog(OptionsOfCatalog(config, memory_), pool_,
                                  clock_, health_)),
      load_figures_(metrics_->AddSource(
          [this](Figures& figures) { SetLoadFigures(*catalog_, figures); })),
      pictures_({.max_bytes = config.limits.max_message_bytes,
                 .max_pixels = config.limits.max_picture_pixels},
                picture_memory_),
      reception_(clock_, {.trusted_proxies = trusted_proxies,
                          .identities = &identities_,
                          .tokens = tokens_.get(),
                          .request_log = {.mode = config.request_log,
                                          .write = LogRequest},
                          .tracer = tracer_.get(),
                          .draw = DrawSeed}),
      front_end_(
          {.max_new_tokens = config.limits.max_new_tokens,
           .max_prompt_tokens = config.limits.max_prompt_tokens > 0
                                    ? config.limits.max_prompt_tokens
                                    : std::numeric_limits<int64_t>::max(),
           .max_request = config.limits.max_request > absl::ZeroDuration()
                              ? config.limits.max_request
                              : absl::InfiniteDuration(),
           .draw_seed = DrawSeed,
           .on_rejected =
               [this](const auto& model, const absl::Status& why) {
                 metrics_->OnRejected(model, why);
               },
           .on_detect_rejected =
               [this](const auto& model, const absl::Status& why) {
                 metrics_->OnDetectRejected(model, why);
               },
           .picture_threads =
               static_cast<int>(std::min(config.threads, kMaxPictureThreads))},
          *catalog_, pictures_, clock_),
      inference_(front_end_, reception_),
      admin_(*catalog_, pictures_, reception_, clock_,
             [this] { return Info(); }),
      oip_(front_end_, reception_, OUNCE_VERSION),
      oip_admin_(*catalog_, reception_, admin_.jobs(), OUNCE_VERSION,
                 ModelsOf(config)),
      status_(metrics_->ServeStatus([this] { return Status(); })) {}

ServerStatus Server::Status() const {
  const absl::Time now = clock_.Now();
  return {.threads = config_.threads,
          .time = absl::Now(),
          .clock_time = now,
          .uptime = now - start_,
          .memory = memory_.state(),
          .models = catalog_->List()};
}

ServerInfo Server::Info() const {
  const MemoryBudget::State memory = memory_.state();
  return {.version = OUNCE_VERSION,
          .instruction_set = isa_,
          .threads = config_.threads,
          .compute = quant::ComputeName(
              config_.compute.value_or(quant::FasterCompute())),
          .start = system_start_,
          .uptime = clock_.Now() - start_,
          .memory_limit_bytes = memory.limit_bytes,
          .memory_used_bytes = memory.limit_bytes - memory.free_bytes(),
          .config = ConfigText(config_, catalog_->List()),
          .cpu_seconds = ProcessCpuSeconds(),
          .energy_joules = PackageJoules(),
          .save_root = config_.save_root};
}

NewTlsSession Server::NewTls(const std::string& listener) const {
  if (!config_.tls.On(listener)) return nullptr;
  const auto* const at =
      std::find(std::begin(kListeners), std::end(kListeners), listener);
  return [this, index = static_cast<size_t>(at - kListeners)] {
    return tls_->NewSession(index);
  };
}

void Server::TellExpiry() {
  const absl::Time expiry = tls_->expiry();
  metrics_->figures().Set(metric::kCertificateExpiry, {},
                          static_cast<double>(absl::ToUnixSeconds(expiry)));
  const std::string day =
      absl::FormatTime("%Y-%m-%d %H:%M:%S UTC", expiry, absl::UTCTimeZone());
  if (expiry <= absl::Now()) {
    spdlog::warn("tls_cert: the certificate ended {}; clients will refuse it",
                 day);
  } else {
    spdlog::info("tls_cert: the certificate ends {}", day);
  }
}

absl::Status Server::WatchFiles() {
  std::vector<ReloadedFiles> files;
  const auto add = [&](const std::string& name, std::vector<std::string> paths,
                       std::function<absl::Status()> reload) {
    Figures& figures = metrics_->figures();
    for (const char* outcome : {"done", "error"}) {
      figures.Add(metric::kFileReloads, {name, outcome}, 0);
    }
    files.push_back({std::move(paths), std::move(reload),
                     [&figures, name](const absl::Status& status) {
                       figures.Add(metric::kFileReloads,
                                   {name, status.ok() ? "done" : "error"});
                       if (status.ok()) {
                         spdlog::info("{}: read again", name);
                       } else {
                         spdlog::error("{}; goes on with what it had",
                                       std::string(status.message()));
                       }
                     }});
  };
  if (tls_ != nullptr) {
    TellExpiry();
    const Config::Tls& tls = config_.tls;
    add("tls",
        {tls.cert, tls.key, tls.client_ca, tls.admin_client_ca,
         tls.metrics_client_ca},
        [this]() -> absl::Status {
          RETURN_IF_ERROR(tls_->Reload());
          TellExpiry();
          return absl::OkStatus();
        });
  }
  if (tokens_ != nullptr) {
    add("token_file", {config_.token_file},
        [this] { return tokens_->Reload(); });
    WarnOfPlainTokens(config_);
  }
  if (files.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(file_reloads_, FileReloads::Start(std::move(files)));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const Config& config) {
  RETURN_IF_ERROR(CheckThreads(NeededThreads(config)));
  if (MaxOpenFiles() < kFewestFiles) {  // gRPC aborts without
    return absl::ResourceExhaustedError(
        absl::StrFormat("only %d files may be open at the same time, which "
                        "must be at least %d; "
                        "raise the hard limit (ulimit -Hn)",
                        MaxOpenFiles(), kFewestFiles));
  }
  if (MaxOpenFiles() < NeededFiles(config)) {
    spdlog::warn(
        "only {} files may be open at the same time, which is too few for {} "
        "connections; raise the hard limit (ulimit -Hn) to {}",
        MaxOpenFiles(), config.limits.max_connections, NeededFiles(config));
  }
  ASSIGN_OR_RETURN(const PeerSet trusted_proxies,
                   PeerSet::Parse(config.trusted_proxies));
  ASSIGN_OR_RETURN(std::unique_ptr<TlsServer> tls, CreateTls(config.tls));
  std::unique_ptr<Tokens> tokens;
  if (!config.token_file.empty()) {
    ASSIGN_OR_RETURN(tokens, Tokens::Read(config.token_file));
  }
  ASSIGN_OR_RETURN(std::unique_ptr<SpanExporter> spans,
                   CreateSpanExporter(config.tracing.endpoint));
  std::unique_ptr<Server> server(new Server(config, trusted_proxies,
                                            std::move(tls), std::move(tokens),
                                            std::move(spans)));
  RETURN_IF_ERROR(server->pool_.status());
  // Before a call can take one of the names.
  for (const Config::Model& model : config.models) {
    RETURN_IF_ERROR(WithContext(
        server->catalog_->Reserve(model.name, model.path), "models"));
  }
  Metrics& metrics = *server->metrics_;
  const Config::Limits& limits = config.limits;
  SetLimits(limits, metrics.figures());
  ASSIGN_OR_RETURN(
      server->listeners_,
      Listeners::Start(
          {.inference = config.listen.inference,
           .admin = config.listen.admin,
           .max_message_bytes = static_cast<int>(limits.max_message_bytes),
           .max_connections = limits.max_connections,
           .max_connections_per_peer = limits.max_connections_per_peer,
           .idle_connection = limits.idle_connection,
           .connection_age = limits.connection_age,
           .trusted_proxies = trusted_proxies,
           .inference_tls = server->NewTls("listen"),
           .admin_tls = server->NewTls("admin_listen"),
           .identities = &server->identities_,
           .tokens = server->tokens_.get(),
           .figures = &metrics.figures(),
           .reception = &server->reception_,
           .on_serving =
               [server = server.get()](bool serving,
                                       const std::string& missing) {
                 server->metrics_->SetServing(serving, missing);
                 server->oip_.SetServing(serving);
                 server->oip_admin_.SetServing(serving);
               }},
          {{v1::Inference::service_full_name(), &server->inference_},
           {OipService::service_full_name(), &server->oip_}},
          {{v1::ModelAdmin::service_full_name(), &server->admin_},
           {OipService::service_full_name(), &server->oip_admin_}}));
  ASSIGN_OR_RETURN(
      server->addresses_.metrics,
      metrics.Listen(config.listen.metrics, server->NewTls("metrics_listen"),
                     HostsOfMetrics(config)));
  server->addresses_.inference = server->listeners_->inference_address();
  server->addresses_.admin = server->listeners_->admin_address();
  server->health_.SetListeners(server->listeners_.get());
  AnnounceStart(OUNCE_VERSION, server->isa_, config, server->addresses_);
  RETURN_IF_ERROR(server->WatchFiles());
  return server;
}

void Server::SendLastSpans() {
  if (spans_ != nullptr) spans_->Stop(clock_.Now() + kLastSpans);
}

Server::~Server() {
  // Jobs of calls may still run: none is to go on, nor to tell listeners that
  // are gone.
  admin_.Stop();
  health_.SetListeners(nullptr);
}

absl::Status Server::LoadModels() {
  size_t failed = 0;
  for (LoadParams& model : ModelsOf(config_)) {
    Work work;
    work.name = "load_model";
    work.start = clock_.Now();
    model.on_stage = [&](LoadStage stage) {
      const absl::Time now = clock_.Now();
      if (!work.phases.empty()) work.phases.back().end = now;
      work.phases.push_back({LoadStageName(stage), now, now});
    };
    const absl::StatusOr<ModelInfo> loaded = catalog_->Load(model);
    TraceLoad(model.name, std::move(work), loaded);
    absl::Status status = WithContext(WithMemoryAdvice(loaded.status()),
                                      "model '" + model.name + "'");
    if (status.ok()) continue;
    ++failed;
    if (!config_.keep_going || failed == config_.models.size()) return status;
    spdlog::error("going on without {}", std::string(status.message()));
  }
  AnnounceModels(catalog_->List());
  listeners_->StartServing();
  return absl::OkStatus();
}

void Server::TraceLoad(const std::string& name, Work work,
                       const absl::StatusOr<ModelInfo>& loaded) {
  if (tracer_ == nullptr) return;
  work.context = tracer_->Begin();
  if (!work.context.sampled) return;
  work.end = clock_.Now();
  if (!work.phases.empty()) work.phases.back().end = work.end;
  work.attributes = {{"ounce.model.name", name}};
  work.failed = !loaded.ok();
  if (loaded.ok()) {
    work.attributes.push_back({"ounce.model.method", loaded->method});
    work.attributes.push_back(
        {"ounce.model.resident_bytes", loaded->resident_bytes});
  } else {
    work.attributes.push_back(
        {"error.type", absl::StatusCodeToString(loaded.status().code())});
  }
  tracer_->Record(std::move(work));
}

void Server::Drain() {
  const bool delays = config_.drain_delay > absl::ZeroDuration();
  listeners_->StopServing();
  if (delays) {
    spdlog::info("shutting down: not ready any more, serving for {} s yet",
                 absl::ToDoubleSeconds(config_.drain_delay));
    absl::SleepFor(config_.drain_delay);
  }
  spdlog::info("shutting down; running requests get up to {} s",
               absl::ToDoubleSeconds(config_.drain));
  listeners_->Retire();
  // For the calls that are on their way while clients hear of it.
  if (delays) absl::SleepFor(kLastCalls);
  admin_.Stop();
  front_end_.Stop();
  const absl::Time deadline = clock_.Now() + config_.drain;
  front_end_.FinishReading(deadline);
  catalog_->Drain(deadline);
  front_end_.Drain(deadline);
  // Who has just been answered may ask once more, and is to hear UNAVAILABLE:
  // from Shutdown on, gRPC itself says CANCELLED.
  absl::SleepFor(absl::Milliseconds(200));
  // For the last words to quick calls; idle connections need no longer.
  listeners_->Shutdown(absl::Milliseconds(100));
}

}  // namespace ounce::server
