#include "server/announce.h"

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/byte_size.h"
#include "base/text_table.h"

namespace ounce::server {

void PrintStart(const std::string& version, const std::string& isa,
                const Config& config, const Addresses& addresses) {
  absl::PrintF("ounce-server %s, %d thread%s, %s, detectors in %s\n", version,
               config.threads, config.threads == 1 ? "" : "s", isa,
               quant::ComputeName(config.compute));
  absl::PrintF("listening inference %s\n", addresses.inference);
  absl::PrintF("listening admin %s\n", addresses.admin);
  absl::PrintF("listening metrics %s\n", addresses.metrics);
  for (const Config::Model& model : config.models) {
    absl::PrintF("loading %s from %s\n", model.name, model.path);
  }
  std::fflush(stdout);
}

void PrintModels(const std::vector<ModelInfo>& models) {
  TextTable table({"MODEL", "ARCHITECTURE", "ANSWERS", "METHOD", "COMPUTE",
                   "-PARAMETERS", "-CHECKPOINT", "-IN MEMORY", "-KV UP TO",
                   "-POSITIONS"});
  for (const ModelInfo& model : models) {
    const bool generates = CheckTask(model, Task::kGenerate).ok();
    table.Add(
        {model.name, model.architecture,
         generates ? "Generate" : "DetectObjects", model.method, model.compute,
         absl::StrFormat("%.2f M", static_cast<double>(model.parameters) / 1e6),
         FormatByteSize(model.checkpoint_bytes),
         FormatByteSize(model.resident_bytes),
         generates ? FormatByteSize(model.stats.kv_capacity_bytes) : "-",
         generates ? absl::StrCat(model.max_positions) : "-"});
  }
  absl::PrintF("%s", models.empty() ? "no models yet\n" : table.Text());
  absl::PrintF("serving\n");
  std::fflush(stdout);
}

absl::Status WritePorts(const std::string& path, const Addresses& addresses) {
  if (path.empty()) return absl::OkStatus();
  const std::string draft = path + ".part";
  std::ofstream out(draft, std::ios::trunc);
  // HOST:PORT needs no escapes: hosts with quotes can't be bound.
  out << absl::StrCat("{\"inference\": \"", addresses.inference,
                      "\", \"admin\": \"", addresses.admin,
                      "\", \"metrics\": \"", addresses.metrics, "\"}\n");
  out.close();
  std::error_code error;
  if (out.good()) std::filesystem::rename(draft, path, error);
  if (!out.good() || error) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--ports_file: a file that can be written wanted, '", path, "' found"));
  }
  return absl::OkStatus();
}

}  // namespace ounce::server
