#include "model/tokenizer/pcre2_code.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace ounce::model {

void FreePcre2Code::operator()(pcre2_real_code_8* code) const {
  pcre2_code_free(code);
}

std::string Pcre2ErrorText(int error) {
  PCRE2_UCHAR text[128] = {};
  pcre2_get_error_message(error, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

int Pcre2Match(const pcre2_real_code_8* code, std::string_view text, size_t at,
               pcre2_real_match_data_8* data,
               pcre2_real_match_context_8* context) {
  const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  // Past the checks of pcre2_match, which cost as much as a word.
  const int result =
      pcre2_jit_match(code, subject, text.size(), at, 0, data, context);
  // Compiled code has a small stack of its own; the interpreter has the heap,
  // and is all there is without a JIT.
  return result == PCRE2_ERROR_JIT_STACKLIMIT ||
                 result == PCRE2_ERROR_JIT_BADOPTION
             ? pcre2_match(code, subject, text.size(), at,
                           PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data, context)
             : result;
}

}  // namespace ounce::model
