#include "server/settings.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "base/byte_size.h"
#include "base/check.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/layers/kv_cache.h"
#include "ounce/v1/server_config.pb.h"
#include "server/net/peer.h"
#include "server/trace/otel_environment.h"

namespace ounce::server {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr int64_t kNoMax = std::numeric_limits<int64_t>::max();

absl::Status CheckAddress(const std::string& address) {
  const size_t colon = address.rfind(':');
  int port = -1;
  if (colon != std::string::npos && colon > 0 &&
      absl::SimpleAtoi(address.substr(colon + 1), &port) && port >= 0 &&
      port <= 65'535) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(StrCat(
      "must be HOST:PORT (port 0 takes a free one), is '", address, "'"));
}

absl::Status CheckProxies(const std::string& text) {
  return PeerSet::Parse(text).status();
}

absl::Status CheckFolders(const std::string& text) {
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    const std::string folder(part);
    std::error_code error;
    const bool is_folder = std::filesystem::is_directory(folder, error);
    if (is_folder && access(folder.c_str(), X_OK) == 0) continue;
    if (is_folder) error.assign(errno, std::generic_category());
    const std::string why =
        error ? StrCat(": ", error.message()) : std::string(" is no folder");
    return absl::InvalidArgumentError(StrCat(
        "must be folders with commas between them; '", folder, "'", why));
  }
  return absl::OkStatus();
}

absl::Status CheckSaveRoot(const std::string& folder) {
  std::error_code error;
  if (!std::filesystem::is_directory(folder, error)) {
    return absl::InvalidArgumentError(StrCat(
        "must be a folder; '", folder, "'",
        error ? StrCat(": ", error.message()) : std::string(" is no folder")));
  }
  if (access(folder.c_str(), W_OK | X_OK) == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat("must be a folder that this process may write in; '", folder,
             "': ", std::generic_category().message(errno)));
}

absl::Status CheckHosts(const std::string& text) {
  if (text.empty()) return absl::OkStatus();
  for (const absl::string_view host : absl::StrSplit(text, ',')) {
    if (!host.empty() && host.find_first_of(" \t:/") == host.npos) continue;
    return absl::InvalidArgumentError(
        StrCat("must be * or names of hosts with commas and no blanks between "
               "them; '",
               host, "' is none"));
  }
  return absl::OkStatus();
}

absl::Status CheckListeners(const std::string& text) {
  for (const absl::string_view name : absl::StrSplit(text, ',')) {
    if (name != "listen" && name != "admin_listen" &&
        name != "metrics_listen") {
      return absl::InvalidArgumentError(
          StrCat("must be some of listen, admin_listen and metrics_listen, "
                 "with commas between them, is '",
                 text, "'"));
    }
  }
  return absl::OkStatus();
}

void SetCompute(Config& config, const std::string& choice) {
  config.compute.reset();
  for (const quant::Compute compute :
       {quant::Compute::kFloat32, quant::Compute::kBFloat16}) {
    if (choice == quant::ComputeName(compute)) config.compute = compute;
  }
}

void SetKvCacheDtype(Config& config, const std::string& choice) {
  config.kv_type = model::ParseKvType(choice);  // nothing: auto
}

void SetPrefixCacheScope(Config& config, const std::string& choice) {
  config.prefix_cache_for_all = choice == "all";
}

void SetRequestLog(Config& config, const std::string& choice) {
  config.request_log = choice == "all"      ? RequestLogMode::kAll
                       : choice == "errors" ? RequestLogMode::kErrors
                                            : RequestLogMode::kOff;
}

