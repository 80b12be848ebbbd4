#include "model/saver/save_format.h"

#include <algorithm>

#include "base/str_cat.h"
#include "model/loader/stored_codes.h"

namespace ounce::model {

#define SAVE_FORMAT(function, file) const SaveFormat& function();
#include "model/saver/save_formats.def"
#undef SAVE_FORMAT

absl::Span<const SaveFormat* const> AllSaveFormats() {
  static const SaveFormat* const kFormats[] = {
#define SAVE_FORMAT(function, file) &function(),
#include "model/saver/save_formats.def"
#undef SAVE_FORMAT
  };
  return kFormats;
}

std::string StoredTensorView::module() const {
  constexpr std::string_view kSuffix = ".weight";
  return name().ends_with(kSuffix)
             ? name().substr(0, name().size() - kSuffix.size())
             : name();
}

std::optional<quant::DType> StoredTensorView::float_dtype() const {
  return is_float() ? quant::ParseDType(format.element) : std::nullopt;
}

absl::StatusOr<std::unique_ptr<const quant::CodeRows>> ModelToSave::Open(
    const StoredTensorView& tensor) const {
  return OpenStoredCodes(checkpoint, *tensor.report);
}

absl::Status ModelToSave::CannotHold(std::string_view format,
                                     const StoredTensorView& tensor,
                                     std::string_view why) const {
  return absl::FailedPreconditionError(
      StrCat("format '", format, "' cannot hold tensor '", tensor.name(),
             "', which is stored as ", tensor.report->method, ": ", why,
             "; name another format, or none, for the first that can"));
}

}  // namespace ounce::model
