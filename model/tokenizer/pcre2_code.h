// A compiled pattern of PCRE2 and how it is run; what patterns there are and
// what they may take is up to the callers.
#ifndef OUNCE_MODEL_TOKENIZER_PCRE2_CODE_H_
#define OUNCE_MODEL_TOKENIZER_PCRE2_CODE_H_

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

struct pcre2_real_code_8;
struct pcre2_real_match_context_8;
struct pcre2_real_match_data_8;

namespace ounce::model {

struct FreePcre2Code {
  void operator()(pcre2_real_code_8* code) const;
};
using Pcre2Code = std::unique_ptr<pcre2_real_code_8, FreePcre2Code>;

// What one of PCRE2's errors means.
std::string Pcre2ErrorText(int error);

// Matches at `at` of `text`, valid UTF-8, or behind (not behind if `code` is
// anchored; as an option here that would turn the JIT off). As pcre2_match:
// negative if there is no match or an error. `context` may be null.
int Pcre2Match(const pcre2_real_code_8* code, std::string_view text, size_t at,
               pcre2_real_match_data_8* data,
               pcre2_real_match_context_8* context);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_PCRE2_CODE_H_