const std::vector<Setting>& Rows() {
  static const std::vector<Setting>* const kRows = new std::vector<Setting>{
      {.name = "listen",
       .to = [](Config& c) -> std::string& { return c.listen.inference; },
       .form = "HOST:PORT",
       .check = CheckAddress,
       .help = "Address of the public services: Inference, health and "
               "reflection; port 0 takes a free one"},
      {.name = "admin_listen",
       .to = [](Config& c) -> std::string& { return c.listen.admin; },
       .form = "HOST:PORT",
       .check = CheckAddress,
       .help = "Address of the ModelAdmin service"},
      {.name = "metrics_listen",
       .to = [](Config& c) -> std::string& { return c.listen.metrics; },
       .form = "HOST:PORT",
       .check = CheckAddress,
       .help = "Address of the page to look at, /status.json, /metrics for "
               "Prometheus, /healthz and /readyz"},
      {.name = "tls_cert",
       .to = [](Config& c) -> std::string& { return c.tls.cert; },
       .form = "FILE",
       .default_words = "none",
       .help = "PEM file of the server's certificate and those above it; with "
               "it the listeners speak TLS. Read again when it changes, as all "
               "files of TLS are"},
      {.name = "tls_key",
       .to = [](Config& c) -> std::string& { return c.tls.key; },
       .form = "FILE",
       .default_words = "none",
       .help = "PEM file of the certificate's key, without a passphrase"},
      {.name = "tls_listeners",
       .to = [](Config& c) -> std::string& { return c.tls.listeners; },
       .form = "LISTENER[,LISTENER...]",
       .check = CheckListeners,
       .help = "The listeners that speak TLS when there is a certificate"},
      {.name = "tls_client_ca",
       .to = [](Config& c) -> std::string& { return c.tls.client_ca; },
       .form = "FILE",
       .default_words = "none",
       .help = "PEM file: clients of listen must show a certificate that one "
               "of these has signed"},
      {.name = "admin_tls_client_ca",
       .to = [](Config& c) -> std::string& { return c.tls.admin_client_ca; },
       .form = "FILE",
       .default_words = "none",
       .help = "The same for admin_listen"},
      {.name = "metrics_tls_client_ca",
       .to = [](Config& c) -> std::string& { return c.tls.metrics_client_ca; },
       .form = "FILE",
       .default_words = "none",
       .help = "The same for metrics_listen"},
      {.name = "token_file",
       .to = [](Config& c) -> std::string& { return c.token_file; },
       .form = "FILE",
       .default_words = "none",
       .help = "File of tokens: each call, but for health, must have one of "
               "them. Read again when it changes"},
      {.name = "threads",
       .type = SettingType::kCount,
       .to = [](Config& c) -> int64_t& { return c.threads; },
       .max = 1024,
       .default_words = "one per CPU that the process may use",
       .help = "Compute threads"},
      {.name = "compute",
       .type = SettingType::kChoice,
       .to = SetCompute,
       .choices = {"auto", "float32", "bfloat16"},
       .default_words = "auto",
       .help = "What models multiply floats in; auto is bfloat16 for detectors "
               "where the CPU has AMX or AVX-512 BF16, else float32"},
      {.name = "memory_bytes",
       .type = SettingType::kBytes,
       .to = [](Config& c) -> int64_t& { return c.memory_bytes; },
       .default_words = "what the machine and its container have",
       .help =
           "Most memory for the server in all; loads and quantizations that "
           "would need more are refused"},
      {.name = "kv_cache_bytes",
       .type = SettingType::kBytes,
       .to = [](Config& c) -> int64_t& { return c.kv_cache_bytes; },
       .min = int64_t{1} << 20,
       .help = "Most memory for keys and values, per model"},
      {.name = "prefix_cache_bytes",
       .type = SettingType::kBytes,
       .to = [](Config& c) -> int64_t& { return c.prefix_cache_bytes; },
       .help =
           "Of these, most memory for keys and values that no request needs "
           "any more, per model: a prompt that begins like an earlier one "
           "takes them instead of computing them. They go as soon as "
           "anything else needs the memory; 0: none"},
      {.name = "prefix_cache_scope",
       .type = SettingType::kChoice,
       .to = SetPrefixCacheScope,
       .choices = {"caller", "all"},
       .default_words = "caller",
       .help = "Whose prompts a caller's may begin like: its own, or those of "
               "all, who can then tell by the time and by cached_tokens what "
               "others asked"},
      {.name = "kv_cache_dtype",
       .type = SettingType::kChoice,
       .to = SetKvCacheDtype,
       .choices = {"auto", "float32", "bfloat16", "int8"},
       .default_words = "auto",
       .help = "What keys and values are kept in: int8 takes about a quarter "
               "of float32, and long texts go on faster; auto is what the "
               "model computes in"},
      {.name = "max_queued_requests",
       .type = SettingType::kCount,
       .to = [](Config& c) -> int64_t& { return c.limits.max_queued_requests; },
       .min = 1,
       .max = 1'000'000,
       .help = "Requests that may wait, per model"},
      {.name = "max_running_requests",
       .type = SettingType::kCount,
       .to = [](Config& c) -> int64_t& {
         return c.limits.max_running_requests;
       },
       .min = 1,
       .max = 1'000'000,
       .help = "Requests that may run at the same time, per model"},
      {.name = "max_new_tokens",
       .type = SettingType::kCount,
       .to = [](Config& c) -> int64_t& { return c.limits.max_new_tokens; },
       .min = 1,
       .max = 1'000'000,
       .help = "Most tokens that one request may ask for"},
      {.name = "max_prompt_tokens",
       .type = SettingType::kCount,
       .to = [](Config& c) -> int64_t& { return c.limits.max_prompt_tokens; },
       .max = 1'000'000,
       .default_words = "0: as many as the model has positions for",
       .help = "Most tokens of one request's prompt"},
      {.name = "max_request_seconds",
       .type = SettingType::kSeconds,
       .to = [](Config& c) -> absl::Duration& { return c.limits.max_request; },
       .max = 86'400,
       .default_words = "0: as long as its deadline allows",
       .help = "How long one request of Generate or DetectObjects may take, "
               "from its arrival to its end, waiting included"},
      {.name = "max_step_tokens",
       .type = SettingType::kCount,
       .to = [](Config& c) -> int64_t& { return c.limits.max_step_tokens; },
       .min = 1,
       .max = 65'536,
       .help = "Most tokens computed in one step; longer prompts are split"},
      {.name = "prompt_step_seconds",
       .type = SettingType::kSeconds,
       .to = [](Config& c) -> absl::Duration& { return c.limits.prompt_step; },
       .max = 10,
       .help = "How long a step takes that computes prompts while others "
               "generate, who wait so long for a token. It takes as much more "
               "for each second that a prompt has taken, and at least twice as "
               "long as a step without prompts and as 16 tokens of prompts "
               "take. More brings prompts on faster; 0: no limit but the "
               "tokens"},
      {.name = "max_message_bytes",
       .type = SettingType::kBytes,
       .to = [](Config& c) -> int64_t& { return c.limits.max_message_bytes; },
       .min = 1,
       .max = int64_t{1} << 30,
       .help = "Largest message that a client may send"},
      {.name = "max_picture_pixels",
       .type = SettingType::kCount,
       .to = [](Config& c) -> int64_t& { return c.limits.max_picture_pixels; },
       .min = 1,
       .max = int64_t{1} << 28,  // 16,384 squared
       .help = "Most pixels of a picture"},
      {.name = "picture_memory_bytes",
       .type = SettingType::kBytes,
       .to = [](Config& c) -> int64_t& {
         return c.limits.picture_memory_bytes;
       },
       .min = int64_t{16} << 20,
       .help = "Most memory for pictures that are being decoded or wait, all "
               "models together"},
      {.name = "max_batch_pictures",
       .type = SettingType::kCount,
       .to = [](Config& c) -> int64_t& { return c.limits.max_batch_pictures; },
       .min = 1,
       .max = 1024,
       .help = "Most pictures in one batch"},
      {.name = "max_connections",
       .type = SettingType::kCount,
       .to = [](Config& c) -> int64_t& { return c.limits.max_connections; },
       .min = 1,
       .max = 100'000,
       .help = "Connections to the public services; fewer if the process may "
               "not open three descriptors for each"},
      {.name = "max_connections_per_peer",
       .type = SettingType::kCount,
       .to = [](Config& c) -> int64_t& {
         return c.limits.max_connections_per_peer;
       },
       .min = 1,
       .max = 100'000,
       .help = "Connections of one IP address, or of one /64 of IPv6"},
      {.name = "idle_connection_seconds",
       .type = SettingType::kSeconds,
       .to = [](Config& c) -> absl::Duration& {
         return c.limits.idle_connection;
       },
       .min = 1,
       .max = 86'400,
       .help = "After how long without a call a connection is closed; pings do "
               "not count"},
      {.name = "max_connection_age_seconds",
       .type = SettingType::kSeconds,
       .to = [](Config& c) -> absl::Duration& {
         return c.limits.connection_age;
       },
       .max = 86'400,
       .default_words = "0: for ever",
       .help =
           "After how long a client is asked to connect again, calls going on "
           "(GOAWAY), so that clients that balance themselves look up "
           "addresses"},
      {.name = "trusted_proxies",
       .to = [](Config& c) -> std::string& { return c.trusted_proxies; },
       .form = "ADDRESS[,ADDRESS...]",
       .check = CheckProxies,
       .default_words = "none",
       .help =
           "IP addresses and networks, such as 10.0.0.0/8, of proxies: they "
           "may name the caller in x-forwarded-for, and have no limits per "
           "peer"},
      {.name = "metrics_hosts",
       .to = [](Config& c) -> std::string& { return c.metrics_hosts; },
       .form = "HOST[,HOST...]",
       .check = CheckHosts,
       .default_words = "any; on loopback without TLS none",
       .help = "Names that requests of metrics_listen may give as its host, "
               "besides IP addresses and localhost; * is any"},
      {.name = "model_roots",
       .to = [](Config& c) -> std::string& { return c.model_roots; },
       .form = "DIR[,DIR...]",
       .check = CheckFolders,
       .default_words = "none",
       .help =
           "Folders that calls may load and inspect models from, links "
           "followed; the models of the start may lie anywhere, and without "
           "roots all may"},
      {.name = "pull",
       .type = SettingType::kFlag,
       .to = [](Config& c) -> bool& { return c.pull; },
       .help = "Download models that are named org/name, at the start and by "
               "calls, from the Hugging Face hub where its cache lacks them"},
      {.name = "save_root",
       .to = [](Config& c) -> std::string& { return c.save_root; },
       .form = "DIR",
       .check = CheckSaveRoot,
       .default_words = "none: nothing is saved",
       .help = "Folder below which calls may save models, links followed"},
      {.name = "drain_seconds",
       .type = SettingType::kSeconds,
       .to = [](Config& c) -> absl::Duration& { return c.drain; },
       .max = 86'400,
       .help = "How long running requests may still take after SIGTERM, and "
               "after the delay"},
      {.name = "drain_delay_seconds",
       .type = SettingType::kSeconds,
       .to = [](Config& c) -> absl::Duration& { return c.drain_delay; },
       .max = 86'400,
       .help = "How long after SIGTERM requests are served as ever, with "
               "readiness false, so that balancers can notice"},
      {.name = "keep_going",
       .type = SettingType::kFlag,
       .to = [](Config& c) -> bool& { return c.keep_going; },
       .help = "At the start serve the models that can be loaded, instead of "
               "ending because of one that can't"},
      {.name = "log_format",
       .type = SettingType::kChoice,
       .to = [](Config& c,
                const std::string& choice) { c.log_json = choice == "json"; },
       .choices = {"text", "json"},
       .default_words = "text",
       .help = "Form of the lines on stdout and stderr; json is an object with "
               "time, level and message"},
      {.name = "request_log",
       .type = SettingType::kChoice,
       .to = SetRequestLog,
       .choices = {"off", "errors", "all"},
       .default_words = "off",
       .help = "Of which requests there is a line of JSON on stderr: none, "
               "those that end badly, or all"},
      {.name = "otlp_endpoint",
       .to = [](Config& c) -> std::string& { return c.tracing.endpoint; },
       .form = "URL",
       .check = CheckEndpoint,
       .default_words = "what OTEL_EXPORTER_OTLP_ENDPOINT says, else none",
       .help = "Where traces go: http://HOST:4318 of an OpenTelemetry "
               "collector, which takes them at /v1/traces"},
      {.name = "trace_sample",
       .type = SettingType::kRatio,
       .to = [](Config& c) -> double& { return c.tracing.sample; },
       .max = 1,
       .help = "Share of the requests that are traced if their caller does not "
               "say (traceparent)"},
      {.name = "ports_file",
       .to = [](Config& c) -> std::string& { return c.ports_file; },
       .form = "FILE",
       .default_words = "none",
       .help = "File to write the bound addresses to, as JSON, once the server "
               "is ready"},
  };
  return *kRows;
}

