// The program: flags, a server, signals, exit codes.
#include <spdlog/spdlog.h>

#include <cstdio>
#include <string>

#include "absl/time/time.h"
#include "base/status_macros.h"
#include "server/announce.h"
#include "server/config.h"
#include "server/log.h"
#include "server/process.h"
#include "server/server.h"
#include "server/stop_signal.h"

namespace ounce::server {
namespace {

// What a stop may take beyond its delay and the time for running requests.
constexpr absl::Duration kStopGrace = absl::Milliseconds(1500);

// Returns when a signal has stopped the server.
absl::Status Serve(const Config& config) {
  PortsFile ports(config.ports_file);
  ASSIGN_OR_RETURN(  // before any other thread
      const std::unique_ptr<StopSignal> stop,
      StopSignal::Create(config.drain_delay + config.drain + kStopGrace,
                         [&] { ports.Remove(); }));
  ASSIGN_OR_RETURN(const std::unique_ptr<Server> server, Server::Start(config));
  RETURN_IF_ERROR(ports.Prepare(server->addresses()));
  if (absl::Status loaded = server->LoadModels(); !loaded.ok()) {
    server->SendLastSpans();  // of the load that failed, too
    return loaded;
  }
  stop->Ready();
  RETURN_IF_ERROR(ports.Publish());
  stop->Wait();
  ports.Remove();
  server->Drain();
  stop->Answered();
  server->SendLastSpans();
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  SetUpProcess();
  SetUpLog(LogFormat::kText);
  const auto config = ReadConfig(argc, argv);
  if (!config.ok()) {
    std::fprintf(stderr, "ounce-server: %s\n",
                 std::string(config.status().message()).c_str());
    return kExitUsage;
  }
  if (!config->print.empty()) {
    const bool written = std::fputs(config->print.c_str(), stdout) >= 0 &&
                         std::fflush(stdout) == 0;
    if (!written) std::perror("ounce-server: cannot write to stdout");
    return written ? kExitStopped : kExitCannotServe;
  }
  SetUpLog(config->log_json ? LogFormat::kJson : LogFormat::kText);
  const absl::Status status = Serve(*config);
  if (!status.ok()) {
    spdlog::error("cannot serve: {}", std::string(status.message()));
    return kExitCannotServe;
  }
  spdlog::info("stopped");
  return kExitStopped;
}

}  // namespace
}  // namespace ounce::server

int main(int argc, char** argv) { return ounce::server::Main(argc, argv); }
