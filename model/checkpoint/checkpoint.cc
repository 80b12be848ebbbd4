#include "model/checkpoint/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "model/checkpoint/gguf_checkpoint.h"
#include "model/checkpoint/hub_cache.h"
#include "model/checkpoint/quantized_format.h"
#include "model/checkpoint/tensor_files.h"
#include "model/files/gguf_file.h"
#include "model/files/json_file.h"

namespace ounce::model {
namespace {

using nlohmann::json;

// The one GGUF model that lies in a folder, by its first file; empty if there
// is none. Errors: kInvalidArgument for several.
absl::StatusOr<std::string> OnlyGgufIn(const std::string& folder) {
  std::string only;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end;
       !error && it != end; it.increment(error)) {
    const std::string path = it->path().string();
    const std::string name = it->path().filename().string();
    const size_t part = name.rfind("-of-");
    const bool is_later =
        part != std::string::npos && part >= 6 &&
        name.compare(part - 6, 6, "-00001") != 0 &&
        name.find_first_not_of("0123456789", part - 5) == part;
    if (!IsGgufFile(path) || is_later) continue;
    if (!only.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat(folder, ": has no config.json but several GGUF files, ",
                       only, " and ", path, "; name one of them"));
    }
    only = path;
  }
  return only;
}

class FolderCheckpoint : public Checkpoint {
 public:
  FolderCheckpoint(std::string folder, json config, json generation_config,
                   TensorFiles files)
      : folder_(std::move(folder)),
        config_(std::move(config)),
        generation_config_(std::move(generation_config)),
        files_(std::move(files)) {}

  // Before all else.
  absl::Status ListTensors() {
    ASSIGN_OR_RETURN(CodedTensors coded,
                     FindCodedTensors(folder_, config_, files_));
    int64_t next_id = 0;
    for (const auto& [name, place] : files_.tensors) {
      next_id = std::max(next_id, place.tensor.info.storage_id + 1);
      if (!coded.parts.contains(name)) {
        tensors_.emplace(name, place.tensor.info);
      }
    }
    for (auto& [name, info] : coded.weights) {
      info.storage_id = next_id++;
      if (!tensors_.try_emplace(name, std::move(info)).second) {
        return absl::InvalidArgumentError(absl::StrCat(
            folder_, ": tensor ", Quoted(name),
            " is there both as floats and in codes; remove one of them"));
      }
    }
    return absl::OkStatus();
  }

  const std::string& folder() const override { return folder_; }
  std::vector<std::string> files() const override {
    std::vector<std::string> paths;
    for (const auto& file : files_.files) paths.push_back(file->name());
    return paths;
  }
  const json& config() const override { return config_; }
  const json& generation_config() const override { return generation_config_; }
  const std::map<std::string, TensorInfo>& tensors() const override {
    return tensors_;
  }
  std::map<std::string, std::string> lacking() const override {
    return files_.lacking;
  }

  absl::Status ReadFloats(const std::string& name, int64_t first, int64_t count,
                          float* out) const override {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) {
      return absl::NotFoundError(
          absl::StrCat(folder_, ": no tensor ", Quoted(name)));
    }
    return found->second.coded != nullptr
               ? ReadCodedFloats(name, found->second, first, count, out)
               : files_.ReadFloats(name, first, count, out);
  }

 private:
  const std::string folder_;
  const json config_;
  const json generation_config_;
  const TensorFiles files_;
  std::map<std::string, TensorInfo> tensors_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> Checkpoint::Open(
    std::string_view location, const std::function<absl::Status()>& proceed) {
  ASSIGN_OR_RETURN(const std::string folder, FindModelFolder(location));
  const OpenByPath open = [&](const std::string& path) {
    return OpenFile(path, proceed);
  };
  if (IsGgufFile(folder)) return OpenGguf(folder, open);
  absl::StatusOr<json> config =
      ReadJsonObject(absl::StrCat(folder, "/config.json"));
  const std::string adapter = folder + "/adapter_config.json";
  if (std::error_code ignored; absl::IsNotFound(config.status()) &&
                               std::filesystem::exists(adapter, ignored)) {
    return absl::UnimplementedError(absl::StrCat(
        folder,
        ": is a PEFT adapter, not a model; merge it into its base model and "
        "save that, in Python: "
        "model.merge_and_unload().save_pretrained(path)"));
  }
  if (absl::IsNotFound(config.status())) {
    ASSIGN_OR_RETURN(const std::string gguf, OnlyGgufIn(folder));
    if (!gguf.empty()) return OpenGguf(gguf, open);
  }
  RETURN_IF_ERROR(config.status());
  absl::StatusOr<json> generation_config =
      ReadJsonObject(absl::StrCat(folder, "/generation_config.json"));
  if (absl::IsNotFound(generation_config.status())) {
    generation_config = json(nullptr);
  }
  RETURN_IF_ERROR(generation_config.status());
  ASSIGN_OR_RETURN(TensorFiles files, OpenTensorFiles(folder, proceed));
  auto checkpoint = std::make_unique<FolderCheckpoint>(
      folder, *std::move(config), *std::move(generation_config),
      std::move(files));
  RETURN_IF_ERROR(checkpoint->ListTensors());
  return checkpoint;
}

}  // namespace ounce::model
