// The README.md of a saved model: what was done to it and what that took and
// gave, as a page of the hub shows it.
#ifndef OUNCE_MODEL_SAVER_MODEL_CARD_H_
#define OUNCE_MODEL_SAVER_MODEL_CARD_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "model/saver/save_format.h"
#include "model/saver/saver.h"

namespace ounce::model {

// Markdown behind the YAML that hubs read, of which license, languages and the
// like are the checkpoint's own card's. `weight_bytes`: of the files.
std::string ModelCard(const ModelToSave& model, const SaveOptions& options,
                      const SaveFormat& format, int64_t weight_bytes);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_SAVER_MODEL_CARD_H_
