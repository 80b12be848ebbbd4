// What other tools' formats have in common: they hold linear layers in codes,
// all else as floats, and name in config.json the linear layers that are not
// in codes.
#ifndef OUNCE_MODEL_SAVER_LINEAR_MODULES_H_
#define OUNCE_MODEL_SAVER_LINEAR_MODULES_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "model/checkpoint/formats/grouped_integers.h"
#include "model/saver/save_format.h"

namespace ounce::model {

// kFailedPrecondition unless a tensor in codes is of a linear layer, with
// columns as they are, whose inputs products don't round more than its codes
// say.
absl::Status CheckLinear(const ModelToSave& model, std::string_view format,
                         const StoredTensorView& tensor);

// CheckLinear, and that it is no Conv1D: of formats that know none.
absl::Status CheckPlainLinear(const ModelToSave& model, std::string_view format,
                              const StoredTensorView& tensor);

// kFailedPrecondition unless scales are float16 and by row or group: of
// formats that have no others.
absl::Status CheckFloat16Scales(const ModelToSave& model,
                                std::string_view format,
                                const StoredTensorView& tensor,
                                const GroupedIntegers& integers);
// ... unless all groups are of the same columns.
absl::Status CheckWholeGroups(const ModelToSave& model, std::string_view format,
                              const StoredTensorView& tensor,
                              const GroupedIntegers& integers);

// The names that transformers may have for a tensor's module: the checkpoint's,
// and of one without a model's prefix those with it.
std::vector<std::string> LoadedNames(const StoredTensorView& tensor);

// Linear layers, heads among them, that are floats, by LoadedNames. A tied
// head, of which the checkpoint has no tensor, is one too.
std::vector<std::string> FloatLinears(const ModelToSave& model);

// kFailedPrecondition where a tensor in codes has a name that one of `floats`
// is part of: of formats whose readers take all that have such a part.
absl::Status CheckNoneContains(const ModelToSave& model,
                               std::string_view format,
                               const std::vector<std::string>& floats);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_SAVER_LINEAR_MODULES_H_
