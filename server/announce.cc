#include "server/announce.h"

#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/byte_size.h"
#include "server/log.h"

namespace ounce::server {
namespace {

absl::Status PortsFileError(const std::string& path, const std::string& why) {
  return absl::FailedPreconditionError(
      absl::StrCat("--ports_file '", path, "': ", why));
}

}  // namespace

void AnnounceStart(const std::string& version, const std::string& isa,
                   const Config& config, const Addresses& addresses) {
  Announce(absl::StrFormat(
      "ounce-server %s, %d compute thread%s, %s, "
      "detectors in %s",
      version, config.threads, config.threads == 1 ? "" : "s", isa,
      quant::ComputeName(config.compute.value_or(quant::FasterCompute()))));
  Announce(absl::StrCat("listening inference ", addresses.inference));
  Announce(absl::StrCat("listening admin ", addresses.admin));
  Announce(absl::StrCat("listening metrics ", addresses.metrics));
  for (const Config::Model& model : config.models) {
    Announce(absl::StrCat("loading ", model.name, " from ", model.path));
  }
}

void AnnounceModels(const std::vector<ModelInfo>& models) {
  if (std::none_of(models.begin(), models.end(), [](const ModelInfo& model) {
        return Serves(model.state);
      })) {
    spdlog::warn(
        "no model is served: name one with --model, --config or `ounce load`");
  }
  for (const ModelInfo& model : models) {
    if (!Serves(model.state)) continue;
    const bool generates = CheckTask(model, Task::kGenerate).ok();
    std::string line = absl::StrFormat(
        "serving %s: %s, %s, %s as %s, computed in %s, %.2f M parameters, %s "
        "of memory",
        model.name, model.architecture,
        generates ? "Generate" : "DetectObjects",
        FormatByteSize(model.stored_bytes), model.method, model.compute,
        static_cast<double>(model.parameters) / 1e6,
        FormatByteSize(model.resident_bytes));
    if (generates) {
      absl::StrAppend(&line, ", KV cache up to ",
                      FormatByteSize(model.stats.kv_capacity_bytes), " in ",
                      model.kv_cache_dtype, ", ", model.max_positions,
                      " positions");
    }
    Announce(line);
  }
  Announce("ready");
}

absl::Status PortsFile::Prepare(const Addresses& addresses) {
  if (path_.empty()) return absl::OkStatus();
  struct stat status = {};
  const bool exists = lstat(path_.c_str(), &status) == 0;
  if (exists && S_ISLNK(status.st_mode) && stat(path_.c_str(), &status) != 0) {
    return PortsFileError(path_, "is a link that leads nowhere");
  }
  if (exists && !S_ISREG(status.st_mode)) {
    return PortsFileError(
        path_, S_ISDIR(status.st_mode) ? "is a folder" : "is no regular file");
  }
  errno = 0;
  std::ofstream out(Draft(), std::ios::trunc);
  // HOST:PORT needs no escapes: hosts with quotes can't be bound.
  out << absl::StrCat("{\"inference\": \"", addresses.inference,
                      "\", \"admin\": \"", addresses.admin,
                      "\", \"metrics\": \"", addresses.metrics, "\"}\n");
  out.close();
  if (!out.good() || (exists && unlink(path_.c_str()) != 0)) {
    const std::string why = std::strerror(errno);
    unlink(Draft().c_str());
    return PortsFileError(path_, why);
  }
  prepared_ = true;
  return absl::OkStatus();
}

absl::Status PortsFile::Publish() {
  if (path_.empty()) return absl::OkStatus();
  if (rename(Draft().c_str(), path_.c_str()) == 0) return absl::OkStatus();
  return PortsFileError(path_, std::strerror(errno));
}

void PortsFile::Remove() {
  if (!prepared_.exchange(false)) return;
  unlink(Draft().c_str());
  unlink(path_.c_str());
}

}  // namespace ounce::server
