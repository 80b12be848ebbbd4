#include "model/saver/safetensors_files.h"

#include <algorithm>
#include <bit>
#include <map>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "quant/float_rows.h"

namespace ounce::model {
namespace {

using nlohmann::json;
using quant::DType;

constexpr int64_t kBandBytes = int64_t{4} << 20;

std::string_view SafetensorsName(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return "F64";
    case DType::kF32:
      return "F32";
    case DType::kF16:
      return "F16";
    case DType::kBF16:
      return "BF16";
    case DType::kI64:
      return "I64";
    case DType::kI32:
      return "I32";
    case DType::kI16:
      return "I16";
    case DType::kI8:
      return "I8";
    case DType::kBool:
      return "BOOL";
    case DType::kF8E4M3:
      return "F8_E4M3";
    default:
      return "U8";
  }
}

// One safetensors file.
struct Shard {
  std::string name;
  std::vector<const FileTensor*> tensors;  // as they lie
  int64_t data_bytes = 0;
  std::string header;  // with its length in front

  int64_t bytes() const {
    return static_cast<int64_t>(header.size()) + data_bytes;
  }
};

// Wide elements first, so that all are aligned; then by name.
bool LiesBefore(const FileTensor* a, const FileTensor* b) {
  const int a_size = quant::SizeOf(a->dtype), b_size = quant::SizeOf(b->dtype);
  return a_size != b_size ? a_size > b_size : a->name < b->name;
}

std::string HeaderOf(const Shard& shard) {
  json header = {{"__metadata__", {{"format", "pt"}}}};
  int64_t at = 0;
  for (const FileTensor* tensor : shard.tensors) {
    header[tensor->name] = {{"dtype", SafetensorsName(tensor->dtype)},
                            {"shape", tensor->shape},
                            {"data_offsets", {at, at + tensor->bytes()}}};
    at += tensor->bytes();
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  uint64_t length = text.size();
  std::string bytes(sizeof length, '\0');
  for (char& byte : bytes) {
    byte = static_cast<char>(length & 0xff);
    length >>= 8;
  }
  return bytes + text;
}

// All shards are open while they are written, so there are at most kMostShards:
// two neighbours together are over the limit.
int64_t LeastShard(const std::map<std::string, const FileTensor*>& tensors) {
  constexpr int64_t kMostShards = 256;
  int64_t total = 0;
  for (const auto& [name, tensor] : tensors) total += tensor->bytes();
  return total / (kMostShards / 2) + 1;
}

class Files final : public WeightFiles {
 public:
  Files(std::vector<TensorGroup> groups, json config, int64_t max_shard_bytes)
      : groups_(std::move(groups)), config_(std::move(config)) {
    std::map<std::string, const FileTensor*> by_name;
    for (const TensorGroup& group : groups_) {
      for (const FileTensor& tensor : group.tensors) {
        by_name.emplace(tensor.name, &tensor);
      }
    }
    max_shard_bytes = std::max(max_shard_bytes, LeastShard(by_name));
    for (const auto& [name, tensor] : by_name) {
      if (shards_.empty() ||
          (shards_.back().data_bytes > 0 &&
           tensor->bytes() > max_shard_bytes - shards_.back().data_bytes)) {
        shards_.emplace_back();
      }
      shards_.back().tensors.push_back(tensor);
      shards_.back().data_bytes += tensor->bytes();
    }
    for (size_t i = 0; i < shards_.size(); ++i) {
      shards_[i].name = ShardName(i);
      std::sort(shards_[i].tensors.begin(), shards_[i].tensors.end(),
                LiesBefore);
      shards_[i].header = HeaderOf(shards_[i]);
    }
  }

  int64_t bytes() const override {
    int64_t bytes = 0;
    for (const Shard& shard : shards_) bytes += shard.bytes();
    return bytes;
  }

  std::optional<json> config() const override { return config_; }

  absl::Status Write(NewFolder& folder,
                     const SavedTensorDone& done) const override {
    std::vector<std::unique_ptr<NewFile>> files;
    std::map<std::string, TensorSink> sinks;
    for (const Shard& shard : shards_) {
      ASSIGN_OR_RETURN(auto file, folder.Create(shard.name, shard.bytes()));
      auto at = static_cast<int64_t>(shard.header.size());
      RETURN_IF_ERROR(file->WriteAt(0, shard.header.data(), at));
      for (const FileTensor* tensor : shard.tensors) {
        sinks.emplace(tensor->name, TensorSink(file.get(), at));
        at += tensor->bytes();
      }
      files.push_back(std::move(file));
    }
    for (const TensorGroup& group : groups_) {
      std::vector<TensorSink> of_group;
      int64_t bytes = 0;
      for (const FileTensor& tensor : group.tensors) {
        of_group.push_back(sinks.at(tensor.name));
        bytes += tensor.bytes();
      }
      RETURN_IF_ERROR(group.write(absl::MakeSpan(of_group)));
      RETURN_IF_ERROR(done(group.weight, bytes));
    }
    for (const auto& file : files) RETURN_IF_ERROR(file->Finish());
    return shards_.size() == 1
               ? absl::OkStatus()
               : folder.Write("model.safetensors.index.json", Index());
  }

 private:
  std::string ShardName(size_t index) const {
    if (shards_.size() == 1) return "model.safetensors";
    const auto padded = [](size_t number) {
      const std::string digits = std::to_string(number);
      return std::string(digits.size() < 5 ? 5 - digits.size() : 0, '0') +
             digits;
    };
    return StrCat("model-", padded(index + 1), "-of-", padded(shards_.size()),
                  ".safetensors");
  }

  std::string Index() const {
    json index = {{"metadata", json::object()}, {"weight_map", json::object()}};
    int64_t total = 0;
    for (const Shard& shard : shards_) {
      total += shard.data_bytes;
      for (const FileTensor* tensor : shard.tensors) {
        index["weight_map"][tensor->name] = shard.name;
      }
    }
    index["metadata"]["total_size"] = total;
    return index.dump(2) + "\n";
  }

  const std::vector<TensorGroup> groups_;
  const json config_;
  std::vector<Shard> shards_;
};

absl::Status WriteVector(const ModelToSave& model,
                         const StoredTensorView& tensor, DType dtype,
                         TensorSink& sink) {
  const int64_t size = tensor.report->shape[0];
  std::vector<float> values(size);
  RETURN_IF_ERROR(
      model.checkpoint.ReadFloats(tensor.name(), 0, size, values.data()));
  std::vector<std::byte> bytes(size * quant::SizeOf(dtype));
  quant::FromFloat(dtype, values.data(), size, bytes.data());
  return sink.WriteAt(0, bytes.data(), static_cast<int64_t>(bytes.size()));
}

// Vectors are computed with as the checkpoint has them, whatever the plan
// counts them as.
DType FileDType(const StoredTensorView& tensor) {
  if (!tensor.report->is_vector) return *tensor.float_dtype();
  const DType dtype = tensor.report->counted->dtype;
  return dtype == DType::kF64 ? DType::kF32 : dtype;
}

// Of a band of rows, as columns of [cols, rows].
absl::Status WriteTransposed(const StoredTensorView& tensor, int64_t size,
                             const quant::CodeBand& band, TensorSink& sink) {
  const int64_t cols = tensor.cols(), row_bytes = band.rows * size;
  std::vector<std::byte> column(row_bytes);
  for (int64_t col = 0; col < cols; ++col) {
    for (int64_t row = 0; row < band.rows; ++row) {
      std::copy_n(band.elements.data() + (row * cols + col) * size, size,
                  column.data() + row * size);
    }
    RETURN_IF_ERROR(sink.WriteAt((col * tensor.rows() + band.first_row) * size,
                                 column.data(), row_bytes));
  }
  return absl::OkStatus();
}

}  // namespace

int64_t FileTensor::bytes() const {
  int64_t bytes = quant::SizeOf(dtype);
  for (const int64_t extent : shape) bytes *= extent;
  return bytes;
}

std::unique_ptr<const WeightFiles> SafetensorsFiles(
    std::vector<TensorGroup> groups, json config, int64_t max_shard_bytes) {
  return std::make_unique<const Files>(std::move(groups), std::move(config),
                                       max_shard_bytes);
}

TensorGroup FloatTensor(const ModelToSave& model,
                        const StoredTensorView& tensor) {
  const DType dtype = FileDType(tensor);
  TensorGroup group = {.weight = tensor.name(),
                       .tensors = {{.name = tensor.name(),
                                    .dtype = dtype,
                                    .shape = tensor.report->shape}}};
  group.write = [&model, tensor,
                 dtype](absl::Span<TensorSink> sinks) -> absl::Status {
    if (tensor.report->is_vector) {
      return WriteVector(model, tensor, dtype, sinks[0]);
    }
    const int64_t size = quant::SizeOf(dtype);
    return ForEachBand(model, tensor, [&](const quant::CodeBand& band) {
      return tensor.report->transposed
                 ? WriteTransposed(tensor, size, band, sinks[0])
                 : sinks[0].WriteAt(band.first_row * tensor.cols() * size,
                                    band.elements.data(),
                                    band.rows * tensor.cols() * size);
    });
  };
  return group;
}

absl::Status ForEachBand(
    const ModelToSave& model, const StoredTensorView& tensor,
    const std::function<absl::Status(const quant::CodeBand& band)>& take,
    int64_t rows) {
  ASSIGN_OR_RETURN(const auto codes, model.Open(tensor));
  const int64_t row_bytes = codes->cols() * codes->format().element_bytes();
  const int64_t at_once =
      std::max<int64_t>(1, kBandBytes / row_bytes / rows) * rows;
  quant::CodeBand band;
  for (int64_t first = 0; first < codes->rows(); first += at_once) {
    RETURN_IF_ERROR(
        codes->Read(first, std::min(at_once, codes->rows() - first), band));
    RETURN_IF_ERROR(take(band));
  }
  return absl::OkStatus();
}

TensorGroup SmallTensor(FileTensor tensor, std::string bytes) {
  TensorGroup group = {.weight = tensor.name, .tensors = {std::move(tensor)}};
  group.write = [bytes = std::move(bytes)](absl::Span<TensorSink> sinks) {
    return sinks[0].WriteAt(0, bytes.data(),
                            static_cast<int64_t>(bytes.size()));
  };
  return group;
}

}  // namespace ounce::model
