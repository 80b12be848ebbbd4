#include "server/engine/model_download.h"

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "base/byte_size.h"
#include "base/status_macros.h"
#include "hub/environment.h"
#include "hub/model_name.h"
#include "hub/pull.h"
#include "hub/whole_model.h"
#include "model/checkpoint/hub_cache.h"
#include "spdlog/spdlog.h"

namespace ounce::server {

absl::Status DownloadIfAbsent(const std::string& location,
                              const std::function<absl::Status()>& proceed) {
  const std::optional<hub::ModelName> name = hub::ParseModelName(location);
  if (!name.has_value()) return absl::OkStatus();
  const absl::StatusOr<std::string> found = model::FindModelFolder(location);
  if (found.ok() ? *found == location || hub::HoldsWholeModel(*found)
                 : !absl::IsNotFound(found.status())) {
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const hub::Environment environment, hub::ReadEnvironment());
  spdlog::info("{}: not {}in {}, downloading from {}", location,
               found.ok() ? "whole " : "", environment.cache,
               environment.endpoint);
  int64_t next_tenth = 1;
  const auto tell = [&](const hub::Progress& progress) {
    if (progress.bytes_done < progress.bytes / 10 * next_tenth) return;
    next_tenth = progress.bytes_done / (progress.bytes / 10 + 1) + 1;
    spdlog::info("{}: {} of {}", location, FormatByteSize(progress.bytes_done),
                 FormatByteSize(progress.bytes));
  };
  return hub::Pull(environment, {*name}, {proceed, nullptr}, tell).status();
}

}  // namespace ounce::server