// The message that has the setting's field, and the field.
struct Place {
  Message* message;
  const FieldDescriptor* field;
  std::string path;  // "limits.max_new_tokens"
};

Place PlaceOf(const Setting& setting, v1::ServerConfig* file) {
  const std::string name(setting.name);
  if (const auto* field = file->GetDescriptor()->FindFieldByName(name)) {
    return {file, field, name};
  }
  const auto* field = v1::Limits::descriptor()->FindFieldByName(name);
  OUNCE_CHECK(field != nullptr, "a setting has a field of its name");
  return {file->mutable_limits(), field, StrCat("limits.", name)};
}

// 1048576 as 1MiB; what is no whole number of a unit as it is.
std::string BytesText(int64_t bytes) {
  for (const auto& [unit, shift] :
       {std::pair("TiB", 40), std::pair("GiB", 30), std::pair("MiB", 20),
        std::pair("KiB", 10)}) {
    const int64_t size = int64_t{1} << shift;
    if (bytes >= size && bytes % size == 0) return StrCat(bytes / size, unit);
  }
  return StrCat(bytes);
}

std::string NumberText(const Setting& setting, int64_t number) {
  return setting.type == SettingType::kBytes ? BytesText(number)
                                             : StrCat(number);
}

std::string RangeText(const Setting& setting) {
  if (setting.max == kNoMax) {
    return StrCat("at least ", NumberText(setting, setting.min));
  }
  return StrCat(NumberText(setting, setting.min), " to ",
                NumberText(setting, setting.max));
}

