// GGUF, for llama.cpp and what reads its files: floats and the block types that
// methods make, of architectures that have a name there.
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/checkpoint/gguf_architectures.h"
#include "model/files/byte_source.h"
#include "model/files/gguf_file.h"
#include "model/saver/gguf_files.h"
#include "model/saver/gguf_network.h"
#include "model/saver/gguf_rows.h"
#include "model/saver/save_format.h"
#include "model/tokenizer/gguf_tokenizer_keys.h"

namespace ounce::model {
namespace {

using nlohmann::json;

constexpr char kEmbedding[] = "token_embd.weight";
constexpr char kHead[] = "output.weight";

class Gguf final : public SaveFormat {
 public:
  std::string_view name() const override { return "gguf"; }
  std::string_view summary() const override {
    return "One GGUF file with the tokenizer inside, for llama.cpp and its "
           "kin; of architectures that it knows, in floats and gguf-* "
           "methods.";
  }

  absl::StatusOr<std::unique_ptr<const WeightFiles>> LayOut(
      const ModelToSave& model) const override {
    const json& config = model.checkpoint.config();
    const std::string model_type = config.value("model_type", "");
    const GgufArchitecture* architecture = FindGgufArchitectureOf(model_type);
    if (architecture == nullptr) {
      return CannotHold(StrCat("a model of type '", model_type, "': it holds ",
                               GgufArchitectureNames()));
    }
    std::map<std::string, GgufWeight> weights;  // by the file's names
    std::map<int, int64_t> bytes_of_types;
    for (const StoredTensorView& tensor : model.tensors) {
      int file_type = 0;
      ASSIGN_OR_RETURN(GgufWeight weight,
                       WeightOf(model, *architecture, tensor, file_type));
      bytes_of_types[file_type] += tensor.report->is_vector ? 0 : weight.bytes;
      weights.emplace(weight.tensor.name, std::move(weight));
    }
    RETURN_IF_ERROR(CheckHead(*architecture, weights));
    std::map<std::string, int64_t> rows;
    for (const auto& [name, weight] : weights) {
      rows[name] = weight.tensor.shape[0];
    }
    auto network = GgufNetworkOf(model.checkpoint, *architecture, rows);
    if (!network.ok()) {
      return CannotHold(
          StrCat("this ", model_type, ": ", network.status().message()));
    }
    if (!network->rope_factors.empty()) {
      AddFactors(network->rope_factors, weights);
    }
    json& metadata = network->metadata;
    RETURN_IF_ERROR(
        AddTokenizer(model, *architecture, rows.at(kEmbedding), metadata));
    AddGeneral(model, bytes_of_types, metadata);
    std::vector<GgufWeight> in_order;
    for (auto& [name, weight] : weights) in_order.push_back(std::move(weight));
    return GgufFiles(metadata, std::move(in_order));
  }

 private:
  absl::Status CannotHold(const std::string& what) const {
    return absl::FailedPreconditionError(
        StrCat("format '", name(), "' cannot hold ", what,
               "; name another format, or none, for the first that can"));
  }

  absl::StatusOr<GgufWeight> WeightOf(const ModelToSave& model,
                                      const GgufArchitecture& architecture,
                                      const StoredTensorView& tensor,
                                      int& file_type) const {
    const std::optional<GgufTensorName> name =
        GgufNameOf(architecture, tensor.name());
    if (!name.has_value()) {
      return model.CannotHold(
          this->name(), tensor,
          StrCat(architecture.name, " has no name for it in GGUF"));
    }
    ASSIGN_OR_RETURN(const GgufRowOrder order, OrderOf(model, tensor, *name));
    GgufWeight weight = {
        .weight = tensor.name(), .tensor = {.name = name->name}, .write = {}};
    if (tensor.report->is_vector) {
      weight.tensor.shape = {order.rows};
      weight.bytes = order.rows * static_cast<int64_t>(sizeof(float));
      weight.write = [&model, tensor, order](TensorSink& sink) {
        return WriteGgufVector(model, tensor, order, sink);
      };
      return weight;
    }
    const std::optional<GgufRowType> type = GgufRowTypeOf(tensor);
    if (!type.has_value()) {
      return model.CannotHold(this->name(), tensor,
                              "these are no codes of a gguf-* method");
    }
    if (tensor.report->stored_as->activations != 16) {
      return model.CannotHold(this->name(), tensor,
                              "no file says that inputs are rounded to 8 bits");
    }
    file_type = type->file_type;
    weight.tensor.type = type->id;
    weight.tensor.shape = {tensor.rows(), tensor.cols()};
    weight.bytes = tensor.rows() * type->Bytes(tensor.cols());
    weight.write = [&model, tensor, type = *type, order](TensorSink& sink) {
      return WriteGgufMatrix(model, tensor, type, order, sink);
    };
    return weight;
  }

