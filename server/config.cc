#include "server/config.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <CLI/CLI.hpp>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/byte_size.h"
#include "base/cpu.h"
#include "base/status_macros.h"
#include "ounce/v1/server_config.pb.h"
#include "server/service/checks.h"

namespace ounce::server {
namespace {

constexpr char kFooter[] = R"(
Examples:
  ounce-server --model tiny=models/codegen-tiny
  ounce-server --model code=Salesforce/codegen-350M-mono,method=linear
  ounce-server --model detr=facebook/detr-resnet-50 --compute float32
  ounce-server --config server.textproto --threads 4 --kv_cache_bytes 512MiB

Signals: SIGTERM or SIGINT finishes what runs, then ends with 0; a second one
ends at once, as does the first before it serves (128 + the signal's number).
Ends with 2 when flags are wrong, with 1 when it cannot serve.)";

constexpr int64_t kMinKvBytes = int64_t{1} << 20;
constexpr int64_t kMaxThreads = 1024;
constexpr int64_t kMaxRequests = 1'000'000;
constexpr int64_t kMaxNewTokens = 1'000'000;
constexpr int64_t kMaxStepTokens = 65'536;
constexpr int64_t kMaxMessageBytes = int64_t{1} << 30;
constexpr int64_t kMaxPicturePixels = int64_t{1} << 28;  // 16,384 squared
constexpr int64_t kMinPictureBytes = int64_t{16} << 20;
constexpr int64_t kMaxBatchPictures = 1024;
constexpr double kMaxDrainSeconds = 86'400;

// Flags as given; what is absent was not.
struct Flags {
  std::vector<std::string> models;
  std::string config;
  std::optional<std::string> listen;
  std::optional<std::string> admin_listen;
  std::optional<std::string> metrics_listen;
  std::optional<int64_t> threads;
  std::optional<std::string> kv_cache_bytes;
  std::optional<int64_t> max_queued_requests;
  std::optional<int64_t> max_running_requests;
  std::optional<int64_t> max_new_tokens;
  std::optional<int64_t> max_step_tokens;
  std::optional<std::string> max_message_bytes;
  std::optional<int64_t> max_picture_pixels;
  std::optional<std::string> picture_memory_bytes;
  std::optional<int64_t> max_batch_pictures;
  std::optional<std::string> compute;
  std::optional<double> drain_seconds;
  std::string ports_file;
};

absl::Status CheckRange(const std::string& name, int64_t value, int64_t min,
                        int64_t max) {
  if (value >= min && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, ": ", min, " to ", max, " wanted, ", value, " found"));
}

absl::Status CheckAddress(const std::string& name, const std::string& address) {
  const size_t colon = address.rfind(':');
  int port = -1;
  if (colon != std::string::npos && colon > 0 &&
      absl::SimpleAtoi(address.substr(colon + 1), &port) && port >= 0 &&
      port <= 65'535) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(name, ": HOST:PORT wanted (port 0 for a free one), '",
                   address, "' found"));
}

// NAME=PATH[,method=SPEC][,convolutions=true]. A spec may have commas of its
// own, so `convolutions` is looked for at the end.
absl::StatusOr<Config::Model> ParseModel(const std::string& flag) {
  const size_t equals = flag.find('=');
  if (equals == std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--model: NAME=PATH[,method=SPEC][,convolutions=true] wanted, '", flag,
        "' found"));
  }
  Config::Model model;
  model.name = flag.substr(0, equals);
  model.path = flag.substr(equals + 1);
  constexpr std::string_view kConvolutions = ",convolutions=";
  if (const size_t at = model.path.rfind(kConvolutions);
      at != std::string::npos) {
    const std::string value = model.path.substr(at + kConvolutions.size());
    if (value != "true" && value != "false") {
      return absl::InvalidArgumentError(absl::StrCat(
          "--model: true or false wanted after 'convolutions=', the last of '",
          flag, "', '", value, "' found"));
    }
    model.convolutions = value == "true";
    model.path.resize(at);
  }
  constexpr std::string_view kMethod = ",method=";
  if (const size_t at = model.path.find(kMethod); at != std::string::npos) {
    model.method = model.path.substr(at + kMethod.size());
    model.path.resize(at);
    if (model.method.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--model: a method's spec wanted after 'method=' in '",
                       flag, "', nothing found"));
    }
  }
  return model;
}

