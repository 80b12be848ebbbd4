#include "model/checkpoint/checkpoint.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "model/checkpoint/hub_cache.h"
#include "model/checkpoint/tensor_files.h"
#include "model/files/json_file.h"

namespace ounce::model {
namespace {

using nlohmann::json;

class FolderCheckpoint : public Checkpoint {
 public:
  FolderCheckpoint(std::string folder, json config, json generation_config,
                   TensorFiles files)
      : folder_(std::move(folder)),
        config_(std::move(config)),
        generation_config_(std::move(generation_config)),
        files_(std::move(files)) {
    for (const auto& [name, place] : files_.tensors) {
      tensors_.emplace(name, place.tensor.info);
    }
  }

  const std::string& folder() const override { return folder_; }
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
    const auto found = files_.tensors.find(name);
    if (found == files_.tensors.end()) {
      return absl::NotFoundError(
          absl::StrCat(folder_, ": no tensor ", Quoted(name)));
    }
    const TensorFiles::Place& place = found->second;
    return ReadStoredFloats(*place.file, name, place.tensor, first, count, out);
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
  RETURN_IF_ERROR(config.status());
  absl::StatusOr<json> generation_config =
      ReadJsonObject(absl::StrCat(folder, "/generation_config.json"));
  if (absl::IsNotFound(generation_config.status())) {
    generation_config = json(nullptr);
  }
  RETURN_IF_ERROR(generation_config.status());
  ASSIGN_OR_RETURN(TensorFiles files, OpenTensorFiles(folder, proceed));
  return std::make_unique<FolderCheckpoint>(folder, *std::move(config),
                                            *std::move(generation_config),
                                            std::move(files));
}

}  // namespace ounce::model
