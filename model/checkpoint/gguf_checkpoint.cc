#include "model/checkpoint/gguf_checkpoint.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/checkpoint/coded_tensor.h"
#include "model/checkpoint/gguf_architectures.h"
#include "model/checkpoint/gguf_blocks.h"
#include "model/checkpoint/gguf_config.h"
#include "model/checkpoint/stored_tensor.h"
#include "model/files/gguf_file.h"
#include "model/files/json_fields.h"
#include "quant/registry.h"

namespace ounce::model {
namespace {

using nlohmann::json;
using quant::CodeBand;
using quant::CodeFormat;
using quant::DType;
using Change = GgufChange;

constexpr uint32_t kF32 = 0, kF16 = 1, kBF16 = 30;

// What a row of a tensor is made of.
struct RowType {
  const GgufBlockType* block = nullptr;  // null: floats
  DType dtype = DType::kF32;             // of floats

  // Of a row; requires whole blocks.
  int64_t Bytes(int64_t cols) const {
    return block != nullptr ? cols / block->cols * block->bytes
                            : cols * quant::SizeOf(dtype);
  }
};

// Which arrays may matter: a tokenizer's are large, and not the network's.
bool IsOfNetwork(std::string_view key) {
  return !key.starts_with("tokenizer.");
}

std::optional<RowType> RowTypeOf(uint32_t type) {
  switch (type) {
    case kF32:
      return RowType{};
    case kF16:
      return RowType{nullptr, DType::kF16};
    case kBF16:
      return RowType{nullptr, DType::kBF16};
    default:
      break;
  }
  const GgufBlockType* block = FindGgufBlockType(type);
  if (block == nullptr) return std::nullopt;
  return RowType{block};
}

// A tensor of Hugging Face's, and where it lies. Rows of one axis are elements.
struct Place {
  const ByteSource* file = nullptr;
  int64_t offset = 0;  // of row 0 of the file's tensor
  RowType type;
  int64_t rows = 0;
  int64_t cols = 1;
  int64_t first_row = 0;  // in the file's tensor
  Change change = Change::kNone;
  int64_t heads = 1;

  // The row of the file that is row `row` here.
  int64_t FileRow(int64_t row) const {
    return first_row + GgufRow(change, rows, heads, row);
  }
};

class GgufRows final : public quant::CodeRows {
 public:
  GgufRows(std::string name, const Place& place, CodeFormat format)
      : name_(std::move(name)), place_(place), format_(std::move(format)) {}

  const std::string& name() const override { return name_; }
  int64_t rows() const override { return place_.rows; }
  int64_t cols() const override { return place_.cols; }
  const CodeFormat& format() const override { return format_; }

