#include "quant/quant_method.h"

#include "base/check.h"
#include "base/str_cat.h"

namespace ounce::quant {

std::string MethodSpec::ToString() const {
  std::string text(method->name());
  char separator = ':';
  for (const ParamSpec& param : method->params()) {
    const auto value = params.find(std::string(param.name));
    OUNCE_CHECK(value != params.end(), "a spec holds all declared parameters");
    if (value->second == param.default_value) continue;
    StrAppend(&text, std::string(1, separator), param.name, "=", value->second);
    separator = ',';
  }
  return text;
}

}  // namespace ounce::quant
