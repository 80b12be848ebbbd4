#include "model/layers/kv_cache.h"

#include <unistd.h>

#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace ounce::model {

std::string_view KvTypeName(KvType type) {
  switch (type) {
    case KvType::kFloat32:
      break;
    case KvType::kBFloat16:
      return "bfloat16";
    case KvType::kInt8:
      return "int8";
  }
  return "float32";
}

std::optional<KvType> ParseKvType(std::string_view name) {
  for (const KvType type :
       {KvType::kFloat32, KvType::kBFloat16, KvType::kInt8}) {
    if (name == KvTypeName(type)) return type;
  }
  return std::nullopt;
}

absl::StatusOr<KvCache> KvCache::Create(const KvShape& shape,
                                        int64_t num_blocks) {
  if (num_blocks < 0 || num_blocks > std::numeric_limits<int64_t>::max() /
                                         shape.bytes_per_block()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("KV cache: ", num_blocks, " blocks of ",
                     shape.bytes_per_block(), " bytes are too many"));
  }
  ASSIGN_OR_RETURN(MappedMemory memory,
                   MappedMemory::Create(num_blocks * shape.bytes_per_block()));
  KvCache cache;
  cache.shape_ = shape;
  cache.num_blocks_ = num_blocks;
  cache.memory_ = std::move(memory);
  return cache;
}

void KvCache::Release(int64_t block) {
  const int64_t page = sysconf(_SC_PAGESIZE);
  const int64_t begin = block * shape_.bytes_per_block();
  const int64_t first = (begin + page - 1) / page * page;
  const int64_t last = (begin + shape_.bytes_per_block()) / page * page;
  if (first < last) memory_.Release(first, last - first);
}

}  // namespace ounce::model