std::string ChoicesText(const Setting& setting) {
  if (setting.choices.empty()) return "";
  std::vector<std::string> first = setting.choices;
  const std::string last = first.back();
  first.pop_back();
  return StrCat(absl::StrJoin(first, ", "), " or ", last);
}

absl::Status OutOfRange(const Setting& setting, const std::string& number) {
  return absl::InvalidArgumentError(
      StrCat("must be ", setting.max == kNoMax ? "" : "from ",
             RangeText(setting), ", is ", number));
}

absl::Status CheckNumber(const Setting& setting, int64_t number) {
  if (number >= setting.min && number <= setting.max) return absl::OkStatus();
  return OutOfRange(setting, NumberText(setting, number));
}

absl::Status CheckReal(const Setting& setting, double number) {
  // NaN is in no range.
  if (number >= static_cast<double>(setting.min) &&
      number <= static_cast<double>(setting.max)) {
    return absl::OkStatus();
  }
  // All digits: 99999999, not 1e+08.
  return OutOfRange(setting, absl::StrFormat("%.15g", number));
}

absl::Status CheckText(const Setting& setting, const std::string& text) {
  if (setting.type == SettingType::kChoice) {
    for (const std::string& choice : setting.choices) {
      if (text == choice) return absl::OkStatus();
    }
    return absl::InvalidArgumentError(
        StrCat("must be ", ChoicesText(setting), ", is '", text, "'"));
  }
  return setting.check == nullptr ? absl::OkStatus() : setting.check(text);
}