  absl::StatusOr<GgufRowOrder> OrderOf(const ModelToSave& model,
                                       const StoredTensorView& tensor,
                                       const GgufTensorName& name) const {
    GgufRowOrder order = {.change = name.change,
                          .rows = tensor.report->is_vector
                                      ? tensor.report->shape[0]
                                      : tensor.rows()};
    if (order.is_same()) return order;
    ASSIGN_OR_RETURN(order.heads,
                     GgufHeads(name.change, model.checkpoint.config()));
    const int64_t of_each = name.change == GgufChange::kHeadsJoined ? 3 : 2;
    if (order.rows % (order.heads * of_each) != 0) {
      return model.CannotHold(
          this->name(), tensor,
          StrCat("its ", order.rows, " rows are not ", of_each, " for each of ",
                 order.heads, " heads"));
    }
    return order;
  }

  absl::Status CheckHead(
      const GgufArchitecture& architecture,
      const std::map<std::string, GgufWeight>& weights) const {
    if (!weights.contains(kEmbedding)) {
      return CannotHold("a model that stores no embedding");
    }
    const bool has_head = weights.contains(kHead);
    if (architecture.head == GgufHead::kOwn && !has_head) {
      return CannotHold(StrCat(
          "this model, whose head is its embedding: a ", architecture.name,
          " has one of its own, which a rule for the head with untie=true "
          "makes"));
    }
    if (architecture.head == GgufHead::kTied && has_head) {
      return CannotHold(
          StrCat("this model, whose head is not its embedding, "
                 "as that of each ",
                 architecture.name, " is"));
    }
    return absl::OkStatus();
  }

  static void AddFactors(const std::vector<float>& factors,
                         std::map<std::string, GgufWeight>& weights) {
    const auto bytes = static_cast<int64_t>(factors.size() * sizeof(float));
    GgufWeight weight;
    weight.weight = weight.tensor.name = kGgufRopeFactors;
    weight.tensor.shape = {static_cast<int64_t>(factors.size())};
    weight.bytes = bytes;
    weight.write = [factors, bytes](TensorSink& sink) {
      return sink.WriteAt(0, factors.data(), bytes);
    };
    weights.emplace(kGgufRopeFactors, std::move(weight));
  }

  absl::Status AddTokenizer(const ModelToSave& model,
                            const GgufArchitecture& architecture,
                            int64_t vocab_size, json& metadata) const {
    metadata[StrCat(architecture.name, ".vocab_size")] =
        static_cast<uint64_t>(vocab_size);
    const std::string& folder = model.checkpoint.folder();
    absl::StatusOr<json> keys =
        IsGgufFile(folder) ? CopiedKeys(folder)
                           : GgufTokenizerKeys(folder, vocab_size,
                                               architecture.name == "gemma");
    if (!keys.ok()) {
      return CannotHold(StrCat("this model: ", keys.status().message()));
    }
    constexpr char kEnd[] = "tokenizer.ggml.eos_token_id";
    if (keys->contains(kEnd) && metadata.contains(kEnd) &&
        (*keys)[kEnd] != metadata[kEnd]) {
      return CannotHold(
          "this model: its tokenizer ends texts with another token than those "
          "that end a generation");
    }
    metadata.update(*keys);
    return absl::OkStatus();
  }

  // Of a file that has a tokenizer, all that it says of it.
  static absl::StatusOr<json> CopiedKeys(const std::string& path) {
    constexpr std::string_view kPrefix = "tokenizer.";
    const auto is_wanted = [&](std::string_view key) {
      return key.starts_with(kPrefix);
    };
    ASSIGN_OR_RETURN(const auto file, OpenFile(path));
    ASSIGN_OR_RETURN(const GgufFile gguf, ReadGguf(*file, is_wanted));
    json keys = json::object();
    for (const auto& [key, value] : gguf.metadata.items()) {
      if (is_wanted(key) && !(value.is_array() && value.empty())) {
        keys[key] = value;
      }
    }
    return keys;
  }

  static void AddGeneral(const ModelToSave& model,
                         const std::map<int, int64_t>& bytes_of_types,
                         json& metadata) {
    int most = 0;
    int64_t least = 0;
    for (const auto& [type, bytes] : bytes_of_types) {
      if (bytes <= least) continue;
      most = type;
      least = bytes;
    }
    metadata["general.file_type"] = static_cast<uint64_t>(most);
    metadata["general.quantization_version"] = uint64_t{2};
    metadata["general.alignment"] = static_cast<uint64_t>(kGgufAlignment);
    if (!model.name.empty()) metadata["general.name"] = model.name;
  }
};

}  // namespace

const SaveFormat& GgufSaveFormat() {
  static const Gguf format;
  return format;
}

}  // namespace ounce::model
