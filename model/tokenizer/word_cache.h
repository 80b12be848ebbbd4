// The ids of words that were met before in one call of Encode: one look-up
// each. Bounded, and only for this call, so that encoding needs no lock.
//
// Threads: one at a time.
#ifndef OUNCE_MODEL_TOKENIZER_WORD_CACHE_H_
#define OUNCE_MODEL_TOKENIZER_WORD_CACHE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/status_macros.h"
#include "base/str_cat.h"

namespace ounce::model {

class WordCache {
 public:
  // Appends the ids of `word`; those of a new one by `append(word, ids)`, which
  // returns a status. Always the same `ids`, to which others may append
  // between.
  template <typename Append>
  absl::Status AppendIds(std::string_view word, std::vector<int32_t>& ids,
                         const Append& append) {
    if (word.size() > kMaxWordBytes) return append(word, ids);
    if (const auto found = known_.find(ToAbsl(word)); found != known_.end()) {
      const Place place = found->second;
      for (size_t i = 0; i < place.count; ++i) {
        ids.push_back(ids[place.begin + i]);
      }
      return absl::OkStatus();
    }
    const size_t begin = ids.size();
    RETURN_IF_ERROR(append(word, ids));
    if (known_.size() < kMaxWords) {
      known_.emplace(std::string(word), Place{begin, ids.size() - begin});
    }
    return absl::OkStatus();
  }

 private:
  static constexpr size_t kMaxWords = 1 << 16;
  static constexpr size_t kMaxWordBytes = 64;
  struct Place {
    size_t begin = 0;  // where in `ids` its ids are
    size_t count = 0;
  };

  absl::flat_hash_map<std::string, Place> known_;
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_WORD_CACHE_H_
