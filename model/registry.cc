#include "model/registry.h"

#include <string>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/files/byte_source.h"
#include "model/files/json_fields.h"
#include "nlohmann/json.hpp"

namespace ounce::model {

#define ARCHITECTURE(function, name) const Architecture& function();
#include "model/architectures.def"
#undef ARCHITECTURE

absl::Span<const Architecture* const> AllArchitectures() {
  static const Architecture* const kArchitectures[] = {
#define ARCHITECTURE(function, name) &function(),
#include "model/architectures.def"
#undef ARCHITECTURE
  };
  return kArchitectures;
}

absl::StatusOr<const Architecture*> FindArchitecture(
    const Checkpoint& checkpoint) {
  const auto found = JsonString(checkpoint.config(), "model_type");
  const std::string file = checkpoint.config_name();
  RETURN_IF_ERROR(WithContext(found.status(), file));
  std::string known;
  for (const Architecture* architecture : AllArchitectures()) {
    if (architecture->name == *found) return architecture;
    StrAppend(&known, known.empty() ? "" : ", ", architecture->name);
  }
  return absl::UnimplementedError(StrCat(file, ": 'model_type' must be one of ",
                                         known, ", is ", Quoted(*found)));
}

}  // namespace ounce::model
