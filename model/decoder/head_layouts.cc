#include "model/decoder/head_layouts.h"

#include "base/check.h"

namespace ounce::model {

AttentionLayout SplitHeads(int64_t heads, int64_t kv_heads, int64_t head_dim) {
  OUNCE_CHECK(heads % kv_heads == 0, "groups are of equal size");
  AttentionLayout layout;
  layout.head_dim = head_dim;
  for (int64_t head = 0; head < heads; ++head) {
    layout.query.push_back(head * head_dim);
    layout.kv_head.push_back(static_cast<int32_t>(head / (heads / kv_heads)));
  }
  for (int64_t head = 0; head < kv_heads; ++head) {
    layout.key.push_back((heads + head) * head_dim);
    layout.value.push_back((heads + kv_heads + head) * head_dim);
  }
  return layout;
}

AttentionLayout GroupedHeads(int64_t heads, int64_t kv_heads,
                             int64_t head_dim) {
  OUNCE_CHECK(heads % kv_heads == 0, "groups are of equal size");
  const int64_t per_group = heads / kv_heads;
  AttentionLayout layout;
  layout.head_dim = head_dim;
  for (int64_t group = 0; group < kv_heads; ++group) {
    int64_t column = group * (per_group + 2) * head_dim;
    for (int64_t head = 0; head < per_group; ++head, column += head_dim) {
      layout.query.push_back(column);
      layout.kv_head.push_back(static_cast<int32_t>(group));
    }
    layout.key.push_back(column);
    layout.value.push_back(column + head_dim);
  }
  return layout;
}

}  // namespace ounce::model