absl::StatusOr<quant::Compute> ParseCompute(const std::string& name,
                                            const std::string& value) {
  if (value == "auto") return quant::FasterCompute();
  for (const quant::Compute compute :
       {quant::Compute::kFloat32, quant::Compute::kBFloat16}) {
    if (value == quant::ComputeName(compute)) return compute;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      name, ": float32, bfloat16 or auto wanted, '", value, "' found"));
}

class FirstError final : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, int column, const std::string& message) override {
    if (!text_.empty()) return;
    text_ = absl::StrCat(line + 1, ":", column + 1, ": ", message);
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

absl::StatusOr<v1::ServerConfig> ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  if (!in.good()) {
    return absl::NotFoundError(
        absl::StrCat("--config: a readable file wanted, '", path, "' is none"));
  }
  v1::ServerConfig config;
  google::protobuf::TextFormat::Parser parser;
  FirstError error;
  parser.RecordErrorsTo(&error);
  if (!parser.ParseFromString(text.str(), &config)) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ":", error.text(), " (an ounce.v1.ServerConfig is wanted)"));
  }
  return config;
}

// Where a field of the file is not 0, it replaces the default.
absl::Status ApplyFile(const v1::ServerConfig& file, Config* config) {
  for (const v1::ModelConfig& model : file.models()) {
    config->models.push_back(
        {model.name(), model.path(), model.method(), model.convolutions()});
  }
  const auto set_text = [](const std::string& from, std::string* to) {
    if (!from.empty()) *to = from;
  };
  const auto set_number = [](uint64_t from, int64_t* to) {
    if (from != 0)
      *to = static_cast<int64_t>(
          std::min<uint64_t>(from, std::numeric_limits<int64_t>::max()));
  };
  set_text(file.listen(), &config->listen.inference);
  set_text(file.admin_listen(), &config->listen.admin);
  set_text(file.metrics_listen(), &config->listen.metrics);
  RETURN_IF_ERROR(CheckRange("threads", file.threads(), 0, kMaxThreads));
  config->threads = static_cast<int>(file.threads());
  set_number(file.kv_cache_bytes(), &config->kv_cache_bytes);
  const v1::Limits& limits = file.limits();
  set_number(limits.max_queued_requests(), &config->limits.max_queued_requests);
  set_number(limits.max_running_requests(),
             &config->limits.max_running_requests);
  set_number(limits.max_new_tokens(), &config->limits.max_new_tokens);
  set_number(limits.max_step_tokens(), &config->limits.max_step_tokens);
  set_number(limits.max_message_bytes(), &config->limits.max_message_bytes);
  set_number(limits.max_picture_pixels(), &config->limits.max_picture_pixels);
  set_number(limits.picture_memory_bytes(),
             &config->limits.picture_memory_bytes);
  set_number(limits.max_batch_pictures(), &config->limits.max_batch_pictures);
  if (!file.compute().empty()) {
    ASSIGN_OR_RETURN(config->compute, ParseCompute("compute", file.compute()));
  }
  if (file.has_drain_seconds()) {
    config->drain = absl::Seconds(file.drain_seconds());
  }
  return absl::OkStatus();
}