absl::Status SetNumber(const Setting& setting, const Place& place,
                       const std::string& text) {
  int64_t number = 0;
  if (setting.type == SettingType::kBytes) {
    ASSIGN_OR_RETURN(number, ParseByteSize(text));
  } else if (!absl::SimpleAtoi(text, &number)) {
    return absl::InvalidArgumentError(
        StrCat("must be a whole number, is '", text, "'"));
  }
  RETURN_IF_ERROR(CheckNumber(setting, number));
  const Reflection& fields = *place.message->GetReflection();
  if (place.field->cpp_type() == FieldDescriptor::CPPTYPE_UINT32) {
    fields.SetUInt32(place.message, place.field, static_cast<uint32_t>(number));
  } else {
    fields.SetUInt64(place.message, place.field, static_cast<uint64_t>(number));
  }
  return absl::OkStatus();
}

absl::Status SetOne(const Setting& setting, const Place& place,
                    const std::string& text) {
  const Reflection& fields = *place.message->GetReflection();
  switch (setting.type) {
    case SettingType::kText:
    case SettingType::kChoice:
      RETURN_IF_ERROR(CheckText(setting, text));
      fields.SetString(place.message, place.field, text);
      break;
    case SettingType::kList:
      RETURN_IF_ERROR(CheckText(setting, text));
      fields.AddString(place.message, place.field, text);
      break;
    case SettingType::kCount:
    case SettingType::kBytes:
      return SetNumber(setting, place, text);
    case SettingType::kSeconds: {
      double seconds = 0;
      if (!absl::SimpleAtod(text, &seconds)) {
        return absl::InvalidArgumentError(
            StrCat("must be a number of seconds, is '", text, "'"));
      }
      RETURN_IF_ERROR(CheckReal(setting, seconds));
      fields.SetDouble(place.message, place.field, seconds);
      break;
    }
    case SettingType::kRatio: {
      double ratio = 0;
      if (!absl::SimpleAtod(text, &ratio)) {
        return absl::InvalidArgumentError(
            StrCat("must be a number from 0 to 1, is '", text, "'"));
      }
      RETURN_IF_ERROR(CheckReal(setting, ratio));
      fields.SetDouble(place.message, place.field, ratio);
      break;
    }
    case SettingType::kFlag: {
      if (text != "true" && text != "false") {
        return absl::InvalidArgumentError(
            StrCat("must be true or false, is '", text, "'"));
      }
      fields.SetBool(place.message, place.field, text == "true");
      break;
    }
  }
  return absl::OkStatus();
}

