#include "model/checkpoint/tensor_files.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "model/checkpoint/safetensors.h"
#include "model/checkpoint/torch_zip.h"
#include "model/files/json_file.h"

namespace ounce::model {
namespace {

using Parser = absl::StatusOr<TensorTable> (*)(const ByteSource&);

struct Form {
  const char* file;
  Parser parse;
};
constexpr Form kForms[] = {{"model.safetensors", ParseSafetensors},
                           {"pytorch_model.bin", ParseTorchZip}};

// Adds the tensors of one file but those that lie in another by the index.
absl::Status Merge(std::unique_ptr<const ByteSource> file, TensorTable&& table,
                   const std::map<std::string, std::string>& file_of,
                   const std::string& file_name, TensorFiles& all) {
  int64_t first_id = 0;
  for (const auto& [name, place] : all.tensors) {
    first_id = std::max(first_id, place.tensor.info.storage_id + 1);
  }
  for (auto& [name, tensor] : table) {
    const auto mapped = file_of.find(name);
    if (mapped != file_of.end() && mapped->second != file_name) continue;
    tensor.info.storage_id += first_id;
    const auto [known, is_new] = all.tensors.try_emplace(
        name, TensorFiles::Place{file.get(), std::move(tensor)});
    if (!is_new) {
      return TensorError(*file, name,
                         absl::StrCat("is in ", known->second.file->name(),
                                      " too, and the index does not say which "
                                      "of them counts: name one there"));
    }
  }
  all.files.push_back(std::move(file));
  return absl::OkStatus();
}

// `name` as a path inside its folder ("./a/b" is "a/b"); nothing if it may lead
// out of it.
std::optional<std::string> PathInside(const std::string& name) {
  if (name.find_first_of(std::string_view("\\\0", 2)) != std::string::npos) {
    return std::nullopt;
  }
  const std::filesystem::path path =
      std::filesystem::path(name).lexically_normal();
  if (path.empty() || path.is_absolute() || !path.has_filename() ||
      path == "." || *path.begin() == "..") {
    return std::nullopt;
  }
  return path.string();
}

// The index's weight_map: tensor -> file.
absl::StatusOr<std::map<std::string, std::string>> ReadIndex(
    const std::string& path) {
  ASSIGN_OR_RETURN(const nlohmann::json index, ReadJsonObject(path));
  const auto weight_map = index.find("weight_map");
  if (weight_map == index.end() || !weight_map->is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": no object 'weight_map'"));
  }
  std::map<std::string, std::string> file_of;
  for (const auto& [tensor, file] : weight_map->items()) {
    if (!file.is_string()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": the file of tensor ", Quoted(tensor),
                       " must be a name, is ", file.type_name()));
    }
    const auto& name = file.get_ref<const std::string&>();
    const std::optional<std::string> inside = PathInside(name);
    if (!inside.has_value()) {
      return absl::InvalidArgumentError(absl::StrCat(
          path, ": the file of tensor ", Quoted(tensor),
          " must lie in the same folder or below it, is ", Quoted(name)));
    }
    file_of.emplace(tensor, *inside);
  }
  return file_of;
}

absl::StatusOr<TensorFiles> OpenShards(const std::string& folder,
                                       const std::string& index_path,
                                       Parser parse, const Proceed& proceed) {
  TensorFiles all;
  ASSIGN_OR_RETURN(const auto file_of, ReadIndex(index_path));
  std::set<std::string> names;
  for (const auto& [tensor, file] : file_of) names.insert(file);
  for (const std::string& name : names) {
    absl::StatusOr<std::unique_ptr<ByteSource>> file =
        OpenFile(absl::StrCat(folder, "/", name), proceed);
    if (absl::IsNotFound(file.status())) {
      return absl::NotFoundError(absl::StrCat(
          index_path, ": ", file.status().message(),
          "; the index names this file: download the missing shards"));
    }
    if (!file.ok()) return WithContext(file.status(), index_path);
    ASSIGN_OR_RETURN(TensorTable table, parse(**file));
    RETURN_IF_ERROR(
        Merge(*std::move(file), std::move(table), file_of, name, all));
  }
  for (const auto& [tensor, file] : file_of) {
    if (!all.tensors.contains(tensor)) all.lacking.emplace(tensor, file);
  }
  return all;
}

// All .safetensors files of a folder, as quantizing tools name them
// (output.safetensors, gptq_model-4bit-128g.safetensors).
absl::StatusOr<TensorFiles> OpenOtherSafetensors(const std::string& folder,
                                                 const Proceed& proceed) {
  std::set<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end;
       !error && it != end; it.increment(error)) {
    if (it->path().extension() == ".safetensors") {
      names.insert(it->path().string());
    }
  }
  if (error) {
    return absl::DataLossError(absl::StrCat(folder, ": ", error.message()));
  }
  TensorFiles all;
  for (const std::string& name : names) {
    ASSIGN_OR_RETURN(auto file, OpenFile(name, proceed));
    ASSIGN_OR_RETURN(TensorTable table, ParseSafetensors(*file));
    RETURN_IF_ERROR(Merge(std::move(file), std::move(table), {}, name, all));
  }
  return all;
}

}  // namespace

absl::StatusOr<const TensorFiles::Place*> TensorFiles::Find(
    const std::string& name) const {
  const auto found = tensors.find(name);
  if (found == tensors.end()) {
    return absl::NotFoundError(absl::StrCat("no tensor ", Quoted(name)));
  }
  return &found->second;
}

absl::Status TensorFiles::ReadElements(const std::string& name, int64_t first,
                                       int64_t count, void* out) const {
  ASSIGN_OR_RETURN(const Place* place, Find(name));
  return ReadStoredElements(*place->file, name, place->tensor, first, count,
                            out);
}

absl::Status TensorFiles::ReadFloats(const std::string& name, int64_t first,
                                     int64_t count, float* out) const {
  ASSIGN_OR_RETURN(const Place* place, Find(name));
  return ReadStoredFloats(*place->file, name, place->tensor, first, count, out);
}

absl::StatusOr<TensorFiles> OpenTensorFiles(const std::string& folder,
                                            const Proceed& proceed) {
  for (const Form& form : kForms) {
    const std::string path = absl::StrCat(folder, "/", form.file);
    absl::StatusOr<std::unique_ptr<ByteSource>> file = OpenFile(path, proceed);
    if (file.ok()) {
      TensorFiles all;
      ASSIGN_OR_RETURN(TensorTable table, form.parse(**file));
      RETURN_IF_ERROR(Merge(*std::move(file), std::move(table), {}, path, all));
      return all;
    }
    if (!absl::IsNotFound(file.status())) return file.status();

    const std::string index = absl::StrCat(path, ".index.json");
    if (std::error_code ignored; std::filesystem::exists(index, ignored)) {
      return OpenShards(folder, index, form.parse, proceed);
    }
  }
  ASSIGN_OR_RETURN(TensorFiles others, OpenOtherSafetensors(folder, proceed));
  if (!others.files.empty()) return others;
  return absl::NotFoundError(
      absl::StrCat(folder,
                   ": no model.safetensors, model.safetensors.index.json, "
                   "pytorch_model.bin or pytorch_model.bin.index.json, and no "
                   "other file that ends in .safetensors; a GGUF file is "
                   "served by its own name"));
}

}  // namespace ounce::model