  absl::Status Read(int64_t first, int64_t count,
                    CodeBand& out) const override {
    out.first_row = first;
    out.rows = count;
    out.elements.resize(count * cols() * format_.element_bytes());
    out.fields.resize(format_.fields.size());
    for (size_t i = 0; i < out.fields.size(); ++i) {
      const int64_t per_row = cols() / format_.fields[i].reach.cols;
      out.fields[i].first = first * per_row;
      out.fields[i].values.resize(count * per_row);
    }
    RETURN_IF_ERROR(place_.file->CheckProceed());
    std::vector<uint8_t> bytes(place_.type.Bytes(cols()));
    for (int64_t row = first; row < first + count; ++row) {
      RETURN_IF_ERROR(place_.file->Read(
          place_.offset +
              place_.FileRow(row) * static_cast<int64_t>(bytes.size()),
          static_cast<int64_t>(bytes.size()), bytes.data()));
      if (place_.type.block == nullptr) {
        std::copy_n(reinterpret_cast<const std::byte*>(bytes.data()),
                    bytes.size(),
                    out.elements.data() +
                        (row - first) * static_cast<int64_t>(bytes.size()));
        continue;
      }
      RETURN_IF_ERROR(Unpack(bytes, row, out));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Unpack(const std::vector<uint8_t>& bytes, int64_t row,
                      CodeBand& out) const {
    const GgufBlockType& block = *place_.type.block;
    const int64_t local = row - out.first_row;
    auto* codes =
        reinterpret_cast<uint8_t*>(out.elements.data()) + local * cols();
    std::vector<float*> fields(out.fields.size());
    for (int64_t col = 0; col < cols(); col += block.cols) {
      for (size_t i = 0; i < fields.size(); ++i) {
        const int64_t reach = format_.fields[i].reach.cols;
        fields[i] =
            out.fields[i].values.data() + (local * cols() + col) / reach;
      }
      block.unpack(bytes.data() + col / block.cols * block.bytes,
                   {codes + col, fields.data()});
      for (size_t i = 0; i < fields.size(); ++i) {
        if (std::isfinite(fields[i][0])) continue;
        return absl::InvalidArgumentError(
            StrCat(place_.file->name(), ": tensor ", Quoted(name_), ", row ",
                   row, ", block of column ", col, ": ", format_.fields[i].name,
                   " must be a finite number, is ", fields[i][0]));
      }
    }
    return absl::OkStatus();
  }

  const std::string name_;
  const Place place_;
  const CodeFormat format_;
};

// "blk.12.attn_q.weight" as its parts: "blk.#.attn_q", "12", ".weight".
struct SplitName {
  std::string module;
  std::string block;
  std::string suffix;
};
SplitName Split(const std::string& name) {
  SplitName split;
  const size_t dot = name.rfind('.');
  split.module = name.substr(0, dot);
  if (dot != std::string::npos) split.suffix = name.substr(dot);
  constexpr std::string_view kBlock = "blk.";
  if (!split.module.starts_with(kBlock)) return split;
  const size_t end = split.module.find('.', kBlock.size());
  if (end == std::string::npos) return split;
  split.block = split.module.substr(kBlock.size(), end - kBlock.size());
  split.module = StrCat(kBlock, "#", split.module.substr(end));
  return split;
}

std::string WithBlock(std::string_view name, const std::string& block) {
  std::string text(name);
  const size_t place = text.find('#');
  if (place != std::string::npos) text.replace(place, 1, block);
  return text;
}

class GgufCheckpoint final : public Checkpoint {
 public:
  explicit GgufCheckpoint(std::string path) : path_(std::move(path)) {}

  absl::Status Open(const OpenByPath& open) {
    ASSIGN_OR_RETURN(GgufFile first, OpenOne(path_, open));
    RETURN_IF_ERROR(OpenOthers(first, open));
    const auto describe = [&]() -> absl::Status {
      ASSIGN_OR_RETURN(architecture_, FindGgufArchitecture(first.metadata));
      ASSIGN_OR_RETURN(config_, GgufConfig(*architecture_, first.metadata));
      return CompleteConfig();
    };
    RETURN_IF_ERROR(WithContext(describe(), path_));
    for (const auto& [name, stored] : stored_) {
      RETURN_IF_ERROR(AddTensor(name, stored));
    }
    return absl::OkStatus();
  }

  const std::string& folder() const override { return path_; }
  std::string config_name() const override { return path_; }
  std::vector<std::string> files() const override {
    std::vector<std::string> paths;
    for (const auto& file : files_) paths.push_back(file->name());
    return paths;
  }
  const json& config() const override { return config_; }
  const json& generation_config() const override { return generation_config_; }
  const std::map<std::string, TensorInfo>& tensors() const override {
    return tensors_;
  }

  absl::Status ReadFloats(const std::string& name, int64_t first, int64_t count,
                          float* out) const override {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) {
      return absl::NotFoundError(StrCat(path_, ": no tensor ", Quoted(name)));
    }
    const TensorInfo& info = found->second;
    if (info.coded != nullptr) {
      return ReadCodedFloats(name, info, first, count, out);
    }
    const Place& place = vectors_.at(name);
    if (first < 0 || count < 0 || first > place.rows ||
        count > place.rows - first) {
      return absl::InvalidArgumentError(
          StrCat(path_, ": tensor ", Quoted(name), ": has ", place.rows,
                 " elements: too few to read ", count, " from ", first));
    }
    RETURN_IF_ERROR(place.file->CheckProceed());
    const int size = quant::SizeOf(place.type.dtype);
    for (int64_t i = first; i < first + count; ++i, ++out) {
      uint8_t bytes[4];
      RETURN_IF_ERROR(place.file->Read(place.offset + place.FileRow(i) * size,
                                       size, bytes));
      quant::ToFloat(place.type.dtype, bytes, 1, out);
      if (place.change == Change::kPlusOne) *out -= 1;
    }
    return absl::OkStatus();
  }

 private:
  struct Stored {
    const ByteSource* file;
    GgufTensor tensor;
  };

  // Reads what is in front of a file's data, and takes its tensors.
  absl::StatusOr<GgufFile> OpenOne(const std::string& path,
                                   const OpenByPath& open) {
    ASSIGN_OR_RETURN(std::unique_ptr<ByteSource> file, open(path));
    ASSIGN_OR_RETURN(GgufFile gguf, ReadGguf(*file, IsOfNetwork));
    struct Extent {
      int64_t begin, end;
      const std::string* name;
    };
    std::vector<Extent> extents;
    for (const auto& [name, tensor] : gguf.tensors) {
      ASSIGN_OR_RETURN(const int64_t bytes, BytesOf(*file, name, tensor));
      if (bytes > file->size() - tensor.offset) {
        return TensorError(
            *file, name,
            StrCat("has ", bytes, " bytes from byte ", tensor.offset,
                   " on, of a file of ", file->size(),
                   ": the file is too short; download it again"));
      }
      extents.push_back({tensor.offset, tensor.offset + bytes, &name});
      if (!stored_.try_emplace(name, Stored{file.get(), tensor}).second) {
        return TensorError(*file, name, "is in another file of the split too");
      }
    }
    std::sort(
        extents.begin(), extents.end(),
        [](const Extent& a, const Extent& b) { return a.begin < b.begin; });
    for (size_t i = 1; i < extents.size(); ++i) {
      if (extents[i].begin >= extents[i - 1].end) continue;
      return TensorError(*file, *extents[i].name,
                         StrCat("overlaps ", Quoted(*extents[i - 1].name)));
    }
    files_.push_back(std::move(file));
    return gguf;
  }

  static absl::StatusOr<int64_t> BytesOf(const ByteSource& file,
                                         const std::string& name,
                                         const GgufTensor& tensor) {
    const std::optional<RowType> type = RowTypeOf(tensor.type);
    if (!type.has_value()) {
      return absl::UnimplementedError(StrCat(
          file.name(), ": tensor ", Quoted(name), ": type ", tensor.type,
          " is not read; F32, F16, BF16, ", GgufBlockTypeNames(), " are"));
    }
    const int64_t cols = tensor.shape.empty() ? 1 : tensor.shape.back();
    if (type->block != nullptr && cols % type->block->cols != 0) {
      return TensorError(
          file, name,
          StrCat("has ", cols, " columns, which blocks of ", type->block->name,
                 ", ", type->block->cols, ", do not divide"));
    }
    int64_t rows = 1;
    for (size_t i = 0; i + 1 < tensor.shape.size(); ++i)
      rows *= tensor.shape[i];
    // The product of all extents is bounded by the reader.
    return rows * type->Bytes(cols);
  }

  // "NAME-00002-of-00003.gguf" leads to all three.
  absl::Status OpenOthers(GgufFile& first, const OpenByPath& open) {
    const auto count =
        OptionalJsonInt(first.metadata, "split.count", 0, 99999, 1);
    RETURN_IF_ERROR(WithContext(count.status(), path_));
    if (*count <= 1) return absl::OkStatus();
    const auto number = JsonInt(first.metadata, "split.no", 0, *count - 1);
    RETURN_IF_ERROR(WithContext(number.status(), path_));
    const auto end_of = [&](int64_t i) {
      char end[64];
      std::snprintf(end, sizeof end, "-%05d-of-%05d.gguf",
                    static_cast<int>(i + 1), static_cast<int>(*count));
      return std::string(end);
    };
    if (!path_.ends_with(end_of(*number))) {
      return absl::InvalidArgumentError(
          StrCat(path_, ": is part ", *number + 1, " of ", *count,
                 ", so its name must end with '", end_of(*number),
                 "', as the others' do"));
    }
    const std::string stem =
        path_.substr(0, path_.size() - end_of(*number).size());
    for (int64_t i = 0; i < *count; ++i) {
      if (i == *number) continue;
      absl::StatusOr<GgufFile> other = OpenOne(stem + end_of(i), open);
      RETURN_IF_ERROR(WithContext(
          other.status(), StrCat(path_, " is one of ", *count, " files")));
      const auto own =
          OptionalJsonInt(other->metadata, "split.no", 0, 99999, -1);
      if (!own.ok() || *own != i) {
        return absl::InvalidArgumentError(StrCat(
            stem, end_of(i), ": 'split.no' must be ", i, ", as its name says"));
      }
      // The first of them has what describes the model.
      if (i == 0) first.metadata = std::move(other->metadata);
    }
    path_ = stem + end_of(0);
    return absl::OkStatus();
  }

  absl::Status CompleteConfig() {
    const auto embedding = stored_.find("token_embd.weight");
    if (embedding == stored_.end() ||
        embedding->second.tensor.shape.size() != 2) {
      return absl::InvalidArgumentError(
          "no matrix 'token_embd.weight': the file holds no language model");
    }
    config_["vocab_size"] = embedding->second.tensor.shape[0];
    config_["tie_word_embeddings"] = !stored_.contains("output.weight");
    RETURN_IF_ERROR(TakeRopeFactors());
    for (const GgufName& flag : architecture_->flags) {
      config_[std::string(flag.hugging_face)] =
          stored_.contains(std::string(flag.gguf));
    }
    return absl::OkStatus();
  }

  // They become the config's, and are no tensor of the network.
  absl::Status TakeRopeFactors() {
    const auto found = stored_.find(kGgufRopeFactors);
    if (found == stored_.end() || architecture_->name != "llama") {
      return absl::OkStatus();
    }
    const auto& [file, tensor] = found->second;
    constexpr int64_t kMostPairs = 1024;
    if (tensor.type != kF32 || tensor.shape.size() != 1 ||
        tensor.shape[0] > kMostPairs) {
      return TensorError(
          *file, kGgufRopeFactors,
          StrCat("must be a vector of F32 (type 0), of at most ", kMostPairs,
                 " elements, is of shape ", ShapeText(tensor.shape),
                 " and type ", tensor.type));
    }
    std::vector<float> factors(tensor.shape[0]);
    RETURN_IF_ERROR(file->Read(
        tensor.offset, static_cast<int64_t>(factors.size() * sizeof(float)),
        factors.data()));
    RETURN_IF_ERROR(AddGgufRopeFactors(factors, config_));
    stored_.erase(found);
    return absl::OkStatus();
  }

  absl::Status AddTensor(const std::string& name, const Stored& stored) {
    const SplitName split = Split(name);
    bool known = false;
    for (const GgufName& rename : architecture_->names) {
      if (rename.gguf != split.module ||
          (split.suffix != ".weight" && split.suffix != ".bias")) {
        continue;
      }
      known = true;
      RETURN_IF_ERROR(
          AddAs(WithBlock(rename.hugging_face, split.block) + split.suffix,
                rename.change, name, stored));
    }
    if (known) return absl::OkStatus();
    return absl::UnimplementedError(
        StrCat(stored.file->name(), ": tensor ", Quoted(name), " is none that ",
               architecture_->name,
               " is known to have; what it changes is not served"));
  }

  absl::Status AddAs(const std::string& name, Change change,
                     const std::string& stored_name, const Stored& stored) {
    const std::vector<int64_t>& shape = stored.tensor.shape;
    Place place;
    place.file = stored.file;
    place.offset = stored.tensor.offset;
    place.type = *RowTypeOf(stored.tensor.type);
    place.change = change;
    if (shape.empty() || shape.size() > 2 ||
        (shape.size() == 1 && place.type.block != nullptr)) {
      return TensorError(
          *stored.file, stored_name,
          StrCat("must be a matrix, or a vector of floats, is of "
                 "shape ",
                 ShapeText(shape)));
    }
    place.rows = shape[0];
    place.cols = shape.size() == 2 ? shape[1] : 1;
    RETURN_IF_ERROR(ApplyChange(stored_name, place));
    TensorInfo info;
    info.storage_id = static_cast<int64_t>(tensors_.size());
    if (shape.size() == 1) {
      info.dtype = place.type.dtype;
      info.shape = {place.rows};
      vectors_.emplace(name, place);
    } else {
      RETURN_IF_ERROR(Code(name, place, info));
    }
    if (!tensors_.emplace(name, std::move(info)).second) {
      return TensorError(
          *stored.file, stored_name,
          StrCat("is ", Quoted(name), ", which another tensor is already"));
    }
    return absl::OkStatus();
  }

  absl::Status ApplyChange(const std::string& stored_name, Place& place) const {
    switch (place.change) {
      case Change::kNone:
      case Change::kPlusOne:
        return absl::OkStatus();
      case Change::kQueryRows:
      case Change::kKeyRows:
      case Change::kValueRows:
        return TakeThird(stored_name, place);
      default:
        break;
    }
    ASSIGN_OR_RETURN(const int64_t heads, GgufHeads(place.change, config_));
    const int64_t of_each = place.change == Change::kHeadsJoined ? 3 : 2;
    if (place.rows % (heads * of_each) != 0) {
      return TensorError(*place.file, stored_name,
                         StrCat("has ", place.rows, " rows, which are not ",
                                of_each, " for each of ", heads, " heads"));
    }
    place.heads = heads;
    return absl::OkStatus();
  }

  // Queries have the width; keys and values share what is left.
  absl::Status TakeThird(const std::string& stored_name, Place& place) const {
    ASSIGN_OR_RETURN(const int64_t width,
                     JsonInt(config_, "hidden_size", 1, INT32_MAX));
    const int64_t rest = place.rows - width;
    if (rest <= 0 || rest % 2 != 0) {
      return TensorError(*place.file, stored_name,
                         StrCat("has ", place.rows,
                                " rows, which are not those of query, key and "
                                "value of ",
                                width));
    }
    if (place.change == Change::kQueryRows) {
      place.rows = width;
    } else {
      place.first_row =
          width + (place.change == Change::kValueRows ? rest / 2 : 0);
      place.rows = rest / 2;
    }
    return absl::OkStatus();
  }

  static absl::Status Code(const std::string& name, const Place& place,
                           TensorInfo& info) {
    // What floats these stand for, no file says.
    info.dtype = place.type.block != nullptr ? DType::kF16 : place.type.dtype;
    info.shape = {place.rows, place.cols};
    CodedTensor coded;
    coded.spec = place.type.block != nullptr
                     ? quant::MethodSpec{.method = &place.type.block->method(),
                                         .params = {}}
                     : quant::FloatMethodFor(place.type.dtype);
    ASSIGN_OR_RETURN(const CodeFormat format,
                     coded.spec.Format(place.rows, place.cols, info.dtype));
    coded.bytes = format.StoredBytes(place.rows, place.cols);
    coded.open =
        [name, place,
         format]() -> absl::StatusOr<std::unique_ptr<const quant::CodeRows>> {
      return std::make_unique<const GgufRows>(name, place, format);
    };
    info.coded = std::make_shared<const CodedTensor>(std::move(coded));
    return absl::OkStatus();
  }

  std::string path_;  // of the first file
  std::vector<std::unique_ptr<const ByteSource>> files_;
  std::map<std::string, Stored> stored_;  // by the file's names
  const GgufArchitecture* architecture_ = nullptr;
  json config_;
  const json generation_config_ = nullptr;
  std::map<std::string, TensorInfo> tensors_;
  std::map<std::string, Place> vectors_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenGguf(const std::string& path,
                                                     const OpenByPath& open) {
  auto checkpoint = std::make_unique<GgufCheckpoint>(path);
  RETURN_IF_ERROR(checkpoint->Open(open));
  return checkpoint;
}

}  // namespace ounce::model
