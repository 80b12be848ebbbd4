#include "tests/testing/checkpoint_files.h"

#include <zlib.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/check.h"

namespace ounce::testing {
namespace {

// `number` in `n` bytes, little-endian.
std::string Little(uint64_t number, int n) {
  std::string bytes;
  for (int i = 0; i < n; ++i) {
    bytes.push_back(static_cast<char>(number >> (8 * i)));
  }
  return bytes;
}

std::string SafetensorsName(quant::DType dtype) {
  switch (dtype) {
    case quant::DType::kF64:
      return "F64";
    case quant::DType::kF32:
      return "F32";
    case quant::DType::kF16:
      return "F16";
    case quant::DType::kBF16:
      return "BF16";
    case quant::DType::kI64:
      return "I64";
    case quant::DType::kI32:
      return "I32";
    case quant::DType::kI16:
      return "I16";
    case quant::DType::kI8:
      return "I8";
    case quant::DType::kU8:
      return "U8";
    case quant::DType::kBool:
      return "BOOL";
    case quant::DType::kU64:
      return "U64";
    case quant::DType::kU32:
      return "U32";
    case quant::DType::kU16:
      return "U16";
    case quant::DType::kC64:
      return "C64";
    case quant::DType::kF8E4M3:
      return "F8_E4M3";
    case quant::DType::kF8E5M2:
      return "F8_E5M2";
    case quant::DType::kF8E8M0:
      return "F8_E8M0";
  }
  OUNCE_CHECK(false, "every dtype is above");
}

std::string StorageType(quant::DType dtype) {
  switch (dtype) {
    case quant::DType::kF64:
      return "DoubleStorage";
    case quant::DType::kF32:
      return "FloatStorage";
    case quant::DType::kF16:
      return "HalfStorage";
    case quant::DType::kBF16:
      return "BFloat16Storage";
    case quant::DType::kI64:
      return "LongStorage";
    default:
      OUNCE_CHECK(false, "no storage type for this dtype");
  }
}

}  // namespace

FileTensor MakeTensor(std::string name, std::vector<int64_t> shape,
                      const std::vector<float>& values, quant::DType dtype) {
  FileTensor tensor{std::move(name), dtype, std::move(shape), ""};
  for (const float value : values) {
    if (dtype == quant::DType::kF16) {
      tensor.bytes += Little(quant::FloatToHalf(value), 2);
    } else if (dtype == quant::DType::kBF16) {
      tensor.bytes += Little(quant::FloatToBFloat16(value), 2);
    } else {
      OUNCE_CHECK(dtype == quant::DType::kF32, "a float of 16 or 32 bits");
      uint32_t bits;
      std::memcpy(&bits, &value, sizeof bits);
      tensor.bytes += Little(bits, 4);
    }
  }
  return tensor;
}

std::string SafetensorsFile(std::string_view header, std::string_view data) {
  return Little(header.size(), 8) + std::string(header) + std::string(data);
}

std::string SafetensorsFile(const std::vector<FileTensor>& tensors,
                            std::string_view metadata) {
  std::string header =
      absl::StrCat("{\"__metadata__\":", std::string(metadata));
  std::string data;
  for (const FileTensor& tensor : tensors) {
    const size_t begin = data.size();
    data += tensor.bytes;
    absl::StrAppend(&header, ",\"", tensor.name, "\":{\"dtype\":\"",
                    SafetensorsName(tensor.dtype), "\",\"shape\":[",
                    absl::StrJoin(tensor.shape, ","), "],\"data_offsets\":[",
                    begin, ",", data.size(), "]}");
  }
  return SafetensorsFile(header + "}", data);
}

std::string ZipWriter::Finish() const {
  std::string file, directory;
  for (const Member& member : members_) {
    const std::string other = member.bytes + "x";
    const std::string& summed = member.right_crc ? member.bytes : other;
    const uint64_t crc =
        crc32(0, reinterpret_cast<const Bytef*>(summed.data()), summed.size());
    const uint64_t size = member.bytes.size();
    const uint64_t offset = file.size();
    const std::string size_field = Little(member.zip64 ? 0xffffffff : size, 4);
    const std::string common = Little(member.zip64 ? 45 : 20, 2) +
                               Little(0, 2) + Little(member.method, 2) +
                               Little(0, 4) + Little(crc, 4) + size_field +
                               size_field + Little(member.name.size(), 2);
    std::string extra;
    if (member.zip64) {
      extra = Little(1, 2) + Little(16, 2) + Little(size, 8) + Little(size, 8);
    }
    file += "PK\x03\x04" + common + Little(extra.size(), 2) + member.name +
            extra + member.bytes;
    if (member.zip64) {
      extra = Little(1, 2) + Little(24, 2) + Little(size, 8) + Little(size, 8) +
              Little(offset, 8);
    }
    directory +=
        "PK\x01\x02" + Little(20, 2) + common + Little(extra.size(), 2) +
        Little(0, 2) + Little(0, 2) + Little(0, 2) + Little(0, 4) +
        Little(member.zip64 ? 0xffffffff : offset, 4) + member.name + extra;
  }
  const uint64_t start = file.size();
  const uint64_t count = members_.size();
  return file + directory + "PK\x05\x06" + Little(0, 4) + Little(count, 2) +
         Little(count, 2) + Little(directory.size(), 4) + Little(start, 4) +
         Little(0, 2);
}

PickleWriter& PickleWriter::Raw(std::string_view opcodes) {
  opcodes_ += opcodes;
  return *this;
}

PickleWriter& PickleWriter::Text(std::string_view text) {
  return Raw("X").Raw(Little(text.size(), 4)).Raw(text);
}

PickleWriter& PickleWriter::Int(int32_t number) {
  return Raw("J").Raw(Little(static_cast<uint32_t>(number), 4));
}

PickleWriter& PickleWriter::Tuple(const std::vector<int32_t>& numbers) {
  Raw("(");
  for (const int32_t number : numbers) Int(number);
  return Raw("t");
}

PickleWriter& PickleWriter::Global(std::string_view module,
                                   std::string_view name) {
  return Raw("c").Raw(module).Raw("\n").Raw(name).Raw("\n");
}

PickleWriter& PickleWriter::Tensor(std::string_view storage_type,
                                   std::string_view key,
                                   int32_t storage_elements, int32_t offset,
                                   const std::vector<int32_t>& shape,
                                   const std::vector<int32_t>& strides) {
  Global("torch._utils", "_rebuild_tensor_v2").Raw("(");
  Raw("(").Text("storage").Global("torch", storage_type).Text(key);
  Text("cpu").Int(storage_elements).Raw("tQ");
  Int(offset).Tuple(shape).Tuple(strides).Raw("\x89");
  return Global("collections", "OrderedDict").Raw(")RtR");
}

std::string PickleWriter::Finish() const { return "\x80\x02" + opcodes_ + "."; }

std::string TorchZipFile(const std::vector<FileTensor>& tensors) {
  PickleWriter pickle;
  pickle.Global("collections", "OrderedDict").Raw(")R(");
  std::vector<std::string> storages;
  for (const FileTensor& tensor : tensors) {
    const std::vector<int32_t> shape(tensor.shape.begin(), tensor.shape.end());
    std::vector<int32_t> strides(shape.size());
    int32_t stride = 1;
    for (size_t axis = shape.size(); axis-- > 0;) {
      strides[axis] = stride;
      stride *= shape[axis];
    }
    const auto elements =
        static_cast<int32_t>(tensor.bytes.size() / quant::SizeOf(tensor.dtype));
    pickle.Text(tensor.name)
        .Tensor(StorageType(tensor.dtype), std::to_string(storages.size()),
                elements, 0, shape, strides);
    storages.push_back(tensor.bytes);
  }
  return TorchZipFile(pickle.Raw("u").Finish(), storages);
}

std::string TorchZipFile(std::string_view pickle,
                         const std::vector<std::string>& storages) {
  ZipWriter zip;
  zip.Add({"archive/data.pkl", std::string(pickle)});
  zip.Add({"archive/byteorder", "little"});
  for (size_t i = 0; i < storages.size(); ++i) {
    zip.Add({absl::StrCat("archive/data/", i), storages[i]});
  }
  zip.Add({"archive/version", "3\n"});
  return zip.Finish();
}

}  // namespace ounce::testing