// Checks a field that is set and moves it to where it goes.
class Applier {
 public:
  Applier(const Setting& setting, const Place& place, Config* config)
      : setting_(setting),
        message_(*place.message),
        fields_(*message_.GetReflection()),
        field_(place.field),
        config_(*config) {}

  absl::Status operator()(std::string& (*to)(Config&)) const {
    ASSIGN_OR_RETURN(to(config_), Text());
    return absl::OkStatus();
  }
  absl::Status operator()(void (*set)(Config&, const std::string&)) const {
    ASSIGN_OR_RETURN(const std::string text, Text());
    set(config_, text);
    return absl::OkStatus();
  }
  absl::Status operator()(int64_t& (*to)(Config&)) const {
    const uint64_t number =
        field_->cpp_type() == FieldDescriptor::CPPTYPE_UINT32
            ? fields_.GetUInt32(message_, field_)
            : fields_.GetUInt64(message_, field_);
    if (number > static_cast<uint64_t>(setting_.max)) {
      return OutOfRange(setting_, StrCat(number));
    }
    RETURN_IF_ERROR(CheckNumber(setting_, static_cast<int64_t>(number)));
    to(config_) = static_cast<int64_t>(number);
    return absl::OkStatus();
  }
  absl::Status operator()(absl::Duration& (*to)(Config&)) const {
    const double seconds = fields_.GetDouble(message_, field_);
    RETURN_IF_ERROR(CheckReal(setting_, seconds));
    to(config_) = absl::Seconds(seconds);
    return absl::OkStatus();
  }
  absl::Status operator()(double& (*to)(Config&)) const {
    const double ratio = fields_.GetDouble(message_, field_);
    RETURN_IF_ERROR(CheckReal(setting_, ratio));
    to(config_) = ratio;
    return absl::OkStatus();
  }
  absl::Status operator()(bool& (*to)(Config&)) const {
    to(config_) = fields_.GetBool(message_, field_);
    return absl::OkStatus();
  }
  absl::Status operator()(std::vector<std::string>& (*to)(Config&)) const {
    std::vector<std::string> texts;
    for (int i = 0; i < fields_.FieldSize(message_, field_); ++i) {
      texts.push_back(fields_.GetRepeatedString(message_, field_, i));
      RETURN_IF_ERROR(CheckText(setting_, texts.back()));
    }
    to(config_) = std::move(texts);
    return absl::OkStatus();
  }

 private:
  absl::StatusOr<std::string> Text() const {
    std::string text = fields_.GetString(message_, field_);
    RETURN_IF_ERROR(CheckText(setting_, text));
    return text;
  }

  const Setting& setting_;
  const Message& message_;
  const Reflection& fields_;
  const FieldDescriptor* field_;
  Config& config_;
};

bool IsSet(const Place& place) {
  const Reflection& fields = *place.message->GetReflection();
  return place.field->is_repeated()
             ? fields.FieldSize(*place.message, place.field) > 0
             : fields.HasField(*place.message, place.field);
}