absl::Status ApplyFlags(const Flags& flags, Config* config) {
  // Models of flags replace those of the same name, and join the others.
  for (const std::string& flag : flags.models) {
    ASSIGN_OR_RETURN(const Config::Model model, ParseModel(flag));
    std::erase_if(config->models, [&](const Config::Model& other) {
      return other.name == model.name;
    });
  }
  for (const std::string& flag : flags.models) {
    ASSIGN_OR_RETURN(Config::Model model, ParseModel(flag));
    config->models.push_back(std::move(model));
  }
  const auto set = [](const auto& from, auto* to) {
    if (from.has_value()) *to = *from;
  };
  set(flags.listen, &config->listen.inference);
  set(flags.admin_listen, &config->listen.admin);
  set(flags.metrics_listen, &config->listen.metrics);
  if (flags.threads.has_value()) {
    RETURN_IF_ERROR(CheckRange("--threads", *flags.threads, 0, kMaxThreads));
    config->threads = static_cast<int>(*flags.threads);
  }
  const auto set_bytes = [](const char* name,
                            const std::optional<std::string>& from,
                            int64_t* to) -> absl::Status {
    if (!from.has_value()) return absl::OkStatus();
    const absl::StatusOr<int64_t> bytes = ParseByteSize(*from);
    if (!bytes.ok()) return WithContext(bytes.status(), name);
    *to = *bytes;
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(set_bytes("--kv_cache_bytes", flags.kv_cache_bytes,
                            &config->kv_cache_bytes));
  RETURN_IF_ERROR(set_bytes("--max_message_bytes", flags.max_message_bytes,
                            &config->limits.max_message_bytes));
  RETURN_IF_ERROR(set_bytes("--picture_memory_bytes",
                            flags.picture_memory_bytes,
                            &config->limits.picture_memory_bytes));
  if (flags.compute.has_value()) {
    ASSIGN_OR_RETURN(config->compute,
                     ParseCompute("--compute", *flags.compute));
  }
  set(flags.max_picture_pixels, &config->limits.max_picture_pixels);
  set(flags.max_batch_pictures, &config->limits.max_batch_pictures);
  set(flags.max_queued_requests, &config->limits.max_queued_requests);
  set(flags.max_running_requests, &config->limits.max_running_requests);
  set(flags.max_new_tokens, &config->limits.max_new_tokens);
  set(flags.max_step_tokens, &config->limits.max_step_tokens);
  if (flags.drain_seconds.has_value()) {
    config->drain = absl::Seconds(*flags.drain_seconds);
  }
  config->ports_file = flags.ports_file;
  return absl::OkStatus();
}

absl::Status Check(const Config& config) {
  std::set<std::string> names;
  for (const Config::Model& model : config.models) {
    RETURN_IF_ERROR(CheckModelName("model", model.name));
    if (model.path.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("model '", model.name, "': a path wanted, none found"));
    }
    if (!names.insert(model.name).second) {
      return absl::InvalidArgumentError(absl::StrCat(
          "model '", model.name, "': one of that name wanted, two found"));
    }
  }
  RETURN_IF_ERROR(CheckAddress("listen", config.listen.inference));
  RETURN_IF_ERROR(CheckAddress("admin_listen", config.listen.admin));
  RETURN_IF_ERROR(CheckAddress("metrics_listen", config.listen.metrics));
  RETURN_IF_ERROR(CheckRange("kv_cache_bytes", config.kv_cache_bytes,
                             kMinKvBytes, std::numeric_limits<int64_t>::max()));
  RETURN_IF_ERROR(CheckRange("max_queued_requests",
                             config.limits.max_queued_requests, 1,
                             kMaxRequests));
  RETURN_IF_ERROR(CheckRange("max_running_requests",
                             config.limits.max_running_requests, 1,
                             kMaxRequests));
  RETURN_IF_ERROR(CheckRange("max_new_tokens", config.limits.max_new_tokens, 1,
                             kMaxNewTokens));
  RETURN_IF_ERROR(CheckRange("max_step_tokens", config.limits.max_step_tokens,
                             1, kMaxStepTokens));
  RETURN_IF_ERROR(CheckRange("max_message_bytes",
                             config.limits.max_message_bytes, 1,
                             kMaxMessageBytes));
  RETURN_IF_ERROR(CheckRange("max_picture_pixels",
                             config.limits.max_picture_pixels, 1,
                             kMaxPicturePixels));
  RETURN_IF_ERROR(
      CheckRange("picture_memory_bytes", config.limits.picture_memory_bytes,
                 kMinPictureBytes, std::numeric_limits<int64_t>::max()));
  RETURN_IF_ERROR(CheckRange("max_batch_pictures",
                             config.limits.max_batch_pictures, 1,
                             kMaxBatchPictures));
  const double drain_seconds = absl::ToDoubleSeconds(config.drain);
  if (!(drain_seconds >= 0 && drain_seconds <= kMaxDrainSeconds)) {
    return absl::InvalidArgumentError(
        absl::StrCat("drain_seconds: 0 to ", kMaxDrainSeconds, " wanted, ",
                     drain_seconds, " found"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Config> ReadConfig(int argc, const char* const* argv) {
  Flags flags;
  CLI::App app(
      "Serves models that continue text or detect objects over gRPC, and "
      "quantizes them while it serves.",
      "ounce-server");
  app.footer(kFooter);
  app.get_formatter()->column_width(34);
  app.add_option("--model", flags.models,
                 "NAME=PATH[,method=SPEC][,convolutions=true]: a model to "
                 "serve; again for more. PATH: a folder in Hugging Face "
                 "layout, or org/name from the local Hugging Face cache")
      ->allow_extra_args(false)
      ->type_name("");
  app.add_option("--config", flags.config,
                 "FILE: an ounce.v1.ServerConfig as textproto; flags override "
                 "it")
      ->type_name("");
  app.add_option("--listen", flags.listen,
                 "HOST:PORT of Inference [127.0.0.1:8500]; port 0: a free one")
      ->type_name("");
  app.add_option("--admin_listen", flags.admin_listen,
                 "HOST:PORT of ModelAdmin [127.0.0.1:8501]")
      ->type_name("");
  app.add_option("--metrics_listen", flags.metrics_listen,
                 "HOST:PORT of Prometheus' /metrics [127.0.0.1:8502]")
      ->type_name("");
  app.add_option("--threads", flags.threads,
                 "N that compute [the CPUs of the cgroup]")
      ->type_name("");
  app.add_option("--kv_cache_bytes", flags.kv_cache_bytes,
                 "BYTES of keys and values per model, at most [1GiB]")
      ->type_name("");
  app.add_option("--max_queued_requests", flags.max_queued_requests,
                 "N that wait, per model [256]")
      ->type_name("");
  app.add_option("--max_running_requests", flags.max_running_requests,
                 "N that run at the same time, per model [32]")
      ->type_name("");
  app.add_option("--max_new_tokens", flags.max_new_tokens,
                 "N that one request may ask for [4096]")
      ->type_name("");
  app.add_option("--max_step_tokens", flags.max_step_tokens,
                 "N computed in one step; longer prompts are cut [512]")
      ->type_name("");
  app.add_option("--max_message_bytes", flags.max_message_bytes,
                 "BYTES of a client's message, at most [32MiB]")
      ->type_name("");
  app.add_option("--compute", flags.compute,
                 "float32 (the reference), bfloat16 or auto: what detectors "
                 "compute products of floats in [auto: bfloat16 where the CPU "
                 "has AMX]")
      ->type_name("");
  app.add_option("--max_picture_pixels", flags.max_picture_pixels,
                 "N of a picture, at most [64000000]")
      ->type_name("");
  app.add_option("--picture_memory_bytes", flags.picture_memory_bytes,
                 "BYTES for pictures that are decoded or wait, all models "
                 "together [512MiB]")
      ->type_name("");
  app.add_option("--max_batch_pictures", flags.max_batch_pictures,
                 "N of one batch [8]")
      ->type_name("");
  app.add_option("--drain_seconds", flags.drain_seconds,
                 "SECONDS that requests may still run after SIGTERM [30]")
      ->type_name("");
  app.add_option(
         "--ports_file", flags.ports_file,
         "FILE to write the bound addresses to, as JSON, once it serves")
      ->type_name("");
  app.set_version_flag("--version", OUNCE_VERSION);

  // CLI11 reports by exceptions, --help and --version too.
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {
    std::ostringstream out, err;
    app.exit(success, out, err);
    Config config;
    config.print = out.str();
    return config;
  } catch (const CLI::ParseError& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(error.what(), " (see ounce-server --help)"));
  }
  Config config;
  if (!flags.config.empty()) {
    ASSIGN_OR_RETURN(const v1::ServerConfig file, ReadFile(flags.config));
    RETURN_IF_ERROR(ApplyFile(file, &config));
  }
  RETURN_IF_ERROR(ApplyFlags(flags, &config));
  if (config.threads == 0) config.threads = NumCpus();
  RETURN_IF_ERROR(Check(config));
  return config;
}

}  // namespace ounce::server
