// What `ounce compare --save` calls the folders of a model's variants.
#ifndef OUNCE_CLIENT_VARIANT_NAMES_H_
#define OUNCE_CLIENT_VARIANT_NAMES_H_

#include <string>
#include <vector>

namespace ounce::client {

// A name for each spec or plan, each once, of letters, digits, '.', '-' and
// '_'. Those that are commonly published together are called as they are there:
// "original" (keep), "quantized_8bit" (linear in 8 bits), "selective_8bit" (the
// same with modules that are left alone), "8bit" (bnb-int8) and "nf4"
// (bnb-nf4); a second one of these, and all others, by their spec.
std::vector<std::string> VariantNames(const std::vector<std::string>& specs);

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_VARIANT_NAMES_H_
