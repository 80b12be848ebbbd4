// Writes safetensors and torch.save files for tests: valid ones, and by hand
// any that are not.
#ifndef OUNCE_TESTS_TESTING_CHECKPOINT_FILES_H_
#define OUNCE_TESTS_TESTING_CHECKPOINT_FILES_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "quant/dtype.h"

namespace ounce::testing {

// A tensor to write.
struct FileTensor {
  std::string name;
  quant::DType dtype = quant::DType::kF32;
  std::vector<int64_t> shape;
  std::string bytes;  // row-major, little-endian
};

// Of kF32, kF16 or kBF16; the values are rounded to it.
FileTensor MakeTensor(std::string name, std::vector<int64_t> shape,
                      const std::vector<float>& values,
                      quant::DType dtype = quant::DType::kF32);

// `header` as a safetensors header, its length before it, `data` after it.
std::string SafetensorsFile(std::string_view header, std::string_view data);
// A valid one; `metadata` is the JSON of __metadata__.
std::string SafetensorsFile(const std::vector<FileTensor>& tensors,
                            std::string_view metadata = R"({"format":"pt"})");

// A zip archive, member by member.
class ZipWriter {
 public:
  struct Member {
    std::string name;
    std::string bytes;
    int method = 0;         // 0: stored, as its header says
    bool right_crc = true;  // false: the CRC of other bytes
    bool zip64 = false;     // sizes and offset in the zip64 extra field
  };
  void Add(Member member) { members_.push_back(std::move(member)); }
  std::string Finish() const;

 private:
  std::vector<Member> members_;
};

// The opcodes of a pickle as torch.save writes it (protocol 2).
class PickleWriter {
 public:
  PickleWriter& Raw(std::string_view opcodes);
  PickleWriter& Text(std::string_view text);
  PickleWriter& Int(int32_t number);
  PickleWriter& Tuple(const std::vector<int32_t>& numbers);
  PickleWriter& Global(std::string_view module, std::string_view name);
  // The tensor as torch._utils._rebuild_tensor_v2 would make it.
  PickleWriter& Tensor(std::string_view storage_type, std::string_view key,
                       int32_t storage_elements, int32_t offset,
                       const std::vector<int32_t>& shape,
                       const std::vector<int32_t>& strides);
  // PROTO 2, what was written, STOP.
  std::string Finish() const;

 private:
  std::string opcodes_;
};

// pytorch_model.bin of these tensors, one storage each: a dict of contiguous
// tensors. Floats and kI64 only.
std::string TorchZipFile(const std::vector<FileTensor>& tensors);

// The zip that torch.save writes around `pickle`, with `storages` as data/0,
// data/1, ...
std::string TorchZipFile(std::string_view pickle,
                         const std::vector<std::string>& storages);

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_TESTING_CHECKPOINT_FILES_H_
