// What the server is told at its start: flags over the file of --config over
// defaults, checked once, here.
#ifndef OUNCE_SERVER_CONFIG_H_
#define OUNCE_SERVER_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "model/layers/kv_type.h"
#include "model/loader/method_plan.h"
#include "quant/compute.h"
#include "server/service/request_log.h"

namespace ounce::server {

struct Config {
  struct Model {
    std::string name;
    std::string path;  // a folder, or org/name[@revision]
    model::MethodPlan plan = {};
  };
  struct Listen {  // HOST:PORT, port 0: a free one
    std::string inference = "127.0.0.1:8500";
    std::string admin = "127.0.0.1:8501";
    std::string metrics = "127.0.0.1:8502";
  };
  // TLS: PEM files, empty: none.
  struct Tls {
    std::string cert, key;
    std::string listeners = "listen,admin_listen,metrics_listen";
    // Of each listener: who must have signed its clients' certificates.
    std::string client_ca, admin_client_ca, metrics_client_ca;

    // Whether the listener, by its setting's name, speaks it.
    bool On(std::string_view listener) const;
  };
  struct Limits {
    int64_t max_queued_requests = 256;  // per model
    int64_t max_running_requests = 32;  // per model
    int64_t max_new_tokens = 4096;      // of one request
    int64_t max_prompt_tokens = 0;      // of one request; 0: any
    // Of one request, from its arrival to its end. Zero: no limit.
    absl::Duration max_request = absl::ZeroDuration();
    int64_t max_step_tokens = 512;
    // Of a step with prompts, while others generate. Zero: whatever it takes.
    absl::Duration prompt_step = absl::Milliseconds(50);
    int64_t max_message_bytes = 32 << 20;
    int64_t max_picture_pixels = 64'000'000;
    int64_t picture_memory_bytes = int64_t{512} << 20;  // all models together
    int64_t max_batch_pictures = 8;
    // Of the public listener; fewer if descriptors are scarce.
    int64_t max_connections = 1024;
    int64_t max_connections_per_peer = 256;
    absl::Duration idle_connection = absl::Minutes(5);  // without a call
    // After so long a client is asked to connect again. Zero: never.
    absl::Duration connection_age = absl::ZeroDuration();
  };

  struct Tracing {
    std::string endpoint;  // of a collector; empty: what the environment says
    double sample = 1;     // share of the traces that begin here
  };

  std::vector<Model> models;  // to serve from the start
  Listen listen;
  Tls tls;
  std::string token_file;  // empty: calls need no token
  int64_t threads = 0;     // that compute; at least 1
  // Of the server in all; 0: what the machine and its control groups allow.
  int64_t memory_bytes = 0;
  int64_t kv_cache_bytes = int64_t{1} << 30;  // per model
  // Of these, at most, kept for prompts that begin like earlier ones. 0: none.
  int64_t prefix_cache_bytes = int64_t{256} << 20;
  bool prefix_cache_for_all = false;  // else each caller has its own
  // What keys and values are kept in. Absent ("auto"): what models compute in.
  std::optional<model::KvType> kv_type;
  // Absent ("auto"): detectors by the CPU, others in float32.
  std::optional<quant::Compute> compute;
  Limits limits;
  // Addresses and networks that may say for whom they ask (x-forwarded-for) and
  // have no limits as a peer; see PeerSet. Empty: none.
  std::string trusted_proxies;
  // Names that requests of the metrics port may give as its host, with commas
  // between them, besides IP addresses and localhost; "*": any. Empty: any, but
  // on loopback without TLS none.
  std::string metrics_hosts;
  // Folders that calls may load models from, with commas between them; empty:
  // any. The models of the start are the operator's own and may lie anywhere.
  std::string model_roots;
  // What the Hugging Face cache lacks is downloaded when it is loaded.
  bool pull = false;
  // Below which calls may save models. Empty: they may save none.
  std::string save_root;
  // After SIGTERM: not ready, but serving.
  absl::Duration drain_delay = absl::ZeroDuration();
  // After that. With what follows it less than the 10 s that docker gives.
  absl::Duration drain = absl::Seconds(8);
  // At the start a model that can't be loaded does not end the server.
  bool keep_going = false;
  bool log_json = false;
  RequestLogMode request_log = RequestLogMode::kOff;
  Tracing tracing;
  std::string ports_file;  // empty: none

  // What flags and file set, but for models, as an ounce.v1.ServerConfig in
  // protobuf text format.
  std::string settings;

  // Not to serve, but to print this and end well (--help, --version).
  std::string print;
};

// Whether only this very machine reaches what listens at HOST:PORT.
bool IsLoopbackAddress(std::string_view address);

// Errors: kInvalidArgument with what was found and what was wanted, for the
//   terminal; kNotFound when the file of --config isn't there.
absl::StatusOr<Config> ReadConfig(int argc, const char* const* argv);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_CONFIG_H_