std::string DefaultText(const Setting& setting) {
  if (!setting.default_words.empty()) return std::string(setting.default_words);
  Config config;
  if (const auto* to = std::get_if<std::string& (*)(Config&)>(&setting.to)) {
    return (*to)(config);
  }
  if (const auto* to = std::get_if<int64_t& (*)(Config&)>(&setting.to)) {
    return NumberText(setting, (*to)(config));
  }
  if (const auto* to = std::get_if<absl::Duration& (*)(Config&)>(&setting.to)) {
    return StrCat(absl::ToDoubleSeconds((*to)(config)));
  }
  if (const auto* to = std::get_if<double& (*)(Config&)>(&setting.to)) {
    return StrCat((*to)(config));
  }
  if (const auto* to = std::get_if<bool& (*)(Config&)>(&setting.to)) {
    return (*to)(config) ? "true" : "false";
  }
  return "none";
}

// What may be given: "HOST:PORT", "1 to 1024".
std::string ValuesText(const Setting& setting) {
  switch (setting.type) {
    case SettingType::kText:
    case SettingType::kList:
      return std::string(setting.form);
    case SettingType::kCount:
    case SettingType::kRatio:
      return RangeText(setting);
    case SettingType::kBytes:
      return StrCat("bytes, ", RangeText(setting));
    case SettingType::kSeconds:
      return StrCat("seconds, ", RangeText(setting));
    case SettingType::kFlag:
      return "true or false";
    case SettingType::kChoice:
      return ChoicesText(setting);
  }
  return "";
}

}  // namespace

absl::Span<const Setting> Settings() { return Rows(); }

absl::Status SetField(const Setting& setting,
                      const std::vector<std::string>& texts,
                      v1::ServerConfig* file) {
  const std::string flag = StrCat("--", setting.name);
  const Place place = PlaceOf(setting, file);
  place.message->GetReflection()->ClearField(place.message, place.field);
  if (texts.size() > 1 && setting.type != SettingType::kList) {
    return absl::InvalidArgumentError(
        StrCat(flag, ": is given ", texts.size(), " times; give it once"));
  }
  for (const std::string& text : texts) {
    RETURN_IF_ERROR(WithContext(SetOne(setting, place, text), flag));
  }
  return absl::OkStatus();
}

absl::Status ApplyFields(const v1::ServerConfig& file, Config* config) {
  v1::ServerConfig copy = file;
  for (const Setting& setting : Settings()) {
    const Place place = PlaceOf(setting, &copy);
    if (!IsSet(place)) continue;
    RETURN_IF_ERROR(WithContext(
        std::visit(Applier(setting, place, config), setting.to), place.path));
  }
  return absl::OkStatus();
}

std::string FormOf(const Setting& setting) {
  switch (setting.type) {
    case SettingType::kText:
    case SettingType::kList:
      return std::string(setting.form);
    case SettingType::kCount:
      return "N";
    case SettingType::kBytes:
      return "BYTES";
    case SettingType::kSeconds:
      return "SECONDS";
    case SettingType::kRatio:
      return "RATIO";
    case SettingType::kFlag:
      return "";
    case SettingType::kChoice:
      return absl::StrJoin(setting.choices, "|");
  }
  return "";
}

std::string HelpOf(const Setting& setting) {
  const bool is_number = setting.type == SettingType::kCount ||
                         setting.type == SettingType::kBytes ||
                         setting.type == SettingType::kSeconds ||
                         setting.type == SettingType::kRatio;
  return StrCat(setting.help,
                is_number ? StrCat(" (", RangeText(setting), ")") : "", " [",
                DefaultText(setting), "]");
}

std::string SettingsTable() {
  v1::ServerConfig file;
  std::string table =
      "| Flag | In the file | Values | Default | What it is |\n"
      "|---|---|---|---|---|\n";
  for (const Setting& setting : Settings()) {
    StrAppend(&table, "| `--", setting.name, "` | `",
              PlaceOf(setting, &file).path, "` | ", ValuesText(setting), " | ",
              DefaultText(setting), " | ", setting.help, " |\n");
  }
  return table;
}

}  // namespace ounce::server
