// The GGUF container, versions 2 and 3, read only: what stands in front of the
// tensors' data.
//
//   "GGUF" [ version: u32 ][ tensors: u64 ][ keys: u64 ]    little-endian
//   keys    × { string, type: u32, value }
//   tensors × { string, axes: u32, extents: u64 each, type: u32, offset: u64 }
//   padding to general.alignment (32), then the data
//
// A string is its length, u64, and its bytes. Extents begin with the axis whose
// elements lie side by side, and are turned round here. Source:
// ggml-org/ggml, docs/gguf.md.
#ifndef OUNCE_MODEL_FILES_GGUF_FILE_H_
#define OUNCE_MODEL_FILES_GGUF_FILE_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "model/files/byte_source.h"
#include "nlohmann/json.hpp"

namespace ounce::model {

// Elements of all arrays that are kept. The largest tokenizers have a million.
inline constexpr int64_t kMaxGgufElements = int64_t{4} << 20;
// Bytes of a string; a chat template has some ten thousand.
inline constexpr int64_t kMaxGgufString = int64_t{1} << 20;
// Bytes of all strings that are kept, and of a tensor's name.
inline constexpr int64_t kMaxGgufText = 100'000'000;
inline constexpr int64_t kMaxGgufName = 64;
inline constexpr int kMaxGgufAxes = 4;
inline constexpr uint64_t kMaxGgufKeys = 1 << 16;
inline constexpr uint64_t kMaxGgufTensors = 1 << 20;

struct GgufTensor {
  std::vector<int64_t> shape;  // row-major: the last axis lies side by side
  uint32_t type = 0;           // of ggml
  int64_t offset = 0;          // bytes, from the start of the file
};

struct GgufFile {
  // By key: a number, a string, true or false, or an array of these. Arrays
  // that were not wanted are empty.
  nlohmann::json metadata;
  std::map<std::string, GgufTensor> tensors;
  // Bytes, from the start of the file. Offsets begin there, at multiples of the
  // alignment; that a tensor ends before the file does is for the reader of its
  // type to see.
  int64_t data_start = 0;
};

// Whether `path` is a file whose name says that it is such a one.
bool IsGgufFile(const std::string& path);

// Reads up to the data. `wants` tells which arrays are kept; others are passed
// over and take no memory.
// Errors: kInvalidArgument, with the file's name and the key, tensor or byte,
// for what is malformed: a length beyond the file, a key or tensor twice, text
// that is not UTF-8, an unknown type of value, an array in an array, more than
// the limits, extents whose product overflows; kUnimplemented for version 1,
// other versions and big-endian files; those of ByteSource::Read.
absl::StatusOr<GgufFile> ReadGguf(
    const ByteSource& file,
    absl::FunctionRef<bool(std::string_view key)> wants);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_FILES_GGUF_FILE_H_
